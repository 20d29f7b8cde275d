/*
 * What the registers make of video memory: the mode, its geometry and its colours.
 *
 * Not shown: horizontal panning by pixels, split screens, blinking (over a network it would be
 * traffic: what blinks is on), and the underline of monochrome text.
 */
#include "device/vga/vga_priv.h"

#define PLANES_SIZE  0x40000u
#define BLANK_WIDTH  640u
#define BLANK_HEIGHT 400u

static u32 spread(u8 v, bool eight) { return eight ? v : (u32)(v << 2 | v >> 4); }

static u32 dac_colour(const struct vga *v, unsigned index)
{
	const u8 *c = &v->dac[(index & v->dac_mask) * 3];
	bool eight = v->dispi[DISPI_ENABLE] & DISPI_8BIT_DAC;

	return spread(c[2], eight) << 16 | spread(c[1], eight) << 8 | spread(c[0], eight);
}

/* "Attribute Controller Registers": sixteen colours out of the palette's 256 */
static unsigned attr_colour(const struct vga *v, unsigned index)
{
	u8 select = v->attr[ATTR_COLOUR_SELECT], colour = v->attr[index] & 0x3f;

	if (v->attr[ATTR_MODE] & ATTR_P54_SELECT)
		colour = (u8)((colour & 0x0f) | (select & 3) << 4);
	return colour | (select & 0x0cu) << 4;
}

static void take_colours(const struct vga *v, struct vga_look *l, bool direct)
{
	unsigned planes = v->attr[ATTR_PLANES] & 0x0f;

	for (unsigned i = 0; i < 256; i++)
		l->colours[i] = dac_colour(v, direct ? i : attr_colour(v, i & planes));
}

static void blank(struct vga_look *l)
{
	l->kind = VGA_BLANK;
	l->width = BLANK_WIDTH;
	l->height = BLANK_HEIGHT;
}

/* ---- the extensions' modes ---- */

static enum vga_kind direct_kind(u16 bpp)
{
	switch (bpp) {
	case 15: return VGA_DIRECT_15;
	case 16: return VGA_DIRECT_16;
	case 24: return VGA_DIRECT_24;
	case 32: return VGA_DIRECT_32;
	case 4: return VGA_PLANAR;
	default: return VGA_PALETTE;
	}
}

static void look_vbe(const struct vga *v, struct vga_look *l)
{
	u32 bpp = v->dispi[DISPI_BPP] == 15 ? 16 : v->dispi[DISPI_BPP];

	l->kind = direct_kind(v->dispi[DISPI_BPP]);
	l->width = v->dispi[DISPI_XRES];
	l->height = l->rows = v->dispi[DISPI_YRES];
	l->pitch = vga_pitch(v);
	l->row_bytes = l->width * bpp / 8;
	l->start = v->dispi[DISPI_Y_OFFSET] * l->pitch + v->dispi[DISPI_X_OFFSET] * bpp / 8;
	if (l->kind == VGA_PLANAR)
		l->start &= ~3u;
	l->mask = UINT32_MAX;
	if (l->kind == VGA_PALETTE || l->kind == VGA_PLANAR)
		take_colours(v, l, l->kind == VGA_PALETTE);
}

/* ---- the VGA's own ---- */

static u32 lines(const struct vga *v)
{
	u8 over = v->crtc[CRTC_OVERFLOW];
	u32 lines =
		v->crtc[CRTC_HEIGHT] | (over & BIT(1) ? 0x100u : 0) | (over & BIT(6) ? 0x200u : 0);

	return lines + 1;
}

/* Units of four bytes: a character, or eight pixels of four planes */
static void look_rows(const struct vga *v, struct vga_look *l)
{
	l->pitch = v->crtc[CRTC_OFFSET] * 2u * 4;
	l->start = (u32)(v->crtc[CRTC_START_HIGH] << 8 | v->crtc[CRTC_START_LOW]) * 4;
	l->mask = PLANES_SIZE - 1;
}

static u32 font_offset(u8 maps, unsigned low, unsigned high)
{
	return (maps >> low & 3u) * 0x4000u + (maps & BIT(high) ? 0x2000u : 0);
}

static void look_cursor(const struct vga *v, struct vga_look *l, u32 cells)
{
	u32 at = (u32)(v->crtc[CRTC_CURSOR_HIGH] << 8 | v->crtc[CRTC_CURSOR_LOW]) - l->start / 4;
	bool off = v->crtc[CRTC_CURSOR_START] & BIT(5);

	l->cursor_first = 1;
	if (off || !l->pitch || at / (l->pitch / 4) >= l->rows || at % (l->pitch / 4) >= cells)
		return;
	l->cursor_row = at / (l->pitch / 4);
	l->cursor_column = at % (l->pitch / 4);
	l->cursor_first = v->crtc[CRTC_CURSOR_START] & 0x1f;
	l->cursor_last = (u32)min_u64(v->crtc[CRTC_CURSOR_END] & 0x1f, l->cell_height - 1);
}

static void look_text(const struct vga *v, struct vga_look *l)
{
	u32 cells = v->crtc[CRTC_WIDTH] + 1u;

	l->kind = VGA_TEXT;
	l->cell_width = v->seq[SEQ_CLOCKING] & SEQ_EIGHT_DOTS ? 8 : 9;
	l->cell_height = (v->crtc[CRTC_MAX_SCAN_LINE] & 0x1fu) + 1;
	l->rows = lines(v) / l->cell_height;
	l->width = cells * l->cell_width;
	l->height = l->rows * l->cell_height;
	l->row_bytes = cells * 4;
	l->graphics_nine = v->attr[ATTR_MODE] & ATTR_LINE_NINE;
	l->blink = v->attr[ATTR_MODE] & ATTR_BLINK;
	l->fonts[0] = font_offset(v->seq[SEQ_CHARACTER_MAPS], 0, 4);
	l->fonts[1] = font_offset(v->seq[SEQ_CHARACTER_MAPS], 2, 5);
	look_rows(v, l);
	look_cursor(v, l, cells);
	take_colours(v, l, false);
}

/* Lines that are scanned more than once are drawn once. Where row scan bit 0 replaces an address
 * bit, as the CGA has it, the two lines that it tells apart are two rows. */
static void look_graphics(const struct vga *v, struct vga_look *l)
{
	u32 units = v->crtc[CRTC_WIDTH] + 1u, repeat = (v->crtc[CRTC_MAX_SCAN_LINE] & 0x1fu) + 1;
	unsigned shift = v->gfx[GFX_MODE] >> 5 & 3;

	l->kind = shift >= 2 ? VGA_PALETTE : shift ? VGA_PAIRS : VGA_PLANAR;
	look_rows(v, l);
	l->rows = lines(v) / (v->crtc[CRTC_MAX_SCAN_LINE] & CRTC_DOUBLE_SCAN ? 2 : 1);
	if (v->crtc[CRTC_MODE] & CRTC_NOT_CGA)
		l->rows /= repeat;
	else
		l->banked = v->crtc[CRTC_MODE] & BIT(6) ? 0x8000u : 0x4000u;
	l->height = l->rows;
	l->width = l->kind == VGA_PALETTE ? units * 4 : units * 8;
	l->row_bytes = units * 4;
	take_colours(v, l, l->kind == VGA_PALETTE);
}

/* Only what vga_draw() can show leaves here. */
static bool fits(const struct vga_look *l, u32 vram)
{
	u64 last = l->start + (u64)l->pitch * (l->rows - 1) + l->row_bytes;

	return l->width && l->width <= VGA_WIDTH_MAX && l->height && l->height <= VGA_HEIGHT_MAX &&
	       (l->mask != UINT32_MAX || last <= vram);
}

void vga_look(struct device *d, struct vga_look *to)
{
	const struct vga *v = vga_of(d);

	memset(to, 0, sizeof(*to));
	if (vga_is_vbe(v))
		look_vbe(v, to);
	else if (v->seq[SEQ_CLOCKING] & SEQ_SCREEN_OFF || !(v->attr_index & ATTR_SCREEN_ON))
		blank(to);
	else if (v->gfx[GFX_MISC] & GFX_GRAPHICS)
		look_graphics(v, to);
	else
		look_text(v, to);
	if (to->kind != VGA_BLANK && !fits(to, v->vram_size)) {
		memset(to, 0, sizeof(*to));
		blank(to);
	}
}
