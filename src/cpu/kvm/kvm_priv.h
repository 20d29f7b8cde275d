/* What the files of the kvm engine share. */
#pragma once
#include "cpu/kvm/kvm.h"
#include "cpu/kvm/options.h"
#include "cpu/kvm/routes.h"
#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>

#define KVM_MSRS_MAX  64
#define KVM_CPUID_MAX 160

/* struct kvm_cpuid2 and struct kvm_msrs with room for their entries. */
struct kvm_cpuid_table {
	u32 nent, padding;
	struct kvm_cpuid_entry2 entries[KVM_CPUID_MAX];
};
_Static_assert(offsetof(struct kvm_cpuid_table, entries) == offsetof(struct kvm_cpuid2, entries),
	"struct kvm_cpuid2");

struct kvm_one_msr {
	u32 nmsrs, pad;
	struct kvm_msr_entry entry;
};
_Static_assert(offsetof(struct kvm_one_msr, entry) == offsetof(struct kvm_msrs, entries),
	"struct kvm_msrs");

/* One KVM VM for all vcpus of a machine. */
struct kvm_vm {
	struct memory *memory; /* identifies it */
	unsigned users;
	int dev, fd;
	size_t run_size; /* of a vcpu's shared kvm_run area */
	u32 slots;	 /* given to KVM */
	struct kvm_cpuid_table supported;
	u32 msrs[KVM_MSRS_MAX]; /* indices into x86_msr_slots that this KVM carries */
	u32 msr_count;
	bool split; /* KVM has the local APICs: irqchip.c */

	pthread_mutex_t routes_lock; /* guards what follows */
	struct routes routes;
	struct routes_image image; /* of routes, as KVM was told last */
};

struct kvm_vcpu {
	struct kvm_vm *vm;
	int fd;
	struct kvm_run *run;
	bool completing;  /* an access was answered; the next KVM_RUN finishes the instruction */
	int extint;	  /* a vector of the 8259 that KVM does not take yet; -1: none */
	u64 cr8;	  /* with the split chip: as pulled */
	pthread_t thread; /* in run() */
	_Atomic bool running;
};

/* ---- vm.c ---- */
struct kvm_vm *kvm_vm_get(struct memory *m, u32 options, struct err *err);
void kvm_vm_put(struct kvm_vm *vm);
/* The VM that uses this memory; NULL with err. */
struct kvm_vm *kvm_vm_of(struct memory *m, struct err *err);
/* Can this host's KVM keep the local APICs? 0, or -errno with why not. */
int kvm_vm_try_split(struct err *why);
/* The features of `leaf` that KVM can give; NULL when it does not know the leaf. */
const struct kvm_cpuid_entry2 *kvm_vm_supported(const struct kvm_vm *vm, u32 leaf, u32 subleaf);

/* ---- irqchip.c ---- */
extern const struct cpu_irqchip kvm_irqchip;
/* Asks for the split chip in a VM without vcpus. */
int kvm_irqchip_enable(int vm, struct err *why);
int kvm_pull_mp_state(struct vcpu *v);
int kvm_push_mp_state(struct vcpu *v);

/* ---- cpuid.c ---- */
int kvm_set_cpuid(struct vcpu *v, struct err *err);

/* ---- state.c ---- */
int kvm_pull(struct vcpu *v);
int kvm_push(struct vcpu *v);
/* The guest writes IA32_TSC or IA32_TSC_ADJUST: X86_OK, or X86_FAULT for #GP(0). */
int kvm_write_tsc(struct vcpu *v, u32 index, u64 value);

/* ---- ops.c: struct x86_ops for x86/ functions called on a pulled state ---- */
const struct x86_ops *kvm_x86_ops(void);

/* ---- run.c ---- */
enum cpu_exit kvm_run_vcpu(struct vcpu *v);
void kvm_kick(struct vcpu *v);
/* Installs the no-op handler that lets a signal interrupt KVM_RUN; once per process. */
void kvm_install_kick(void);

/* ---- probe.c ---- */
int kvm_probe(struct err *why);
