/* Descriptor tables at start: the IDT full of trap stubs, the TSS, ring 3's stacks; the IVT in real
 * mode. */
#include "guest.h"

void arch_init(void);

#ifdef GUEST16
extern char trap_stubs[];

void arch_init(void)
{
	volatile u32 *ivt = NULL;

	__asm__("" : "+r"(ivt)); /* address 0 is a table here, not a null pointer */
	for (unsigned i = 0; i < 256; i++)
		ivt[i] = (u32)trap_stubs + i * 8;
	/* The PICs may carry firmware's settings: nothing shall come in by itself. */
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
}
#else
#define SLOT (sizeof(ulong) / 4) /* IDT entries are 8 bytes, 16 in long mode */

volatile u64 idt[256 * SLOT] ALIGNED(16);
struct tss tss ALIGNED(16);
u8 ring0_stack[8192] ALIGNED(16);
u8 user_stack[8192] ALIGNED(16);
ulong user_flags = 2;
extern char user_back[];

void idt_set(u8 vector, void *handler, u8 access)
{
	idt[vector * SLOT] = gate(KCODE, (ulong)handler, access, 0);
}

#ifdef __x86_64__
void idt_set_ist(u8 vector, unsigned ist)
{
	idt[vector * SLOT] = (idt[vector * SLOT] & ~(7ull << 32)) | (u64)ist << 32;
}
#endif

static void tss_init(void)
{
#ifdef __x86_64__
	tss.rsp[0] = (ulong)ring0_stack + sizeof ring0_stack;
#else
	tss.esp0 = (ulong)ring0_stack + sizeof ring0_stack;
	tss.ss0 = KDATA;
#endif
	tss.iomap = offsetof(struct tss, bitmap);
	for (unsigned i = 0; i < sizeof tss.bitmap; i++)
		tss.bitmap[i] = 0xff;
	gdt[TSS_SEL / 8] = descriptor((u32)(ulong)&tss, sizeof tss - 1, 0x89, 0);
	__asm__ volatile("ltr %w0" ::"r"(TSS_SEL));
}

void arch_init(void)
{
	struct {
		u16 limit;
		ulong base;
	} __attribute__((packed)) pointer = { sizeof idt - 1, (ulong)idt };

	for (unsigned i = 0; i < 256; i++)
		idt_set((u8)i, trap_stubs + i * 16, 0x8e);
	idt_set(3, trap_stubs + 3 * 16, 0xee); /* INT3 and INTO are for ring 3 too */
	idt_set(4, trap_stubs + 4 * 16, 0xee);
	idt_set(VECTOR_BACK, user_back, 0xee);
	__asm__ volatile("lidt %0" ::"m"(pointer));
	__asm__ volatile("lldt %w0" ::"r"(0)); /* after reset it holds a usable segment at 0 */
	tss_init();
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
}
#endif
