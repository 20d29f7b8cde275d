/*
 * Tables as an operating system would have them, damaged here and there: one entry in eight or so
 * of each is random, so that most accesses work and every kind of fault still happens. Interrupt
 * gates lead back into the fuzzed code, which thereby goes on after a fault, at another place and
 * with another stack.
 *
 * Where things are: interrupt vectors of real mode 0, GDT 0x1000, IDT 0x2000, TSS 0x3000 with its
 * I/O bitmap, 16-bit TSS and LDT 0x6000, page tables 0x8000, stacks below 0xe000 (level 3) and
 * 0x10000 (level 0), code 0x10000, data 0x18000.
 */
#include "exec_guest.h"
#include "base/bits.h"
#include "x86/mode.h"

#define GDT    0x1000u
#define IDT    0x2000u
#define TSS    0x3000u
#define TSS2   0x6000u
#define LDT    0x6800u
#define TABLES 0x8000u
#define STACK3 0xdf00u
#define STACK0 0xff00u
#define DATA   0x18000u

#define GDT_ENTRIES 32u
#define TSS_LIMIT   0x1fffu
#define IO_BITMAP   0x68u

#define DATA_ATTR (SEG_P | SEG_S | SEG_RW | SEG_ACCESSED)
#define CODE_ATTR (DATA_ATTR | SEG_CODE)
#define DPL(n)	  ((u32)(n) << 5)
#define FLAT	  (SEG_G | SEG_DB)

enum {
	SEL_CODE0 = 0x08,
	SEL_DATA0 = 0x10,
	SEL_CODE3 = 0x18,
	SEL_DATA3 = 0x20,
	SEL_CODE64 = 0x28,
	SEL_CODE64_3 = 0x30,
	SEL_CODE16 = 0x38,
	SEL_DATA16 = 0x40,
	SEL_TSS = 0x48, /* and 0x50 */
	SEL_LDT = 0x58, /* and 0x60 */
	SEL_TSS2 = 0x68,
	SEL_GATE = 0x70, /* and 0x78 */
	SEL_TASK_GATE = 0x80,
	SEL_CONFORMING = 0x88,
	SEL_DOWN = 0x90,
	SEL_CODE16_3 = 0x98,
	SEL_DATA16_3 = 0xa0,
};

struct maker {
	u8 *ram;
	struct x86_state *s;
	const struct x86_model *model;
	enum guest_mode mode;
	unsigned cpl;
	u64 *random;
};

static u64 any(struct maker *g) { return guest_random(g->random); }
static bool one_in(struct maker *g, unsigned n) { return any(g) % n == 0; }
static bool is_long(const struct maker *g)
{
	return g->mode == GUEST_LONG || g->mode == GUEST_COMPAT;
}
static bool is_real(const struct maker *g)
{
	return g->mode == GUEST_REAL || g->mode == GUEST_BIG_REAL;
}

/* An address in the code, where an instruction may begin. */
static u32 code_address(struct maker *g) { return GUEST_CODE + (u32)(any(g) % 0x1000); }

static u64 descriptor(u64 base, u64 limit, u64 attr)
{
	return (limit & 0xffff) | (base & 0xffffff) << 16 | (attr & 0xf0ff) << 40 |
	       (limit & 0xf0000) << 32 | (base & 0xff000000) << 32;
}

static u64 gate(u64 selector, u64 offset, u64 attr, u64 extra)
{
	return (offset & 0xffff) | selector << 16 | extra << 32 | attr << 40 |
	       (offset & 0xffff0000) << 32;
}

/* ---- descriptor tables ---- */

static void make_gdt(struct maker *g)
{
	const struct {
		unsigned selector;
		u64 value;
	} rows[] = {
		{ SEL_CODE0, descriptor(0, 0xfffff, CODE_ATTR | FLAT) },
		{ SEL_DATA0, descriptor(0, 0xfffff, DATA_ATTR | FLAT) },
		{ SEL_CODE3, descriptor(0, 0xfffff, CODE_ATTR | FLAT | DPL(3)) },
		{ SEL_DATA3, descriptor(0, 0xfffff, DATA_ATTR | FLAT | DPL(3)) },
		{ SEL_CODE64, descriptor(0, 0xfffff, CODE_ATTR | SEG_G | SEG_L) },
		{ SEL_CODE64_3, descriptor(0, 0xfffff, CODE_ATTR | SEG_G | SEG_L | DPL(3)) },
		{ SEL_CODE16, descriptor(GUEST_CODE, 0xffff, CODE_ATTR) },
		{ SEL_DATA16, descriptor(0, 0xffff, DATA_ATTR) },
		{ SEL_TSS, descriptor(TSS, TSS_LIMIT, SEG_P | 11) },
		{ SEL_LDT, descriptor(LDT, 0xff, SEG_P | 2) },
		{ SEL_TSS2, descriptor(TSS2, 0x67, SEG_P | (any(g) & 1 ? 9 : 1)) },
		{ SEL_GATE, gate(is_long(g) ? SEL_CODE64 : SEL_CODE0, code_address(g),
				    SEG_P | DPL(3) | 12, any(g) & 31) },
		{ SEL_TASK_GATE, gate(SEL_TSS2, 0, SEG_P | DPL(3) | 5, 0) },
		{ SEL_CONFORMING, descriptor(0, 0xfffff, CODE_ATTR | SEG_DC | FLAT) },
		{ SEL_DOWN, descriptor(0, 0x7, DATA_ATTR | SEG_DC | FLAT | DPL(3)) },
		{ SEL_CODE16_3, descriptor(GUEST_CODE, 0xffff, CODE_ATTR | DPL(3)) },
		{ SEL_DATA16_3, descriptor(0, 0xffff, DATA_ATTR | DPL(3)) },
	};

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
		put_le64(g->ram + GDT + rows[i].selector, rows[i].value);
	for (unsigned i = 1; i < GDT_ENTRIES; i++) {
		if (one_in(g, 16))
			put_le64(g->ram + GDT + 8 * i, any(g));
		put_le64(g->ram + LDT + 8 * i, any(g));
	}
}

static void make_idt(struct maker *g)
{
	static const u8 types[8] = { 14, 15, 14, 15, 14, 6, 7, 5 };

	for (unsigned v = 0; v < 256; v++) {
		unsigned type = types[any(g) & (is_long(g) ? 3 : 7)];
		u64 attr = SEG_P | type | (one_in(g, 4) ? DPL(0) : DPL(3));
		u64 selector = type == 5    ? SEL_TSS2
			       : is_long(g) ? SEL_CODE64
			       : type < 8   ? SEL_CODE16
					    : SEL_CODE0;
		u64 low = gate(selector, code_address(g) - (type < 8 ? GUEST_CODE : 0), attr,
			one_in(g, 4) ? any(g) & 7 : 0);

		if (one_in(g, 16))
			low ^= 1ull << (any(g) & 63);
		if (is_real(g))
			put_le32(g->ram + 4 * v,
				(GUEST_CODE >> 4) << 16 | (code_address(g) & 0xffff));
		if (is_long(g)) {
			put_le64(g->ram + IDT + 16 * v, low);
			put_le64(g->ram + IDT + 16 * v + 8, one_in(g, 64) ? any(g) : 0);
		} else {
			put_le64(g->ram + IDT + 8 * v, low);
		}
	}
}

/* Stacks of the inner levels, for either form of TSS, and an I/O bitmap with holes. */
static void make_tss(struct maker *g)
{
	u8 *t = g->ram + TSS;

	if (is_long(g)) {
		for (unsigned i = 0; i < 10; i++)
			put_le64(t + 4 + 8 * i, one_in(g, 16) ? any(g) : STACK0 - 0x200 * i);
	} else {
		for (unsigned level = 0; level < 3; level++) {
			put_le32(t + 4 + 8 * level, STACK0 - 0x200 * level);
			put_le32(t + 8 + 8 * level, SEL_DATA0);
		}
	}
	put_le16(t + 0x66, one_in(g, 8) ? (u16)any(g) : IO_BITMAP);
	for (unsigned i = IO_BITMAP; i <= TSS_LIMIT; i++)
		t[i] = one_in(g, 4) ? (u8)any(g) : 0;

	/* The other task: 32-bit fields; as a 16-bit TSS it is merely odd. */
	u8 *other = g->ram + TSS2;
	put_le32(other + 0x1c, TABLES);
	put_le32(other + 0x20, code_address(g));
	put_le32(other + 0x24, (u32)(any(g) & 0x33cd5) | 2);
	for (unsigned i = 0x28; i < 0x48; i += 4)
		put_le32(other + i, STACK0 - 0x800);
	for (unsigned i = 0x48; i < 0x60; i += 4)
		put_le32(other + i, i == 0x4c ? SEL_CODE0 : SEL_DATA0);
}

/* ---- page tables ---- */

static u64 leaf(struct maker *g, u64 at, bool supervisor)
{
	u64 e = at | 0x67; /* present, writable, user, accessed, dirty */

	if (supervisor && at < DATA)
		e &= ~4ull;
	if (one_in(g, 8))
		e ^= 1ull << (any(g) % 9);
	if (one_in(g, 64))
		e ^= 1ull << (any(g) & 63);
	return e;
}

/* Linear addresses repeat the first 2 MiB (4 MiB without PAE), as small and as large pages. */
static void make_tables_wide(struct maker *g)
{
	u8 *pml4 = g->ram + TABLES, *pdpt = pml4 + 0x1000, *pd = pml4 + 0x2000, *pt = pml4 + 0x3000;
	bool supervisor = !g->cpl && one_in(g, 2);

	for (unsigned i = 0; i < 512; i++) {
		put_le64(pt + 8 * i, leaf(g, i * PAGE_SIZE, supervisor));
		put_le64(pd + 8 * i,
			i % 4 == 0 ? TABLES + 0x3007 : leaf(g, 0x80 | (any(g) & 0x100), false));
	}
	if (g->mode == GUEST_PAE) {
		for (unsigned i = 0; i < 4; i++)
			put_le64(pml4 + 8 * i, one_in(g, 32) ? any(g) : TABLES + 0x2001);
		return;
	}
	for (unsigned i = 0; i < 512; i++) {
		put_le64(pml4 + 8 * i, TABLES + 0x1007);
		put_le64(pdpt + 8 * i, i % 3 == 0 ? TABLES + 0x2007 : leaf(g, 0x80, false));
	}
}

static void make_tables_narrow(struct maker *g)
{
	u8 *pd = g->ram + TABLES, *pt = pd + 0x1000;
	bool supervisor = !g->cpl && one_in(g, 2);

	for (unsigned i = 0; i < 1024; i++) {
		put_le32(pt + 4 * i, (u32)leaf(g, i * PAGE_SIZE, supervisor));
		put_le32(pd + 4 * i, i % 4 == 0 ? TABLES + 0x1007 : (u32)leaf(g, 0x80, false));
	}
}

/* ---- the processor ---- */

static void set_segments(struct maker *g)
{
	struct x86_state *s = g->s;
	u32 dpl = DPL(g->cpl);
	struct x86_seg code = { SEL_CODE0, CODE_ATTR | FLAT, 0xffffffff, 0 };
	struct x86_seg data = { SEL_DATA0, DATA_ATTR | FLAT, 0xffffffff, 0 };

	if (g->mode == GUEST_LONG)
		code = (struct x86_seg){ SEL_CODE64, CODE_ATTR | SEG_G | SEG_L, 0xffffffff, 0 };
	if (g->mode == GUEST_PROT16) {
		code = (struct x86_seg){ SEL_CODE16, CODE_ATTR, 0xffff, GUEST_CODE };
		data = (struct x86_seg){ SEL_DATA16, DATA_ATTR, 0xffff, 0 };
	}
	if (is_real(g) || g->mode == GUEST_V86) {
		code = (struct x86_seg){ GUEST_CODE >> 4, CODE_ATTR, 0xffff, GUEST_CODE };
		data = (struct x86_seg){ 0, DATA_ATTR,
			g->mode == GUEST_BIG_REAL ? 0xffffffff : 0xffff, 0 };
		if (g->mode == GUEST_V86)
			code.attr = data.attr = DATA_ATTR | DPL(3);
	} else if (g->cpl == 3) {
		/* The level-3 descriptors follow those of level 0, or begin at 0x98. */
		code.selector = (u16)((g->mode == GUEST_PROT16	      ? SEL_CODE16_3
					      : g->mode == GUEST_LONG ? SEL_CODE64_3
								      : SEL_CODE3) |
				      3);
		data.selector = (u16)((g->mode == GUEST_PROT16 ? SEL_DATA16_3 : SEL_DATA3) | 3);
		code.attr |= dpl;
		data.attr |= dpl;
	}
	for (unsigned i = X86_ES; i <= X86_GS; i++)
		s->seg[i] = i == X86_CS ? code : data;
	if (one_in(g, 2))
		s->seg[X86_FS].base = any(g) % GUEST_RAM;
	if (g->mode == GUEST_LONG && one_in(g, 2))
		s->seg[X86_GS].base = 0xffff800000000000 | any(g) % GUEST_RAM;
	s->seg[X86_TR] = (struct x86_seg){ SEL_TSS, SEG_P | 11, TSS_LIMIT, TSS };
	s->seg[X86_LDTR] = (struct x86_seg){ SEL_LDT, SEG_P | 2, 0xff, LDT };
	s->gdt = (struct x86_table){ GDT, GDT_ENTRIES * 8 - 1 };
	s->idt = (struct x86_table){ is_real(g) ? 0 : IDT, 0xfff };
	s->rip = code.base ? 0 : GUEST_CODE;
}

static void set_control(struct maker *g)
{
	const u64 simd = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
	struct x86_state *s = g->s;

	s->cr0 = CR0_ET | CR0_NE | (any(g) & (CR0_WP | CR0_AM | CR0_MP));
	if (one_in(g, 8))
		s->cr0 |= any(g) & (CR0_TS | CR0_EM);
	s->cr4 = (simd | (any(g) & g->model->cr4_mask)) & g->model->cr4_mask &
		 ~(CR4_PAE | CR4_PCIDE);
	if (one_in(g, 8))
		s->cr4 &= ~simd;
	s->efer = EFER_SCE | (any(g) & EFER_NXE);
	s->xcr0 = g->model->xcr0_mask;
	if (one_in(g, 4))
		s->xcr0 = XCR0_X87 | (any(g) & 1 ? XCR0_SSE : 0);
	if (!is_real(g))
		s->cr0 |= CR0_PE;
	if (g->mode >= GUEST_PAGED32) {
		s->cr0 |= CR0_PG;
		s->cr3 = TABLES;
	}
	if (g->mode == GUEST_PAGED32)
		s->cr4 |= CR4_PSE;
	if (g->mode >= GUEST_PAE)
		s->cr4 |= CR4_PAE;
	if (is_long(g)) {
		s->efer |= EFER_LME | EFER_LMA;
		s->cr4 |= any(g) & g->model->cr4_mask & CR4_PCIDE;
	}
}

/* Registers point into memory more often than not. */
static void set_registers(struct maker *g)
{
	struct x86_state *s = g->s;

	for (unsigned i = 0; i < X86_GPRS; i++)
		s->gpr[i] = one_in(g, 4) ? any(g) : any(g) % GUEST_RAM;
	s->gpr[RCX] = one_in(g, 2) ? any(g) & 0xff : s->gpr[RCX];
	s->gpr[RSP] = g->cpl ? STACK3 : STACK0;
	s->rflags = FLAG_ONE |
		    (any(g) & (FLAGS_STATUS | FLAG_IF | FLAG_DF | FLAG_IOPL | FLAG_AC | FLAG_ID));
	if (g->mode == GUEST_V86)
		s->rflags |= FLAG_VM;
	if (one_in(g, 16))
		s->rflags |= any(g) & (FLAG_TF | FLAG_RF | FLAG_NT);
	for (unsigned i = 0; i < sizeof(s->fpu.zmm); i++)
		((u8 *)s->fpu.zmm)[i] = (u8)any(g);
	for (unsigned i = 0; i < 8; i++)
		s->fpu.k[i] = any(g);
	s->fpu.mxcsr = one_in(g, 4) ? (u32)any(g) & g->model->mxcsr_mask : MXCSR_RESET;
	s->fpu.fcw = one_in(g, 4) ? (u16)(any(g) & 0x1f3f) : 0x37f;
	s->fpu.ftw = (u8)any(g);
	if (!one_in(g, 8))
		return;
	for (unsigned i = 0; i < 4; i++)
		s->dr[i] = any(g) % GUEST_RAM;
	s->dr7 = (any(g) & 0xffff23ff) | 0x400;
}

static void set_msrs(struct maker *g)
{
	struct x86_state *s = g->s;

	s->star = (u64)SEL_CODE3 << 48 | (u64)SEL_CODE64 << 32 | GUEST_CODE;
	s->lstar = code_address(g);
	s->cstar = code_address(g);
	s->sfmask = any(g) & 0xffffffff;
	s->sysenter_cs = SEL_CODE0;
	s->sysenter_esp = STACK0;
	s->sysenter_eip = code_address(g);
	s->kernel_gs_base = any(g) % GUEST_RAM;
}

void guest_make(u8 *ram, struct x86_state *s, const struct x86_model *model, enum guest_mode mode,
	unsigned cpl, u64 *random)
{
	struct maker g = { ram, s, model, mode, mode == GUEST_V86 ? 3 : cpl, random };

	if (is_real(&g))
		g.cpl = 0;
	memset(ram, 0, GUEST_CODE);
	for (unsigned i = DATA; i < GUEST_RAM; i += 8)
		put_le64(ram + i, any(&g));
	make_gdt(&g);
	make_tss(&g);
	make_idt(&g);
	if (mode == GUEST_PAGED32)
		make_tables_narrow(&g);
	else if (mode > GUEST_PAGED32)
		make_tables_wide(&g);
	set_control(&g);
	set_registers(&g);
	set_segments(&g);
	set_msrs(&g);
}
