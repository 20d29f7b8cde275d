/*
 * KVM_RUN and its exits.
 *
 * One turn of the loop: look at `attention`, let KVM run, answer the exit. Leaving is only allowed
 * at an instruction boundary: after an access was answered the instruction is finished only by the
 * next KVM_RUN, so before returning it is entered once more with immediate_exit set (Linux
 * Documentation/virt/kvm/api.rst, KVM_EXIT_IO).
 *
 * Kicks: kick() sets immediate_exit and then signals the thread. The loop clears immediate_exit
 * before it reads `attention`; so a kick is either seen there, or makes KVM_RUN return at once, or
 * interrupts it. The signal's handler does nothing.
 *
 * Interrupts: KVM takes a vector only when the guest can accept one (ready_for_interrupt_injection
 * and IF); until then request_interrupt_window makes it come back as soon as that is so. Where
 * local APICs are KVM's (irqchip.c) only the 8259's vectors come this way, and KVM holds one until
 * the next entry, so that another may be too early: it waits in `extint`.
 */
#include "base/bits.h"
#include "base/log.h"
#include "cpu/kvm/kvm_priv.h"
#include "x86/control.h"
#include "x86/msr.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>

#define KICK_SIGNAL (SIGRTMIN + 1)

static void kicked(int signal) {}

static void install(void)
{
	struct sigaction action = { .sa_handler = kicked }; /* no SA_RESTART: KVM_RUN must return */

	sigaction(KICK_SIGNAL, &action, NULL);
}

void kvm_install_kick(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, install);
}

void kvm_kick(struct vcpu *v)
{
	struct kvm_vcpu *k = v->engine_data;

	__atomic_store_n(&k->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	if (atomic_load(&k->running))
		pthread_kill(k->thread, KICK_SIGNAL);
}

/* ---- accesses ---- */

static void answer_io(struct vcpu *v, struct kvm_run *run)
{
	u8 *data = (u8 *)run + run->io.data_offset;
	unsigned size = run->io.size;

	for (u32 i = 0; i < run->io.count; i++, data += size) { /* rep ins/outs: several units */
		u64 value = 0;

		v->stats.port_ios++;
		if (run->io.direction == KVM_EXIT_IO_OUT) {
			memcpy(&value, data, size);
			v->ops->port_out(v->ops_ctx, v, run->io.port, size, (u32)value);
		} else {
			value = v->ops->port_in(v->ops_ctx, v, run->io.port, size);
			memcpy(data, &value, size);
		}
	}
}

/* KVM splits at pages and at 8 bytes; what is left may still be 3, 5, 6 or 7 bytes long. */
static void answer_mmio(struct vcpu *v, struct kvm_run *run)
{
	unsigned len = run->mmio.len <= 8 ? run->mmio.len : 8, done = 0;

	while (done < len) {
		gpa_t at = gpa(run->mmio.phys_addr + done);
		unsigned left = len - done, n = 8;
		u64 value = 0;

		while (n > left)
			n >>= 1;
		v->stats.mmios++;
		if (run->mmio.is_write) {
			memcpy(&value, run->mmio.data + done, n);
			v->ops->mmio_write(v->ops_ctx, v, at, n, value);
		} else {
			value = v->ops->mmio_read(v->ops_ctx, v, at, n);
			memcpy(run->mmio.data + done, &value, n);
		}
		done += n;
	}
}

/*
 * MSRs that KVM does not have: the machine's (local APIC), else the table in x86/, whose constants
 * and checks need no pulled state. Of the registers that live in KVM only the time-stamp counter's
 * come here, when written.
 */
static void answer_msr(struct vcpu *v, struct kvm_run *run, bool write)
{
	u32 index = run->msr.index;
	u64 value = write ? run->msr.data : 0;
	int ret;

	if (write && (index == MSR_TSC || index == MSR_TSC_ADJUST))
		ret = kvm_write_tsc(v, index, value);
	else
		ret = write ? x86_wrmsr(&v->x86, index, value) : x86_rdmsr(&v->x86, index, &value);

	run->msr.error = ret != X86_OK; /* KVM raises #GP(0) */
	if (!write)
		run->msr.data = value;
}

/* ---- what ends run() ---- */

static enum cpu_exit leave(struct vcpu *v, enum cpu_exit why)
{
	v->stats.exits[why]++;
	return why;
}

static u64 current_rip(struct vcpu *v)
{
	struct kvm_vcpu *k = v->engine_data;
	struct kvm_regs regs = { 0 };

	ioctl(k->fd, KVM_GET_REGS, &regs);
	return regs.rip;
}

static const char *suberror_name(u32 suberror)
{
	switch (suberror) {
	case KVM_INTERNAL_ERROR_EMULATION: return "KVM cannot emulate the instruction";
	case KVM_INTERNAL_ERROR_SIMUL_EX: return "exceptions at the same time";
	case KVM_INTERNAL_ERROR_DELIVERY_EV: return "exit while delivering an event";
	case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON: return "unexpected hardware exit";
	default: return "unnamed";
	}
}

static enum cpu_exit fail(struct vcpu *v, const struct kvm_run *run)
{
	unsigned long long rip = current_rip(v);

	switch (run->exit_reason) {
	case KVM_EXIT_INTERNAL_ERROR:
		err_set(&v->error, -EIO, "vcpu %u: KVM internal error %u (%s) at RIP 0x%llx",
			v->index, run->internal.suberror, suberror_name(run->internal.suberror),
			rip);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		err_set(&v->error, -EIO,
			"vcpu %u: the processor refused to enter the guest, reason 0x%llx, at RIP "
			"0x%llx",
			v->index, (unsigned long long)run->fail_entry.hardware_entry_failure_reason,
			rip);
		break;
	default:
		err_set(&v->error, -EIO, "vcpu %u: KVM exit reason %u at RIP 0x%llx", v->index,
			run->exit_reason, rip);
		break;
	}
	return leave(v, CPU_EXIT_ERROR);
}

static enum cpu_exit fail_ioctl(struct vcpu *v, const char *what)
{
	err_set(&v->error, -errno, "vcpu %u: %s: %s, at RIP 0x%llx", v->index, what,
		strerror(errno), (unsigned long long)current_rip(v));
	return leave(v, CPU_EXIT_ERROR);
}

/* ---- before entry ---- */

/* INIT and start-up IPIs change the whole state, so it is pulled, changed and pushed. */
static int take_startup(struct vcpu *v, u32 attention)
{
	int ret = kvm_pull(v);

	if (ret < 0)
		return ret;
	if (attention & ATTN_INIT) {
		atomic_fetch_and(&v->attention, ~ATTN_INIT);
		x86_init(&v->x86);
	}
	if (attention & ATTN_SIPI) {
		atomic_fetch_and(&v->attention, ~ATTN_SIPI);
		if (v->x86.s.activity == X86_WAIT_SIPI)
			x86_sipi(&v->x86, atomic_load(&v->sipi_vector));
	}
	return kvm_push(v);
}

static int take_nmi(struct vcpu *v)
{
	struct kvm_vcpu *k = v->engine_data;

	atomic_fetch_and(&v->attention, ~ATTN_NMI);
	v->x86.s.activity = X86_RUNNING;
	v->stats.interrupts++;
	return ioctl(k->fd, KVM_NMI); /* KVM holds it while NMIs are blocked */
}

/* The next vector, acknowledged at its controller; -1: none. */
static int next_vector(struct vcpu *v)
{
	struct kvm_vcpu *k = v->engine_data;
	int vector = k->extint;

	k->extint = -1;
	return vector >= 0 ? vector : v->ops->interrupt(v->ops_ctx, v);
}

static int give_vector(struct vcpu *v, int vector)
{
	struct kvm_vcpu *k = v->engine_data;

	if (ioctl(k->fd, KVM_INTERRUPT, &(struct kvm_interrupt){ .irq = (u32)vector }) >= 0)
		return 0;
	if (errno != EEXIST)
		return -1;
	k->extint = vector;
	atomic_fetch_or(&v->attention, ATTN_INTR);
	return 0;
}

static int take_interrupt(struct vcpu *v)
{
	struct kvm_vcpu *k = v->engine_data;
	struct kvm_run *run = k->run;
	int vector;

	if (!run->ready_for_interrupt_injection || !run->if_flag) {
		run->request_interrupt_window = 1;
		return 0;
	}
	/* The bit first: one posted from here on must not be lost. */
	atomic_fetch_and(&v->attention, ~ATTN_INTR);
	run->request_interrupt_window = 0;
	vector = next_vector(v);
	if (vector < 0)
		return 0;
	v->x86.s.activity = X86_RUNNING;
	v->stats.interrupts++;
	if (v->trace.interrupts && v->trace.to)
		fprintf(v->trace.to, "vcpu%u: interrupt 0x%02x\n", v->index, vector);
	return give_vector(v, vector);
}

/* False: run() returns *why. */
static bool prepare(struct vcpu *v, enum cpu_exit *why)
{
	u32 attention = atomic_load(&v->attention);
	struct kvm_vcpu *k = v->engine_data;

	if (k->completing) /* not at a boundary: come back when the instruction is done */
		return true;
	if (attention & ATTN_STOP) {
		atomic_fetch_and(&v->attention, ~ATTN_STOP);
		*why = leave(v, CPU_EXIT_KICK);
		return false;
	}
	if ((attention & (ATTN_INIT | ATTN_SIPI)) && take_startup(v, attention) < 0) {
		*why = leave(v, CPU_EXIT_ERROR);
		return false;
	}
	if (v->x86.s.activity != X86_WAIT_SIPI && v->x86.s.activity != X86_SHUTDOWN &&
		(((attention & ATTN_NMI) && take_nmi(v) < 0) ||
			((attention & ATTN_INTR) && take_interrupt(v) < 0))) {
		*why = fail_ioctl(v, "injecting an interrupt");
		return false;
	}
	if (v->irqchip && v->x86.s.activity != X86_SHUTDOWN)
		return true; /* KVM waits itself */
	switch (v->x86.s.activity) {
	case X86_RUNNING: return true;
	case X86_HALTED: *why = leave(v, CPU_EXIT_HALT); return false;
	case X86_WAIT_SIPI: *why = leave(v, CPU_EXIT_WAIT); return false;
	case X86_SHUTDOWN: break;
	}
	*why = leave(v, CPU_EXIT_SHUTDOWN);
	return false;
}

/* ---- entry and exit ---- */

/* The task priority is CR8 and the local APIC's register at once; the exit shows guest writes. */
static int enter_with_cr8(struct vcpu *v, struct kvm_run *run)
{
	struct kvm_vcpu *k = v->engine_data;
	u64 cr8 = v->ops->cr8_read(v->ops_ctx, v);
	int ret, saved;

	run->cr8 = cr8;
	run->apic_base = v->x86.s.apic_base;
	ret = ioctl(k->fd, KVM_RUN, 0);
	saved = errno;
	if (run->cr8 != cr8)
		v->ops->cr8_write(v->ops_ctx, v, run->cr8);
	errno = saved;
	return ret;
}

static int enter(struct vcpu *v, struct kvm_run *run, bool only_complete)
{
	struct kvm_vcpu *k = v->engine_data;

	if (only_complete)
		__atomic_store_n(&run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	return v->irqchip ? ioctl(k->fd, KVM_RUN, 0) : enter_with_cr8(v, run);
}

/* True: go on; false: run() returns *why. */
static bool answer(struct vcpu *v, struct kvm_run *run, enum cpu_exit *why)
{
	struct kvm_vcpu *k = v->engine_data;

	if (v->trace.exits && v->trace.to)
		fprintf(v->trace.to, "vcpu%u: KVM exit %u\n", v->index, run->exit_reason);
	switch (run->exit_reason) {
	case KVM_EXIT_IO: answer_io(v, run); break;
	case KVM_EXIT_MMIO: answer_mmio(v, run); break;
	case KVM_EXIT_X86_RDMSR: answer_msr(v, run, false); break;
	case KVM_EXIT_X86_WRMSR: answer_msr(v, run, true); break;
	case KVM_EXIT_IOAPIC_EOI: v->ops->eoi(v->ops_ctx, v, run->eoi.vector); return true;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_SET_TPR: return true;
	case KVM_EXIT_HLT:
		v->x86.s.activity = X86_HALTED;
		return true; /* prepare() may wake it at once */
	case KVM_EXIT_SHUTDOWN:
		if (kvm_pull(v) < 0)
			*why = leave(v, CPU_EXIT_ERROR);
		else
			*why = leave(v, CPU_EXIT_SHUTDOWN);
		v->x86.s.activity = X86_SHUTDOWN;
		return false;
	default: *why = fail(v, run); return false;
	}
	k->completing = true;
	return true;
}

enum cpu_exit kvm_run_vcpu(struct vcpu *v)
{
	struct kvm_vcpu *k = v->engine_data;
	struct kvm_run *run = k->run;
	enum cpu_exit why;

	k->thread = pthread_self();
	atomic_store(&k->running, true);
	for (;;) {
		bool completing = k->completing;

		__atomic_store_n(&run->immediate_exit, 0, __ATOMIC_SEQ_CST);
		if (!prepare(v, &why))
			break;
		k->completing = false;
		if (enter(v, run, completing && atomic_load(&v->attention)) == 0) {
			if (!answer(v, run, &why))
				break;
		} else if (errno != EINTR && errno != EAGAIN) {
			why = fail_ioctl(v, "KVM_RUN");
			break;
		}
	}
	atomic_store(&k->running, false);
	return why;
}
