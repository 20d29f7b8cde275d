/*
 * CPUID as a guest sees it: a look-up in the model, and the few fields that depend on the moment or
 * on the vcpu (SDM 2A "CPUID").
 */
#include "x86/cpuid.h"
#include "x86/xsave.h"

static const struct x86_cpuid *find(const struct x86_model *m, u32 leaf, u32 subleaf)
{
	for (unsigned i = 0; i < m->count; i++)
		if (m->leaf[i].leaf == leaf &&
			(m->leaf[i].any_subleaf || m->leaf[i].subleaf == subleaf))
			return &m->leaf[i].value;
	return NULL;
}

static bool in_range(const struct x86_model *m, u32 leaf, u32 base)
{
	const struct x86_cpuid *first = find(m, base, 0);

	return first && leaf >= base && leaf <= first->eax;
}

/* Intel answers leaves beyond the last one with the highest basic leaf; AMD with zeros. */
static u32 clamp_leaf(const struct x86_model *m, u32 leaf)
{
	if (m->amd || in_range(m, leaf, 0) || in_range(m, leaf, 0x40000000) ||
		in_range(m, leaf, 0x80000000))
		return leaf;
	return m->count ? find(m, 0, 0)->eax : leaf;
}

/* Threads of a core and its number in its package; a package is one node (APM 3 E.4.17). */
static void fill_amd_ids(const struct x86_topology *t, u32 apic_id, struct x86_cpuid *c)
{
	u32 core = apic_id >> x86_topology_thread_bits(t);

	c->eax = apic_id;
	c->ebx = (t->threads - 1) << 8 | (core & (BIT(x86_topology_core_bits(t)) - 1));
	c->ecx = apic_id >> x86_topology_package_bits(t);
}

static void fill_dynamic(
	const struct x86_cpu *cpu, u32 leaf, u32 subleaf, u32 apic_id, struct x86_cpuid *c)
{
	const struct x86_state *s = &cpu->s;

	switch (leaf) {
	case 1:
		c->ebx |= apic_id << 24;
		c->ecx |= s->cr4 & CR4_OSXSAVE ? BIT(27) : 0;
		if (!(s->apic_base & BIT64(11))) /* IA32_APIC_BASE.EN (SDM 3A 10.4.3) */
			c->edx &= ~BIT(9);
		break;
	case 0xb:
	case 0x1f:
		c->ecx |= subleaf & 0xff; /* echoed even beyond the last level */
		c->edx = apic_id;
		break;
	case 0xd:
		if (subleaf == 0)
			c->ebx = x86_xsave_size(cpu->model, s->xcr0, false);
		else if (subleaf == 1 && (c->eax & BIT(3)))
			c->ebx = x86_xsave_size(cpu->model, s->xcr0 | s->xss, true);
		else if (subleaf == 1 && (c->eax & BIT(1)))
			c->ebx = x86_xsave_size(cpu->model, s->xcr0, true);
		break;
	case 0x8000001e: fill_amd_ids(&cpu->model->topology, apic_id, c); break;
	default: break;
	}
}

struct x86_cpuid x86_cpuid(const struct x86_cpu *cpu, u32 leaf, u32 subleaf, u32 apic_id)
{
	const struct x86_cpuid *found;
	struct x86_cpuid c = { 0 };
	bool known;

	leaf = clamp_leaf(cpu->model, leaf);
	found = find(cpu->model, leaf, subleaf);
	known = found || leaf == 0xb || (leaf == 0x1f && !cpu->model->amd);
	if (found)
		c = *found;
	if (known)
		fill_dynamic(cpu, leaf, subleaf, apic_id, &c);
	return c;
}

bool x86_model_has(const struct x86_model *model, u32 leaf, u32 subleaf, unsigned reg, unsigned bit)
{
	const struct x86_cpuid *c = find(model, leaf, subleaf);
	const u32 regs[4] = { c ? c->eax : 0, c ? c->ebx : 0, c ? c->ecx : 0, c ? c->edx : 0 };

	return reg < 4 && bit < 32 && (regs[reg] & BIT(bit));
}
