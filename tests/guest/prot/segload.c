/* Loading segment registers: what is refused, and with which vector and error code (SDM 3A 5.5-5.7;
 * SDM 2 MOV). */
#include "guest.h"

#define SLOT(n) (FREE0 / 8 + (n))
#define SEL(n)	(FREE0 + (n)*8)

static void ds_refusals(void)
{
	gdt[SLOT(0)] = descriptor(0, 0xfffff, 0x13, 0xc); /* data, not present */
	gdt[SLOT(1)] = descriptor(0, 0xfffff, 0x99, 0xc); /* code, execute-only */
	gdt[SLOT(2)] = descriptor(0, 0xfffff, 0x89, 0x0); /* TSS */
	EXPECT(V_NP, SEL(0), "mov %0, %%es", : : "r"(SEL(0)));
	EXPECT(V_GP, SEL(1), "mov %0, %%es", : : "r"(SEL(1)));
	EXPECT(V_GP, SEL(2), "mov %0, %%fs", : : "r"(SEL(2)));
	EXPECT(V_GP, 0xfff8, "mov %0, %%gs", : : "r"(0xfff8));
	EXPECT(V_GP, 0x0c, "mov %0, %%es", : : "r"(0x0c)); /* no LDT */
	/* Readable code is fine as data. */
	EXPECT_OK("mov %0, %%fs\n\tmov %%fs:gdt, %%eax", : : "r"(KCODE) : "eax");
}

static void null_selector(void)
{
	/* Null loads, and faults only when used. */
	EXPECT_OK("mov %0, %%fs", : : "r"(0));
	EXPECT_OK("mov %0, %%fs", : : "r"(3));
	EXPECT(V_GP, 0, "mov %%fs:0, %%eax", : : : "eax");
	EXPECT_OK("mov %0, %%fs", : : "r"(KDATA));
}

static void ss_refusals(void)
{
	gdt[SLOT(0)] = descriptor(0, 0xfffff, 0x13, 0xc); /* not present */
	gdt[SLOT(1)] = descriptor(0, 0xfffff, 0x91, 0xc); /* read-only */
	EXPECT(V_GP, 0, "mov %0, %%ss", : : "r"(0));
	EXPECT(V_SS, SEL(0), "mov %0, %%ss", : : "r"(SEL(0)));
	EXPECT(V_GP, SEL(1), "mov %0, %%ss", : : "r"(SEL(1)));
	EXPECT(V_GP, KCODE, "mov %0, %%ss", : : "r"(KCODE));
	EXPECT(V_GP, UDATA, "mov %0, %%ss", : : "r"(UDATA));	 /* DPL 3 */
	EXPECT(V_GP, KDATA, "mov %0, %%ss", : : "r"(KDATA | 3)); /* RPL 3 */
	EXPECT(V_UD, 0, ".byte 0x8e, 0xc8", : : "a"(KCODE));	 /* mov cs */
}

static void accessed(void)
{
	gdt[SLOT(0)] = descriptor(0, 0xfffff, 0x92, 0xc);
	__asm__ volatile("mov %0, %%fs" ::"r"(SEL(0)));
	CHECK_EQ(gdt[SLOT(0)] >> 40 & 0xff, 0x93);
	__asm__ volatile("mov %0, %%fs" ::"r"(KDATA)); /* the trap's way back reloads FS */
	gdt[SLOT(0)] = descriptor(0, 0xfffff, 0x12, 0xc);
	EXPECT(V_NP, SEL(0), "mov %0, %%fs", : : "r"(SEL(0)));
	CHECK_EQ(gdt[SLOT(0)] >> 40 & 0xff, 0x12);
	__asm__ volatile("mov %0, %%fs" ::"r"(KDATA));
}

static ulong at_ring3(ulong unused)
{
	EXPECT(V_GP, KDATA, "mov %0, %%es", : : "r"(KDATA));
	EXPECT(V_GP, KDATA, "mov %0, %%es", : : "r"(KDATA | 3));
	EXPECT(V_GP, UDATA, "mov %0, %%ss", : : "r"(UDATA)); /* RPL is not CPL */
	EXPECT_OK("mov %0, %%es", : : "r"(UDATA));	     /* DS and ES take any RPL */
	EXPECT_OK("mov %0, %%es", : : "r"(UDATA | 3));
	EXPECT_OK("mov %0, %%fs\n\tmov %%fs:gdt, %%eax",
		  :
		  : "r"(SEL(1))
		  : "eax"); /* conforming code of ring 0 */
	EXPECT(V_GP, SEL(2), "mov %0, %%fs", : : "r"(SEL(2)));
	return 0;
}

static void ring3(void)
{
	gdt[SLOT(1)] = descriptor(0, 0xfffff, 0x9f, 0xc);
	gdt[SLOT(2)] = descriptor(0, 0xfffff, 0x9b, 0xc);
	user_call(at_ring3, 0);
}

static void lldt_ltr(void)
{
	static u64 ldt[2];

	gdt[SLOT(0)] = descriptor((u32)ldt, 15, 0x82, 0);
	gdt[SLOT(1)] = descriptor((u32)ldt, 15, 0x02, 0);
	ldt[1] = descriptor(0x1000, 0xfffff, 0x93, 0xc);
	EXPECT_OK("lldt %w0", : : "r"(SEL(0)));
	EXPECT_OK("mov %0, %%fs", : : "r"(0x0c));
	EXPECT(V_GP, 0x14, "mov %0, %%fs", : : "r"(0x14)); /* beyond its limit */
	__asm__ volatile("mov %0, %%fs" ::"r"(KDATA));	   /* the trap's way back reloads FS */
	EXPECT(V_NP, SEL(1), "lldt %w0", : : "r"(SEL(1)));
	EXPECT(V_GP, KDATA, "lldt %w0", : : "r"(KDATA));
	EXPECT(V_GP, 0x0c, "lldt %w0", : : "r"(0x0c)); /* must lie in the GDT */
	EXPECT_OK("lldt %w0", : : "r"(0));
	EXPECT(V_GP, TSS_SEL, "ltr %w0", : : "r"(TSS_SEL)); /* busy */
	gdt[SLOT(2)] = descriptor((u32)&tss, 103, 0x09, 0);
	EXPECT(V_NP, SEL(2), "ltr %w0", : : "r"(SEL(2)));
}

static void ltr_null(void) { EXPECT(V_GP, 0, "ltr %w0", : : "r"(0)); }

static void far_pointers(void)
{
	struct {
		u32 offset;
		u16 selector;
	} __attribute__((packed)) p = { 0x12345678, KDATA };
	u32 v;

	ATTEMPT("lfs %1, %0", : "=r"(v) : "m"(p));
	CHECK_EQ(v, 0x12345678);
	p.selector = 0xfff8;
	v = 5;
	ATTEMPT("lgs %1, %0", : "+r"(v) : "m"(p));
	CHECK_EQ(trap.vector, V_GP);
	CHECK_EQ(v, 5); /* neither half is loaded */
}

static void pushed(void)
{
	ulong before, after;

	/* PUSH/POP of a segment register moves 4 bytes of stack. */
	__asm__ volatile("mov %%esp, %0\n\tpush %%fs\n\tmov %%esp, %1\n\tpop %%fs"
			 : "=&r"(before), "=&r"(after)::"memory");
	CHECK_EQ(before - after, 4);
	/* A refused POP leaves the stack as it was. */
	trap.vector = NO_TRAP;
	__asm__ volatile("mov %%esp, %0\n\tpush %2\n\tmovl $1f, trap_resume\n\t"
			 "pop %%ss\n1:\tmov %%esp, %1\n\tmov %0, %%esp"
			 : "=&r"(before), "=&r"(after)
			 : "i"(KCODE)
			 : "memory");
	CHECK_EQ(trap.vector, V_GP);
	CHECK_EQ(trap.error, KCODE);
	CHECK_EQ(before - after, 4);
}

const struct test tests[] = {
	{ "DS, ES, FS, GS", ds_refusals, CHEAP },
	{ "null", null_selector, CHEAP },
	{ "SS", ss_refusals, CHEAP },
	{ "accessed bit", accessed, CHEAP },
	{ "ring 3", ring3, CHEAP },
	{ "lldt and ltr", lldt_ltr, CHEAP },
	{ "far pointers", far_pointers, CHEAP },
	{ "push and pop", pushed, CHEAP },
	{ "ltr null", ltr_null, CHEAP },
	{ 0 },
};
