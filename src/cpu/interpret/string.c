/*
 * String instructions. A repeated one runs up to ITERATIONS elements per call and then returns
 * OP_JUMP with RIP still at the instruction, so that interrupts are taken between elements as the
 * architecture demands (SDM 2, REP): the registers always say exactly how far it got, also when an
 * element faults. Single-stepped, it is one element per call.
 *
 * Whole page remainders go at once, as far as segments have limits; comparisons only upwards,
 * copies and fills downwards, too: boot loaders move kernels so. Both sides' pages are looked up
 * first, without a change to the state but accessed and dirty bits that the elements set as well.
 */
#include "cpu/interpret/string.h"
#include "cpu/interpret/alu.h"
#include "cpu/interpret/system.h"
#include "x86/control.h"

#define ITERATIONS 4096u

static s64 step(const struct interp *c, unsigned size)
{
	return c->s->rflags & FLAG_DF ? -(s64)size : (s64)size;
}

static void advance(struct interp *c, const struct op *op, unsigned reg, s64 by)
{
	reg_set(c, GPR_OFF(reg), op->asize, reg_get(c, GPR_OFF(reg), op->asize) + (u64)by);
}

static int string_get(struct interp *c, const struct op *op, unsigned size, u64 *v)
{
	return mem_read_slow(c, op->seg, reg_get(c, GPR_OFF(RSI), op->asize), size, v);
}
static int string_put(struct interp *c, const struct op *op, unsigned size, u64 v)
{
	return mem_write_slow(c, X86_ES, reg_get(c, GPR_OFF(RDI), op->asize), size, v);
}

/* One element; *stop set when REPE/REPNE ends by ZF. */
typedef int element_fn(struct interp *c, const struct op *op, unsigned size, bool *stop);

ALWAYS_INLINE int repeat(struct interp *c, const struct op *op, unsigned size, element_fn *element)
{
	bool stop = false;

	if (!(op->flags & (OPF_REP | OPF_REPNE)))
		return element(c, op, size, &stop) == X86_OK ? OP_NEXT : OP_FAULT;

	unsigned budget = c->slow ? 1 : ITERATIONS;
	u64 left = reg_get(c, GPR_OFF(RCX), op->asize);
	while (left && budget--) {
		TRY_OP(element(c, op, size, &stop));
		reg_set(c, GPR_OFF(RCX), op->asize, --left);
		if (stop)
			return OP_NEXT;
	}
	return left ? OP_JUMP : OP_NEXT;
}

/* ---- bulk steps: what lies within one page on each side, at once ---- */

static bool bulk_allowed(const struct interp *c, const struct op *op)
{
	bool code64 = op->flags & OPF_CODE64;

	return (op->flags & (OPF_REP | OPF_REPNE)) && (!code64 || op->asize == 8) && !c->slow;
}

static bool downwards(const struct interp *c) { return c->s->rflags & FLAG_DF; }

/* One side of elements to come. */
struct side {
	enum x86_segreg seg;
	unsigned reg, access;
	u64 at; /* linear; of the first element, which is the highest one downwards */
};

/* How many elements there are from the one at an offset on to the end, or to the beginning. */
static u64 elements(const struct interp *c, u64 offset, u64 end, unsigned size)
{
	if (offset + size > end)
		return 0;
	return downwards(c) ? offset / size + 1 : (end - offset) / size;
}

/* The lowest byte of n elements, in the host's memory. */
static u8 *lowest(const struct interp *c, const struct side *x, const struct mmu_entry *e, u64 n,
	unsigned size)
{
	return e->host + (x->at & PAGE_MASK) - (downwards(c) ? (n - 1) * size : 0);
}

/* How many of `left` elements can go at once: those in the first one's page and, outside of 64-bit
 * code, before the offset wraps. 0: the segment has something against them. */
static u64 bulk_room(
	const struct interp *c, const struct op *op, struct side *x, unsigned size, u64 left)
{
	u64 ea = reg_get(c, GPR_OFF(x->reg), op->asize);
	bool code64 = op->flags & OPF_CODE64;

	x->at = ea + (!code64 || x->seg >= X86_FS ? c->s->seg[x->seg].base : 0);
	if (!code64)
		x->at = (u32)x->at;
	u64 in_page = x->at & PAGE_MASK, n = min_u64(left, elements(c, in_page, PAGE_SIZE, size));
	if (code64)
		return n;
	n = min_u64(n, elements(c, ea, BIT64(8 * op->asize), size));
	if (!n)
		return 0;
	ea = downwards(c) ? ea - (n - 1) * size : ea;
	return x86_segment_allows(c->s, x->seg, ea, (unsigned)n * size, x->access) ? n : 0;
}

/*
 * The page of an access to come: a copy of its entry, because the other side's may take its place.
 * False: it is the single element's to find out why not.
 */
static bool bulk_page(struct interp *c, const struct side *x, struct mmu_entry *out)
{
	bool write = x->access & ACCESS_WRITE;
	struct mmu_entry *e = mmu_find(&c->mmu, x->at, 1, write ? MMU_WRITE : MMU_READ);
	int result;

	if (!e && x86_canonical(x->at))
		e = mmu_fill(&c->mmu, x->at, x->access, &result);
	if (e)
		*out = *e;
	return e;
}

/* A destination `period` bytes into its own source repeats it. */
static void copy_upwards(u8 *d, const u8 *s, u64 bytes)
{
	u64 period = (u64)(d - s);

	if (d <= s || period >= bytes) {
		memmove(d, s, bytes);
		return;
	}
	/* Behind s there are always whole periods, and more of them each time. */
	for (u64 done = 0, n; done < bytes; done += n) {
		n = min_u64(period + done, bytes - done);
		memcpy(d + done, s, n);
	}
}

static void stored(
	struct interp *c, const struct side *x, struct mmu_entry *e, const u8 *from, u64 bytes)
{
	mmu_stored(&c->mmu, e, (x->at & ~PAGE_MASK) + (u64)(from - e->host), (unsigned)bytes);
}

static u64 bulk_movs(struct interp *c, const struct op *op, unsigned size, u64 left)
{
	struct side from = { op->seg, RSI, ACCESS_READ, 0 }, to = { X86_ES, RDI, ACCESS_WRITE, 0 };
	u64 n = bulk_room(c, op, &to, size, bulk_room(c, op, &from, size, left));
	struct mmu_entry src, dst;

	if (n < 2 || !bulk_page(c, &from, &src) || !bulk_page(c, &to, &dst))
		return 0;
	u8 *d = lowest(c, &to, &dst, n, size);
	const u8 *s = lowest(c, &from, &src, n, size);
	u64 bytes = n * size;
	/* An element that overlaps its own source is read as a whole first; downwards, what is
	 * written before it is read goes the long way. */
	if (downwards(c) ? d < s && d + bytes > s : d > s && d < s + size)
		return 0;
	if (downwards(c))
		memmove(d, s, bytes);
	else
		copy_upwards(d, s, bytes);
	stored(c, &to, &dst, d, bytes);
	advance(c, op, RSI, (s64)n * step(c, size));
	advance(c, op, RDI, (s64)n * step(c, size));
	return n;
}

static u64 bulk_stos(struct interp *c, const struct op *op, unsigned size, u64 left)
{
	struct side to = { X86_ES, RDI, ACCESS_WRITE, 0 };
	u64 v = c->s->gpr[RAX], n = bulk_room(c, op, &to, size, left);
	struct mmu_entry dst;

	if (n < 2 || !bulk_page(c, &to, &dst))
		return 0;
	u8 *d = lowest(c, &to, &dst, n, size);
	if (size == 1 || !v)
		memset(d, (int)(u8)v, n * size);
	else
		for (u64 i = 0; i < n; i++)
			host_put(d + i * size, size, v);
	stored(c, &to, &dst, d, n * size);
	advance(c, op, RDI, (s64)n * step(c, size));
	return n;
}

/* CMPS and SCAS: passes over what cannot end the repetition and leaves an element for the flags. */
static u64 bulk_cmps(struct interp *c, const struct op *op, unsigned size, u64 left)
{
	struct side from = { op->seg, RSI, ACCESS_READ, 0 }, to = { X86_ES, RDI, ACCESS_READ, 0 };
	u64 most = bulk_room(c, op, &to, size, bulk_room(c, op, &from, size, left)), n = 0;
	struct mmu_entry a, b;

	if (downwards(c) || most < 2 || !bulk_page(c, &from, &a) || !bulk_page(c, &to, &b))
		return 0;
	const u8 *p = a.host + (from.at & PAGE_MASK), *q = b.host + (to.at & PAGE_MASK);
	bool while_equal = op->flags & OPF_REP;
	while (n < most - 1 &&
		(host_get(p + n * size, size) == host_get(q + n * size, size)) == while_equal)
		n++;
	advance(c, op, RSI, (s64)(n * size));
	advance(c, op, RDI, (s64)(n * size));
	return n;
}

static u64 bulk_scas(struct interp *c, const struct op *op, unsigned size, u64 left)
{
	struct side to = { X86_ES, RDI, ACCESS_READ, 0 };
	u64 v = reg_get(c, GPR_OFF(RAX), size), most = bulk_room(c, op, &to, size, left), n = 0;
	struct mmu_entry e;

	if (downwards(c) || most < 2 || !bulk_page(c, &to, &e))
		return 0;
	const u8 *p = e.host + (to.at & PAGE_MASK);
	bool while_equal = op->flags & OPF_REP;
	while (n < most - 1 && (host_get(p + n * size, size) == v) == while_equal)
		n++;
	advance(c, op, RDI, (s64)(n * size));
	return n;
}

/* ---- movs, stos ---- */

static int movs_element(struct interp *c, const struct op *op, unsigned size, bool *stop)
{
	u64 v;

	TRY(string_get(c, op, size, &v));
	TRY(string_put(c, op, size, v));
	advance(c, op, RSI, step(c, size));
	advance(c, op, RDI, step(c, size));
	return X86_OK;
}

static int stos_element(struct interp *c, const struct op *op, unsigned size, bool *stop)
{
	TRY(string_put(c, op, size, reg_get(c, GPR_OFF(RAX), size)));
	advance(c, op, RDI, step(c, size));
	return X86_OK;
}

ALWAYS_INLINE int with_bulk(struct interp *c, const struct op *op, unsigned size,
	element_fn *element, u64 (*bulk)(struct interp *, const struct op *, unsigned, u64))
{
	if (!bulk_allowed(c, op))
		return repeat(c, op, size, element);
	bool stop = false;
	u64 left = reg_get(c, GPR_OFF(RCX), op->asize);
	for (unsigned budget = 64; left && budget--;) {
		u64 n = bulk(c, op, size, left);

		if (!n) {
			TRY_OP(element(c, op, size, &stop));
			n = 1;
		}
		reg_set(c, GPR_OFF(RCX), op->asize, left -= n);
		if (stop)
			return OP_NEXT;
	}
	return left ? OP_JUMP : OP_NEXT;
}

ALWAYS_INLINE int op_movs(struct interp *c, const struct op *op, unsigned size)
{
	return with_bulk(c, op, size, movs_element, bulk_movs);
}
SIZED(op_movs);

ALWAYS_INLINE int op_stos(struct interp *c, const struct op *op, unsigned size)
{
	return with_bulk(c, op, size, stos_element, bulk_stos);
}
SIZED(op_stos);

/* ---- lods, cmps, scas ---- */

static int lods_element(struct interp *c, const struct op *op, unsigned size, bool *stop)
{
	u64 v;

	TRY(string_get(c, op, size, &v));
	reg_set(c, GPR_OFF(RAX), size, v);
	advance(c, op, RSI, step(c, size));
	return X86_OK;
}
ALWAYS_INLINE int op_lods(struct interp *c, const struct op *op, unsigned size)
{
	return repeat(c, op, size, lods_element);
}
SIZED(op_lods);

/* ZF decides whether a repetition ends: REPE stops at a difference, REPNE at a match. */
static void compare(struct interp *c, const struct op *op, unsigned size, u64 a, u64 b, bool *stop)
{
	compare_flags(c, size, a, b);
	bool zf = c->s->rflags & FLAG_ZF;
	*stop = op->flags & OPF_REP ? !zf : zf;
}

static int cmps_element(struct interp *c, const struct op *op, unsigned size, bool *stop)
{
	u64 a, b;

	TRY(string_get(c, op, size, &a));
	TRY(mem_read_slow(c, X86_ES, reg_get(c, GPR_OFF(RDI), op->asize), size, &b));
	compare(c, op, size, a, b, stop);
	advance(c, op, RSI, step(c, size));
	advance(c, op, RDI, step(c, size));
	return X86_OK;
}
ALWAYS_INLINE int op_cmps(struct interp *c, const struct op *op, unsigned size)
{
	return with_bulk(c, op, size, cmps_element, bulk_cmps);
}
SIZED(op_cmps);

static int scas_element(struct interp *c, const struct op *op, unsigned size, bool *stop)
{
	u64 b;

	TRY(mem_read_slow(c, X86_ES, reg_get(c, GPR_OFF(RDI), op->asize), size, &b));
	compare(c, op, size, reg_get(c, GPR_OFF(RAX), size), b, stop);
	advance(c, op, RDI, step(c, size));
	return X86_OK;
}
ALWAYS_INLINE int op_scas(struct interp *c, const struct op *op, unsigned size)
{
	return with_bulk(c, op, size, scas_element, bulk_scas);
}
SIZED(op_scas);

/* ---- ins, outs ---- */

static int ins_element(struct interp *c, const struct op *op, unsigned size, bool *stop)
{
	struct x86_cpu *cpu = &c->v->x86;
	u16 port = (u16)c->s->gpr[RDX];
	gva_t at;

	/* The destination must be writable before the device is read: reading may have consumed
	 * data. */
	TRY(x86_linear(cpu, X86_ES, reg_get(c, GPR_OFF(RDI), op->asize), size, ACCESS_WRITE, &at));
	TRY(mmu_probe(&c->mmu, at.v, size, ACCESS_WRITE));
	u32 v = cpu->ops->port_in(cpu, port, size);
	interp_note_port(c, port, size);
	TRY(string_put(c, op, size, v));
	advance(c, op, RDI, step(c, size));
	return X86_OK;
}
/* The right to use the port is checked even when the count is zero. */
ALWAYS_INLINE int op_ins(struct interp *c, const struct op *op, unsigned size)
{
	interp_count(c, X86_PRIVILEGED);
	TRY_OP(x86_check_port(&c->v->x86, (u16)c->s->gpr[RDX], size));
	return repeat(c, op, size, ins_element);
}
SIZED(op_ins);

static int outs_element(struct interp *c, const struct op *op, unsigned size, bool *stop)
{
	struct x86_cpu *cpu = &c->v->x86;
	u16 port = (u16)c->s->gpr[RDX];
	u64 v;

	TRY(string_get(c, op, size, &v));
	cpu->ops->port_out(cpu, port, size, (u32)v);
	interp_note_port(c, port, size);
	advance(c, op, RSI, step(c, size));
	return X86_OK;
}
ALWAYS_INLINE int op_outs(struct interp *c, const struct op *op, unsigned size)
{
	interp_count(c, X86_PRIVILEGED);
	TRY_OP(x86_check_port(&c->v->x86, (u16)c->s->gpr[RDX], size));
	return repeat(c, op, size, outs_element);
}
SIZED(op_outs);
