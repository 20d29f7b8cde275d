/*
 * Integer arithmetic and logic. Each operation is the host's own instruction in inline assembly,
 * its flags read back by LAHF and SETO: results and flags, those the manuals call undefined
 * included, are what this processor gives. Operations that keep some flags merge them here.
 */
#include "cpu/interpret/alu.h"

#define FLAGS_TO_AX "\n\tlahf\n\tseto %%al"

/* AX after LAHF and SETO: AH is SF ZF - AF - PF - CF, AL is OF. */
ALWAYS_INLINE u64 flags_from_ax(u32 ax) { return ((ax >> 8) & 0xd5) | (u64)(ax & 1) << 11; }

ALWAYS_INLINE void set_flags(struct interp *c, u64 mask, u64 flags)
{
	c->s->rflags = (c->s->rflags & ~mask) | (flags & mask);
}

/* a = a insn b, at one width. */
#define ALU2_ASM(insn, w, a, b, ax)                      \
	__asm__(insn " %" w "[y], %" w "[x]" FLAGS_TO_AX \
		: [x] "+&q"(a), "=&a"(ax)                \
		: [y] "q"(b)                             \
		: "cc")

#define ALU2(name, insn)                                                \
	ALWAYS_INLINE u64 name(u64 a, u64 b, unsigned size, u64 *flags) \
	{                                                               \
		u32 ax;                                                 \
		switch (size) {                                         \
		case 1: ALU2_ASM(insn "b", "b", a, b, ax); break;       \
		case 2: ALU2_ASM(insn "w", "w", a, b, ax); break;       \
		case 4: ALU2_ASM(insn "l", "k", a, b, ax); break;       \
		default: ALU2_ASM(insn "q", "q", a, b, ax); break;      \
		}                                                       \
		*flags = flags_from_ax(ax);                             \
		return a;                                               \
	}

/* The same with the guest's carry loaded first. */
#define ALU2C_ASM(insn, w, a, b, fl, ax)                                     \
	__asm__("btl $0, %k[f]\n\t" insn " %" w "[y], %" w "[x]" FLAGS_TO_AX \
		: [x] "+&q"(a), "=&a"(ax)                                    \
		: [y] "q"(b), [f] "r"(fl)                                    \
		: "cc")

#define ALU2C(name, insn)                                                   \
	ALWAYS_INLINE u64 name(u64 a, u64 b, unsigned size, u64 *flags)     \
	{                                                                   \
		u32 ax;                                                     \
		switch (size) {                                             \
		case 1: ALU2C_ASM(insn "b", "b", a, b, *flags, ax); break;  \
		case 2: ALU2C_ASM(insn "w", "w", a, b, *flags, ax); break;  \
		case 4: ALU2C_ASM(insn "l", "k", a, b, *flags, ax); break;  \
		default: ALU2C_ASM(insn "q", "q", a, b, *flags, ax); break; \
		}                                                           \
		*flags = flags_from_ax(ax);                                 \
		return a;                                                   \
	}

ALU2(do_add, "add")
ALU2(do_or, "or")
ALU2(do_and, "and")
ALU2(do_sub, "sub")
ALU2(do_xor, "xor")
ALU2C(do_adc, "adc")
ALU2C(do_sbb, "sbb")

/* ---- two operands: dst = dst op src; flags all six ---- */

/* The five operand forms of one operation; `store` is 0 for CMP and TEST. */
#define ALU2_FORMS(name, fn, store)                                                             \
	ALWAYS_INLINE int name##_rr(struct interp *c, const struct op *op, unsigned size)       \
	{                                                                                       \
		u64 fl = c->s->rflags;                                                          \
		u64 v = fn(reg_get(c, op->dst, size), reg_get(c, op->src, size), size, &fl);    \
		if (store)                                                                      \
			reg_set(c, op->dst, size, v);                                           \
		set_flags(c, FLAGS_STATUS, fl);                                                 \
		return OP_NEXT;                                                                 \
	}                                                                                       \
	ALWAYS_INLINE int name##_ri(struct interp *c, const struct op *op, unsigned size)       \
	{                                                                                       \
		u64 fl = c->s->rflags;                                                          \
		u64 v = fn(reg_get(c, op->dst, size), op->imm, size, &fl);                      \
		if (store)                                                                      \
			reg_set(c, op->dst, size, v);                                           \
		set_flags(c, FLAGS_STATUS, fl);                                                 \
		return OP_NEXT;                                                                 \
	}                                                                                       \
	ALWAYS_INLINE int name##_rm(struct interp *c, const struct op *op, unsigned size)       \
	{                                                                                       \
		u64 fl = c->s->rflags, b;                                                       \
		TRY_OP(mem_get(c, op, size, &b));                                               \
		u64 v = fn(reg_get(c, op->dst, size), b, size, &fl);                            \
		if (store)                                                                      \
			reg_set(c, op->dst, size, v);                                           \
		set_flags(c, FLAGS_STATUS, fl);                                                 \
		return OP_NEXT;                                                                 \
	}                                                                                       \
	ALWAYS_INLINE int name##_m(struct interp *c, const struct op *op, unsigned size, u64 b) \
	{                                                                                       \
		u64 fl;                                                                         \
		struct rmw r;                                                                   \
		if (!store) {                                                                   \
			TRY_OP(mem_get(c, op, size, &r.old));                                   \
			fl = c->s->rflags;                                                      \
			fn(r.old, b, size, &fl);                                                \
		} else {                                                                        \
			u64 v;                                                                  \
			TRY_OP(rmw_begin(c, op, size, &r));                                     \
			do {                                                                    \
				fl = c->s->rflags;                                              \
				v = fn(r.old, b, size, &fl);                                    \
			} while (!rmw_end(c, op, size, &r, v));                                 \
		}                                                                               \
		set_flags(c, FLAGS_STATUS, fl);                                                 \
		return OP_NEXT;                                                                 \
	}                                                                                       \
	ALWAYS_INLINE int name##_mr(struct interp *c, const struct op *op, unsigned size)       \
	{                                                                                       \
		return name##_m(c, op, size, reg_get(c, op->src, size));                        \
	}                                                                                       \
	ALWAYS_INLINE int name##_mi(struct interp *c, const struct op *op, unsigned size)       \
	{                                                                                       \
		return name##_m(c, op, size, op->imm);                                          \
	}                                                                                       \
	SIZED_STATIC(name##_rr);                                                                \
	SIZED_STATIC(name##_ri);                                                                \
	SIZED_STATIC(name##_rm);                                                                \
	SIZED_STATIC(name##_mr);                                                                \
	SIZED_STATIC(name##_mi);                                                                \
	const struct binary_set name##_set = { name##_rr_by_size, name##_ri_by_size,            \
		name##_rm_by_size, name##_mr_by_size, name##_mi_by_size };

ALU2_FORMS(op_add, do_add, 1)
ALU2_FORMS(op_or, do_or, 1)
ALU2_FORMS(op_adc, do_adc, 1)
ALU2_FORMS(op_sbb, do_sbb, 1)
ALU2_FORMS(op_and, do_and, 1)
ALU2_FORMS(op_sub, do_sub, 1)
ALU2_FORMS(op_xor, do_xor, 1)
ALU2_FORMS(op_cmp, do_sub, 0)
ALU2_FORMS(op_test, do_and, 0)

void compare_flags(struct interp *c, unsigned size, u64 a, u64 b)
{
	u64 fl = 0;

	do_sub(a, b, size, &fl);
	set_flags(c, FLAGS_STATUS, fl);
}

/* ---- one operand ---- */

#define ALU1_ASM(insn, w, a, ax) \
	__asm__(insn " %" w "[x]" FLAGS_TO_AX : [x] "+&q"(a), "=&a"(ax) : : "cc")
#define ALU1(name, insn)                                         \
	ALWAYS_INLINE u64 name(u64 a, unsigned size, u64 *flags) \
	{                                                        \
		u32 ax;                                          \
		switch (size) {                                  \
		case 1: ALU1_ASM(insn "b", "b", a, ax); break;   \
		case 2: ALU1_ASM(insn "w", "w", a, ax); break;   \
		case 4: ALU1_ASM(insn "l", "k", a, ax); break;   \
		default: ALU1_ASM(insn "q", "q", a, ax); break;  \
		}                                                \
		*flags = flags_from_ax(ax);                      \
		return a;                                        \
	}
ALU1(do_inc, "inc")
ALU1(do_dec, "dec")
ALU1(do_neg, "neg")
ALWAYS_INLINE u64 do_not(u64 a, unsigned size, u64 *flags) { return ~a; }

#define ALU1_FORMS(name, fn, mask)                                                       \
	ALWAYS_INLINE int name##_r(struct interp *c, const struct op *op, unsigned size) \
	{                                                                                \
		u64 fl = 0;                                                              \
		reg_set(c, op->dst, size, fn(reg_get(c, op->dst, size), size, &fl));     \
		set_flags(c, mask, fl);                                                  \
		return OP_NEXT;                                                          \
	}                                                                                \
	ALWAYS_INLINE int name##_m(struct interp *c, const struct op *op, unsigned size) \
	{                                                                                \
		u64 fl = 0, v;                                                           \
		struct rmw r;                                                            \
		TRY_OP(rmw_begin(c, op, size, &r));                                      \
		do                                                                       \
			v = fn(r.old, size, &fl);                                        \
		while (!rmw_end(c, op, size, &r, v));                                    \
		set_flags(c, mask, fl);                                                  \
		return OP_NEXT;                                                          \
	}                                                                                \
	SIZED_STATIC(name##_r);                                                          \
	SIZED_STATIC(name##_m);                                                          \
	const struct unary_set name##_set = { name##_r_by_size, name##_m_by_size };

ALU1_FORMS(op_inc, do_inc, FLAGS_STATUS & ~FLAG_CF)
ALU1_FORMS(op_dec, do_dec, FLAGS_STATUS & ~FLAG_CF)
ALU1_FORMS(op_neg, do_neg, FLAGS_STATUS)
ALU1_FORMS(op_not, do_not, 0)

/* ---- shifts and rotates ---- */

#define SHIFT_ASM(insn, w, a, n, fl, ax)                                \
	__asm__("btl $0, %k[f]\n\t" insn " %%cl, %" w "[x]" FLAGS_TO_AX \
		: [x] "+&q"(a), "=&a"(ax)                               \
		: "c"(n), [f] "r"(fl)                                   \
		: "cc")
#define SHIFT(name, insn)                                                    \
	ALWAYS_INLINE u64 name(u64 a, unsigned n, unsigned size, u64 *flags) \
	{                                                                    \
		u32 ax;                                                      \
		switch (size) {                                              \
		case 1: SHIFT_ASM(insn "b", "b", a, n, *flags, ax); break;   \
		case 2: SHIFT_ASM(insn "w", "w", a, n, *flags, ax); break;   \
		case 4: SHIFT_ASM(insn "l", "k", a, n, *flags, ax); break;   \
		default: SHIFT_ASM(insn "q", "q", a, n, *flags, ax); break;  \
		}                                                            \
		*flags = flags_from_ax(ax);                                  \
		return a;                                                    \
	}
SHIFT(do_rol, "rol")
SHIFT(do_ror, "ror")
SHIFT(do_rcl, "rcl")
SHIFT(do_rcr, "rcr")
SHIFT(do_shl, "shl")
SHIFT(do_shr, "shr")
SHIFT(do_sar, "sar")

/* A masked count of zero changes no flags, but a memory destination is still written. */
#define SHIFT_FORMS(name, fn, mask)                                                               \
	ALWAYS_INLINE int name##_r(struct interp *c, const struct op *op, unsigned size, u64 n)   \
	{                                                                                         \
		u64 fl = c->s->rflags;                                                            \
		n &= size == 8 ? 63 : 31;                                                         \
		if (!n) {                                                                         \
			reg_set(c, op->dst, size, reg_get(c, op->dst, size));                     \
			return OP_NEXT;                                                           \
		}                                                                                 \
		reg_set(c, op->dst, size, fn(reg_get(c, op->dst, size), (unsigned)n, size, &fl)); \
		set_flags(c, mask, fl);                                                           \
		return OP_NEXT;                                                                   \
	}                                                                                         \
	ALWAYS_INLINE int name##_m(struct interp *c, const struct op *op, unsigned size, u64 n)   \
	{                                                                                         \
		u64 fl = c->s->rflags;                                                            \
		struct rmw r;                                                                     \
		n &= size == 8 ? 63 : 31;                                                         \
		TRY_OP(rmw_begin(c, op, size, &r));                                               \
		if (!n) {                                                                         \
			rmw_end(c, op, size, &r, r.old);                                          \
			return OP_NEXT;                                                           \
		}                                                                                 \
		u64 v = fn(r.old, (unsigned)n, size, &fl);                                        \
		rmw_end(c, op, size, &r, v);                                                      \
		set_flags(c, mask, fl);                                                           \
		return OP_NEXT;                                                                   \
	}                                                                                         \
	ALWAYS_INLINE int name##_ri(struct interp *c, const struct op *op, unsigned size)         \
	{                                                                                         \
		return name##_r(c, op, size, op->imm);                                            \
	}                                                                                         \
	ALWAYS_INLINE int name##_rc(struct interp *c, const struct op *op, unsigned size)         \
	{                                                                                         \
		return name##_r(c, op, size, c->s->gpr[RCX]);                                     \
	}                                                                                         \
	ALWAYS_INLINE int name##_mi(struct interp *c, const struct op *op, unsigned size)         \
	{                                                                                         \
		return name##_m(c, op, size, op->imm);                                            \
	}                                                                                         \
	ALWAYS_INLINE int name##_mc(struct interp *c, const struct op *op, unsigned size)         \
	{                                                                                         \
		return name##_m(c, op, size, c->s->gpr[RCX]);                                     \
	}                                                                                         \
	SIZED_STATIC(name##_ri);                                                                  \
	SIZED_STATIC(name##_rc);                                                                  \
	SIZED_STATIC(name##_mi);                                                                  \
	SIZED_STATIC(name##_mc);                                                                  \
	const struct shift_set name##_set = { name##_ri_by_size, name##_rc_by_size,               \
		name##_mi_by_size, name##_mc_by_size };

SHIFT_FORMS(op_rol, do_rol, FLAG_CF | FLAG_OF)
SHIFT_FORMS(op_ror, do_ror, FLAG_CF | FLAG_OF)
SHIFT_FORMS(op_rcl, do_rcl, FLAG_CF | FLAG_OF)
SHIFT_FORMS(op_rcr, do_rcr, FLAG_CF | FLAG_OF)
SHIFT_FORMS(op_shl, do_shl, FLAGS_STATUS)
SHIFT_FORMS(op_shr, do_shr, FLAGS_STATUS)
SHIFT_FORMS(op_sar, do_sar, FLAGS_STATUS)

#define SHD_ASM(insn, w, a, b, n, ax)                          \
	__asm__(insn " %%cl, %" w "[y], %" w "[x]" FLAGS_TO_AX \
		: [x] "+&q"(a), "=&a"(ax)                      \
		: "c"(n), [y] "q"(b)                           \
		: "cc")
#define SHD(name, insn)                                                             \
	ALWAYS_INLINE u64 name(u64 a, u64 b, unsigned n, unsigned size, u64 *flags) \
	{                                                                           \
		u32 ax;                                                             \
		switch (size) {                                                     \
		case 2: SHD_ASM(insn "w", "w", a, b, n, ax); break;                 \
		case 4: SHD_ASM(insn "l", "k", a, b, n, ax); break;                 \
		default: SHD_ASM(insn "q", "q", a, b, n, ax); break;                \
		}                                                                   \
		*flags = flags_from_ax(ax);                                         \
		return a;                                                           \
	}
SHD(do_shld, "shld")
SHD(do_shrd, "shrd")

/* SHLD, SHRD: the count is op->imm, or CL when op->extra is set. */
#define SHD_FORMS(name, fn)                                                                       \
	ALWAYS_INLINE int name(struct interp *c, const struct op *op, unsigned size)              \
	{                                                                                         \
		unsigned n =                                                                      \
			(unsigned)(op->extra ? c->s->gpr[RCX] : op->imm) & (size == 8 ? 63 : 31); \
		u64 src = reg_get(c, op->src, size), fl = 0;                                      \
		struct rmw r = { 0 };                                                             \
		bool mem = op->flags & OPF_DST_MEM;                                               \
		if (mem)                                                                          \
			TRY_OP(rmw_begin(c, op, size, &r));                                       \
		else                                                                              \
			r.old = reg_get(c, op->dst, size);                                        \
		u64 v = n ? fn(r.old, src, n, size, &fl) : r.old;                                 \
		if (mem)                                                                          \
			rmw_end(c, op, size, &r, v);                                              \
		else                                                                              \
			reg_set(c, op->dst, size, v);                                             \
		if (n)                                                                            \
			set_flags(c, FLAGS_STATUS, fl);                                           \
		return OP_NEXT;                                                                   \
	}                                                                                         \
	SIZED(name);
SHD_FORMS(op_shld, do_shld)
SHD_FORMS(op_shrd, do_shrd)

/* ---- multiply and divide ---- */

ALWAYS_INLINE int source(struct interp *c, const struct op *op, unsigned size, u64 *v)
{
	if (op->flags & OPF_SRC_MEM)
		return mem_get(c, op, size, v);
	*v = reg_get(c, op->src, size);
	return X86_OK;
}

#define MUL_ASM(insn, w, lo, hi, b, fl)                  \
	__asm__(insn " %" w "[y]\n\tpushfq\n\tpopq %[f]" \
		: "+a"(lo), "+d"(hi), [f] "=r"(fl)       \
		: [y] "q"(b)                             \
		: "cc", "memory")

/* rDX:rAX = rAX * src, one width each; the byte form leaves everything in AX. Of the flags only CF
 * and OF are defined; the others stay, as on AMD's processors. */
#define MUL_FORMS(name, insn)                                                        \
	ALWAYS_INLINE int name(struct interp *c, const struct op *op, unsigned size) \
	{                                                                            \
		u64 b, fl, lo = c->s->gpr[RAX], hi = c->s->gpr[RDX];                 \
		TRY_OP(source(c, op, size, &b));                                     \
		switch (size) {                                                      \
		case 1: MUL_ASM(insn "b", "b", lo, hi, b, fl); break;                \
		case 2: MUL_ASM(insn "w", "w", lo, hi, b, fl); break;                \
		case 4: MUL_ASM(insn "l", "k", lo, hi, b, fl); break;                \
		default: MUL_ASM(insn "q", "q", lo, hi, b, fl); break;               \
		}                                                                    \
		c->s->gpr[RAX] = lo;                                                 \
		c->s->gpr[RDX] = hi;                                                 \
		set_flags(c, FLAG_CF | FLAG_OF, fl);                                 \
		return OP_NEXT;                                                      \
	}                                                                            \
	SIZED(name);
MUL_FORMS(op_mul, "mul")
MUL_FORMS(op_imul1, "imul")

#define IMUL_ASM(insn, w, a, b, ax)                      \
	__asm__(insn " %" w "[y], %" w "[x]" FLAGS_TO_AX \
		: [x] "+&r"(a), "=&a"(ax)                \
		: [y] "r"(b)                             \
		: "cc")
ALWAYS_INLINE u64 do_imul(u64 a, u64 b, unsigned size, u64 *flags)
{
	u32 ax;

	switch (size) {
	case 2: IMUL_ASM("imulw", "w", a, b, ax); break;
	case 4: IMUL_ASM("imull", "k", a, b, ax); break;
	default: IMUL_ASM("imulq", "q", a, b, ax); break;
	}
	*flags = flags_from_ax(ax);
	return a;
}

/* IMUL r, r/m and, with op->extra, IMUL r, r/m, imm. */
ALWAYS_INLINE int op_imul2(struct interp *c, const struct op *op, unsigned size)
{
	u64 b, fl;

	TRY_OP(source(c, op, size, &b));
	u64 a = op->extra ? op->imm : reg_get(c, op->dst, size);
	reg_set(c, op->dst, size, do_imul(a, b, size, &fl));
	set_flags(c, FLAG_CF | FLAG_OF, fl);
	return OP_NEXT;
}
SIZED(op_imul2);

static int divide_error(struct interp *c)
{
	x86_fault_plain(&c->v->x86, X86_DE);
	return OP_FAULT;
}

/* The flags stay as they are: undefined for the manuals, unchanged on the processors we know. */
ALWAYS_INLINE int op_div(struct interp *c, const struct op *op, unsigned size)
{
	u64 d;

	TRY_OP(source(c, op, size, &d));
	u128 n;
	if (size == 1)
		n = (u16)c->s->gpr[RAX];
	else
		n = (u128)reg_get(c, GPR_OFF(RDX), size) << (8 * size) |
		    reg_get(c, GPR_OFF(RAX), size);
	if (!d || n / d > mask_bytes(size))
		return divide_error(c);
	u64 q = (u64)(n / d), r = (u64)(n % d);
	if (size == 1) {
		reg_set(c, GPR_OFF(RAX), 2, r << 8 | q);
	} else {
		reg_set(c, GPR_OFF(RAX), size, q);
		reg_set(c, GPR_OFF(RDX), size, r);
	}
	return OP_NEXT;
}
SIZED(op_div);

ALWAYS_INLINE int op_idiv(struct interp *c, const struct op *op, unsigned size)
{
	u64 src;

	TRY_OP(source(c, op, size, &src));
	__int128 d = (s64)sign_extend(src, size), n;
	if (size == 1)
		n = (s16)c->s->gpr[RAX];
	else if (size == 8)
		n = (__int128)((u128)c->s->gpr[RDX] << 64 | c->s->gpr[RAX]);
	else
		n = (s64)sign_extend(reg_get(c, GPR_OFF(RDX), size) << (8 * size) |
					     reg_get(c, GPR_OFF(RAX), size),
			2 * size);
	/* -2^127 / -1 overflows the host's own division. */
	if (!d || (d == -1 && n == (__int128)((u128)1 << 127)))
		return divide_error(c);
	__int128 q = n / d, r = n % d;
	s64 limit = (s64)(mask_bytes(size) >> 1);
	if (q > limit || q < -(__int128)limit - 1)
		return divide_error(c);
	if (size == 1) {
		reg_set(c, GPR_OFF(RAX), 2, (u64)(u8)r << 8 | (u8)q);
	} else {
		reg_set(c, GPR_OFF(RAX), size, (u64)q);
		reg_set(c, GPR_OFF(RDX), size, (u64)r);
	}
	return OP_NEXT;
}
SIZED(op_idiv);

/* ---- bits ---- */

#define BIT_ASM(insn, w, a, n, ax)                       \
	__asm__(insn " %" w "[y], %" w "[x]" FLAGS_TO_AX \
		: [x] "+&r"(a), "=&a"(ax)                \
		: [y] "r"(n)                             \
		: "cc")
#define BITOP(name, insn)                                               \
	ALWAYS_INLINE u64 name(u64 a, u64 n, unsigned size, u64 *flags) \
	{                                                               \
		u32 ax;                                                 \
		switch (size) {                                         \
		case 2: BIT_ASM(insn "w", "w", a, n, ax); break;        \
		case 4: BIT_ASM(insn "l", "k", a, n, ax); break;        \
		default: BIT_ASM(insn "q", "q", a, n, ax); break;       \
		}                                                       \
		*flags = flags_from_ax(ax);                             \
		return a;                                               \
	}
BITOP(do_bt, "bt")
BITOP(do_bts, "bts")
BITOP(do_btr, "btr")
BITOP(do_btc, "btc")

/* Bit number: immediate (taken modulo the width), or a register (op->extra), which for a memory
 * operand reaches beyond it: the address moves by whole operands (SDM 2, BT). Only CF is defined,
 * and the others stay unchanged on the processors we know. */
#define BIT_FORMS(name, fn, store)                                                               \
	ALWAYS_INLINE int name(struct interp *c, const struct op *op, unsigned size)             \
	{                                                                                        \
		u64 n = op->extra ? sign_extend(reg_get(c, op->src, size), size) : op->imm, fl;  \
		if (op->flags & OPF_DST_MEM) {                                                   \
			struct op moved = *op;                                                   \
			struct rmw r;                                                            \
			if (op->extra)                                                           \
				moved.disp += ((s64)n >> (3 + __builtin_ctz(size))) * (s64)size; \
			if (store) {                                                             \
				u64 v;                                                           \
				TRY_OP(rmw_begin(c, &moved, size, &r));                          \
				do                                                               \
					v = fn(r.old, n, size, &fl);                             \
				while (!rmw_end(c, &moved, size, &r, v));                        \
			} else {                                                                 \
				TRY_OP(mem_get(c, &moved, size, &r.old));                        \
				fn(r.old, n, size, &fl);                                         \
			}                                                                        \
		} else {                                                                         \
			u64 v = fn(reg_get(c, op->dst, size), n, size, &fl);                     \
			if (store)                                                               \
				reg_set(c, op->dst, size, v);                                    \
		}                                                                                \
		set_flags(c, FLAG_CF, fl);                                                       \
		return OP_NEXT;                                                                  \
	}                                                                                        \
	SIZED(name);
BIT_FORMS(op_bt, do_bt, 0)
BIT_FORMS(op_bts, do_bts, 1)
BIT_FORMS(op_btr, do_btr, 1)
BIT_FORMS(op_btc, do_btc, 1)

#define SCAN_ASM(insn, w, a, b, ax)                      \
	__asm__(insn " %" w "[y], %" w "[x]" FLAGS_TO_AX \
		: [x] "+&r"(a), "=&a"(ax)                \
		: [y] "r"(b)                             \
		: "cc")

/* BSF, BSR of zero: ZF set, destination unchanged (AMD's documented, everyone's actual behaviour;
 * the 32-bit form does not clear the upper half then). */
#define SCAN_FORMS(name, insn)                                                       \
	ALWAYS_INLINE int name(struct interp *c, const struct op *op, unsigned size) \
	{                                                                            \
		u64 b, a = c->s->gpr[op->dst / 8];                                   \
		u32 ax;                                                              \
		TRY_OP(source(c, op, size, &b));                                     \
		switch (size) {                                                      \
		case 2: SCAN_ASM(insn "w", "w", a, b, ax); break;                    \
		case 4: SCAN_ASM(insn "l", "k", a, b, ax); break;                    \
		default: SCAN_ASM(insn "q", "q", a, b, ax); break;                   \
		}                                                                    \
		c->s->gpr[op->dst / 8] = a;                                          \
		set_flags(c, FLAGS_STATUS, flags_from_ax(ax));                       \
		return OP_NEXT;                                                      \
	}                                                                            \
	SIZED(name);
SCAN_FORMS(op_bsf, "bsf")
SCAN_FORMS(op_bsr, "bsr")

/* ---- compare and exchange ---- */

ALWAYS_INLINE int op_cmpxchg(struct interp *c, const struct op *op, unsigned size)
{
	u64 acc = reg_get(c, GPR_OFF(RAX), size), src = reg_get(c, op->src, size), fl;

	if (op->flags & OPF_DST_MEM) {
		struct rmw r;
		TRY_OP(rmw_begin(c, op, size, &r));
		while (!rmw_end(c, op, size, &r, r.old == acc ? src : r.old))
			;
		do_sub(acc, r.old, size, &fl);
		if (r.old != acc)
			reg_set(c, GPR_OFF(RAX), size, r.old);
	} else {
		u64 old = reg_get(c, op->dst, size);
		do_sub(acc, old, size, &fl);
		if (old == acc) {
			reg_set(c, op->dst, size, src);
		} else {
			/* The destination is not written: EDX's upper half stays. */
			reg_set(c, GPR_OFF(RAX), size, old);
		}
	}
	set_flags(c, FLAGS_STATUS, fl);
	return OP_NEXT;
}
SIZED(op_cmpxchg);

ALWAYS_INLINE int op_xadd(struct interp *c, const struct op *op, unsigned size)
{
	u64 src = reg_get(c, op->src, size), fl, v;

	if (op->flags & OPF_DST_MEM) {
		struct rmw r;
		TRY_OP(rmw_begin(c, op, size, &r));
		u64 old;
		do {
			old = r.old;
			v = do_add(old, src, size, &fl);
		} while (!rmw_end(c, op, size, &r, v));
		reg_set(c, op->src, size, old);
	} else {
		u64 old = reg_get(c, op->dst, size);
		v = do_add(old, src, size, &fl);
		reg_set(c, op->src, size, old);
		reg_set(c, op->dst, size, v);
	}
	set_flags(c, FLAGS_STATUS, fl);
	return OP_NEXT;
}
SIZED(op_xadd);

/* ---- decimal adjust (not in 64-bit code): the host cannot run these, so SDM 2's pseudocode ----
 */

static u64 parity_zero_sign(u8 v)
{
	return (u64)(__builtin_parity(v) ? 0 : FLAG_PF) | (v ? 0 : FLAG_ZF) |
	       (v & 0x80 ? FLAG_SF : 0);
}

int op_daa_das(struct interp *c, const struct op *op)
{
	bool subtract = op->extra;
	u8 al = (u8)c->s->gpr[RAX], old = al;
	u64 in = c->s->rflags, out = 0;

	if ((al & 15) > 9 || (in & FLAG_AF)) {
		if ((in & FLAG_CF) || (subtract ? al < 6 : al > 0xf9))
			out |= FLAG_CF;
		al = (u8)(subtract ? al - 6 : al + 6);
		out |= FLAG_AF;
	}
	if (old > 0x99 || (in & FLAG_CF)) {
		al = (u8)(subtract ? al - 0x60 : al + 0x60);
		out |= FLAG_CF;
	} else if (!subtract) {
		out &= ~FLAG_CF;
	}
	reg_set(c, GPR_OFF(RAX), 1, al);
	/* OF is undefined; it reads as 0 here. */
	set_flags(c, FLAGS_STATUS, out | parity_zero_sign(al));
	return OP_NEXT;
}

int op_aaa_aas(struct interp *c, const struct op *op)
{
	u16 ax = (u16)c->s->gpr[RAX];
	u64 out = 0;

	if ((ax & 15) > 9 || (c->s->rflags & FLAG_AF)) {
		ax = (u16)(op->extra ? ax - 0x106 : ax + 0x106);
		out = FLAG_AF | FLAG_CF;
	}
	ax &= 0xff0f;
	reg_set(c, GPR_OFF(RAX), 2, ax);
	set_flags(c, FLAGS_STATUS, out | parity_zero_sign((u8)ax));
	return OP_NEXT;
}

int op_aam(struct interp *c, const struct op *op)
{
	u8 al = (u8)c->s->gpr[RAX], base = (u8)op->imm;

	if (!base)
		return divide_error(c);
	reg_set(c, GPR_OFF(RAX), 2, (u64)(al / base) << 8 | al % base);
	set_flags(c, FLAGS_STATUS, parity_zero_sign((u8)(al % base)));
	return OP_NEXT;
}

int op_aad(struct interp *c, const struct op *op)
{
	u16 ax = (u16)c->s->gpr[RAX];
	u64 fl, al = do_add(ax & 0xff, (u8)((ax >> 8) * (u8)op->imm), 1, &fl);

	reg_set(c, GPR_OFF(RAX), 2, (u8)al);
	/* CF, AF and OF, undefined in the manuals, are those of the addition. */
	set_flags(c, FLAGS_STATUS, fl);
	return OP_NEXT;
}
