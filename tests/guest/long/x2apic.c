/* x2APIC: the mode switch, the register MSRs, self-IPI, what is refused (SDM 3A 11.12). */
#include "apic.h"

static volatile u32 count;

static void on_ipi(struct frame *f)
{
	count++;
	wrmsr(0x80b, 0);
}

static bool enter(void)
{
	if (!(cpuid(1, 0).c & 1u << 21)) {
		test_skip("no x2APIC");
		return false;
	}
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0xc00);
	wrmsr(0x80f, 0x1ff);
	trap_hook[0x60] = on_ipi;
	count = 0;
	return true;
}

static void window(void) { __asm__ volatile("sti\n\tnop\n\tnop\n\tcli" ::: "memory"); }

static void self_ipi(void)
{
	if (!enter())
		return;
	wrmsr(0x83f, 0x60);
	CHECK_EQ(rdmsr(0x823), 1); /* IRR of vectors 0x60 to 0x7f */
	window();
	CHECK_EQ(count, 1);
	wrmsr(0x830, APIC_SELF | 0x60); /* the ICR is one 64-bit register */
	window();
	CHECK_EQ(count, 2);
	wrmsr(0x830, (u64)rdmsr(0x802) << 32 | 0x60);
	window();
	CHECK_EQ(count, 3);
}

static void identity(void)
{
	if (!enter())
		return;
	u32 id = (u32)rdmsr(0x802);
	CHECK_EQ(id, cpuid(11, 0).d);
	CHECK_EQ(rdmsr(0x80d), (id >> 4) << 16 | 1u << (id & 15)); /* logical id, read-only */
	CHECK((rdmsr(0x803) & 0xff) >= 0x10);
}

static void refusals(void)
{
	if (!enter())
		return;
	EXPECT(V_GP, 0, "rdmsr", : : "c"(0x831) : "eax", "edx");  /* no ICR high */
	EXPECT(V_GP, 0, "rdmsr", : : "c"(0x80b) : "eax", "edx");  /* EOI is write-only */
	EXPECT(V_GP, 0, "wrmsr", : : "c"(0x80b), "a"(1), "d"(0)); /* and takes 0 only */
	EXPECT(V_GP, 0, "wrmsr", : : "c"(0x802), "a"(0), "d"(0));
	EXPECT(V_GP, 0, "wrmsr", : : "c"(0x80d), "a"(0), "d"(0));
	EXPECT(V_GP, 0, "rdmsr", : : "c"(0x801) : "eax", "edx");
	EXPECT(V_GP, 0, "wrmsr", : : "c"(0x808), "a"(0x100), "d"(0)); /* reserved bits */
	/* Back to xAPIC only by way of disabling it. */
	u64 v = rdmsr(MSR_APIC_BASE);
	EXPECT(V_GP, 0, "wrmsr",
		:
		: "c"(MSR_APIC_BASE), "a"((u32)v & ~0x400u), "d"((u32)(v >> 32)));
}

static void leave(void)
{
	if (!enter())
		return;
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) & ~0xc00ull);
	EXPECT(V_GP, 0, "rdmsr", : : "c"(0x802) : "eax", "edx");
	CHECK(!(cpuid(1, 0).d & 1u << 9)); /* the CPUID bit follows the enable bit */
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0x800);
	EXPECT(V_GP, 0, "rdmsr", : : "c"(0x802) : "eax", "edx");
	CHECK(cpuid(1, 0).d & 1u << 9);
}

const struct test tests[] = {
	{ "self IPI", self_ipi, CHEAP },
	{ "identity", identity, CHEAP },
	{ "refusals", refusals, CHEAP },
	{ "leaving", leave, CHEAP },
	{ 0 },
};
