/*
 * A tiny machine for tests of x86/: RAM is an array, linear accesses go through x86_translate(),
 * ports and device MSRs answer zeros and "no such MSR". fake_protected(), fake_long(), fake_v86()
 * and fake_real() put the processor into a mode with tables, stacks and a TSS at the addresses
 * below.
 */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "x86/cpu.h"
#include "x86/cpuid.h"
#include "x86/mode.h"
#include "x86/paging.h"

#define FAKE_RAM       (1 * MiB)
#define FAKE_GDT       0x1000u
#define FAKE_IDT       0x2000u
#define FAKE_TSS       0x3000u
#define FAKE_TSS2      0x4000u
#define FAKE_LDT       0x5000u
#define FAKE_SP3       0x8000u /* where the stack of CPL 3 and of real mode begins */
#define FAKE_SP0       0x9000u
#define FAKE_SP1       0xa000u
#define FAKE_IST1      0xb008u /* not a multiple of 16, on purpose */
#define FAKE_CODE      0xc000u
#define FAKE_PML4      0x10000u
#define FAKE_SIGNATURE 0x000306a9u /* CPUID.1:EAX */
#define FAKE_1G_PAGES  BIT(26)	   /* CPUID.80000001:EDX */
#define FAKE_SLOTS     64u	   /* descriptors the GDT has room for */

/* Selectors; or in the RPL. */
enum {
	SEL_CODE0 = 0x08,
	SEL_DATA0 = 0x10,
	SEL_CODE3 = 0x18,
	SEL_DATA3 = 0x20,
	SEL_CODE64 = 0x28,
	SEL_CODE64_3 = 0x30,
	SEL_CODE16 = 0x38,
	SEL_DATA16 = 0x40,
	SEL_TSS = 0x48, /* and 0x50 in long mode */
	SEL_LDT = 0x58, /* and 0x60 */
	SEL_CONFORMING = 0x68,
	SEL_TSS2 = 0x70,
	SEL_CODE1 = 0x78,
	SEL_DATA1 = 0x80,
	SEL_ABSENT = 0x88,
	SEL_ABSENT_CODE = 0x90,
	SEL_DATA16_3 = 0x98,
	SEL_READONLY = 0xa0,
	SEL_EXECUTE_ONLY = 0xa8,
	SEL_FREE = 0xb0, /* tests put theirs here and after */
};

/* Attributes as in struct x86_seg, DPL apart. */
#define A_DATA	 (SEG_P | SEG_S | SEG_RW | SEG_DB | SEG_G)
#define A_CODE	 (A_DATA | SEG_CODE)
#define A_CODE64 (SEG_P | SEG_S | SEG_RW | SEG_CODE | SEG_L | SEG_G)
#define A_DPL(n) ((u32)(n) << 5)

struct fake {
	struct x86_cpu cpu;
	struct x86_model model;
	u8 *ram;
	unsigned mode_changes, flushes;
	/* Called before a compare-and-swap, to play another processor; false: the swap fails. */
	bool (*before_cas)(struct fake *f, gpa_t at);
};

static inline struct fake *fake_of(struct x86_cpu *cpu) { return cpu->ctx; }

static inline u64 fake_get(const struct fake *f, u64 at, unsigned size)
{
	u64 v = 0;

	if (range_ok(at, size, FAKE_RAM))
		memcpy(&v, f->ram + at, size);
	else
		memset(&v, 0xff, size);
	return v;
}

static inline void fake_put(struct fake *f, u64 at, unsigned size, u64 value)
{
	if (range_ok(at, size, FAKE_RAM))
		memcpy(f->ram + at, &value, size);
}

/* --- ops -------------------------------------------------------------------------------------- */

static inline int fake_access(struct x86_cpu *cpu, gva_t at, u8 *buf, unsigned len, unsigned access)
{
	struct fake *f = fake_of(cpu);
	struct x86_xlat x[2];
	unsigned first = (unsigned)min_u64(len, PAGE_SIZE - (at.v & PAGE_MASK));

	TRY(x86_translate(cpu, at, access, &x[0]));
	if (first < len)
		TRY(x86_translate(cpu, gva(at.v + first), access, &x[1]));
	for (unsigned i = 0; i < len; i++) {
		u64 to = i < first ? x[0].gpa.v + i : x[1].gpa.v + i - first;

		if (access & ACCESS_WRITE)
			fake_put(f, to, 1, buf[i]);
		else
			buf[i] = (u8)fake_get(f, to, 1);
	}
	return X86_OK;
}

static inline int fake_load(struct x86_cpu *cpu, gva_t at, void *buf, unsigned len, unsigned access)
{
	return fake_access(cpu, at, buf, len, access);
}

static inline int fake_store(
	struct x86_cpu *cpu, gva_t at, const void *buf, unsigned len, unsigned access)
{
	u8 copy[PAGE_SIZE];

	memcpy(copy, buf, len);
	return fake_access(cpu, at, copy, len, access | ACCESS_WRITE);
}

static inline u64 fake_phys_load(struct x86_cpu *cpu, gpa_t at, unsigned size)
{
	return fake_get(fake_of(cpu), at.v, size);
}

static inline bool fake_phys_cas(struct x86_cpu *cpu, gpa_t at, u64 old, u64 new, unsigned size)
{
	struct fake *f = fake_of(cpu);

	if (f->before_cas && !f->before_cas(f, at))
		return false;
	if (!range_ok(at.v, size, FAKE_RAM) || fake_get(f, at.v, size) != old)
		return false;
	fake_put(f, at.v, size, new);
	return true;
}

static inline bool fake_phys_store(struct x86_cpu *cpu, gpa_t at, const void *buf, unsigned len)
{
	if (!range_ok(at.v, len, FAKE_RAM))
		return false;
	memcpy(fake_of(cpu)->ram + at.v, buf, len);
	return true;
}

static inline void fake_flush(struct x86_cpu *cpu, enum x86_flush kind, u64 at, unsigned pcid)
{
	fake_of(cpu)->flushes++;
}
static inline void fake_mode_changed(struct x86_cpu *cpu) { fake_of(cpu)->mode_changes++; }
static inline u32 fake_port_in(struct x86_cpu *cpu, u16 port, unsigned size) { return 0; }
static inline void fake_port_out(struct x86_cpu *cpu, u16 port, unsigned size, u32 value) {}
static inline bool fake_msr_read(struct x86_cpu *cpu, u32 index, u64 *value) { return false; }
static inline bool fake_msr_write(struct x86_cpu *cpu, u32 index, u64 value) { return false; }
static inline u64 fake_cr8_read(struct x86_cpu *cpu) { return 0; }
static inline void fake_cr8_write(struct x86_cpu *cpu, u64 value) {}
static inline u64 fake_host_tsc(struct x86_cpu *cpu) { return 1000; }

static const struct x86_ops fake_ops = {
	.load = fake_load,
	.store = fake_store,
	.phys_load = fake_phys_load,
	.phys_cas = fake_phys_cas,
	.phys_store = fake_phys_store,
	.flush = fake_flush,
	.mode_changed = fake_mode_changed,
	.port_in = fake_port_in,
	.port_out = fake_port_out,
	.msr_read = fake_msr_read,
	.msr_write = fake_msr_write,
	.cr8_read = fake_cr8_read,
	.cr8_write = fake_cr8_write,
	.host_tsc = fake_host_tsc,
};

/* --- descriptors ------------------------------------------------------------------------------ */

/* limit is in units of the descriptor's granularity. */
static inline void fake_desc(struct fake *f, u16 selector, u64 base, u32 limit, u32 attr)
{
	u64 at = (selector & 4 ? FAKE_LDT : FAKE_GDT) + (selector & 0xfff8u);

	fake_put(f, at, 4, (limit & 0xffff) | (base & 0xffff) << 16);
	fake_put(f, at + 4, 4,
		(base >> 16 & 0xff) | (attr & 0xf0ff) << 8 | (limit & 0xf0000) |
			(base & 0xff000000));
}

/* A long-mode system descriptor's second half. */
static inline void fake_desc_upper(struct fake *f, u16 selector, u64 base)
{
	fake_put(f, FAKE_GDT + (selector & 0xfff8u) + 8, 8, base >> 32);
}

/* A gate at a linear address; extra: parameter count or IST. */
static inline void fake_gate(
	struct fake *f, u64 at, u16 selector, u64 offset, u32 attr, unsigned extra)
{
	fake_put(f, at, 4, (offset & 0xffff) | (u32)selector << 16);
	fake_put(f, at + 4, 4, (offset & 0xffff0000) | (attr & 0xff) << 8 | extra);
}

static inline void fake_idt32(struct fake *f, u8 vector, u16 selector, u32 offset, u32 attr)
{
	fake_gate(f, FAKE_IDT + vector * 8u, selector, offset, attr, 0);
}

static inline void fake_idt64(
	struct fake *f, u8 vector, u16 selector, u64 offset, u32 attr, unsigned ist)
{
	fake_gate(f, FAKE_IDT + vector * 16u, selector, offset, attr, ist);
	fake_put(f, FAKE_IDT + vector * 16u + 8, 8, offset >> 32);
}

static inline void fake_gdt(struct fake *f)
{
	fake_desc(f, SEL_CODE0, 0, 0xfffff, A_CODE);
	fake_desc(f, SEL_DATA0, 0, 0xfffff, A_DATA);
	fake_desc(f, SEL_CODE3, 0, 0xfffff, A_CODE | A_DPL(3));
	fake_desc(f, SEL_DATA3, 0, 0xfffff, A_DATA | A_DPL(3));
	fake_desc(f, SEL_CODE64, 0, 0xfffff, A_CODE64);
	fake_desc(f, SEL_CODE64_3, 0, 0xfffff, A_CODE64 | A_DPL(3));
	fake_desc(f, SEL_CODE16, 0, 0xffff, A_CODE & ~(SEG_DB | SEG_G));
	fake_desc(f, SEL_DATA16, 0, 0xffff, A_DATA & ~(SEG_DB | SEG_G));
	fake_desc(f, SEL_CONFORMING, 0, 0xfffff, A_CODE | SEG_DC);
	fake_desc(f, SEL_CODE1, 0, 0xfffff, A_CODE | A_DPL(1));
	fake_desc(f, SEL_DATA1, 0, 0xfffff, A_DATA | A_DPL(1));
	fake_desc(f, SEL_ABSENT, 0, 0xfffff, (A_DATA & ~SEG_P) | A_DPL(3));
	fake_desc(f, SEL_ABSENT_CODE, 0, 0xfffff, A_CODE & ~SEG_P);
	fake_desc(f, SEL_DATA16_3, 0, 0xffff, (A_DATA & ~(SEG_DB | SEG_G)) | A_DPL(3));
	fake_desc(f, SEL_READONLY, 0, 0xfffff, A_DATA & ~SEG_RW);
	fake_desc(f, SEL_EXECUTE_ONLY, 0, 0xfffff, A_CODE & ~SEG_RW);
	fake_desc(f, SEL_TSS, FAKE_TSS, 0xfff, SEG_P | 11);
	fake_desc(f, SEL_LDT, FAKE_LDT, 0xff, SEG_P | 2);
	fake_desc(f, SEL_TSS2, FAKE_TSS2, 0x67, SEG_P | 9);
}

/* --- the machine and its modes ---------------------------------------------------------------- */

/* The model's answer for a leaf, made when it has none yet. */
static inline struct x86_cpuid *fake_leaf(struct fake *f, u32 leaf)
{
	struct x86_model *m = &f->model;

	for (unsigned i = 0; i < m->count; i++)
		if (m->leaf[i].leaf == leaf)
			return &m->leaf[i].value;
	m->leaf[m->count].leaf = leaf;
	return &m->leaf[m->count++].value;
}

static inline struct fake *fake_new(void)
{
	struct fake *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->ram = calloc(1, FAKE_RAM);
	assert_non_null(f->ram);
	f->model.phys_bits = 40;
	f->model.mxcsr_mask = 0xffff;
	f->model.tsc_hz = 1000000000;
	f->model.topology = x86_topology_flat(1);
	fake_leaf(f, 0)->eax = 1;
	fake_leaf(f, 1)->eax = FAKE_SIGNATURE;
	fake_leaf(f, 0x80000000)->eax = 0x80000001;
	fake_leaf(f, 0x80000001)->edx = FAKE_1G_PAGES;
	f->cpu.ops = &fake_ops;
	f->cpu.model = &f->model;
	f->cpu.ctx = f;
	x86_reset(&f->cpu);
	return f;
}

static inline void fake_free(struct fake *f)
{
	free(f->ram);
	free(f);
}

static inline struct x86_seg fake_seg(u16 selector, u32 attr)
{
	return (struct x86_seg){ selector, attr | SEG_ACCESSED | A_DPL(selector & 3), 0xffffffff,
		0 };
}

/* Real mode at FAKE_CODE with the vector table at 0. */
static inline void fake_real(struct fake *f)
{
	x86_reset(&f->cpu);
	f->cpu.s.seg[X86_CS].selector = 0;
	f->cpu.s.seg[X86_CS].base = 0;
	f->cpu.s.rip = FAKE_CODE;
	f->cpu.s.gpr[RSP] = FAKE_SP3;
}

/* What protected and long mode have in common. */
static inline void fake_tables(struct fake *f, unsigned cpl)
{
	struct x86_state *s = &f->cpu.s;

	x86_reset(&f->cpu);
	fake_gdt(f);
	s->gdt = (struct x86_table){ FAKE_GDT, FAKE_SLOTS * 8 - 1 };
	s->idt = (struct x86_table){ FAKE_IDT, 0xfff };
	s->seg[X86_TR] = (struct x86_seg){ SEL_TSS, SEG_P | 11, 0xfff, FAKE_TSS };
	s->seg[X86_LDTR] = (struct x86_seg){ SEL_LDT, SEG_P | 2, 0xff, FAKE_LDT };
	s->cr0 |= CR0_PE | CR0_WP;
	s->rip = FAKE_CODE;
	s->gpr[RSP] = cpl == 3 ? FAKE_SP3 : cpl == 1 ? FAKE_SP1 : FAKE_SP0;
	s->rflags = FLAG_ONE | FLAG_IF;
}

static inline void fake_data_segments(struct fake *f, unsigned cpl)
{
	u16 data = (u16)((cpl == 3 ? SEL_DATA3 : cpl == 1 ? SEL_DATA1 : SEL_DATA0) | cpl);
	struct x86_state *s = &f->cpu.s;

	s->seg[X86_SS] = s->seg[X86_DS] = s->seg[X86_ES] = fake_seg(data, A_DATA);
	s->seg[X86_FS] = s->seg[X86_GS] = fake_seg(data, A_DATA);
}

/* 32-bit protected mode without paging; cpl 0, 1 or 3. */
static inline void fake_protected(struct fake *f, unsigned cpl)
{
	u16 code = (u16)((cpl == 3 ? SEL_CODE3 : cpl == 1 ? SEL_CODE1 : SEL_CODE0) | cpl);

	fake_tables(f, cpl);
	fake_data_segments(f, cpl);
	f->cpu.s.seg[X86_CS] = fake_seg(code, A_CODE);
	fake_put(f, FAKE_TSS + 4, 4, FAKE_SP0);
	fake_put(f, FAKE_TSS + 8, 2, SEL_DATA0);
	fake_put(f, FAKE_TSS + 12, 4, FAKE_SP1);
	fake_put(f, FAKE_TSS + 16, 2, SEL_DATA1 | 1);
	fake_put(f, FAKE_TSS + 102, 2, 0x88); /* I/O bitmap, after a redirection bitmap at 0x68 */
}

/* All of RAM mapped one to one, for everybody, with a 2 MiB page. */
static inline void fake_identity_map(struct fake *f)
{
	fake_put(f, FAKE_PML4, 8, (FAKE_PML4 + 0x1000) | 7);
	fake_put(f, FAKE_PML4 + 0x1000, 8, (FAKE_PML4 + 0x2000) | 7);
	fake_put(f, FAKE_PML4 + 0x2000, 8, 0x80 | 7);
}

/* 64-bit mode; cpl 0 or 3. */
static inline void fake_long(struct fake *f, unsigned cpl)
{
	struct x86_state *s = &f->cpu.s;

	fake_tables(f, cpl);
	fake_data_segments(f, cpl);
	s->seg[X86_CS] = fake_seg((u16)((cpl ? SEL_CODE64_3 : SEL_CODE64) | cpl), A_CODE64);
	fake_identity_map(f);
	s->cr0 |= CR0_PG;
	s->cr3 = FAKE_PML4;
	s->cr4 = CR4_PAE;
	s->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
	fake_desc_upper(f, SEL_TSS, FAKE_TSS);
	fake_desc_upper(f, SEL_LDT, FAKE_LDT);
	fake_put(f, FAKE_TSS + 4, 8, FAKE_SP0);
	fake_put(f, FAKE_TSS + 12, 8, FAKE_SP1);
	fake_put(f, FAKE_TSS + 36, 8, FAKE_IST1);
}

/* Virtual-8086 mode with the given IOPL, tables as in fake_protected(). */
static inline void fake_v86(struct fake *f, unsigned iopl)
{
	struct x86_state *s = &f->cpu.s;

	fake_protected(f, 3);
	for (unsigned i = X86_ES; i <= X86_GS; i++)
		s->seg[i] = (struct x86_seg){ (u16)(0x10 * i), 0xf3, 0xffff, 0x100u * i };
	s->rflags |= FLAG_VM | (u64)iopl << 12;
	s->rip = 0x20;
	s->gpr[RSP] = 0x7000;
}

/* --- assertions ------------------------------------------------------------------------------- */

/* Assignments of structures may leave anything in their padding. */
static inline void fake_clear_padding(struct x86_state *s)
{
	for (unsigned i = 0; i < X86_SEGS; i++) {
		struct x86_seg seg = s->seg[i], *to = &s->seg[i];

		memset(to, 0, sizeof(*to));
		to->selector = seg.selector;
		to->attr = seg.attr;
		to->limit = seg.limit;
		to->base = seg.base;
	}
}

#define assert_same_state(a, b)                            \
	do {                                               \
		struct x86_state a_ = *(a), b_ = *(b);     \
		fake_clear_padding(&a_);                   \
		fake_clear_padding(&b_);                   \
		assert_memory_equal(&a_, &b_, sizeof(a_)); \
	} while (0)

#define assert_ok(call) assert_int_equal((call), X86_OK)

/* The call faults with this vector and error code and leaves the state as it was. */
#define assert_fault(f, call, expect_vector, expect_error)              \
	do {                                                            \
		struct x86_state before_ = (f)->cpu.s;                  \
		assert_int_equal((call), X86_FAULT);                    \
		assert_int_equal((f)->cpu.fault.vector, expect_vector); \
		assert_int_equal((f)->cpu.fault.error, expect_error);   \
		assert_same_state(&before_, &(f)->cpu.s);               \
	} while (0)

/* xorshift64*, so that runs are the same everywhere. */
static inline u64 fake_random(u64 *seed)
{
	*seed ^= *seed >> 12;
	*seed ^= *seed << 25;
	*seed ^= *seed >> 27;
	return *seed * 0x2545f4914f6cdd1dull;
}
