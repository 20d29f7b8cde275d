/*
 * The guest of fuzz_exec.c: a small memory image and a processor state that fit together in a
 * chosen mode, with everything a guest may choose badly left to a random source.
 */
#pragma once
#include "x86/cpuid.h"

#define GUEST_RAM      (128 * KiB)
#define GUEST_CODE     0x10000u /* up to GUEST_CODE_MAX bytes of instructions */
#define GUEST_CODE_MAX 0x8000u

enum guest_mode {
	GUEST_REAL,
	GUEST_BIG_REAL,
	GUEST_PROT16,
	GUEST_PROT32,
	GUEST_V86,
	GUEST_PAGED32,
	GUEST_PAE,
	GUEST_COMPAT,
	GUEST_LONG,
	GUEST_MODES,
};

/* splitmix64: every state is a good one, so a seed needs no preparation. */
static inline u64 guest_random(u64 *state)
{
	u64 z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* Fills ram (GUEST_RAM bytes, except the code) with tables, stacks and data of that mode, and s
 * with a state that runs the code at GUEST_CODE at that privilege level (0 or 3, where the mode has
 * it). */
void guest_make(u8 *ram, struct x86_state *s, const struct x86_model *model, enum guest_mode mode,
	unsigned cpl, u64 *random);
