/*
 * The x87 environment as FNSTENV/FNSAVE write and FLDENV/FRSTOR read it (SDM 1 8.1.10, figures 8-9
 * to 8-12): four layouts, by operand size and by whether addresses are 8086-style. Code and data
 * selectors read as 0: the state does not keep them, and CPUID says so.
 */
#include "base/bits.h"
#include "x86/mode.h"
#include "x86/xsave.h"

enum tag { TAG_VALID, TAG_ZERO, TAG_SPECIAL, TAG_EMPTY };

static enum tag tag_of(const u8 st[16])
{
	u64 significand = get_le64(st);
	unsigned exponent = get_le16(st + 8) & 0x7fff;

	if (!exponent && !significand)
		return TAG_ZERO;
	if (!exponent || exponent == 0x7fff || !(significand >> 63))
		return TAG_SPECIAL;
	return TAG_VALID;
}

/* Two bits per physical register, computed from what the registers hold, as the hardware does. */
static u16 full_tags(const struct x86_fpu *f)
{
	unsigned top = (f->fsw >> 11) & 7, tags = 0;

	for (unsigned i = 0; i < 8; i++) {
		enum tag tag = f->ftw & BIT(i) ? tag_of(f->st[(i - top) & 7]) : TAG_EMPTY;

		tags |= (unsigned)tag << 2 * i;
	}
	return (u16)tags;
}

static u8 abridged_tags(u16 full)
{
	u8 tags = 0;

	for (unsigned i = 0; i < 8; i++)
		if (((full >> 2 * i) & 3) != TAG_EMPTY)
			tags |= (u8)BIT(i);
	return tags;
}

void x86_fpu_summarize(struct x86_fpu *f)
{
	bool pending = f->fsw & ~f->fcw & 0x3f;

	f->fsw = (u16)((f->fsw & 0x7f7f) | (pending ? 0x8080 : 0));
}

void x86_fpu_set_fsw(struct x86_fpu *f, u16 fsw)
{
	unsigned moved = ((fsw >> 11) - (f->fsw >> 11)) & 7;
	u8 old[8][16];

	memcpy(old, f->st, sizeof(old));
	for (unsigned i = 0; i < 8; i++)
		memcpy(f->st[i], old[(i + moved) & 7], 16);
	f->fsw = fsw;
}

#define HIGH 0xffff0000u /* reserved halves of 32-bit images read as ones */

unsigned x86_fenv_store(const struct x86_state *s, unsigned size, u8 image[28])
{
	const struct x86_fpu *f = &s->fpu;
	bool real = x86_real_segments(s);
	u32 fip = (u32)f->fip, fdp = (u32)f->fdp, fop = f->fop & 0x7ffu;
	u32 word[7] = { f->fcw, f->fsw, full_tags(f) };

	if (real) { /* linear addresses: low half, then the rest above the opcode */
		word[3] = fip & 0xffff;
		word[4] = (fip >> 16) << 12 | fop;
		word[5] = fdp & 0xffff;
		word[6] = (fdp >> 16) << 12;
	} else {
		word[3] = fip;
		word[4] = size == 4 ? fop << 16 : 0; /* the 16-bit image has no opcode */
		word[5] = fdp;
	}
	for (unsigned i = 0; i < 7; i++) {
		bool whole = i == 4 || (real ? i == 6 : i == 3 || i == 5);

		if (size == 4)
			put_le32(image + 4 * i, whole ? word[i] : word[i] | HIGH);
		else
			put_le16(image + 2 * i, (u16)word[i]);
	}
	return 7 * (size == 4 ? 4 : 2);
}

void x86_fenv_load(struct x86_state *s, unsigned size, const u8 image[28])
{
	struct x86_fpu *f = &s->fpu;
	bool real = x86_real_segments(s);
	u32 word[7];

	for (unsigned i = 0; i < 7; i++)
		word[i] = size == 4 ? get_le32(image + 4 * i) : get_le16(image + 2 * i);
	f->fcw = (word[0] & 0x1f3f) | 0x40;
	x86_fpu_set_fsw(f, (u16)word[1]);
	x86_fpu_summarize(f);
	f->ftw = abridged_tags((u16)word[2]);
	if (real) {
		f->fip = (word[3] & 0xffff) | (word[4] >> 12) << 16;
		f->fdp = (word[5] & 0xffff) | (word[6] >> 12) << 16;
		f->fop = word[4] & 0x7ff;
	} else {
		f->fip = word[3];
		f->fdp = word[5];
		f->fop = size == 4 ? (word[4] >> 16) & 0x7ff : 0;
	}
}
