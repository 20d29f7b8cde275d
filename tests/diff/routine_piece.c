/*
 * Short pieces of code written by hand: what random instructions are kept from doing. Each leaves
 * the stack as it was and the roles alone (routine.h), so that they follow each other in any order.
 */
#include "routine.h"

#define STACK_LOW_END  0x600u  /* the stack's part of DATA, one way */
#define STACK_HIGH_END 0x1180u /* and the other: across the page boundary */
#define DATA_END       0x1e00u /* pointers go upwards from here */

unsigned piece_free_register(struct maker *m)
{
	unsigned r;

	do
		r = rng_below(&m->r, X86_GPRS);
	while (m->reserved & BIT(r));
	return r;
}

static unsigned free_low_register(struct maker *m)
{
	unsigned r;

	do
		r = rng_below(&m->r, 8);
	while (m->reserved & BIT(r));
	return r;
}

/* ---- where memory operands go ---- */

static u64 target_that_faults(struct maker *m, unsigned size)
{
	switch (rng_below(&m->r, 5)) {
	case 0: return DATA_AT + DATA_RW + rng_below(&m->r, PAGE_SIZE); /* only stores do */
	case 1: return DATA_AT + DATA_RW - (size ? rng_below(&m->r, size) : 0);
	case 2: return DATA_AT + DATA_SIZE - (size ? rng_below(&m->r, size) : 0);
	case 3: return DATA_AT + 0x100000;
	default: return TEXT_AT + TEXT_SIZE - (size ? rng_below(&m->r, size) : 0);
	}
}

u64 piece_target(struct maker *m, unsigned size)
{
	unsigned first = m->low_stack ? STACK_LOW_END : STACK_HIGH_END;
	unsigned align = size >= 16 ? (unsigned)min_u64(size & -size, 64) : size;
	bool strict = size >= 16 && (m->wish->well_behaved || !rng_one_in(&m->r, 60));
	unsigned over = size > 1 && !strict ? 1 + rng_below(&m->r, size - 1) : 0;
	u64 at;

	if (!m->wish->well_behaved && rng_one_in(&m->r, 250))
		return target_that_faults(m, size);
	switch (rng_below(&m->r, 10)) {
	case 0: return m->low_stack && over ? DATA_AT + PAGE_SIZE - over : DATA_AT + 0x1800;
	case 1: return over ? TEXT_AT + 0x2000 - over : TEXT_AT + 0x2000;
	case 2: at = TEXT_AT + TEXT_DATA + rng_below(&m->r, 0x180); break;
	default: at = DATA_AT + first + rng_below(&m->r, DATA_END - first - 0x100); break;
	}
	if (align && (strict || !rng_one_in(&m->r, 4)))
		at &= ~(u64)((1u << (31 - __builtin_clz(align))) - 1);
	return at;
}

/* ---- strings ---- */

static void string_pointer(struct maker *m, unsigned reg)
{
	unsigned first = (m->low_stack ? STACK_LOW_END : STACK_HIGH_END) + 0x180;

	lay_constant(m, reg, DATA_AT + first + rng_below(&m->r, DATA_END - 0x180 - first));
}

static void string(struct maker *m)
{
	static const u8 opcodes[] = { 0xa4, 0xaa, 0xac, 0xae, 0xa6, 0xa4, 0xaa };
	static const u8 prefixes[] = { 0, 0xf3, 0xf3, 0xf2 };
	u8 opcode = opcodes[rng_below(&m->r, ARRAY_LEN(opcodes))];
	u8 prefix = prefixes[rng_below(&m->r, ARRAY_LEN(prefixes))];
	unsigned size = rng_below(&m->r, 4);

	if ((opcode == 0xac && m->reserved & BIT(RAX)) || rng_one_in(&m->r, 3))
		opcode = 0xa4;
	string_pointer(m, RSI);
	string_pointer(m, RDI);
	lay_constant(m, RCX, rng_below(&m->r, rng_one_in(&m->r, 3) ? 40 : 6));
	LAY(m, rng_one_in(&m->r, 4) ? 0xfd : 0xfc);
	if (size == 1)
		LAY(m, 0x66);
	if (prefix)
		LAY(m, prefix);
	if (size == 3)
		LAY(m, 0x48);
	LAY(m, (u8)(opcode | (size != 0)));
	if (rng_one_in(&m->r, 2))
		LAY(m, 0xfc);
	m->count += 6;
}

/* More elements than an engine does at a time (ITERATIONS in cpu/interpret/string.c): interrupts
 * come between two of them. */
void piece_long_string(struct maker *m)
{
	bool down = rng_one_in(&m->r, 2); /* then an engine has no short cut */
	u32 at = DATA_AT + STACK_LOW_END + (down ? 5400 : 0);

	lay_constant(m, RSI, at + 8);
	lay_constant(m, RDI, at);
	lay_constant(m, RCX, 5000 + rng_below(&m->r, 256));
	LAY(m, down ? 0xfd : 0xfc, 0xf3, rng_one_in(&m->r, 2) ? 0xa4 : 0xaa, 0xfc);
	m->count += 5;
}

/* ---- the stack, addresses, flags ---- */

static void push_pop(struct maker *m)
{
	unsigned from = rng_below(&m->r, X86_GPRS), to = piece_free_register(m);

	if (from >= 8)
		LAY(m, 0x41);
	LAY(m, (u8)(0x50 | (from & 7)));
	body_instruction(m);
	if (to >= 8)
		LAY(m, 0x41);
	LAY(m, (u8)(0x58 | (to & 7)));
	m->count += 2;
}

static void flags_on_stack(struct maker *m)
{
	LAY(m, 0x9c);
	body_instruction(m);
	LAY(m, 0x9d);
	m->count += 2;
}

static void memory_on_stack(struct maker *m)
{
	lay_rm(m, false, 0xff, 6, piece_target(m, 8) & ~7ull); /* push */
	lay_rm(m, false, 0x8f, 0, piece_target(m, 8) & ~7ull); /* pop */
	m->count += 2;
}

/* op [pointer + index * scale + disp8] */
static void indexed(struct maker *m)
{
	static const u8 opcodes[] = { 0x8b, 0x89, 0x01, 0x33, 0x39, 0x8d };
	unsigned index = piece_free_register(m), reg = piece_free_register(m);
	unsigned base = m->pointer + (rng_one_in(&m->r, 2) ? 8 : 0);

	if (reg == index)
		return;
	lay_constant(m, index, rng_below(&m->r, 64));
	LAY(m, (u8)(0x48 | reg >> 3 << 2 | index >> 3 << 1 | base >> 3),
		opcodes[rng_below(&m->r, ARRAY_LEN(opcodes))], (u8)(0x44 | (reg & 7) << 3),
		(u8)(rng_below(&m->r, 4) << 6 | (index & 7) << 3 | (base & 7)),
		(u8)rng_below(&m->r, 128));
	m->count += 2;
}

/* BT and its like reach out of their operand. */
static void bit_string(struct maker *m)
{
	static const u16 opcodes[] = { 0x0fa3, 0x0fab, 0x0fb3, 0x0fbb };
	unsigned reg = piece_free_register(m);

	lay_rr(m, false, 0x81, 4, reg); /* and reg, 0x7f */
	lay_32(m, 0x7f);
	lay_rm(m, rng_one_in(&m->r, 2), opcodes[rng_below(&m->r, 4)], reg, piece_target(m, 4));
	m->count += 2;
}

/* Multiplication and division leave flags undefined: a comparison follows at once. (Interrupts may
 * come between, so this is not for the well-behaved.) */
static void multiply(struct maker *m)
{
	unsigned by = piece_free_register(m), kind = 4 + rng_below(&m->r, 4);
	bool wide = rng_one_in(&m->r, 2);

	if (m->reserved & (BIT(RAX) | BIT(RDX)))
		return;
	if (kind >= 6) { /* no overflow: RDX := 0, divisor made odd and not 0 */
		if (by == RAX || by == RDX)
			return;
		lay_constant(m, RDX, 0);
		lay_rr(m, false, 0x81, 4, RAX);
		lay_32(m, 0x7fffffff);
		lay_rr(m, false, 0x81, 1, by); /* or by, odd */
		lay_32(m, 1 + 2 * rng_below(&m->r, 100));
	}
	lay_rr(m, wide, 0xf7, kind, by);
	lay_rr(m, true, 0x39, by, RAX);
	m->count += 2;
}

static void hop(struct maker *m)
{
	unsigned at;

	LAY(m, (u8)(0x70 | rng_below(&m->r, 16)), 0);
	at = m->at;
	for (unsigned n = 1 + rng_below(&m->r, 2); n; n--)
		body_instruction(m);
	m->text[at - 1] = (u8)(m->at - at);
	m->count++;
}

/* ---- stores into code ---- */

static void site(struct maker *m)
{
	unsigned reg = piece_free_register(m);

	m->count++;
	switch (rng_below(&m->r, 5)) {
	case 0:
		lay_constant(m, reg, (u32)rng_next(&m->r));
		lay_site(m, m->at - 4u, SITE_ANY, 4, reg);
		break;
	case 1:
		LAY(m, (u8)(0x48 | reg >> 3), (u8)(0xb8 | (reg & 7)));
		lay_32(m, (u32)rng_next(&m->r));
		lay_32(m, (u32)rng_next(&m->r));
		lay_site(m, m->at - 8u, SITE_ANY, 8, reg);
		break;
	case 2:
		lay_rr(m, rng_one_in(&m->r, 2), 0x81, rng_below(&m->r, 8), reg);
		lay_32(m, (u32)rng_next(&m->r));
		lay_site(m, m->at - 5u, SITE_ALU, 1, reg);
		lay_site(m, m->at - 4u, SITE_ANY, 4, reg);
		break;
	case 3:
		reg = free_low_register(m);
		LAY(m, rng_one_in(&m->r, 3) ? 0xe9 : (u8)(0xb8 | reg));
		lay_rel32(m, m->ahead);
		lay_site(m, m->at - 5u, SITE_JUMP, 1, reg);
		break;
	default:
		LAY(m, 0x90);
		lay_site(m, m->at - 1u, SITE_SINGLE, 1, 0);
		break;
	}
}

/* Opcode and ModRM for [rip + disp32], register still open; what the store needs to know. */
static const struct {
	u8 prefix, opcode;
	u8 len, more;
	bool chosen, reads_only; /* the register is only read */
} stores[] = {
	{ 0, 0xc6, 1, 1, true, false },					   /* mov byte, imm */
	{ 0, 0xc6, 1, 1, true, false }, { 0, 0x80, 1, 1, false, false },   /* add byte, imm */
	{ 0, 0x89, 4, 0, false, true },					   /* mov */
	{ 0x48, 0x89, 8, 0, false, true }, { 0, 0x01, 4, 0, false, true }, /* add */
	{ 0x48, 0x31, 8, 0, false, true }, { 0xf0, 0x01, 4, 0, false, true },
	{ 0, 0x87, 4, 0, false, false },    /* xchg */
	{ 0xf0, 0xff, 4, 0, false, false }, /* inc */
};

static void store(struct maker *m)
{
	unsigned i = rng_below(&m->r, ARRAY_LEN(stores) + 2);
	u8 reg = 0;

	if (i == ARRAY_LEN(stores)) { /* movq */
		LAY(m, 0x66, 0x0f, 0xd6, (u8)(rng_below(&m->r, 8) << 3 | 5));
		lay_code_disp(m, 8, 0, false);
	} else if (i > ARRAY_LEN(stores)) { /* rep stosb */
		lay_constant(m, RCX, 1 + rng_below(&m->r, 4));
		LAY(m, 0x48, 0x8d, 0x3d);
		lay_code_disp(m, 4, 0, false);
		LAY(m, 0xfc, 0xf3, 0xaa);
	} else {
		if (stores[i].reads_only)
			reg = (u8)rng_below(&m->r, 8);
		else if (stores[i].opcode == 0x87)
			reg = (u8)free_low_register(m);
		if (stores[i].prefix)
			LAY(m, stores[i].prefix);
		LAY(m, stores[i].opcode, (u8)(reg << 3 | 5));
		lay_code_disp(m, stores[i].len, stores[i].more, stores[i].chosen);
	}
	m->count++;
	for (unsigned n = rng_below(&m->r, 3); n; n--)
		site(m);
}

/* ---- calls ---- */

/* Through memory, beside the code: the pointers move. */
static void through_memory(struct maker *m, unsigned reg, unsigned extension)
{
	u32 at = TEXT_DATA + 0x400 + 8 * rng_below(&m->r, 8);

	LAY(m, (u8)(0x48 | reg >> 3 << 2), 0x89, (u8)((reg & 7) << 3 | 5));
	lay_32(m, at - (m->at + 4u));
	LAY(m, 0xff, (u8)(extension << 3 | 5));
	lay_32(m, at - (m->at + 4u));
	m->count++;
}

static void call(struct maker *m)
{
	unsigned reg = piece_free_register(m);

	if (m->callable >= m->functions)
		return;
	unsigned label = m->function[m->callable + rng_below(&m->r, m->functions - m->callable)];
	m->count += 2;
	switch (rng_below(&m->r, 4)) {
	case 0:
		lay_address(m, reg, label);
		lay_rr(m, false, 0xff, 2, reg);
		break;
	case 1:
		lay_address(m, reg, label);
		through_memory(m, reg, 2);
		break;
	default:
		LAY(m, 0xe8);
		lay_rel32(m, label);
		break;
	}
}

void piece_return(struct maker *m)
{
	unsigned reg = piece_free_register(m);

	m->count++;
	if (!rng_one_in(&m->r, 4)) {
		LAY(m, 0xc3);
		return;
	}
	if (reg >= 8)
		LAY(m, 0x41);
	LAY(m, (u8)(0x58 | (reg & 7))); /* pop reg; jmp reg */
	lay_rr(m, false, 0xff, 4, reg);
}

/* ---- ends of blocks ---- */

bool piece_transfer(struct maker *m, unsigned label)
{
	unsigned reg = piece_free_register(m);

	m->count++;
	switch (rng_below(&m->r, 12)) {
	case 0:
		lay_address(m, reg, label);
		lay_rr(m, false, 0xff, 4, reg); /* jmp reg */
		return false;
	case 1:
		lay_address(m, reg, label);
		through_memory(m, reg, 4);
		return false;
	case 2:
		lay_address(m, reg, label);
		if (reg >= 8)
			LAY(m, 0x41);
		LAY(m, (u8)(0x50 | (reg & 7)), 0xc3); /* push reg; ret */
		return false;
	case 3:
		LAY(m, rng_one_in(&m->r, 2) ? 0xe3 : (u8)(0xe0 + rng_below(&m->r, 3)), 5, 0xe9);
		lay_rel32(m, label); /* jrcxz or loop over a jump */
		return true;
	case 4:
	case 5:
		LAY(m, 0xe9);
		lay_rel32(m, label);
		return false;
	default:
		LAY(m, 0x0f, (u8)(0x80 | rng_below(&m->r, 16)));
		lay_rel32(m, label);
		return true;
	}
}

void piece_loop_end(struct maker *m, unsigned reg, unsigned label)
{
	lay_rr(m, true, 0xff, 1, reg); /* dec */
	LAY(m, 0x0f, 0x8f);	       /* jg */
	lay_rel32(m, label);
	m->count += 2;
}

/* ---- faults ---- */

static void fault(struct maker *m)
{
	static const u8 strings[] = { 0xa4, 0xa5, 0xaa, 0xab, 0xae, 0xaf };
	unsigned reg = piece_free_register(m);

	switch (rng_below(&m->r, 10)) {
	case 0: LAY(m, 0x0f, 0x0b); break; /* ud2 */
	case 1: LAY(m, 0xf4); break;	   /* hlt */
	case 2:
		lay_constant(m, reg, DATA_AT + 0x800); /* not executable */
		lay_rr(m, false, 0xff, 4 - 2 * rng_below(&m->r, 2), reg);
		break;
	case 3:
		LAY(m, (u8)(0x48 | reg >> 3), (u8)(0xb8 | (reg & 7)));
		lay_32(m, 5);
		lay_32(m, 0x80000000u); /* not canonical */
		lay_rr(m, false, 0xff, 4 - 2 * rng_below(&m->r, 2), reg);
		break;
	case 4:
		lay_rr(m, false, 0x31, reg, reg);
		lay_rr(m, true, 0xf7, 6 + rng_below(&m->r, 2), reg); /* by 0 */
		break;
	case 5: lay_rm(m, true, 0x89, reg, DATA_AT + DATA_RW + 16); break;
	case 6: lay_rm(m, true, 0x8b, reg, DATA_AT + DATA_SIZE - 3); break;
	case 7:
		lay_constant(m, RDI, DATA_AT + DATA_RW - 24);
		lay_constant(m, RSI, DATA_AT + 0x1800);
		lay_constant(m, RCX, 20);
		LAY(m, 0xfc, 0xf3, strings[rng_below(&m->r, ARRAY_LEN(strings))]);
		break;
	case 8:
		lay_constant(m, RSP, DATA_AT - 4 + 8 * rng_below(&m->r, 2)); /* in pieces */
		LAY(m, 0x50);
		break;
	default:
		LAY(m, 0x0f, 0x28, 0x05); /* movaps, misaligned */
		lay_32(m, TEXT_DATA + 8 - (m->at + 4u));
		break;
	}
	m->count++;
}

void piece_fault(struct maker *m)
{
	unsigned at;

	lay_rr(m, false, 0x81, 7, m->counter);
	lay_32(m, 1 + rng_below(&m->r, 8));
	LAY(m, 0x75, 0);
	at = m->at;
	fault(m);
	m->text[at - 1] = (u8)(m->at - at);
	m->count += 2;
}

/* ---- one of them ---- */

void piece_random(struct maker *m)
{
	static const struct {
		void (*emit)(struct maker *m);
		u8 weight;
		bool wild; /* not in well-behaved routines */
	} pieces[] = {
		{ body_instruction, 52, false },
		{ string, 4, false },
		{ push_pop, 4, false },
		{ flags_on_stack, 2, true },
		{ memory_on_stack, 2, false },
		{ indexed, 5, false },
		{ bit_string, 2, false },
		{ multiply, 3, true },
		{ hop, 6, false },
		{ call, 5, false },
		{ site, 7, true },
		{ store, 7, true },
	};
	unsigned total = 0, pick;

	for (unsigned i = 0; i < ARRAY_LEN(pieces); i++)
		total += pieces[i].weight;
	pick = rng_below(&m->r, total);
	for (unsigned i = 0; i < ARRAY_LEN(pieces); i++) {
		if (pick < pieces[i].weight) {
			if (pieces[i].wild && m->wish->well_behaved)
				body_instruction(m);
			else
				pieces[i].emit(m);
			return;
		}
		pick -= pieces[i].weight;
	}
}
