/* NMI by self-IPI: not masked by IF, blocked until IRET (SDM 3A 6.7.1). */
#include "apic.h"

static volatile u32 count, depth, deepest;

static void send(void)
{
	lapic_write(APIC_ICR_HIGH, lapic_read(APIC_ID));
	lapic_write(APIC_ICR,
		0x400); /* to itself by number: the self shorthand takes fixed mode only */
	for (unsigned i = 0; i < 20; i++) {
		(void)lapic_read(APIC_ID);
		(void)inb(0x80);
	}
}

static void on_nmi(struct frame *f)
{
	count++;
	depth++;
	if (depth > deepest)
		deepest = depth;
	if (count == 1)
		send(); /* pending until this handler's IRET */
	depth--;
}

static void masked_interrupts(void)
{
	lapic_enable();
	trap_hook[V_NMI] = on_nmi;
	count = 1; /* no second one */
	send();
	CHECK_EQ(count, 2);
}

static void blocked(void)
{
	lapic_enable();
	trap_hook[V_NMI] = on_nmi;
	count = depth = deepest = 0;
	send();
	CHECK_EQ(count, 2);
	CHECK_EQ(deepest, 1);
}

const struct test tests[] = {
	{ "with interrupts off", masked_interrupts, CHEAP },
	{ "blocked until iret", blocked, CHEAP },
	{ 0 },
};
