/*
 * The Bochs VBE extensions ("VBE DISPI interface", Bochs iodev/display/vbe documentation; QEMU
 * docs/specs/standard-vga.rst), version 0xb0c5: a mode is set by writing its width, height and
 * depth and then ENABLE. What does not fit into video memory is made to fit, so that whatever
 * registers hold can be shown.
 */
#include "device/vga/vga_priv.h"

#define BPP_MAX 32u

static bool is_depth(u16 bpp)
{
	return bpp == 4 || bpp == 8 || bpp == 15 || bpp == 16 || bpp == 24 || bpp == 32;
}

static u16 clamp(u32 v, u32 min, u32 max) { return (u16)(v < min ? min : v > max ? max : v); }

/* Rows of the virtual width that video memory has */
static u32 virtual_height(const struct vga *v)
{
	return (u32)min_u64(v->vram_size / vga_pitch(v), 0xffff);
}

/* Every write ends here. A row is at most half of video memory. */
static void make_fit(struct vga *v)
{
	u16 *r = v->dispi;
	u32 row_max;

	if (!is_depth(r[DISPI_BPP]))
		r[DISPI_BPP] = 8;
	row_max = v->vram_size / 2 * 8 / r[DISPI_BPP];
	r[DISPI_XRES] = clamp(r[DISPI_XRES] & ~7u, 8, VGA_WIDTH_MAX);
	r[DISPI_YRES] = clamp(r[DISPI_YRES], 1, VGA_HEIGHT_MAX);
	r[DISPI_VIRT_WIDTH] = clamp(
		r[DISPI_VIRT_WIDTH] & ~7u, r[DISPI_XRES], (u32)min_u64(row_max & ~7u, 0xfff8));
	r[DISPI_XRES] = clamp(r[DISPI_XRES], 8, r[DISPI_VIRT_WIDTH]);
	r[DISPI_YRES] = clamp(r[DISPI_YRES], 1, virtual_height(v));
	r[DISPI_X_OFFSET] = clamp(r[DISPI_X_OFFSET], 0, r[DISPI_VIRT_WIDTH] - r[DISPI_XRES]);
	r[DISPI_Y_OFFSET] = clamp(r[DISPI_Y_OFFSET], 0, virtual_height(v) - r[DISPI_YRES]);
}

u16 vga_dispi_read(const struct vga *v, unsigned reg)
{
	bool caps = v->dispi[DISPI_ENABLE] & DISPI_GET_CAPS;

	switch (reg) {
	case DISPI_XRES: return caps ? VGA_WIDTH_MAX : v->dispi[reg];
	case DISPI_YRES: return caps ? VGA_HEIGHT_MAX : v->dispi[reg];
	case DISPI_BPP: return caps ? BPP_MAX : v->dispi[reg];
	case DISPI_VIRT_HEIGHT: return (u16)virtual_height(v);
	case DISPI_MEMORY: return (u16)(v->vram_size / (64 * KiB));
	default: return reg < DISPI_REGS ? v->dispi[reg] : 0;
	}
}

/* The window at 0xa0000 shows banks of what is seen. */
static void turn_on(struct vga *v, u16 value)
{
	v->dispi[DISPI_VIRT_WIDTH] = v->dispi[DISPI_XRES];
	v->dispi[DISPI_X_OFFSET] = v->dispi[DISPI_Y_OFFSET] = v->dispi[DISPI_BANK] = 0;
	make_fit(v);
	if (!(value & DISPI_NO_CLEAR))
		memset(v->vram, 0, (size_t)vga_pitch(v) * v->dispi[DISPI_YRES]);
	v->gfx[GFX_MISC] = BIT(2) | GFX_GRAPHICS;
	v->seq[SEQ_MAP_MASK] = 0x0f;
	if (v->dispi[DISPI_BPP] == 4)
		v->seq[SEQ_MEMORY_MODE] &= (u8)~SEQ_CHAIN_4;
	else
		v->seq[SEQ_MEMORY_MODE] |= SEQ_CHAIN_4;
}

static void write_enable(struct vga *v, u16 value)
{
	bool was_on = vga_is_vbe(v);

	v->dispi[DISPI_ENABLE] = value;
	if (vga_is_vbe(v) && !was_on)
		turn_on(v, value);
}

void vga_dispi_write(struct vga *v, unsigned reg, u16 value)
{
	switch (reg) {
	case DISPI_ID: /* drivers ask so whether it knows a version */
		if (value >= DISPI_VERSION_0 && value <= DISPI_VERSION)
			v->dispi[reg] = value;
		return;
	case DISPI_VIRT_HEIGHT:
	case DISPI_MEMORY: return;
	case DISPI_ENABLE: write_enable(v, value); break;
	case DISPI_BANK: v->dispi[reg] = value % (u16)(v->vram_size / (64 * KiB)); break;
	default:
		if (reg < DISPI_REGS)
			v->dispi[reg] = value;
		break;
	}
	make_fit(v);
}

void vga_dispi_loaded(struct vga *v) { make_fit(v); }

void vga_dispi_reset(struct vga *v)
{
	memset(v->dispi, 0, sizeof(v->dispi));
	v->dispi_index = 0;
	v->dispi[DISPI_ID] = DISPI_VERSION;
	make_fit(v);
}
