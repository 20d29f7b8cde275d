/* LAR, LSL, VERR, VERW, ARPL (SDM 2; SDM 3A 5.10). */
#include "guest.h"

#define SLOT (FREE0 / 8)

#define QUERY(insn, selector, value)                     \
	({                                               \
		u8 z_;                                   \
		__asm__ volatile(insn "\n\tsetz %0"      \
				 : "=q"(z_), "+r"(value) \
				 : "r"(selector)         \
				 : "cc");                \
		z_;                                      \
	})
#define VERIFY(insn, selector)                                                              \
	({                                                                                  \
		u8 z_;                                                                      \
		__asm__ volatile(insn " %w1\n\tsetz %0" : "=q"(z_) : "r"(selector) : "cc"); \
		z_;                                                                         \
	})

static void lar(void)
{
	u32 v = 0x77;

	CHECK_EQ(QUERY("lar %2, %1", KDATA, v), 1);
	CHECK_EQ(v & 0xf0ff00, 0xc09300);
	CHECK_EQ(QUERY("lar %2, %1", TSS_SEL, v), 1);
	CHECK_EQ(v & 0xff00, 0x8b00);
	v = 0x77;
	CHECK_EQ(QUERY("lar %2, %1", 0, v), 0);
	CHECK_EQ(v, 0x77);
	CHECK_EQ(QUERY("lar %2, %1", 0xfff8, v), 0);
	/* Interrupt gates have no access rights to tell, call gates do. */
	gdt[SLOT] = gate(KCODE, 0, 0x8e, 0);
	CHECK_EQ(QUERY("lar %2, %1", FREE0, v), 0);
	gdt[SLOT] = gate(KCODE, 0, 0x8c, 0);
	CHECK_EQ(QUERY("lar %2, %1", FREE0, v), 1);
	/* Not present does not matter. */
	gdt[SLOT] = descriptor(0, 0xfff, 0x13, 4);
	CHECK_EQ(QUERY("lar %2, %1", FREE0, v), 1);
	/* RPL beyond DPL. */
	CHECK_EQ(QUERY("lar %2, %1", KDATA | 3, v), 0);
}

static void lsl(void)
{
	u32 v = 0;

	CHECK_EQ(QUERY("lsl %2, %1", KDATA, v), 1);
	CHECK_EQ(v, 0xffffffff);
	gdt[SLOT] = descriptor(0, 0x12345, 0x93, 4);
	CHECK_EQ(QUERY("lsl %2, %1", FREE0, v), 1);
	CHECK_EQ(v, 0x12345);
	gdt[SLOT] = descriptor(0, 0x12, 0x93, 0xc);
	CHECK_EQ(QUERY("lsl %2, %1", FREE0, v), 1);
	CHECK_EQ(v, 0x12fff);
	gdt[SLOT] = gate(KCODE, 0, 0x8c, 0); /* a gate has no limit */
	CHECK_EQ(QUERY("lsl %2, %1", FREE0, v), 0);
	CHECK_EQ(v, 0x12fff);
}

static void verr_verw(void)
{
	CHECK_EQ(VERIFY("verr", KDATA), 1);
	CHECK_EQ(VERIFY("verw", KDATA), 1);
	CHECK_EQ(VERIFY("verr", KCODE), 1);
	CHECK_EQ(VERIFY("verw", KCODE), 0);
	CHECK_EQ(VERIFY("verr", 0), 0);
	CHECK_EQ(VERIFY("verr", TSS_SEL), 0);
	gdt[SLOT] = descriptor(0, 0xfff, 0x99, 4);
	CHECK_EQ(VERIFY("verr", FREE0), 0); /* execute-only */
	gdt[SLOT] = descriptor(0, 0xfff, 0x91, 4);
	CHECK_EQ(VERIFY("verr", FREE0), 1);
	CHECK_EQ(VERIFY("verw", FREE0), 0);
	CHECK_EQ(VERIFY("verr", KDATA | 3), 0);
	gdt[SLOT] = descriptor(0, 0xfff, 0x9f, 4);
	CHECK_EQ(VERIFY("verr", FREE0 | 3), 1); /* conforming */
}

static ulong at_ring3(ulong unused)
{
	u32 v = 0;

	CHECK_EQ(VERIFY("verr", KDATA), 0);
	CHECK_EQ(VERIFY("verw", UDATA | 3), 1);
	CHECK_EQ(QUERY("lar %2, %1", KCODE, v), 0);
	CHECK_EQ(QUERY("lar %2, %1", UCODE32, v), 1);
	return 0;
}

static void ring3(void) { user_call(at_ring3, 0); }

static void arpl(void)
{
	u16 v = 0x10;
	u8 z;

	__asm__ volatile("arpl %2, %0\n\tsetz %1" : "+r"(v), "=q"(z) : "r"((u16)3) : "cc");
	CHECK_EQ(z, 1);
	CHECK_EQ(v, 0x13);
	__asm__ volatile("arpl %2, %0\n\tsetz %1" : "+r"(v), "=q"(z) : "r"((u16)1) : "cc");
	CHECK_EQ(z, 0);
	CHECK_EQ(v, 0x13);
}

const struct test tests[] = {
	{ "lar", lar, CHEAP },
	{ "lsl", lsl, CHEAP },
	{ "verr and verw", verr_verw, CHEAP },
	{ "ring 3", ring3, CHEAP },
	{ "arpl", arpl, CHEAP },
	{ 0 },
};
