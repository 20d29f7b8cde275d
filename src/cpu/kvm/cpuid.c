/*
 * The CPU model in KVM's terms. KVM is told every leaf of struct x86_model, its feature words
 * changed in two ways:
 *  - bits that KVM does not virtualize are cleared: they would promise instructions or registers
 *    that fault. `keep` are those it does not list although they work: what our own local APIC
 *    provides, and properties that KVM leaves to the caller;
 *  - `hardware` bits are KVM's own answer. The model's "immune" processor is a promise about
 *    software execution; here the guest's user code runs on the real processor beside the guest's
 * kernel, so the guest must learn which mitigations that processor needs and has.
 */
#include "base/bits.h"
#include "cpu/kvm/kvm_priv.h"
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#define SPECULATION_7_EDX    (BIT(10) | BIT(26) | BIT(27) | BIT(28) | BIT(29) | BIT(31))
#define SPECULATION_8_EBX    (BIT(12) | BIT(14) | BIT(15) | BIT(24) | BIT(26) | BIT(29) | BIT(30))
#define SPECULATION_0021_EAX (BIT(5) | BIT(8) | BIT(27) | BIT(28) | BIT(29) | BIT(30))
#define SPECULATION_0021_ECX (BIT(1) | BIT(2))

static const struct feature_leaf {
	u32 leaf, subleaf;
	struct x86_cpuid keep, hardware;
} feature_leaves[] = {
	/* EBX of leaf 1 is identity; ECX: x2APIC, TSC deadline, hypervisor; EDX: APIC, HTT */
	{ 1, 0, .keep = { ~0u, ~0u, BIT(21) | BIT(24) | BIT(31), BIT(9) | BIT(28) } },
	{ 7, 0, .keep = { .eax = ~0u }, .hardware = { .edx = SPECULATION_7_EDX } },
	{ 7, 1 },
	{ 0xd, 1, .keep = { 0, ~0u, ~0u, ~0u } },
	{ 0x40000001, 0 },
	/* ECX: CmpLegacy and TOPOEXT are topology */
	{ 0x80000001, 0, .keep = { ~0u, ~0u, BIT(1) | BIT(22), 0 } },
	{ 0x80000008, 0, .keep = { ~0u, 0, ~0u, ~0u }, .hardware = { .ebx = SPECULATION_8_EBX } },
	{ 0x80000021, 0, .hardware = { .eax = SPECULATION_0021_EAX, .ecx = SPECULATION_0021_ECX } },
};

static u32 limit_word(u32 model, u32 supported, u32 keep, u32 hardware)
{
	return (model & (supported | keep) & ~hardware) | (supported & hardware);
}

static struct x86_cpuid limit(const struct kvm_vm *vm, u32 leaf, u32 subleaf, struct x86_cpuid c)
{
	const struct kvm_cpuid_entry2 *known = kvm_vm_supported(vm, leaf, subleaf);
	struct kvm_cpuid_entry2 e = known ? *known : (struct kvm_cpuid_entry2){ 0 };

	for (unsigned i = 0; i < ARRAY_LEN(feature_leaves); i++) {
		const struct feature_leaf *f = &feature_leaves[i];

		if (f->leaf != leaf || f->subleaf != subleaf)
			continue;
		c.eax = limit_word(c.eax, e.eax, f->keep.eax, f->hardware.eax);
		c.ebx = limit_word(c.ebx, e.ebx, f->keep.ebx, f->hardware.ebx);
		c.ecx = limit_word(c.ecx, e.ecx, f->keep.ecx, f->hardware.ecx);
		c.edx = limit_word(c.edx, e.edx, f->keep.edx, f->hardware.edx);
	}
	return c;
}

int kvm_set_cpuid(struct vcpu *v, struct err *err)
{
	const struct x86_model *m = v->x86.model;
	struct kvm_vcpu *k = v->engine_data;
	struct kvm_cpuid_table t = { .nent = m->count };

	_Static_assert(X86_MODEL_LEAVES <= KVM_CPUID_MAX, "room for every leaf");
	for (unsigned i = 0; i < m->count; i++) {
		u32 leaf = m->leaf[i].leaf, sub = m->leaf[i].subleaf;
		struct x86_cpuid c =
			limit(k->vm, leaf, sub, x86_cpuid(&v->x86, leaf, sub, v->apic_id));

		t.entries[i] = (struct kvm_cpuid_entry2){
			.function = leaf,
			.index = sub,
			.flags = m->leaf[i].any_subleaf ? 0 : KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
			.eax = c.eax,
			.ebx = c.ebx,
			.ecx = c.ecx,
			.edx = c.edx,
		};
	}
	if (ioctl(k->fd, KVM_SET_CPUID2, &t) < 0)
		return err_set(err, -errno, "KVM_SET_CPUID2: %s", strerror(errno));
	return 0;
}
