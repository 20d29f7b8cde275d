/*
 * Vector instructions that cannot run as themselves: those that address memory by a vector of
 * indices or through an implicit pointer, and the two that clear every register.
 */
#include "cpu/interpret/vector.h"
#include "cpu/interpret/native.h"
#include "x86/control.h"
#include "x86/xsave.h"

#define FSW_TOP 0x3800u

static unsigned vector_registers(const struct interp *c) { return c->code_bits == 64 ? 16 : 8; }

/* VZEROUPPER, VZEROALL: bits from `from` bytes up, of registers 0..15 (0..7 outside 64-bit code).
 */
static int clear_from(struct interp *c, unsigned from)
{
	if (x86_real_segments(c->s)) {
		x86_ud(&c->v->x86);
		return OP_FAULT;
	}
	TRY_OP(x86_check_simd(&c->v->x86, X86_SIMD_AVX));
	for (unsigned i = 0; i < vector_registers(c); i++)
		memset(c->s->fpu.zmm[i] + from, 0, 64 - from);
	return OP_NEXT;
}
int op_vzeroupper(struct interp *c, const struct op *op) { return clear_from(c, 16); }
int op_vzeroall(struct interp *c, const struct op *op) { return clear_from(c, 0); }

/* ---- gather and scatter ---- */

static bool lane_active(
	const struct interp *c, const struct op *op, const struct vsib *v, unsigned i)
{
	if (v->evex)
		return c->s->fpu.k[op->src] >> i & 1;
	return c->s->fpu.zmm[op->src][(i + 1) * v->data - 1] & 0x80;
}

static void lane_done(struct interp *c, const struct op *op, const struct vsib *v, unsigned i)
{
	if (v->evex)
		c->s->fpu.k[op->src] &= ~BIT64(i);
	else
		memset(&c->s->fpu.zmm[op->src][i * v->data], 0, v->data);
}

static int lane_address(struct interp *c, const struct op *op, const struct vsib *v, unsigned i,
	unsigned access, u64 *at)
{
	u64 index = 0;
	gva_t lin;

	memcpy(&index, &c->s->fpu.zmm[v->index_reg][i * v->index], v->index);
	u64 ea = op_ea(c, op) + (sign_extend(index, v->index) << v->shift);
	if (op->asize == 4)
		ea = (u32)ea;
	TRY(x86_linear(&c->v->x86, (enum x86_segreg)op->seg, ea, v->data, access, &lin));
	*at = lin.v;
	return X86_OK;
}

static int vsib_check(struct interp *c, const struct vsib *v)
{
	if (x86_real_segments(c->s))
		return x86_ud(&c->v->x86);
	return x86_check_simd(&c->v->x86, v->evex ? X86_SIMD_AVX512 : X86_SIMD_AVX);
}

/*
 * A fault in the middle leaves the lanes done so far done and their mask bits clear. A single-step
 * trap that is due for them comes instead of the fault, and the instruction goes on after it (SDM
 * 2, VPGATHERDD).
 */
static int lane_fault(const struct interp *c, bool done)
{
	return done && (c->s->rflags & FLAG_TF) ? OP_JUMP : OP_FAULT;
}

static void clear_behind(u8 *dst, unsigned bytes) { memset(dst + bytes, 0, 64 - bytes); }

int op_gather(struct interp *c, const struct op *op)
{
	struct vsib v = vsib_unpack(op->imm);
	u8 *dst = c->s->fpu.zmm[op->dst];
	bool done = false;
	u64 at;

	TRY_OP(vsib_check(c, &v));
	for (unsigned i = 0; i < v.count; i++) {
		u64 value = 0;

		if (lane_active(c, op, &v, i)) {
			if (lane_address(c, op, &v, i, ACCESS_READ, &at) != X86_OK ||
				mmu_read(&c->mmu, at, &value, v.data, ACCESS_READ) != X86_OK)
				return lane_fault(c, done);
			memcpy(dst + i * v.data, &value, v.data);
			if (v.evex) /* an EVEX form writes its whole vector with each lane */
				clear_behind(dst, v.count * (v.data > v.index ? v.data : v.index));
			done = true;
		}
		lane_done(c, op, &v, i);
	}
	clear_behind(dst, v.count * v.data);
	if (v.evex)
		c->s->fpu.k[op->src] = 0;
	else
		memset(c->s->fpu.zmm[op->src], 0, 64);
	return OP_NEXT;
}

int op_scatter(struct interp *c, const struct op *op)
{
	struct vsib v = vsib_unpack(op->imm);
	bool done = false;
	u64 at;

	TRY_OP(vsib_check(c, &v));
	for (unsigned i = 0; i < v.count; i++) {
		if (!lane_active(c, op, &v, i))
			continue;
		if (lane_address(c, op, &v, i, ACCESS_WRITE, &at) != X86_OK ||
			mmu_write(&c->mmu, at, c->s->fpu.zmm[op->dst] + i * v.data, v.data,
				ACCESS_WRITE) != X86_OK)
			return lane_fault(c, done);
		done = true;
		lane_done(c, op, &v, i);
	}
	c->s->fpu.k[op->src] = 0;
	return OP_NEXT;
}

/* Using MMX registers makes TOP 0 and all of them valid (SDM 1 9.5.1), also when the memory access
 * then faults. */
static int begin_mmx(struct interp *c)
{
	if (c->s->fpu.fsw & FSW_ES)
		return x86_fault_plain(&c->v->x86, X86_MF);
	x86_fpu_set_fsw(&c->s->fpu, c->s->fpu.fsw & (u16)~FSW_TOP);
	c->s->fpu.ftw = 0xff;
	return X86_OK;
}

/* MASKMOVQ, MASKMOVDQU, VMASKMOVDQU to [rDI]: op->extra bytes; op->dst data, op->src mask
 * registers; op->imm 1 for MMX registers. */
int op_maskmov(struct interp *c, const struct op *op)
{
	bool mmx = op->imm & 1, vex = op->imm & 2;
	struct x86_cpu *cpu = &c->v->x86;
	u64 ea = reg_get(c, GPR_OFF(RDI), op->asize);

	if (vex && x86_real_segments(c->s)) {
		x86_ud(cpu);
		return OP_FAULT;
	}
	TRY_OP(x86_check_simd(cpu, mmx ? X86_SIMD_MMX : vex ? X86_SIMD_AVX : X86_SIMD_SSE));
	if (mmx)
		TRY_OP(begin_mmx(c));
	/* with TOP at 0, st[] is MM0 to MM7 */
	const u8 *data = mmx ? c->s->fpu.st[op->dst] : c->s->fpu.zmm[op->dst];
	const u8 *mask = mmx ? c->s->fpu.st[op->src] : c->s->fpu.zmm[op->src];
	/*
	 * Eight bytes at a time are checked, segment and page, before the next eight; also bytes
	 * the mask spares must be writable: that is up to the processor (SDM 2, MASKMOVDQU), and
	 * some check.
	 */
	gva_t part[2] = { 0 };
	for (unsigned i = 0; i < op->extra / 8u; i++) {
		TRY_OP(x86_linear(
			cpu, (enum x86_segreg)op->seg, ea + 8 * i, 8, ACCESS_WRITE, &part[i]));
		if (unlikely(c->mmu.align) && part[i].v & 7) {
			x86_fault_code(cpu, X86_AC, 0);
			return OP_FAULT;
		}
		TRY_OP(mmu_probe(&c->mmu, part[i].v, 8, ACCESS_WRITE));
	}
	for (unsigned i = 0; i < op->extra; i++)
		if (mask[i] & 0x80)
			TRY_OP(mmu_write(
				&c->mmu, part[i / 8].v + i % 8, data + i, 1, ACCESS_WRITE));
	return OP_NEXT;
}
