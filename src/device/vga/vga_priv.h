/* What the files of the VGA share: its registers. Names of fields are the index registers' groups;
 * what an index means is in IBM's VGA manual (PS/2 Hardware Interface Technical Reference, "Video
 * Subsystem", 1992). */
#pragma once
#include "base/bits.h"
#include "bus/pci.h"
#include "device/vga/vga.h"

enum vga_sequencer { SEQ_CLOCKING = 1, SEQ_MAP_MASK, SEQ_CHARACTER_MAPS, SEQ_MEMORY_MODE };
enum vga_graphics {
	GFX_SET_RESET = 0,
	GFX_ENABLE_SET_RESET,
	GFX_COMPARE,
	GFX_ROTATE,
	GFX_READ_MAP,
	GFX_MODE,
	GFX_MISC,
	GFX_IGNORE,
	GFX_BIT_MASK,
};
enum vga_crtc {
	CRTC_WIDTH = 0x01,
	CRTC_OVERFLOW = 0x07,
	CRTC_MAX_SCAN_LINE = 0x09,
	CRTC_CURSOR_START = 0x0a,
	CRTC_CURSOR_END = 0x0b,
	CRTC_START_HIGH = 0x0c,
	CRTC_START_LOW = 0x0d,
	CRTC_CURSOR_HIGH = 0x0e,
	CRTC_CURSOR_LOW = 0x0f,
	CRTC_RETRACE_END = 0x11,
	CRTC_HEIGHT = 0x12,
	CRTC_OFFSET = 0x13,
	CRTC_MODE = 0x17,
};
enum vga_attribute { ATTR_MODE = 0x10, ATTR_PLANES = 0x12, ATTR_COLOUR_SELECT = 0x14 };

#define SEQ_EIGHT_DOTS	 BIT(0)
#define SEQ_SCREEN_OFF	 BIT(5)
#define SEQ_CHAIN_4	 BIT(3)
#define GFX_ODD_EVEN	 BIT(4)
#define GFX_READ_COMPARE BIT(3)
#define GFX_GRAPHICS	 BIT(0)
#define CRTC_PROTECT	 BIT(7) /* of RETRACE_END: registers 0 to 7 */
#define CRTC_DOUBLE_SCAN BIT(7)
#define CRTC_NOT_CGA	 BIT(0) /* of MODE: row scan bit 0 does not replace an address bit */
#define ATTR_LINE_NINE	 BIT(2)
#define ATTR_BLINK	 BIT(3)
#define ATTR_P54_SELECT	 BIT(7)
#define ATTR_SCREEN_ON	 BIT(5) /* of the index */

/* Bochs VBE extensions, "dispi": numbers of their registers, and bits of ENABLE */
enum vga_dispi {
	DISPI_ID,
	DISPI_XRES,
	DISPI_YRES,
	DISPI_BPP,
	DISPI_ENABLE,
	DISPI_BANK,
	DISPI_VIRT_WIDTH,
	DISPI_VIRT_HEIGHT,
	DISPI_X_OFFSET,
	DISPI_Y_OFFSET,
	DISPI_MEMORY, /* in units of 64 KiB */
	DISPI_REGS
};
#define DISPI_ON	BIT(0)
#define DISPI_GET_CAPS	BIT(1)
#define DISPI_8BIT_DAC	BIT(5)
#define DISPI_LINEAR	BIT(6)
#define DISPI_NO_CLEAR	BIT(7)
#define DISPI_VERSION_0 0xb0c0u
#define DISPI_VERSION	0xb0c5u

struct vga {
	struct device dev;
	struct pci_function fn;
	u8 *vram;
	u32 vram_size;
	u64 shown; /* where the machine shows video memory; 0: nowhere */
	u8 misc;
	u8 seq_index, gfx_index, crtc_index, attr_index;
	u8 seq[8], gfx[16], crtc[32], attr[32];
	bool attr_data; /* the next write to 0x3c0 is data */
	u8 dac_mask, dac_read, dac_write, dac_part;
	bool dac_reading;
	u8 dac[256 * 3];
	u8 latch[4];
	u16 dispi_index;
	u16 dispi[DISPI_REGS];
};

static inline struct vga *vga_of(struct device *d) { return container_of(d, struct vga, dev); }

static inline bool vga_is_vbe(const struct vga *v) { return v->dispi[DISPI_ENABLE] & DISPI_ON; }
static inline u32 vga_pitch(const struct vga *v)
{
	u32 bits = v->dispi[DISPI_BPP] == 15 ? 16 : v->dispi[DISPI_BPP];

	return v->dispi[DISPI_VIRT_WIDTH] * bits / 8;
}

/* vga_memory.c: the window at 0xa0000 */
u64 vga_window_read(struct vga *v, u64 offset, unsigned size);
void vga_window_write(struct vga *v, u64 offset, unsigned size, u64 value);

/* vga_ports.c: 0x3b0 to 0x3df, by offset */
u8 vga_port_read(struct vga *v, unsigned port);
void vga_port_write(struct vga *v, unsigned port, u8 value);
void vga_ports_reset(struct vga *v);

/* vga_dispi.c */
u16 vga_dispi_read(const struct vga *v, unsigned reg);
void vga_dispi_write(struct vga *v, unsigned reg, u16 value);
void vga_dispi_reset(struct vga *v);
void vga_dispi_loaded(struct vga *v); /* registers may hold anything */
