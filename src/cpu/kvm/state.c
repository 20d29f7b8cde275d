/*
 * struct x86_state to and from KVM's structures.
 *
 * A pulled state is complete: events that KVM accepted but has not delivered (it keeps them outside
 * the architectural state) are delivered by x86/ on the pulled state, which is then pushed back. So
 * the state can be saved, or go on in another engine, with nothing lost.
 *
 * KVM's mp_state stays RUNNABLE, the only value it allows without an in-kernel local APIC; what the
 * processor waits for is in x86_state.activity, kept by run(). With one (irqchip.c) it is the other
 * way round. The APIC's registers are not moved here: cpu/irqchip.h.
 */
#include "base/bits.h"
#include "cpu/kvm/kvm_priv.h"
#include "os/tsc.h"
#include "x86/cpuid.h"
#include "x86/exception.h"
#include "x86/msr.h"
#include "x86/xsave.h"
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#define EFER_AUTOIBRS BIT64(21)

static int call(struct vcpu *v, unsigned long request, const char *name, void *arg)
{
	struct kvm_vcpu *k = v->engine_data;

	if (ioctl(k->fd, request, arg) >= 0)
		return 0;
	return err_set(&v->error, -errno, "vcpu %u: %s: %s", v->index, name, strerror(errno));
}
#define CALL(v, request, arg) call(v, request, #request, arg)

/* ---- general registers ---- */

/* struct kvm_regs lists them in another order than the encoding's. */
/* clang-format off */
#define REGS(X) \
	X(RAX, rax) X(RCX, rcx) X(RDX, rdx) X(RBX, rbx) X(RSP, rsp) X(RBP, rbp) X(RSI, rsi) X(RDI, rdi) \
	X(R8, r8) X(R9, r9) X(R10, r10) X(R11, r11) X(R12, r12) X(R13, r13) X(R14, r14) X(R15, r15)
/* clang-format on */

static int pull_regs(struct vcpu *v)
{
	struct x86_state *s = &v->x86.s;
	struct kvm_regs r;
	int ret = CALL(v, KVM_GET_REGS, &r);

	if (ret < 0)
		return ret;
#define X(index, name) s->gpr[index] = r.name;
	REGS(X)
#undef X
	s->rip = r.rip;
	s->rflags = r.rflags;
	return 0;
}

static int push_regs(struct vcpu *v)
{
	const struct x86_state *s = &v->x86.s;
	struct kvm_regs r = { .rip = s->rip, .rflags = s->rflags | FLAG_ONE };

#define X(index, name) r.name = s->gpr[index];
	REGS(X)
#undef X
	return CALL(v, KVM_SET_REGS, &r);
}

/* ---- segments and control registers ---- */

static struct x86_seg seg_in(const struct kvm_segment *k)
{
	return (struct x86_seg){
		.selector = k->selector,
		.base = k->base,
		.limit = k->limit,
		.attr = k->type | (u32)k->s << 4 | (u32)k->dpl << 5 | (u32)k->present << 7 |
			(u32)k->avl << 12 | (u32)k->l << 13 | (u32)k->db << 14 | (u32)k->g << 15 |
			(k->unusable ? SEG_UNUSABLE : 0),
	};
}

static struct kvm_segment seg_out(const struct x86_seg *s)
{
	return (struct kvm_segment){
		.base = s->base,
		.limit = s->limit,
		.selector = s->selector,
		.type = s->attr & SEG_TYPE,
		.s = !!(s->attr & SEG_S),
		.dpl = (u8)SEG_DPL(s->attr),
		.present = !!(s->attr & SEG_P),
		.avl = !!(s->attr & SEG_AVL),
		.l = !!(s->attr & SEG_L),
		.db = !!(s->attr & SEG_DB),
		.g = !!(s->attr & SEG_G),
		.unusable = !!(s->attr & SEG_UNUSABLE),
	};
}

/* clang-format off */
#define SEGMENTS(X) \
	X(X86_ES, es) X(X86_CS, cs) X(X86_SS, ss) X(X86_DS, ds) X(X86_FS, fs) X(X86_GS, gs) X(X86_LDTR, ldt) X(X86_TR, tr)
/* clang-format on */

static int pull_sregs(struct vcpu *v)
{
	struct x86_state *s = &v->x86.s;
	struct kvm_sregs r;
	int ret = CALL(v, KVM_GET_SREGS, &r);

	if (ret < 0)
		return ret;
#define X(index, name) s->seg[index] = seg_in(&r.name);
	SEGMENTS(X)
#undef X
	s->gdt = (struct x86_table){ r.gdt.base, r.gdt.limit };
	s->idt = (struct x86_table){ r.idt.base, r.idt.limit };
	s->cr0 = r.cr0;
	s->cr2 = r.cr2;
	s->cr3 = r.cr3;
	s->cr4 = r.cr4;
	s->efer = r.efer;
	if (v->irqchip) {
		s->apic_base = r.apic_base;
		((struct kvm_vcpu *)v->engine_data)->cr8 = r.cr8;
	}
	return 0;
}

/* Automatic IBRS has no effect that a program could see; KVM refuses the bit where it lacks it. */
static u64 efer_for(const struct kvm_vm *vm, u64 efer)
{
	const struct kvm_cpuid_entry2 *e = kvm_vm_supported(vm, 0x80000021, 0);

	return e && (e->eax & BIT(8)) ? efer : efer & ~EFER_AUTOIBRS;
}

static int push_sregs(struct vcpu *v)
{
	const struct x86_state *s = &v->x86.s;
	struct kvm_vcpu *k = v->engine_data;
	struct kvm_sregs r = {
		.gdt = { .base = s->gdt.base, .limit = s->gdt.limit },
		.idt = { .base = s->idt.base, .limit = s->idt.limit },
		.cr0 = s->cr0,
		.cr2 = s->cr2,
		.cr3 = s->cr3,
		.cr4 = s->cr4,
		.efer = efer_for(k->vm, s->efer),
		.cr8 = v->irqchip ? k->cr8 : v->ops->cr8_read(v->ops_ctx, v),
		.apic_base = s->apic_base,
	};

#define X(index, name) r.name = seg_out(&s->seg[index]);
	SEGMENTS(X)
#undef X
	return CALL(v, KVM_SET_SREGS, &r);
}

/* ---- MSRs ---- */

static void *slot_field(struct x86_state *s, const struct x86_msr_slot *slot)
{
	return (u8 *)s + slot->offset;
}

/*
 * The offset of the guest's TSC: as an attribute where KVM has it, exact and without KVM's guesses
 * about which writes of the counter are meant to synchronize vcpus; else through the counter.
 */
static int tsc_attribute(struct vcpu *v, unsigned long request, u64 *offset)
{
	struct kvm_vcpu *k = v->engine_data;
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL,
		.attr = KVM_VCPU_TSC_OFFSET,
		.addr = (u64)(uintptr_t)offset,
	};

	return ioctl(k->fd, request, &attr);
}

static int pull_tsc(struct vcpu *v)
{
	struct kvm_one_msr t = { .nmsrs = 1, .entry.index = MSR_TSC };
	u64 before, after;
	int ret;

	if (!tsc_attribute(v, KVM_GET_DEVICE_ATTR, &v->x86.s.tsc_offset))
		return 0;
	before = tsc_read();
	ret = CALL(v, KVM_GET_MSRS, &t);
	after = tsc_read();
	v->x86.s.tsc_offset = t.entry.data - (before + (after - before) / 2);
	return ret;
}

static int pull_msrs(struct vcpu *v)
{
	const struct kvm_vm *vm = ((struct kvm_vcpu *)v->engine_data)->vm;

	for (u32 i = 0; i < vm->msr_count; i++) {
		const struct x86_msr_slot *slot = &x86_msr_slots[vm->msrs[i]];
		struct kvm_one_msr t = { .nmsrs = 1, .entry.index = slot->index };
		int ret = CALL(v, KVM_GET_MSRS, &t);

		if (ret < 0)
			return ret;
		memcpy(slot_field(&v->x86.s, slot), &t.entry.data, slot->size);
	}
	return pull_tsc(v);
}

/* 0 when KVM took it; else the error, unless the register is at its reset value of 0 anyway. */
static int push_msr(struct vcpu *v, u32 index, u64 value)
{
	struct kvm_vcpu *k = v->engine_data;
	struct kvm_one_msr t = { .nmsrs = 1, .entry = { .index = index, .data = value } };

	if (ioctl(k->fd, KVM_SET_MSRS, &t) == 1 || !value)
		return 0;
	return err_set(&v->error, -EIO, "vcpu %u: KVM refuses 0x%llx in MSR 0x%x (%s)", v->index,
		(unsigned long long)value, index, x86_msr_name(index) ?: "unnamed");
}

static int push_tsc(struct vcpu *v)
{
	u64 offset = v->x86.s.tsc_offset;

	if (!tsc_attribute(v, KVM_SET_DEVICE_ATTR, &offset))
		return 0;
	return push_msr(v, MSR_TSC, tsc_read() + offset);
}

/* Not x86_wrmsr(), which would also renew the kvmclock page: here that is KVM's. */
int kvm_write_tsc(struct vcpu *v, u32 index, u64 value)
{
	struct x86_state *s = &v->x86.s;
	u64 now = index == MSR_TSC ? tsc_read() + s->tsc_offset : s->tsc_adjust;
	bool adjust = x86_model_has(v->x86.model, 7, 0, 1, 1);

	if (index == MSR_TSC_ADJUST && !adjust)
		return x86_gp(&v->x86, 0);
	s->tsc_offset += value - now;
	s->tsc_adjust += value - now;
	if (push_tsc(v) || (adjust && push_msr(v, MSR_TSC_ADJUST, s->tsc_adjust)))
		return x86_gp(&v->x86, 0);
	if (v->ops->tsc_changed)
		v->ops->tsc_changed(v->ops_ctx, v);
	return X86_OK;
}

static int push_msrs(struct vcpu *v)
{
	const struct kvm_vm *vm = ((struct kvm_vcpu *)v->engine_data)->vm;
	int ret = push_tsc(v);

	for (u32 i = 0; i < vm->msr_count && !ret; i++) {
		const struct x86_msr_slot *slot = &x86_msr_slots[vm->msrs[i]];
		u64 value = 0;

		memcpy(&value, slot_field(&v->x86.s, slot), slot->size);
		ret = push_msr(v, slot->index, value);
	}
	return ret;
}

/* ---- floating point, XCR0, debug registers ---- */

static int pull_fpu(struct vcpu *v)
{
	struct kvm_xcrs xcrs;
	struct kvm_xsave x;
	int ret = CALL(v, KVM_GET_XSAVE, &x);

	if (ret < 0)
		return ret;
	x86_xsave_image_load(&v->x86, (const u8 *)x.region, sizeof(x.region));
	ret = CALL(v, KVM_GET_XCRS, &xcrs);
	for (u32 i = 0; !ret && i < xcrs.nr_xcrs && i < KVM_MAX_XCRS; i++)
		if (xcrs.xcrs[i].xcr == 0)
			v->x86.s.xcr0 = xcrs.xcrs[i].value;
	return ret;
}

static int push_fpu(struct vcpu *v)
{
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs[0].value = v->x86.s.xcr0 };
	struct kvm_xsave x;
	int ret = CALL(v, KVM_SET_XCRS, &xcrs);

	memset(&x, 0, sizeof(x));
	x86_xsave_image_store(&v->x86, (u8 *)x.region, sizeof(x.region));
	return ret ?: CALL(v, KVM_SET_XSAVE, &x);
}

static int pull_debug(struct vcpu *v)
{
	struct x86_state *s = &v->x86.s;
	struct kvm_debugregs d;
	int ret = CALL(v, KVM_GET_DEBUGREGS, &d);

	if (ret < 0)
		return ret;
	for (unsigned i = 0; i < 4; i++)
		s->dr[i] = d.db[i];
	s->dr6 = d.dr6;
	s->dr7 = d.dr7;
	return 0;
}

static int push_debug(struct vcpu *v)
{
	const struct x86_state *s = &v->x86.s;
	struct kvm_debugregs d = {
		.db = { s->dr[0], s->dr[1], s->dr[2], s->dr[3] }, .dr6 = s->dr6, .dr7 = s->dr7
	};

	return CALL(v, KVM_SET_DEBUGREGS, &d);
}

/* ---- events ---- */

/* Delivers what KVM holds back; true when something was. Exceptions come before interrupts. */
static bool deliver_accepted(struct x86_cpu *cpu, const struct kvm_vcpu_events *e)
{
	bool exception = e->exception.injected || e->exception.pending;

	if (exception) {
		cpu->fault = (struct x86_fault){
			.vector = e->exception.nr,
			.has_error = e->exception.has_error_code,
			.error = e->exception.error_code,
			.address = cpu->s.cr2,
		};
		x86_deliver(cpu);
	}
	if (e->nmi.injected || e->nmi.pending)
		x86_interrupt(cpu, X86_NMI);
	if (e->interrupt.injected && !e->interrupt.soft)
		x86_interrupt(cpu, e->interrupt.nr);
	return exception || e->nmi.injected || e->nmi.pending ||
	       (e->interrupt.injected && !e->interrupt.soft);
}

static int pull_events(struct vcpu *v, struct kvm_vcpu_events *e)
{
	struct x86_state *s = &v->x86.s;
	int ret = CALL(v, KVM_GET_VCPU_EVENTS, e);

	if (ret < 0)
		return ret;
	s->blocking = (e->interrupt.shadow & KVM_X86_SHADOW_INT_STI ? BLOCK_STI : 0) |
		      (e->interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS ? BLOCK_MOV_SS : 0) |
		      (e->nmi.masked ? BLOCK_NMI : 0);
	return 0;
}

static int push_events(struct vcpu *v)
{
	const struct x86_state *s = &v->x86.s;
	struct kvm_vcpu_events e = {
		.interrupt.shadow = (s->blocking & BLOCK_STI ? KVM_X86_SHADOW_INT_STI : 0) |
				    (s->blocking & BLOCK_MOV_SS ? KVM_X86_SHADOW_INT_MOV_SS : 0),
		.nmi.masked = !!(s->blocking & BLOCK_NMI),
		.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
	};

	return CALL(v, KVM_SET_VCPU_EVENTS, &e);
}

/* ---- everything ---- */

int kvm_push(struct vcpu *v)
{
	/* CPUID first gates MSRs and CR4 bits; sregs before MSRs, which EFER and CR4 gate. */
	int ret = push_sregs(v);

	ret = ret ?: push_regs(v);
	ret = ret ?: push_fpu(v);
	ret = ret ?: push_msrs(v);
	ret = ret ?: push_debug(v);
	ret = ret ?: push_events(v);
	return ret || !v->irqchip ? ret : kvm_push_mp_state(v);
}

int kvm_pull(struct vcpu *v)
{
	struct kvm_vcpu_events events;
	int ret = 0;

	/* First: KVM acts on an INIT or a start-up IPI when it is asked, which changes the rest. */
	if (v->irqchip && v->x86.s.activity != X86_SHUTDOWN)
		ret = kvm_pull_mp_state(v);
	ret = ret ?: pull_regs(v);
	ret = ret ?: pull_sregs(v);
	ret = ret ?: pull_msrs(v);
	ret = ret ?: pull_fpu(v);
	ret = ret ?: pull_debug(v);
	ret = ret ?: pull_events(v, &events);
	if (!ret && deliver_accepted(&v->x86, &events))
		ret = kvm_push(v);
	return ret;
}
