/*
 * Power-on and reset: everything back to its reset state, the tables a firmware would have made,
 * the kernel from its files, which the machine keeps open, and processor 0 at the kernel's
 * first instruction; or firmware (firmware.c), which does all that for itself. The other processors
 * wait for a start-up IPI. A machine that is restored loads nothing: its memory has been loaded
 * once (restoring.c).
 *
 * A reset also empties RAM. Real RAM would keep its contents, but a guest that starts the same way
 * each time is worth more, and giving pages back to the host costs less than loading does.
 */
#include "base/scope.h"
#include "boot/e820.h"
#include "device/legacy/acpi_pm.h"
#include "device/legacy/hpet.h"
#include "device/pci/hotplug.h"
#include "device/pci/q35.h"
#include "machine/machine_priv.h"
#include "x86/msr.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

int load_images(struct machine *m, struct err *err)
{
	const struct machine_config *c = &m->config;

	if (c->kernel && boot_image_open(&m->kernel, "kernel", c->kernel, c->memory, err))
		return err->code;
	if (c->firmware && boot_image_read(&m->firmware, "firmware", c->firmware, c->memory, err))
		return err->code;
	if (c->flash && boot_image_read(&m->flash_template, "flash", c->flash, 16 * MiB, err))
		return err->code;
	if (c->video_bios && boot_image_read(&m->video_bios, "video BIOS", c->video_bios, MiB, err))
		return err->code;
	if (c->initrd && boot_image_open(&m->initrd, "initrd", c->initrd, c->memory, err))
		return err->code;
	return 0;
}

static void empty_memory(struct machine *m)
{
	for (unsigned i = 0; i < m->memory.region_count; i++) {
		struct memory_region *r = &m->memory.regions[i];

		if (!r->rom && madvise(r->host, r->size, MADV_REMOVE))
			memset(r->host, 0, r->size);
	}
	for (unsigned i = 0; i < m->memory.slot_count; i++)
		memory_written(&m->memory, gpa(m->memory.slots[i].base), m->memory.slots[i].size);
}

/* One TSC for all: x86_reset() reads the host's for each. */
static void reset_cpus(struct machine *m)
{
	for (unsigned i = 0; i < m->config.cpus; i++) {
		struct machine_cpu *c = &m->cpus[i];
		struct x86_state *s = &c->v.x86.s;

		s->apic_base = c->lapic->base;
		x86_reset(&c->v.x86);
		s->tsc_offset = c->tsc_offset = m->cpus[0].v.x86.s.tsc_offset;
		if (i)
			s->activity = X86_WAIT_SIPI;
		c->v.attention = 0;
		lapic_virtual_wire(c->lapic);
	}
}

int load_tables(
	struct machine *m, struct acpi_image *acpi, struct smbios_image *smbios, struct err *err)
{
	const struct pci_map map = pci_layout(m);
	struct acpi_near near[MACHINE_NEAR_MAX];
	const struct acpi_config config = {
		.topology = m->config.topology,
		.near = near,
		.near_count = numa_memory(m, near),
		.ports = {
			.base = ACPI_PM_BASE,
			.len = ACPI_PM_LEN,
			.event = ACPI_PM1A_EVT,
			.control = ACPI_PM1A_CNT,
			.timer = ACPI_PM_TMR,
			.gpe0 = ACPI_PM_GPE0,
			.reset = Q35_RESET,
			.reset_value = Q35_RESET_ON,
		},
		.timer_32bit = true,
		.sci_irq = ACPI_PM_SCI_IRQ,
		.s5_type = ACPI_PM_S5_TYPE,
		.hpet_id = HPET_ID,
		.hpet_min_tick = HPET_MIN_TICK,
		.com_ports = 2,
		.i8042 = true,
		.vga = m->config.display,
		.fw_cfg = m->config.firmware,
		.mmio_count = disk_mmio(m, m->disk_count),
		.mmio_base = MACHINE_MMIO,
		.mmio_irq = { machine_mmio_irqs[0], machine_mmio_irqs[1] },
		.pci = &map,
		.generation = generation_place(m),
		.hotplug = { PCI_HOTPLUG_BASE, PCI_HOTPLUG_LEN, ACPI_GPE_HOTPLUG, PCI_HOTPLUG_SLOTS },
	};
	const struct smbios_config about = { .topology = m->config.topology };

	smbios_build(smbios, &about, &m->memory);
	return acpi_build(acpi, &config, err);
}

static int put_tables(struct machine *m, u64 *rsdp, struct err *err)
{
	AUTO_FREE struct acpi_image *acpi = calloc(1, sizeof(*acpi));
	AUTO_FREE struct smbios_image *smbios = calloc(1, sizeof(*smbios));

	if (!acpi || !smbios)
		return err_set(err, -ENOMEM, "no memory for the firmware tables");
	if (load_tables(m, acpi, smbios, err) || acpi_load(acpi, &m->memory, err) ||
		smbios_load(smbios, &m->memory, err))
		return err->code;
	*rsdp = acpi->rsdp.v;
	generation_put(m);
	return 0;
}

static int load_kernel(struct machine *m, struct err *err)
{
	struct e820_map map;
	u64 rsdp;

	if (put_tables(m, &rsdp, err))
		return err->code;
	if (!m->kernel.size)
		return 0;
	if (boot_image_again(&m->kernel, err) || boot_image_again(&m->initrd, err))
		return err->code;

	e820_build(&map, &m->memory);
	int r = boot_load(
		&(struct boot_request){
			.memory = &m->memory,
			.map = &map,
			.rsdp = rsdp,
			.kernel = m->kernel,
			.initrd = m->initrd,
			.cmdline = m->config.append,
			.format = BOOT_AUTO,
			.unpack = true,
		},
		&m->cpus[0].v.x86.s, err);
	boot_image_let_go(&m->kernel);
	boot_image_let_go(&m->initrd);
	return r;
}

int load_guest(struct machine *m, struct err *err)
{
	pthread_mutex_lock(&m->lock);
	parts_reset(m);
	if (!m->config.firmware)
		pci_power_on(m);
	reset_cpus(m);
	video_apply(m);
	pthread_mutex_unlock(&m->lock);

	if (m->used)
		empty_memory(m);
	/* Only the first time: a reset is a reset for a machine that was restored, too. */
	bool from_file = m->config.saved && !m->used;

	m->used = true;
	if (!from_file && (m->config.firmware ? firmware_boot(m, err) : load_kernel(m, err)))
		return err->code;
	for (unsigned i = 0; i < m->config.cpus; i++)
		if (m->cpus[i].v.engine->push(&m->cpus[i].v) || irqchip_give(&m->cpus[i]))
			return err_set(err, -EIO, "engine %s: cannot take the processor's state",
				m->config.engine->name);
	return 0;
}
