/*
 * XSAVE, XSAVEOPT, XSAVEC, XSAVES, XRSTOR and XRSTORS (SDM 1 chapter 13), FXSAVE and FXRSTOR
 * (SDM 1 10.5).
 *
 * An area has three regions: legacy (bytes 0-511: x87 and SSE), header (512-575: XSTATE_BV, then
 * XCOMP_BV), extended (one place per component; fixed in the standard format, packed in the order
 * of XCOMP_BV in the compacted one). Components of struct x86_fpu: x87 is the image's first bytes,
 * SSE the low 16 bytes of zmm[0..15], AVX the next 16, ZMM_Hi256 the upper 32, Hi16_ZMM
 * zmm[16..31].
 *
 * Saving builds the area in a local buffer and records which byte ranges the instruction writes;
 * these, merged, are stored with as few accesses as possible, the header last. A fault in between
 * leaves the state untouched, and executing again writes the same bytes (SDM 1 13.7). Restoring
 * loads and checks everything before it changes a register. Outside 64-bit code only eight vector
 * registers take part, and Hi16_ZMM not at all (SDM 1 13.5).
 *
 * The modified optimization of XSAVEOPT and XSAVES is not used: it is allowed, never required.
 */
#include "x86/xsave.h"
#include "base/bits.h"
#include "x86/control.h"
#include "x86/mode.h"

#define AREA_MAX    4096u
#define HEADER	    512u
#define HEADER_SIZE 64u
#define EXTENDED    576u
#define COMPACTED   BIT64(63)
#define COMPONENTS  8u

#define FXSAVE_MXCSR 24u
#define FXSAVE_ST    32u
#define FXSAVE_XMM   160u
#define FXSAVE_END   416u

#define FCW_INIT 0x37fu

/* Vector registers that instructions in the current mode can name. */
static unsigned vector_regs(const struct x86_state *s) { return x86_code64(s) ? 16 : 8; }

/* ---- component images ---- */

static void store_x87(const struct x86_fpu *f, u8 *image, bool rex_w)
{
	memcpy(image, f, FXSAVE_MXCSR);
	memcpy(image + FXSAVE_ST, f->st, sizeof(f->st));
	if (!rex_w) { /* 32-bit pointers with selectors, which read as 0 (CPUID: deprecated) */
		put_le32(image + 12, 0);
		put_le32(image + 20, 0);
	}
}

static void load_x87(struct x86_fpu *f, const u8 *image, bool rex_w)
{
	memcpy(f, image, FXSAVE_MXCSR);
	memcpy(f->st, image + FXSAVE_ST, sizeof(f->st));
	for (unsigned i = 0; i < 8; i++)
		memset(f->st[i] + 10, 0, 6);
	f->fcw = (f->fcw & 0x1f3f) | 0x40; /* reserved bits are wired */
	x86_fpu_summarize(f);
	f->fop &= 0x7ff;
	f->reserved0 = 0;
	if (!rex_w) {
		f->fip &= 0xffffffff;
		f->fdp &= 0xffffffff;
	}
}

static void init_x87(struct x86_fpu *f)
{
	memset(f, 0, FXSAVE_MXCSR);
	memset(f->st, 0, sizeof(f->st));
	f->fcw = FCW_INIT;
}

static void store_mxcsr(const struct x86_cpu *cpu, u8 *image)
{
	put_le32(image + FXSAVE_MXCSR, cpu->s.fpu.mxcsr);
	put_le32(image + FXSAVE_MXCSR + 4, cpu->model->mxcsr_mask);
}

/* `width` bytes at `offset` of each register, packed; the loops' widths are constants. */
#define STORE_SLICES(f, image, regs, offset, width) \
	for (unsigned r_ = 0; r_ < (regs); r_++)    \
	memcpy((image) + (width)*r_, (f)->zmm[r_] + (offset), (width))
#define LOAD_SLICES(f, image, regs, offset, width) \
	for (unsigned r_ = 0; r_ < (regs); r_++)   \
	memcpy((f)->zmm[r_] + (offset), (image) + (width)*r_, (width))
#define ZERO_SLICES(f, regs, offset, width)      \
	for (unsigned r_ = 0; r_ < (regs); r_++) \
	memset((f)->zmm[r_] + (offset), 0, (width))

/* Component i >= 1 to or from its place; SSE's place is FXSAVE_XMM. */
static void store_component(const struct x86_fpu *f, unsigned i, u8 *at, unsigned regs)
{
	switch (BIT64(i)) {
	case XCR0_SSE: STORE_SLICES(f, at, regs, 0, 16); break;
	case XCR0_AVX: STORE_SLICES(f, at, regs, 16, 16); break;
	case XCR0_OPMASK: memcpy(at, f->k, sizeof(f->k)); break;
	case XCR0_ZMM_HI: STORE_SLICES(f, at, regs, 32, 32); break;
	case XCR0_HI_ZMM:
		if (regs == 16)
			memcpy(at, f->zmm[16], 16 * 64);
		break;
	default: break;
	}
}

static void load_component(struct x86_fpu *f, unsigned i, const u8 *at, unsigned regs)
{
	switch (BIT64(i)) {
	case XCR0_SSE: LOAD_SLICES(f, at, regs, 0, 16); break;
	case XCR0_AVX: LOAD_SLICES(f, at, regs, 16, 16); break;
	case XCR0_OPMASK: memcpy(f->k, at, sizeof(f->k)); break;
	case XCR0_ZMM_HI: LOAD_SLICES(f, at, regs, 32, 32); break;
	case XCR0_HI_ZMM:
		if (regs == 16)
			memcpy(f->zmm[16], at, 16 * 64);
		break;
	default: break;
	}
}

static void init_component(struct x86_fpu *f, unsigned i, unsigned regs)
{
	switch (BIT64(i)) {
	case XCR0_X87: init_x87(f); break;
	case XCR0_SSE: ZERO_SLICES(f, regs, 0, 16); break;
	case XCR0_AVX: ZERO_SLICES(f, regs, 16, 16); break;
	case XCR0_OPMASK: memset(f->k, 0, sizeof(f->k)); break;
	case XCR0_ZMM_HI: ZERO_SLICES(f, regs, 32, 32); break;
	case XCR0_HI_ZMM:
		if (regs == 16)
			memset(f->zmm[16], 0, 16 * 64);
		break;
	default: break;
	}
}

/* ---- which components differ from their initial configuration ---- */

/* Slots `offset` of each register's eight 64-bit words or-ed together, `words` at a time. */
static u64 or_slices(const struct x86_fpu *f, unsigned first, unsigned offset, unsigned words)
{
	u64 any = 0;

	for (unsigned r = first; r < first + 16; r++)
		for (unsigned w = 0; w < words; w++)
			any |= get_le64(f->zmm[r] + offset + 8 * w);
	return any;
}

static bool x87_in_use(const struct x86_fpu *f)
{
	u64 any = f->fsw | f->ftw | f->fop | f->fip | f->fdp | (u64)(f->fcw ^ FCW_INIT);

	for (unsigned i = 0; i < 8; i++)
		any |= get_le64(f->st[i]) | get_le16(f->st[i] + 8);
	return any;
}

u64 x86_xinuse(const struct x86_state *s)
{
	const struct x86_fpu *f = &s->fpu;
	u64 inuse = x87_in_use(f) ? XCR0_X87 : 0, k = 0;

	for (unsigned i = 0; i < 8; i++)
		k |= f->k[i];
	inuse |= or_slices(f, 0, 0, 2) ? XCR0_SSE : 0;
	inuse |= or_slices(f, 0, 16, 2) ? XCR0_AVX : 0;
	inuse |= k ? XCR0_OPMASK : 0;
	inuse |= or_slices(f, 0, 32, 4) ? XCR0_ZMM_HI : 0;
	inuse |= or_slices(f, 16, 0, 8) ? XCR0_HI_ZMM : 0;
	return inuse & (s->xcr0 | s->xss);
}

/* ---- layout ---- */

struct layout {
	u32 offset[COMPONENTS];
	u32 end;
};

/* Offsets of the extended components in `set`; `end` covers them all and the header. */
static struct layout layout_of(const struct x86_model *m, u64 set, bool compacted)
{
	struct layout l = { .offset = { 0, FXSAVE_XMM }, .end = EXTENDED };

	for (unsigned i = 2; i < COMPONENTS; i++) {
		if (!(set & m->xcr0_mask & BIT64(i)))
			continue;
		if (compacted && (m->xsave_aligned & BIT(i)))
			l.end = (u32)align_up(l.end, 64);
		l.offset[i] = compacted ? l.end : m->xsave_offset[i];
		l.end = (u32)max_u64(l.end, l.offset[i] + m->xsave_size[i]);
	}
	return l;
}

u32 x86_xsave_size(const struct x86_model *model, u64 components, bool compacted)
{
	return layout_of(model, components, compacted).end;
}

/* ---- byte ranges to store ---- */

struct ranges {
	struct {
		u32 from, to;
	} at[COMPONENTS + 4];
	unsigned count;
};

static void add_range(struct ranges *r, u32 from, u32 size)
{
	if (r->count && r->at[r->count - 1].to == from) {
		r->at[r->count - 1].to += size;
		return;
	}
	r->at[r->count].from = from;
	r->at[r->count++].to = from + size;
}

static int store_ranges(
	struct x86_cpu *cpu, gva_t at, unsigned access, const u8 *area, const struct ranges *r)
{
	for (unsigned i = 0; i < r->count; i++) {
		u32 from = r->at[i].from;

		TRY(cpu->ops->store(cpu, gva(at.v + from), area + from, r->at[i].to - from,
			access | ACCESS_WRITE));
	}
	return X86_OK;
}

/* ---- XSAVE family ---- */

static int check_area(struct x86_cpu *cpu, gva_t at, bool supervisor)
{
	TRY(x86_check_simd(cpu, X86_SIMD_XSAVE));
	if (supervisor)
		TRY(x86_require_cpl0(cpu));
	return at.v & 63 ? x86_gp(cpu, 0) : X86_OK;
}

/* Puts the components of `save` into area, with their ranges in ascending order. */
static void build_area(const struct x86_cpu *cpu, u8 *area, struct ranges *r, u64 save, bool mxcsr,
	const struct layout *l, bool rex_w)
{
	const struct x86_state *s = &cpu->s;
	unsigned regs = vector_regs(s);

	if (save & XCR0_X87) {
		store_x87(&s->fpu, area, rex_w);
		add_range(r, 0, FXSAVE_MXCSR);
	}
	if (mxcsr) {
		store_mxcsr(cpu, area);
		add_range(r, FXSAVE_MXCSR, 8);
	}
	if (save & XCR0_X87)
		add_range(r, FXSAVE_ST, FXSAVE_XMM - FXSAVE_ST);
	if (save & XCR0_SSE) {
		store_component(&s->fpu, 1, area + FXSAVE_XMM, regs);
		add_range(r, FXSAVE_XMM, 16 * regs);
	}
	for (unsigned i = 2; i < COMPONENTS; i++) {
		u32 size = cpu->model->xsave_size[i];

		if (!(save & BIT64(i)) || (BIT64(i) == XCR0_HI_ZMM && regs < 16))
			continue;
		store_component(&s->fpu, i, area + l->offset[i], regs);
		add_range(r, l->offset[i], BIT64(i) == XCR0_OPMASK ? size : size * regs / 16);
	}
}

static int save_standard(struct x86_cpu *cpu, gva_t at, u64 rfbm, bool optimize, bool rex_w)
{
	u64 inuse = x86_xinuse(&cpu->s), save = optimize ? rfbm & inuse : rfbm, bv;
	struct layout l = layout_of(cpu->model, rfbm, false);
	struct ranges r = { .count = 0 };
	u8 area[AREA_MAX];

	build_area(cpu, area, &r, save, rfbm & (XCR0_SSE | XCR0_AVX), &l, rex_w);
	TRY(x86_load(cpu, gva(at.v + HEADER), 8, ACCESS_READ, &bv));
	TRY(store_ranges(cpu, at, ACCESS_WRITE, area, &r));
	return x86_store(cpu, gva(at.v + HEADER), 8, ACCESS_WRITE, (bv & ~rfbm) | (inuse & rfbm));
}

/* Only here MXCSR belongs to SSE: a value other than the initial one makes SSE "in use" (13.10). */
static int save_compacted(struct x86_cpu *cpu, gva_t at, u64 rfbm, bool rex_w)
{
	u64 inuse = x86_xinuse(&cpu->s) | (cpu->s.fpu.mxcsr != MXCSR_RESET ? XCR0_SSE : 0);
	u64 header[2] = { rfbm & inuse, rfbm | COMPACTED };
	struct layout l = layout_of(cpu->model, rfbm, true);
	struct ranges r = { .count = 0 };
	u8 area[AREA_MAX];

	build_area(cpu, area, &r, header[0], header[0] & XCR0_SSE, &l, rex_w);
	TRY(store_ranges(cpu, at, ACCESS_WRITE, area, &r));
	return cpu->ops->store(cpu, gva(at.v + HEADER), header, sizeof(header), ACCESS_WRITE);
}

int x86_xsave(struct x86_cpu *cpu, gva_t at, u64 rfbm, enum x86_xsave_form form, bool rex_w)
{
	TRY(check_area(cpu, at, form == X86_XSAVES));
	rfbm &= cpu->s.xcr0 | (form == X86_XSAVES ? cpu->s.xss : 0);
	switch (form) {
	case X86_XSAVE: return save_standard(cpu, at, rfbm, false, rex_w);
	case X86_XSAVEOPT: return save_standard(cpu, at, rfbm, true, rex_w);
	case X86_XSAVEC:
	case X86_XSAVES: break;
	}
	return save_compacted(cpu, at, rfbm, rex_w);
}

/* SDM 1 13.8.1 and 13.12: what a header may say. */
static bool header_valid(const u64 header[8], u64 enabled, bool supervisor)
{
	u64 bv = header[0], comp = header[1], rest = 0;

	if (!(comp & COMPACTED))
		return !supervisor && !(bv & ~enabled) && !comp && !header[2];
	for (unsigned i = 2; i < 8; i++)
		rest |= header[i];
	return !((comp & ~COMPACTED) & ~enabled) && !(bv & ~(comp & ~COMPACTED)) && !rest;
}

static void restore_components(
	struct x86_cpu *cpu, const u8 *area, const struct layout *l, u64 load, u64 init, bool rex_w)
{
	struct x86_fpu *f = &cpu->s.fpu;
	unsigned regs = vector_regs(&cpu->s);

	if (load & XCR0_X87)
		load_x87(f, area, rex_w);
	for (unsigned i = 0; i < COMPONENTS; i++) {
		if (load & BIT64(i))
			load_component(f, i, area + l->offset[i], regs);
		else if (init & BIT64(i))
			init_component(f, i, regs);
	}
}

int x86_xrstor(struct x86_cpu *cpu, gva_t at, u64 rfbm, bool supervisor, bool rex_w)
{
	u64 enabled = cpu->s.xcr0 | (supervisor ? cpu->s.xss : 0), header[8], load;
	bool compacted, takes_mxcsr;
	struct layout l;
	u8 area[AREA_MAX];
	u32 mxcsr;

	TRY(check_area(cpu, at, supervisor));
	TRY(cpu->ops->load(cpu, gva(at.v + HEADER), header, HEADER_SIZE, ACCESS_READ));
	if (!header_valid(header, enabled, supervisor))
		return x86_gp(cpu, 0);
	rfbm &= enabled;
	compacted = header[1] & COMPACTED;
	load = rfbm & header[0];
	takes_mxcsr = compacted ? load & XCR0_SSE : rfbm & (XCR0_SSE | XCR0_AVX);
	l = layout_of(cpu->model, compacted ? header[1] : load, compacted);
	if (load || takes_mxcsr)
		TRY(cpu->ops->load(cpu, at, area, l.end, ACCESS_READ));
	mxcsr = takes_mxcsr ? get_le32(area + FXSAVE_MXCSR) : MXCSR_RESET;
	if (mxcsr & ~cpu->model->mxcsr_mask)
		return x86_gp(cpu, 0);

	restore_components(cpu, area, &l, load, rfbm & ~header[0], rex_w);
	if (takes_mxcsr || (compacted && (rfbm & XCR0_SSE)))
		cpu->s.fpu.mxcsr = mxcsr;
	return X86_OK;
}

/* ---- FXSAVE and FXRSTOR ---- */

static int check_fx(struct x86_cpu *cpu, gva_t at)
{
	TRY(x86_check_simd(cpu, X86_SIMD_FXSAVE));
	return at.v & 15 ? x86_gp(cpu, 0) : X86_OK;
}

int x86_fxsave(struct x86_cpu *cpu, gva_t at, unsigned access, bool rex_w)
{
	unsigned regs = vector_regs(&cpu->s);
	u8 image[FXSAVE_END];

	TRY(check_fx(cpu, at));
	store_x87(&cpu->s.fpu, image, rex_w);
	store_mxcsr(cpu, image);
	store_component(&cpu->s.fpu, 1, image + FXSAVE_XMM, regs);
	return cpu->ops->store(cpu, at, image, FXSAVE_XMM + 16 * regs, access | ACCESS_WRITE);
}

int x86_fxrstor(struct x86_cpu *cpu, gva_t at, unsigned access, bool rex_w)
{
	u8 image[FXSAVE_END];
	u32 mxcsr;

	TRY(check_fx(cpu, at));
	TRY(cpu->ops->load(cpu, at, image, sizeof(image), access));
	mxcsr = get_le32(image + FXSAVE_MXCSR);
	if (mxcsr & ~cpu->model->mxcsr_mask)
		return x86_gp(cpu, 0);
	load_x87(&cpu->s.fpu, image, rex_w);
	load_component(&cpu->s.fpu, 1, image + FXSAVE_XMM, vector_regs(&cpu->s));
	cpu->s.fpu.mxcsr = mxcsr;
	return X86_OK;
}

/* ---- the whole state as one standard image ---- */

void x86_xsave_image_store(const struct x86_cpu *cpu, u8 *image, size_t size)
{
	const struct x86_model *m = cpu->model;
	struct layout l = layout_of(m, m->xcr0_mask, false);

	memset(image, 0, size);
	if (size < l.end)
		return;
	store_x87(&cpu->s.fpu, image, true);
	store_mxcsr(cpu, image);
	for (unsigned i = 1; i < COMPONENTS; i++)
		if (m->xcr0_mask & BIT64(i))
			store_component(&cpu->s.fpu, i, image + l.offset[i], 16);
	put_le64(image + HEADER, m->xcr0_mask);
}

void x86_xsave_image_load(struct x86_cpu *cpu, const u8 *image, size_t size)
{
	const struct x86_model *m = cpu->model;
	struct layout l = layout_of(m, m->xcr0_mask, false);
	struct x86_fpu *f = &cpu->s.fpu;
	u64 bv;

	if (size < l.end)
		return;
	bv = get_le64(image + HEADER);
	f->mxcsr = get_le32(image + FXSAVE_MXCSR) & m->mxcsr_mask;
	if (bv & XCR0_X87)
		load_x87(f, image, true);
	for (unsigned i = 0; i < COMPONENTS; i++) {
		if (!(m->xcr0_mask & BIT64(i)))
			continue;
		if (bv & BIT64(i))
			load_component(f, i, image + l.offset[i], 16);
		else
			init_component(f, i, 16);
	}
}
