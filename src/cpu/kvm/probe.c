/*
 * Can this host's KVM run a stock kernel at speed? Having /dev/kvm does not answer that: a KVM
 * module without VMX or SVM below it executes guests by emulation, slowly, and gives up on what its
 * emulator lacks. So a tiny 64-bit guest is run through the engine itself:
 *
 *  1. duty: string moves, an exception through an IDT gate and IRETQ, LOCK CMPXCHG16B; each step
 *     announces itself on a port, so that the message can name the first one that failed;
 *  2. speed: a counting loop for a few milliseconds, against the same loop run natively;
 *  3. faults: an exception in real mode with an empty interrupt table is a shutdown. KVM's
 * emulator, which runs real mode where the processor cannot, does not look at the table's limit
 *     (emulate_int_real() in Linux arch/x86/kvm/emulate.c): such a guest goes on at whatever the
 *     memory there says, often for ever.
 *
 * A timer signal to this thread every millisecond posts ATTN_STOP once the time is over, so nothing
 * the guest or KVM does takes longer: three limits of some ten milliseconds each.
 */
#include "base/bits.h"
#include "base/scope.h"
#include "cpu/kvm/kvm_priv.h"
#include "os/fd.h"
#include "os/tsc.h"
#include "x86/cpuid.h"
#include "x86/mode.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

/* The guest's memory, and where things are in it. */
#define GUEST_SIZE 0x10000u
#define GUEST_CODE 0x1000u
#define GUEST_GDT  0x2000u
#define GUEST_IDT  0x2100u
#define GUEST_DATA 0x3000u
#define GUEST_TOP  0x8000u /* stack */
#define GUEST_PML4 0x9000u
#define GUEST_PDPT 0xa000u
#define GUEST_PD   0xb000u

#define STEP_PORT 0x10u
#define DUTY_NS	  40000000ull
#define SPEED_NS  10000000ull
/* Hardware virtualization runs the loop at native speed; a quarter allows for a busy host. */
#define SPEED_DIVISOR 4

static const char *const steps[] = { "start", "rep movsb", "an exception", "lock cmpxchg16b" };

/* clang-format off */
asm(".pushsection .rodata\n"
    ".global strata_kvm_duty, strata_kvm_duty_handler, strata_kvm_duty_end, strata_kvm_speed, strata_kvm_speed_end\n"
    ".hidden strata_kvm_duty, strata_kvm_duty_handler, strata_kvm_duty_end, strata_kvm_speed, strata_kvm_speed_end\n"
    "strata_kvm_duty:\n"
    "	mov $0, %al\n	out %al, $0x10\n"
    "	cld\n	mov $0x3000, %esi\n	mov $0x3800, %edi\n	mov $64, %ecx\n	rep movsb\n"
    "	mov $1, %al\n	out %al, $0x10\n"
    "	ud2\n" /* the handler steps over it */
    "	mov $2, %al\n	out %al, $0x10\n"
    "	xor %eax, %eax\n	xor %edx, %edx\n	mov $1, %ebx\n	xor %ecx, %ecx\n"
    "	lock cmpxchg16b 0x3f00\n"
    "	mov $3, %al\n	out %al, $0x10\n"
    "	hlt\n"
    "strata_kvm_duty_handler:\n"
    "	addq $2, (%rsp)\n	iretq\n"
    "strata_kvm_duty_end:\n"
    "strata_kvm_speed:\n"
    "	xor %ecx, %ecx\n"
    "1:	inc %rcx\n	jmp 1b\n"
    "strata_kvm_speed_end:\n"
    ".popsection\n");
/* clang-format on */
extern const u8 strata_kvm_duty[], strata_kvm_duty_handler[], strata_kvm_duty_end[];
extern const u8 strata_kvm_speed[], strata_kvm_speed_end[];

struct probe {
	struct vcpu v;
	struct memory memory;
	struct x86_model model;
	unsigned step; /* the last one announced, plus 1 */
};

/* ---- the guest's surroundings: one port ---- */

static int no_interrupt(void *ctx, struct vcpu *v) { return -1; }
static u64 port_in(void *ctx, struct vcpu *v, u16 port, unsigned size) { return mask_bytes(size); }
static void port_out(void *ctx, struct vcpu *v, u16 port, unsigned size, u32 value)
{
	if (port == STEP_PORT)
		((struct probe *)ctx)->step = (value & 0xff) + 1;
}
static u64 mmio_read(void *ctx, struct vcpu *v, gpa_t at, unsigned size)
{
	return mask_bytes(size);
}
static void mmio_write(void *ctx, struct vcpu *v, gpa_t at, unsigned size, u64 value) {}
static bool msr_read(void *ctx, struct vcpu *v, u32 index, u64 *value) { return false; }
static bool msr_write(void *ctx, struct vcpu *v, u32 index, u64 value) { return false; }
static u64 cr8_read(void *ctx, struct vcpu *v) { return 0; }
static void cr8_write(void *ctx, struct vcpu *v, u64 value) {}

static const struct vcpu_ops probe_ops = {
	.interrupt = no_interrupt,
	.port_in = port_in,
	.port_out = port_out,
	.mmio_read = mmio_read,
	.mmio_write = mmio_write,
	.msr_read = msr_read,
	.msr_write = msr_write,
	.cr8_read = cr8_read,
	.cr8_write = cr8_write,
};

/* ---- the guest ---- */

#define CODE_SELECTOR 8u
#define DATA_SELECTOR 16u
#define GATE64	      0x8e00ull

static void build_memory(u8 *ram)
{
	u64 handler = GUEST_CODE + (u64)(strata_kvm_duty_handler - strata_kvm_duty);

	put_le64(ram + GUEST_PML4, GUEST_PDPT | 3);
	put_le64(ram + GUEST_PDPT, GUEST_PD | 3);
	put_le64(ram + GUEST_PD, 0 | 0x83); /* one 2 MiB page, identity */
	put_le64(ram + GUEST_GDT + CODE_SELECTOR, 0x00af9b000000ffffull);
	put_le64(ram + GUEST_GDT + DATA_SELECTOR, 0x00cf93000000ffffull);
	put_le64(ram + GUEST_IDT + 16 * X86_UD, handler | (u64)CODE_SELECTOR << 16 | GATE64 << 32);
}

static void build_state(struct x86_state *s)
{
	const u32 data = SEG_P | SEG_S | SEG_RW | SEG_ACCESSED | SEG_DB | SEG_G;

	for (unsigned i = 0; i < X86_LDTR; i++)
		s->seg[i] =
			(struct x86_seg){ .attr = data, .limit = ~0u, .selector = DATA_SELECTOR };
	s->seg[X86_CS].attr = (data & ~SEG_DB) | SEG_CODE | SEG_L;
	s->seg[X86_CS].selector = CODE_SELECTOR;
	s->gdt = (struct x86_table){ GUEST_GDT, 23 };
	s->idt = (struct x86_table){ GUEST_IDT, 16 * 16 - 1 };
	s->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_PG;
	s->cr3 = GUEST_PML4;
	s->cr4 = CR4_PAE;
	s->efer = EFER_LME | EFER_LMA;
	s->gpr[RSP] = GUEST_TOP;
	s->rip = GUEST_CODE;
}

static int load(struct probe *p, const u8 *code, const u8 *end)
{
	u8 *ram = p->memory.regions[0].host;

	memcpy(ram + GUEST_CODE, code, (size_t)(end - code));
	build_state(&p->v.x86.s);
	p->v.x86.s.activity = X86_RUNNING;
	return kvm_push(&p->v);
}

/* ---- the time limit ---- */

static _Thread_local struct vcpu *watched;
static _Thread_local u64 deadline;

/* Runs on the probing thread; vcpu_post() only touches atomics and signals. */
static void tick(int signal)
{
	if (watched && fd_monotonic_ns() >= deadline) {
		atomic_fetch_or(&watched->attention, ATTN_STOP);
		kvm_kick(watched);
	}
}

#define TICK_SIGNAL (SIGRTMIN + 2)

static int start_ticks(timer_t *timer, struct err *why)
{
	struct sigaction action = { .sa_handler = tick };
	struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = TICK_SIGNAL };
	struct itimerspec period = { { 0, 1000000 }, { 0, 1000000 } };

	event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
	sigaction(TICK_SIGNAL, &action, NULL);
	if (timer_create(CLOCK_MONOTONIC, &event, timer) < 0)
		return err_set(why, -errno, "timer for the KVM probe: %s", strerror(errno));
	timer_settime(*timer, 0, &period, NULL);
	return 0;
}

static enum cpu_exit run_for(struct probe *p, u64 ns)
{
	enum cpu_exit why;

	atomic_fetch_and(&p->v.attention, ~ATTN_STOP); /* a tick of the run before */
	deadline = fd_monotonic_ns() + ns;
	watched = &p->v;
	why = kvm_run_vcpu(&p->v);
	watched = NULL;
	return why;
}

/* ---- the verdict ---- */

static int check_duty(struct probe *p, struct err *why)
{
	const char *next;

	if (load(p, strata_kvm_duty, strata_kvm_duty_end) < 0)
		return err_set(why, -EIO, "KVM does not take a 64-bit state: %s", p->v.error.text);
	enum cpu_exit exit = run_for(p, DUTY_NS);
	next = p->step < ARRAY_LEN(steps) ? steps[p->step] : "halting";
	switch (exit) {
	case CPU_EXIT_HALT: return 0;
	case CPU_EXIT_KICK:
		return err_set(
			why, -ENOTSUP, "KVM stopped making progress at %s in a test guest", next);
	case CPU_EXIT_ERROR:
		return err_set(why, -ENOTSUP, "KVM failed at %s in a test guest: %s", next,
			p->v.error.text);
	case CPU_EXIT_SHUTDOWN:
	case CPU_EXIT_WAIT: break;
	}
	return err_set(why, -ENOTSUP, "KVM shut the test guest down at %s", next);
}

/* Turns of the loop a second, natively: a short run is exact enough for a factor of 4. */
static u64 native_rate(void)
{
	const u64 turns = 1000000;
	u64 from = fd_monotonic_ns(), n = turns;

	asm volatile("1: dec %0\n\tjnz 1b" : "+r"(n));
	u64 ns = max_u64(fd_monotonic_ns() - from, 1);

	return turns * 1000000000ull / ns;
}

static int check_speed(struct probe *p, struct err *why)
{
	if (load(p, strata_kvm_speed, strata_kvm_speed_end) < 0)
		return err_set(why, -EIO, "KVM does not take a 64-bit state: %s", p->v.error.text);

	u64 from = fd_monotonic_ns();
	enum cpu_exit exit = run_for(p, SPEED_NS);
	u64 ns = max_u64(fd_monotonic_ns() - from, 1);

	if (exit != CPU_EXIT_KICK || kvm_pull(&p->v) < 0)
		return err_set(
			why, -ENOTSUP, "KVM cannot run a counting loop: %s", p->v.error.text);
	u64 rate = (u64)((u128)p->v.x86.s.gpr[RCX] * 1000000000u / ns), native = native_rate();
	if (rate < native / SPEED_DIVISOR)
		return err_set(why, -ENOTSUP,
			"KVM runs guests by emulation: %llu thousand loops a second, natively %llu "
			"million",
			(unsigned long long)rate / 1000, (unsigned long long)native / 1000000);
	return 0;
}

/* INT3, which the limit forbids; the entry behind the limit leads to the HLT. */
static int check_faults(struct probe *p, struct err *why)
{
	static const u8 code[] = { 0xcc, 0xf4 };
	u8 *ram = p->memory.regions[0].host;
	struct x86_state *s = &p->v.x86.s;

	memcpy(ram + GUEST_CODE, code, sizeof(code));
	put_le32(ram + 4 * X86_BP, GUEST_CODE + 1);
	x86_reset(&p->v.x86);
	s->seg[X86_CS].selector = 0;
	s->seg[X86_CS].base = 0;
	s->rip = GUEST_CODE;
	s->gpr[RSP] = GUEST_TOP;
	s->idt = (struct x86_table){ 0, 0 };
	if (kvm_push(&p->v) < 0)
		return err_set(why, -EIO, "KVM does not take a 16-bit state: %s", p->v.error.text);
	if (run_for(p, DUTY_NS) == CPU_EXIT_SHUTDOWN)
		return 0;
	return err_set(why, -ENOTSUP,
		"KVM ignores the limit of the interrupt table in real mode: a triple fault may not "
		"end the guest");
}

static int open_guest(struct probe *p, struct err *why)
{
	struct memory_region *ram;

	memory_init(&p->memory);
	ram = memory_add_region(&p->memory, "kvm-probe", GUEST_SIZE, false, why);
	if (!ram)
		return why ? why->code : -ENOMEM;
	int ret = memory_add_slot(&p->memory, ram, gpa(0), 0, GUEST_SIZE, why);
	if (ret < 0)
		return ret;
	build_memory(ram->host);
	x86_model_build(&p->model, x86_native_cpuid, tsc_hz(), &(struct x86_topology){ 1, 1, 1 });
	p->v = (struct vcpu){
		.engine = &kvm_engine,
		.engine_options = KVM_OPTION_USER_IRQCHIP, /* so that HLT comes back */
		.memory = &p->memory,
		.ops = &probe_ops,
		.ops_ctx = p,
		.x86.model = &p->model,
	};
	ret = kvm_engine.open(&p->v, why);
	if (!ret)
		x86_reset(&p->v.x86);
	return ret;
}

int kvm_probe(struct err *why)
{
	AUTO_FREE struct probe *p = aligned_alloc(64, align_up(sizeof(*p), 64));
	struct err local = { 0 };
	timer_t timer;
	int ret;

	if (!p)
		return err_set(why, -ENOMEM, "no memory for the KVM probe");
	memset(p, 0, sizeof(*p));
	why = why ?: &local;
	ret = open_guest(p, why);
	if (!ret)
		ret = start_ticks(&timer, why);
	if (!ret) {
		ret = check_duty(p, why);
		ret = ret ?: check_speed(p, why);
		ret = ret ?: check_faults(p, why);
		timer_delete(timer);
	}
	kvm_engine.close(&p->v);
	memory_fini(&p->memory);
	return ret;
}
