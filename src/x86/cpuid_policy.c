/*
 * Which CPU features a guest sees, and why (SDM 2A "CPUID", AMD APM 3 appendix E).
 *
 * Three rules produce the table:
 *  - an instruction that programs use directly is passed through: engines run it on the host's own
 *    hardware, and directly executed user code could not be stopped from using it anyway;
 *  - a system feature that x86/ implements in software is forced, whatever the host has;
 *  - what needs hardware, registers or state that the platform does not have is hidden. That is
 * also the fate of every bit no row names. Hidden bits have rows only where somebody might wonder.
 */
#include "x86/cpuid_policy.h"
#include "x86/cpuid.h"

#define B(n) BIT(n)

/* clang-format off */
const struct policy_row x86_policy[] = {
	/* Leaf 1 */
	{ 1, 0, REG_EDX, POLICY_FORCE, B(0) | B(8) | B(15) | B(19) | B(23) | B(24) | B(25) | B(26),
	  "FPU CX8 CMOV CLFSH MMX FXSR SSE SSE2", "part of x86-64" },
	{ 1, 0, REG_EDX, POLICY_FORCE, B(1) | B(2) | B(3) | B(4) | B(5) | B(6) | B(9) | B(11) | B(12) | B(13) | B(16) | B(17),
	  "VME DE PSE TSC MSR PAE APIC SEP MTRR PGE PAT PSE36", "implemented by x86/ and the local APIC" },
	{ 1, 0, REG_EDX, POLICY_PASS, B(27), "SS", "lets the guest skip cache flushes when it sets memory types" },
	{ 1, 0, REG_EDX, POLICY_FORCE, B(7) | B(14), "MCE MCA", "an architecture of no banks: nothing is ever reported. OVMF sets CR4.MCE without asking" },
	{ 1, 0, REG_EDX, POLICY_HIDE, B(18) | B(21) | B(22) | B(29) | B(31), "PSN DS ACPI TM PBE", "no serial number, debug store or thermal control" },
	{ 1, 0, REG_ECX, POLICY_PASS, B(0) | B(1) | B(9) | B(12) | B(13) | B(19) | B(20) | B(22) | B(23) | B(25) | B(28) | B(29) | B(30),
	  "SSE3 PCLMULQDQ SSSE3 FMA CX16 SSE4.1 SSE4.2 MOVBE POPCNT AES AVX F16C RDRAND", "instructions" },
	{ 1, 0, REG_ECX, POLICY_PASS, B(26), "XSAVE", "components and sizes are the host's" },
	{ 1, 0, REG_ECX, POLICY_FORCE, B(17) | B(21) | B(24), "PCID x2APIC TSC-deadline", "implemented by x86/ and the local APIC; cheaper for the guest" },
	{ 1, 0, REG_ECX, POLICY_FORCE, B(31), "HYPERVISOR", "announces the leaves at 0x40000000" },
	{ 1, 0, REG_ECX, POLICY_HIDE, B(3), "MONITOR", "an idle guest must use HLT, which lets the host sleep" },
	{ 1, 0, REG_ECX, POLICY_HIDE, B(5) | B(6), "VMX SMX", "no nested virtualization" },
	{ 1, 0, REG_ECX, POLICY_HIDE, B(2) | B(4) | B(7) | B(8) | B(10) | B(11) | B(14) | B(15) | B(18),
	  "DTES64 DS-CPL EIST TM2 CNXT-ID SDBG xTPR PDCM DCA", "no performance, power or debug hardware" },
	/* Leaf 6 */
	{ 6, 0, REG_EAX, POLICY_FORCE, B(2), "ARAT", "the APIC timer never stops, so no broadcast timer is needed" },
	/* Leaf 7 */
	{ 7, 0, REG_EBX, POLICY_PASS, B(0), "FSGSBASE", "user instructions: directly executed code needs the host's" },
	{ 7, 0, REG_EBX, POLICY_FORCE, B(1) | B(7) | B(10) | B(20), "TSC_ADJUST SMEP INVPCID SMAP", "implemented by x86/" },
	{ 7, 0, REG_EBX, POLICY_FORCE, B(13), "FCS/FDS deprecated", "struct x86_fpu keeps no FPU code and data selectors" },
	{ 7, 0, REG_EBX, POLICY_PASS, B(3) | B(5) | B(8) | B(9) | B(18) | B(19) | B(23) | B(24) | B(29),
	  "BMI1 AVX2 BMI2 ERMS RDSEED ADX CLFLUSHOPT CLWB SHA", "instructions" },
	{ 7, 0, REG_EBX, POLICY_PASS, B(6), "FDP only on exceptions", "x87 instructions run on the host's unit" },
	{ 7, 0, REG_EBX, POLICY_PASS, B(16) | B(17) | B(21) | B(28) | B(30) | B(31), "AVX512 F DQ IFMA CD BW VL", "instructions" },
	{ 7, 0, REG_EBX, POLICY_HIDE, B(4) | B(11), "HLE RTM", "transactions cannot be interpreted, and need mitigations" },
	{ 7, 0, REG_EBX, POLICY_HIDE, B(2) | B(12) | B(14) | B(15) | B(25) | B(26) | B(27), "SGX RDT MPX PT AVX512PF AVX512ER", "no such hardware in the platform" },
	{ 7, 0, REG_ECX, POLICY_PASS, B(1) | B(6) | B(8) | B(9) | B(10) | B(11) | B(12) | B(14) | B(22),
	  "AVX512VBMI VBMI2 GFNI VAES VPCLMULQDQ VNNI BITALG VPOPCNTDQ RDPID", "instructions" },
	{ 7, 0, REG_ECX, POLICY_FORCE, B(2), "UMIP", "implemented by x86/" },
	{ 7, 0, REG_ECX, POLICY_HIDE, B(3) | B(4) | B(31), "PKU OSPKE PKS", "page rights do not include protection keys" },
	{ 7, 0, REG_ECX, POLICY_HIDE, B(7), "CET shadow stacks", "no shadow stack pointer in the state" },
	{ 7, 0, REG_ECX, POLICY_HIDE, B(16), "LA57", "four paging levels" },
	{ 7, 0, REG_ECX, POLICY_HIDE, B(5), "WAITPKG", "as MONITOR" },
	{ 7, 0, REG_ECX, POLICY_HIDE, B(13) | B(23) | B(24) | B(29) | B(30), "TME KL BUS_LOCK ENQCMD SGX_LC", "no such hardware in the platform" },
	{ 7, 0, REG_EDX, POLICY_PASS, B(4) | B(23), "FSRM AVX512_FP16", "instructions" },
	{ 7, 0, REG_EDX, POLICY_FORCE_INTEL, B(26) | B(29), "SPEC_CTRL ARCH_CAPABILITIES", "how Intel says it is immune: enhanced IBRS and the *_NO bits" },
	{ 7, 0, REG_EDX, POLICY_HIDE, B(10) | B(27) | B(28) | B(30) | B(31), "MD_CLEAR STIBP L1D_FLUSH CORE_CAP SSBD", "mitigations are the host's" },
	{ 7, 0, REG_EDX, POLICY_HIDE, B(5) | B(20) | B(22) | B(24) | B(25), "UINTR IBT AMX", "their state is not part of the model" },
	{ 7, 1, REG_EAX, POLICY_PASS, B(4) | B(5) | B(10) | B(11) | B(12), "AVX_VNNI AVX512_BF16 FZRM FSRS FSRC", "instructions" },
	/* Leaf 0xd, subleaf 1 */
	{ 0xd, 1, REG_EAX, POLICY_PASS, B(0) | B(1) | B(2) | B(3), "XSAVEOPT XSAVEC XGETBV1 XSAVES", "implemented by x86/ in the host's layout" },
	{ 0xd, 1, REG_EAX, POLICY_HIDE, B(4), "XFD", "only for AMX" },
	/* KVM's paravirtual leaf */
	{ 0x40000001, 0, REG_EAX, POLICY_FORCE, B(0) | B(3) | B(24), "CLOCKSOURCE CLOCKSOURCE2 CLOCKSOURCE_STABLE", "kvmclock spares the guest timer calibration" },
	{ 0x40000001, 0, REG_EAX, POLICY_FORCE, B(1), "NOP_IO_DELAY", "no writes to port 0x80 as delays" },
	{ 0x40000001, 0, REG_EAX, POLICY_HIDE, B(6), "PV_EOI", "the local APIC does not look at the guest's flag word" },
	/* Extended leaves */
	{ 0x80000001, 0, REG_EDX, POLICY_FORCE, B(11) | B(20) | B(26) | B(27) | B(29), "SYSCALL NX PDPE1GB RDTSCP LM", "implemented by x86/" },
	{ 0x80000001, 0, REG_EDX, POLICY_PASS_AMD, B(22), "MMXEXT", "instructions" },
	{ 0x80000001, 0, REG_EDX, POLICY_HIDE, B(25), "FFXSR", "its FXSAVE leaves registers out" },
	{ 0x80000001, 0, REG_EDX, POLICY_HIDE, B(30) | B(31), "3DNow!", "not in any current processor" },
	{ 0x80000001, 0, REG_ECX, POLICY_FORCE, B(0), "LAHF", "every x86-64-v2 host has it" },
	{ 0x80000001, 0, REG_ECX, POLICY_PASS, B(5) | B(8), "LZCNT PREFETCHW", "instructions" },
	{ 0x80000001, 0, REG_ECX, POLICY_PASS_AMD, B(6) | B(7), "SSE4A MISALIGNSSE", "instructions" },
	{ 0x80000001, 0, REG_ECX, POLICY_FORCE_AMD, B(22), "TOPOEXT", "leaves 0x8000001d and 0x8000001e are filled" },
	{ 0x80000001, 0, REG_ECX, POLICY_HIDE, B(2) | B(12), "SVM SKINIT", "no nested virtualization" },
	{ 0x80000001, 0, REG_ECX, POLICY_HIDE, B(9), "OSVW", "no errata to report" },
	{ 0x80000001, 0, REG_ECX, POLICY_HIDE, B(11) | B(16) | B(21), "XOP FMA4 TBM", "not in any current processor" },
	{ 0x80000001, 0, REG_ECX, POLICY_HIDE, B(29), "MWAITX", "as MONITOR" },
	{ 0x80000001, 0, REG_ECX, POLICY_HIDE, B(3) | B(4) | B(10) | B(13) | B(15) | B(17) | B(19) | B(23) | B(24) | B(26) | B(27) | B(28) | B(30),
	  "EXTAPIC CR8_LEGACY IBS WDT LWP TCE NODEID PERFCTR BPEXT PTSC", "no such hardware in the platform" },
	{ 0x80000007, 0, REG_EDX, POLICY_FORCE, B(8), "invariant TSC", "guest TSC is the host's plus an offset" },
	{ 0x80000008, 0, REG_EBX, POLICY_PASS_AMD, B(0) | B(2), "CLZERO XSAVEERPTR", "instructions" },
	{ 0x80000008, 0, REG_EBX, POLICY_FORCE_AMD, B(26) | B(29), "SSB_NO BTC_NO", "immune: the host's mitigations are the host's" },
	{ 0x80000008, 0, REG_EBX, POLICY_HIDE, B(12) | B(14) | B(15) | B(24) | B(25), "IBPB IBRS STIBP SSBD VIRT_SSBD", "nothing to mitigate" },
	{ 0x80000008, 0, REG_EBX, POLICY_HIDE, B(1) | B(3) | B(4) | B(9) | B(27), "IRPERF INVLPGB RDPRU WBNOINVD CPPC", "no such hardware in the platform" },
	{ 0x80000021, 0, REG_EAX, POLICY_FORCE_AMD, B(2) | B(6), "LFENCE serializing, null selector clears base", "so does x86/; else the guest works around it" },
	{ 0x80000021, 0, REG_EAX, POLICY_FORCE_AMD, B(8), "AUTO_IBRS", "the guest then builds no retpolines" },
	{ 0x80000021, 0, REG_EAX, POLICY_FORCE_AMD, B(29) | B(30), "SRSO_NO SRSO_USER_KERNEL_NO", "no return thunks in the guest" },
	{ 0x80000021, 0, REG_EAX, POLICY_PASS_AMD, B(0) | B(10) | B(11), "NO_NESTED_DATA_BP FSRS FSRC", "instructions" },
	{ 0x80000021, 0, REG_ECX, POLICY_FORCE_AMD, B(1) | B(2), "TSA_SQ_NO TSA_L1_NO", "no VERW on the way to user mode" },
};
const unsigned x86_policy_count = ARRAY_LEN(x86_policy);

const struct policy_needs x86_policy_needs[] = {
	{ XCR0_AVX, 1, 0, REG_ECX, B(12) | B(28) | B(29) },
	{ XCR0_AVX, 7, 0, REG_EBX, B(5) },
	{ XCR0_AVX, 7, 0, REG_ECX, B(9) | B(10) },
	{ XCR0_AVX, 7, 1, REG_EAX, B(4) },
	{ XCR0_AVX512, 7, 0, REG_EBX, B(16) | B(17) | B(21) | B(28) | B(30) | B(31) },
	{ XCR0_AVX512, 7, 0, REG_ECX, B(1) | B(6) | B(11) | B(12) | B(14) },
	{ XCR0_AVX512, 7, 0, REG_EDX, B(23) },
	{ XCR0_AVX512, 7, 1, REG_EAX, B(5) },
};
/* clang-format on */
const unsigned x86_policy_needs_count = ARRAY_LEN(x86_policy_needs);
