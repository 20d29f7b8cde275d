/*
 * Loads a kernel as run does, for those who look at it without running it, and supplies names.
 *
 * At its entry a 64-bit kernel runs at its physical address and has not made the page tables of its
 * own address yet. People want to see it where it will run, so its segments are mapped there, in
 * tables of ours in conventional memory, which nothing else uses before the kernel has run.
 */
#include "machine/kernel_view.h"
#include "base/bits.h"
#include "machine/machine_priv.h"
#include "x86/paging.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TABLES_AT  0x40000ull
#define TABLES_END 0x80000ull
#define LARGE	   (2 * MiB)
#define REACH	   (64 * KiB) /* an address this far behind a symbol is not in it */
#define SIMILAR	   5u
#define ADDRESS_OF 0x000ffffffffff000ull /* SDM 3A 4.5 */

/* ---- mapping ---- */

static u64 entry_at(const struct kernel_view *k, u64 table, unsigned index)
{
	u64 e = 0;

	return memory_read(&k->m->memory, gpa(table + 8ull * index), &e, 8) ? e : 0;
}

/* The table that an entry leads to, made if need be; 0: no room for another. */
static u64 table_below(struct kernel_view *k, u64 table, unsigned index)
{
	u64 e = entry_at(k, table, index);

	if (e & X86_PTE_P)
		return e & X86_PTE_PS ? 0 : e & ADDRESS_OF;
	if (k->next_table >= TABLES_END)
		return 0;
	e = k->next_table | X86_PTE_P | X86_PTE_W;
	if (!memory_fill(&k->m->memory, gpa(k->next_table), 0, PAGE_SIZE) ||
		!memory_write(&k->m->memory, gpa(table + 8ull * index), &e, 8))
		return 0;
	k->next_table += PAGE_SIZE;
	return e & ADDRESS_OF;
}

static bool map_large(struct kernel_view *k, u64 linear, u64 physical)
{
	u64 table = k->m->cpus[0].v.x86.s.cr3 & ADDRESS_OF;

	for (unsigned shift = 39; shift > 21 && table; shift -= 9)
		table = table_below(k, table, (unsigned)(linear >> shift) & 511);
	u64 e = physical | X86_PTE_P | X86_PTE_W | X86_PTE_PS;
	return table && memory_write(&k->m->memory, gpa(table + 8 * (linear >> 21 & 511)), &e, 8);
}

/* Segments in the upper half whose two addresses allow large pages: per-CPU data is in neither. */
static int map_kernel(struct kernel_view *k, struct err *err)
{
	for (unsigned i = 0; i < k->elf.count; i++) {
		const struct elf_segment *seg = &k->elf.segments[i];
		u64 from = align_down(seg->vaddr, LARGE);
		u64 end = seg->vaddr + (seg->mem_size - 1);

		if (!(seg->vaddr >> 63) || (seg->vaddr - seg->paddr) % LARGE || end < from)
			continue;
		for (u64 at = from; at - from <= end - from; at += LARGE)
			if (!map_large(k, at, at - seg->vaddr + seg->paddr))
				return err_set(err, -ENOMEM, "no room for the page tables");
	}
	return 0;
}

/* ---- names ---- */

static bool is_code(const struct symbol *s) { return s->type == 't' || s->type == 'T'; }

const char *kernel_view_name(void *view, u64 at, u64 *offset)
{
	const struct kernel_view *k = view;
	const struct symbol *s = at >> 63 ? symbols_at(&k->symbols, at) : NULL;

	if (!s || at - s->at >= REACH)
		return NULL;
	*offset = at - s->at;
	return symbols_text(&k->symbols, s);
}

static int unknown(const struct kernel_view *k, const char *name, struct err *err)
{
	char like[256] = "";
	unsigned n = 0;

	for (size_t i = 0; i < k->symbols.count && n < SIMILAR; i++) {
		const struct symbol *s = &k->symbols.list[i];
		size_t used = strlen(like);

		if (!is_code(s) || !strstr(symbols_text(&k->symbols, s), name))
			continue;
		snprintf(like + used, sizeof(like) - used, "%s%.48s", n++ ? ", " : "",
			symbols_text(&k->symbols, s));
	}
	if (n)
		return err_set(err, -EINVAL, "no symbol %.64s; there is %s", name, like);
	return err_set(err, -EINVAL, "no symbol %.64s in this kernel", name);
}

int kernel_view_resolve(const struct kernel_view *k, const char *text, u64 *at, struct err *err)
{
	const char *plus = strchr(text, '+');
	char name[SYMBOL_NAME], *end;
	u64 offset = 0;

	errno = 0;
	*at = strtoull(text, &end, 0);
	if (end != text && !*end && !errno)
		return 0;
	size_t len = plus ? (size_t)(plus - text) : strlen(text);
	snprintf(name, sizeof(name), "%.*s", (int)min_u64(len, sizeof(name) - 1), text);
	if (plus) {
		offset = strtoull(plus + 1, &end, 0);
		if (end == plus + 1 || *end)
			return err_set(err, -EINVAL, "%.64s: not an offset", plus);
	}
	const struct symbol *s = *name ? symbols_named(&k->symbols, name) : NULL;
	if (!s)
		return unknown(k, name, err);
	*at = s->at + offset;
	return 0;
}

/* ---- life ---- */

static int look(struct kernel_view *k, const char *kernel, u64 memory, struct err *err)
{
	struct vcpu *v = &k->m->cpus[0].v;

	int r = boot_image_again(&k->m->kernel, err);
	if (!r)
		r = boot_image_unpacked(&k->unpacked, &k->m->kernel, memory, err);
	boot_image_let_go(&k->m->kernel);
	if (r)
		return r;
	/* Without names there are still addresses; a file that is no ELF has neither. */
	(void)!symbols_read(&k->symbols, k->unpacked.data, k->unpacked.size, NULL);
	if (elf_parse(&k->elf, k->unpacked.data, k->unpacked.size, err))
		return err_wrap(err, "%s", kernel);
	if (!(v->x86.s.efer & EFER_LMA))
		return 0;
	r = map_kernel(k, err);
	if (!r && v->engine->push(v))
		r = err_set(err, -EIO, "the engine cannot take the processor's state");
	return r;
}

int kernel_view_open(struct kernel_view *k, const struct cpu_engine *engine, const char *kernel,
	u64 memory, struct err *err)
{
	*k = (struct kernel_view){ .next_table = TABLES_AT };
	k->m = machine_new(
		&(struct machine_config){
			.engine = engine,
			.memory = memory,
			.cpus = 1,
			.kernel = kernel,
			.input = -1,
			.output = -1,
			.escape = -1,
		},
		err);
	if (!k->m)
		return err->code;
	int r = look(k, kernel, memory, err);
	if (r)
		kernel_view_close(k);
	return r;
}

void kernel_view_close(struct kernel_view *k)
{
	symbols_free(&k->symbols);
	boot_image_free(&k->unpacked);
	machine_free(k->m);
	k->m = NULL;
}
