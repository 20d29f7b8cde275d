/* Finds ACPI tables the way an operating system does: RSDP in low memory, then the RSDT. */
#include "acpi.h"

static u8 sum(const u8 *p, unsigned n)
{
	u8 s = 0;

	while (n--)
		s = (u8)(s + *p++);
	return s;
}

static const u8 *find_rsdp(void)
{
	for (ulong at = 0xe0000; at < 0x100000; at += 16)
		if (!memcmp((void *)at, "RSD PTR ", 8) && !sum((u8 *)at, 20))
			return (u8 *)at;
	ulong ebda = (ulong)(*(volatile u16 *)(0x40e + (ulong)0)) << 4;
	for (ulong at = ebda; ebda && at < ebda + 1024; at += 16)
		if (!memcmp((void *)at, "RSD PTR ", 8) && !sum((u8 *)at, 20))
			return (u8 *)at;
	return NULL;
}

const u8 *acpi_find(const char *signature)
{
	const u8 *rsdp = find_rsdp();
	bool wide;
	const u8 *root;

	if (!rsdp)
		return NULL;
	wide = !*(const u32 *)(rsdp + 16) && rsdp[15] >= 2; /* an XSDT alone */
	root = (const u8 *)(wide ? (ulong) * (const u64 *)(rsdp + 24) : *(const u32 *)(rsdp + 16));
	if (!root)
		return NULL;
	for (u32 at = 36; at < *(const u32 *)(root + 4); at += wide ? 8 : 4) {
		const u8 *table = (const u8 *)(ulong) * (const u32 *)(root + at);

		if (!memcmp(table, signature, 4))
			return table;
	}
	return NULL;
}

u16 acpi_pm_timer_port(void)
{
	const u8 *fadt = acpi_find("FACP");

	return fadt ? *(const u16 *)(fadt + 76) : 0;
}

ulong acpi_hpet_base(void)
{
	const u8 *hpet = acpi_find("HPET");

	return hpet ? (ulong) * (const u32 *)(hpet + 44) : 0;
}
