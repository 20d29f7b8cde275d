/* Control transfers. Near ones are here; what involves more than RIP is x86/transfer.c. */
#include "cpu/interpret/branch.h"
#include "cpu/interpret/move.h"
#include "x86/transfer.h"

/* A near target must be canonical, or within CS's limit outside 64-bit code. */
ALWAYS_INLINE int check_target(struct interp *c, u64 target)
{
	if (likely(c->code_bits == 64 && x86_canonical(target)))
		return X86_OK;
	return x86_check_rip(&c->v->x86, target);
}

ALWAYS_INLINE int go(struct interp *c, const struct op *op, u64 target)
{
	if (op->size < 8)
		target &= mask_bytes(op->size);
	TRY_OP(check_target(c, target));
	c->s->rip = target;
	return OP_JUMP;
}

static u64 relative(const struct interp *c, const struct op *op)
{
	return c->s->rip + op->length + op->imm;
}

int op_jmp(struct interp *c, const struct op *op) { return go(c, op, relative(c, op)); }

int op_jcc(struct interp *c, const struct op *op)
{
	return condition(c->s->rflags, op->extra) ? go(c, op, relative(c, op)) : OP_NEXT;
}

static u64 count_get(const struct interp *c, const struct op *op)
{
	return reg_get(c, GPR_OFF(RCX), op->asize);
}

int op_jcxz(struct interp *c, const struct op *op)
{
	return count_get(c, op) ? OP_NEXT : go(c, op, relative(c, op));
}

/* op->extra: 0 LOOP, 1 LOOPE, 2 LOOPNE. */
int op_loop(struct interp *c, const struct op *op)
{
	u64 old = c->s->gpr[RCX], left = count_get(c, op) - 1;
	bool zf = c->s->rflags & FLAG_ZF;

	reg_set(c, GPR_OFF(RCX), op->asize, left);
	if (!count_get(c, op) || (op->extra == 1 && !zf) || (op->extra == 2 && zf))
		return OP_NEXT;
	int r = go(c, op, relative(c, op));
	if (r == OP_FAULT)
		c->s->gpr[RCX] = old;
	return r;
}

/* For what does not go through push() and pop(): x86/ knows nothing of alignment checks. */
static int check_stack_alignment(struct interp *c, const struct op *op)
{
	if (unlikely(c->mmu.align) && c->s->gpr[RSP] & (op->size - 1u))
		return x86_fault_code(&c->v->x86, X86_AC, 0);
	return X86_OK;
}

/* A bad target leaves the stack alone; but a stack that cannot be written faults first. */
static int bad_target(struct interp *c, const struct op *op)
{
	struct x86_fault fault = c->v->x86.fault;
	u64 mask = x86_stack_mask(c->s);
	gva_t at;

	TRY_OP(x86_linear(&c->v->x86, X86_SS, (c->s->gpr[RSP] - op->size) & mask, op->size,
		ACCESS_WRITE, &at));
	TRY_OP(check_stack_alignment(c, op));
	TRY_OP(mmu_probe(&c->mmu, at.v, op->size, ACCESS_WRITE));
	c->v->x86.fault = fault;
	return OP_FAULT;
}

ALWAYS_INLINE int call(struct interp *c, const struct op *op, u64 target)
{
	if (op->size < 8)
		target &= mask_bytes(op->size);
	if (unlikely(check_target(c, target) != X86_OK))
		return bad_target(c, op);
	TRY_OP(push(c, c->s->rip + op->length, op->size));
	c->s->rip = target;
	return OP_JUMP;
}

int op_call(struct interp *c, const struct op *op) { return call(c, op, relative(c, op)); }

static int indirect(struct interp *c, const struct op *op, u64 *target)
{
	if (!(op->flags & OPF_SRC_MEM)) {
		*target = reg_get(c, op->src, op->size);
		return X86_OK;
	}
	switch (op->size) {
	case 2: return mem_get(c, op, 2, target);
	case 4: return mem_get(c, op, 4, target);
	default: return mem_get(c, op, 8, target);
	}
}

int op_jmp_ind(struct interp *c, const struct op *op)
{
	u64 target;

	TRY_OP(indirect(c, op, &target));
	return go(c, op, target);
}

int op_call_ind(struct interp *c, const struct op *op)
{
	u64 target;

	TRY_OP(indirect(c, op, &target));
	return call(c, op, target);
}

/* op->imm: bytes of arguments to release. */
int op_ret(struct interp *c, const struct op *op)
{
	u64 target;

	TRY_OP(stack_get(c, 0, op->size, &target));
	if (op->size < 8)
		target &= mask_bytes(op->size);
	TRY_OP(check_target(c, target));
	stack_add(c, (s64)(op->size + op->imm));
	c->s->rip = target;
	return OP_JUMP;
}

/* ---- far ---- */

/* Far pointer in memory, with an offset of op->extra bytes, or in the instruction (imm offset, aux
 * selector). */
static int far_pointer(struct interp *c, const struct op *op, u16 *selector, u64 *offset)
{
	u64 sel, ea = op_ea(c, op);

	if (!(op->flags & OPF_SRC_MEM)) {
		*selector = (u16)(uintptr_t)op->aux;
		*offset = op->imm;
		return X86_OK;
	}
	TRY(mem_read_slow(c, op->seg, ea, op->extra, offset));
	TRY(mem_read_slow(c, op->seg, (ea + op->extra) & mask_bytes(op->asize), 2, &sel));
	*selector = (u16)sel;
	return X86_OK;
}

static int transferred(struct interp *c, int result)
{
	TRY_OP(result);
	interp_refresh(c);
	return OP_JUMP;
}

int op_jmp_far(struct interp *c, const struct op *op)
{
	u16 selector;
	u64 offset;

	interp_count(c, X86_CONTROL_SENSITIVE);
	TRY_OP(far_pointer(c, op, &selector, &offset));
	return transferred(c, x86_jmp_far(&c->v->x86, selector, offset, op->size, next_rip(c, op)));
}

int op_call_far(struct interp *c, const struct op *op)
{
	u16 selector;
	u64 offset;

	interp_count(c, X86_CONTROL_SENSITIVE);
	TRY_OP(far_pointer(c, op, &selector, &offset));
	TRY_OP(check_stack_alignment(c, op));
	return transferred(
		c, x86_call_far(&c->v->x86, selector, offset, op->size, next_rip(c, op)));
}

int op_ret_far(struct interp *c, const struct op *op)
{
	interp_count(c, X86_CONTROL_SENSITIVE);
	TRY_OP(check_stack_alignment(c, op));
	return transferred(c, x86_ret_far(&c->v->x86, op->size, (u16)op->imm));
}

int op_iret(struct interp *c, const struct op *op)
{
	interp_count(c, X86_CONTROL_SENSITIVE);
	TRY_OP(check_stack_alignment(c, op));
	return transferred(c, x86_iret(&c->v->x86, op->size));
}

int op_int(struct interp *c, const struct op *op)
{
	enum x86_event kind = op->extra ? X86_EVENT_INT3_INTO : X86_EVENT_INT_N;

	interp_count(c, X86_CONTROL_SENSITIVE);
	return transferred(
		c, x86_software_interrupt(&c->v->x86, (u8)op->imm, kind, next_rip(c, op)));
}

int op_into(struct interp *c, const struct op *op)
{
	if (!(c->s->rflags & FLAG_OF))
		return OP_NEXT;
	return transferred(c,
		x86_software_interrupt(&c->v->x86, X86_OF, X86_EVENT_INT3_INTO, next_rip(c, op)));
}

int op_int1(struct interp *c, const struct op *op)
{
	interp_count(c, X86_CONTROL_SENSITIVE);
	return transferred(
		c, x86_software_interrupt(&c->v->x86, X86_DB, X86_EVENT_INT1, next_rip(c, op)));
}

int op_syscall(struct interp *c, const struct op *op)
{
	interp_count(c, X86_CONTROL_SENSITIVE);
	return transferred(c, x86_syscall(&c->v->x86, next_rip(c, op)));
}
/* TF as just restored traps before the next instruction, as if it had been set all along. */
int op_sysret(struct interp *c, const struct op *op)
{
	interp_count(c, X86_PRIVILEGED);
	TRY_OP(x86_sysret(&c->v->x86, op->size));
	if (c->s->rflags & FLAG_TF)
		c->pending_dr6 |= DR6_BS;
	return transferred(c, X86_OK);
}

int op_sysenter(struct interp *c, const struct op *op)
{
	interp_count(c, X86_CONTROL_SENSITIVE);
	return transferred(c, x86_sysenter(&c->v->x86));
}

int op_sysexit(struct interp *c, const struct op *op)
{
	interp_count(c, X86_PRIVILEGED);
	return transferred(c, x86_sysexit(&c->v->x86, op->size));
}
