/*
 * Instructions, counted by the code that runs them; only while somebody wants to know, since it
 * makes code longer and slower. That is baked into blocks as CR4's bits are (settle_modes()): when
 * it begins or ends, all code is made anew.
 *
 * A piece is what of a block runs without a way out between its instructions: up to a branch. Code
 * at its start adds up all of them, but for those that are always handed over, which C counts.
 * What leaves a piece before its end, by a fault or by an instruction of which C cannot go on in
 * the block, has been counted too far: tinsn.behind says by how many, and C takes them back.
 *
 * A string instruction counts once, however often it repeats; the interpreter counts it each time
 * that it begins or goes on.
 */
#include "cpu/translate/emit.h"

void count_switch(struct vcpu *v, bool on)
{
	struct translator *t = v->engine_data;

	atomic_store(&t->count_asked, on);
	vcpu_post(v, ATTN_LOOK);
}

bool count_wanted(const struct translator *t)
{
	return t->options & OPTION_COUNT || atomic_load(&t->count_asked);
}

u64 count_all(const struct translator *t)
{
	return counter_read(&t->c->retired) + counter_read(&t->ctx->retired);
}

bool count_is_ours(const struct translator *t, const struct tinsn *in)
{
	return !(t->baked & BAKED_COUNT) || in->handed;
}

void count_take_back(struct translator *t, unsigned instructions)
{
	counter_add(&t->ctx->retired, -(u64)instructions);
}

/*
 *     mov rcx, [retired]
 *     lea rcx, [rcx+n]		flags are the guest's
 *     mov [retired], rcx
 */
void count_piece_begins(struct emit *e, unsigned index)
{
	e->piece = index;
	e->piece_count = NULL;
	if (!(e->t->baked & BAKED_COUNT))
		return;
	asm_load(&e->a, ASM_RCX, SLOT(retired));
	asm_lea(&e->a, ASM_RCX, ASM_RCX, ASM_NONE, 0, 1);
	e->piece_count = e->a.at - 1;
	asm_store(&e->a, SLOT(retired), ASM_RCX);
}

_Static_assert(BODY_OPS <= 127, "a piece's count is a displacement of eight bits");

void count_piece_ends(struct emit *e, unsigned index)
{
	struct tinsn *insns = e->b->insns;
	u8 n = 0;

	if (!e->piece_count)
		return;
	while (index > e->piece) {
		insns[--index].behind = n;
		n += !insns[index].handed;
	}
	if (!e->a.full)
		*e->piece_count = n;
}
