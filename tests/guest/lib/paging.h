/* 4-level page tables of 64-bit programs (SDM 3A 4.5). */
#pragma once
#include "guest.h"

#define PTE_P	0x1ull
#define PTE_W	0x2ull
#define PTE_U	0x4ull
#define PTE_PWT 0x8ull
#define PTE_A	0x20ull
#define PTE_D	0x40ull
#define PTE_PS	0x80ull
#define PTE_G	0x100ull
#define PTE_NX	(1ull << 63)

#define PF_P	1
#define PF_W	2
#define PF_U	4
#define PF_RSVD 8
#define PF_I	16

/* Unmapped at start: a place for a test's own pages. */
#define TEST_VA 0x8000000000ul

extern u64 page_root[512], page_dir_pointers[512];

/* The entry that maps va at this level (1: 4 KiB page, 4: root); tables above it are made as
 * needed. */
u64 *pt_entry(ulong va, unsigned level);
/* Maps one 4 KiB page; what the TLB knew of it is forgotten. */
void pt_map(ulong va, ulong pa, u64 flags);

static inline void invlpg(ulong va) { __asm__ volatile("invlpg (%0)" ::"r"(va) : "memory"); }
static inline void flush_tlb(void) { write_cr3(read_cr3()); }

/* Sets one entry and forgets the translation of va. */
static inline void pt_set(u64 *entry, u64 value, ulong va)
{
	*(volatile u64 *)entry = value;
	invlpg(va);
}
