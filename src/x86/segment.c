/*
 * Segment registers and the descriptors behind them (SDM 3A chapters 3 and 5).
 *
 * A segment register is loaded in one of two ways. In real-address and virtual-8086 mode the
 * selector becomes base >> 4; real mode leaves limit and attributes as protected mode last set them
 * (which is what "big real mode" is), virtual-8086 mode forces them. Elsewhere the descriptor is
 * fetched from the GDT or LDT, checked, its accessed bit set, and cached.
 *
 * Descriptor tables are read and written as implicit supervisor accesses (ACCESS_SYSTEM). The
 * accessed and busy bits are the only things written, in the descriptor's sixth byte, and only when
 * they change: tables may be read-only as long as nothing has to change.
 */
#include "x86/segment.h"
#include "x86/x86_priv.h"

#define V86_ATTR (SEG_P | 3u << 5 | SEG_S | SEG_RW | SEG_ACCESSED)

/* --- descriptors ------------------------------------------------------------------------------ */

bool x86_desc_at(const struct x86_state *s, u16 selector, unsigned size, gva_t *at)
{
	const struct x86_seg *ldt = &s->seg[X86_LDTR];
	u32 index = selector & 0xfff8u;

	if (!selector_in_ldt(selector)) {
		*at = gva(s->gdt.base + index);
		return range_ok(index, size, s->gdt.limit + 1ull);
	}
	*at = gva(ldt->base + index);
	return !(ldt->attr & SEG_UNUSABLE) && range_ok(index, size, ldt->limit + 1ull);
}

int x86_read_desc(struct x86_cpu *cpu, gva_t at, struct x86_desc *out)
{
	u32 raw[2], limit;

	TRY(cpu->ops->load(cpu, at, raw, sizeof(raw), ACCESS_SYSTEM));
	limit = (raw[1] & 0xf0000) | (raw[0] & 0xffff);
	*out = (struct x86_desc){
		.lo = raw[0],
		.hi = raw[1],
		.base = raw[0] >> 16 | (raw[1] & 0xff) << 16 | (raw[1] & 0xff000000),
		.attr = (raw[1] >> 8) & 0xf0ff,
		.at = at,
	};
	out->limit = out->attr & SEG_G ? limit << 12 | 0xfff : limit;
	return X86_OK;
}

/* Bytes 8-15 of a long-mode system descriptor: base 63:32, and a type field that must be 0 so
 * that the second half cannot pass for a descriptor (SDM 3A 3.5.2). */
static int read_upper_half(struct x86_cpu *cpu, u16 selector, struct x86_desc *desc)
{
	u32 raw[2];

	TRY(cpu->ops->load(cpu, gva(desc->at.v + 8), raw, sizeof(raw), ACCESS_SYSTEM));
	if (raw[1] & 0x1f00)
		return x86_fault_selector(cpu, X86_GP, selector);
	desc->base |= (u64)raw[0] << 32;
	return X86_OK;
}

int x86_fetch_desc(
	struct x86_cpu *cpu, u16 selector, enum x86_vector vector, bool wide, struct x86_desc *out)
{
	gva_t at;

	if (!x86_desc_at(&cpu->s, selector, wide ? 16 : 8, &at))
		return x86_fault_selector(cpu, vector, selector);
	TRY(x86_read_desc(cpu, at, out));
	return wide ? read_upper_half(cpu, selector, out) : X86_OK;
}

int x86_store_type(struct x86_cpu *cpu, const struct x86_desc *desc, unsigned type)
{
	u64 access_byte = (desc->attr & 0xf0) | type;

	return x86_store(cpu, gva(desc->at.v + 5), 1, ACCESS_SYSTEM, access_byte);
}

int x86_mark_accessed(struct x86_cpu *cpu, const struct x86_desc *desc)
{
	if (desc->attr & SEG_ACCESSED)
		return X86_OK;
	return x86_store_type(cpu, desc, (desc->attr & SEG_TYPE) | SEG_ACCESSED);
}

int x86_fetch_stack_desc(struct x86_cpu *cpu, u16 selector, unsigned cpl, enum x86_vector vector,
	struct x86_desc *out)
{
	TRY(x86_fetch_desc(cpu, selector, vector, false, out));
	if (selector_rpl(selector) != cpl || SEG_DPL(out->attr) != cpl || !attr_writable(out->attr))
		return x86_fault_selector(cpu, vector, selector);
	if (!(out->attr & SEG_P))
		return x86_fault_selector(cpu, X86_SS_FAULT, selector);
	return X86_OK;
}

int x86_fetch_return_desc(struct x86_cpu *cpu, u16 selector, struct x86_desc *out)
{
	unsigned rpl = selector_rpl(selector);
	bool dpl_ok;

	if (selector_null(selector))
		return x86_gp(cpu, 0);
	TRY(x86_fetch_desc(cpu, selector, X86_GP, false, out));
	dpl_ok = attr_conforming(out->attr) ? SEG_DPL(out->attr) <= rpl : SEG_DPL(out->attr) == rpl;
	if (!attr_code(out->attr) || rpl < x86_cpl(&cpu->s) || !dpl_ok)
		return x86_fault_selector(cpu, X86_GP, selector);
	if (desc_is_code64(&cpu->s, out) && (out->attr & SEG_DB))
		return x86_fault_selector(cpu, X86_GP, selector);
	if (!(out->attr & SEG_P))
		return x86_fault_selector(cpu, X86_NP, selector);
	return X86_OK;
}

int x86_check_target(struct x86_cpu *cpu, const struct x86_desc *cs, u64 rip)
{
	bool ok = desc_is_code64(&cpu->s, cs) ? x86_canonical(rip) : rip <= cs->limit;

	return ok ? X86_OK : x86_gp(cpu, 0);
}

void x86_drop_inner_segments(struct x86_state *s, unsigned cpl)
{
	static const enum x86_segreg data[] = { X86_ES, X86_DS, X86_FS, X86_GS };

	for (unsigned i = 0; i < ARRAY_LEN(data); i++) {
		struct x86_seg *seg = &s->seg[data[i]];

		/* One that is null already keeps its base: FS and GS hold theirs in MSRs. */
		if (!(seg->attr & SEG_UNUSABLE) && !attr_conforming(seg->attr) &&
			SEG_DPL(seg->attr) < cpl)
			*seg = seg_null(0, 0);
	}
}

/* --- loads ------------------------------------------------------------------------------------ */

void x86_load_real_segment(struct x86_cpu *cpu, enum x86_segreg reg, u16 selector)
{
	struct x86_seg *seg = &cpu->s.seg[reg];

	seg->selector = selector;
	seg->base = (u64)selector << 4;
	if (x86_v86(&cpu->s)) {
		seg->limit = 0xffff;
		seg->attr = V86_ATTR;
	} else if (reg != X86_CS) {
		seg->attr = (seg->attr & (SEG_AVL | SEG_DB | SEG_G)) | SEG_P | SEG_S | SEG_RW |
			    SEG_ACCESSED;
	}
}

static int load_null(struct x86_cpu *cpu, enum x86_segreg reg, u16 selector)
{
	unsigned cpl = x86_cpl(&cpu->s);

	/* 64-bit mode runs on a null SS below CPL 3 (SDM 3A 5.4.1.1). */
	if (reg == X86_SS && (!x86_code64(&cpu->s) || cpl == 3 || selector_rpl(selector) != cpl))
		return x86_gp(cpu, 0);
	cpu->s.seg[reg] = seg_null(selector, reg == X86_SS ? cpl : 0);
	return X86_OK;
}

static int fetch_data_desc(struct x86_cpu *cpu, u16 selector, struct x86_desc *out)
{
	unsigned dpl;

	TRY(x86_fetch_desc(cpu, selector, X86_GP, false, out));
	dpl = SEG_DPL(out->attr);
	if (!attr_readable(out->attr))
		return x86_fault_selector(cpu, X86_GP, selector);
	if (!attr_conforming(out->attr) && (dpl < selector_rpl(selector) || dpl < x86_cpl(&cpu->s)))
		return x86_fault_selector(cpu, X86_GP, selector);
	if (!(out->attr & SEG_P))
		return x86_fault_selector(cpu, X86_NP, selector);
	return X86_OK;
}

int x86_load_segment(struct x86_cpu *cpu, enum x86_segreg reg, u16 selector)
{
	struct x86_desc desc;

	if (x86_real_segments(&cpu->s)) {
		x86_load_real_segment(cpu, reg, selector);
		return X86_OK;
	}
	if (selector_null(selector))
		return load_null(cpu, reg, selector);
	if (reg == X86_SS)
		TRY(x86_fetch_stack_desc(cpu, selector, x86_cpl(&cpu->s), X86_GP, &desc));
	else
		TRY(fetch_data_desc(cpu, selector, &desc));
	TRY(x86_mark_accessed(cpu, &desc));
	cpu->s.seg[reg] = seg_from(&desc, selector);
	return X86_OK;
}

/* LLDT and LTR: privileged, protected mode only, and a descriptor in the GDT. */
static int fetch_system_desc(struct x86_cpu *cpu, u16 selector, struct x86_desc *out)
{
	if (selector_in_ldt(selector))
		return x86_fault_selector(cpu, X86_GP, selector);
	TRY(x86_fetch_desc(cpu, selector, X86_GP, x86_long_mode(&cpu->s), out));
	if (!x86_canonical(out->base))
		return x86_fault_selector(cpu, X86_GP, selector);
	return X86_OK;
}

static int check_system_load(struct x86_cpu *cpu)
{
	if (x86_real_segments(&cpu->s))
		return x86_ud(cpu);
	return x86_cpl(&cpu->s) ? x86_gp(cpu, 0) : X86_OK;
}

int x86_lldt(struct x86_cpu *cpu, u16 selector)
{
	struct x86_desc desc;

	TRY(check_system_load(cpu));
	if (selector_null(selector)) {
		cpu->s.seg[X86_LDTR] = seg_null(selector, 0);
		return X86_OK;
	}
	TRY(fetch_system_desc(cpu, selector, &desc));
	if (attr_system(desc.attr) != SYS_LDT)
		return x86_fault_selector(cpu, X86_GP, selector);
	if (!(desc.attr & SEG_P))
		return x86_fault_selector(cpu, X86_NP, selector);
	cpu->s.seg[X86_LDTR] = seg_from(&desc, selector);
	return X86_OK;
}

int x86_ltr(struct x86_cpu *cpu, u16 selector)
{
	struct x86_desc desc;
	unsigned type;

	TRY(check_system_load(cpu));
	if (selector_null(selector))
		return x86_gp(cpu, 0);
	TRY(fetch_system_desc(cpu, selector, &desc));
	type = attr_system(desc.attr);
	if (type != SYS_TSS && (type != SYS_TSS16 || x86_long_mode(&cpu->s)))
		return x86_fault_selector(cpu, X86_GP, selector);
	if (!(desc.attr & SEG_P))
		return x86_fault_selector(cpu, X86_NP, selector);
	TRY(x86_store_type(cpu, &desc, type | SYS_BUSY));
	desc.attr |= SYS_BUSY;
	cpu->s.seg[X86_TR] = seg_from(&desc, selector);
	return X86_OK;
}

/* --- linear addresses ------------------------------------------------------------------------- */

bool x86_within_limit(const struct x86_seg *seg, u64 ea, unsigned size)
{
	bool expand_down = (seg->attr & (SEG_S | SEG_CODE | SEG_DC)) == (SEG_S | SEG_DC);
	u64 last = ea + size - 1;

	if (likely(!expand_down))
		return last <= seg->limit && ea <= last;
	return ea > seg->limit && ea <= last &&
	       last <= (seg->attr & SEG_DB ? 0xffffffffu : 0xffffu);
}

/* SDM 3A 5.5. Real mode and virtual-8086 mode know no types. */
static bool type_allows(const struct x86_state *s, u32 attr, unsigned access)
{
	if (attr & SEG_UNUSABLE)
		return false;
	if ((access & ACCESS_FETCH) || x86_real_segments(s))
		return true;
	return access & ACCESS_WRITE ? attr_writable(attr) : attr_readable(attr);
}

bool x86_segment_allows(
	const struct x86_state *s, enum x86_segreg reg, u64 ea, unsigned len, unsigned access)
{
	return type_allows(s, s->seg[reg].attr, access) && x86_within_limit(&s->seg[reg], ea, len);
}

int x86_linear(struct x86_cpu *cpu, enum x86_segreg reg, u64 ea, unsigned size, unsigned access,
	gva_t *out)
{
	const struct x86_seg *seg = &cpu->s.seg[reg];

	if (x86_code64(&cpu->s)) {
		u64 at = ea + (reg == X86_FS || reg == X86_GS ? seg->base : 0);

		/* With a base, an access that wraps around the top of the address space is not
		 * canonical (observed). */
		bool wraps = at + size - 1 < at && at != ea;

		if (likely(x86_canonical(at) && x86_canonical(at + size - 1) && !wraps)) {
			*out = gva(at);
			return X86_OK;
		}
	} else if (likely(x86_segment_allows(&cpu->s, reg, ea, size, access))) {
		*out = gva((u32)(seg->base + ea));
		return X86_OK;
	}
	return x86_fault_code(cpu, reg == X86_SS ? X86_SS_FAULT : X86_GP, 0);
}
