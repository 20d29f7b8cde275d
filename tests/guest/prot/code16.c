/* 16-bit code segments under 32-bit protected mode: 16-bit call gates, TSS stacks, IP and SP widths
 * (SDM 3A 22). */
#include "guest.h"

#define SLOT(n) (FREE0 / 8 + (n))
#define SEL(n)	(FREE0 + (n)*8)

extern char code16_entry[], code16_gate_entry[];
__asm__(".code16\ncode16_entry:\n\tmov $0x1234, %ax\n\t"
	"add $0xf000, %ax\n\tlretl\n"		       /* called with 32-bit
slots */
	"code16_gate_entry:\n\tmov %cs, %ax\n\tlret\n" /* by a 16-bit gate: word slots */
	".code32\n");

static struct {
	u32 offset;
	u16 selector;
} __attribute__((packed)) target;

static void direct(void)
{
	u32 a = 0xaaaaaaaa;

	gdt[SLOT(0)] = descriptor((u32)code16_entry, 0xffff, 0x9b, 0);
	target.offset = 0;
	target.selector = SEL(0);
	__asm__ volatile("lcall *%1" : "+a"(a) : "m"(target) : "memory", "cc");
	CHECK_EQ(a, 0xaaaa0234);
}

static void gate16(void)
{
	ulong before, after;
	u32 cs;

	/* A 16-bit call gate pushes words: the segment of the caller must fit its IP in 16 bits. */
	gdt[SLOT(0)] = descriptor((u32)code16_gate_entry, 0xffff, 0x9b, 0);
	gdt[SLOT(1)] = gate(SEL(0), 0, 0x84, 0);
	/* so it is called from a 16-bit segment that begins right here */
	extern char code16_caller[];
	gdt[SLOT(2)] = descriptor((u32)code16_caller, 0xffff, 0x9b, 0);
	__asm__ volatile("mov %%esp, %1\n\tljmp %3, $0\n\t.globl code16_caller\n\t"
			 ".code16\ncode16_caller:\n\tlcallw %4, $0\n\tljmpl %5, $1f\n\t"
			 ".code32\n1:\tmov %%esp, %2"
			 : "=&a"(cs), "=&r"(before), "=&r"(after)
			 : "i"(SEL(2)), "i"(SEL(1)), "i"(KCODE)
			 : "memory");
	CHECK_EQ(cs & 0xffff, SEL(0));
	CHECK_EQ(before, after);
}

static void stack16(void)
{
	/* With B clear in SS only SP counts, and ESP's upper half stays. */
	static u8 small[256] ALIGNED(16);
	u32 sp, word;

	gdt[SLOT(0)] = descriptor((u32)small, 0xffff, 0x93, 0);
	__asm__ volatile("mov %%ss, %%ecx\n\tmov %%esp, %%edx\n\tmov %2, %%ss\n\t"
			 "mov $0x56780080, %%esp\n\tpushl $0x11223344\n\t"
			 "mov %%esp, %0\n\tpopl %1\n\tmov %%ecx, %%ss\n\t"
			 "mov %%edx, %%esp"
			 : "=&r"(sp), "=&r"(word)
			 : "r"(SEL(0))
			 : "ecx", "edx", "memory");
	CHECK_EQ(sp, 0x5678007c);
	CHECK_EQ(word, 0x11223344);
	CHECK_EQ(*(u32 *)&small[0x7c], 0x11223344);
}

static void interrupt_gate16(void)
{
	extern char code16_handler[];
	u32 v = 0;

	/* A 16-bit interrupt gate pushes IP, CS, FLAGS as words. */
	gdt[SLOT(0)] = descriptor((u32)code16_handler, 0xffff, 0x9b, 0);
	idt[0x70] = gate(SEL(0), 0, 0x86, 0);
	extern char code16_from[];
	gdt[SLOT(1)] = descriptor((u32)code16_from, 0xffff, 0x9b, 0);
	__asm__ volatile("ljmp %1, $0\n\t.code16\n\t.globl code16_from\ncode16_from:\n\t"
			 "int $0x70\n\tljmpl %2, $1f\n\t.globl code16_handler\n"
			 "code16_handler:\n\tmov $7, %0\n\tiretw\n\t.code32\n1:"
			 : "+a"(v)
			 : "i"(SEL(1)), "i"(KCODE)
			 : "memory", "cc");
	CHECK_EQ(v, 7);
}

const struct test tests[] = {
	{ "far call", direct, CHEAP },
	{ "16-bit call gate", gate16, CHEAP },
	{ "16-bit stack", stack16, CHEAP },
	{ "16-bit interrupt gate", interrupt_gate16, CHEAP },
	{ 0 },
};
