/* strata mem translate: one address of a kernel, from the guest's tables to the host's memory. */
#pragma once
#include "boot/symbols.h"
#include "machine/machine.h"
#include "x86/paging.h"

struct machine_address {
	const struct cpu_engine *engine;
	const char *kernel;
	const char *at; /* SYMBOL, SYMBOL+OFFSET, or an address */
	u64 memory;

	/* filled in: */
	u64 linear;
	char symbol[SYMBOL_NAME]; /* "": none */
	u64 offset;		  /* into the symbol */
	u64 cr3;
	struct x86_walk walk;
	const u8 *host;	 /* NULL: no memory is there */
	char region[16]; /* whose memory it is, */
	u64 in_region;	 /* and how far into it */
	bool rom;
};

/* -EINVAL: `at` is nowhere. */
NODISCARD int machine_address(struct machine_address *a, struct err *err);
