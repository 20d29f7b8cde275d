/*
 * Garbage descriptors: every access byte, pseudo-random limits and bases, used in every way a guest
 * can. What happens is judged elsewhere; here the machine must survive, fault by fault.
 */
#include "guest.h"

#define SLOT (FREE0 / 8)

static u32 seed = 12345;

static u32 next_random(void) { return seed = seed * 1664525 + 1013904223; }

static u64 garbage(unsigned type)
{
	u64 low = next_random(), high = next_random();

	return ((high << 32 | low) & ~(0xffull << 40)) | (u64)type << 40;
}

static void one(unsigned type)
{
	struct {
		u32 offset;
		u16 selector;
	} __attribute__((packed)) to = { next_random(), (u16)(FREE0 | (next_random() & 3)) };

	/* A code descriptor that would accept the jump is spared: what it runs is anybody's guess.
	 */
	bool enters = (type & 0x98) == 0x98 || (type & 0x9f) == 0x81 || (type & 0x9f) == 0x89 ||
		      (type & 0x97) == 0x84 || (type & 0x9f) == 0x85;
	u32 v = 0;

	gdt[SLOT] = garbage(type);
	ATTEMPT("mov %w0, %%fs\n\tmovl %%fs:0, %%eax", : : "r"(to.selector) : "eax");
	__asm__ volatile("mov %0, %%fs" ::"r"(KDATA));
	ATTEMPT("lar %1, %0", : "+r"(v) : "r"((u32)to.selector) : "cc");
	ATTEMPT("lsl %1, %0", : "+r"(v) : "r"((u32)to.selector) : "cc");
	ATTEMPT("verr %w0", : : "r"(to.selector) : "cc");
	ATTEMPT("verw %w0", : : "r"(to.selector) : "cc");
	ATTEMPT("lldt %w0", : : "r"(to.selector));
	__asm__ volatile("lldt %w0" ::"r"(0));
	if (!enters) {
		ATTEMPT("ljmp *%0", : : "m"(to) : "memory");
		ATTEMPT("lcall *%0", : : "m"(to) : "memory");
	}
	if ((type & 0x1f) != 9 && (type & 0x1f) != 1)
		ATTEMPT("ltr %w0", : : "r"(to.selector));
}

static void in_gdt(void)
{
	for (unsigned type = 0; type < 256; type++)
		one(type);
}

static void in_idt(void)
{
	/* Gates that point nowhere, used by INT: the fault is #GP, #NP or #TS, never anything
	 * worse. */
	for (unsigned type = 0; type < 256; type++) {
		u16 selector = (u16)next_random();

		if ((type & 0x17) == 6 || (type & 0x17) == 7 || (type & 0x1f) == 5)
			selector = KDATA; /* of a type that would be entered */
		idt[0x77] = (next_random() & 0xffff) | (u64)selector << 16 | (u64)type << 40 |
			    (u64)next_random() << 48;
		ATTEMPT("int $0x77", : : : "memory");
		CHECK(trap.vector == V_GP || trap.vector == V_NP || trap.vector == V_TS);
	}
}

static void tables(void)
{
	struct {
		u16 limit;
		u32 base;
	} __attribute__((packed)) old, bad;

	/* A GDT that reaches over the end of the address space. */
	__asm__ volatile("sgdt %0" : "=m"(old));
	bad.limit = 0xffff;
	for (unsigned i = 0; i < 50; i++) {
		u32 v = 0;

		bad.base = i & 1 ? 0xffffff00 : next_random() | 0x80000000;
		__asm__ volatile("lgdt %1\n\tlar %3, %0\n\tlsl %3, %0\n\tverr %w3\n\tlgdt %2"
				 : "+r"(v)
				 : "m"(bad), "m"(old), "r"(next_random() & 0xfff8)
				 : "cc");
	}
}

const struct test tests[] = {
	{ "descriptors", in_gdt, 20 },
	{ "gates", in_idt, 20 },
	{ "tables", tables, 20 },
	{ 0 },
};
