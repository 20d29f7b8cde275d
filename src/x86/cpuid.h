/*
 * The CPU model: what CPUID says. Built once per machine from the host's CPUID by a policy table
 * (x86/cpuid.c): each feature bit is passed through, hidden, or forced, with the reason beside it.
 * The policy: everything up to AVX-512 that the host has; SMAP, SMEP, UMIP, PCID, INVPCID,
 * FSGSBASE, 1 GiB pages, invariant TSC, x2APIC, TSC-deadline; an immune CPU (no mitigations
 * needed); the KVM paravirtual leaves with kvmclock; no VMX/SVM, TSX, SGX, PT, PMU, MCE banks, CET,
 * PKU, LA57.
 */
#pragma once
#include "base/err.h"
#include "x86/cpu.h"
#include "x86/topology.h"

struct x86_cpuid {
	u32 eax, ebx, ecx, edx;
};

#define X86_MODEL_LEAVES 96

/* Frequency of the local APIC timer's input (the "core crystal clock" of leaf 0x15 and the bus
 * frequency of leaf 0x40000010): the local APIC model counts at this rate. */
#define X86_APIC_TIMER_HZ 1000000000ull

/* IA32_ARCH_CAPABILITIES of a processor without known speculation flaws (SDM 4 table 2-2): RDCL_NO,
 * IBRS_ALL, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO, IF_PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO,
 * PSDP_NO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO, ITS_NO. */
#define X86_ARCH_CAP_IMMUNE                                                                       \
	(BIT64(0) | BIT64(1) | BIT64(3) | BIT64(4) | BIT64(5) | BIT64(6) | BIT64(8) | BIT64(13) | \
		BIT64(14) | BIT64(15) | BIT64(20) | BIT64(24) | BIT64(26) | BIT64(27) | BIT64(62))

struct x86_model {
	char vendor[13];
	bool amd;	    /* AMD-like behaviour where the vendors differ (SYSRET, SYSENTER in
			     * compatibility mode, MOV SS null, ...) */
	unsigned phys_bits; /* MAXPHYADDR */
	u64 xcr0_mask;	    /* features XCR0 may enable */
	u64 xss_mask;
	u64 efer_mask, cr4_mask; /* bits the guest may set */
	u32 mxcsr_mask;
	u32 xsave_offset[8],
		xsave_size[8]; /* standard format, per component: the host's leaf 0xD */
	u32 xsave_aligned;     /* bit i: component i is 64-byte aligned when compacted */
	u64 tsc_hz;
	struct x86_topology topology;
	unsigned count;
	struct {
		u32 leaf, subleaf;
		bool any_subleaf;
		struct x86_cpuid value;
	} leaf[X86_MODEL_LEAVES];
};

/* What the builder reads of the host: a function, so that tests can feed other hosts. */
typedef struct x86_cpuid (*x86_host_cpuid)(u32 leaf, u32 subleaf);
struct x86_cpuid x86_native_cpuid(u32 leaf, u32 subleaf);

/* tsc_hz: the host's TSC frequency, measured or known. */
void x86_model_build(struct x86_model *model, x86_host_cpuid host, u64 tsc_hz,
	const struct x86_topology *topology);

/* A model as files have it, little-endian: what CPUID has said to the guest. */
struct x86_model_saved {
	u64 tsc_hz;
	u32 count, reserved;
	struct {
		u32 leaf, subleaf, eax, ebx, ecx, edx;
	} leaf[X86_MODEL_LEAVES];
};
void x86_model_save(const struct x86_model *model, struct x86_model_saved *saved);
/* The model that says the same, made anew from what it says: whatever the file holds, the result is
 * one that x86_model_build() makes. Refused when there is none. */
NODISCARD int x86_model_load(struct x86_model *model, const struct x86_model_saved *saved,
	const struct x86_topology *topology, struct err *err);
/* Whether a host, whose own model for the same topology is `host`, can be that processor. */
NODISCARD int x86_model_fits(
	const struct x86_model *model, const struct x86_model *host, struct err *err);

/* CPUID as the guest sees it: dynamic bits (OSXSAVE, APIC id, XSAVE sizes for the current XCR0)
 * filled in. apic_id is this vcpu's. */
struct x86_cpuid x86_cpuid(const struct x86_cpu *cpu, u32 leaf, u32 subleaf, u32 apic_id);

/* For instruction gating: is a CPUID feature present in the model? */
bool x86_model_has(const struct x86_model *model, u32 leaf, u32 subleaf, unsigned reg /*0=eax..3*/,
	unsigned bit);
