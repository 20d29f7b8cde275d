/*
 * Stacks and the frames that transfers push on them.
 *
 * A frame is composed first and written with a single access where the stack does not wrap, so a
 * fault leaves either nothing or bytes below the stack pointer. A 16-bit stack may wrap from 0 to
 * 0xffff within a frame; then each slot is checked and written by itself.
 */
#include "x86/x86_priv.h"

/* #SS(selector) unless `size` bytes at offset `at` lie within the stack segment. */
static int stack_linear(
	struct x86_cpu *cpu, const struct x86_stack *st, u64 at, unsigned size, gva_t *out)
{
	bool ok = st->flat ? x86_canonical(at) && x86_canonical(at + size - 1)
			   : !(st->seg.attr & SEG_UNUSABLE) && x86_within_limit(&st->seg, at, size);

	if (!ok)
		return x86_fault_selector(cpu, X86_SS_FAULT, st->selector);
	*out = gva(st->flat ? at : (u32)(st->seg.base + at));
	return X86_OK;
}

/* Moves within the stack's width: what lies above it in the register stays. */
void x86_stack_skip(struct x86_stack *st, s64 bytes)
{
	st->sp = (st->sp & ~st->mask) | ((st->sp + (u64)bytes) & st->mask);
}

static bool wraps(const struct x86_stack *st, u64 at, unsigned size)
{
	return !st->flat && at + size - 1 > st->mask;
}

static int push_slots(struct x86_cpu *cpu, struct x86_stack *st, const struct x86_frame *f)
{
	for (unsigned i = 0; i < f->count; i++) {
		u64 sp = (st->sp - f->slot) & st->mask;
		gva_t at;

		TRY(stack_linear(cpu, st, sp, f->slot, &at));
		TRY(x86_store(cpu, at, f->slot, st->access, f->value[i]));
		x86_stack_skip(st, -(s64)f->slot);
	}
	return X86_OK;
}

int x86_stack_push(struct x86_cpu *cpu, struct x86_stack *st, const struct x86_frame *f)
{
	u8 image[FRAME_SLOTS * 8];
	unsigned size = f->count * f->slot;
	u64 sp = (st->sp - size) & st->mask;
	gva_t at;

	if (unlikely(wraps(st, sp, size)))
		return push_slots(cpu, st, f);
	TRY(stack_linear(cpu, st, sp, size, &at));
	for (unsigned i = 0; i < f->count; i++)
		memcpy(image + size - (i + 1) * f->slot, &f->value[i], f->slot);
	TRY(cpu->ops->store(cpu, at, image, size, st->access | ACCESS_WRITE));
	x86_stack_skip(st, -(s64)size);
	return X86_OK;
}

static int pop_slots(
	struct x86_cpu *cpu, struct x86_stack *st, unsigned slot, unsigned count, u64 *value)
{
	for (unsigned i = 0; i < count; i++) {
		gva_t at;

		TRY(stack_linear(cpu, st, st->sp & st->mask, slot, &at));
		TRY(x86_load(cpu, at, slot, st->access, &value[i]));
		x86_stack_skip(st, slot);
	}
	return X86_OK;
}

int x86_stack_pop(
	struct x86_cpu *cpu, struct x86_stack *st, unsigned slot, unsigned count, u64 *value)
{
	u8 image[POP_SLOTS * 8];
	unsigned size = slot * count;
	u64 sp = st->sp & st->mask;
	gva_t at;

	if (unlikely(wraps(st, sp, size)))
		return pop_slots(cpu, st, slot, count, value);
	TRY(stack_linear(cpu, st, sp, size, &at));
	TRY(cpu->ops->load(cpu, at, image, size, st->access));
	for (unsigned i = 0; i < count; i++) {
		value[i] = 0;
		memcpy(&value[i], image + i * slot, slot);
	}
	x86_stack_skip(st, size);
	return X86_OK;
}

struct x86_stack x86_current_stack(const struct x86_state *s)
{
	return (struct x86_stack){
		.seg = s->seg[X86_SS],
		.sp = s->gpr[RSP],
		.mask = x86_stack_mask(s),
		.flat = x86_code64(s),
	};
}

struct x86_stack x86_other_stack(
	const struct x86_state *s, const struct x86_seg *seg, u64 sp, unsigned cpl, bool flat)
{
	unsigned access = cpl == 3 ? ACCESS_USER : 0;

	/* Pushing onto a supervisor stack while the state still says CPL 3. */
	if (cpl != 3 && x86_cpl(s) == 3)
		access = ACCESS_SYSTEM;
	return (struct x86_stack){
		.seg = *seg,
		.sp = sp,
		.mask = flat		     ? ~0ull
			: seg->attr & SEG_DB ? 0xffffffff
					     : 0xffff,
		.flat = flat,
		.access = access,
		.selector = seg->selector,
	};
}

void x86_commit_sp(struct x86_state *s, const struct x86_stack *st)
{
	s->gpr[RSP] = st->mask == 0xffffffff ? (u32)st->sp : st->sp;
}

/* `size` bytes at `offset` in the current TSS; #TS(TR) when it is too short. */
static int load_tss(struct x86_cpu *cpu, unsigned offset, unsigned size, void *out)
{
	const struct x86_seg *tr = &cpu->s.seg[X86_TR];

	if (!range_ok(offset, size, tr->limit + 1ull))
		return x86_fault_selector(cpu, X86_TS, tr->selector);
	return cpu->ops->load(cpu, gva(tr->base + offset), out, size, ACCESS_SYSTEM);
}

/* ESPn and SSn in the TSS the task register points to. */
static int load_inner_pointer(struct x86_cpu *cpu, unsigned cpl, u32 *sp, u16 *selector)
{
	u8 raw[6];

	if (cpu->s.seg[X86_TR].attr & 8) {
		TRY(load_tss(cpu, 4 + 8 * cpl, 6, raw));
		*sp = get_le32(raw);
		*selector = get_le16(raw + 4);
	} else {
		TRY(load_tss(cpu, 2 + 4 * cpl, 4, raw));
		*sp = get_le16(raw);
		*selector = get_le16(raw + 2);
	}
	return X86_OK;
}

int x86_inner_stack(struct x86_cpu *cpu, unsigned cpl, struct x86_stack *st)
{
	struct x86_desc desc;
	struct x86_seg seg;
	u16 selector;
	u32 sp;

	TRY(load_inner_pointer(cpu, cpl, &sp, &selector));
	if (selector_null(selector))
		return x86_fault_code(cpu, X86_TS, 0);
	TRY(x86_fetch_stack_desc(cpu, selector, cpl, X86_TS, &desc));
	TRY(x86_mark_accessed(cpu, &desc));
	seg = seg_from(&desc, selector);
	*st = x86_other_stack(&cpu->s, &seg, sp, cpl, false);
	return X86_OK;
}

int x86_inner_stack64(struct x86_cpu *cpu, unsigned offset, unsigned cpl, struct x86_stack *st)
{
	struct x86_seg seg = seg_null((u16)cpl, cpl);
	u64 sp;

	TRY(load_tss(cpu, offset, 8, &sp));
	*st = x86_other_stack(&cpu->s, &seg, sp, cpl, true);
	st->selector = 0;
	return X86_OK;
}
