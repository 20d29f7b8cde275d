/*
 * The CPU model in KVM's terms. KVM is told every leaf of struct x86_model, feature words cut down
 * to what it can give: a bit it does not virtualize would promise instructions or registers that
 * fault. Kept although KVM does not list them: what our own local APIC provides, and properties
 * that KVM leaves to the caller.
 */
#include "x86/cpuid.h"
#include "base/bits.h"
#include "cpu/kvm/kvm_priv.h"
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

/* Words of feature bits, and the bits of each that do not depend on KVM. */
static const struct feature_leaf {
	u32 leaf, subleaf;
	struct x86_cpuid keep;
} feature_leaves[] = {
	/* EBX of leaf 1 is identity; ECX: x2APIC, TSC deadline, hypervisor; EDX: APIC, HTT */
	{ 1, 0, { ~0u, ~0u, BIT(21) | BIT(24) | BIT(31), BIT(9) | BIT(28) } },
	{ 7, 0, { ~0u, 0, 0, 0 } },
	{ 7, 1, { 0, 0, 0, 0 } },
	{ 0xd, 1, { 0, ~0u, ~0u, ~0u } },
	{ 0x40000001, 0, { 0, 0, 0, 0 } },
	/* ECX: CmpLegacy, TOPOEXT are topology */
	{ 0x80000001, 0, { ~0u, ~0u, BIT(1) | BIT(22), 0 } },
	{ 0x80000008, 0, { ~0u, BIT(26) | BIT(29), ~0u, ~0u } },
	/* immunity bits are promises about software, not features */
	{ 0x80000021, 0, { BIT(29) | BIT(30), 0, BIT(1) | BIT(2), 0 } },
};

static struct x86_cpuid limit(const struct kvm_vm *vm, u32 leaf, u32 subleaf, struct x86_cpuid c)
{
	for (unsigned i = 0; i < ARRAY_LEN(feature_leaves); i++) {
		const struct feature_leaf *f = &feature_leaves[i];
		const struct kvm_cpuid_entry2 *e;

		if (f->leaf != leaf || f->subleaf != subleaf)
			continue;
		e = kvm_vm_supported(vm, leaf, subleaf);
		c.eax &= f->keep.eax | (e ? e->eax : 0);
		c.ebx &= f->keep.ebx | (e ? e->ebx : 0);
		c.ecx &= f->keep.ecx | (e ? e->ecx : 0);
		c.edx &= f->keep.edx | (e ? e->edx : 0);
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
			limit(k->vm, leaf, sub, x86_cpuid(&v->x86, leaf, sub, v->index));

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
