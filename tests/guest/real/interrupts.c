/* Real-mode interrupts: IVT, INT n, INTO, BOUND, #DE, #UD, IRET, a moved table (SDM 3B 20.1.4). */
#include "guest.h"

static struct frame last;

static void keep(struct frame *f) { last = *f; }

static void int_n(void)
{
	trap_hook[0x80] = keep;
	write_flags(2 | FLAG_IF | FLAG_CF | FLAG_DF);
	__asm__ volatile("int $0x80" ::: "memory");
	ulong after = read_flags();
	write_flags(2);
	CHECK_EQ(last.vector, 0x80);
	CHECK_EQ(last.cs, 0);
	CHECK_EQ(last.flags & (FLAG_IF | FLAG_CF | FLAG_DF), FLAG_IF | FLAG_CF | FLAG_DF);
	CHECK_EQ(after & (FLAG_IF | FLAG_CF | FLAG_DF),
		FLAG_IF | FLAG_CF | FLAG_DF); /* restored by IRET */
}

static ulong inside;
static void look(struct frame *f) { inside = read_flags(); }

static void cleared(void)
{
	trap_hook[0x81] = look;
	write_flags(2 | FLAG_IF | FLAG_AC);
	__asm__ volatile("int $0x81" ::: "memory");
	write_flags(2);
	CHECK_EQ(inside & (FLAG_IF | FLAG_TF), 0);
}

static void exceptions(void)
{
	EXPECT(V_DE, 0, "divb %%cl", : : "a"(1), "c"(0));
	EXPECT(V_DE, 0, "divl %%ecx", : : "a"(1), "d"(0), "c"(0));
	EXPECT(V_UD, 0, "ud2", : :);
	EXPECT_AT(V_BP, 0, 1, "int3", : :);
	EXPECT_AT(V_OF, 0, 2, "int $4", : :);
	/* Protected-mode instructions do not exist here. */
	EXPECT(V_UD, 0, "sldt %%ax", : : : "eax");
	EXPECT(V_UD, 0, "ltr %%ax", : : "a"(0));
	EXPECT(V_UD, 0, "lar %%ax, %%ax", : : "a"(0));
	EXPECT(V_UD, 0, ".byte 0x63, 0xc0", : : "a"(0)); /* arpl */
}

static void bound(void)
{
	static u16 range[2] = { 5, 10 };

	EXPECT_OK("boundw %%ax, (%%bx)", : : "a"(7), "b"(range));
	EXPECT(V_BR, 0, "boundw %%ax, (%%bx)", : : "a"(11), "b"(range));
}

static void moved_table(void)
{
	struct {
		u16 limit;
		u32 base;
	} __attribute__((packed)) moved = { 0x3ff, 0x20000 }, old = { 0x3ff, 0 };
	extern char trap_stubs[];

	/* LIDT moves the table in real mode too. Vector 0x30 there leads to the stub of 0x31. */
	__asm__ volatile("mov %0, %%fs\n\tmovl %1, %%fs:0x30*4\n\tmov %2, %%fs" ::"r"((u16)0x2000),
			 "r"((u32)trap_stubs + 0x31 * 8), "r"((u16)0)
			 : "memory");
	trap_hook[0x31] = keep;
	last.vector = 0;
	__asm__ volatile("lidtl %0\n\tint $0x30\n\tlidtl %1" ::"m"(moved), "m"(old) : "memory");
	CHECK_EQ(last.vector, 0x31);
}

static void short_table(void)
{
	struct {
		u16 limit;
		u32 base;
	} __attribute__((packed)) small = { 0xff, 0 }, old = { 0x3ff, 0 };

	/* A vector beyond the limit is #GP. */
	__asm__ volatile("lidtl %0" ::"m"(small));
	EXPECT(V_GP, 0, "int $0x40", : :);
	__asm__ volatile("lidtl %0" ::"m"(old));
}

static void iret_forms(void)
{
	ulong f;

	__asm__ volatile("pushl %1\n\tpushl $0\n\tpushl $1f\n\tiretl\n1:\tpushfl\n\t"
			 "pop %0\n\tpushl $2\n\tpopfl"
			 : "=r"(f)
			 : "r"(2 | FLAG_CF | FLAG_ID | FLAG_AC)
			 : "memory", "cc");
	CHECK_EQ(f & (FLAG_CF | FLAG_ID | FLAG_AC), FLAG_CF | FLAG_ID | FLAG_AC);
	/* IRETW leaves the upper half of the flags. */
	__asm__ volatile("pushl %1\n\tpopfl\n\tpushw $2\n\tpushw $0\n\tpushw $1f\n\t"
			 "iretw\n1:\tpushfl\n\tpop %0\n\tpushl $2\n\tpopfl"
			 : "=r"(f)
			 : "r"(2 | FLAG_CF | FLAG_ID)
			 : "memory", "cc");
	CHECK_EQ(f & (FLAG_CF | FLAG_ID), FLAG_ID);
}

static volatile u32 steps;
static void step(struct frame *f) { steps++; }

static void single_step(void)
{
	steps = 0;
	trap_hook[V_DB] = step;
	__asm__ volatile("pushfl\n\torl $0x100, (%%esp)\n\tpopfl\n\tnop\n\tnop\n\t"
			 "pushfl\n\tandl $~0x100, (%%esp)\n\tpopfl" ::
				 : "memory", "cc");
	CHECK_EQ(steps, 5);
	trap_hook[V_DB] = NULL;
}

const struct test tests[] = {
	{ "int n", int_n, CHEAP },
	{ "flags inside", cleared, CHEAP },
	{ "exceptions", exceptions, CHEAP },
	{ "bound", bound, CHEAP },
	{ "moved table", moved_table, CHEAP },
	{ "short table", short_table, CHEAP },
	{ "iret", iret_forms, CHEAP },
	{ "single step", single_step, CHEAP },
	{ 0 },
};
