/*
 * What firmware does to PCI before it starts a kernel: configuration space is shown in memory, and
 * every BAR has an address. In the hole below 4 GiB lie
 *
 *   0xc0000000 - 0xdfffffff  BARs
 *   0xe0000000 - 0xefffffff  configuration space
 *   0xf0000000 - 0xfebfffff  BARs; above are the I/O APIC and other parts of the chipset
 *
 * (firmware has it otherwise: configuration space at 0xb0000000, BARs from 0xc0000000 on,)
 * and above RAM, as far as the processor's addresses go, there is room for large 64-bit BARs.
 */
#include "base/bits.h"
#include "device/pci/q35.h"
#include "machine/machine_priv.h"

#define HIGH_MAX (512 * GiB)

static struct pci_window high_window(const struct machine *m)
{
	u64 limit = BIT64(m->model.phys_bits);
	u64 base = align_up(max_u64(memory_ram_top(&m->memory), 4 * GiB), GiB);

	if (base >= limit)
		return (struct pci_window){ 0 };
	return (struct pci_window){ base, min_u64(limit - base, HIGH_MAX) };
}

struct pci_map pci_layout(const struct machine *m)
{
	if (m->config.firmware)
		return (struct pci_map){
			.io = { 0x1000, 0xf000 },
			.low = { { FIRMWARE_ECAM + Q35_ECAM_LEN,
				0xfec00000 - (FIRMWARE_ECAM + Q35_ECAM_LEN) } },
			.high = high_window(m),
			.ecam = FIRMWARE_ECAM,
			.first_pin = PCI_FIRST_PIN,
		};
	return (struct pci_map){
		.io = { 0x1000, 0xf000 },
		.low = { { 0xc0000000, MACHINE_ECAM - 0xc0000000 },
			{ MACHINE_ECAM + Q35_ECAM_LEN,
				0xfec00000 - (MACHINE_ECAM + Q35_ECAM_LEN) } },
		.high = high_window(m),
		.ecam = MACHINE_ECAM,
		.first_pin = PCI_FIRST_PIN,
	};
}

void pci_power_on(struct machine *m)
{
	struct pci_map map = pci_layout(m);

	pci_config_write(&m->pci, Q35_SLOT, Q35_PCIEXBAR, 4, MACHINE_ECAM | Q35_ECAM_ON);
	pci_config_write(&m->pci, Q35_SLOT, Q35_PCIEXBAR + 4, 4, 0);
	pci_assign(&m->pci, &map);
}
