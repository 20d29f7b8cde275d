/*
 * The window at 0xa0000: what of video memory is seen there, and how bytes become bits of planes.
 *
 * Video memory holds the planes side by side: byte 4n + p is byte n of plane p, so that the four
 * bytes the hardware works on at a time are one word, and a character's code and attribute lie
 * together. With chain 4, where a byte's two lowest address bits choose the plane, that is just the
 * linear order.
 */
#include "device/vga/vga_priv.h"

#define PLANES	    4u
#define PLANES_SIZE 0x40000u
#define BANK	    0x10000u

/* IBM, "Graphics Controller Registers", Miscellaneous: bits 3-2 */
static bool locate(const struct vga *v, u64 offset, u32 *at)
{
	static const struct {
		u32 base, len;
	} maps[] = { { 0, 0x20000 }, { 0, 0x10000 }, { 0x10000, 0x8000 }, { 0x18000, 0x8000 } };
	unsigned map = v->gfx[GFX_MISC] >> 2 & 3;

	if (offset < maps[map].base || offset - maps[map].base >= maps[map].len)
		return false;
	*at = (u32)(offset - maps[map].base);
	return true;
}

/* With chain 4, the byte itself; of the extension's modes, of the bank chosen. */
static u32 chained(const struct vga *v, u32 at)
{
	return (at + (vga_is_vbe(v) ? v->dispi[DISPI_BANK] * BANK : 0)) % v->vram_size;
}

static u8 *word_at(struct vga *v, u32 at) { return v->vram + at * PLANES % PLANES_SIZE; }

static u8 read_byte(struct vga *v, u64 offset)
{
	u8 differs = 0;
	u32 at;

	if (!locate(v, offset, &at))
		return 0xff;
	if (v->seq[SEQ_MEMORY_MODE] & SEQ_CHAIN_4)
		return v->vram[chained(v, at)];
	if (v->gfx[GFX_MODE] & GFX_ODD_EVEN)
		return word_at(v, at >> 1)[(v->gfx[GFX_READ_MAP] & 2) | (at & 1)];
	memcpy(v->latch, word_at(v, at), PLANES);
	if (!(v->gfx[GFX_MODE] & GFX_READ_COMPARE))
		return v->latch[v->gfx[GFX_READ_MAP] & 3];
	for (unsigned p = 0; p < PLANES; p++)
		if (v->gfx[GFX_IGNORE] & BIT(p))
			differs |= v->latch[p] ^ (v->gfx[GFX_COMPARE] & BIT(p) ? 0xff : 0);
	return (u8)~differs;
}

static u8 plane_of_bit(u8 bits, unsigned p) { return bits & BIT(p) ? 0xff : 0; }
static u8 rotate(u8 v, unsigned by) { return (u8)(v >> by | v << (8 - by)); }

/* "Data rotate", bits 4-3: what is written, and what the latch holds */
static u8 combine(const struct vga *v, u8 value, u8 latch)
{
	switch (v->gfx[GFX_ROTATE] >> 3 & 3) {
	case 0: return value;
	case 1: return value & latch;
	case 2: return value | latch;
	default: return value ^ latch;
	}
}

/* What goes into a plane, by the write mode. */
static u8 plane_value(const struct vga *v, unsigned p, u8 value)
{
	unsigned by = v->gfx[GFX_ROTATE] & 7;
	u8 mask = v->gfx[GFX_BIT_MASK], set = plane_of_bit(v->gfx[GFX_SET_RESET], p);

	switch (v->gfx[GFX_MODE] & 3) {
	case 0: value = v->gfx[GFX_ENABLE_SET_RESET] & BIT(p) ? set : rotate(value, by); break;
	case 1: return v->latch[p];
	case 2: value = plane_of_bit(value, p); break;
	default:
		mask &= rotate(value, by);
		value = set;
		break;
	}
	value = combine(v, value, v->latch[p]);
	return (u8)((value & mask) | (v->latch[p] & ~mask));
}

static void write_byte(struct vga *v, u64 offset, u8 value)
{
	u8 planes = v->seq[SEQ_MAP_MASK];
	u32 at;

	if (!locate(v, offset, &at))
		return;
	if (v->seq[SEQ_MEMORY_MODE] & SEQ_CHAIN_4) {
		if (planes & BIT(at & 3))
			v->vram[chained(v, at)] = value;
		return;
	}
	if (v->gfx[GFX_MODE] & GFX_ODD_EVEN) {
		for (unsigned p = at & 1; p < PLANES; p += 2)
			if (planes & BIT(p))
				word_at(v, at >> 1)[p] = value;
		return;
	}
	for (unsigned p = 0; p < PLANES; p++)
		if (planes & BIT(p))
			word_at(v, at)[p] = plane_value(v, p, value);
}

u64 vga_window_read(struct vga *v, u64 offset, unsigned size)
{
	u64 value = 0;

	for (unsigned i = 0; i < size; i++)
		value |= (u64)read_byte(v, offset + i) << 8 * i;
	return value;
}

void vga_window_write(struct vga *v, u64 offset, unsigned size, u64 value)
{
	for (unsigned i = 0; i < size; i++)
		write_byte(v, offset + i, (u8)(value >> 8 * i));
}
