/*
 * Model-specific registers as a table (x86/msr.c): number, name, where it lives in the state,
 * which bits may be written, and a function only where a write has consequences. What the table
 * lacks goes to ops->msr_read/msr_write (local APIC), and then is #GP(0).
 */
#pragma once
#include "x86/cpu.h"

#define MSR_TSC			0x010u
#define MSR_APIC_BASE		0x01bu
#define MSR_TSC_ADJUST		0x03bu
#define MSR_UCODE_REV		0x08bu
#define MSR_MTRRCAP		0x0feu
#define MSR_ARCH_CAP		0x10au
#define MSR_SYSENTER_CS		0x174u
#define MSR_SYSENTER_ESP	0x175u
#define MSR_SYSENTER_EIP	0x176u
#define MSR_MISC_ENABLE		0x1a0u
#define MSR_PAT			0x277u
#define MSR_MTRR_DEF_TYPE	0x2ffu
#define MSR_TSC_DEADLINE	0x6e0u
#define MSR_X2APIC_FIRST	0x800u
#define MSR_X2APIC_LAST		0x8ffu
#define MSR_XSS			0xda0u
#define MSR_EFER		0xc0000080u
#define MSR_STAR		0xc0000081u
#define MSR_LSTAR		0xc0000082u
#define MSR_CSTAR		0xc0000083u
#define MSR_SFMASK		0xc0000084u
#define MSR_FS_BASE		0xc0000100u
#define MSR_GS_BASE		0xc0000101u
#define MSR_KERNEL_GS_BASE	0xc0000102u
#define MSR_TSC_AUX		0xc0000103u
#define MSR_KVM_WALL_CLOCK_NEW	0x4b564d00u
#define MSR_KVM_SYSTEM_TIME_NEW 0x4b564d01u
#define MSR_KVM_EOI		0x4b564d04u

/* Speculation controls, debug control and AMD's hardware configuration */
#define MSR_SPEC_CTRL	    0x048u
#define MSR_PRED_CMD	    0x049u
#define MSR_DEBUGCTL	    0x1d9u
#define MSR_AMD_SYSCFG	    0xc0010010u
#define MSR_AMD_HWCR	    0xc0010015u
#define MSR_AMD_DE_CFG	    0xc0011029u
#define MSR_KVM_WALL_CLOCK  0x11u
#define MSR_KVM_SYSTEM_TIME 0x12u

int x86_rdmsr(struct x86_cpu *cpu, u32 index, u64 *value); /* no CPL check */
int x86_wrmsr(struct x86_cpu *cpu, u32 index, u64 value);

/* For traces: the register's name, or NULL when the table does not have it. */
const char *x86_msr_name(u32 index);

/* Fills the guest's pvclock page again: after anything that moved the guest's TSC. */
void x86_kvmclock_update(struct x86_cpu *cpu);

/* RDTSC value; RDTSC itself checks CR4.TSD. */
u64 x86_tsc(struct x86_cpu *cpu);
int x86_rdtsc_allowed(struct x86_cpu *cpu);

/* Every MSR that a save, a KVM transfer or a debugger has to carry, as (index, pointer into state).
 */
struct x86_msr_slot {
	u32 index;
	size_t offset;
	unsigned size; /* of the field: 4 or 8 */
};
extern const struct x86_msr_slot x86_msr_slots[];
extern const unsigned x86_msr_slot_count;
