/*
 * Draws what has changed. A copy of the rows of video memory as they were drawn tells: comparing a
 * row costs less than drawing it, needs nothing of whoever writes video memory (translated code, a
 * device, another processor), and costs nothing while nobody looks. The copy is what is drawn from,
 * so a row that changes meanwhile is only late.
 *
 * Another look at the same memory (a mode, a colour, a cursor that has moved) draws all or, where
 * it is the cursor alone, its two rows. Text also depends on the fonts, which lie in plane 2.
 */
#include "base/bits.h"
#include "device/vga/vga.h"
#include <stdlib.h>

#define PIXELS_MAX  (VGA_WIDTH_MAX * VGA_HEIGHT_MAX)
#define BYTES_MAX   (PIXELS_MAX * 4)
#define ROW_MAX	    (VGA_WIDTH_MAX * 4)
#define GLYPH_LINES 32u

struct vga_screen {
	const u8 *vram;
	u64 size;
	struct vga_look look; /* the one that was drawn */
	bool drawn;
	u8 fonts[2][VGA_FONT];
	u8 row[ROW_MAX]; /* gathered from where memory wraps */
	u32 *pixels;
	u8 *copy; /* row_bytes of each row */
};

struct vga_screen *vga_screen_new(const u8 *vram, u64 size)
{
	struct vga_screen *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->vram = vram;
	s->size = size;
	s->pixels =
		calloc(PIXELS_MAX, sizeof(*s->pixels)); /* of which only what is used is there */
	s->copy = calloc(BYTES_MAX, 1);
	if (s->pixels && s->copy)
		return s;
	vga_screen_free(s);
	return NULL;
}

void vga_screen_free(struct vga_screen *s)
{
	if (!s)
		return;
	free(s->pixels);
	free(s->copy);
	free(s);
}

/* ---- rows of memory ---- */

static const u8 *source(struct vga_screen *s, unsigned row)
{
	const struct vga_look *l = &s->look;
	u32 at = l->start + l->pitch * row;

	if (l->mask == UINT32_MAX)
		return s->vram + at;
	if (l->banked)
		at = l->start + l->pitch * (row / 2) + (row & 1 ? l->banked : 0);
	at &= l->mask;
	u32 first = (u32)min_u64(l->row_bytes, l->mask + 1 - at);
	memcpy(s->row, s->vram + at, first);
	memcpy(s->row + first, s->vram, l->row_bytes - first);
	return s->row;
}

/* ---- drawing ---- */

static void draw_text(struct vga_screen *s, unsigned row, const u8 *from)
{
	const struct vga_look *l = &s->look;
	u32 *to = s->pixels + (size_t)row * l->cell_height * l->width;

	for (u32 cell = 0; cell < l->row_bytes / 4; cell++, from += 4) {
		u8 code = from[0], attr = from[1];
		const u8 *glyph = s->fonts[attr >> 3 & 1] + code * GLYPH_LINES;
		u32 ink = l->colours[attr & 15];
		u32 paper = l->colours[attr >> 4 & (l->blink ? 7 : 15)];
		bool cursor = row == l->cursor_row && cell == l->cursor_column;
		bool nine = l->graphics_nine && code >= 0xc0 && code <= 0xdf;

		for (u32 y = 0; y < l->cell_height; y++) {
			u32 *at = to + y * l->width + cell * l->cell_width;
			u32 bits = glyph[y] << 1 | (nine ? glyph[y] & 1 : 0);

			if (cursor && y >= l->cursor_first && y <= l->cursor_last)
				bits = 0x1ff;
			for (u32 x = 0; x < l->cell_width; x++)
				at[x] = bits & 0x100u >> x ? ink : paper;
		}
	}
}

static void draw_planar(const struct vga_look *l, u32 *to, const u8 *from)
{
	for (u32 x = 0; x < l->width; x++) {
		const u8 *planes = from + x / 8 * 4;
		unsigned shift = 7 - x % 8, colour = 0;

		for (unsigned p = 0; p < 4; p++)
			colour |= (planes[p] >> shift & 1u) << p;
		to[x] = l->colours[colour];
	}
}

/* Eight pixels of a unit: four in plane 0, then four in plane 1; planes 2 and 3 add two bits. */
static void draw_pairs(const struct vga_look *l, u32 *to, const u8 *from)
{
	for (u32 x = 0; x < l->width; x++) {
		const u8 *half = from + x / 8 * 4 + (x / 4 & 1);
		unsigned shift = 6 - 2 * (x & 3);

		to[x] = l->colours[(half[0] >> shift & 3u) | (half[2] >> shift & 3u) << 2];
	}
}

static u32 widen(u32 v, unsigned bits) { return v << (8 - bits) | v >> (2 * bits - 8); }

static void draw_direct(const struct vga_look *l, u32 *to, const u8 *from)
{
	bool six = l->kind == VGA_DIRECT_16;

	for (u32 x = 0; x < l->width; x++) {
		if (l->kind == VGA_DIRECT_32) {
			const u8 *c = from + 4 * x;

			to[x] = (u32)c[0] << 16 | (u32)c[1] << 8 | c[2];
		} else if (l->kind == VGA_DIRECT_24) {
			const u8 *c = from + 3 * x;

			to[x] = (u32)c[0] << 16 | (u32)c[1] << 8 | c[2];
		} else {
			u32 c = get_le16(from + 2 * x), green = six ? c >> 5 & 0x3f : c >> 5 & 0x1f;

			to[x] = widen(c & 0x1f, 5) << 16 | widen(green, six ? 6 : 5) << 8 |
				widen(c >> (six ? 11 : 10) & 0x1f, 5);
		}
	}
}

static void draw_row(struct vga_screen *s, unsigned row, const u8 *from)
{
	const struct vga_look *l = &s->look;
	u32 *to = s->pixels + (size_t)row * l->width;

	switch ((enum vga_kind)l->kind) {
	case VGA_BLANK: break;
	case VGA_TEXT: draw_text(s, row, from); break;
	case VGA_PLANAR: draw_planar(l, to, from); break;
	case VGA_PAIRS: draw_pairs(l, to, from); break;
	case VGA_PALETTE:
		for (u32 x = 0; x < l->width; x++)
			to[x] = l->colours[from[x]];
		break;
	case VGA_DIRECT_15:
	case VGA_DIRECT_16:
	case VGA_DIRECT_24:
	case VGA_DIRECT_32: draw_direct(l, to, from); break;
	}
}

/* ---- what has changed ---- */

/* true: a font is another one now. */
static bool take_fonts(struct vga_screen *s)
{
	bool differs = false;

	for (unsigned f = 0; f < 2; f++)
		for (u32 i = 0; i < VGA_FONT; i++) {
			u8 byte = s->vram[((s->look.fonts[f] + i) * 4 + 2) & s->look.mask];

			differs |= byte != s->fonts[f][i];
			s->fonts[f][i] = byte;
		}
	return differs;
}

/* Are they the same but for the cursor? */
static bool only_cursor(const struct vga_look *a, const struct vga_look *b)
{
	struct vga_look c = *a;

	c.cursor_row = b->cursor_row;
	c.cursor_column = b->cursor_column;
	c.cursor_first = b->cursor_first;
	c.cursor_last = b->cursor_last;
	return !memcmp(&c, b, sizeof(c));
}

static void draw_blank(struct vga_screen *s, void (*changed)(void *, unsigned, unsigned), void *ctx)
{
	memset(s->pixels, 0, (size_t)s->look.width * s->look.height * 4);
	changed(ctx, 0, s->look.height);
}

bool vga_draw(struct vga_screen *s, const struct vga_look *look,
	void (*changed)(void *ctx, unsigned first, unsigned count), void *ctx,
	struct vga_picture *picture)
{
	bool same = s->drawn && !memcmp(&s->look, look, sizeof(*look));
	bool all = !same && !(s->drawn && only_cursor(&s->look, look));
	bool resized = !s->drawn || s->look.width != look->width || s->look.height != look->height;
	u32 old_cursor = s->look.cursor_row;

	s->look = *look;
	s->drawn = true;
	*picture = (struct vga_picture){ s->pixels, look->width, look->height };
	if (look->kind == VGA_BLANK && all)
		draw_blank(s, changed, ctx);
	if (look->kind == VGA_TEXT && take_fonts(s))
		all = true;
	u32 tall = look->kind == VGA_TEXT ? look->cell_height : 1;
	for (u32 row = 0; row < look->rows; row++) {
		u8 *copy = s->copy + (size_t)row * look->row_bytes;
		const u8 *from = source(s, row);
		bool cursor = !same && (row == old_cursor || row == look->cursor_row);

		if (!all && !cursor && !memcmp(copy, from, look->row_bytes))
			continue;
		memcpy(copy, from, look->row_bytes);
		draw_row(s, row, copy);
		changed(ctx, row * tall, tall);
	}
	return resized;
}
