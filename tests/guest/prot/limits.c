/* Limits and types at each access: expand-up, expand-down, read-only, execute-only (SDM
 * 3A 5.3-5.5). */
#include "guest.h"

#define SLOT(n) (FREE0 / 8 + (n))
#define SEL(n)	(FREE0 + (n)*8)

static u8 data[8192] ALIGNED(4096);

static void use(u64 d)
{
	gdt[SLOT(0)] = d;
	__asm__ volatile("mov %0, %%fs" ::"r"(SEL(0)));
}

static void expand_up(void)
{
	use(descriptor((u32)data, 15, 0x93, 4));
	EXPECT_OK("movb %%fs:15, %%al", : : : "eax");
	EXPECT(V_GP, 0, "movb %%fs:16, %%al", : : : "eax");
	EXPECT_OK("movl %%fs:12, %%eax", : : : "eax");
	EXPECT(V_GP, 0, "movl %%fs:13, %%eax", : : : "eax");
	EXPECT(V_GP, 0, "movl %%fs:0xfffffffe, %%eax", : : : "eax");
	EXPECT(V_GP, 0, "movw $1, %%fs:15", : : : "memory");
	use(descriptor((u32)data, 0, 0x93, 0xc)); /* in pages: 4096 bytes */
	EXPECT_OK("movb %%fs:4095, %%al", : : : "eax");
	EXPECT(V_GP, 0, "movb %%fs:4096, %%al", : : : "eax");
}

static void expand_down(void)
{
	use(descriptor((u32)data, 15, 0x97, 4));
	EXPECT(V_GP, 0, "movb %%fs:15, %%al", : : : "eax");
	EXPECT_OK("movb %%fs:16, %%al", : : : "eax");
	EXPECT(V_GP, 0, "movl %%fs:15, %%eax", : : : "eax");
	EXPECT_OK("movl %%fs:4096, %%eax", : : : "eax");
	/* B clear: the top is 0xffff. */
	use(descriptor((u32)data, 15, 0x97, 0));
	EXPECT(V_GP, 0, "movb %%fs:0x10000, %%al", : : : "eax");
	EXPECT(V_GP, 0, "movl %%fs:0xfffe, %%eax", : : : "eax");
}

static void types(void)
{
	use(descriptor((u32)data, 0xfff, 0x91, 4));
	EXPECT_OK("movl %%fs:0, %%eax", : : : "eax");
	EXPECT(V_GP, 0, "movl $1, %%fs:0", : : : "memory");
	use(descriptor((u32)data, 0xfff, 0x9b, 4)); /* readable code */
	EXPECT_OK("movl %%fs:0, %%eax", : : : "eax");
	EXPECT(V_GP, 0, "movl $1, %%fs:0", : : : "memory");
	EXPECT(V_GP, 0, "movl $1, %%cs:data", : : : "memory");
}

/* A repeated string instruction gets as far as the limit, and its registers say how far. */
static void strings(void)
{
	u32 di = 4, cx = 100, si = 8;

	gdt[SLOT(2)] = descriptor((u32)data, 63, 0x93, 4);
	trap.vector = NO_TRAP;
	__asm__ volatile("mov %%es, %%ebx\n\tmovl $1f, trap_resume\n\tmov %2, %%es\n\t"
			 "mov $0x5a, %%al\n\trep stosb\n1:\tmov %%ebx, %%es"
			 : "+D"(di), "+c"(cx)
			 : "r"(SEL(2))
			 : "eax", "ebx", "memory");
	CHECK_EQ(trap.vector, V_GP);
	CHECK_EQ(di, 64);
	CHECK_EQ(cx, 40);
	CHECK_EQ(data[63], 0x5a);
	CHECK_EQ(data[64], 0);
	/* The source's limit is another one: nothing of the destination beyond it is written. */
	trap.vector = NO_TRAP;
	di = (u32)data + 4096;
	cx = 30;
	__asm__ volatile("mov %%fs, %%ebx\n\tmovl $1f, trap_resume\n\tmov %3, %%fs\n\t"
			 "rep fs movsl\n1:\tmov %%ebx, %%fs"
			 : "+D"(di), "+c"(cx), "+S"(si)
			 : "r"(SEL(2))
			 : "ebx", "memory");
	CHECK_EQ(trap.vector, V_GP);
	CHECK_EQ(si, 64);
	CHECK_EQ(cx, 30 - 14);
	CHECK_EQ(di, (u32)data + 4096 + 56);
	CHECK_EQ(data[4096 + 55], 0x5a);
	CHECK_EQ(data[4096 + 56], 0);
	trap_resume = 0;
}

static void stack(void)
{
	/* Through SS the fault is #SS(0). The segment leaves out the first page only: the trap
	 * needs a stack. */
	gdt[SLOT(1)] = descriptor(0, 0, 0x97, 0xc);
	trap.vector = NO_TRAP;
	__asm__ volatile("mov %%ss, %%ebx\n\tmovl $1f, trap_resume\n\tmov %1, %%ss\n\t"
			 "movl %%ss:(%0), %%eax\n1:\tmov %%ebx, %%ss" ::"r"(0xffc),
			 "r"(SEL(1))
			 : "eax", "ebx", "memory");
	CHECK_EQ(trap.vector, V_SS);
	CHECK_EQ(trap.error, 0);
	trap_resume = 0;
}

static void descriptor_tables(void)
{
	struct {
		u16 limit;
		u32 base;
	} __attribute__((packed)) old, small;

	__asm__ volatile("mov %0, %%fs" ::"r"(KDATA)); /* the trap's way back reloads FS */
	/* A selector one byte beyond the table is outside. */
	__asm__ volatile("sgdt %0" : "=m"(old));
	small = old;
	small.limit = SEL(0) + 6;
	__asm__ volatile("lgdt %0" ::"m"(small));
	EXPECT(V_GP, SEL(0), "mov %0, %%fs", : : "r"(SEL(0)));
	small.limit = SEL(0) + 7;
	__asm__ volatile("lgdt %0" ::"m"(small));
	EXPECT_OK("mov %0, %%fs", : : "r"(SEL(0)));
	__asm__ volatile("lgdt %0\n\tmov %1, %%fs" ::"m"(old), "r"(KDATA));
}

const struct test tests[] = {
	{ "expand up", expand_up, CHEAP },
	{ "expand down", expand_down, CHEAP },
	{ "types", types, CHEAP },
	{ "strings", strings, CHEAP },
	{ "stack", stack, CHEAP },
	{ "tables", descriptor_tables, CHEAP },
	{ 0 },
};
