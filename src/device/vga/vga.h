/*
 * A VGA, and what is to be seen on its screen.
 *
 * Drawing is in two steps, so that a machine's lock is held for the first only: vga_look() says
 * what the registers make of video memory, vga_draw() draws what has changed since it was last
 * called. The second reads video memory while the guest writes it; a row that was half written is
 * drawn again the next time.
 */
#pragma once
#include "device/device.h"

#define VGA_WIDTH_MAX  2560u
#define VGA_HEIGHT_MAX 1600u
#define VGA_VRAM_MIN   (256 * KiB)
#define VGA_VRAM       (16 * MiB)

extern const struct device_class vga_class;

enum vga_kind {
	VGA_BLANK,
	VGA_TEXT,
	VGA_PLANAR,    /* a bit in each of four planes */
	VGA_PAIRS,     /* two bits in planes 0 and 1, in turns */
	VGA_PALETTE,   /* a byte a pixel */
	VGA_DIRECT_15, /* little-endian, blue lowest */
	VGA_DIRECT_16,
	VGA_DIRECT_24,
	VGA_DIRECT_32,
};

#define VGA_FONT 0x2000u /* 256 characters of 32 rows */

/* Without padding, as two of them are compared byte by byte. */
struct vga_look {
	u32 kind;
	u32 width, height;
	/* Rows of memory: pixels, or characters */
	u32 rows, row_bytes, pitch, start;
	u32 mask;   /* memory wraps there; all ones: it does not */
	u32 banked; /* an odd row lies that much behind the even one before it; 0: it does not */
	u32 cell_width, cell_height; /* of a character, with what is between them */
	u32 cursor_row, cursor_column, cursor_first, cursor_last; /* first > last: none */
	u32 graphics_nine; /* line graphics go on into a cell's ninth column */
	u32 fonts[2];	   /* offsets in plane 2: of attribute bit 3 clear and set */
	u32 blink;	   /* attribute bit 7 is not a colour */
	u32 colours[256];
};

void vga_look(struct device *d, struct vga_look *to);

struct vga_screen;

/* The pixels, 0x00bbggrr, width of them a row; changed by the next vga_draw(). */
struct vga_picture {
	const u32 *pixels;
	unsigned width, height;
};

/* NULL: no memory. vram as the device has it. */
struct vga_screen *vga_screen_new(const u8 *vram, u64 size);
void vga_screen_free(struct vga_screen *s);
/* Tells which rows of pixels have changed; true: the picture has another size. */
bool vga_draw(struct vga_screen *s, const struct vga_look *look,
	void (*changed)(void *ctx, unsigned first, unsigned count), void *ctx,
	struct vga_picture *picture);
