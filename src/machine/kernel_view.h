/* A kernel at its entry, loaded and mapped where it will run, with its names: nothing has run. */
#pragma once
#include "boot/boot.h"
#include "boot/elf.h"
#include "boot/symbols.h"
#include "machine/machine.h"

struct kernel_view {
	struct machine *m;
	struct boot_image unpacked;
	struct elf elf;
	struct symbols symbols;
	u64 next_table;
};

NODISCARD int kernel_view_open(struct kernel_view *k, const struct cpu_engine *engine,
	const char *kernel, u64 memory, struct err *err);
void kernel_view_close(struct kernel_view *k);
/* SYMBOL, SYMBOL+OFFSET, or a number. -EINVAL with err. */
NODISCARD int kernel_view_resolve(
	const struct kernel_view *k, const char *text, u64 *at, struct err *err);
/* The symbol that holds a linear address and how far into it that is; NULL: none. */
const char *kernel_view_name(void *view, u64 at, u64 *offset);
