/*
 * A VGA on PCI with the Bochs VBE extensions: QEMU's standard one (docs/specs/standard-vga.rst),
 * which SeaBIOS's video BIOS, OVMF, and Linux's vgacon, vesafb and bochs-drm know.
 *
 *   ports 0x3b0-0x3df     the VGA's (vga_ports.c)
 *   ports 0x1ce-0x1d1     the extensions' index and, at 0x1cf and 0x1d0, data
 *   memory at 0xa0000     the VGA's window on video memory (vga_memory.c)
 *   BAR 0                 all of video memory, in a row
 *   BAR 2, 4 KiB          the same ports as memory: 0x3c0-0x3df at 0x400, the extensions' registers
 *                         side by side at 0x500; the monitor's description at 0 is empty
 *
 * Video memory is the machine's to make, as RAM is (device_env.video). Whenever BAR 0 moves the
 * machine is told, and shows the memory there as soon as it can; until then, and where it cannot,
 * accesses come here.
 *
 * The registers at 0x3b0 and 0xa0000 are decoded always, whatever the command register says: this
 * is the only VGA, and programs that know nothing of PCI expect it there. It has no ROM: firmware
 * gets the video BIOS as a file (machine/firmware.c).
 */
#include "base/log.h"
#include "device/vga/vga_priv.h"
#include <errno.h>

enum { WINDOW_PORTS, WINDOW_DISPI, WINDOW_MEMORY };
enum { BAR_VRAM = 0, BAR_REGISTERS = 2 };

#define REGISTERS_SIZE 0x1000u
#define REG_PORTS      0x400u /* those from 0x3c0 on */
#define REG_PORTS_END  0x420u
#define REG_DISPI      0x500u
#define FIRST_PORT     0x10u /* 0x3c0 in the window of ports */

/* ---- the extensions' ports: sixteen bits ---- */

static u64 read_dispi_port(struct vga *v, u64 offset, unsigned size)
{
	u16 value = offset ? vga_dispi_read(v, v->dispi_index) : v->dispi_index;

	return size == 1 ? value & 0xff : value;
}

static void write_dispi_port(struct vga *v, u64 offset, u64 value)
{
	if (offset)
		vga_dispi_write(v, v->dispi_index, (u16)value);
	else
		v->dispi_index = (u16)value;
}

/* ---- BARs ---- */

static u8 read_register(struct vga *v, u64 at)
{
	if (at >= REG_PORTS && at < REG_PORTS_END)
		return vga_port_read(v, (unsigned)(at - REG_PORTS) + FIRST_PORT);
	return 0;
}

static u64 read_registers(struct vga *v, u64 at, unsigned size)
{
	u64 value = 0;

	if (at >= REG_DISPI && at < REG_DISPI + 2 * DISPI_REGS && size == 2)
		return vga_dispi_read(v, (unsigned)(at - REG_DISPI) / 2);
	for (unsigned i = 0; i < size; i++)
		value |= (u64)read_register(v, at + i) << 8 * i;
	return value;
}

static void write_registers(struct vga *v, u64 at, unsigned size, u64 value)
{
	if (at >= REG_DISPI && at < REG_DISPI + 2 * DISPI_REGS && size == 2) {
		vga_dispi_write(v, (unsigned)(at - REG_DISPI) / 2, (u16)value);
		return;
	}
	for (unsigned i = 0; i < size; i++)
		if (at + i >= REG_PORTS && at + i < REG_PORTS_END)
			vga_port_write(v, (unsigned)(at + i - REG_PORTS) + FIRST_PORT,
				(u8)(value >> 8 * i));
}

static u64 bar_read(void *ctx, unsigned bar, u64 offset, unsigned size)
{
	struct vga *v = ctx;
	u64 value = 0;

	if (bar == BAR_REGISTERS)
		return read_registers(v, offset, size);
	memcpy(&value, v->vram + offset, size);
	return value;
}

static void bar_write(void *ctx, unsigned bar, u64 offset, unsigned size, u64 value)
{
	struct vga *v = ctx;

	if (bar == BAR_REGISTERS)
		write_registers(v, offset, size, value);
	else
		memcpy(v->vram + offset, &value, size);
}

static void show(struct vga *v)
{
	const struct pci_bar *bar = &v->fn.bars[BAR_VRAM];
	u64 at = bar->mapped ? bar->at : 0;

	if (at == v->shown)
		return;
	v->shown = at;
	if (v->dev.env.video.show)
		v->dev.env.video.show(v->dev.env.machine, at);
}

static void config_wrote(void *ctx, unsigned at, unsigned size) { show(ctx); }

/* ---- reads, writes ---- */

static u64 vga_read(struct device *d, unsigned window, u64 offset, unsigned size)
{
	struct vga *v = vga_of(d);
	u64 value = 0;

	if (window == WINDOW_MEMORY)
		return vga_window_read(v, offset, size);
	if (window == WINDOW_DISPI)
		return read_dispi_port(v, offset, size);
	for (unsigned i = 0; i < size; i++)
		value |= (u64)vga_port_read(v, (unsigned)offset + i) << 8 * i;
	return value;
}

static void vga_write(struct device *d, unsigned window, u64 offset, unsigned size, u64 value)
{
	struct vga *v = vga_of(d);

	if (window == WINDOW_MEMORY) {
		vga_window_write(v, offset, size, value);
		return;
	}
	if (window == WINDOW_DISPI) {
		write_dispi_port(v, offset, value);
		return;
	}
	for (unsigned i = 0; i < size; i++)
		vga_port_write(v, (unsigned)offset + i, (u8)(value >> 8 * i));
}

/* ---- reset, init, tables ---- */

static void vga_reset(struct device *d)
{
	struct vga *v = vga_of(d);

	vga_ports_reset(v);
	vga_dispi_reset(v);
	pci_reset(&v->fn);
	show(v);
}

static void vga_loaded(struct device *d)
{
	struct vga *v = vga_of(d);

	v->seq_index &= 7;
	v->gfx_index &= 15;
	v->crtc_index &= 31;
	v->dac_part = v->dac_part % 3;
	vga_dispi_loaded(v);
	pci_loaded(&v->fn);
	show(v);
}

static int vga_init(struct device *d, struct err *err)
{
	static const struct pci_identity identity = {
		.vendor = 0x1234,
		.device = 0x1111,
		.subvendor = 0x1af4,
		.subdevice = 0x1100,
		.class = 0x030000,
		.revision = 2,
	};
	static const struct pci_ops ops = {
		.read = bar_read, .write = bar_write, .config_wrote = config_wrote
	};
	struct vga *v = vga_of(d);
	u64 size = d->env.video.size;

	if (!d->env.pci)
		return err_set(err, -EINVAL, "no PCI bus");
	if (size < VGA_VRAM_MIN || size > VGA_VRAM || size & (size - 1))
		return err_set(err, -EINVAL, "no video memory of a size that it could have");
	v->vram = d->env.video.host;
	v->vram_size = (u32)size;
	pci_init(&v->fn, d->name, &identity, &ops, v);
	pci_add_bar(&v->fn, BAR_VRAM, PCI_BAR_MEMORY, size);
	pci_add_bar(&v->fn, BAR_REGISTERS, PCI_BAR_MEMORY, REGISTERS_SIZE);
	return pci_attach(d->env.pci, &v->fn, d->env.slot, err);
}

static void vga_fini(struct device *d) { pci_detach(&vga_of(d)->fn); }

static const struct field vga_state[] = {
	FIELD_SUB(struct vga, fn, struct pci_function, pci_function_fields),
	FIELD(struct vga, misc),
	FIELD(struct vga, seq_index),
	FIELD(struct vga, gfx_index),
	FIELD(struct vga, crtc_index),
	FIELD(struct vga, attr_index),
	FIELD_BLOB(struct vga, seq),
	FIELD_BLOB(struct vga, gfx),
	FIELD_BLOB(struct vga, crtc),
	FIELD_BLOB(struct vga, attr),
	FIELD(struct vga, attr_data),
	FIELD(struct vga, dac_mask),
	FIELD(struct vga, dac_read),
	FIELD(struct vga, dac_write),
	FIELD(struct vga, dac_part),
	FIELD(struct vga, dac_reading),
	FIELD_BLOB(struct vga, dac),
	FIELD_BLOB(struct vga, latch),
	FIELD(struct vga, dispi_index),
	FIELD_ARRAY(struct vga, dispi, u16),
	FIELD_END,
};

const struct device_class vga_class = {
	.name = "vga",
	.doc = "VGA with the Bochs VBE extensions",
	.size = sizeof(struct vga),
	.init = vga_init,
	.reset = vga_reset,
	.fini = vga_fini,
	.read = vga_read,
	.write = vga_write,
	.loaded = vga_loaded,
	.windows = { { BUS_PORT, 0x3b0, 0x30 }, { BUS_PORT, 0x1ce, 4 },
		{ BUS_MMIO, 0xa0000, 0x20000 } },
	.state = vga_state,
};
