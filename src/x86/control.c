/*
 * Control registers CR0, CR2, CR3, CR4, CR8, EFER and XCR0, and TLB invalidation.
 *
 * Each write has three steps, in this order, so that a refused write leaves nothing behind:
 *  1. the value against reserved bits and against the other registers (SDM 3A 2.5, 4.1, 9.8.5;
 *     SDM 2B "MOV Control Registers");
 *  2. the new value, with EFER.LMA following CR0.PG (SDM 3A 9.8.5);
 *  3. the consequences: which translations die (SDM 3A 4.10.4.1), and mode_changed() for whatever
 *     an engine derives from these registers.
 *
 * More than the architecture demands may be flushed, never less: engines cache the combined rights
 * of a translation, so NXE, PSE and PAE changes drop everything.
 */
#include "x86/control.h"
#include "base/bits.h"
#include "x86/cpuid.h"
#include "x86/mode.h"
#include "x86/paging.h"

#define CR0_DEFINED                                                                                \
	(CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | \
		CR0_PG)
#define CR3_NO_FLUSH BIT64(63)
/* Bits whose change makes PAE paging load its PDPTEs again (SDM 3A 4.4.1). */
#define CR0_PDPTE (CR0_CD | CR0_NW | CR0_PG)
#define CR4_PDPTE (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)
/* Bits whose change may leave cached translations wrong. */
#define CR4_FLUSH (CR4_PGE | CR4_PAE | CR4_PSE | CR4_PCIDE | CR4_SMEP)

#define TSS16_AVAILABLE 1u
#define TSS16_BUSY	3u

static void flush_all(struct x86_cpu *cpu) { cpu->ops->flush(cpu, X86_FLUSH_ALL, 0, 0); }

/* SDM 3A 9.8.5: what must hold when CR0.PG goes to 1 with EFER.LME set. */
static bool may_activate_long_mode(const struct x86_state *s)
{
	u32 tss = s->seg[X86_TR].attr & SEG_TYPE;

	return (s->cr4 & CR4_PAE) && !(s->seg[X86_CS].attr & SEG_L) && tss != TSS16_AVAILABLE &&
	       tss != TSS16_BUSY;
}

static bool cr0_valid(const struct x86_state *s, u64 value)
{
	u64 set = value & ~s->cr0, cleared = s->cr0 & ~value;

	if (value >> 32)
		return false;
	if ((value & CR0_PG) && !(value & CR0_PE))
		return false;
	if ((value & CR0_NW) && !(value & CR0_CD))
		return false;
	if ((set & CR0_PG) && (s->efer & EFER_LME) && !may_activate_long_mode(s))
		return false;
	/* Leaving IA-32e mode goes through compatibility mode and PCIDE=0 (SDM 3A 4.10.1, 9.8.5.4).
	 */
	return !(cleared & CR0_PG) || !(x86_code64(s) || (s->cr4 & CR4_PCIDE));
}

/* Will paging be PAE paging with these values? LMA follows PG when LME is set. */
static bool pae_paging(const struct x86_state *s, u64 cr0, u64 cr4)
{
	return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(s->efer & EFER_LME);
}

static int write_cr0(struct x86_cpu *cpu, u64 value)
{
	struct x86_state *s = &cpu->s;
	u64 changed;

	if (!cr0_valid(s, value))
		return x86_gp(cpu, 0);
	value = (value & CR0_DEFINED) |
		CR0_ET; /* undefined low bits are ignored; ET is wired to 1 */
	changed = s->cr0 ^ value;
	if ((changed & CR0_PDPTE) && pae_paging(s, value, s->cr4))
		TRY(x86_check_pdptes(cpu, s->cr3));

	s->cr0 = value;
	if (changed & CR0_PG) {
		if ((value & CR0_PG) && (s->efer & EFER_LME))
			s->efer |= EFER_LMA;
		else
			s->efer &= ~EFER_LMA;
		flush_all(cpu);
	} else if (changed & CR0_WP) {
		flush_all(cpu); /* engines cache supervisor write rights */
	}
	if (changed)
		cpu->ops->mode_changed(cpu);
	return X86_OK;
}

static int write_cr3(struct x86_cpu *cpu, u64 value)
{
	struct x86_state *s = &cpu->s;
	bool tagged = s->cr4 & CR4_PCIDE;
	bool keep = tagged && (value & CR3_NO_FLUSH);
	u64 old = s->cr3;

	if (tagged)
		value &= ~CR3_NO_FLUSH;
	if (x86_long_mode(s) && value >> cpu->model->phys_bits)
		return x86_gp(cpu, 0);
	if (pae_paging(s, s->cr0, s->cr4))
		TRY(x86_check_pdptes(cpu, value));

	s->cr3 = value;
	if (!keep && tagged)
		cpu->ops->flush(cpu, X86_FLUSH_PCID, 0, (unsigned)(value & CR3_PCID));
	else if (!keep)
		cpu->ops->flush(cpu, X86_FLUSH_NONGLOBAL, 0, 0);
	/* Nothing may have been flushed, and yet other translations apply from here on. */
	if (tagged && old != value)
		cpu->ops->mode_changed(cpu);
	return X86_OK;
}

static bool cr4_valid(const struct x86_cpu *cpu, u64 value)
{
	const struct x86_state *s = &cpu->s;
	u64 set = value & ~s->cr4, cleared = s->cr4 & ~value;

	if (value & ~cpu->model->cr4_mask)
		return false;
	if ((cleared & CR4_PAE) && x86_long_mode(s))
		return false;
	/* SDM 3A 4.10.1 */
	return !(set & CR4_PCIDE) || (x86_long_mode(s) && !(s->cr3 & CR3_PCID));
}

static int write_cr4(struct x86_cpu *cpu, u64 value)
{
	struct x86_state *s = &cpu->s;
	u64 changed = s->cr4 ^ value;

	if (!cr4_valid(cpu, value))
		return x86_gp(cpu, 0);
	if ((changed & CR4_PDPTE) && pae_paging(s, s->cr0, value))
		TRY(x86_check_pdptes(cpu, s->cr3));

	s->cr4 = value;
	if (changed & CR4_FLUSH)
		flush_all(cpu);
	if (changed)
		cpu->ops->mode_changed(cpu);
	return X86_OK;
}

int x86_write_cr(struct x86_cpu *cpu, unsigned cr, u64 value)
{
	switch (cr) {
	case 0: return write_cr0(cpu, value);
	case 2: cpu->s.cr2 = value; return X86_OK;
	case 3: return write_cr3(cpu, value);
	case 4: return write_cr4(cpu, value);
	case 8:
		if (value >> 4)
			return x86_gp(cpu, 0);
		cpu->ops->cr8_write(cpu, value);
		return X86_OK;
	default: return x86_ud(cpu);
	}
}

int x86_read_cr(struct x86_cpu *cpu, unsigned cr, u64 *value)
{
	switch (cr) {
	case 0: *value = cpu->s.cr0; return X86_OK;
	case 2: *value = cpu->s.cr2; return X86_OK;
	case 3: *value = cpu->s.cr3; return X86_OK;
	case 4: *value = cpu->s.cr4; return X86_OK;
	case 8: *value = cpu->ops->cr8_read(cpu); return X86_OK;
	default: return x86_ud(cpu);
	}
}

/* LMSW reaches only PE, MP, EM and TS, and cannot clear PE (SDM 2A "LMSW"). */
int x86_lmsw(struct x86_cpu *cpu, u16 value)
{
	u64 low = CR0_MP | CR0_EM | CR0_TS;

	return write_cr0(cpu, (cpu->s.cr0 & ~low) | (value & (low | CR0_PE)));
}

int x86_clts(struct x86_cpu *cpu) { return write_cr0(cpu, cpu->s.cr0 & ~CR0_TS); }

/*
 * EFER (SDM 3A 2.2.1): LMA is read-only and follows CR0.PG; LME may change only while paging is
 * off (SDM 3A 9.8.5).
 */
int x86_write_efer(struct x86_cpu *cpu, u64 value)
{
	struct x86_state *s = &cpu->s;
	u64 changed;

	value = (value & ~EFER_LMA) | (s->efer & EFER_LMA);
	changed = s->efer ^ value;
	if (value & ~(cpu->model->efer_mask | EFER_LMA))
		return x86_gp(cpu, 0);
	if ((changed & EFER_LME) && x86_paging(s))
		return x86_gp(cpu, 0);

	s->efer = value;
	if (changed & EFER_NXE)
		flush_all(cpu);
	if (changed)
		cpu->ops->mode_changed(cpu);
	return X86_OK;
}

/* SDM 1 13.3: x87 always on; AVX needs SSE; the three AVX-512 components go together and need AVX.
 */
static bool xcr0_valid(const struct x86_cpu *cpu, u64 value)
{
	u64 wide = value & XCR0_AVX512;

	if (!(value & XCR0_X87) || (value & ~cpu->model->xcr0_mask))
		return false;
	if ((value & XCR0_AVX) && !(value & XCR0_SSE))
		return false;
	return !wide || (wide == XCR0_AVX512 && (value & XCR0_AVX));
}

int x86_xsetbv(struct x86_cpu *cpu, u32 index, u64 value)
{
	if (!(cpu->s.cr4 & CR4_OSXSAVE))
		return x86_ud(cpu);
	if (index || !xcr0_valid(cpu, value))
		return x86_gp(cpu, 0);
	if (cpu->s.xcr0 != value) {
		cpu->s.xcr0 = value;
		cpu->ops->mode_changed(cpu);
	}
	return X86_OK;
}

static unsigned current_pcid(const struct x86_state *s)
{
	return s->cr4 & CR4_PCIDE ? (unsigned)(s->cr3 & CR3_PCID) : 0;
}

int x86_invlpg(struct x86_cpu *cpu, u64 linear)
{
	/* A non-canonical address is not an error: the instruction does nothing (SDM 2A "INVLPG").
	 */
	if (!x86_code64(&cpu->s) || x86_canonical(linear))
		cpu->ops->flush(cpu, X86_FLUSH_PAGE, linear, current_pcid(&cpu->s));
	return X86_OK;
}

int x86_invpcid(struct x86_cpu *cpu, u64 type, u64 pcid, u64 linear)
{
	enum { ONE_ADDRESS, ONE_PCID, EVERYTHING, ALL_BUT_GLOBAL };
	bool one = type == ONE_ADDRESS || type == ONE_PCID;

	/* The descriptor's bits 63:12 are reserved whatever the type (SDM 2A "INVPCID"). */
	if (type > ALL_BUT_GLOBAL || pcid >> 12)
		return x86_gp(cpu, 0);
	if (one && pcid && !(cpu->s.cr4 & CR4_PCIDE))
		return x86_gp(cpu, 0);
	if (type == ONE_ADDRESS && !x86_canonical(linear))
		return x86_gp(cpu, 0);

	if (type == ONE_ADDRESS)
		cpu->ops->flush(cpu, X86_FLUSH_PCID_PAGE, linear, (unsigned)pcid);
	else if (type == ONE_PCID)
		cpu->ops->flush(cpu, X86_FLUSH_PCID, 0, (unsigned)pcid);
	else
		flush_all(cpu);
	return X86_OK;
}
