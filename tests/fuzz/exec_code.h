/*
 * Instructions for fuzz_exec.c from input bytes: raw bytes, and the openings of instructions that
 * raw bytes would rarely hit, completed by input bytes.
 */
#pragma once
#include "base/types.h"

struct exec_input {
	const u8 *at, *end;
};

static inline u8 exec_take(struct exec_input *in) { return in->at < in->end ? *in->at++ : 0; }

/* Writes at most max bytes of code, takes at most as many input bytes; returns how many it wrote.
 */
unsigned exec_code(struct exec_input *in, u8 *code, unsigned max);
