/*
 * What x86/ functions do to the world when the engine has no paging hardware: linear accesses
 * through the mmu, page-table accesses straight to RAM, everything else to the vcpu's ops.
 */
#include "base/bits.h"
#include "base/must.h"
#include "cpu/mmu.h"
#include <x86intrin.h>

static struct vcpu *vcpu_of(struct x86_cpu *cpu) { return cpu->ctx; }

static int op_load(struct x86_cpu *cpu, gva_t at, void *buf, unsigned len, unsigned access)
{
	return mmu_read(vcpu_of(cpu)->mmu, at.v, buf, len, access);
}

static int op_store(struct x86_cpu *cpu, gva_t at, const void *buf, unsigned len, unsigned access)
{
	return mmu_write(vcpu_of(cpu)->mmu, at.v, buf, len, access);
}

static u64 op_phys_load(struct x86_cpu *cpu, gpa_t at, unsigned size)
{
	const u8 *p = memory_host(vcpu_of(cpu)->memory, at, size);

	if (!p)
		return mask_bytes(size);
	if (size == 8)
		return __atomic_load_n((const u64 *)(const void *)p, __ATOMIC_ACQUIRE);
	return __atomic_load_n((const u32 *)(const void *)p, __ATOMIC_ACQUIRE);
}

static bool op_phys_cas(struct x86_cpu *cpu, gpa_t at, u64 old, u64 new, unsigned size)
{
	struct memory *m = vcpu_of(cpu)->memory;
	struct memory_page page = memory_page(m, at);

	/* Tables in ROM or nowhere keep no accessed bits: let the walk go on. */
	if (!page.host || page.rom)
		return true;

	u8 *p = page.host + (at.v & PAGE_MASK);
	bool swapped;
	if (size == 8) {
		swapped = __atomic_compare_exchange_n(
			(u64 *)(void *)p, &old, new, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
	} else {
		u32 old32 = (u32)old;

		swapped = __atomic_compare_exchange_n((u32 *)(void *)p, &old32, (u32) new, false,
			__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
	}
	if (swapped)
		memory_written(m, at, size);
	return swapped;
}

static bool op_phys_store(struct x86_cpu *cpu, gpa_t at, const void *buf, unsigned len)
{
	return memory_write(vcpu_of(cpu)->memory, at, buf, len);
}

static void op_flush(struct x86_cpu *cpu, enum x86_flush kind, u64 at, unsigned pcid)
{
	mmu_flush(vcpu_of(cpu)->mmu, kind, at, pcid);
}

static void op_mode_changed(struct x86_cpu *cpu) { mmu_refresh(vcpu_of(cpu)->mmu); }

static u32 op_port_in(struct x86_cpu *cpu, u16 port, unsigned size)
{
	struct vcpu *v = vcpu_of(cpu);

	v->stats.port_ios++;
	return (u32)v->ops->port_in(v->ops_ctx, v, port, size);
}

static void op_port_out(struct x86_cpu *cpu, u16 port, unsigned size, u32 value)
{
	struct vcpu *v = vcpu_of(cpu);

	v->stats.port_ios++;
	v->ops->port_out(v->ops_ctx, v, port, size, value);
}

static bool op_msr_read(struct x86_cpu *cpu, u32 index, u64 *value)
{
	struct vcpu *v = vcpu_of(cpu);

	return v->ops->msr_read(v->ops_ctx, v, index, value);
}

static bool op_msr_write(struct x86_cpu *cpu, u32 index, u64 value)
{
	struct vcpu *v = vcpu_of(cpu);

	return v->ops->msr_write(v->ops_ctx, v, index, value);
}

static u64 op_cr8_read(struct x86_cpu *cpu)
{
	struct vcpu *v = vcpu_of(cpu);

	return v->ops->cr8_read(v->ops_ctx, v);
}

static void op_cr8_write(struct x86_cpu *cpu, u64 value)
{
	struct vcpu *v = vcpu_of(cpu);

	v->ops->cr8_write(v->ops_ctx, v, value);
}

static u64 op_host_tsc(struct x86_cpu *cpu) { return __rdtsc(); }

static void op_tsc_changed(struct x86_cpu *cpu)
{
	struct vcpu *v = vcpu_of(cpu);

	if (v->ops->tsc_changed)
		v->ops->tsc_changed(v->ops_ctx, v);
}

static u64 op_clock_ns(struct x86_cpu *cpu, u64 host_tsc)
{
	struct vcpu *v = vcpu_of(cpu);

	return v->ops->clock_ns(v->ops_ctx, v, host_tsc);
}

static u64 op_wall_ns(struct x86_cpu *cpu)
{
	struct vcpu *v = vcpu_of(cpu);

	return v->ops->wall_ns(v->ops_ctx, v);
}

const struct x86_ops mmu_x86_ops = {
	.load = op_load,
	.store = op_store,
	.phys_load = op_phys_load,
	.phys_cas = op_phys_cas,
	.phys_store = op_phys_store,
	.flush = op_flush,
	.mode_changed = op_mode_changed,
	.port_in = op_port_in,
	.port_out = op_port_out,
	.msr_read = op_msr_read,
	.msr_write = op_msr_write,
	.cr8_read = op_cr8_read,
	.cr8_write = op_cr8_write,
	.host_tsc = op_host_tsc,
	.tsc_changed = op_tsc_changed,
	.clock_ns = op_clock_ns,
	.wall_ns = op_wall_ns,
};
