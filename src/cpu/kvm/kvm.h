/*
 * The kvm engine: guest instructions run on the processor's virtualization through /dev/kvm.
 *
 * Interrupt controllers are ours, in user space: KVM's in-kernel ones are not created. The devices
 * are then the same under every engine, their state never has to be translated, and interrupts
 * arrive through vcpu->ops->interrupt. The price is an exit per APIC access; an in-kernel or split
 * controller can be added beside it, and only then can KVM_IRQFD inject without an exit.
 *
 * The vcpus of one struct memory share one KVM VM, made by the first open() and destroyed by the
 * last close(). Slots are given to KVM when the VM is made.
 */
#pragma once
#include "cpu/vcpu.h"

extern const struct cpu_engine kvm_engine;

/*
 * Dirty pages: after kvm_log_dirty(m, true) KVM notes which pages guests write; kvm_sync_dirty()
 * moves that into the page flags (memory_written(): MEM_DIRTY, code watchers) and starts over. Any
 * thread.
 */
NODISCARD int kvm_log_dirty(struct memory *m, bool on, struct err *err);
NODISCARD int kvm_sync_dirty(struct memory *m, struct err *err);

/*
 * A doorbell: guest writes of `size` bytes (0: any size) to the port or MMIO address signal the
 * event descriptor instead of leaving KVM_RUN. With `match`, only writes of that value do.
 */
struct kvm_doorbell {
	u64 at;
	u32 size;
	bool port, match;
	u64 value;
	int fd;
};
NODISCARD int kvm_doorbell(
	struct memory *m, const struct kvm_doorbell *d, bool add, struct err *err);

/* Ties an event descriptor to an interrupt line of an in-kernel controller; refused with a reason
 * while the VM has none. */
NODISCARD int kvm_irq_event(struct memory *m, int fd, u32 line, bool add, struct err *err);
