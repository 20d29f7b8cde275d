/* A processor and 2 MiB of RAM under the kvm engine; programs are a few bytes of machine code at
 * PROGRAM. What the guest does outside is noted. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* needs the above */

#include "base/bits.h"
#include "cpu/kvm/kvm.h"
#include "cpu/kvm/options.h"
#include "os/tsc.h"
#include "x86/mode.h"
#include <unistd.h>

#define RAM	(2 * MiB)
#define PROGRAM 0x1000u
#define DATA	0x4000u
#define PML4	0x10000u
#define ROM_AT	(16 * MiB)
#define MMIO_AT 0xd0000000ull

struct machine {
	struct vcpu v;
	struct memory memory;
	struct x86_model model;
	u8 *ram;
	/* what the guest did outside */
	struct {
		u64 at, value;
		unsigned size;
		bool write;
	} log[64];
	unsigned logged;
	u8 eoi; /* the last one told */
	unsigned eois;
	int interrupt; /* the next one, -1: none */
	u64 cr8;
};

static inline void note(struct machine *m, u64 at, unsigned size, bool write, u64 value)
{
	if (m->logged < ARRAY_LEN(m->log)) {
		m->log[m->logged].at = at;
		m->log[m->logged].size = size;
		m->log[m->logged].write = write;
		m->log[m->logged++].value = value;
	}
}

static inline int op_interrupt(void *ctx, struct vcpu *v)
{
	struct machine *m = ctx;
	int vector = m->interrupt;

	m->interrupt = -1;
	return vector;
}
static inline u64 op_port_in(void *ctx, struct vcpu *v, u16 port, unsigned size)
{
	note(ctx, port, size, false, 0);
	return 0x1122334455667788ull & mask_bytes(size);
}
static inline void op_port_out(void *ctx, struct vcpu *v, u16 port, unsigned size, u32 value)
{
	note(ctx, port, size, true, value);
}
static inline u64 op_mmio_read(void *ctx, struct vcpu *v, gpa_t at, unsigned size)
{
	note(ctx, at.v, size, false, 0);
	return 0xa1a2a3a4a5a6a7a8ull & mask_bytes(size);
}
static inline void op_mmio_write(void *ctx, struct vcpu *v, gpa_t at, unsigned size, u64 value)
{
	note(ctx, at.v, size, true, value);
}
static inline bool op_msr_read(void *ctx, struct vcpu *v, u32 index, u64 *value)
{
	note(ctx, index, 8, false, 0);
	*value = 0xfee00900;
	return index == 0x1b;
}
static inline bool op_msr_write(void *ctx, struct vcpu *v, u32 index, u64 value)
{
	note(ctx, index, 8, true, value);
	return index == 0x1b || index == 0x6e0 || index == 0x80b;
}
static inline u64 op_cr8_read(void *ctx, struct vcpu *v) { return ((struct machine *)ctx)->cr8; }
static inline void op_cr8_write(void *ctx, struct vcpu *v, u64 value)
{
	((struct machine *)ctx)->cr8 = value;
}

static inline void op_eoi(void *ctx, struct vcpu *v, u8 vector)
{
	((struct machine *)ctx)->eoi = vector;
	((struct machine *)ctx)->eois++;
}

static const struct vcpu_ops test_ops = {
	.interrupt = op_interrupt,
	.port_in = op_port_in,
	.port_out = op_port_out,
	.mmio_read = op_mmio_read,
	.mmio_write = op_mmio_write,
	.msr_read = op_msr_read,
	.msr_write = op_msr_write,
	.cr8_read = op_cr8_read,
	.cr8_write = op_cr8_write,
	.eoi = op_eoi,
};

/* ---- the machine and its modes ---- */

/* A machine whose local APICs are in user space, unless `options` says otherwise; skips the test
 * where KVM does not open. */
static inline struct machine *machine_with(u32 options)
{
	struct machine *m = aligned_alloc(64, align_up(sizeof(*m), 64));
	struct err err = { 0 };

	assert_non_null(m);
	memset(m, 0, sizeof(*m));
	memory_init(&m->memory);
	struct memory_region *ram = memory_add_region(&m->memory, "ram", RAM, false, &err);
	struct memory_region *rom = memory_add_region(&m->memory, "rom", PAGE_SIZE, true, &err);
	assert_non_null(ram);
	assert_non_null(rom);
	assert_int_equal(memory_add_slot(&m->memory, ram, gpa(0), 0, RAM, &err), 0);
	assert_int_equal(memory_add_slot(&m->memory, rom, gpa(ROM_AT), 0, PAGE_SIZE, &err), 0);
	memset(rom->host, 0x5c, PAGE_SIZE);
	x86_model_build(&m->model, x86_native_cpuid, tsc_hz(), &(struct x86_topology){ 1, 1, 1 });
	m->ram = ram->host;
	m->interrupt = -1;
	m->v.engine = &kvm_engine;
	m->v.engine_options = options;
	m->v.memory = &m->memory;
	m->v.ops = &test_ops;
	m->v.ops_ctx = m;
	m->v.x86.model = &m->model;
	if (access("/dev/kvm", R_OK | W_OK) || kvm_engine.open(&m->v, &err)) {
		print_message("%s\n", err.text);
		memory_fini(&m->memory);
		free(m);
		skip();
	}
	x86_reset(&m->v.x86);
	return m;
}

static inline struct machine *machine_new(void) { return machine_with(KVM_OPTION_USER_IRQCHIP); }

static inline void machine_free(struct machine *m)
{
	kvm_engine.close(&m->v);
	memory_fini(&m->memory);
	free(m);
}

static inline void enter_real(struct machine *m)
{
	struct x86_state *s = &m->v.x86.s;

	s->seg[X86_CS].selector = 0;
	s->seg[X86_CS].base = 0;
	s->rip = PROGRAM;
	s->gpr[RSP] = 0x8000;
}

static inline void flat(struct x86_state *s, u32 code_attr)
{
	for (unsigned i = X86_ES; i <= X86_GS; i++)
		s->seg[i] = (struct x86_seg){ 0x10, 0xc093, 0xffffffff, 0 };
	s->seg[X86_CS] = (struct x86_seg){ 0x08, code_attr, 0xffffffff, 0 };
	s->rip = PROGRAM;
	s->gpr[RSP] = 0x8000;
}

static inline void enter_protected(struct machine *m)
{
	m->v.x86.s.cr0 |= CR0_PE;
	flat(&m->v.x86.s, 0xc09b);
}

static inline void enter_long(struct machine *m)
{
	struct x86_state *s = &m->v.x86.s;

	put_le64(m->ram + PML4, (PML4 + 0x1000) | 7);
	put_le64(m->ram + PML4 + 0x1000, (PML4 + 0x2000) | 7);
	put_le64(m->ram + PML4 + 0x1018, (PML4 + 0x3000) | 7);
	put_le64(m->ram + PML4 + 0x2000, 0x87);
	put_le64(m->ram + PML4 + 0x2000 + 8 * 8, ROM_AT | 0x87);
	put_le64(m->ram + PML4 + 0x3000 + 128 * 8, MMIO_AT | 0x87);
	s->cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_NE;
	s->cr3 = PML4;
	s->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXSAVE;
	s->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
	flat(s, 0xa09b);
}

#define START(m, mode, ...)                                             \
	do {                                                            \
		static const u8 program_[] = { __VA_ARGS__ };           \
		enter_##mode(m);                                        \
		memcpy((m)->ram + PROGRAM, program_, sizeof(program_)); \
		push_ok(m);                                             \
	} while (0)

static inline void push_ok(struct machine *m)
{
	if (kvm_engine.push(&m->v))
		print_message("%s\n", m->v.error.text);
	assert_int_equal(m->v.error.code, 0);
}

static inline void run_to(struct machine *m, enum cpu_exit why)
{
	enum cpu_exit got = kvm_engine.run(&m->v);

	if (got != why)
		print_message("%s\n", m->v.error.text);
	assert_int_equal(got, why);
	assert_int_equal(kvm_engine.pull(&m->v), 0);
}
