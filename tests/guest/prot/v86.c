/*
 * Virtual-8086 mode: entry by IRET, traps, IOPL-sensitive instructions, INT n with and without
 * VME's redirection bitmap, VIF and VIP (SDM 3B 20).
 */
#include "guest.h"

#define CODE  0x10000u /* the v86 program's segment, 64 KiB up */
#define STACK 0x8000u

/* The programs: assembled here, copied down. */
#define PROGRAM(name, text)                           \
	extern char v86_##name[], v86_##name##_end[]; \
	__asm__(".code16\nv86_" #name ":\n" text "\nv86_" #name "_end:\n.code32\n")
PROGRAM(plain, "mov $0x1234, %ax\n\tmov %cs, %bx\n\tmov $0x2000, %cx\n\t"
	       "mov %cx, %ds\n\tmov %ax, 0x10\n\tint3");
PROGRAM(cli, "cli\n\tnop\n\tsti\n\tnop\n\tint3");
PROGRAM(int, "int $0x21\n\tint3");
PROGRAM(flags, "sti\n\tpushf\n\tpop %ax\n\tcli\n\tpushf\n\tpop %bx\n\tint3");
PROGRAM(segments, "mov $0x2000, %ax\n\tmov %ax, %es\n\tmov $0x3000, %ax\n\t"
		  "mov %ax, %fs\n\tmov %ax, %gs\n\tint3");
PROGRAM(popf, "pushw $0x7202\n\tpopf\n\tpushf\n\tpop %ax\n\tint3");
PROGRAM(io, "in $0x80, %al\n\tint3");
PROGRAM(ud, ".byte 0x0f, 0x00, 0xc8\n\tint3"); /* str ax */

static struct frame last;
static ulong resume_sp;
static u32 resume_ip;

/* Any trap out of v86 mode ends the program and comes back here. */
static void on_trap(struct frame *f)
{
	last = *f;
	__asm__ volatile("mov %0, %%esp\n\tjmp *%1" ::"r"(resume_sp), "r"(resume_ip) : "memory");
	__builtin_unreachable();
}

static u8 *const low = (u8 *)CODE;

static void run(const char *from, const char *to, ulong flags)
{
	static const u8 hooked[] = { V_BP, V_GP, V_UD, 0x21 };

	for (const char *p = from; p < to; p++)
		((volatile u8 *)low)[p - from] = (u8)*p;
	for (unsigned i = 0; i < sizeof hooked; i++)
		trap_hook[hooked[i]] = on_trap;
	__asm__ volatile("push %%ebp\n\tpush %%ebx\n\tpush %%esi\n\tpush %%edi\n\t"
			 "mov %%esp, %0\n\tmovl $1f, %1\n\tpushl $0\n\tpushl $0\n\t"
			 "pushl $0x1000\n\tpushl $0x1000\n\tpushl $0x1000\n\t"
			 "pushl $0x8000\n\tpushl %2\n\tpushl $0x1000\n\tpushl $0\n\t"
			 "iretl\n1:\tmov %3, %%eax\n\tmov %%eax, %%ds\n\t"
			 "mov %%eax, %%es\n\tmov %%eax, %%fs\n\tmov %%eax, %%gs\n\t"
			 "pop %%edi\n\tpop %%esi\n\tpop %%ebx\n\tpop %%ebp"
			 : "=m"(resume_sp), "=m"(resume_ip)
			 : "r"(flags | FLAG_VM | 2), "i"(KDATA)
			 : "eax", "ecx", "edx", "memory", "cc");
	for (unsigned i = 0; i < sizeof hooked; i++)
		trap_hook[hooked[i]] = NULL;
}

#define RUN(name, flags) run(v86_##name, v86_##name##_end, flags)

static void plain(void)
{
	*(volatile u16 *)0x20010 = 0;
	RUN(plain, FLAG_IOPL);
	CHECK_EQ(last.vector, V_BP);
	CHECK_EQ(last.eax & 0xffff, 0x1234);
	CHECK_EQ(last.ebx & 0xffff, 0x1000);
	CHECK_EQ(*(volatile u16 *)0x20010, 0x1234);
	CHECK_EQ(last.cs & 0xffff, 0x1000);
	CHECK_EQ(last.flags & FLAG_VM, FLAG_VM);
	CHECK_EQ(last.sp, STACK);
	CHECK_EQ(last.ss & 0xffff, 0x1000);
	CHECK_EQ(last.vds & 0xffff, 0x2000);
}

static void saved_segments(void)
{
	/* The four data segments are pushed, and null in the handler. */
	RUN(segments, FLAG_IOPL);
	CHECK_EQ(last.vector, V_BP);
	CHECK_EQ(last.ves & 0xffff, 0x2000);
	CHECK_EQ(last.vfs & 0xffff, 0x3000);
	CHECK_EQ(last.vgs & 0xffff, 0x3000);
	CHECK_EQ(last.fs & 0xffff, 0);
	CHECK_EQ(last.es & 0xffff, 0);
}

static void sensitive(void)
{
	/* IOPL below 3: CLI, PUSHF and the like are #GP(0). */
	RUN(cli, 0);
	CHECK_EQ(last.vector, V_GP);
	CHECK_EQ(last.error, 0);
	CHECK_EQ(last.ip, 0);
	RUN(cli, FLAG_IOPL);
	CHECK_EQ(last.vector, V_BP);
	CHECK_EQ(last.flags & FLAG_IF, FLAG_IF);
	RUN(popf, 0);
	CHECK_EQ(last.vector, V_GP);
	CHECK_EQ(last.ip, 3);
	/* With IOPL 3 POPF sets IF and NT, never IOPL. */
	RUN(popf, FLAG_IOPL);
	CHECK_EQ(last.vector, V_BP);
	CHECK_EQ(last.eax & 0xffff, 0x7202);
}

static void ports(void)
{
	RUN(io, FLAG_IOPL); /* the bitmap counts, whatever IOPL says */
	CHECK_EQ(last.vector, V_GP);
	tss.bitmap[0x80 / 8] &= (u8)~1;
	RUN(io, FLAG_IOPL);
	CHECK_EQ(last.vector, V_BP);
	tss.bitmap[0x80 / 8] |= 1;
}

static void int3_iopl0(void)
{
	/* INT3 is not sensitive to IOPL (SDM 3B 20.3). */
	RUN(plain, 0);
	CHECK_EQ(last.vector, V_BP);
}

static void unrecognised(void)
{
	RUN(ud, FLAG_IOPL);
	CHECK_EQ(last.vector, V_UD);
}

static void int_without_vme(void)
{
	u64 saved = idt[0x21];

	RUN(int, 0); /* IOPL below 3 */
	CHECK_EQ(last.vector, V_GP);
	CHECK_EQ(last.error, 0);
	idt_set(0x21, trap_stubs + 0x21 * 16, 0xee);
	RUN(int, FLAG_IOPL);
	CHECK_EQ(last.vector, 0x21);
	CHECK_EQ(last.ip, 2);
	idt[0x21] = gate(KCODE, (ulong)trap_stubs + 0x21 * 16, 0x8e, 0);
	RUN(int, FLAG_IOPL); /* gate DPL 0 */
	CHECK_EQ(last.vector, V_GP);
	CHECK_EQ(last.error, 0x21 * 8 + 2);
	idt[0x21] = saved;
}

static bool vme(void)
{
	if (cpuid(1, 0).d & 2)
		return true;
	test_skip("no VME");
	return false;
}

/* The interrupt redirection bitmap lies in the 32 bytes below the I/O bitmap. */
static void redirect(u8 vector, bool to_program)
{
	volatile u8 *map = (u8 *)&tss + tss.iomap - 32;

	map[vector / 8] = to_program ? 0 : 0xff;
}

static void with_map(u16 iomap) { tss.iomap = iomap; }

static void int_with_vme(void)
{
	u16 iomap = tss.iomap;

	if (!vme())
		return;
	with_map((u16)(offsetof(struct tss, bitmap) + 64));
	write_cr4(read_cr4() | CR4_VME);
	/* Redirected: through the program's own vector table at 0, without leaving v86 mode. */
	*(volatile u16 *)(0x21 * 4) = 0x100;
	*(volatile u16 *)(0x21 * 4 + 2) = 0x1000;
	low[0x100] = 0x9c; /* pushf; pop %ax; int3 */
	low[0x101] = 0x58;
	low[0x102] = 0xcc;
	redirect(0x21, true);
	RUN(int, FLAG_IOPL | FLAG_IF);
	CHECK_EQ(last.vector, V_BP);
	CHECK_EQ(last.ip, 0x103);
	CHECK_EQ(last.sp, STACK - 6);
	CHECK_EQ(*(volatile u16 *)(CODE + STACK - 6), 2); /* IP CS FLAGS */
	CHECK_EQ(*(volatile u16 *)(CODE + STACK - 4), 0x1000);
	CHECK_EQ(*(volatile u16 *)(CODE + STACK - 2) & FLAG_IF, FLAG_IF);
	CHECK_EQ(last.eax & FLAG_IF, 0);
	/* With IOPL 0: VIF is pushed as IF and IOPL as 3, and VIF is cleared. */
	RUN(int, FLAG_VIF | FLAG_IF);
	CHECK_EQ(last.vector, V_BP);
	CHECK_EQ(*(volatile u16 *)(CODE + STACK - 2) & (FLAG_IF | FLAG_IOPL), FLAG_IF | FLAG_IOPL);
	CHECK_EQ(last.flags & FLAG_VIF, 0);
	CHECK_EQ(last.flags & FLAG_IF, FLAG_IF);
	/* Not redirected and IOPL 0: #GP as ever. */
	redirect(0x21, false);
	RUN(int, 0);
	CHECK_EQ(last.vector, V_GP);
	write_cr4(read_cr4() & ~CR4_VME);
	memset((u8 *)&tss + tss.iomap - 32, 0xff, 32);
	with_map(iomap);
}

static void virtual_if(void)
{
	if (!vme())
		return;
	write_cr4(read_cr4() | CR4_VME);
	RUN(flags, 0);
	CHECK_EQ(last.vector, V_BP);
	CHECK_EQ(last.eax & (FLAG_IF | FLAG_IOPL), FLAG_IF | FLAG_IOPL); /* VIF shown as IF */
	CHECK_EQ(last.ebx & (FLAG_IF | FLAG_IOPL), FLAG_IOPL);
	CHECK_EQ(last.flags & (FLAG_IF | FLAG_VIF), 0);
	/* A pending virtual interrupt: STI is #GP(0). */
	RUN(flags, FLAG_VIP);
	CHECK_EQ(last.vector, V_GP);
	CHECK_EQ(last.ip, 0);
	write_cr4(read_cr4() & ~CR4_VME);
}

const struct test tests[] = {
	{ "plain", plain, CHEAP },
	{ "saved segments", saved_segments, CHEAP },
	{ "sensitive instructions", sensitive, CHEAP },
	{ "ports", ports, CHEAP },
	{ "int3 with IOPL 0", int3_iopl0, CHEAP },
	{ "unrecognised", unrecognised, CHEAP },
	{ "int n without VME", int_without_vme, CHEAP },
	{ "int n with VME", int_with_vme, CHEAP },
	{ "virtual interrupt flag", virtual_if, CHEAP },
	{ 0 },
};
