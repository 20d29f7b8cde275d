/*
 * The split interrupt controller: local APICs in KVM, everything else ours.
 *
 * What that changes for a vcpu:
 *  - its registers, page and x2APIC MSRs alike, IA32_APIC_BASE, IA32_TSC_DEADLINE and CR8 are
 * KVM's, and so are INIT, start-up IPIs and halting: run() comes back from none of them, and what a
 *    processor waits for is KVM's "mp state";
 *  - messages go in through KVM_SIGNAL_MSI; a level-triggered one's EOI comes out as an exit if
 *    KVM's routes say that an I/O APIC pin sends it (routes.h);
 *  - the 8259's vector is still handed in by KVM_INTERRUPT, and KVM asks LINT0 whether it is
 * wanted.
 *
 * Whether the host's KVM can do it is found out when the VM is made, by asking for it: once a vcpu
 * exists there is no way back.
 */
#include "base/bits.h"
#include "base/log.h"
#include "cpu/kvm/kvm_priv.h"
#include "x86/msr.h"
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

/* ---- making it ---- */

static const struct {
	int cap;
	const char *name;
} needed[] = {
	{ KVM_CAP_SPLIT_IRQCHIP, "a split interrupt controller" },
	{ KVM_CAP_SIGNAL_MSI, "interrupt messages" },
	{ KVM_CAP_IRQ_ROUTING, "interrupt routes" },
	{ KVM_CAP_MP_STATE, "the state of waiting processors" },
	{ KVM_CAP_X2APIC_API, "32-bit APIC ids" },
	{ KVM_CAP_TSC_DEADLINE_TIMER, "the TSC-deadline timer" },
};

static int enable(int vm, u32 cap, u64 arg)
{
	struct kvm_enable_cap enable = { .cap = cap, .args = { arg } };

	return ioctl(vm, KVM_ENABLE_CAP, &enable);
}

int kvm_irqchip_enable(int vm, struct err *why)
{
	for (unsigned i = 0; i < ARRAY_LEN(needed); i++)
		if (ioctl(vm, KVM_CHECK_EXTENSION, needed[i].cap) <= 0)
			return err_set(why, -ENOTSUP, "KVM lacks %s", needed[i].name);
	if (enable(vm, KVM_CAP_X2APIC_API, KVM_X2APIC_API_USE_32BIT_IDS) < 0)
		return err_set(why, -errno, "KVM_CAP_X2APIC_API: %s", strerror(errno));
	if (enable(vm, KVM_CAP_SPLIT_IRQCHIP, IRQCHIP_PINS) < 0)
		return err_set(why, -errno, "KVM_CAP_SPLIT_IRQCHIP: %s", strerror(errno));
	return 0;
}

/* ---- messages and routes ---- */

static struct kvm_vm *vm_of(struct vcpu *v) { return ((struct kvm_vcpu *)v->engine_data)->vm; }

/* A message that nobody takes is lost, as on the bus. */
static void send(struct vcpu *v, u64 address, u32 data)
{
	struct kvm_msi msi = {
		.address_lo = (u32)address, .address_hi = (u32)(address >> 32), .data = data
	};

	if (ioctl(vm_of(v)->fd, KVM_SIGNAL_MSI, &msi) < 0)
		guest_err("kvm", "message 0x%x to 0x%llx: %s", data, (unsigned long long)address,
			strerror(errno));
}

static int tell_routes_locked(struct kvm_vm *vm)
{
	routes_build(&vm->routes, &vm->image);
	return ioctl(vm->fd, KVM_SET_GSI_ROUTING, &vm->image) < 0 ? -errno : 0;
}

static void route(struct vcpu *v, unsigned pin, u64 address, u32 data)
{
	struct kvm_vm *vm = vm_of(v);

	pthread_mutex_lock(&vm->routes_lock);
	int ret = routes_set_pin(&vm->routes, pin, address, data) ? tell_routes_locked(vm) : 0;
	pthread_mutex_unlock(&vm->routes_lock);
	if (ret < 0)
		log_err("kvm", "route of pin %u: %s; its interrupts may stop", pin, strerror(-ret));
}

/* ---- event descriptors ---- */

static int set_event(struct kvm_vm *vm, int fd, unsigned gsi, bool on)
{
	struct kvm_irqfd irq = {
		.fd = (u32)fd, .gsi = gsi, .flags = on ? 0 : KVM_IRQFD_FLAG_DEASSIGN
	};

	return ioctl(vm->fd, KVM_IRQFD, &irq) < 0 ? -errno : 0;
}

static int add_event_locked(struct kvm_vm *vm, const struct kvm_irq_event *e)
{
	int gsi = routes_add(&vm->routes, e->address, e->data);
	int ret = gsi < 0 ? gsi : tell_routes_locked(vm);

	ret = ret ?: set_event(vm, e->fd, (unsigned)gsi, true);
	if (ret < 0 && gsi >= 0)
		routes_remove(&vm->routes, (unsigned)gsi);
	return ret < 0 ? ret : gsi;
}

int kvm_irq_event_add(struct memory *m, const struct kvm_irq_event *e, struct err *err)
{
	struct kvm_vm *vm = kvm_vm_of(m, err);

	if (!vm)
		return -ENODEV;
	if (!vm->split)
		return err_set(
			err, -ENOTSUP, "interrupt event: interrupt controllers are in user space");
	pthread_mutex_lock(&vm->routes_lock);
	int ret = add_event_locked(vm, e);
	pthread_mutex_unlock(&vm->routes_lock);
	return ret < 0 ? err_set(err, ret, "interrupt event: %s", strerror(-ret)) : ret;
}

int kvm_irq_event_remove(struct memory *m, int fd, int gsi, struct err *err)
{
	struct kvm_vm *vm = kvm_vm_of(m, err);

	if (!vm)
		return -ENODEV;
	if (gsi < (int)IRQCHIP_PINS || gsi >= (int)ROUTES_MAX)
		return err_set(err, -EINVAL, "interrupt event %d does not exist", gsi);
	pthread_mutex_lock(&vm->routes_lock);
	int ret = set_event(vm, fd, (unsigned)gsi, false);
	if (!ret) {
		routes_remove(&vm->routes, (unsigned)gsi);
		ret = tell_routes_locked(vm);
	}
	pthread_mutex_unlock(&vm->routes_lock);
	return ret < 0 ? err_set(err, ret, "interrupt event %d: %s", gsi, strerror(-ret)) : 0;
}

/* ---- state ---- */

_Static_assert(sizeof(((struct kvm_lapic_state *)0)->regs) == IRQCHIP_REGS * 16, "the page");

static int fail(struct vcpu *v, const char *what)
{
	return err_set(&v->error, -errno, "vcpu %u: %s: %s", v->index, what, strerror(errno));
}

static int pull(struct vcpu *v, struct irqchip_lapic *l)
{
	struct kvm_vcpu *k = v->engine_data;
	struct kvm_one_msr deadline = { .nmsrs = 1, .entry.index = MSR_TSC_DEADLINE };
	struct kvm_lapic_state page;

	if (ioctl(k->fd, KVM_GET_LAPIC, &page) < 0)
		return fail(v, "KVM_GET_LAPIC");
	if (ioctl(k->fd, KVM_GET_MSRS, &deadline) != 1)
		return fail(v, "KVM_GET_MSRS of IA32_TSC_DEADLINE");
	l->base = v->x86.s.apic_base;
	l->tsc_deadline = deadline.entry.data;
	for (unsigned i = 0; i < IRQCHIP_REGS; i++)
		l->reg[i] = get_le32((const u8 *)page.regs + 16 * i);
	return 0;
}

/* The deadline last: KVM takes it only in that mode of the timer, which the page says. */
static int push(struct vcpu *v, const struct irqchip_lapic *l)
{
	struct kvm_vcpu *k = v->engine_data;
	struct kvm_one_msr deadline = { .nmsrs = 1,
		.entry = { .index = MSR_TSC_DEADLINE, .data = l->tsc_deadline } };
	struct kvm_lapic_state page = { 0 };

	k->extint = -1; /* what the state before this one was about to take */
	for (unsigned i = 0; i < IRQCHIP_REGS; i++)
		put_le32((u8 *)page.regs + 16 * i, l->reg[i]);
	if (ioctl(k->fd, KVM_SET_LAPIC, &page) < 0)
		return fail(v, "KVM_SET_LAPIC");
	if (ioctl(k->fd, KVM_SET_MSRS, &deadline) != 1)
		return fail(v, "KVM_SET_MSRS of IA32_TSC_DEADLINE");
	return 0;
}

const struct cpu_irqchip kvm_irqchip = {
	.send = send,
	.route = route,
	.pull = pull,
	.push = push,
};

/* What a processor waits for, in KVM's words. An INIT that came before the first start-up IPI and
 * one that did not come yet are the same to us. */

int kvm_pull_mp_state(struct vcpu *v)
{
	struct kvm_vcpu *k = v->engine_data;
	struct kvm_mp_state mp;

	if (ioctl(k->fd, KVM_GET_MP_STATE, &mp) < 0)
		return fail(v, "KVM_GET_MP_STATE");
	switch (mp.mp_state) {
	case KVM_MP_STATE_HALTED: v->x86.s.activity = X86_HALTED; break;
	case KVM_MP_STATE_UNINITIALIZED:
	case KVM_MP_STATE_INIT_RECEIVED:
	case KVM_MP_STATE_SIPI_RECEIVED: v->x86.s.activity = X86_WAIT_SIPI; break;
	default: v->x86.s.activity = X86_RUNNING; break;
	}
	return 0;
}

int kvm_push_mp_state(struct vcpu *v)
{
	static const u32 states[] = {
		[X86_RUNNING] = KVM_MP_STATE_RUNNABLE,
		[X86_HALTED] = KVM_MP_STATE_HALTED,
		[X86_WAIT_SIPI] = KVM_MP_STATE_INIT_RECEIVED,
		[X86_SHUTDOWN] = KVM_MP_STATE_RUNNABLE,
	};
	struct kvm_vcpu *k = v->engine_data;
	struct kvm_mp_state mp = { .mp_state = states[v->x86.s.activity] };

	return ioctl(k->fd, KVM_SET_MP_STATE, &mp) < 0 ? fail(v, "KVM_SET_MP_STATE") : 0;
}
