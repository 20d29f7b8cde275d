/* 32-bit exceptions: vectors, error codes, saved EIP, stack switches, double fault by task gate
 * (SDM 3A 6). */
#include "guest.h"

static void simple(void)
{
	EXPECT(V_DE, 0, "divl %%ecx", : : "a"(1), "d"(0), "c"(0));
	EXPECT_AT(V_BP, 0, 1, "int3", : :);
	EXPECT_AT(V_OF, 0, 2, "int $4", : :);
	EXPECT(V_UD, 0, "ud2", : :);
	EXPECT(V_UD, 0, ".byte 0x0f, 0x05", : : : "ecx"); /* SYSCALL while EFER.SCE is clear */
	write_cr0(read_cr0() | CR0_TS);
	EXPECT(V_NM, 0, "fld1", : :);
	__asm__ volatile("clts");
}

static void selectors(void)
{
	idt[0x50] = gate(KCODE, 0, 0x0e, 0);
	EXPECT(V_NP, 0x50 * 8 + 2, "int $0x50", : :);
	idt[0x50] = gate(0, 0, 0x8e, 0);
	EXPECT(V_GP, 0, "int $0x50", : :);
	idt[0x50] = gate(KDATA, 0, 0x8e, 0);
	EXPECT(V_GP, KDATA, "int $0x50", : :);
	idt[0x50] = gate(KCODE, 0, 0x8c, 0); /* a call gate has no place here */
	EXPECT(V_GP, 0x50 * 8 + 2, "int $0x50", : :);
}

static ulong user(ulong unused)
{
	EXPECT(V_GP, 0, "cli", : :);
	EXPECT(V_GP, 0, "hlt", : :);
	EXPECT(V_GP, 0, "mov %%cr0, %%eax", : : : "eax");
	EXPECT(V_GP, 0x51 * 8 + 2, "int $0x51", : :);
	EXPECT_AT(V_BP, 0, 1, "int3", : :);
	return 7;
}

static void ring3(void)
{
	idt_set(0x51, trap_stubs + 0x51 * 16, 0x8e);
	CHECK_EQ(user_call(user, 0), 7);
	CHECK_EQ(&trap.frame->ss + 1 == (u32 *)(ring0_stack + sizeof ring0_stack), 1);
	CHECK_EQ(trap.frame->ss & 0xffff, UDATA | 3);
}

static ulong bad_inner_stack(ulong unused)
{
	EXPECT_AT(0x52, 0, 2, "int $0x52", : :);
	EXPECT(V_TS, KDATA, "int $0x53", : :);
	return 0;
}

static void inner_stack(void)
{
	/* Gates to ring 1: once with a good stack, once with one of the wrong DPL: #TS(SS1). */
	gdt[FREE0 / 8] = descriptor(0, 0xfffff, 0xbb, 0xc);
	idt_set(0x52, trap_stubs + 0x52 * 16, 0xee);
	idt[0x53] = gate(FREE0, (ulong)trap_stubs + 0x53 * 16, 0xee, 0);
	tss.ss1 = KDATA | 1;
	tss.esp1 = (u32)ring0_stack + 2048;
	user_call(bad_inner_stack, 0);
}

static struct {
	u32 link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp,
		esi, edi;
	u32 es, cs, ss, ds, fs, gs, ldt, iomap;
} df_task;
static u8 df_stack[4096] ALIGNED(16);
volatile u32 df_error, df_count; /* these four are named in asm */
u32 resume_ip, resume_sp;

/* Runs in the double fault's own task; goes back by putting the old TSS right and IRET. */
extern char df_entry[];
__asm__("df_entry:\n1:\tpopl df_error\n\tincl df_count\n\t"
	"mov resume_ip, %eax\n\tmov %eax, tss + 32\n\t"
	"mov resume_sp, %eax\n\tmov %eax, tss + 56\n\tiretl\n\tjmp 1b\n");

static void double_fault(void)
{
	u64 saved = idt[V_GP];

	memset(&df_task, 0, sizeof df_task);
	df_task.eip = (u32)df_entry;
	df_task.esp = (u32)df_stack + sizeof df_stack;
	df_task.eflags = 2;
	df_task.cs = KCODE;
	df_task.ss = df_task.ds = df_task.es = df_task.fs = df_task.gs = KDATA;
	df_task.iomap = sizeof df_task << 16;
	gdt[FREE0 / 8] = descriptor((u32)&df_task, sizeof df_task - 1, 0x89, 0);
	idt[V_DF] = gate(FREE0, 0, 0x85, 0);
	idt[V_GP] = 0;
	df_count = 0;
	df_error = 1;
	__asm__ volatile("pushal\n\tmovl $1f, %0\n\tmov %%esp, %1\n\tmov %2, %%fs\n"
			 "1:\tpopal"
			 : "=m"(resume_ip), "=m"(resume_sp)
			 : "r"(0xfff8)
			 : "memory");
	idt[V_GP] = saved;
	idt_set(V_DF, trap_stubs + V_DF * 16, 0x8e);
	write_cr0(read_cr0() & ~CR0_TS);
	CHECK_EQ(df_count, 1);
	CHECK_EQ(df_error, 0);
}

const struct test tests[] = {
	{ "simple", simple, CHEAP },
	{ "selectors", selectors, CHEAP },
	{ "ring 3", ring3, CHEAP },
	{ "inner stack", inner_stack, CHEAP },
	{ "double fault task", double_fault, CHEAP },
	{ 0 },
};
