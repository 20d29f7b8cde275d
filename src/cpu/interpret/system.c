/* System instructions: operands are fetched here, meaning is x86/'s. */
#include "cpu/interpret/system.h"
#include "x86/control.h"
#include "x86/cpuid.h"
#include "x86/msr.h"
#include "x86/xsave.h"

static struct x86_cpu *cpu_of(struct interp *c) { return &c->v->x86; }

/* Through here goes whatever may change the mode, CPL, AC, TF or an event shadow. */
static int changed(struct interp *c, int result)
{
	interp_refresh(c);
	return result == X86_OK ? OP_NEXT : OP_FAULT;
}

static int plain(int result) { return result == X86_OK ? OP_NEXT : OP_FAULT; }

/* A 16-bit or wider register, or a 16-bit memory operand, as the "m16 or r" instructions have it.
 */
static int src16(struct interp *c, const struct op *op, u16 *v)
{
	u64 raw;

	if (op->flags & OPF_SRC_MEM)
		TRY(mem_get(c, op, 2, &raw));
	else
		raw = reg_get(c, op->src, 2);
	*v = (u16)raw;
	return X86_OK;
}

static int dst16(struct interp *c, const struct op *op, u64 v)
{
	if (op->flags & OPF_DST_MEM)
		return mem_put(c, op, 2, v);
	reg_set(c, op->dst, op->size, v);
	return X86_OK;
}

/* ---- ports ---- */

void interp_note_port(struct interp *c, u16 port, unsigned size)
{
	if (unlikely(c->s->dr7 & 0xff))
		c->mmu.watch_hits |= x86_io_breakpoints(c->s, port, size);
}

/* op->extra: the port is in DX, else op->imm. */
static u16 port_of(const struct interp *c, const struct op *op)
{
	return (u16)(op->extra ? c->s->gpr[RDX] : op->imm);
}

ALWAYS_INLINE int op_in(struct interp *c, const struct op *op, unsigned size)
{
	struct x86_cpu *cpu = cpu_of(c);

	interp_count(c, X86_PRIVILEGED);
	TRY_OP(x86_check_port(cpu, port_of(c, op), size));
	reg_set(c, GPR_OFF(RAX), size, cpu->ops->port_in(cpu, port_of(c, op), size));
	interp_note_port(c, port_of(c, op), size);
	return OP_NEXT;
}
SIZED(op_in);

ALWAYS_INLINE int op_out(struct interp *c, const struct op *op, unsigned size)
{
	struct x86_cpu *cpu = cpu_of(c);

	interp_count(c, X86_PRIVILEGED);
	TRY_OP(x86_check_port(cpu, port_of(c, op), size));
	cpu->ops->port_out(cpu, port_of(c, op), size, (u32)reg_get(c, GPR_OFF(RAX), size));
	interp_note_port(c, port_of(c, op), size);
	return OP_NEXT;
}
SIZED(op_out);

/* ---- flags and halting ---- */

int op_cli(struct interp *c, const struct op *op)
{
	interp_count(c, X86_PRIVILEGED);
	return plain(x86_cli(cpu_of(c)));
}

int op_sti(struct interp *c, const struct op *op)
{
	interp_count(c, X86_PRIVILEGED);
	return changed(c, x86_sti(cpu_of(c)));
}

int op_pushf(struct interp *c, const struct op *op)
{
	u64 v;

	interp_count(c, X86_BEHAVIOUR_SENSITIVE);
	TRY_OP(x86_pushf_value(cpu_of(c), op->size, &v));
	return plain(push(c, v, op->size));
}

int op_popf(struct interp *c, const struct op *op)
{
	u64 v;

	interp_count(c, X86_CONTROL_SENSITIVE);
	TRY_OP(stack_get(c, 0, op->size, &v));
	TRY_OP(x86_popf(cpu_of(c), op->size, v));
	stack_add(c, op->size);
	return changed(c, X86_OK);
}

int op_stac(struct interp *c, const struct op *op)
{
	interp_count(c, X86_PRIVILEGED);
	if (x86_cpl(c->s)) {
		x86_ud(cpu_of(c));
		return OP_FAULT;
	}
	c->s->rflags |= FLAG_AC;
	return changed(c, X86_OK);
}

int op_clac(struct interp *c, const struct op *op)
{
	interp_count(c, X86_PRIVILEGED);
	if (x86_cpl(c->s)) {
		x86_ud(cpu_of(c));
		return OP_FAULT;
	}
	c->s->rflags &= ~FLAG_AC;
	return changed(c, X86_OK);
}

int op_hlt(struct interp *c, const struct op *op)
{
	interp_count(c, X86_PRIVILEGED);
	TRY_OP(x86_require_cpl0(cpu_of(c)));
	c->s->rip = next_rip(c, op);
	c->s->activity = X86_HALTED;
	c->exit = CPU_EXIT_HALT;
	return OP_EXIT;
}

int op_ud(struct interp *c, const struct op *op)
{
	x86_ud(cpu_of(c));
	return OP_FAULT;
}

/* ---- control and debug registers: op->extra is the register's number ---- */

int op_mov_from_cr(struct interp *c, const struct op *op)
{
	u64 v;

	interp_count(c, X86_PRIVILEGED);
	TRY_OP(x86_require_cpl0(cpu_of(c)));
	TRY_OP(x86_read_cr(cpu_of(c), op->extra, &v));
	reg_set(c, op->dst, op->size, v);
	return OP_NEXT;
}

int op_mov_to_cr(struct interp *c, const struct op *op)
{
	interp_count(c, X86_PRIVILEGED);
	TRY_OP(x86_require_cpl0(cpu_of(c)));
	return changed(c, x86_write_cr(cpu_of(c), op->extra, reg_get(c, op->src, op->size)));
}

int op_mov_from_dr(struct interp *c, const struct op *op)
{
	u64 v;

	interp_count(c, X86_PRIVILEGED);
	TRY_OP(x86_require_cpl0(cpu_of(c)));
	TRY_OP(x86_read_dr(cpu_of(c), op->extra, &v));
	reg_set(c, op->dst, op->size, v);
	return OP_NEXT;
}

int op_mov_to_dr(struct interp *c, const struct op *op)
{
	interp_count(c, X86_PRIVILEGED);
	TRY_OP(x86_require_cpl0(cpu_of(c)));
	return changed(c, x86_write_dr(cpu_of(c), op->extra, reg_get(c, op->src, op->size)));
}

int op_clts(struct interp *c, const struct op *op)
{
	interp_count(c, X86_PRIVILEGED);
	TRY_OP(x86_require_cpl0(cpu_of(c)));
	return changed(c, x86_clts(cpu_of(c)));
}

int op_lmsw(struct interp *c, const struct op *op)
{
	u16 v;

	interp_count(c, X86_PRIVILEGED);
	TRY_OP(x86_require_cpl0(cpu_of(c)));
	TRY_OP(src16(c, op, &v));
	return changed(c, x86_lmsw(cpu_of(c), v));
}

int op_smsw(struct interp *c, const struct op *op)
{
	interp_count(c, X86_BEHAVIOUR_SENSITIVE);
	TRY_OP(x86_check_umip(cpu_of(c)));
	return plain(dst16(c, op, c->s->cr0));
}

/* ---- identification, time, MSRs ---- */

int op_cpuid(struct interp *c, const struct op *op)
{
	u64 *r = c->s->gpr;
	struct x86_cpuid v = x86_cpuid(cpu_of(c), (u32)r[RAX], (u32)r[RCX], c->v->apic_id);

	interp_count(c, X86_BEHAVIOUR_SENSITIVE);
	r[RAX] = v.eax;
	r[RBX] = v.ebx;
	r[RCX] = v.ecx;
	r[RDX] = v.edx;
	return OP_NEXT;
}

static void edx_eax(struct interp *c, u64 v)
{
	c->s->gpr[RAX] = (u32)v;
	c->s->gpr[RDX] = v >> 32;
}
static u64 from_edx_eax(const struct interp *c)
{
	return c->s->gpr[RDX] << 32 | (u32)c->s->gpr[RAX];
}

int op_rdtsc(struct interp *c, const struct op *op)
{
	interp_count(c, X86_BEHAVIOUR_SENSITIVE);
	TRY_OP(x86_rdtsc_allowed(cpu_of(c)));
	edx_eax(c, x86_tsc(cpu_of(c)));
	return OP_NEXT;
}

int op_rdtscp(struct interp *c, const struct op *op)
{
	interp_count(c, X86_BEHAVIOUR_SENSITIVE);
	TRY_OP(x86_rdtsc_allowed(cpu_of(c)));
	edx_eax(c, x86_tsc(cpu_of(c)));
	c->s->gpr[RCX] = c->s->tsc_aux;
	return OP_NEXT;
}

int op_rdpid(struct interp *c, const struct op *op)
{
	interp_count(c, X86_BEHAVIOUR_SENSITIVE);
	reg_set(c, op->dst, 8, c->s->tsc_aux);
	return OP_NEXT;
}

/* No performance counters in the model: every index is invalid. */
int op_rdpmc(struct interp *c, const struct op *op)
{
	interp_count(c, X86_PRIVILEGED);
	x86_gp(cpu_of(c), 0);
	return OP_FAULT;
}

int op_rdmsr(struct interp *c, const struct op *op)
{
	u64 v;

	interp_count(c, X86_PRIVILEGED);
	TRY_OP(x86_require_cpl0(cpu_of(c)));
	TRY_OP(x86_rdmsr(cpu_of(c), (u32)c->s->gpr[RCX], &v));
	edx_eax(c, v);
	return OP_NEXT;
}

int op_wrmsr(struct interp *c, const struct op *op)
{
	interp_count(c, X86_PRIVILEGED);
	TRY_OP(x86_require_cpl0(cpu_of(c)));
	return changed(c, x86_wrmsr(cpu_of(c), (u32)c->s->gpr[RCX], from_edx_eax(c)));
}

int op_xgetbv(struct interp *c, const struct op *op)
{
	u32 index = (u32)c->s->gpr[RCX];

	interp_count(c, X86_BEHAVIOUR_SENSITIVE);
	if (!(c->s->cr4 & CR4_OSXSAVE)) {
		x86_ud(cpu_of(c));
		return OP_FAULT;
	}
	if (index > 1 || (index == 1 && !x86_model_has(cpu_of(c)->model, 0xd, 1, 0, 2))) {
		x86_gp(cpu_of(c), 0);
		return OP_FAULT;
	}
	edx_eax(c, index ? c->s->xcr0 & x86_xinuse(c->s) : c->s->xcr0);
	return OP_NEXT;
}

int op_xsetbv(struct interp *c, const struct op *op)
{
	interp_count(c, X86_PRIVILEGED);
	if (!(c->s->cr4 & CR4_OSXSAVE)) {
		x86_ud(cpu_of(c));
		return OP_FAULT;
	}
	TRY_OP(x86_require_cpl0(cpu_of(c)));
	return changed(c, x86_xsetbv(cpu_of(c), (u32)c->s->gpr[RCX], from_edx_eax(c)));
}

/* ---- translation and cache control ---- */

int op_invlpg(struct interp *c, const struct op *op)
{
	u64 at = op_ea(c, op);

	interp_count(c, X86_PRIVILEGED);
	TRY_OP(x86_require_cpl0(cpu_of(c)));
	if (!(op->flags & OPF_CODE64) || op->seg >= X86_FS)
		at += c->s->seg[op->seg].base;
	return plain(x86_invlpg(cpu_of(c), op->flags & OPF_CODE64 ? at : (u32)at));
}

int op_invpcid(struct interp *c, const struct op *op)
{
	u64 pcid, linear, ea = op_ea(c, op);

	interp_count(c, X86_PRIVILEGED);
	TRY_OP(x86_require_cpl0(cpu_of(c)));
	TRY_OP(mem_read_slow(c, op->seg, ea, 8, &pcid));
	TRY_OP(mem_read_slow(c, op->seg, (ea + 8) & mask_bytes(op->asize), 8, &linear));
	return plain(x86_invpcid(
		cpu_of(c), reg_get(c, op->dst, op->flags & OPF_CODE64 ? 8 : 4), pcid, linear));
}

int op_wbinvd(struct interp *c, const struct op *op)
{
	interp_count(c, X86_PRIVILEGED);
	return plain(x86_require_cpl0(cpu_of(c)));
}

/* Caches are coherent here; only the address is checked, as for a one-byte read. */
int op_clflush(struct interp *c, const struct op *op)
{
	u64 v;

	return plain(mem_read_slow(c, op->seg, op_ea(c, op), 1, &v));
}

/* The strongest of the three for each. The instruction rather than a C fence, which the thread
 * sanitizer does not know. */
int op_fence(struct interp *c, const struct op *op)
{
	asm volatile("mfence" ::: "memory");
	return OP_NEXT;
}

/* ---- bases ---- */

int op_swapgs(struct interp *c, const struct op *op)
{
	u64 base = c->s->seg[X86_GS].base;

	interp_count(c, X86_PRIVILEGED);
	TRY_OP(x86_require_cpl0(cpu_of(c)));
	c->s->seg[X86_GS].base = c->s->kernel_gs_base;
	c->s->kernel_gs_base = base;
	return OP_NEXT;
}

/* RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE: op->extra bit 0 is GS, bit 1 a write. */
int op_fsgsbase(struct interp *c, const struct op *op)
{
	u64 *base = &c->s->seg[op->extra & 1 ? X86_GS : X86_FS].base;

	if (!(c->s->cr4 & CR4_FSGSBASE)) {
		x86_ud(cpu_of(c));
		return OP_FAULT;
	}
	if (!(op->extra & 2)) {
		reg_set(c, op->dst, op->size, *base);
		return OP_NEXT;
	}
	u64 v = reg_get(c, op->dst, op->size);
	if (!x86_canonical(v)) {
		x86_gp(cpu_of(c), 0);
		return OP_FAULT;
	}
	*base = v;
	return OP_NEXT;
}

/* ---- segment registers: op->extra is the register ---- */

int op_mov_from_seg(struct interp *c, const struct op *op)
{
	interp_count(c, X86_BEHAVIOUR_SENSITIVE);
	return plain(dst16(c, op, c->s->seg[op->extra].selector));
}

static int load_seg(struct interp *c, unsigned reg, u16 selector)
{
	if (reg == X86_CS)
		return x86_ud(cpu_of(c));
	TRY(x86_load_segment(cpu_of(c), (enum x86_segreg)reg, selector));
	if (reg == X86_SS)
		c->s->blocking |= BLOCK_MOV_SS;
	return X86_OK;
}

int op_mov_to_seg(struct interp *c, const struct op *op)
{
	u16 v;

	interp_count(c, X86_CONTROL_SENSITIVE);
	TRY_OP(src16(c, op, &v));
	return changed(c, load_seg(c, op->extra, v));
}

int op_push_seg(struct interp *c, const struct op *op)
{
	interp_count(c, X86_BEHAVIOUR_SENSITIVE);
	return plain(push(c, c->s->seg[op->extra].selector, op->size));
}

int op_pop_seg(struct interp *c, const struct op *op)
{
	u64 v, mask = x86_stack_mask(c->s);

	interp_count(c, X86_CONTROL_SENSITIVE);
	TRY_OP(stack_get(c, 0, op->size, &v));
	TRY_OP(load_seg(c, op->extra, (u16)v));
	/* The stack's width is the one before SS changed. */
	u64 sp = c->s->gpr[RSP];
	c->s->gpr[RSP] = (sp & ~mask) | ((sp + op->size) & mask);
	return changed(c, X86_OK);
}

/* LDS, LES, LFS, LGS, LSS */
int op_load_far(struct interp *c, const struct op *op)
{
	u64 offset, sel, ea = op_ea(c, op);

	interp_count(c, X86_CONTROL_SENSITIVE);
	TRY_OP(mem_read_slow(c, op->seg, ea, op->size, &offset));
	TRY_OP(mem_read_slow(c, op->seg, (ea + op->size) & mask_bytes(op->asize), 2, &sel));
	TRY_OP(x86_load_segment(cpu_of(c), (enum x86_segreg)op->extra, (u16)sel));
	reg_set(c, op->dst, op->size, offset);
	return changed(c, X86_OK);
}

/* ---- descriptor tables ---- */

static int store_table(struct interp *c, const struct op *op, const struct x86_table *t)
{
	u64 ea = op_ea(c, op), next = (ea + 2) & mask_bytes(op->asize);

	interp_count(c, X86_BEHAVIOUR_SENSITIVE);
	TRY_OP(x86_check_umip(cpu_of(c)));
	TRY_OP(mem_write_slow(c, op->seg, ea, 2, t->limit));
	return plain(mem_write_slow(c, op->seg, next, op->flags & OPF_CODE64 ? 8 : 4, t->base));
}
int op_sgdt(struct interp *c, const struct op *op) { return store_table(c, op, &c->s->gdt); }
int op_sidt(struct interp *c, const struct op *op) { return store_table(c, op, &c->s->idt); }

static int load_table(struct interp *c, const struct op *op, struct x86_table *t)
{
	u64 limit, base, ea = op_ea(c, op);
	bool wide = op->flags & OPF_CODE64;

	interp_count(c, X86_PRIVILEGED);
	TRY_OP(x86_require_cpl0(cpu_of(c)));
	TRY_OP(mem_read_slow(c, op->seg, ea, 2, &limit));
	TRY_OP(mem_read_slow(c, op->seg, (ea + 2) & mask_bytes(op->asize), wide ? 8 : 4, &base));
	if (wide && !x86_canonical(base)) {
		x86_gp(cpu_of(c), 0);
		return OP_FAULT;
	}
	if (op->size == 2)
		base &= 0xffffff;
	*t = (struct x86_table){ .base = base, .limit = (u16)limit };
	return OP_NEXT;
}
int op_lgdt(struct interp *c, const struct op *op) { return load_table(c, op, &c->s->gdt); }
int op_lidt(struct interp *c, const struct op *op) { return load_table(c, op, &c->s->idt); }

/* SLDT, STR, LLDT, LTR, LAR, LSL, VERR, VERW exist only where segments are descriptors. */
static int need_descriptors(struct interp *c)
{
	return x86_real_segments(c->s) ? x86_ud(cpu_of(c)) : X86_OK;
}

static int store_selector(struct interp *c, const struct op *op, enum x86_segreg reg)
{
	interp_count(c, X86_BEHAVIOUR_SENSITIVE);
	TRY_OP(need_descriptors(c));
	TRY_OP(x86_check_umip(cpu_of(c)));
	return plain(dst16(c, op, c->s->seg[reg].selector));
}
int op_sldt(struct interp *c, const struct op *op) { return store_selector(c, op, X86_LDTR); }
int op_str(struct interp *c, const struct op *op) { return store_selector(c, op, X86_TR); }

int op_lldt(struct interp *c, const struct op *op)
{
	u16 v;

	interp_count(c, X86_PRIVILEGED);
	TRY_OP(need_descriptors(c));
	TRY_OP(x86_require_cpl0(cpu_of(c)));
	TRY_OP(src16(c, op, &v));
	return plain(x86_lldt(cpu_of(c), v));
}

int op_ltr(struct interp *c, const struct op *op)
{
	u16 v;

	interp_count(c, X86_PRIVILEGED);
	TRY_OP(need_descriptors(c));
	TRY_OP(x86_require_cpl0(cpu_of(c)));
	TRY_OP(src16(c, op, &v));
	return plain(x86_ltr(cpu_of(c), v));
}

static void set_zf(struct interp *c, bool on)
{
	c->s->rflags = (c->s->rflags & ~FLAG_ZF) | (on ? FLAG_ZF : 0);
}

static int describe(
	struct interp *c, const struct op *op, int (*get)(struct x86_cpu *, u16, bool *, u32 *))
{
	u16 selector;
	u32 v = 0;
	bool ok;

	interp_count(c, X86_BEHAVIOUR_SENSITIVE);
	TRY_OP(need_descriptors(c));
	TRY_OP(src16(c, op, &selector));
	TRY_OP(get(cpu_of(c), selector, &ok, &v));
	if (ok)
		reg_set(c, op->dst, op->size, v);
	set_zf(c, ok);
	return OP_NEXT;
}
int op_lar(struct interp *c, const struct op *op) { return describe(c, op, x86_lar); }
int op_lsl(struct interp *c, const struct op *op) { return describe(c, op, x86_lsl); }

static int verify(struct interp *c, const struct op *op, bool write)
{
	u16 selector;
	bool ok;

	interp_count(c, X86_BEHAVIOUR_SENSITIVE);
	TRY_OP(need_descriptors(c));
	TRY_OP(src16(c, op, &selector));
	TRY_OP(x86_verify(cpu_of(c), selector, write, &ok));
	set_zf(c, ok);
	return OP_NEXT;
}
int op_verr(struct interp *c, const struct op *op) { return verify(c, op, false); }
int op_verw(struct interp *c, const struct op *op) { return verify(c, op, true); }

/* ---- the rest ---- */

/* Instructions of features the model hides but whose CPL check comes first. */
int op_gp_cpl(struct interp *c, const struct op *op)
{
	TRY_OP(x86_require_cpl0(cpu_of(c)));
	return op_ud(c, op);
}

/* KVM's hypercall ABI (Documentation/virt/kvm/x86/hypercalls.rst): none is offered, -KVM_ENOSYS. */
int op_hypercall(struct interp *c, const struct op *op)
{
	TRY_OP(x86_require_cpl0(cpu_of(c)));
	c->s->gpr[RAX] = (u64)-1000ll;
	return OP_NEXT;
}

static int image_address(
	struct interp *c, const struct op *op, unsigned size, unsigned access, gva_t *at)
{
	return x86_linear(cpu_of(c), (enum x86_segreg)op->seg, op_ea(c, op), size, access, at);
}

/* The whole area must be accessible, also where nothing is read or written: processors check that
 * first. */
static int probe_area(
	struct interp *c, gva_t at, unsigned size, unsigned alignment, unsigned access)
{
	if (at.v & (alignment - 1))
		return X86_OK; /* #GP is for x86/ to raise */
	TRY(mmu_probe(&c->mmu, at.v + size - 1, 1, access));
	return mmu_probe(&c->mmu, at.v, 1, access);
}

int op_fxsave(struct interp *c, const struct op *op)
{
	gva_t at;

	TRY_OP(x86_check_simd(cpu_of(c), X86_SIMD_FXSAVE));
	TRY_OP(image_address(c, op, 512, ACCESS_WRITE, &at));
	TRY_OP(probe_area(c, at, 512, 16, ACCESS_WRITE));
	return plain(x86_fxsave(cpu_of(c), at, ACCESS_WRITE, op->flags & OPF_REX_W));
}

int op_fxrstor(struct interp *c, const struct op *op)
{
	gva_t at;

	TRY_OP(x86_check_simd(cpu_of(c), X86_SIMD_FXSAVE));
	TRY_OP(image_address(c, op, 512, ACCESS_READ, &at));
	TRY_OP(probe_area(c, at, 512, 16, ACCESS_READ));
	return plain(x86_fxrstor(cpu_of(c), at, ACCESS_READ, op->flags & OPF_REX_W));
}

/* op->extra: enum x86_xsave_form. */
int op_xsave(struct interp *c, const struct op *op)
{
	gva_t at;

	TRY_OP(x86_check_simd(cpu_of(c), X86_SIMD_XSAVE));
	if (op->extra == X86_XSAVES) {
		interp_count(c, X86_PRIVILEGED);
		TRY_OP(x86_require_cpl0(cpu_of(c)));
	}
	u64 rfbm = from_edx_eax(c) & (c->s->xcr0 | (op->extra == X86_XSAVES ? c->s->xss : 0));
	u32 size = x86_xsave_size(
		cpu_of(c)->model, rfbm, op->extra == X86_XSAVEC || op->extra == X86_XSAVES);
	TRY_OP(image_address(c, op, size, ACCESS_WRITE, &at));
	TRY_OP(probe_area(c, at, size, 64, ACCESS_WRITE));
	return plain(x86_xsave(cpu_of(c), at, from_edx_eax(c), (enum x86_xsave_form)op->extra,
		op->flags & OPF_REX_W));
}

/* op->extra: XRSTORS. */
int op_xrstor(struct interp *c, const struct op *op)
{
	gva_t at;

	TRY_OP(x86_check_simd(cpu_of(c), X86_SIMD_XSAVE));
	if (op->extra) {
		interp_count(c, X86_PRIVILEGED);
		TRY_OP(x86_require_cpl0(cpu_of(c)));
	}
	TRY_OP(image_address(c, op, 576, ACCESS_READ, &at));
	/* the legacy region and the header, even when nothing in them is asked for */
	TRY_OP(probe_area(c, at, 576, 64, ACCESS_READ));
	return plain(x86_xrstor(cpu_of(c), at, from_edx_eax(c), op->extra, op->flags & OPF_REX_W));
}

/* ---- x87 environment: layouts depend on the operand size, never on the host ---- */

static unsigned fenv_size(const struct op *op) { return op->size == 2 ? 2 : 4; }

/* With alignment checks on, an image is aligned like its words. */
static int check_image(
	struct interp *c, const struct op *op, unsigned len, unsigned access, gva_t *at)
{
	TRY(image_address(c, op, len, access, at));
	if (unlikely(c->mmu.align) && at->v & (fenv_size(op) - 1))
		return x86_fault_code(cpu_of(c), X86_AC, 0);
	return X86_OK;
}

static int put_image(struct interp *c, const struct op *op, const u8 *image, unsigned len)
{
	gva_t at;

	TRY(check_image(c, op, len, ACCESS_WRITE, &at));
	return mmu_write(&c->mmu, at.v, image, len, ACCESS_WRITE);
}

static int get_image(struct interp *c, const struct op *op, u8 *image, unsigned len)
{
	gva_t at;

	TRY(check_image(c, op, len, ACCESS_READ, &at));
	return mmu_read(&c->mmu, at.v, image, len, ACCESS_READ);
}

/* Instructions without an N in their name report a pending exception first (SDM 1 8.7.1). */
static int check_waiting_x87(struct interp *c)
{
	TRY(x86_check_simd(cpu_of(c), X86_SIMD_X87));
	return c->s->fpu.fsw & BIT(7) ? x86_fault_plain(cpu_of(c), X86_MF) : X86_OK;
}

int op_fnstenv(struct interp *c, const struct op *op)
{
	u8 image[28];

	TRY_OP(x86_check_simd(cpu_of(c), X86_SIMD_X87));
	TRY_OP(put_image(c, op, image, x86_fenv_store(c->s, fenv_size(op), image)));
	c->s->fpu.fcw |= 0x3f; /* all exceptions masked afterwards */
	x86_fpu_summarize(&c->s->fpu);
	return OP_NEXT;
}

int op_fldenv(struct interp *c, const struct op *op)
{
	u8 image[28];

	TRY_OP(check_waiting_x87(c));
	TRY_OP(get_image(c, op, image, fenv_size(op) == 2 ? 14 : 28));
	x86_fenv_load(c->s, fenv_size(op), image);
	return OP_NEXT;
}

int op_fnsave(struct interp *c, const struct op *op)
{
	struct x86_fpu *f = &c->s->fpu;
	u8 image[28 + 80];

	TRY_OP(x86_check_simd(cpu_of(c), X86_SIMD_X87));
	unsigned at = x86_fenv_store(c->s, fenv_size(op), image);
	for (unsigned i = 0; i < 8; i++)
		memcpy(image + at + 10 * i, f->st[i], 10);
	TRY_OP(put_image(c, op, image, at + 80));
	f->fcw = 0x37f;
	x86_fpu_set_fsw(f, 0);
	f->ftw = 0;
	f->fop = 0;
	f->fip = f->fdp = 0;
	return OP_NEXT;
}

int op_frstor(struct interp *c, const struct op *op)
{
	unsigned env = fenv_size(op) == 2 ? 14 : 28;
	u8 image[28 + 80];

	TRY_OP(check_waiting_x87(c));
	TRY_OP(get_image(c, op, image, env + 80));
	x86_fenv_load(c->s, fenv_size(op), image);
	for (unsigned i = 0; i < 8; i++) {
		memset(c->s->fpu.st[i], 0, 16);
		memcpy(c->s->fpu.st[i], image + env + 10 * i, 10);
	}
	return OP_NEXT;
}
