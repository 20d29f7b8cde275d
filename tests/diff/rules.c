/*
 * What the comparison leaves out, instruction by instruction, and why. Nothing is skipped by class:
 * an instruction is compared completely unless it stands here.
 */
#include "diff.h"
#include <cpuid.h>

#define M(name) ZYDIS_MNEMONIC_##name

static const struct {
	ZydisMnemonic mnemonic;
	const char *why;
} excluded[] = {
	{ M(SYSCALL), "enters the host's kernel" },
	{ M(SYSENTER), "enters the host's kernel" },
	{ M(CPUID), "answers come from the CPU model, not the host" },
	{ M(XGETBV), "XCR0 and XINUSE are the CPU model's" },
	{ M(RDTSC), "time" },
	{ M(RDTSCP), "time" },
	{ M(RDRAND), "random" },
	{ M(RDSEED), "random" },
	{ M(SGDT), "Linux emulates it in user mode with invented values (UMIP)" },
	{ M(SIDT), "Linux emulates it in user mode with invented values (UMIP)" },
	{ M(SMSW), "Linux emulates it in user mode with invented values (UMIP)" },
	{ M(SLDT), "Linux emulates it in user mode with invented values (UMIP)" },
	{ M(STR), "Linux emulates it in user mode with invented values (UMIP)" },
	{ M(VMCALL), "answered by the hypervisor below the host" },
	{ M(VMMCALL), "answered by the hypervisor below the host" },
	{ M(INT1), "hypervisors inject its #DB with RIP at the instruction" },
	{ M(VMRUN), "the CPU model hides SVM; the host's #GP is its hypervisor's" },
	{ M(VMLOAD), "the CPU model hides SVM; the host's #GP is its hypervisor's" },
	{ M(VMSAVE), "the CPU model hides SVM; the host's #GP is its hypervisor's" },
	{ M(STGI), "the CPU model hides SVM; the host's #GP is its hypervisor's" },
	{ M(CLGI), "the CPU model hides SVM; the host's #GP is its hypervisor's" },
	{ M(SKINIT), "the CPU model hides SVM; the host's #GP is its hypervisor's" },
	{ M(INVLPGA), "the CPU model hides SVM; the host's #GP is its hypervisor's" },
	{ M(PVALIDATE), "the CPU model hides SNP" },
	{ M(RDPRU), "the CPU model hides it" },
	{ M(MONITORX), "the CPU model hides it" },
	{ M(MWAITX), "the CPU model hides it" },
	{ M(RDPKRU), "the CPU model hides it" },
	{ M(WRPKRU), "the CPU model hides it" },
	{ M(MCOMMIT), "the CPU model hides it" },
	{ M(CLUI), "RDPKRU to a host without user interrupts; the CPU model hides both" },
	{ M(STUI), "WRPKRU to a host without user interrupts; the CPU model hides both" },
	{ M(TESTUI), "the CPU model hides it" },
	{ M(UIRET), "the CPU model hides it" },
	{ M(SENDUIPI), "the CPU model hides it" },
};

/* Does the host's XCR0 have components that the CPU model hides (PKRU, AMX)? Then what these store
 * depends on RFBM bits that the guest has not. */
static bool more_state_than_modelled(void)
{
	unsigned a = 1, b, c, d, lo, hi;

	__cpuid_count(1, 0, a, b, c, d);
	if (!(c & BIT(27)))
		return false;
	__asm__("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return lo & ~(u32)(XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_AVX512);
}

static const ZydisMnemonic xsaves[] = { M(XSAVE), M(XSAVE64), M(XSAVEC), M(XSAVEC64), M(XSAVEOPT),
	M(XSAVEOPT64), M(XRSTOR), M(XRSTOR64) };
#define HOST_STATE "this host's XCR0 has components that the CPU model hides"

const char *rules_excluded(ZydisMnemonic m)
{
	for (unsigned i = 0; i < ARRAY_LEN(xsaves); i++)
		if (xsaves[i] == m && more_state_than_modelled())
			return HOST_STATE;
	for (unsigned i = 0; i < ARRAY_LEN(excluded); i++)
		if (excluded[i].mnemonic == m)
			return excluded[i].why;
	return NULL;
}

#define MULTIPLY "the engine leaves them; so does AMD, Intel sets SF and PF from the product"
#define SCAN \
	"the engine's are a scan's of 64 bits; AMD's differ with the operand's width before Zen 4"
#define DIVIDE "the engine leaves them; AMD sets AF"

static const struct {
	ZydisMnemonic mnemonic;
	u64 flags;
	const char *why;
} undefined[] = {
	{ M(MUL), FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF, MULTIPLY },
	{ M(IMUL), FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF, MULTIPLY },
	{ M(AAA), FLAG_PF | FLAG_ZF | FLAG_SF | FLAG_OF,
		"the engine computes them from AL; AMD from an intermediate value" },
	{ M(AAS), FLAG_PF | FLAG_ZF | FLAG_SF | FLAG_OF,
		"the engine computes them from AL; AMD from an intermediate value" },
	{ M(DAA), FLAG_OF, "the engine clears it; AMD has an intermediate addition's" },
	{ M(DAS), FLAG_OF, "the engine clears it; AMD has an intermediate subtraction's" },
	{ M(BSF), FLAGS_STATUS & ~FLAG_ZF, SCAN },
	{ M(BSR), FLAGS_STATUS & ~FLAG_ZF, SCAN },
	{ M(DIV), FLAGS_STATUS, DIVIDE },
	{ M(IDIV), FLAGS_STATUS, DIVIDE },
};

u64 rules_undefined_flags(ZydisMnemonic m)
{
	for (unsigned i = 0; i < ARRAY_LEN(undefined); i++)
		if (undefined[i].mnemonic == m)
			return undefined[i].flags;
	return 0;
}

/* They make several accesses and checks, and the manuals do not say in which order: when more than
 * one of them faults, processors differ in which fault it is. */
bool rules_any_fault(ZydisMnemonic m)
{
	static const ZydisMnemonic list[] = { M(IRET), M(IRETD), M(IRETQ), M(RET), M(FXSAVE),
		M(FXSAVE64), M(FXRSTOR), M(FXRSTOR64), M(XSAVE), M(XSAVE64), M(XSAVEC), M(XSAVEC64),
		M(XSAVEOPT), M(XSAVEOPT64), M(XRSTOR), M(XRSTOR64), M(FNSAVE), M(FRSTOR),
		M(FNSTENV), M(FLDENV), M(POPA), M(POPAD), M(PUSHA), M(PUSHAD), M(BOUND), M(ENTER),
		M(CMPSB), M(CMPSW), M(CMPSD), M(CMPSQ) };

	for (unsigned i = 0; i < ARRAY_LEN(list); i++)
		if (list[i] == m)
			return true;
	return false;
}

/* Undefined flags, which a later instruction may look at; the x87 pointers, which AMD's processors
 * save as zeros unless an exception is pending; FCS and FDS, which the CPU model has not. */
bool rules_alone(ZydisMnemonic m)
{
	static const ZydisMnemonic list[] = { M(FXSAVE), M(FXSAVE64), M(XSAVE), M(XSAVE64),
		M(XSAVEC), M(XSAVEC64), M(XSAVEOPT), M(XSAVEOPT64), M(FNSAVE), M(FNSTENV) };

	if (rules_undefined_flags(m))
		return true;
	for (unsigned i = 0; i < ARRAY_LEN(list); i++)
		if (list[i] == m)
			return true;
	return false;
}

static void print_flags(FILE *to, u64 flags)
{
	static const struct {
		u64 flag;
		const char *name;
	} names[] = { { FLAG_CF, "CF" }, { FLAG_PF, "PF" }, { FLAG_AF, "AF" }, { FLAG_ZF, "ZF" },
		{ FLAG_SF, "SF" }, { FLAG_OF, "OF" } };

	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		if (flags & names[i].flag)
			fprintf(to, " %s", names[i].name);
}

void rules_print_undefined(FILE *to)
{
	for (unsigned i = 0; i < ARRAY_LEN(undefined); i++) {
		if (!undefined[i].flags)
			continue;
		fprintf(to, "%-12s", ZydisMnemonicGetString(undefined[i].mnemonic));
		print_flags(to, undefined[i].flags);
		fprintf(to, "   %s\n", undefined[i].why);
	}
}

void rules_print_excluded(FILE *to)
{
	for (unsigned i = 0; more_state_than_modelled() && i < ARRAY_LEN(xsaves); i++)
		fprintf(to, "%-12s %s\n", ZydisMnemonicGetString(xsaves[i]), HOST_STATE);
	for (unsigned i = 0; i < ARRAY_LEN(excluded); i++)
		fprintf(to, "%-12s %s\n", ZydisMnemonicGetString(excluded[i].mnemonic),
			excluded[i].why);
}
