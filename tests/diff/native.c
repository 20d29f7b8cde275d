/*
 * Trials on this host's processor.
 *
 * A signal frame is the whole state of a thread, and returning from a signal loads all of it: so a
 * child process that never leaves its signal handler runs trials. The handler reads the outcome of
 * one out of the frame the kernel made for the exception that ended it, writes the next one's
 * registers into that same frame, and returns into it. One signal a trial, and no trampoline that
 * could get a register wrong.
 *
 * The child shares trials and outcomes with its parent and gets one byte through a socket for each
 * batch. If a trial kills it (a store that found the child's own memory), the parent sees which one
 * was running and starts another child.
 *
 * What a frame does not hold: the FS and GS bases (arch_prctl), DS and ES, and RFLAGS.ID and NT,
 * which the handler clears. The child's own TLS is reached through FS, so the handler restores its
 * base before it calls anything.
 */
#include "diff.h"
#include <asm/prctl.h>
#include <cpuid.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define TEXT_OFFSET (CODE_SIZE + DATA_SIZE)
#define WINDOW_SIZE (TEXT_OFFSET + TEXT_SIZE)
#define PATIENCE_MS 10000 /* for a batch; it takes less than one */
#define TASK_SIZE   0x7ffffffff000ull

struct shared {
	u32 first, end;	      /* the batch */
	volatile u32 current; /* index of the trial that runs */
	struct trial trials[HOST_BATCH];
	struct outcome outcomes[HOST_BATCH];
};

struct host {
	struct shared *shared;
	int window_fd;
	int channel; /* to the child */
	pid_t child;
};

/* ---- in the child ---- */

static struct {
	struct shared *shared;
	u8 *window; /* a writable view: CODE, DATA, TEXT */
	int channel;
	u64 host_fs;
	u32 done;      /* outcomes of this batch */
	u32 offset[8]; /* of XSAVE components in the frame */
	bool started;
} child;

static long arch_prctl_raw(long code, u64 arg)
{
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(SYS_arch_prctl), "D"(code), "S"(arg)
			 : "rcx", "r11", "memory");
	return r;
}

static const int greg_of[X86_GPRS] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
	REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };

/* Each XSAVE component's place in zmm[] (SDM 1 13.4): registers, bytes of each, and where they go.
 */
static const struct {
	u8 component, first, count, offset, bytes;
} slices[] = { { 2, 0, 16, 16, 16 }, { 6, 0, 16, 32, 32 }, { 7, 16, 16, 0, 64 } };

#define XMM_OFFSET	160u
#define XSTATE_BV(area) ((u64 *)(void *)((area) + 512))

static u64 frame_features(const u8 *area)
{
	const struct _fpx_sw_bytes *sw = (const void *)(area + 464);

	return sw->magic1 == FP_XSTATE_MAGIC1 ? sw->xstate_bv : 0;
}

static void fpu_to_frame(const struct x86_fpu *f, u8 *area)
{
	u64 features = frame_features(area);

	memcpy(area, f, 28);
	memcpy(area + 32, f->st, sizeof(f->st));
	for (unsigned i = 0; i < 16; i++)
		memcpy(area + XMM_OFFSET + 16 * i, f->zmm[i], 16);
	if (!features)
		return;
	for (unsigned s = 0; s < ARRAY_LEN(slices); s++)
		if (features & BIT64(slices[s].component))
			for (unsigned i = 0; i < slices[s].count; i++)
				memcpy(area + child.offset[slices[s].component] +
						slices[s].bytes * i,
					f->zmm[slices[s].first + i] + slices[s].offset,
					slices[s].bytes);
	if (features & XCR0_OPMASK)
		memcpy(area + child.offset[5], f->k, sizeof(f->k));
	*XSTATE_BV(area) |= features & (XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_AVX512);
}

static void fpu_from_frame(const u8 *area, struct x86_fpu *f)
{
	u64 features = frame_features(area),
	    in_use = features ? *XSTATE_BV(area) : XCR0_X87 | XCR0_SSE;

	memset(f, 0, sizeof(*f));
	memcpy(f, area, 28);
	if (in_use & XCR0_X87) {
		memcpy(f->st, area + 32, sizeof(f->st));
	} else {
		memset(f, 0, 24);
		f->fcw = 0x37f;
	}
	if (in_use & XCR0_SSE)
		for (unsigned i = 0; i < 16; i++)
			memcpy(f->zmm[i], area + XMM_OFFSET + 16 * i, 16);
	for (unsigned s = 0; s < ARRAY_LEN(slices); s++)
		if (in_use & BIT64(slices[s].component))
			for (unsigned i = 0; i < slices[s].count; i++)
				memcpy(f->zmm[slices[s].first + i] + slices[s].offset,
					area + child.offset[slices[s].component] +
						slices[s].bytes * i,
					slices[s].bytes);
	if (in_use & XCR0_OPMASK)
		memcpy(f->k, area + child.offset[5], sizeof(f->k));
}

static void save_outcome(const ucontext_t *uc, u64 fs_base, u16 ds, u16 es, u16 fs, u16 gs)
{
	const greg_t *g = uc->uc_mcontext.gregs;
	const struct trial *t = &child.shared->trials[child.done];
	struct outcome *o = &child.shared->outcomes[child.done];

	for (unsigned i = 0; i < X86_GPRS; i++)
		o->regs.gpr[i] = (u64)g[greg_of[i]];
	o->regs.rip = (u64)g[REG_RIP];
	o->regs.rflags = (u64)g[REG_EFL];
	o->regs.cs = (u16)g[REG_CSGSFS];
	o->regs.ss = (u16)((u64)g[REG_CSGSFS] >> 48);
	o->regs.ds = ds;
	o->regs.es = es;
	o->regs.fs = fs;
	o->regs.gs = gs;
	o->regs.fs_base = fs_base;
	arch_prctl_raw(ARCH_GET_GS, (u64)(uintptr_t)&o->regs.gs_base);
	fpu_from_frame((const u8 *)uc->uc_mcontext.fpregs, &o->regs.fpu);
	o->vector = (u32)g[REG_TRAPNO];
	o->error = BIT(o->vector) & (BIT(10) | BIT(11) | BIT(12) | BIT(13) | BIT(14) | BIT(17))
			   ? (u32)g[REG_ERR]
			   : 0;
	o->cr2 = o->vector == X86_PF ? (u64)g[REG_CR2] : 0;
	/* Linux calls every address above user space present, so that nobody can probe the kernel's
	 * map. */
	if (o->vector == X86_PF && o->cr2 >= TASK_SIZE)
		o->error &= ~PF_PRESENT;
	o->stopped = true;
	memcpy(o->memory, child.window + CODE_SIZE, DATA_SIZE);
	if (t->text)
		memcpy(o->text, child.window + TEXT_OFFSET, TEXT_SIZE);
	memset(child.window + (t->text ? TEXT_OFFSET : t->at), 0xcc, t->text ? TEXT_SIZE : t->len);
}

static void load_trial(ucontext_t *uc, const struct trial *t)
{
	greg_t *g = uc->uc_mcontext.gregs;
	u64 cs = t->bits == 64 ? USER64_CS : USER32_CS;

	for (unsigned i = 0; i < X86_GPRS; i++)
		g[greg_of[i]] = (greg_t)t->in.gpr[i];
	g[REG_RIP] = (greg_t)t->in.rip;
	g[REG_EFL] = (greg_t)t->in.rflags;
	g[REG_CSGSFS] = (greg_t)(cs | (u64)USER_DS << 48);
	fpu_to_frame(&t->in.fpu, (u8 *)uc->uc_mcontext.fpregs);
	memory_fill_seed(t, child.window + CODE_SIZE);
	memcpy(child.window + (t->text ? TEXT_OFFSET : 0) + t->at, t->code, t->len);
}

/* Tells the parent that the batch is done and waits for the next one. */
static void next_batch(void)
{
	char byte = 1;

	if (child.started && write(child.channel, &byte, 1) != 1)
		_exit(0);
	if (read(child.channel, &byte, 1) != 1)
		_exit(0); /* the parent is gone */
	child.started = true;
	child.done = child.shared->first;
}

/* Not inlined: it may use TLS, which on_exception() first makes reachable. Returns the FS and GS
 * base to load. */
static NOINLINE const struct regs *between_trials(
	ucontext_t *uc, u64 fs_base, u16 ds, u16 es, u16 fs, u16 gs)
{
	if (child.started)
		save_outcome(uc, fs_base, ds, es, fs, gs);
	if (!child.started || ++child.done == child.shared->end)
		next_batch();
	child.shared->current = child.done;
	load_trial(uc, &child.shared->trials[child.done]);
	return &child.shared->trials[child.done].in;
}

#define READ_SELECTOR(reg)                                                \
	({                                                                \
		u16 selector_;                                            \
		__asm__ volatile("mov %%" #reg ", %0" : "=r"(selector_)); \
		selector_;                                                \
	})

__attribute__((no_stack_protector)) static void on_exception(
	int sig, siginfo_t *info, void *context)
{
	u64 fs_base;

	/* AC, ID, NT and DF off, before anything unaligned; below the red zone. */
	__asm__ volatile("lea -128(%%rsp), %%rsp; push $2; popf; lea 128(%%rsp), %%rsp" ::
				 : "memory", "cc");
	u16 ds = READ_SELECTOR(ds), es = READ_SELECTOR(es), fs = READ_SELECTOR(fs),
	    gs = READ_SELECTOR(gs);
	arch_prctl_raw(ARCH_GET_FS, (u64)(uintptr_t)&fs_base);
	arch_prctl_raw(ARCH_SET_FS, child.host_fs);
	const struct regs *in = between_trials(context, fs_base, ds, es, fs, gs);
	__asm__ volatile("mov %0, %%ds; mov %0, %%es" : : "r"(USER_DS));
	arch_prctl_raw(ARCH_SET_GS, in->gs_base);
	arch_prctl_raw(ARCH_SET_FS, in->fs_base);
}

static void find_components(void)
{
	u32 a, b, c, d;

	for (unsigned i = 2; i < ARRAY_LEN(child.offset); i++)
		if (__get_cpuid_count(0xd, i, &a, &b, &c, &d))
			child.offset[i] = b;
}

static bool map_window(int fd)
{
	static const struct {
		u64 at, size, offset;
		int prot;
	} parts[] = {
		{ CODE_AT, CODE_SIZE, 0, PROT_READ | PROT_EXEC },
		{ DATA_AT, DATA_RW, CODE_SIZE, PROT_READ | PROT_WRITE },
		{ DATA_AT + DATA_RW, PAGE_SIZE, CODE_SIZE + DATA_RW, PROT_READ },
		{ TEXT_AT, TEXT_SIZE, TEXT_OFFSET, PROT_READ | PROT_WRITE | PROT_EXEC },
	};

	child.window =
		mmap(NULL, WINDOW_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (child.window == MAP_FAILED)
		return false;
	memset(child.window, 0xcc, CODE_SIZE);
	memset(child.window + TEXT_OFFSET, 0xcc, TEXT_SIZE);
	for (unsigned i = 0; i < ARRAY_LEN(parts); i++) {
		void *want = (void *)(uintptr_t)parts[i].at; /* NOLINT */
		/* populated, so that a first write to the read-only page finds it present */
		void *got = mmap(want, parts[i].size, parts[i].prot,
			MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE, fd,
			(off_t)parts[i].offset);

		if (got != want)
			return false;
		mlock(got, parts[i].size);
	}
	return true;
}

static void child_main(const struct host *n, int channel)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
	struct sigaction sa = { .sa_sigaction = on_exception,
		.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
	stack_t stack = { .ss_size = 256 * KiB };

	child.shared = n->shared;
	child.channel = channel;
	stack.ss_sp = malloc(stack.ss_size);
	if (!stack.ss_sp || !map_window(n->window_fd) || sigaltstack(&stack, NULL) < 0)
		_exit(1);
	find_components();
	arch_prctl_raw(ARCH_GET_FS, (u64)(uintptr_t)&child.host_fs);
	for (unsigned i = 0; i < ARRAY_LEN(signals); i++)
		sigaction(signals[i], &sa, NULL);
	__asm__ volatile("int3");
	_exit(1);
}

/* ---- in the parent ---- */

static bool start_child(struct host *n)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return false;
	fflush(NULL);
	n->child = fork();
	if (n->child == 0) {
		close(pair[0]);
		child_main(n, pair[1]);
	}
	close(pair[1]);
	if (n->child < 0) {
		close(pair[0]);
		return false;
	}
	n->channel = pair[0];
	return true;
}

static void stop_child(struct host *n)
{
	if (n->child <= 0)
		return;
	kill(n->child, SIGKILL);
	waitpid(n->child, NULL, 0);
	close(n->channel);
	n->child = 0;
}

void host_stay_on_this_processor(void)
{
	cpu_set_t set;
	unsigned cpu = 0;

	getcpu(&cpu, NULL);
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

struct host *host_new(void)
{
	struct host *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->window_fd = memfd_create("window", MFD_CLOEXEC);
	n->shared = mmap(NULL, sizeof(*n->shared), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (n->window_fd < 0 || ftruncate(n->window_fd, WINDOW_SIZE) < 0 ||
		n->shared == MAP_FAILED || !start_child(n)) {
		perror("native");
		if (n->shared != MAP_FAILED)
			munmap(n->shared, sizeof(*n->shared));
		free(n);
		return NULL;
	}
	return n;
}

void host_free(struct host *n)
{
	if (!n)
		return;
	stop_child(n);
	munmap(n->shared, sizeof(*n->shared));
	close(n->window_fd);
	free(n);
}

struct trial *host_trials(struct host *n) { return n->shared->trials; }

/* false: the child died or hangs. */
static bool run_batch(struct host *n)
{
	struct pollfd p = { .fd = n->channel, .events = POLLIN };
	char byte = 1;

	if (n->child <= 0 || send(n->channel, &byte, 1, MSG_NOSIGNAL) != 1)
		return false;
	return poll(&p, 1, PATIENCE_MS) == 1 && read(n->channel, &byte, 1) == 1;
}

const struct outcome *host_run(struct host *n, unsigned count)
{
	struct shared *s = n->shared;

	for (unsigned i = 0; i < count; i++)
		s->outcomes[i].stopped = false;
	s->end = count;
	for (s->first = 0; s->first < count; s->first = s->current + 1) {
		s->current = s->first;
		if (run_batch(n))
			break;
		stop_child(n); /* that one killed it: its outcome stays "not stopped" */
		if (!start_child(n))
			break;
	}
	return s->outcomes;
}
