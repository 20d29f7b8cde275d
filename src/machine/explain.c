/* Loads a kernel as run does, and lets the engine tell what it makes of the code. */
#include "machine/explain.h"
#include "machine/kernel_view.h"
#include "machine/machine_priv.h"
#include <errno.h>

/* Where the next symbol begins. */
static u64 next_symbol(const struct symbols *s, u64 at)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->list[i].at > at)
			return s->list[i].at;
	return ~0ull;
}

/* The byte of the file that is loaded at a linear address, or 0. */
static u8 byte_at(const struct elf *elf, u64 at)
{
	for (unsigned i = 0; i < elf->count; i++) {
		const struct elf_segment *seg = &elf->segments[i];

		if (at >= seg->vaddr && at - seg->vaddr < seg->file_size)
			return elf->data[seg->offset + (at - seg->vaddr)];
	}
	return 0;
}

/* The end of the function, without the INT3s that fill the space up to the next one. */
static u64 end_of(const struct kernel_view *k, u64 at)
{
	u64 end = next_symbol(&k->symbols, at);

	while (end > at + 1 && byte_at(&k->elf, end - 1) == 0xcc)
		end--;
	return end;
}

static int tell(struct kernel_view *k, const struct machine_explain *what, struct err *err)
{
	const struct explain_sink sink = {
		.insn = what->insn, .insn_ctx = what->ctx, .name = kernel_view_name, .name_ctx = k
	};
	u64 at;

	int r = kernel_view_resolve(k, what->at, &at, err);
	if (r)
		return r;
	u64 end = what->count ? ~0ull : end_of(k, at);
	return what->engine->explain(
		&k->m->cpus[0].v, at, end, what->count ? what->count : what->most, &sink, err);
}

int machine_explain(const struct machine_explain *what, struct err *err)
{
	struct kernel_view k;

	if (!what->engine->explain)
		return err_set(
			err, -ENOTSUP, "engine %s runs guest code as it is", what->engine->name);
	int r = kernel_view_open(&k, what->engine, what->kernel, what->memory, err);
	if (r)
		return r;
	r = tell(&k, what, err);
	kernel_view_close(&k);
	return r;
}
