/*
 * The decoder, the reference engine and the translator on random bytes, in every mode. An input is
 * a sequence of runs: mode, level, limits, and code for the guest of exec_guest.c. Ports, device
 * memory, MSRs and interrupts answer at random, and another thread sends interrupts, NMIs, INIT and
 * writes to code.
 *
 * A run ends after a number of instructions when they are traced (the trace stream counts them, so
 * the run is exactly repeatable), else when another thread says so. Whatever happens
 *  - nothing outside guest RAM is touched: it lies between pages that nobody may access;
 *  - ROM does not change, and a page that changed has its dirty flag set (migration relies on it);
 *  - the state stays one that a processor can have.
 */
#include "base/bits.h"
#include "base/must.h"
#include "cpu/interpret/interpret.h"
#include "cpu/translate/translate.h"
#include "exec_code.h"
#include "exec_guest.h"
#include "x86/mode.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define ROM_BASE (GUEST_RAM + 4 * PAGE_SIZE)
#define ROM_SIZE (2 * PAGE_SIZE)
#define RUNS	 6u
#define EXITS	 40u /* returns of run() in one run */
#define TICK_NS	 150000
#define TICKS	 4u
#define BSP	 0x100u /* in the APIC base: only others obey a start-up IPI */
#define TSC_HZ	 2500000000ull

static const struct cpu_engine *const engines[] = { &interpret_engine, &translate_engine };

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

struct bench {
	struct vcpu v;
	struct memory memory;
	struct x86_model model;
	struct memory_region *ram, *rom;
	void *reserve; /* address space around RAM */
	u64 random;
	unsigned traced, limit; /* instructions */
	bool damaged;		/* the state began as no processor's can */
	bool loud;		/* FUZZ_TRACE is in the environment: the trace to standard error */
	u8 image[GUEST_RAM];
};

/* Another thread, which ends runs that are not traced. */
static struct {
	pthread_mutex_t lock;
	struct bench *watched;
	unsigned ticks;
} other = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* ---- the world ---- */

static u64 any(struct bench *b) { return guest_random(&b->random); }

/* What may come from outside at any moment. */
static void disturb(struct bench *b)
{
	u64 r = any(b);

	if (r % 4 == 0)
		vcpu_post(&b->v, ATTN_INTR);
	if (r % 32 == 1)
		vcpu_post(&b->v, ATTN_NMI);
	if (r % 512 == 2)
		vcpu_post(&b->v, ATTN_INIT);
	if (r % 128 == 3) {
		atomic_store(&b->v.sipi_vector, (u8)(r >> 32 & 0x1f));
		vcpu_post(&b->v, ATTN_SIPI);
	}
	if (r % 64 == 4)
		b->v.engine->forget(&b->v, gpa(r >> 40 & (GUEST_RAM - 1)), r >> 20 & 0x3fff);
}

static int on_interrupt(void *ctx, struct vcpu *v)
{
	u64 r = any(ctx);

	return r & 0x300 ? (int)(r & 0xff) : -1;
}

static u64 on_port_in(void *ctx, struct vcpu *v, u16 port, unsigned size)
{
	disturb(ctx);
	must(size == 1 || size == 2 || size == 4, "port size %u", size);
	return any(ctx);
}

static void on_port_out(void *ctx, struct vcpu *v, u16 port, unsigned size, u32 value)
{
	disturb(ctx);
	must(size == 1 || size == 2 || size == 4, "port size %u", size);
}

static bool is_ram(gpa_t at, unsigned size) { return range_ok(at.v, size, GUEST_RAM); }

static u64 on_mmio_read(void *ctx, struct vcpu *v, gpa_t at, unsigned size)
{
	disturb(ctx);
	must(!is_ram(at, size) && size <= 8 && !(size & (size - 1)), "bus read of RAM, or size %u",
		size);
	return any(ctx);
}

static void on_mmio_write(void *ctx, struct vcpu *v, gpa_t at, unsigned size, u64 value)
{
	disturb(ctx);
	must(!is_ram(at, size) && size <= 8 && !(size & (size - 1)), "bus write of RAM, or size %u",
		size);
}

static bool on_msr_read(void *ctx, struct vcpu *v, u32 index, u64 *value)
{
	disturb(ctx);
	*value = any(ctx);
	return *value & 1;
}

static bool on_msr_write(void *ctx, struct vcpu *v, u32 index, u64 value)
{
	disturb(ctx);
	return any(ctx) & 1;
}

static u64 on_cr8_read(void *ctx, struct vcpu *v) { return any(ctx) & 15; }
static void on_cr8_write(void *ctx, struct vcpu *v, u64 value)
{
	must(value < 16, "CR8 %llu", (unsigned long long)value);
}
static u64 on_clock_ns(void *ctx, struct vcpu *v, u64 host_tsc) { return host_tsc / 2; }
static u64 on_wall_ns(void *ctx, struct vcpu *v) { return any(ctx); }

static const struct vcpu_ops ops = {
	.interrupt = on_interrupt,
	.port_in = on_port_in,
	.port_out = on_port_out,
	.mmio_read = on_mmio_read,
	.mmio_write = on_mmio_write,
	.msr_read = on_msr_read,
	.msr_write = on_msr_write,
	.cr8_read = on_cr8_read,
	.cr8_write = on_cr8_write,
	.clock_ns = on_clock_ns,
	.wall_ns = on_wall_ns,
};

/* ---- the two ways to end a run ---- */

static ssize_t on_trace(void *ctx, const char *text, size_t len)
{
	struct bench *b = ctx;

	for (size_t i = 0; i < len; i++)
		b->traced += text[i] == '\n';
	if (b->loud)
		fwrite(text, 1, len, stderr);
	disturb(b);
	if (b->traced >= b->limit)
		vcpu_post(&b->v, ATTN_STOP);
	return (ssize_t)len;
}

static void tick(void)
{
	pthread_mutex_lock(&other.lock);
	if (other.watched) {
		other.ticks++;
		vcpu_post(&other.watched->v, other.ticks >= TICKS ? ATTN_STOP
					     : other.ticks == 1	  ? ATTN_INTR
								  : ATTN_NMI);
	}
	pthread_mutex_unlock(&other.lock);
}

static void *other_thread(void *ctx)
{
	const struct timespec time = { .tv_nsec = TICK_NS };

	for (;;) {
		nanosleep(&time, NULL);
		tick();
	}
	return NULL;
}

static void start_other_thread(void)
{
	pthread_t thread;

	must(!pthread_create(&thread, NULL, other_thread, NULL), "thread");
	pthread_detach(thread);
}

static void watch(struct bench *b)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, start_other_thread);
	pthread_mutex_lock(&other.lock);
	other.watched = b;
	other.ticks = 0;
	pthread_mutex_unlock(&other.lock);
}

/* ---- what must hold ---- */

static void check_memory(const struct bench *b)
{
	for (u64 at = 0; at < GUEST_RAM; at += PAGE_SIZE)
		must(atomic_load(&b->ram->flags[at >> PAGE_SHIFT]) & MEM_DIRTY ||
				!memcmp(b->ram->host + at, b->image + at, PAGE_SIZE),
			"page 0x%llx changed and is not dirty", (unsigned long long)at);
	for (u64 at = 0; at < ROM_SIZE; at++)
		must(b->rom->host[at] == 0x90, "ROM changed at 0x%llx", (unsigned long long)at);
}

static void check_state(const struct bench *b)
{
	const u64 flags = FLAGS_STATUS | FLAG_ONE | FLAG_TF | FLAG_IF | FLAG_DF | FLAG_IOPL |
			  FLAG_NT | FLAG_RF | FLAG_VM | FLAG_AC | FLAG_VIF | FLAG_VIP | FLAG_ID;
	const struct x86_state *s = &b->v.x86.s;

	if (b->damaged)
		return;
	must((s->rflags & ~flags) == 0 && (s->rflags & FLAG_ONE), "rflags 0x%llx",
		(unsigned long long)s->rflags);
	must(!x86_paging(s) || x86_protected(s), "paging without protection");
	must(!x86_v86(s) || (x86_protected(s) && !x86_long_mode(s)),
		"virtual-8086 in the wrong mode");
	must(!x86_long_mode(s) == !((s->efer & EFER_LME) && x86_paging(s)),
		"LMA is not LME and PG");
	must(!x86_long_mode(s) || (s->cr4 & CR4_PAE), "long mode without PAE");
	must(x86_code64(s) || s->rip <= 0xffffffff, "rip 0x%llx", (unsigned long long)s->rip);
	must(!(s->fpu.mxcsr & ~b->model.mxcsr_mask), "mxcsr 0x%x", s->fpu.mxcsr);
	must((s->xcr0 & XCR0_X87) && !(s->xcr0 & ~b->model.xcr0_mask), "xcr0 0x%llx",
		(unsigned long long)s->xcr0);
	must(!(s->cr4 & ~b->model.cr4_mask), "cr4 0x%llx", (unsigned long long)s->cr4);
	/* A task switch that faults before CS is loaded, with no handler to tell, ends so. */
	must((s->seg[X86_CS].attr & SEG_P) || s->activity == X86_SHUTDOWN, "CS 0x%x is not present",
		s->seg[X86_CS].attr);
}

/* ---- runs ---- */

/* 64-bit code has most to offer. */
static enum guest_mode choose_mode(u8 byte)
{
	return (enum guest_mode)min_u64(byte % (GUEST_MODES + 4), GUEST_LONG);
}

/* What a damaged snapshot might hold: anything in the fields that loading does not check. */
static void damage_state(struct bench *b, u8 how)
{
	struct x86_state *s = &b->v.x86.s;
	enum x86_activity activity = s->activity;

	for (unsigned n = how % 5; n; n--)
		((u8 *)s)[any(b) % offsetof(struct x86_state, fpu)] ^= (u8)any(b);
	s->activity = activity;
	b->damaged = true;
}

static void prepare(struct bench *b, struct exec_input *in, u8 how)
{
	u8 mode = exec_take(in);
	unsigned code = 64 + 32 * exec_take(in);

	b->v.x86.s.apic_base = how & 6 ? BSP : 0;
	x86_reset(&b->v.x86);
	memcpy(b->image, b->ram->host, GUEST_RAM);
	if (b->loud)
		fprintf(stderr, "run: mode %u\n", choose_mode(mode));
	guest_make(b->image, &b->v.x86.s, &b->model, choose_mode(mode), mode & 0x80 ? 3 : 0,
		&b->random);
	b->damaged = false;
	if ((how & 0x38) == 0x38)
		damage_state(b, exec_take(in));
	exec_code(in, b->image + GUEST_CODE, (unsigned)min_u64(code, GUEST_CODE_MAX));
	must(memory_write(&b->memory, gpa(0), b->image, GUEST_RAM), "RAM");
	for (u64 page = 0; page < GUEST_RAM >> PAGE_SHIFT; page++)
		atomic_fetch_and(&b->ram->flags[page], (u8)~MEM_DIRTY);
	atomic_store(&b->v.attention, ATTN_CODE);
	b->v.engine->push(&b->v);
	b->traced = 0;
	b->limit = 1 + 8u * exec_take(in);
	b->v.trace.instructions = b->v.trace.interrupts = b->v.trace.exits = how & 1;
}

static void run(struct bench *b)
{
	char where[200];

	for (unsigned exits = 0; exits < EXITS; exits++) {
		enum cpu_exit why = b->v.engine->run(&b->v);

		x86_describe(&b->v.x86, where, sizeof(where));
		check_state(b);
		if (why == CPU_EXIT_KICK || why == CPU_EXIT_SHUTDOWN)
			return;
		must(why != CPU_EXIT_ERROR, "%s; %s", b->v.error.text, where);
		vcpu_post(
			&b->v, why == CPU_EXIT_HALT ? ATTN_NMI | ATTN_INTR : ATTN_INIT | ATTN_SIPI);
	}
}

static void open_bench(struct bench *b, u64 seed)
{
	struct err err = { 0 };
	FILE *trace = fopencookie(b, "w", (cookie_io_functions_t){ .write = on_trace });

	must(trace, "fopencookie");
	setvbuf(trace, NULL, _IOLBF, 512);
	b->random = seed;
	b->loud = getenv("FUZZ_TRACE");
	x86_model_build(&b->model, x86_native_cpuid, TSC_HZ, &(struct x86_topology){ 1, 1, 1 });
	memory_init(&b->memory);
	b->ram = memory_add_region(&b->memory, "ram", GUEST_RAM, false, &err);
	b->rom = memory_add_region(&b->memory, "rom", ROM_SIZE, true, &err);
	must(b->ram && b->rom, "%s", err.text);
	memset(b->rom->host, 0x90, ROM_SIZE);

	/* RAM goes to the middle of address space that faults. */
	b->reserve = mmap(
		NULL, 3 * GUEST_RAM, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	must(b->reserve != MAP_FAILED, "address space");
	b->ram->host = mremap(b->ram->host, GUEST_RAM, GUEST_RAM, MREMAP_MAYMOVE | MREMAP_FIXED,
		(u8 *)b->reserve + GUEST_RAM);
	must(b->ram->host != MAP_FAILED, "mremap");
	must(!memory_add_slot(&b->memory, b->ram, gpa(0), 0, GUEST_RAM, &err) &&
			!memory_add_slot(&b->memory, b->rom, gpa(ROM_BASE), 0, ROM_SIZE, &err),
		"%s", err.text);

	b->v.engine = engines[seed % ARRAY_LEN(engines)];
	b->v.memory = &b->memory;
	b->v.x86.model = &b->model;
	b->v.ops = &ops;
	b->v.ops_ctx = b;
	b->v.trace.to = trace;
	must(!b->v.engine->open(&b->v, &err), "%s", err.text);
}

static void close_bench(struct bench *b)
{
	b->v.engine->close(&b->v);
	memory_fini(&b->memory);
	munmap(b->reserve, 3 * GUEST_RAM);
	fclose(b->v.trace.to);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct exec_input in = { data, data + size };
	/* calloc() does not know what alignment the processor's state needs. */
	struct bench *b = aligned_alloc(_Alignof(struct bench), sizeof(*b));
	u64 seed = 0;

	must(b, "no memory");
	memset(b, 0, sizeof(*b));
	for (unsigned i = 0; i < 8; i++)
		seed = seed << 8 | exec_take(&in);
	open_bench(b, seed);
	for (unsigned runs = 0; in.at < in.end && runs < RUNS; runs++) {
		u8 how = exec_take(&in);

		prepare(b, &in, how);
		if (!(how & 1))
			watch(b);
		run(b);
		watch(NULL);
		check_memory(b);
	}
	close_bench(b);
	free(b);
	return 0;
}
