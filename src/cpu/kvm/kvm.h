/*
 * The kvm engine: guest instructions run on the processor's virtualization through /dev/kvm.
 *
 * Local APICs are KVM's where it offers them apart from the other interrupt controllers (the
 * "split" chip, cpu/irqchip.h): timer, IPIs, EOI and halting then cost no exit, and event
 * descriptors can interrupt the guest. Elsewhere, and with --kvm user-irqchip, all controllers are
 * ours and each access to an APIC is an exit.
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

/*
 * An interrupt by event descriptor: whoever signals it, KVM delivers the message, without a thread
 * of ours. Returns the number by which it is removed, or -errno; refused with a reason where local
 * APICs are in user space.
 */
struct kvm_irq_event {
	int fd;
	u64 address;
	u32 data;
};
NODISCARD int kvm_irq_event_add(struct memory *m, const struct kvm_irq_event *e, struct err *err);
NODISCARD int kvm_irq_event_remove(struct memory *m, int fd, int number, struct err *err);
