/*
 * The VGA's ports, as offsets from 0x3b0 (IBM PS/2 Hardware Interface Technical Reference, "Video
 * Subsystem"). Those of the CRT controller are at 0x3b4 or 0x3d4, as the miscellaneous output
 * register says; the other place is nothing.
 *
 * Nobody scans a screen here, so the retraces that programs wait for are made from the guest's
 * time: 60 frames a second, of 525 lines.
 */
#include "device/vga/vga_priv.h"

enum port {
	MONO_CRTC = 0x04,
	MONO_STATUS = 0x0a,
	ATTR = 0x10,
	ATTR_READ = 0x11,
	MISC_OUTPUT = 0x12, /* read: input status 0 */
	SEQ_INDEX = 0x14,
	SEQ_DATA = 0x15,
	DAC_MASK = 0x16,
	DAC_READ = 0x17, /* read: state */
	DAC_WRITE = 0x18,
	DAC_DATA = 0x19,
	MISC_READ = 0x1c,
	GFX_INDEX = 0x1e,
	GFX_DATA = 0x1f,
	COLOUR_CRTC = 0x24,
	COLOUR_STATUS = 0x2a,
};

#define MISC_COLOUR BIT(0)

#define STATUS_HIDDEN  BIT(0) /* in a horizontal or vertical retrace */
#define STATUS_RETRACE BIT(3)
#define FRAME_NS       16666667u
#define LINES	       525u
#define LINES_SHOWN    480u

/* Bits that registers have */
static const u8 seq_bits[8] = { 0x03, 0x3d, 0x0f, 0x3f, 0x0e };
static const u8 gfx_bits[16] = { 0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff };

static u8 input_status(struct vga *v)
{
	u64 ns = v->dev.env.clock ? clock_now(v->dev.env.clock) % FRAME_NS : 0;
	u64 at = ns * LINES; /* of the frame, in lines times FRAME_NS */
	u8 status = 0;

	v->attr_data = false;
	if (at / FRAME_NS >= LINES_SHOWN)
		status = STATUS_RETRACE | STATUS_HIDDEN;
	else if (at % FRAME_NS >= FRAME_NS / 5 * 4)
		status = STATUS_HIDDEN;
	return status;
}

/* ---- colours: six bits, or eight by the extension ---- */

/* Three bytes a colour; after them comes the next one. */
static u8 *dac_next(struct vga *v, u8 *index)
{
	u8 *at = &v->dac[*index * 3u + v->dac_part];

	if (++v->dac_part == 3) {
		v->dac_part = 0;
		(*index)++;
	}
	return at;
}

static void write_dac(struct vga *v, u8 value)
{
	u8 bits = v->dispi[DISPI_ENABLE] & DISPI_8BIT_DAC ? 0xff : 0x3f;

	*dac_next(v, &v->dac_write) = value & bits;
}

/* ---- reads ---- */

static bool is_crtc(const struct vga *v, unsigned port)
{
	unsigned base = v->misc & MISC_COLOUR ? COLOUR_CRTC : MONO_CRTC;

	return port == base || port == base + 1;
}

static bool is_status(const struct vga *v, unsigned port)
{
	return port == (v->misc & MISC_COLOUR ? COLOUR_STATUS : MONO_STATUS);
}

u8 vga_port_read(struct vga *v, unsigned port)
{
	if (is_crtc(v, port))
		return port & 1 ? v->crtc[v->crtc_index] : v->crtc_index;
	if (is_status(v, port))
		return input_status(v);
	switch (port) {
	case ATTR: return v->attr_index;
	case ATTR_READ: return v->attr[v->attr_index & 0x1f];
	case MISC_OUTPUT: return 0;
	case SEQ_INDEX: return v->seq_index;
	case SEQ_DATA: return v->seq[v->seq_index];
	case DAC_MASK: return v->dac_mask;
	case DAC_READ: return v->dac_reading ? 3 : 0;
	case DAC_WRITE: return v->dac_write;
	case DAC_DATA: return *dac_next(v, &v->dac_read);
	case MISC_READ: return v->misc;
	case GFX_INDEX: return v->gfx_index;
	case GFX_DATA: return v->gfx[v->gfx_index];
	default: return 0xff;
	}
}

/* ---- writes ---- */

static void write_attr(struct vga *v, u8 value)
{
	unsigned index = v->attr_index & 0x1f;

	if (!v->attr_data)
		v->attr_index = value & 0x3f;
	else
		v->attr[index] = value;
	v->attr_data = !v->attr_data;
}

/* A line compare bit stays writable in a protected register. */
static void write_crtc(struct vga *v, u8 value)
{
	u8 *reg = &v->crtc[v->crtc_index], writable = 0xff;

	if (v->crtc_index <= CRTC_OVERFLOW && v->crtc[CRTC_RETRACE_END] & CRTC_PROTECT)
		writable = v->crtc_index == CRTC_OVERFLOW ? BIT(4) : 0;
	*reg = (u8)((*reg & ~writable) | (value & writable));
}

void vga_port_write(struct vga *v, unsigned port, u8 value)
{
	if (is_crtc(v, port)) {
		if (port & 1)
			write_crtc(v, value);
		else
			v->crtc_index = value & 0x1f;
		return;
	}
	switch (port) {
	case ATTR: write_attr(v, value); break;
	case MISC_OUTPUT: v->misc = value; break;
	case SEQ_INDEX: v->seq_index = value & 7; break;
	case SEQ_DATA: v->seq[v->seq_index] = value & seq_bits[v->seq_index]; break;
	case DAC_MASK: v->dac_mask = value; break;
	case DAC_READ:
		v->dac_read = value;
		v->dac_part = 0;
		v->dac_reading = true;
		break;
	case DAC_WRITE:
		v->dac_write = value;
		v->dac_part = 0;
		v->dac_reading = false;
		break;
	case DAC_DATA: write_dac(v, value); break;
	case GFX_INDEX: v->gfx_index = value & 0x0f; break;
	case GFX_DATA: v->gfx[v->gfx_index] = value & gfx_bits[v->gfx_index]; break;
	default: break;
	}
}

void vga_ports_reset(struct vga *v)
{
	v->misc = MISC_COLOUR;
	v->seq_index = v->gfx_index = v->crtc_index = v->attr_index = 0;
	memset(v->seq, 0, sizeof(v->seq));
	memset(v->gfx, 0, sizeof(v->gfx));
	memset(v->crtc, 0, sizeof(v->crtc));
	memset(v->attr, 0, sizeof(v->attr));
	memset(v->dac, 0, sizeof(v->dac));
	memset(v->latch, 0, sizeof(v->latch));
	v->attr_data = v->dac_reading = false;
	v->dac_mask = 0xff;
	v->dac_read = v->dac_write = v->dac_part = 0;
}
