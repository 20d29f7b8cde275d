/*
 * Trials in an engine: a vcpu in long mode at CPL 3 whose page tables show the window at the same
 * addresses as the native runner's, and a kernel that is 256 times HLT and IRETQ. Entry v of the
 * IDT points to the v-th, so the exception that ends a trial halts the vcpu with its number in RIP
 * and the rest in the frame on the kernel's stack; and after an interrupt, or a trap without an
 * error code, guest_go() goes on.
 *
 * Only the vcpu and engine interfaces are used: any engine can stand here.
 *
 * Physical memory: see the enum. The kernel half is one 2 MiB supervisor page over all of it.
 */
#include "cpu/vcpu.h"
#include "diff.h"
#include "os/tsc.h"
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/time.h>
#include <unistd.h>

enum {
	PML4_PA = 0x1000,
	PDPT_LOW_PA = 0x2000,
	PD_LOW_PA = 0x3000,
	PT_LOW_PA = 0x4000,
	PDPT_HIGH_PA = 0x5000,
	PD_HIGH_PA = 0x6000,
	GDT_PA = 0x7000,
	TSS_PA = 0x8000,
	IDT_PA = 0x9000,
	HALT_PA = 0xa000,
	STACK_PA = 0xb000, /* one page, used from its end */
	CODE_PA = 0x10000,
	DATA_PA = 0x18000,
	TEXT_PA = 0x20000,
	RAM_SIZE = 0x200000,
};
#define KERNEL_AT    0xffffffff80000000ull
#define PATIENCE_S   20 /* for a trial; it takes milliseconds at most */
#define HANDLER_SIZE 4u
#define HLT_IRETQ    0xcccf48f4u /* and an INT3 that is never reached */
#define GDT_ENTRIES  16u
#define KERNEL_CS    0x10u
#define TSS_SELECTOR 0x40u
#define TSS_LIMIT    0x67u

#define PTE_P	  BIT64(0)
#define PTE_W	  BIT64(1)
#define PTE_U	  BIT64(2)
#define PTE_A	  BIT64(5)
#define PTE_D	  BIT64(6)
#define PTE_PS	  BIT64(7)
#define PTE_NX	  BIT64(63)
#define PTE_TABLE (PTE_P | PTE_W | PTE_U | PTE_A)

struct guest {
	struct vcpu v;
	struct memory *memory;
	bool beside; /* the memory is another one's */
	struct x86_model model;
	u8 *ram;
	unsigned code_dirty_at, code_dirty_len; /* what the last trial put into CODE */
};

/* ---- the machine around the vcpu: nothing there ---- */

static int no_interrupt(void *ctx, struct vcpu *v) { return -1; }
static u64 no_port(void *ctx, struct vcpu *v, u16 port, unsigned size) { return ~0ull; }
static void no_port_out(void *ctx, struct vcpu *v, u16 port, unsigned size, u32 value) {}
static u64 no_mmio(void *ctx, struct vcpu *v, gpa_t at, unsigned size) { return ~0ull; }
static void no_mmio_out(void *ctx, struct vcpu *v, gpa_t at, unsigned size, u64 value) {}
static bool no_msr(void *ctx, struct vcpu *v, u32 index, u64 *value) { return false; }
static bool no_msr_out(void *ctx, struct vcpu *v, u32 index, u64 value) { return false; }
static u64 no_cr8(void *ctx, struct vcpu *v) { return 0; }
static void no_cr8_out(void *ctx, struct vcpu *v, u64 value) {}
static u64 no_clock(void *ctx, struct vcpu *v, u64 tsc) { return 0; }
static u64 no_wall(void *ctx, struct vcpu *v) { return 0; }

static const struct vcpu_ops nothing = {
	.interrupt = no_interrupt,
	.port_in = no_port,
	.port_out = no_port_out,
	.mmio_read = no_mmio,
	.mmio_write = no_mmio_out,
	.msr_read = no_msr,
	.msr_write = no_msr_out,
	.cr8_read = no_cr8,
	.cr8_write = no_cr8_out,
	.clock_ns = no_clock,
	.wall_ns = no_wall,
};

/* ---- tables ---- */

static void put(struct guest *g, u64 pa, u64 value) { put_le64(g->ram + pa, value); }

static void map_window(struct guest *g)
{
	unsigned index = CODE_AT >> PAGE_SHIFT & 511;

	_Static_assert(
		CODE_AT >> 21 == (TEXT_AT + TEXT_SIZE) >> 21, "one page table holds the window");
	put(g, PML4_PA, PDPT_LOW_PA | PTE_TABLE);
	put(g, PDPT_LOW_PA + 8 * (CODE_AT >> 30), PD_LOW_PA | PTE_TABLE);
	put(g, PD_LOW_PA + 8 * (CODE_AT >> 21 & 511), PT_LOW_PA | PTE_TABLE);
	for (unsigned i = 0; i < CODE_PAGES; i++)
		put(g, PT_LOW_PA + 8 * (index + i),
			(CODE_PA + i * PAGE_SIZE) | PTE_P | PTE_U | PTE_A);
	index = DATA_AT >> PAGE_SHIFT & 511;
	for (unsigned i = 0; i < DATA_PAGES; i++)
		put(g, PT_LOW_PA + 8 * (index + i),
			(DATA_PA + i * PAGE_SIZE) | PTE_P | PTE_U | PTE_A | PTE_NX |
				(i + 1 < DATA_PAGES ? PTE_W | PTE_D : 0));
	index = TEXT_AT >> PAGE_SHIFT & 511;
	for (unsigned i = 0; i < TEXT_PAGES; i++)
		put(g, PT_LOW_PA + 8 * (index + i),
			(TEXT_PA + i * PAGE_SIZE) | PTE_P | PTE_U | PTE_A | PTE_W | PTE_D);
}

static void map_kernel(struct guest *g)
{
	put(g, PML4_PA + 8 * 511, PDPT_HIGH_PA | PTE_TABLE);
	put(g, PDPT_HIGH_PA + 8 * 510, PD_HIGH_PA | PTE_TABLE);
	put(g, PD_HIGH_PA, PTE_P | PTE_W | PTE_A | PTE_D | PTE_PS);
}

/*
 * The same descriptors as Linux has for user code to load and inspect
 * (arch/x86/kernel/cpu/common.c), with the selector numbers of 64-bit kernels: LAR, LSL, VERR and
 * segment loads then agree.
 */
static void fill_gdt(struct guest *g)
{
	unsigned cpu = 0, node = 0;

	getcpu(&cpu, &node);
	u64 cpu_node = cpu | node << 12;
	static const u64 flat[GDT_ENTRIES] = {
		[1] = 0x00cf9b000000ffff,  /* kernel 32-bit code */
		[2] = 0x00af9b000000ffff,  /* kernel code */
		[3] = 0x00cf93000000ffff,  /* kernel data */
		[4] = 0x00cffb000000ffff,  /* user 32-bit code */
		[5] = 0x00cff3000000ffff,  /* user data */
		[6] = 0x00affb000000ffff,  /* user code */
		[15] = 0x0040f50000000000, /* per-processor number, as a limit */
	};

	for (unsigned i = 0; i < GDT_ENTRIES; i++)
		put(g, GDT_PA + 8 * i, flat[i]);
	put(g, GDT_PA + 8 * 15, flat[15] | (cpu_node & 0xffff) | (cpu_node >> 16 & 15) << 48);
	g->v.x86.s.tsc_aux = (u32)cpu_node;
}

static void fill_idt(struct guest *g)
{
	for (unsigned i = 0; i < 256; i++) {
		u64 handler = KERNEL_AT + HALT_PA + HANDLER_SIZE * i;
		u64 dpl = i == X86_BP || i == X86_OF ? 3 : 0;

		put(g, IDT_PA + 16 * i,
			(handler & 0xffff) | (u64)KERNEL_CS << 16 | (0x8e | dpl << 5) << 40 |
				(handler >> 16 & 0xffff) << 48);
		put(g, IDT_PA + 16 * i + 8, handler >> 32);
	}
	for (unsigned i = 0; i < 256; i++)
		put_le32(g->ram + HALT_PA + HANDLER_SIZE * i, HLT_IRETQ);
	put(g, TSS_PA + 4, KERNEL_AT + STACK_PA + PAGE_SIZE); /* RSP0 */
	put_le16(g->ram + TSS_PA + 102, TSS_LIMIT + 1);	      /* no I/O bitmap */
}

/* ---- the vcpu ---- */

static struct x86_seg flat_segment(unsigned selector)
{
	u32 attr = SEG_P | SEG_S | SEG_RW | SEG_ACCESSED | 3u << 5 | SEG_G;

	if (selector != USER_DS)
		attr |= SEG_CODE | (selector == USER64_CS ? SEG_L : SEG_DB);
	else
		attr |= SEG_DB;
	return (struct x86_seg){ .selector = (u16)selector, .attr = attr, .limit = 0xffffffff };
}

static void system_registers(struct guest *g)
{
	struct x86_state *s = &g->v.x86.s;

	s->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
	s->cr3 = PML4_PA;
	s->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
	if (getauxval(AT_HWCAP2) & BIT(1)) /* HWCAP2_FSGSBASE */
		s->cr4 |= CR4_FSGSBASE;
	s->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
	s->xcr0 = g->model.xcr0_mask;
	s->gdt = (struct x86_table){ KERNEL_AT + GDT_PA, 8 * GDT_ENTRIES - 1 };
	s->idt = (struct x86_table){ KERNEL_AT + IDT_PA, 0xfff };
	s->seg[X86_TR] =
		(struct x86_seg){ TSS_SELECTOR, SEG_P | 11, TSS_LIMIT, KERNEL_AT + TSS_PA };
	s->seg[X86_LDTR] = (struct x86_seg){ .attr = SEG_UNUSABLE };
}

static struct guest *running; /* for the alarm */

static void on_alarm(int sig)
{
	if (running)
		vcpu_post(&running->v, ATTN_STOP);
}

static void memory_free(struct memory *m)
{
	if (m)
		memory_fini(m);
	free(m);
}

static struct memory *memory_new(struct err *err)
{
	struct memory *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	memory_init(m);
	struct memory_region *ram = memory_add_region(m, "ram", RAM_SIZE, false, err);
	if (ram && !memory_add_slot(m, ram, gpa(0), 0, RAM_SIZE, err))
		return m;
	memory_free(m);
	return NULL;
}

/* A vcpu, in the memory of `with` or its own. */
static struct guest *new_guest(const struct cpu_engine *engine, u32 options, struct guest *with)
{
	struct guest *g = aligned_alloc(64, (sizeof(*g) + 63) & ~63ul);
	struct err err = { 0 };

	if (!g)
		return NULL;
	memset(g, 0, sizeof(*g));
	g->beside = with;
	g->memory = with ? with->memory : memory_new(&err);
	if (!g->memory)
		goto fail;
	g->ram = g->memory->regions[0].host;
	x86_model_build(&g->model, x86_native_cpuid, 1000000000, &(struct x86_topology){ 1, 1, 1 });
	g->v.engine = engine;
	g->v.engine_options = options;
	g->v.memory = g->memory;
	g->v.ops = &nothing;
	g->v.x86.model = &g->model;
	if (engine->open(&g->v, &err) < 0)
		goto fail;
	x86_reset(&g->v.x86);
	map_window(g);
	map_kernel(g);
	fill_gdt(g);
	fill_idt(g);
	memset(g->ram + CODE_PA, 0xcc, CODE_SIZE);
	memset(g->ram + TEXT_PA, 0xcc, TEXT_SIZE);
	system_registers(g);
	signal(SIGALRM, on_alarm);
	return g;
fail:
	fprintf(stderr, "guest: %s\n", err.text);
	if (!with)
		memory_free(g->memory);
	free(g);
	return NULL;
}

struct guest *guest_new(const struct cpu_engine *engine, u32 options)
{
	return new_guest(engine, options, NULL);
}

struct guest *guest_beside(struct guest *g)
{
	return new_guest(g->v.engine, g->v.engine_options, g);
}

void guest_free(struct guest *g)
{
	if (!g)
		return;
	g->v.engine->close(&g->v);
	if (!g->beside)
		memory_free(g->memory);
	free(g);
}

struct vcpu *guest_vcpu(struct guest *g) { return &g->v; }

/* ---- a trial ---- */

/* Writes what differs, so that code which was there before stays translated. */
static void set_code(struct guest *g, unsigned pa, const u8 *code, unsigned len)
{
	for (unsigned from = 0, to; from < len; from = to) {
		for (; from < len && g->ram[pa + from] == code[from]; from++)
			;
		for (to = from; to < len && g->ram[pa + to] != code[to]; to++)
			;
		for (unsigned at = from, n; at < to; at += n) {
			n = (unsigned)min_u64(to - at, PAGE_SIZE - (pa + at) % PAGE_SIZE);
			memcpy(g->ram + pa + at, code + at, n);
			memory_written(g->memory, gpa(pa + at), n);
		}
	}
}

static void place_routine(struct guest *g, const struct trial *t)
{
	u8 text[TEXT_SIZE];

	memset(text, 0xcc, sizeof(text));
	memcpy(text + t->at, t->code, t->len);
	set_code(g, TEXT_PA, text, TEXT_SIZE);
}

static void place_code(struct guest *g, const struct trial *t)
{
	u8 blank[CODE_MAX];

	memset(blank, 0xcc, sizeof(blank));
	if (g->code_dirty_len)
		set_code(g, CODE_PA + g->code_dirty_at, blank, g->code_dirty_len);
	set_code(g, CODE_PA + t->at, t->code, t->len);
	g->code_dirty_at = t->at;
	g->code_dirty_len = t->len;
}

static void load_state(struct guest *g, const struct trial *t)
{
	struct x86_state *s = &g->v.x86.s;

	memcpy(s->gpr, t->in.gpr, sizeof(s->gpr));
	s->rip = t->in.rip;
	s->rflags = t->in.rflags | FLAG_IF | FLAG_ONE;
	s->seg[X86_CS] = flat_segment(t->bits == 64 ? USER64_CS : USER32_CS);
	s->seg[X86_SS] = s->seg[X86_DS] = s->seg[X86_ES] = flat_segment(USER_DS);
	s->seg[X86_FS] = (struct x86_seg){ .attr = SEG_UNUSABLE, .base = t->in.fs_base };
	s->seg[X86_GS] = (struct x86_seg){ .attr = SEG_UNUSABLE, .base = t->in.gs_base };
	s->fpu = t->in.fpu;
	s->fpu.mxcsr_mask = g->model.mxcsr_mask;
	s->cr2 = 0;
	s->dr6 = 0xffff0ff0;
	s->blocking = 0;
	s->activity = X86_RUNNING;
}

static bool has_error_code(u32 vector)
{
	return vector < 32 &&
	       BIT(vector) & (BIT(8) | BIT(10) | BIT(11) | BIT(12) | BIT(13) | BIT(14) | BIT(17));
}

/* The native runner sees selectors after its kernel's IRET, which makes 0 of null selectors with an
 * RPL. */
static u16 selector_after_iret(u16 selector) { return selector < 4 ? 0 : selector; }

/* The vector whose handler the vcpu stands in, or 256. */
static u32 halted_in(const struct guest *g)
{
	u64 at = g->v.x86.s.rip - (KERNEL_AT + HALT_PA) - 1;

	return at % HANDLER_SIZE ? 256 : (u32)min_u64(at / HANDLER_SIZE, 256);
}

const u8 *guest_memory(const struct guest *g) { return g->ram + DATA_PA; }
const u8 *guest_text(const struct guest *g) { return g->ram + TEXT_PA; }

u32 guest_registers(const struct guest *g, struct regs *r)
{
	const struct x86_state *s = &g->v.x86.s;
	const u8 *frame = g->ram + STACK_PA + (s->gpr[RSP] - (KERNEL_AT + STACK_PA));
	bool coded = has_error_code(halted_in(g));
	u32 error = coded ? get_le32(frame) : 0;

	frame += coded ? 8 : 0;
	memcpy(r->gpr, s->gpr, sizeof(r->gpr));
	r->rip = get_le64(frame);
	r->cs = get_le16(frame + 8);
	r->rflags = get_le64(frame + 16);
	r->gpr[RSP] = get_le64(frame + 24);
	r->ss = get_le16(frame + 32);
	r->ds = selector_after_iret(s->seg[X86_DS].selector);
	r->es = selector_after_iret(s->seg[X86_ES].selector);
	r->fs = selector_after_iret(s->seg[X86_FS].selector);
	r->gs = selector_after_iret(s->seg[X86_GS].selector);
	r->fs_base = s->seg[X86_FS].base;
	r->gs_base = s->seg[X86_GS].base;
	r->fpu = s->fpu;
	return error;
}

static void read_outcome(const struct guest *g, const struct trial *t, struct outcome *o)
{
	u64 cr2 = g->v.x86.s.cr2;

	o->vector = halted_in(g);
	o->error = guest_registers(g, &o->regs);
	o->cr2 = o->vector == X86_PF ? cr2 : 0;
	if (o->vector == X86_PF && o->cr2 >> 47)
		o->error &= ~PF_PRESENT; /* as native.c does */
	memcpy(o->memory, g->ram + DATA_PA, DATA_SIZE);
	if (t->text)
		memcpy(o->text, g->ram + TEXT_PA, TEXT_SIZE);
}

void guest_load(struct guest *g, const struct trial *t)
{
	if (t->text)
		place_routine(g, t);
	else
		place_code(g, t);
	memory_fill_seed(t, g->ram + DATA_PA);
	load_state(g, t);
	g->v.engine->push(&g->v);
}

u32 guest_go(struct guest *g)
{
	running = g;
	alarm(PATIENCE_S);
	/* As if something had woken it: behind the HLT of a handler is its IRETQ. */
	g->v.x86.s.activity = X86_RUNNING;
	enum cpu_exit exit = g->v.engine->run(&g->v);
	alarm(0);
	running = NULL;
	g->v.engine->pull(&g->v);
	return exit == CPU_EXIT_HALT ? halted_in(g) : 256;
}

void guest_run(struct guest *g, const struct trial *t, struct outcome *out)
{
	guest_load(g, t);
	out->stopped = guest_go(g) < 256;
	if (out->stopped)
		read_outcome(g, t, out);
}
