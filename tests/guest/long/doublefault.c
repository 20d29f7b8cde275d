/* Nested faults and the double fault: table 6-5 of SDM 3A 6.15, IST stacks (6.14.5). */
#include "paging.h"

static u8 ist_stack[2][4096] ALIGNED(16);
static struct frame seen;
ulong resume_at, resume_sp; /* named in asm */

static void on_double(struct frame *f)
{
	seen = *f;
	f->ip = resume_at;
	f->sp = resume_sp;
	f->flags = 2;
	f->ss = KDATA;
}

/* Runs insn with vectors 13 and 14 made unusable, so that it ends as #DF on IST 1. */
#define DOUBLE(insn, ...)                                                             \
	__asm__ volatile("movq $1f, resume_at\n\tmov %%rsp, resume_sp\n\t" insn "\n1" \
			 ":" __VA_ARGS__)

static void setup(void)
{
	tss.ist[0] = (ulong)ist_stack[0] + sizeof ist_stack[0];
	tss.ist[1] = (ulong)ist_stack[1] + sizeof ist_stack[1];
	idt_set_ist(V_DF, 1);
	trap_hook[V_DF] = on_double;
	seen = (struct frame){ 0 };
}

static void check_double(int line)
{
	if (seen.vector != V_DF || seen.error)
		check_fail(line, "vector", seen.vector, V_DF);
}

static void gp_then_gp(void)
{
	u64 saved = idt[V_GP * 2];

	setup();
	idt[V_GP * 2] = 0; /* not present: #NP while delivering #GP, both contributory */
	DOUBLE("mov (%0), %%rax", ::"r"(0x8000000000000000) : "rax", "memory");
	idt[V_GP * 2] = saved;
	check_double(__LINE__);
	CHECK_EQ(seen.sp, resume_sp);
}

static void pf_then_gp(void)
{
	u64 saved = idt[V_PF * 2];

	setup();
	idt[V_PF * 2] = gate(KDATA, 0, 0x8e, 0);
	DOUBLE("mov (%0), %%rax", ::"r"(TEST_VA) : "rax", "memory");
	idt[V_PF * 2] = saved;
	check_double(__LINE__);
	CHECK_EQ(read_cr2(), TEST_VA);
}

static void pf_on_stack(void)
{
	/* A push to an unmapped stack: #PF, whose own delivery faults likewise: #DF on its IST
	 * stack. */
	setup();
	DOUBLE("mov %0, %%rsp\n\tpush %%rax", ::"r"(TEST_VA + 0x1000) : "rax", "memory");
	check_double(__LINE__);
	CHECK_EQ(seen.sp, TEST_VA + 0x1000);
}

static void benign_then_fault(void)
{
	u64 saved = idt[V_BP * 2];

	/* #BP is benign: the #NP for its gate is delivered by itself, EXT clear because INT3 is
	 * software. */
	setup();
	idt[V_BP * 2] = gate(KCODE, 0, 0x6e, 0);
	EXPECT(V_NP, V_BP * 8 + 2, "int3", : :);
	idt[V_BP * 2] = saved;
	CHECK_EQ(seen.vector, 0);
}

static void ud_then_np(void)
{
	u64 saved = idt[V_UD * 2];

	/* #UD is benign and a hardware event: error code with IDT and EXT set (SDM 3A 6.13). */
	setup();
	idt[V_UD * 2] = gate(KCODE, 0, 0x0e, 0);
	EXPECT(V_NP, V_UD * 8 + 3, "ud2", : :);
	idt[V_UD * 2] = saved;
	CHECK_EQ(seen.vector, 0);
}

static void gp_then_pf(void)
{
	u64 saved = idt[V_GP * 2];

	/* A contributory fault, then #PF: handled serially, the #PF is delivered (table 6-5). */
	setup();
	idt[V_GP * 2] = saved;
	idt_set_ist(V_GP, 2);
	tss.ist[1] = TEST_VA + 0x2000;
	EXPECT(V_PF, PF_W, "mov (%0), %%rax", : : "r"(0x8000000000000000) : "rax", "memory");
	CHECK_EQ(trap.cr2 & ~0xffful, TEST_VA + 0x1000);
	idt[V_GP * 2] = saved;
	CHECK_EQ(seen.vector, 0);
}

static void de_then_np(void)
{
	u64 saved = idt[V_DE * 2];

	setup();
	idt[V_DE * 2] = gate(KCODE, 0, 0x0e, 0); /* #DE is contributory */
	DOUBLE("divl %0", ::"r"(0), "a"(0), "d"(0) : "memory");
	idt[V_DE * 2] = saved;
	check_double(__LINE__);
}

static void ist_switch(void)
{
	u64 saved = idt[V_UD * 2];

	setup();
	idt_set_ist(V_UD, 2);
	EXPECT(V_UD, 0, "ud2", : :);
	idt[V_UD * 2] = saved;
	CHECK_EQ((ulong)&trap.frame->ss + 8, (ulong)ist_stack[1] + sizeof ist_stack[1]);
}

const struct test tests[] = {
	{ "#GP then #NP", gp_then_gp, CHEAP },
	{ "#PF then #GP", pf_then_gp, CHEAP },
	{ "#PF on the stack", pf_on_stack, CHEAP },
	{ "#DE then #NP", de_then_np, CHEAP },
	{ "#BP then #NP", benign_then_fault, CHEAP },
	{ "#UD then #NP", ud_then_np, CHEAP },
	{ "#GP then #PF", gp_then_pf, CHEAP },
	{ "IST stack", ist_switch, CHEAP },
	{ 0 },
};
