/*
 * A guest that pokes at everything: all ports, all MSRs, holes in the physical address space.
 * Nothing may harm the monitor. Left out is only what ends or redirects the test itself.
 */
#include "acpi.h"
#include "apic.h"

static bool spared(u16 port, u16 pm)
{
	return (port >= 0xf4 && port <= 0xf7) ||     /* debug exit */
	       (port >= 0x501 && port <= 0x504) ||   /* debug exit */
	       (port >= 0x3f8 && port <= 0x3ff) ||   /* the console */
	       port == 0x64 || port == 0x92 ||	     /* resets */
	       (port >= 0xcf8 && port <= 0xcff) ||   /* reset and PCI configuration */
	       (port >= 0x510 && port <= 0x51b) ||   /* fw_cfg: DMA into memory */
	       port == 0xb2 || port == 0xb3 ||	     /* SMI */
	       (port >= 0xae00 && port <= 0xaeff) || /* ACPI hot-plug and eject */
	       (pm && port >= (pm & ~0x3f) && port <= (pm | 0x3f)) ||
	       (port >= 0x600 && port <= 0x63f) || /* power off */
	       (port >= 0x1f0 && port <= 0x1f7) || (port >= 0x170 && port <= 0x177) ||
	       (port & 0xff00) == 0xc000;
}

static bool spared_msr(u32 index)
{
	/* The clock pages would be written into the program. */
	return index == MSR_EFER || index == MSR_APIC_BASE || index == MSR_GS_BASE ||
	       index == MSR_FS_BASE || (index & 0xffffff00) == 0x4b564d00 || index == 0x11 ||
	       index == 0x12 || (index & ~0xffu) == 0x800 || (index & 0xffffff00) == 0x40000000;
}

static void ports(void)
{
	u16 pm = acpi_pm_timer_port();

	for (u32 port = 0; port < 0x10000; port++) {
		if (spared((u16)port, pm))
			continue;
		u8 v = inb((u16)port);
		outb((u16)port, (u8)~v);
		outb((u16)port, 0xff);
		if (spared((u16)(port + 1), pm) || spared((u16)(port + 2), pm) ||
			spared((u16)(port + 3), pm))
			continue;
		(void)inw((u16)port);
		(void)inl((u16)port);
		outl((u16)port, 0xa5a5a5a5);
		outw((u16)port, 0);
	}
	/* Whatever was set off: nothing may be delivered by itself with interrupts off. */
	pic_init(0x20, 0x28);
}

static void read_msrs(u32 first, u32 n)
{
	for (u32 i = first; i < first + n; i++)
		ATTEMPT("rdmsr", : : "c"(i) : "eax", "edx");
}

static void msrs(void)
{
	read_msrs(0, 0x2000);
	read_msrs(0xc0000000, 0x2000);
	read_msrs(0xc0010000, 0x2000);
	read_msrs(0x40000000, 0x200);
	read_msrs(0x4b564d00, 0x100);
}

static void msr_writes(void)
{
	static const u64 value[] = { 0, ~0ull, 0x8000000000000000, 0x5555555555555555 };

	for (u32 i = 0; i < 0x1000; i++)
		for (unsigned k = 0; k < ARRAY_LEN(value); k++) {
			u32 index = i & 0x800 ? 0xc0000000 + (i & 0x7ff) : i;
			u32 lo, hi;

			if (spared_msr(index))
				continue;
			ATTEMPT("rdmsr", : "=a"(lo), "=d"(hi) : "c"(index));
			if (trap.vector != NO_TRAP)
				continue;
			ATTEMPT("wrmsr",
				:
				: "c"(index), "a"((u32)value[k]), "d"((u32)(value[k] >> 32)));
			ATTEMPT("wrmsr", : : "c"(index), "a"(lo), "d"(hi));
		}
}

static void holes(void)
{
	/* Unassigned memory reads as something and swallows writes. */
	static const ulong at[] = { 0xfe000000, 0xfd000000, 0xe0000000, 0xfef00000, 0xfff00000,
		0xfec01000, 0xfed80000 };

	for (unsigned i = 0; i < ARRAY_LEN(at); i++)
		for (unsigned k = 0; k < 64; k += 4) {
			volatile u32 *p = (volatile u32 *)(at[i] + k);
			u32 v = *p;

			*p = ~v;
			*(volatile u64 *)(at[i] + k) = v;
			*(volatile u8 *)(at[i] + k + 1) = 0;
			(void)*(volatile u16 *)(at[i] + k + 3);
		}
}

static void apic_registers(void)
{
	/* Every local APIC offset, aligned or not, but the ICR. */
	for (u32 i = 0; i < 0x1000; i += 4) {
		(void)lapic_read(i);
		if ((i & 0xfe0) != 0x300 && i != APIC_LINT0 && i != APIC_LINT1)
			lapic_write(i, 0xffffffff);
	}
	(void)*(volatile u8 *)(LAPIC + 3);
	(void)*(volatile u64 *)(LAPIC + 0x20);
	lapic_enable();
}

const struct test tests[] = {
	{ "MSR reads", msrs, 2 },
	{ "MSR writes", msr_writes, 1 },
	{ "holes", holes, 2 },
	{ "local APIC", apic_registers, 5 },
	{ "ports", ports, 1 },
	{ 0 },
};
