/* Data movement: registers, memory, stack, flags. */
#include "cpu/interpret/move.h"

/* ---- mov ---- */

ALWAYS_INLINE int mov_rr(struct interp *c, const struct op *op, unsigned size)
{
	reg_set(c, op->dst, size, reg_get(c, op->src, size));
	return OP_NEXT;
}
ALWAYS_INLINE int mov_ri(struct interp *c, const struct op *op, unsigned size)
{
	reg_set(c, op->dst, size, op->imm);
	return OP_NEXT;
}
ALWAYS_INLINE int mov_rm(struct interp *c, const struct op *op, unsigned size)
{
	u64 v;

	TRY_OP(mem_get(c, op, size, &v));
	reg_set(c, op->dst, size, v);
	return OP_NEXT;
}
ALWAYS_INLINE int mov_mr(struct interp *c, const struct op *op, unsigned size)
{
	TRY_OP(mem_put(c, op, size, reg_get(c, op->src, size)));
	return OP_NEXT;
}
ALWAYS_INLINE int mov_mi(struct interp *c, const struct op *op, unsigned size)
{
	TRY_OP(mem_put(c, op, size, op->imm));
	return OP_NEXT;
}
SIZED_STATIC(mov_rr);
SIZED_STATIC(mov_ri);
SIZED_STATIC(mov_rm);
SIZED_STATIC(mov_mr);
SIZED_STATIC(mov_mi);
const struct binary_set op_mov_set = { mov_rr_by_size, mov_ri_by_size, mov_rm_by_size,
	mov_mr_by_size, mov_mi_by_size };

/* op->extra: the source's size. */
ALWAYS_INLINE int narrow_source(struct interp *c, const struct op *op, u64 *v)
{
	if (!(op->flags & OPF_SRC_MEM))
		*v = reg_get(c, op->src, op->extra);
	else if (op->extra == 1)
		return mem_get(c, op, 1, v);
	else if (op->extra == 2)
		return mem_get(c, op, 2, v);
	else
		return mem_get(c, op, 4, v);
	return X86_OK;
}

ALWAYS_INLINE int op_movzx(struct interp *c, const struct op *op, unsigned size)
{
	u64 v;

	TRY_OP(narrow_source(c, op, &v));
	reg_set(c, op->dst, size, v);
	return OP_NEXT;
}
SIZED(op_movzx);

ALWAYS_INLINE int op_movsx(struct interp *c, const struct op *op, unsigned size)
{
	u64 v;

	TRY_OP(narrow_source(c, op, &v));
	reg_set(c, op->dst, size, sign_extend(v, op->extra));
	return OP_NEXT;
}
SIZED(op_movsx);

ALWAYS_INLINE int op_lea(struct interp *c, const struct op *op, unsigned size)
{
	reg_set(c, op->dst, size, op_ea(c, op));
	return OP_NEXT;
}
SIZED(op_lea);

/* XCHG with memory is locked without a prefix: the decoder sets OPF_LOCK. */
ALWAYS_INLINE int op_xchg(struct interp *c, const struct op *op, unsigned size)
{
	u64 src = reg_get(c, op->src, size);

	if (op->flags & OPF_DST_MEM) {
		struct rmw r;
		TRY_OP(rmw_begin(c, op, size, &r));
		while (!rmw_end(c, op, size, &r, src))
			;
		reg_set(c, op->src, size, r.old);
	} else {
		reg_set(c, op->src, size, reg_get(c, op->dst, size));
		reg_set(c, op->dst, size, src);
	}
	return OP_NEXT;
}
SIZED(op_xchg);

/* The 16-bit form is undefined; processors clear the register's low half. */
ALWAYS_INLINE int op_bswap(struct interp *c, const struct op *op, unsigned size)
{
	u64 v = reg_get(c, op->dst, size);

	reg_set(c, op->dst, size,
		size == 8   ? __builtin_bswap64(v)
		: size == 4 ? __builtin_bswap32((u32)v)
			    : 0);
	return OP_NEXT;
}
SIZED(op_bswap);

/* The source is read, and may fault, whether or not the condition holds; a 32-bit destination is
 * zero-extended either way. */
ALWAYS_INLINE int op_cmov(struct interp *c, const struct op *op, unsigned size)
{
	u64 v;

	if (op->flags & OPF_SRC_MEM)
		TRY_OP(mem_get(c, op, size, &v));
	else
		v = reg_get(c, op->src, size);
	if (!condition(c->s->rflags, op->extra))
		v = reg_get(c, op->dst, size);
	reg_set(c, op->dst, size, v);
	return OP_NEXT;
}
SIZED(op_cmov);

int op_setcc(struct interp *c, const struct op *op)
{
	u64 v = condition(c->s->rflags, op->extra);

	if (op->flags & OPF_DST_MEM)
		TRY_OP(mem_put(c, op, 1, v));
	else
		reg_set(c, op->dst, 1, v);
	return OP_NEXT;
}

int op_nop(struct interp *c, const struct op *op) { return OP_NEXT; }

/* CBW, CWDE, CDQE: op->size is the destination's. */
int op_cbw(struct interp *c, const struct op *op)
{
	unsigned from = op->size / 2;

	reg_set(c, GPR_OFF(RAX), op->size, sign_extend(reg_get(c, GPR_OFF(RAX), from), from));
	return OP_NEXT;
}

/* CWD, CDQ, CQO */
int op_cwd(struct interp *c, const struct op *op)
{
	u64 v = sign_extend(reg_get(c, GPR_OFF(RAX), op->size), op->size);

	reg_set(c, GPR_OFF(RDX), op->size, (s64)v < 0 ? ~0ull : 0);
	return OP_NEXT;
}

/* CLC, STC, CLD, STD: op->imm is the flag, op->extra its new value; CMC: extra 2. */
int op_flag(struct interp *c, const struct op *op)
{
	if (op->extra == 2)
		c->s->rflags ^= op->imm;
	else if (op->extra)
		c->s->rflags |= op->imm;
	else
		c->s->rflags &= ~op->imm;
	return OP_NEXT;
}

int op_lahf(struct interp *c, const struct op *op)
{
	reg_set(c, 1, 1, (c->s->rflags & 0xd5) | FLAG_ONE);
	return OP_NEXT;
}

int op_sahf(struct interp *c, const struct op *op)
{
	c->s->rflags = (c->s->rflags & ~0xd5ull) | (reg_get(c, 1, 1) & 0xd5);
	return OP_NEXT;
}

int op_salc(struct interp *c, const struct op *op)
{
	reg_set(c, GPR_OFF(RAX), 1, c->s->rflags & FLAG_CF ? 0xff : 0);
	return OP_NEXT;
}

/* CLZERO: the 64-byte line at rAX (APM 3). */
int op_clzero(struct interp *c, const struct op *op)
{
	static const u8 zero[64];
	u64 ea = reg_get(c, GPR_OFF(RAX), op->asize);
	gva_t at;

	TRY_OP(x86_linear(&c->v->x86, (enum x86_segreg)op->seg, ea, 1, ACCESS_WRITE, &at));
	TRY_OP(mmu_write(
		&c->mmu, align_down(at.v, sizeof(zero)), zero, sizeof(zero), ACCESS_WRITE));
	return OP_NEXT;
}

int op_xlat(struct interp *c, const struct op *op)
{
	u64 ea = c->s->gpr[RBX] + (u8)c->s->gpr[RAX], v;

	if (op->asize < 8)
		ea &= mask_bytes(op->asize);
	TRY_OP(mem_read_slow(c, op->seg, ea, 1, &v));
	reg_set(c, GPR_OFF(RAX), 1, v);
	return OP_NEXT;
}

/* ---- stack ---- */

ALWAYS_INLINE int op_push_reg(struct interp *c, const struct op *op, unsigned size)
{
	TRY_OP(push(c, reg_get(c, op->dst, size), size));
	return OP_NEXT;
}
SIZED(op_push_reg);

ALWAYS_INLINE int op_push_imm(struct interp *c, const struct op *op, unsigned size)
{
	TRY_OP(push(c, op->imm, size));
	return OP_NEXT;
}
SIZED(op_push_imm);

ALWAYS_INLINE int op_push_mem(struct interp *c, const struct op *op, unsigned size)
{
	u64 v;

	TRY_OP(mem_get(c, op, size, &v));
	TRY_OP(push(c, v, size));
	return OP_NEXT;
}
SIZED(op_push_mem);

/* POP RSP: the popped value wins over the increment. */
ALWAYS_INLINE int op_pop_reg(struct interp *c, const struct op *op, unsigned size)
{
	u64 v;

	TRY_OP(pop(c, size, &v));
	reg_set(c, op->dst, size, v);
	return OP_NEXT;
}
SIZED(op_pop_reg);

/* The address is computed after RSP has been incremented (SDM 2, POP). */
ALWAYS_INLINE int op_pop_mem(struct interp *c, const struct op *op, unsigned size)
{
	u64 v, sp = c->s->gpr[RSP];

	TRY_OP(stack_get(c, 0, size, &v));
	stack_add(c, size);
	if (mem_put(c, op, size, v) != X86_OK) {
		c->s->gpr[RSP] = sp;
		return OP_FAULT;
	}
	return OP_NEXT;
}
SIZED(op_pop_mem);

int op_pusha(struct interp *c, const struct op *op)
{
	u64 sp = c->s->gpr[RSP];

	for (unsigned r = RAX; r <= RDI; r++) {
		if (push(c, r == RSP ? sp : c->s->gpr[r], op->size) != X86_OK) {
			c->s->gpr[RSP] = sp;
			return OP_FAULT;
		}
	}
	return OP_NEXT;
}

int op_popa(struct interp *c, const struct op *op)
{
	u64 v[8];

	for (unsigned i = 0; i < 8; i++)
		TRY_OP(stack_get(c, i * op->size, op->size, &v[i]));
	stack_add(c, 8 * op->size);
	for (unsigned i = 0; i < 8; i++)
		if (7 - i != RSP)
			reg_set(c, GPR_OFF(7 - i), op->size, v[i]);
	return OP_NEXT;
}

/* op->imm: bytes of locals; op->extra: nesting level. */
int op_enter(struct interp *c, const struct op *op)
{
	u64 sp = c->s->gpr[RSP], bp = c->s->gpr[RBP], mask = x86_stack_mask(c->s), v, frame;
	unsigned level = op->extra & 31, size = op->size;

	if (push(c, bp, size) != X86_OK)
		return OP_FAULT;
	frame = c->s->gpr[RSP];
	for (unsigned i = 1; i < level; i++) {
		bp -= size;
		if (mem_read_slow(c, X86_SS, bp & mask, size, &v) != X86_OK ||
			push(c, v, size) != X86_OK)
			goto undo;
	}
	if (level && push(c, frame, size) != X86_OK)
		goto undo;
	stack_add(c, -(s64)op->imm);
	/* SDM 2, ENTER: the new top must be writable, though nothing is written. */
	u64 probe;
	gva_t at;
	if (unlikely(c->mmu.align) && c->s->gpr[RSP] & (size - 1)) {
		x86_fault_code(&c->v->x86, X86_AC, 0);
		goto undo;
	}
	if (x86_linear(&c->v->x86, X86_SS, c->s->gpr[RSP] & mask, size, ACCESS_WRITE, &at) !=
			X86_OK ||
		mmu_probe(&c->mmu, at.v, size, ACCESS_WRITE) != X86_OK)
		goto undo;
	probe = reg_get(c, GPR_OFF(RBP), 8);
	reg_set(c, GPR_OFF(RBP), size, (size == 8 ? frame : (probe & ~mask) | (frame & mask)));
	return OP_NEXT;
undo:
	c->s->gpr[RSP] = sp;
	return OP_FAULT;
}

int op_leave(struct interp *c, const struct op *op)
{
	u64 mask = x86_stack_mask(c->s), sp = c->s->gpr[RSP], v;

	c->s->gpr[RSP] = (sp & ~mask) | (c->s->gpr[RBP] & mask);
	if (pop(c, op->size, &v) != X86_OK) {
		c->s->gpr[RSP] = sp;
		return OP_FAULT;
	}
	reg_set(c, GPR_OFF(RBP), op->size, v);
	return OP_NEXT;
}

/* ---- 32-bit leftovers ---- */

int op_bound(struct interp *c, const struct op *op)
{
	u64 lo, hi, ea = op_ea(c, op);
	s64 index = (s64)sign_extend(reg_get(c, op->dst, op->size), op->size);

	TRY_OP(mem_read_slow(c, op->seg, ea, op->size, &lo));
	TRY_OP(mem_read_slow(c, op->seg, (ea + op->size) & mask_bytes(op->asize), op->size, &hi));
	if (index < (s64)sign_extend(lo, op->size) || index > (s64)sign_extend(hi, op->size)) {
		x86_fault_plain(&c->v->x86, X86_BR);
		return OP_FAULT;
	}
	return OP_NEXT;
}

int op_arpl(struct interp *c, const struct op *op)
{
	u64 rpl = reg_get(c, op->src, 2) & 3, sel;

	if (x86_real_segments(c->s)) {
		x86_ud(&c->v->x86);
		return OP_FAULT;
	}
	if (op->flags & OPF_DST_MEM)
		TRY_OP(mem_get(c, op, 2, &sel));
	else
		sel = reg_get(c, op->dst, 2);
	bool raise = (sel & 3) < rpl;
	u64 out = (sel & ~3ull) | rpl;
	if (raise && op->flags & OPF_DST_MEM)
		TRY_OP(mem_put(c, op, 2, out));
	else if (raise)
		reg_set(c, op->dst, 2, out);
	c->s->rflags = (c->s->rflags & ~FLAG_ZF) | (raise ? FLAG_ZF : 0);
	return OP_NEXT;
}

/* ---- wide compare and exchange ---- */

int op_cmpxchg8b(struct interp *c, const struct op *op)
{
	u64 expect = (u64)(u32)c->s->gpr[RDX] << 32 | (u32)c->s->gpr[RAX];
	u64 new = (u64)(u32)c->s->gpr[RCX] << 32 | (u32)c->s->gpr[RBX];
	struct rmw r;

	TRY_OP(rmw_begin(c, op, 8, &r));
	while (!rmw_end(c, op, 8, &r, r.old == expect ? new : r.old))
		;
	if (r.old == expect) {
		c->s->rflags |= FLAG_ZF;
	} else {
		c->s->rflags &= ~FLAG_ZF;
		reg_set(c, GPR_OFF(RAX), 4, r.old);
		reg_set(c, GPR_OFF(RDX), 4, r.old >> 32);
	}
	return OP_NEXT;
}

/* Aligned, so never across a page: atomic whenever it is RAM. */
int op_cmpxchg16b(struct interp *c, const struct op *op)
{
	struct x86_state *s = c->s;
	u64 at;
	gva_t lin;
	int result;

	/* Only 64-bit code has it; alignment comes before the canonical form. */
	if (op_linear64(c, op) & 15) {
		x86_gp(&c->v->x86, 0);
		return OP_FAULT;
	}
	TRY_OP(x86_linear(
		&c->v->x86, (enum x86_segreg)op->seg, op_ea(c, op), 16, ACCESS_WRITE, &lin));
	at = lin.v;
	u128 expect = (u128)s->gpr[RDX] << 64 | s->gpr[RAX];
	u128 new = (u128)s->gpr[RCX] << 64 | s->gpr[RBX], old = 0;
	struct mmu_entry *e = mmu_fill(&c->mmu, at, ACCESS_WRITE, &result);

	TRY_OP(result);
	if (e) {
		u128 *p = (u128 *)(void *)(e->host + (at & PAGE_MASK));
		u64 lo = (u64)expect, hi = (u64)(expect >> 64);
		__asm__ volatile("lock cmpxchg16b %0"
				 : "+m"(*p), "+a"(lo), "+d"(hi)
				 : "b"((u64) new), "c"((u64)(new >> 64))
				 : "cc", "memory");
		old = (u128)hi << 64 | lo;
		mmu_stored(&c->mmu, e, at, 16);
	} else {
		TRY_OP(mmu_read(&c->mmu, at, &old, 16, ACCESS_READ));
		u128 out = old == expect ? new : old;
		TRY_OP(mmu_write(&c->mmu, at, &out, 16, ACCESS_WRITE));
	}
	if (old == expect) {
		s->rflags |= FLAG_ZF;
	} else {
		s->rflags &= ~FLAG_ZF;
		s->gpr[RAX] = (u64)old;
		s->gpr[RDX] = (u64)(old >> 64);
	}
	return OP_NEXT;
}
