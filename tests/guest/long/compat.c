/*
 * Compatibility mode: far transfers and IRET between 64-, 32- and 16-bit code, register widths, the
 * opcodes that differ, ring-3 32-bit code (SDM 1 3.2.1, SDM 3A 5.8, 9.8.5.3).
 */
#include "guest.h"

ulong compat_rsp, compat_out;
u32 compat_result[8];

/* Far calls to 32-bit code and back; arguments in registers. */
__asm__(".globl compat_entry\ncompat_entry:\n\t.code32\n\tinc %eax\n\t" /* 0x40: a REX prefix in
									   64-bit code */
	"mov %cs, compat_result\n\tmov $0x12345678, %ecx\n\t" /* 32-bit operand size by default */
	"daa\n\tljmp $0x08, $compat_back\n\t"		      /* KCODE */
	".code64\n");

extern char compat_entry[];

static void far_jump(void)
{
	struct {
		u32 offset;
		u16 selector;
	} __attribute__((packed)) to = { (u32)(ulong)compat_entry, KCODE32 };
	ulong a = 0x40, c = ~0ul;

	__asm__ volatile("mov %%rsp, compat_rsp\n\tljmp *%2\n\t.globl compat_back\n"
			 "compat_back:\n\tmov compat_rsp, %%rsp"
			 : "+a"(a), "+c"(c)
			 : "m"(to)
			 : "memory", "cc");
	CHECK_EQ(compat_result[0] & 0xffff, KCODE32);
	CHECK_EQ(c, 0x12345678);
	CHECK_EQ(a & 0xff, 0x41);
}

__asm__(".globl compat_call_entry\ncompat_call_entry:\n\t.code32\n\t"
	"mov %esp, compat_out\n\tmov 4(%esp), %eax\n\t" /* the return CS: pushed with the call's
operand size */
	"lret\n\t.code64\n");
extern char compat_call_entry[];

static void far_call(void)
{
	struct {
		u32 offset;
		u16 selector;
	} __attribute__((packed)) to = { (u32)(ulong)compat_call_entry, KCODE32 };
	ulong sp, after, cs;

	__asm__ volatile("mov %%rsp, %0\n\tlcall *%3\n\tmov %%rsp, %1"
			 : "=&r"(sp), "=&r"(after), "=&a"(cs)
			 : "m"(to)
			 : "memory");
	CHECK_EQ(compat_out & 0xffffffff, sp - 8); /* m16:32: two 4-byte slots */
	CHECK_EQ(after, sp);
	CHECK_EQ((u16)cs, KCODE);
}

__asm__(".globl compat_iret_entry\ncompat_iret_entry:\n\t.code32\n\t"
	"mov $0xffffffff, %edx\n\tmov $5, %eax\n1:\tinc %edx\n\t"
	"dec %eax\n\tjnz 1b\n\tmovl %edx, compat_result + 4\n\t"
	"pushl $0x2\n\tpushl $0x08\n\tpushl $compat_iret_back\n\t"
	"iretl\n\t.code64\n");

static void by_iret(void)
{
	/* IRETD from compatibility mode pops only IP, CS and flags when the ring stays; CS.L
	 * decides what runs. */
	__asm__ volatile("mov %%rsp, compat_rsp\n\tmov %%rsp, %%rax\n\tpush %0\n\t"
			 "push %%rax\n\tpush $2\n\tpush %1\n\t"
			 "push $compat_iret_entry\n\tiretq\n\t.globl compat_iret_back\n"
			 "compat_iret_back:\n\tmov compat_rsp, %%rsp" ::"i"(KDATA),
			 "i"(KCODE32)
			 : "rax", "rdx", "memory", "cc");
	CHECK_EQ(compat_result[1], 4);
}

__asm__(".globl compat16_entry\ncompat16_entry:\n\t.code16\n\t"
	"mov $0x1234, %ax\n\t" /* 16-bit operands */
	"add $0xf000, %ax\n\tljmpl $0x08, $compat16_back\n\t.code64\n");
extern char compat16_entry[];

static void sixteen_bit(void)
{
	struct {
		u32 offset;
		u16 selector;
	} __attribute__((packed)) to = { 0, FREE0 };
	ulong a = 0xaaaabbbbccccdddd;

	/* A 16-bit segment that begins at the code itself. */
	gdt[FREE0 / 8] = descriptor((u32)(ulong)compat16_entry, 0xffff, 0x9b, 0);
	__asm__ volatile("mov %%rsp, compat_rsp\n\tljmp *%1\n\t.globl compat16_back\n"
			 "compat16_back:\n\tmov compat_rsp, %%rsp"
			 : "+a"(a)
			 : "m"(to)
			 : "memory", "cc");
	CHECK_EQ(a & 0xffffffff, 0xcccc0234);
}

/* Ring 3, 32-bit: entered by IRETQ, left by a fault or INT. */
extern char user32_entry[], user32_fault[];
__asm__("user32_entry:\n\t.code32\n\tmov $1, %eax\n\tshl $31, %eax\n\t"
	"add %eax, %eax\n\tadc $0, %eax\n\t" /* 1: 32-bit
arithmetic */
	"mov %eax, compat_result + 8\n\tpush %cs\n\tpop %ecx\n\t"
	"mov %ecx, compat_result + 12\n\t"
	"lea user_stack + 4096, %esp\n\tpushal\n\tpopal\n\t"
	"user32_fault:\n\tcli\n\tud2\n\t.code64\n");

static void on_gp(struct frame *f)
{
	compat_result[4] = (u32)f->ip;
	compat_result[5] = (u32)f->cs;
	compat_result[6] = (u32)f->ss;
	f->cs = KCODE;
	f->ss = KDATA;
	f->sp = compat_rsp;
	f->ip = compat_out;
	f->flags = 2;
}

static void ring3_32bit(void)
{
	trap_hook[V_GP] = on_gp;
	__asm__ volatile("push %%rbp\n\tpush %%rbx\n\tmov %%rsp, compat_rsp\n\t"
			 "movq $1f, compat_out\n\tmov %2, %%eax\n\tmov %%eax, %%ds\n\t"
			 "mov %%eax, %%es\n\tpush %2\n\tpush $user_stack + 8192\n\t"
			 "push $2\n\tpush %1\n\tpush %0\n\tiretq\n1:\tpop %%rbx\n\t"
			 "pop %%rbp" ::"i"(user32_entry),
			 "i"(UCODE32 | 3), "i"(UDATA | 3)
			 : "rax", "rcx", "rdx", "rsi", "rdi", "memory", "cc");
	trap_hook[V_GP] = NULL;
	CHECK_EQ(compat_result[2], 1);
	CHECK_EQ(compat_result[3], UCODE32 | 3);
	CHECK_EQ(compat_result[4], user32_fault);
	CHECK_EQ(compat_result[5], UCODE32 | 3);
	CHECK_EQ(compat_result[6], UDATA | 3);
}

static void iret_ss(void)
{
	/* 64-bit IRET loads SS:RSP even without a change of ring; a null SS is fine at ring 0. */
	ulong ss;
	__asm__ volatile("mov %%rsp, %%rax\n\tpush $0\n\tpush %%rax\n\tpush $2\n\t"
			 "push %1\n\tpush $1f\n\tiretq\n1:\tmov %%ss, %0\n\t"
			 "mov %2, %%eax\n\tmov %%eax, %%ss"
			 : "=&r"(ss)
			 : "i"(KCODE), "i"(KDATA)
			 : "rax", "memory");
	CHECK_EQ(ss & 0xffff, 0);
}

static void iret_errors(void)
{
	/* #GP(selector) for a data segment as CS, #GP(0) for null and for a null SS at ring 3. */
#define IRET(want, code, ss, cs)                                                            \
	do {                                                                                \
		trap.vector = NO_TRAP;                                                      \
		__asm__ volatile("mov %%rsp, %%rbx\n\tmovq $1f, trap_resume\n\tpush %0\n\t" \
				 "push %%rbx\n\tpush $2\n\tpush %1\n\tpush $2f\n\tiretq\n"  \
				 "1:2:\tmov %%rbx, %%rsp" ::"i"(ss),                        \
				 "i"(cs)                                                    \
				 : "rbx", "memory");                                        \
		CHECK_EQ(trap.vector, want);                                                \
		CHECK_EQ(trap.error, code);                                                 \
	} while (0)
	IRET(V_GP, KDATA, KDATA, KDATA);
	IRET(V_GP, 0, KDATA, 0);
	IRET(V_GP, 0, 0, UCODE64 | 3);
	IRET(V_GP, KDATA, KDATA, UCODE64 | 3);	 /* SS's DPL is not 3 */
	IRET(V_GP, UCODE64, UDATA | 3, UCODE64); /* RPL 0, DPL 3 */
	IRET(V_GP, 0xfff8, KDATA, 0xfff8);	 /* beyond the table */
	gdt[FREE0 / 8] = 0x002f1b000000ffff;	 /* 64-bit code, not present */
	IRET(V_NP, FREE0, KDATA, FREE0);
}

static void segment_bases(void)
{
	u32 v;

	/* In 64-bit code DS's base is ignored, in compatibility mode it counts. */
	gdt[FREE0 / 8] = descriptor((u32)(ulong)compat_result, 0xfffff, 0x93, 0xc);
	compat_result[7] = 0x77;
	__asm__ volatile("mov %1, %%eax\n\tmov %%eax, %%ds\n\t"
			 "mov compat_result + 28, %0\n\txor %%eax, %%eax\n\t"
			 "mov %%eax, %%ds"
			 : "=r"(v)
			 : "i"(FREE0)
			 : "eax", "memory");
	CHECK_EQ(v, 0x77);
	__asm__ volatile("mov %1, %%eax\n\tmov %%eax, %%fs\n\tmov %%fs:28, %0\n\t"
			 "xor %%eax, %%eax\n\tmov %%eax, %%fs"
			 : "=r"(v)
			 : "i"(FREE0)
			 : "eax", "memory");
	CHECK_EQ(v, 0x77);
}

const struct test tests[] = {
	{ "far jump", far_jump, CHEAP },
	{ "far call", far_call, CHEAP },
	{ "iret", by_iret, CHEAP },
	{ "16-bit code", sixteen_bit, CHEAP },
	{ "ring 3, 32-bit", ring3_32bit, CHEAP },
	{ "iret with a null SS", iret_ss, CHEAP },
	{ "iret refusals", iret_errors, CHEAP },
	{ "segment bases", segment_bases, CHEAP },
	{ 0 },
};
