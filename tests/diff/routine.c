/*
 * The plan of a routine: blocks from the first to the last, most of them ended by a transfer to a
 * later one, in an outer loop around all and inner loops around some; then functions, which call
 * only later ones. See routine.h for what keeps it from running wild.
 */
#include "routine.h"

#define BLOCKS_MAX 12u
#define LOOPS_MAX  12u

/* ---- roles and state ---- */

static unsigned spare(struct maker *m)
{
	unsigned r;

	do
		r = piece_free_register(m);
	while (r == RCX || r == RSI || r == RDI); /* strings need them */
	m->reserved |= BIT(r);
	return r;
}

static void choose_roles(struct maker *m)
{
	struct regs *in = &m->t->in;

	m->pointer = rng_one_in(&m->r, 2) ? RBX : RBP;
	m->reserved = BIT(RSP) | BIT(m->pointer) | BIT(m->pointer + 8);
	m->counter = (u8)spare(m);
	m->inner = (u8)spare(m);
	m->low_stack = rng_one_in(&m->r, 2);
	m->pointer_start = DATA_AT + 64 * rng_below(&m->r, 128);
	in->fs_base = rng_one_in(&m->r, 2) ? 0 : DATA_AT + rng_below(&m->r, 1024);
	in->gs_base = rng_one_in(&m->r, 2) ? 0 : DATA_AT + rng_below(&m->r, 1024);
}

static void mask_exceptions(struct x86_fpu *f)
{
	f->fcw |= 0x3f;
	f->fsw &= 0x7f00;
	f->mxcsr = (f->mxcsr & 0xffff) | MXCSR_RESET;
}

static void choose_state(const struct maker *m, struct rng *r)
{
	struct trial *t = m->t;
	struct regs *in = &t->in;

	t->memory_seed = rng_next(r);
	for (unsigned i = 0; i < X86_GPRS; i++)
		in->gpr[i] = rng_value(r);
	in->gpr[m->pointer] = in->gpr[m->pointer + 8] = m->pointer_start;
	in->gpr[m->counter] = m->wish->loops ? m->wish->loops : 1 + rng_below(r, LOOPS_MAX);
	in->gpr[m->inner] = 0;
	in->gpr[RSP] = DATA_AT + (m->low_stack ? 0x300 : PAGE_SIZE) + 8 * rng_below(r, 8);
	if (rng_one_in(r, 4)) /* pushes cross pages */
		in->gpr[RSP] -= 1 + rng_below(r, 7);
	in->rflags = (rng_next(r) & FLAGS_STATUS) | FLAG_ONE | FLAG_IF;
	if (rng_one_in(r, 8))
		in->rflags |= FLAG_DF;
	if (rng_one_in(r, 40) && !m->wish->well_behaved)
		in->rflags |= FLAG_AC;
	rng_fpu(r, &in->fpu);
	if (m->wish->well_behaved || !rng_one_in(r, 12))
		mask_exceptions(&in->fpu);
	fpu_clip(&in->fpu);
}

/* ---- code ---- */

static void fill(struct maker *m, unsigned count)
{
	for (unsigned until = m->count + count; m->count < until && !m->full;)
		piece_random(m);
}

/* Continues somewhere else, now and then; `falls`: execution comes from here. */
static void scatter(struct maker *m, bool falls, unsigned next)
{
	if (!m->full && !rng_one_in(&m->r, 3))
		return;
	if (falls) {
		LAY(m, 0xe9);
		lay_rel32(m, next);
	}
	lay_elsewhere(m);
}

static void main_blocks(struct maker *m, unsigned first, unsigned blocks, unsigned size)
{
	unsigned last = first + blocks, loop = 0;
	bool looping = false;

	for (unsigned i = first; i < last; i++) {
		lay_place(m, i);
		m->ahead = i + 1;
		if (!looping && rng_one_in(&m->r, 3)) {
			looping = true;
			loop = lay_label(m);
			lay_constant(m, m->inner, 1 + rng_below(&m->r, 4));
			lay_place(m, loop);
		}
		fill(m, 1 + rng_below(&m->r, 2 * size));
		if (looping && rng_one_in(&m->r, 2)) {
			looping = false;
			piece_loop_end(m, m->inner, loop);
		}
		bool falls = rng_one_in(&m->r, 6) ||
			     piece_transfer(m, i + 1 + rng_below(&m->r, last - i));
		scatter(m, falls, i + 1);
	}
}

static void outer_loop_end(struct maker *m, unsigned top)
{
	u8 step = 0;

	if (!m->wish->well_behaved && rng_one_in(&m->r, 2))
		step = rng_one_in(&m->r, 4) ? (u8)(1 + rng_below(&m->r, 60)) : 64;
	for (unsigned i = 0; i < 2 && step; i++) { /* lea pointer, [pointer + step] */
		unsigned p = m->pointer + 8 * i;

		LAY(m, (u8)(i ? 0x4d : 0x48), 0x8d, (u8)(0x40 | (p & 7) << 3 | (p & 7)), step);
	}
	if (!m->wish->well_behaved && rng_one_in(&m->r, 4))
		piece_fault(m);
	if (m->low_stack && (m->wish->well_behaved ? rng_one_in(&m->r, 2) : rng_one_in(&m->r, 20)))
		piece_long_string(m);
	piece_loop_end(m, m->counter, top);
	LAY(m, 0xcc);
	lay_elsewhere(m);
}

static void functions(struct maker *m, unsigned size)
{
	for (unsigned i = 0; i < m->functions; i++) {
		unsigned ret = lay_label(m);

		m->callable = i + 1;
		m->ahead = ret;
		lay_place(m, m->function[i]);
		fill(m, 1 + rng_below(&m->r, size));
		lay_place(m, ret);
		piece_return(m);
		lay_elsewhere(m);
	}
}

void routine_generate(const struct tame *tame, u64 seed, unsigned variant,
	const struct routine_wish *wish, struct trial *t)
{
	struct maker m = { .r = { seed }, .t = t, .tame = tame, .wish = wish };
	struct rng state = { seed ^ (variant + 1ull) * 0xda942042e4dd58b5ull };
	unsigned blocks = 2 + rng_below(&m.r, BLOCKS_MAX - 2), size, top;

	memset(t, 0, offsetof(struct trial, code));
	t->seed = seed;
	t->bits = 64;
	t->text = true;
	choose_roles(&m);
	size = (20 + rng_below(&m.r, 140)) / (blocks + 1) + 1;
	lay_start(&m);
	m.functions = rng_below(&m.r, FUNCTIONS_MAX + 1);
	for (unsigned i = 0; i < m.functions; i++)
		m.function[i] = lay_label(&m);
	top = lay_label(&m);
	for (unsigned i = 0; i < blocks; i++)
		lay_label(&m);
	t->in.rip = TEXT_AT + m.at;
	main_blocks(&m, top, blocks, size);
	lay_place(&m, top + blocks);
	outer_loop_end(&m, top);
	functions(&m, size);
	lay_end(&m);
	t->count = (u16)m.count;
	choose_state(&m, &state);
}
