/*
 * What leaving the guest's own code costs, and what a flush of translations costs, by one:
 * bench/traps runs this guest program (tests/guest/lib is its runtime) under each engine. It prints
 * "RESULT name hundredths" of TSC ticks for one, and the TSC's frequency.
 */
#include "apic.h"
#include "paging.h"

#define TIMES	1000u
#define FLUSHES 50u /* which cost much more where they are mappings of the host */
#define PAGES	64u
#define AREA	0x8000000ul /* identity-mapped memory that nothing else uses */
#define NOFLUSH BIT(63)	    /* of CR3, with PCIDs: SDM 3A 4.10.4.1 */

static void say(const char *name, u64 ticks)
{
	print("RESULT ");
	print(name);
	print(" ");
	print_hex(ticks);
	print("\n");
}

/* The 8254's channel 2 takes 65536 periods of 1193182 Hz for its count. */
static u64 tsc_hz(void)
{
	outb(0x61, (inb(0x61) & 0xfc) | 1);
	outb(0x43, 0xb0);
	outb(0x42, 0xff);
	outb(0x42, 0xff);
	u64 begin = rdtsc();
	while (!(inb(0x61) & 0x20))
		;
	return (rdtsc() - begin) * 1193182 / 65535;
}

static void nothing(void) {}
static void do_cpuid(void) { cpuid(0, 0); }
static void do_rdmsr(void) { rdmsr(MSR_APIC_BASE); }
static void do_port(void) { outb(0x80, 0); }
static void do_mmio(void) { (void)lapic_read(APIC_VERSION); }
static void do_flags(void) { __asm__ volatile("cli\n\tsti\n\tcli"); }
static void do_popf(void) { write_flags(read_flags()); }
static void do_exception(void) { ATTEMPT("ud2", :); }

static void touch(void)
{
	for (ulong page = 0; page < PAGES; page++)
		(void)*(volatile u8 *)(AREA + page * PAGE);
}

static ulong root, other; /* CR3 with PCID 1 and, alternating, 2 */

static void do_cr3(void) { write_cr3(root); }
static void do_cr3_touch(void)
{
	write_cr3(root);
	touch();
}
static void switch_to(ulong flags)
{
	write_cr3(other | flags);
	other ^= 3;
	touch();
}
static void do_switch_flush(void) { switch_to(0); }
static void do_switch_tagged(void) { switch_to(NOFLUSH); }
static void do_invlpg(void)
{
	__asm__ volatile("invlpg (%0)" ::"r"(AREA) : "memory");
	(void)*(volatile u8 *)AREA;
}
static void do_all(void)
{
	write_cr4(read_cr4() ^ CR4_PGE);
	touch();
}

static u64 per_call(void (*fn)(void), unsigned times)
{
	u64 best = ~0ull;

	for (unsigned round = 0; round < 5; round++) {
		u64 begin = rdtsc();

		for (unsigned i = 0; i < times; i++)
			fn();
		u64 took = rdtsc() - begin;
		best = took < best ? took : best;
	}
	return best * 100 / times;
}

static void measure(void)
{
	static const struct {
		const char *name;
		void (*fn)(void);
		bool flushes, tagged;
	} rows[] = {
		{ "nothing", nothing, false, false },
		{ "cpuid", do_cpuid, false, false },
		{ "rdmsr", do_rdmsr, false, false },
		{ "out", do_port, false, false },
		{ "mmio", do_mmio, false, false },
		{ "cli-sti-cli", do_flags, false, false },
		{ "pushf-popf", do_popf, false, false },
		{ "exception", do_exception, false, false },
		{ "touch", touch, false, false },
		{ "cr3", do_cr3, true, false },
		{ "cr3-touch", do_cr3_touch, true, false },
		{ "invlpg-touch", do_invlpg, true, false },
		{ "pge-touch", do_all, true, false },
		{ "switch-flush", do_switch_flush, true, true },
		{ "switch-tagged", do_switch_tagged, true, true },
	};

	lapic_enable();
	root = other = read_cr3();
	say("hz", tsc_hz());
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		if (rows[i].tagged) {
			write_cr4(read_cr4() | CR4_PCIDE);
			other = root | 1;
		}
		say(rows[i].name, per_call(rows[i].fn, rows[i].flushes ? FLUSHES : TIMES));
	}
	write_cr3(root);
	write_cr4(read_cr4() & ~CR4_PCIDE);
}

const struct test tests[] = { { "costs", measure, 1 }, { 0 } };
