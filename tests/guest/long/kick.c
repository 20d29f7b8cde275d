/*
 * An interrupt that comes anywhere in a run of returns and indirect jumps, with nothing after it
 * but a loop that only an interrupt ends: it must not be lost on the way.
 */
#include "apic.h"

#define VECTOR	   0x40
#define TRIALS	   500
#define FAR_LONGER 1000000000 /* than any timer here */

enum phase { BEFORE, WITHIN, AFTER };

static volatile enum phase phase, fired_in;
static volatile u32 fired;

static void on_timer(struct frame *f)
{
	fired_in = phase;
	fired = 1;
	lapic_write(APIC_EOI, 0);
}

static NOINLINE void returns(void)
{
	__asm__ volatile(".rept 3000\n\tcall 1f\n\tjmp 2f\n1:\tret\n2:\n\t.endr" ::: "memory");
}

static NOINLINE void jumps(void)
{
	__asm__ volatile(".rept 3000\n\tlea 1f(%%rip), %%rax\n\tjmp *%%rax\n1:\n\t.endr" ::
				 : "rax", "memory");
}

/* False when the interrupt does not come within `times`. */
static NOINLINE bool spin(u64 times)
{
	for (u64 i = 0; i < times; i++)
		if (fired)
			return true;
	return false;
}

/* The wait before the code is made longer or shorter until the timer fires within the code. */
static void during(void (*code)(void))
{
	ulong wait = 10000;

	lapic_enable();
	trap_hook[VECTOR] = on_timer;
	lapic_write(APIC_TIMER, VECTOR);
	lapic_write(APIC_TIMER_DIVIDE, 0xb);
	__asm__ volatile("sti");
	for (unsigned i = 0; i < TRIALS; i++) {
		ulong left = wait;

		fired = 0;
		phase = BEFORE;
		/* An engine that took the last interrupt somewhere here may have to look at that
		 * place once more, and would find a lost one. */
		code();
		spin(100);
		lapic_write(APIC_TIMER_INIT, 10000);
		__asm__ volatile("1: dec %0\n\tjnz 1b" : "+r"(left));
		phase = WITHIN;
		code();
		phase = AFTER;
		if (!spin(FAR_LONGER)) {
			CHECK_EQ(i, TRIALS);
			break;
		}
		wait += wait / 32;
		if (fired_in == BEFORE)
			wait -= wait / 8;
	}
	__asm__ volatile("cli");
}

static void in_returns(void) { during(returns); }
static void in_jumps(void) { during(jumps); }

const struct test tests[] = {
	{ "returns", in_returns, 1 },
	{ "indirect jumps", in_jumps, 1 },
	{ 0 },
};
