/* A VGA: its ports, how bytes get into planes, the extensions, and what is drawn of it all. */
#include "device/vga/vga.h"
#include "rig.h"

#define RED   0x0000ffu
#define GREEN 0x00ff00u
#define BLUE  0xff0000u
#define WHITE 0xffffffu

struct eye {
	struct vga_screen *screen;
	struct vga_picture picture;
	unsigned rows; /* changed */
	bool resized;
};

static void changed(void *ctx, unsigned first, unsigned count)
{
	((struct eye *)ctx)->rows += count;
}

static void eye_open(struct eye *e, struct rig *r)
{
	*e = (struct eye){ .screen = vga_screen_new(r->video, RIG_VIDEO) };
	assert_non_null(e->screen);
}

static void see(struct eye *e, struct rig *r)
{
	struct vga_look look;

	e->rows = 0;
	vga_look(r->dev, &look);
	e->resized = vga_draw(e->screen, &look, changed, e, &e->picture);
}

static u32 pixel(const struct eye *e, unsigned x, unsigned y)
{
	return e->picture.pixels[y * e->picture.width + x];
}

static void indexed(struct rig *r, u16 port, u8 index, u8 value)
{
	out16(r, port, (u16)(value << 8 | index));
}

static void attr(struct rig *r, u8 index, u8 value)
{
	in8(r, 0x3da);
	out8(r, 0x3c0, index);
	out8(r, 0x3c0, value);
}

static void colour(struct rig *r, u8 index, u8 red, u8 green, u8 blue)
{
	out8(r, 0x3c8, index);
	out8(r, 0x3c9, red);
	out8(r, 0x3c9, green);
	out8(r, 0x3c9, blue);
}

static void dispi(struct rig *r, u16 reg, u16 value)
{
	out16(r, 0x1ce, reg);
	out16(r, 0x1cf, value);
}

static void vbe(struct rig *r, u16 width, u16 height, u16 bpp)
{
	dispi(r, 4, 0);
	dispi(r, 1, width);
	dispi(r, 2, height);
	dispi(r, 3, bpp);
	dispi(r, 4, 0x41);
}

/* Sixteen colours that mean what their bits say, and the screen on. */
static void palette(struct rig *r)
{
	for (u8 i = 0; i < 16; i++) {
		attr(r, i, i);
		colour(r, i, i & 4 ? 63 : 0, i & 2 ? 63 : 0, i & 1 ? 63 : 0);
	}
	attr(r, 0x12, 0x0f);
	in8(r, 0x3da);
	out8(r, 0x3c0, 0x20);
}

static void write8(struct rig *r, u64 at, u8 v) { bus_write(&r->bus, BUS_MMIO, at, 1, v); }
static u8 read8(struct rig *r, u64 at) { return (u8)bus_read(&r->bus, BUS_MMIO, at, 1); }

/* 80 by 25, as a BIOS sets it, of 8 by 16 */
static void text_mode(struct rig *r)
{
	palette(r);
	indexed(r, 0x3c4, 1, 0x01);
	indexed(r, 0x3c4, 4, 0x02);
	indexed(r, 0x3c4, 2, 0x03);
	indexed(r, 0x3ce, 5, 0x10);
	indexed(r, 0x3ce, 6, 0x0e);
	indexed(r, 0x3d4, 0x01, 79);
	indexed(r, 0x3d4, 0x07, 0x02);
	indexed(r, 0x3d4, 0x09, 15);
	indexed(r, 0x3d4, 0x12, 0x8f);
	indexed(r, 0x3d4, 0x13, 40);
	indexed(r, 0x3d4, 0x17, 0xa3);
	indexed(r, 0x3d4, 0x0a, 0x20); /* no cursor */
}

/* One glyph, as programs load fonts: plane 2 as bytes in a row */
static void load_glyph(struct rig *r, u8 code, u8 line, u8 bits)
{
	indexed(r, 0x3c4, 2, 0x04);
	indexed(r, 0x3c4, 4, 0x06);
	indexed(r, 0x3ce, 4, 2);
	indexed(r, 0x3ce, 5, 0x00);
	indexed(r, 0x3ce, 6, 0x04);
	indexed(r, 0x3ce, 8, 0xff);
	write8(r, 0xa0000 + code * 32u + line, bits);
	assert_int_equal(read8(r, 0xa0000 + code * 32u + line), bits);
	indexed(r, 0x3c4, 2, 0x03);
	indexed(r, 0x3c4, 4, 0x02);
	indexed(r, 0x3ce, 5, 0x10);
	indexed(r, 0x3ce, 6, 0x0e);
}

static void text_is_drawn_with_the_font_in_plane_2(void **state)
{
	static struct rig r;
	struct eye e;

	rig_open(&r, &vga_class);
	eye_open(&e, &r);
	see(&e, &r);
	assert_int_equal(pixel(&e, 0, 0), 0); /* off */
	text_mode(&r);
	load_glyph(&r, 'A', 3, 0x81);
	write8(&r, 0xb8000 + 2 * (80 + 2), 'A');
	write8(&r, 0xb8000 + 2 * (80 + 2) + 1, 0x1c); /* on blue, bright red */
	see(&e, &r);
	assert_int_equal(e.picture.width, 640);
	assert_int_equal(e.picture.height, 400);
	assert_int_equal(pixel(&e, 16, 19), RED);
	assert_int_equal(pixel(&e, 17, 19), BLUE);
	assert_int_equal(pixel(&e, 23, 19), RED);
	assert_int_equal(pixel(&e, 16, 20), BLUE);
	assert_int_equal(pixel(&e, 15, 19), 0);
	/* Nothing new is not drawn; one row of text is. */
	see(&e, &r);
	assert_int_equal(e.rows, 0);
	write8(&r, 0xb8000 + 160 * 24, 'A');
	see(&e, &r);
	assert_int_equal(e.rows, 16);
	/* The cursor's row, and the one that it has left */
	indexed(&r, 0x3d4, 0x0a, 14);
	indexed(&r, 0x3d4, 0x0b, 15);
	indexed(&r, 0x3d4, 0x0f, 81);
	see(&e, &r);
	indexed(&r, 0x3d4, 0x0f, 2 * 80 + 1);
	see(&e, &r);
	assert_int_equal(e.rows, 32);
	/* Nine dots a character */
	indexed(&r, 0x3c4, 1, 0x00);
	see(&e, &r);
	assert_true(e.resized);
	assert_int_equal(e.picture.width, 720);
	vga_screen_free(e.screen);
	rig_close(&r);
}

/* Mode 0x12: bits of four planes */
static void planar_mode(struct rig *r)
{
	text_mode(r);
	indexed(r, 0x3c4, 2, 0x0f);
	indexed(r, 0x3c4, 4, 0x06);
	indexed(r, 0x3ce, 5, 0x00);
	indexed(r, 0x3ce, 6, 0x05);
	indexed(r, 0x3ce, 8, 0xff);
	indexed(r, 0x3d4, 0x07, 0x02);
	indexed(r, 0x3d4, 0x09, 0x40);
	indexed(r, 0x3d4, 0x12, 0xdf);
	indexed(r, 0x3d4, 0x17, 0xe3);
}

static void planes_are_written_by_the_write_modes(void **state)
{
	static struct rig r;
	struct eye e;

	rig_open(&r, &vga_class);
	eye_open(&e, &r);
	planar_mode(&r);
	/* Mode 0, one plane; then set/reset under a bit mask, with what the latches keep */
	indexed(&r, 0x3c4, 2, 0x04);
	write8(&r, 0xa0000, 0x80);
	indexed(&r, 0x3c4, 2, 0x0f);
	indexed(&r, 0x3ce, 0, 0x02);
	indexed(&r, 0x3ce, 1, 0x0f);
	indexed(&r, 0x3ce, 8, 0x40);
	read8(&r, 0xa0000);
	write8(&r, 0xa0000, 0x00);
	/* Mode 2: the value is a colour */
	indexed(&r, 0x3ce, 1, 0x00);
	indexed(&r, 0x3ce, 5, 0x02);
	indexed(&r, 0x3ce, 8, 0x20);
	read8(&r, 0xa0000);
	write8(&r, 0xa0000, 0x01);
	/* Mode 1: a copy of all planes */
	indexed(&r, 0x3ce, 5, 0x01);
	read8(&r, 0xa0000);
	write8(&r, 0xa0000 + 80, 0);
	/* Mode 3: the value is a mask for set/reset; exclusive or with what is there */
	indexed(&r, 0x3ce, 5, 0x03);
	indexed(&r, 0x3ce, 0, 0x07);
	indexed(&r, 0x3ce, 3, 0x18);
	indexed(&r, 0x3ce, 8, 0xff);
	read8(&r, 0xa0000 + 80);
	write8(&r, 0xa0000 + 80, 0x90);
	see(&e, &r);
	assert_int_equal(e.picture.width, 640);
	assert_int_equal(e.picture.height, 480);
	assert_int_equal(pixel(&e, 0, 0), RED);
	assert_int_equal(pixel(&e, 1, 0), GREEN);
	assert_int_equal(pixel(&e, 2, 0), BLUE);
	assert_int_equal(pixel(&e, 3, 0), 0);
	assert_int_equal(pixel(&e, 0, 1), GREEN | BLUE);
	assert_int_equal(pixel(&e, 1, 1), GREEN);
	assert_int_equal(pixel(&e, 3, 1), WHITE);
	/* Read mode 1: which pixels have the colour */
	indexed(&r, 0x3ce, 5, 0x08);
	indexed(&r, 0x3ce, 2, 0x02);
	indexed(&r, 0x3ce, 7, 0x0f);
	assert_int_equal(read8(&r, 0xa0000), 0x40);
	vga_screen_free(e.screen);
	rig_close(&r);
}

/* Mode 0x13 */
static void a_byte_a_pixel(void **state)
{
	static struct rig r;
	struct eye e;

	rig_open(&r, &vga_class);
	eye_open(&e, &r);
	planar_mode(&r);
	indexed(&r, 0x3c4, 4, 0x0e);
	indexed(&r, 0x3ce, 5, 0x40);
	indexed(&r, 0x3d4, 0x09, 0x41);
	indexed(&r, 0x3d4, 0x12, 0x8f);
	colour(&r, 200, 63, 63, 63);
	write8(&r, 0xa0000 + 320 * 199 + 319, 200);
	see(&e, &r);
	assert_int_equal(e.picture.width, 320);
	assert_int_equal(e.picture.height, 200);
	assert_int_equal(pixel(&e, 319, 199), WHITE);
	assert_int_equal(pixel(&e, 318, 199), 0);
	vga_screen_free(e.screen);
	rig_close(&r);
}

static void the_extensions_have_every_depth(void **state)
{
	static const struct {
		u16 bpp;
		u32 red, green;
	} depths[] = { { 15, 0x7c00, 0x03e0 }, { 16, 0xf800, 0x07e0 }, { 24, 0xff0000, 0x00ff00 },
		{ 32, 0xff0000, 0x00ff00 } };
	static struct rig r;
	struct eye e;

	rig_open(&r, &vga_class);
	eye_open(&e, &r);
	for (unsigned i = 0; i < ARRAY_LEN(depths); i++) {
		unsigned bytes = (depths[i].bpp + 7u) / 8;

		memset(r.video, 0x55, RIG_VIDEO);
		vbe(&r, 64, 48, depths[i].bpp);
		see(&e, &r);
		assert_int_equal(pixel(&e, 5, 5), 0); /* cleared */
		memcpy(r.video, &depths[i].red, bytes);
		memcpy(r.video + (64 * 47 + 63) * bytes, &depths[i].green, bytes);
		see(&e, &r);
		assert_int_equal(e.rows, 2);
		assert_int_equal(e.picture.width, 64);
		assert_int_equal(pixel(&e, 0, 0), RED);
		assert_int_equal(pixel(&e, 63, 47), GREEN);
		assert_int_equal(pixel(&e, 1, 0), 0);
	}
	vga_screen_free(e.screen);
	rig_close(&r);
}

static void eight_bits_go_by_the_palette(void **state)
{
	static struct rig r;
	struct eye e;

	rig_open(&r, &vga_class);
	eye_open(&e, &r);
	vbe(&r, 64, 48, 8);
	colour(&r, 7, 63, 0, 0);
	r.video[3] = 7;
	see(&e, &r);
	assert_int_equal(pixel(&e, 3, 0), RED);
	dispi(&r, 4, 0xe1); /* eight bits of colour */
	colour(&r, 7, 1, 2, 0xff);
	see(&e, &r);
	assert_int_equal(pixel(&e, 3, 0), 0xff0201);
	assert_int_equal(e.rows, 48);
	vga_screen_free(e.screen);
	rig_close(&r);
}

static void the_extensions_tell_what_they_have(void **state)
{
	static struct rig r;

	rig_open(&r, &vga_class);
	out16(&r, 0x1ce, 0);
	assert_int_equal(in16(&r, 0x1cf), 0xb0c5);
	dispi(&r, 0, 0xb0c0);
	assert_int_equal(in16(&r, 0x1d0), 0xb0c0);
	out16(&r, 0x1ce, 10);
	assert_int_equal(in16(&r, 0x1cf), RIG_VIDEO / 65536);
	dispi(&r, 4, 2);
	out16(&r, 0x1ce, 1);
	assert_int_equal(in16(&r, 0x1cf), VGA_WIDTH_MAX);
	/* What there is no memory for is made to fit. */
	vbe(&r, 1024, 768, 32);
	out16(&r, 0x1ce, 2);
	assert_int_equal(in16(&r, 0x1cf), RIG_VIDEO / (1024 * 4));
	vbe(&r, 128, 96, 8);
	dispi(&r, 6, 256);
	dispi(&r, 8, 1000);
	out16(&r, 0x1ce, 8);
	assert_int_equal(in16(&r, 0x1cf), 128);
	out16(&r, 0x1ce, 7);
	assert_int_equal(in16(&r, 0x1cf), RIG_VIDEO / 256);
	rig_close(&r);
}

static void a_scrolled_picture_begins_elsewhere(void **state)
{
	static struct rig r;
	struct eye e;

	rig_open(&r, &vga_class);
	eye_open(&e, &r);
	vbe(&r, 64, 48, 32);
	dispi(&r, 6, 128);
	dispi(&r, 8, 8);
	dispi(&r, 9, 2);
	memcpy(r.video + 2 * 512 + 8 * 4, "\x00\xff\x00\x00", 4);
	see(&e, &r);
	assert_int_equal(pixel(&e, 0, 0), GREEN);
	vga_screen_free(e.screen);
	rig_close(&r);
}

/* The window of 64 KiB, bank by bank */
static void banks_are_seen_at_a0000(void **state)
{
	static struct rig r;

	rig_open(&r, &vga_class);
	vbe(&r, 256, 256, 32);
	dispi(&r, 5, 3);
	write8(&r, 0xa0005, 0x77);
	assert_int_equal(r.video[3 * 65536 + 5], 0x77);
	assert_int_equal(read8(&r, 0xa0005), 0x77);
	assert_int_equal(read8(&r, 0xb8000), 0xff);
	rig_close(&r);
}

static void bars_show_video_memory_and_registers(void **state)
{
	static struct rig r;

	rig_open(&r, &vga_class);
	assert_int_equal(r.video_at, 0);
	pci_config_write(&r.pci, 0, PCI_BAR0, 4, 0xffffffff);
	assert_int_equal(pci_config_read(&r.pci, 0, PCI_BAR0, 4), (u32)-RIG_VIDEO);
	pci_config_write(&r.pci, 0, PCI_BAR0, 4, 0xe0000000);
	pci_config_write(&r.pci, 0, PCI_BAR0 + 8, 4, 0xf0000000);
	pci_config_write(&r.pci, 0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(r.video_at, 0xe0000000);
	bus_write(&r.bus, BUS_MMIO, 0xe0000100, 4, 0x12345678);
	assert_int_equal(get_le32(r.video + 0x100), 0x12345678);
	assert_int_equal(bus_read(&r.bus, BUS_MMIO, 0xe0000102, 2), 0x1234);
	bus_write(&r.bus, BUS_MMIO, 0xf0000502, 2, 800);
	out16(&r, 0x1ce, 1);
	assert_int_equal(in16(&r, 0x1cf), 800);
	bus_write(&r.bus, BUS_MMIO, 0xf0000404, 2, 0x0302); /* the map mask, by index */
	out8(&r, 0x3c4, 2);
	assert_int_equal(in8(&r, 0x3c5), 0x01 | 0x02);
	pci_config_write(&r.pci, 0, PCI_COMMAND, 2, 0);
	assert_int_equal(r.video_at, 0);
	rig_close(&r);
}

static void retraces_come_and_go(void **state)
{
	static struct rig r;
	unsigned retraces = 0;
	u8 before = 0;

	rig_open(&r, &vga_class);
	for (unsigned i = 0; i < 1000; i++) {
		u8 now = in8(&r, 0x3da) & 8;

		retraces += now && !before;
		before = now;
		clock_advance(&r.clock, 100000);
	}
	assert_int_equal(retraces, 6); /* in a tenth of a second */
	rig_close(&r);
}

static void registers_keep_what_they_have_bits_for(void **state)
{
	static struct rig r;

	rig_open(&r, &vga_class);
	indexed(&r, 0x3ce, 5, 0xff);
	assert_int_equal(in8(&r, 0x3cf), 0x7b);
	indexed(&r, 0x3d4, 0x11, 0x80);
	indexed(&r, 0x3d4, 0x01, 0x33);
	assert_int_equal(in8(&r, 0x3d5), 0);
	indexed(&r, 0x3d4, 0x07, 0xff);
	assert_int_equal(in8(&r, 0x3d5), 0x10);
	assert_int_equal(in8(&r, 0x3b5), 0xff); /* colour */
	out8(&r, 0x3c2, 0);
	assert_int_equal(in8(&r, 0x3d5), 0xff);
	assert_int_equal(in8(&r, 0x3cc), 0);
	attr(&r, 0x10, 0x08);
	out8(&r, 0x3c0, 0x10);
	assert_int_equal(in8(&r, 0x3c1), 0x08);
	in8(&r, 0x3ba);
	out8(&r, 0x3c0, 0x30);
	assert_int_equal(in8(&r, 0x3c0), 0x30);
	out8(&r, 0x3c7, 1);
	assert_int_equal(in8(&r, 0x3c7), 3);
	rig_close(&r);
}

static void script(struct rig *r)
{
	out8(r, 0x3c0, 0x11);
	write8(r, 0xa0000, 0x5a);
	out8(r, 0x3c9, 9);
	dispi(r, 1, 640);
}

static void state_survives_migration(void **state)
{
	static struct rig r;

	rig_open(&r, &vga_class);
	planar_mode(&r);
	read8(&r, 0xa0000);
	out8(&r, 0x3c8, 17);
	out8(&r, 0x3c9, 1);
	dispi(&r, 2, 200);
	rig_check_migration(&r, script);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_is_drawn_with_the_font_in_plane_2),
		cmocka_unit_test(planes_are_written_by_the_write_modes),
		cmocka_unit_test(a_byte_a_pixel),
		cmocka_unit_test(the_extensions_have_every_depth),
		cmocka_unit_test(eight_bits_go_by_the_palette),
		cmocka_unit_test(the_extensions_tell_what_they_have),
		cmocka_unit_test(a_scrolled_picture_begins_elsewhere),
		cmocka_unit_test(banks_are_seen_at_a0000),
		cmocka_unit_test(bars_show_video_memory_and_registers),
		cmocka_unit_test(retraces_come_and_go),
		cmocka_unit_test(registers_keep_what_they_have_bits_for),
		cmocka_unit_test(state_survives_migration),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
