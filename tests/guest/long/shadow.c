/* STI and MOV SS shadows (SDM 2 STI, MOV; SDM 3A 6.8.3), with a pending PIT interrupt. */
#include "apic.h"

static volatile ulong irq_ip;

static void on_irq(struct frame *f)
{
	irq_ip = f->ip;
	f->flags &= ~FLAG_IF;
	pic_eoi(0);
}

/* Leaves IRQ 0 pending at the PIC, interrupts off. */
static void make_pending(void)
{
	pic_init(0x20, 0x28);
	trap_hook[0x20] = on_irq;
	irq_ip = 0;
	pic_mask((u16)~1);
	pit_oneshot(50);
	pic_wait_pending(0);
}

extern char sti_target[], nested_target[], off_target[];

static void sti_shadow(void)
{
	make_pending();
	/* Taken after the instruction that follows STI. */
	__asm__ volatile("sti\n\tnop\n\t.globl sti_target\nsti_target:\n\tnop\n\tnop\n\tcli" ::
				 : "memory");
	CHECK_EQ(irq_ip, sti_target);
}

static void sti_cli(void)
{
	make_pending();
	/* STI; CLI: no window at all. */
	__asm__ volatile("sti\n\tcli\n\tnop\n\tnop" ::: "memory");
	CHECK_EQ(irq_ip, 0);
	__asm__ volatile("sti\n\tnop\n\tnop\n\tcli" ::: "memory");
	CHECK(irq_ip);
}

static void second_sti(void)
{
	make_pending();
	/* A second STI does not extend the shadow: IF is set already. */
	__asm__ volatile("sti\n\tsti\n\t.globl nested_target\nnested_target:\n\tnop\n\t"
			 "nop\n\tcli" ::
				 : "memory");
	CHECK_EQ(irq_ip, nested_target);
}

static void popf_no_shadow(void)
{
	ulong flags = FLAG_IF | 2;

	make_pending();
	/* POPF sets IF without a shadow of its own: the interrupt comes right after it. */
	__asm__ volatile(
		"push %0\n\tpopf\n\t.globl off_target\noff_target:\n\tnop\n\tcli" ::"r"(flags)
		: "memory");
	CHECK_EQ(irq_ip, off_target);
}

static volatile ulong db_ip[8];
static volatile unsigned db_count;

static void on_debug(struct frame *f)
{
	if (db_count < 8)
		db_ip[db_count] = f->ip;
	db_count++;
}

static void mov_ss_step(void)
{
	extern char ss_after[];

	/* MOV SS holds the single-step trap back until after the next instruction. */
	db_count = 0;
	trap_hook[V_DB] = on_debug;
	__asm__ volatile("pushf\n\torl $0x100, (%%rsp)\n\tmov %%ss, %%eax\n\tpopf\n\t"
			 "mov %%eax, %%ss\n\tnop\n\t.globl ss_after\nss_after:\n\t"
			 "pushf\n\tandl $~0x100, (%%rsp)\n\tpopf" ::
				 : "eax", "memory");
	CHECK_EQ(db_ip[0], ss_after);
	trap_hook[V_DB] = NULL;
}

const struct test tests[] = {
	{ "sti", sti_shadow, 20 },
	{ "sti cli", sti_cli, 20 },
	{ "sti sti", second_sti, 20 },
	{ "popf", popf_no_shadow, 20 },
	{ "mov ss and single step", mov_ss_step, CHEAP },
	{ 0 },
};
