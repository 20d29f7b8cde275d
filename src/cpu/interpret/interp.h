/*
 * What the interpreter's files share: the decoded instruction, the engine's state, and the
 * accessors for registers and memory that every handler is built from.
 *
 * A handler executes one decoded instruction and returns
 *   OP_NEXT   done; the loop advances RIP by the instruction's length
 *   OP_JUMP   done; the handler has set RIP (also: one step of a REP instruction, RIP unchanged)
 *   OP_FAULT  x86_fault prepared; nothing architectural changed, RIP still at the instruction
 *   OP_EXIT   like OP_JUMP, and run() returns c->exit
 * so that the interrupt and exception points are exactly the instruction boundaries.
 *
 * Templates: handlers for several operand sizes are written once as an always-inline function with
 * a `size` parameter and instantiated by SIZED(); the decoder picks the instance.
 */
#pragma once
#include "base/bits.h"
#include "base/counter.h"
#include "cpu/code_map.h"
#include "cpu/interpret/interpret.h"
#include "cpu/mmu.h"
#include "x86/exception.h"
#include "x86/mode.h"
#include "x86/segment.h"

enum op_result { OP_NEXT, OP_JUMP, OP_FAULT, OP_EXIT };

struct interp;
struct op;
struct native;
typedef int op_fn(struct interp *c, const struct op *op);

#define REG_NONE 0xff
#define DR6_BS	 BIT64(14)
#define BASE_RIP 16 /* as a base: gpr[16] is rip in struct x86_state */

/* op.flags */
#define OPF_CODE64  BIT(0) /* decoded in 64-bit code */
#define OPF_LOCK    BIT(1) /* memory destination must be updated atomically */
#define OPF_REP	    BIT(2) /* REP or REPE */
#define OPF_REPNE   BIT(3)
#define OPF_DST_MEM BIT(4)
#define OPF_SRC_MEM BIT(5)
#define OPF_END	    BIT(6) /* last of its block: control transfer, or mode may have changed */
#define OPF_REX_W   BIT(7)

struct op {
	op_fn *exec;
	u64 imm;
	s64 disp;
	const void *aux; /* per handler: struct native, a second immediate, ... */
	u16 flags;
	u8 length;   /* bytes */
	u8 size;     /* operand size in bytes */
	u8 asize;    /* address size in bytes: 2, 4 or 8 */
	u8 seg;	     /* enum x86_segreg of the memory operand */
	u8 dst, src; /* registers as byte offsets into gpr[] (AH is 1), or other register numbers */
	u8 base, index, shift;
	u8 extra; /* condition code, control register number, ... */
};

/* Decoded blocks: blocks.h. */
struct block;
#define JUMP_CACHE 8192u

struct jump_entry {
	u64 rip;
	u64 epoch;
	struct block *block;
};

/* What an engine built on the interpreter wants to hear. NULL members: nobody listens. */
struct interp_hooks {
	void (*dropped)(void *ctx); /* every decoded thing is void (also stubs) */
	void *ctx;
};

struct interp {
	struct vcpu *v;
	struct x86_state *s;
	counter retired;    /* since open, by the vcpu's thread */
	bool slow;	    /* single-step: TF, RF, shadows, breakpoints, tracing */
	enum cpu_exit exit; /* with OP_EXIT */
	u8 code_bits;	    /* 16, 32, 64: how code decodes now */
	u64 ip_mask;
	u64 block_epoch; /* bumped when any block dies: jump cache entries of older epochs are void
			  */
	u64 pending_dr6; /* debug traps due before the next instruction, unless a MOV SS shadow is
			    open */
	struct interp_hooks hooks;
	struct code_map code; /* what is decoded, by physical page */
	struct blocks *blocks;
	struct natives *natives;
	struct mmu mmu;
	struct jump_entry jump[JUMP_CACHE];
};

/* After anything that may have changed the mode, CPL, AC, or what must be single-stepped. */
void interp_refresh(struct interp *c);

/*
 * The run loop's parts, for engines that fall back on the interpreter. attend() looks at every
 * attention bit, step() runs one instruction with all its checks, run_block() one decoded run;
 * attend() and step() return true, run_block() false, when run() must return c->exit. idle(): the
 * processor is not executing.
 */
struct interp *interp_new(struct vcpu *v, struct err *err);
void interp_free(struct interp *c);
bool interp_attend(struct interp *c);
bool interp_step(struct interp *c);
bool interp_run_block(struct interp *c);
bool interp_idle(struct interp *c);
void interp_deliver(struct interp *c); /* the fault in x86.fault */

/* For --stats: called by the handlers of what x86/sensitivity.c lists. */
ALWAYS_INLINE void interp_count(struct interp *c, enum x86_sensitivity class)
{
	c->v->stats.sensitive[class]++;
}

/* ---- registers ---- */

_Static_assert(offsetof(struct x86_state, rip) == offsetof(struct x86_state, gpr) + 8 * BASE_RIP,
	"RIP-relative operands read gpr[16]");

ALWAYS_INLINE u64 reg_get(const struct interp *c, unsigned off, unsigned size)
{
	const u8 *p = (const u8 *)c->s->gpr + off;

	switch (size) {
	case 1: return *p;
	case 2: return *(const u16 *)(const void *)p;
	case 4: return *(const u32 *)(const void *)p;
	default: return *(const u64 *)(const void *)p;
	}
}

/* 32-bit results zero the upper half; 8- and 16-bit ones leave the rest (SDM 1 3.4.1.1). */
ALWAYS_INLINE void reg_set(struct interp *c, unsigned off, unsigned size, u64 value)
{
	u8 *p = (u8 *)c->s->gpr + off;

	switch (size) {
	case 1: *p = (u8)value; break;
	case 2: *(u16 *)(void *)p = (u16)value; break;
	case 4: *(u64 *)(void *)p = (u32)value; break;
	default: *(u64 *)(void *)p = value; break;
	}
}

#define GPR_OFF(r) ((unsigned)(r)*8u)

/* ---- memory ---- */

/* A register as part of an address; BASE_RIP too, which is why gpr[] itself is not indexed. */
ALWAYS_INLINE u64 address_reg(const struct interp *c, unsigned r)
{
	return get_le64((const u8 *)c->s + offsetof(struct x86_state, gpr) + 8 * r);
}

/* The effective address, before the segment base. */
ALWAYS_INLINE u64 op_ea(const struct interp *c, const struct op *op)
{
	u64 ea = (u64)op->disp;

	if (op->base != REG_NONE)
		ea += address_reg(c, op->base);
	if (op->index != REG_NONE)
		ea += c->s->gpr[op->index] << op->shift;
	if (op->asize == 4)
		ea = (u32)ea;
	else if (op->asize == 2)
		ea = (u16)ea;
	return ea;
}

/* 64-bit code: only FS and GS have a base. Not canonical? Then no TLB entry matches and the slow
 * path raises the fault. */
ALWAYS_INLINE u64 op_linear64(const struct interp *c, const struct op *op)
{
	u64 ea = op_ea(c, op);

	return op->seg >= X86_FS ? ea + c->s->seg[op->seg].base : ea;
}

int mem_read_slow(struct interp *c, unsigned seg, u64 ea, unsigned size, u64 *value);
int mem_write_slow(struct interp *c, unsigned seg, u64 ea, unsigned size, u64 value);

ALWAYS_INLINE u64 host_get(const u8 *p, unsigned size)
{
	switch (size) {
	case 1: return *p;
	case 2: return *(const volatile u16_any *)p;
	case 4: return *(const volatile u32_any *)p;
	default: return *(const volatile u64_any *)p;
	}
}

ALWAYS_INLINE void host_put(u8 *p, unsigned size, u64 value)
{
	switch (size) {
	case 1: *(volatile u8 *)p = (u8)value; break;
	case 2: *(volatile u16_any *)p = (u16)value; break;
	case 4: *(volatile u32_any *)p = (u32)value; break;
	default: *(volatile u64_any *)p = value; break;
	}
}

/* The memory operand of op. */
ALWAYS_INLINE int mem_get(struct interp *c, const struct op *op, unsigned size, u64 *value)
{
	if (likely(op->flags & OPF_CODE64)) {
		u64 at = op_linear64(c, op);
		struct mmu_entry *e = mmu_find(&c->mmu, at, size, MMU_READ);

		if (likely(e)) {
			*value = host_get(e->host + (at & PAGE_MASK), size);
			return X86_OK;
		}
	}
	return mem_read_slow(c, op->seg, op_ea(c, op), size, value);
}

ALWAYS_INLINE int mem_put(struct interp *c, const struct op *op, unsigned size, u64 value)
{
	if (likely(op->flags & OPF_CODE64)) {
		u64 at = op_linear64(c, op);
		struct mmu_entry *e = mmu_find(&c->mmu, at, size, MMU_WRITE);

		if (likely(e)) {
			host_put(e->host + (at & PAGE_MASK), size, value);
			mmu_stored(&c->mmu, e, at, size);
			return X86_OK;
		}
	}
	return mem_write_slow(c, op->seg, op_ea(c, op), size, value);
}

/*
 * Read-modify-write: rmw_begin() checks write access and reads; rmw_end() stores. With OPF_LOCK the
 * store is a compare-exchange and rmw_end() returns false when the old value was gone: compute
 * again from rmw->old. Locked accesses that cross a page or hit a device are not atomic.
 */
struct rmw {
	u64 old;
	u64 at;		     /* linear */
	struct mmu_entry *e; /* NULL: slow */
};
int rmw_begin_slow(struct interp *c, const struct op *op, unsigned size, struct rmw *r);
int rmw_end_slow(struct interp *c, unsigned size, struct rmw *r, u64 value);

ALWAYS_INLINE int rmw_begin(struct interp *c, const struct op *op, unsigned size, struct rmw *r)
{
	if (likely(op->flags & OPF_CODE64)) {
		r->at = op_linear64(c, op);
		r->e = mmu_find(&c->mmu, r->at, size, MMU_WRITE);
		if (likely(r->e)) {
			r->old = host_get(r->e->host + (r->at & PAGE_MASK), size);
			return X86_OK;
		}
	}
	return rmw_begin_slow(c, op, size, r);
}

/* In assembly because the __atomic builtins promise natural alignment, and Clang calls a library
 * without it. */
#define HOST_CAS(type, p, old, value, ok)                                \
	__asm__ volatile("lock cmpxchg %3, %0"                           \
			 : "+m"(*(type *)(p)), "+a"(*(old)), "=@ccz"(ok) \
			 : "r"((type)(value))                            \
			 : "memory")

/* Stores value if *old is there, else says in *old what is: whole `size` bytes, zero-extended. */
ALWAYS_INLINE bool host_cas(u8 *p, unsigned size, u64 *old, u64 value)
{
	bool ok;

	switch (size) {
	case 1: {
		u8 o = (u8)*old;
		HOST_CAS(u8, p, &o, value, ok);
		*old = o;
		return ok;
	}
	case 2: {
		u16 o = (u16)*old;
		HOST_CAS(u16_any, p, &o, value, ok);
		*old = o;
		return ok;
	}
	case 4: {
		u32 o = (u32)*old;
		HOST_CAS(u32_any, p, &o, value, ok);
		*old = o;
		return ok;
	}
	default: HOST_CAS(u64_any, p, old, value, ok); return ok;
	}
}

/* Returns false when a locked update must be tried again with the new r->old. Cannot fault. */
ALWAYS_INLINE bool rmw_end(
	struct interp *c, const struct op *op, unsigned size, struct rmw *r, u64 value)
{
	if (unlikely(!r->e)) {
		rmw_end_slow(c, size, r, value);
		return true;
	}
	u8 *p = r->e->host + (r->at & PAGE_MASK);
	if (op->flags & OPF_LOCK) {
		if (!host_cas(p, size, &r->old, value))
			return false;
	} else {
		host_put(p, size, value);
	}
	mmu_stored(&c->mmu, r->e, r->at, size);
	return true;
}

/* ---- stack ---- */

int push_slow(struct interp *c, u64 value, unsigned size);
int stack_read_slow(struct interp *c, u64 offset, unsigned size, u64 *value);

ALWAYS_INLINE int push(struct interp *c, u64 value, unsigned size)
{
	if (likely(c->code_bits == 64)) {
		u64 at = c->s->gpr[RSP] - size;
		struct mmu_entry *e = mmu_find(&c->mmu, at, size, MMU_WRITE);

		if (likely(e)) {
			host_put(e->host + (at & PAGE_MASK), size, value);
			mmu_stored(&c->mmu, e, at, size);
			c->s->gpr[RSP] = at;
			return X86_OK;
		}
	}
	return push_slow(c, value, size);
}

/* Reads at RSP + offset without moving RSP. */
ALWAYS_INLINE int stack_get(struct interp *c, u64 offset, unsigned size, u64 *value)
{
	if (likely(c->code_bits == 64)) {
		u64 at = c->s->gpr[RSP] + offset;
		struct mmu_entry *e = mmu_find(&c->mmu, at, size, MMU_READ);

		if (likely(e)) {
			*value = host_get(e->host + (at & PAGE_MASK), size);
			return X86_OK;
		}
	}
	return stack_read_slow(c, offset, size, value);
}

/* Adds to the stack pointer within the stack's width. */
ALWAYS_INLINE void stack_add(struct interp *c, s64 n)
{
	u64 mask = c->code_bits == 64 ? ~0ull : x86_stack_mask(c->s);
	u64 sp = c->s->gpr[RSP];

	c->s->gpr[RSP] = (sp & ~mask) | ((sp + (u64)n) & mask);
}

ALWAYS_INLINE int pop(struct interp *c, unsigned size, u64 *value)
{
	TRY(stack_get(c, 0, size, value));
	stack_add(c, size);
	return X86_OK;
}

/* ---- templates ---- */

#define TRY_OP(expr)                            \
	do {                                    \
		if (unlikely((expr) != X86_OK)) \
			return OP_FAULT;        \
	} while (0)

/* Instances name_by_size[log2 size] of an ALWAYS_INLINE `int name(c, op, size)`. */
#define SIZED_(name, linkage)                                                                 \
	static int name##_1(struct interp *c, const struct op *op) { return name(c, op, 1); } \
	static int name##_2(struct interp *c, const struct op *op) { return name(c, op, 2); } \
	static int name##_4(struct interp *c, const struct op *op) { return name(c, op, 4); } \
	static int name##_8(struct interp *c, const struct op *op) { return name(c, op, 8); } \
	linkage op_fn *const name##_by_size[4] = { name##_1, name##_2, name##_4, name##_8 }
#define SIZED(name)	   SIZED_(name, )
#define SIZED_STATIC(name) SIZED_(name, static)

static inline unsigned size_index(unsigned size) { return (unsigned)__builtin_ctz(size); }

/* The next instruction's address, wrapped as the code's width demands. */
ALWAYS_INLINE u64 next_rip(const struct interp *c, const struct op *op)
{
	return (c->s->rip + op->length) & c->ip_mask;
}
