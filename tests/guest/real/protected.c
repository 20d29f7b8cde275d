/* Into 16-bit protected mode and back: segments with D clear, 16-bit gates and stacks (SDM 3A 9.9).
 */
#include "guest.h"

static u64 table[8] ALIGNED(8) = {
	0, 0x00009b000000ffff, /* 0x08 16-bit code */
	0x000093000000ffff,    /* 0x10 16-bit data */
	0x000093020000ffff,    /* 0x18 data at 0x20000 */
	0x00cf9b000000ffff,    /* 0x20 32-bit code */
};
static u64 gates[32] ALIGNED(8);
struct pointer {
	u16 limit;
	u32 base;
} __attribute__((packed)) gdt_pointer, idt_pointer, real_idt = { 0x3ff, 0 }; /* named in asm */

u32 pm_seen[8];
extern char pm_fault[];
/* A 16-bit interrupt gate's handler: error code, IP, CS, FLAGS are words. */
__asm__("pm_fault:\n\tpopw pm_seen + 8\n\tpopw pm_seen + 12\n\t"
	"mov $pm_resume, %ax\n\tpushw %ax\n\tiretw\n");

/* Runs `text` in 16-bit protected mode with DS = ES = SS = 0x10. */
#define PROTECTED(text, ...)                                                              \
	__asm__ volatile("lgdtl gdt_pointer\n\tlidtl idt_pointer\n\tmov %%cr0, %%eax\n\t" \
			 "or $1, %%al\n\tmov %%eax, %%cr0\n\tljmpw $8, $71f\n"            \
			 "71:\tmov $0x10, %%ax\n\tmov %%ax, %%ds\n\tmov %%ax, %%es\n\t"   \
			 "mov %%ax, %%ss\n\t" text                                        \
			 "\n\tmov $0x10, %%ax\n\tmov %%ax, %%ds\n\tmov %%ax, %%es\n\t"    \
			 "mov %%ax, %%fs\n\tmov %%ax, %%gs\n\tmov %%ax, %%ss\n\t"         \
			 "mov %%cr0, %%eax\n\tand $0xfe, %%al\n\tmov %%eax, %%cr0\n\t"    \
			 "ljmpw $0, $72f\n72:\txor %%ax, %%ax\n\tmov %%ax, %%ds\n\t"      \
			 "mov %%ax, %%es\n\tmov %%ax, %%fs\n\tmov %%ax, %%gs\n\t"         \
			 "mov %%ax, %%ss\n\tlidtl real_idt" __VA_ARGS__)

static void setup(void)
{
	gdt_pointer.limit = sizeof table - 1;
	gdt_pointer.base = (u32)table;
	idt_pointer.limit = sizeof gates - 1;
	idt_pointer.base = (u32)gates;
	for (unsigned i = 0; i < 32; i++)
		gates[i] = ((u32)pm_fault & 0xffff) | 8 << 16 |
			   (u64)0x86 << 40; /* 16-bit interrupt gate */
	__asm__ volatile("" ::: "memory");
}

static void there_and_back(void)
{
	u32 cs = 0, wide = 0x12345678;

	setup();
	PROTECTED("mov %%cs, %%cx\n\taddl $1, %%edx",
		  : "+c"(cs), "+d"(wide)
		  :
		  : "eax", "memory", "cc");
	CHECK_EQ(cs, 8);
	CHECK_EQ(wide, 0x12345679);
	CHECK(!(read_cr0() & 1));
}

static void based_segment(void)
{
	u32 v = 0;

	setup();
	__asm__ volatile("mov %1, %%fs\n\tmovl %0, %%fs:0x100\n\tmov %2, %%fs" ::"r"(0xcafe1234),
			 "r"((u16)0x2000), "r"((u16)0)
			 : "memory");
	PROTECTED("mov $0x18, %%ax\n\tmov %%ax, %%fs\n\tmovl %%fs:0x100, %%edx",
		  : "+d"(v)
		  :
		  : "eax", "memory", "cc");
	CHECK_EQ(v, 0xcafe1234);
}

static void fault16(void)
{
	setup();
	pm_seen[2] = pm_seen[3] = 0;
	/* A bad selector: the 16-bit gate pushes words, the error code among them. */
	PROTECTED("mov $0xfff8, %%ax\n\tmov %%sp, %%bx\n\tmov %%ax, %%fs\n\t"
		  ".globl pm_resume\npm_resume:\n\tsub %%sp, %%bx",
		  :
		  :
		  : "eax", "ebx", "memory", "cc");
	CHECK_EQ(pm_seen[2] & 0xffff, 0xfff8);
}

static void code32(void)
{
	u32 v = 1;

	/* From a 16-bit to a 32-bit code segment and back by far jumps. */
	setup();
	PROTECTED("ljmpl $0x20, $1f\n\t.code32\n1:\tadd $0x11110000, %%edx\n\t"
		  "ljmpw $8, $2f\n\t.code16gcc\n2:",
		  : "+d"(v)
		  :
		  : "eax", "memory", "cc");
	CHECK_EQ(v, 0x11110001);
}

const struct test tests[] = {
	{ "there and back", there_and_back, CHEAP },
	{ "based segment", based_segment, CHEAP },
	{ "16-bit gate", fault16, CHEAP },
	{ "32-bit code", code32, CHEAP },
	{ 0 },
};
