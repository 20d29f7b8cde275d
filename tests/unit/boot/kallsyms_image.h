/* Builds what a Linux kernel's image holds of kallsyms, for tests and the fuzzer. */
#pragma once
#include "base/bits.h"

/* The order of the tables, and what stands between markers and tokens (boot/kallsyms.c). */
enum kallsyms_order { KALLSYMS_OFFSETS_FIRST, KALLSYMS_OFFSETS_LAST };

#define KALLSYMS_IMAGE (64 * 1024)
#define KALLSYMS_BASE  0xffffffff81000000ull
#define KALLSYMS_STEP  16u

struct kallsyms_image {
	u8 data[KALLSYMS_IMAGE];
	u64 size;
	u64 num, names, markers, tokens, index, offsets, base; /* where they are */
};

/* count symbols: per-CPU `cpu_N` at N * 16 for the first `percpu`, then `symbol_N` at BASE + N
 * * 16. */
void kallsyms_image(
	struct kallsyms_image *k, enum kallsyms_order order, bool seqs, u32 count, u32 percpu);
