/*
 * The CPU model in a saved state. What CPUID has said to a guest must be true as long as it runs:
 * programs choose their code once, by what they find at their start.
 *
 * Loading builds the model with the saved leaves in the place of a host's, and compares what comes
 * of that with the leaves. The policy leaves alone what it has made itself, so a model that was
 * saved comes out as it was; anything else was made by another version, or by nobody.
 */
#include "base/bits.h"
#include "x86/cpuid.h"
#include "x86/cpuid_policy.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* How far a guest's clocks may be off, with a host whose counter is nearly as fast: as KVM has it
 * for its own migrations, 250 parts per million. */
#define TSC_TOLERANCE 4000u

#define LEAF_XSAVE 0xdu

void x86_model_save(const struct x86_model *model, struct x86_model_saved *saved)
{
	*saved = (struct x86_model_saved){ .tsc_hz = model->tsc_hz, .count = model->count };
	for (unsigned i = 0; i < model->count; i++) {
		const struct x86_cpuid *v = &model->leaf[i].value;

		saved->leaf[i].leaf = model->leaf[i].leaf;
		saved->leaf[i].subleaf = model->leaf[i].subleaf;
		saved->leaf[i].eax = v->eax;
		saved->leaf[i].ebx = v->ebx;
		saved->leaf[i].ecx = v->ecx;
		saved->leaf[i].edx = v->edx;
	}
}

/* What the builder asks, since a host needs no context. */
static _Thread_local const struct x86_model_saved *asked;

static struct x86_cpuid saved_host(u32 leaf, u32 subleaf)
{
	struct x86_cpuid v = { 0 };

	for (unsigned i = 0; i < asked->count; i++)
		if (asked->leaf[i].leaf == leaf && asked->leaf[i].subleaf == subleaf)
			v = (struct x86_cpuid){ asked->leaf[i].eax, asked->leaf[i].ebx,
				asked->leaf[i].ecx, asked->leaf[i].edx };
	/* Two answers that depend on what a system has enabled: everything. */
	if (leaf == 1 && v.ecx & BIT(26))
		v.ecx |= BIT(27);
	if (leaf == LEAF_XSAVE && !subleaf)
		v.ebx = v.ecx;
	return v;
}

/* Frequencies are rounded in some leaves, and said exactly elsewhere. */
static bool says_frequency(u32 leaf) { return leaf == 0x15 || leaf == 0x16 || leaf == 0x40000010; }

static bool says_the_same(const struct x86_model *m, const struct x86_model_saved *saved)
{
	struct x86_model_saved again;

	x86_model_save(m, &again);
	for (unsigned i = 0; i < saved->count; i++)
		if (says_frequency(saved->leaf[i].leaf) &&
			again.leaf[i].leaf == saved->leaf[i].leaf)
			again.leaf[i] = saved->leaf[i];
	return again.count == saved->count &&
	       !memcmp(again.leaf, saved->leaf, saved->count * sizeof(saved->leaf[0]));
}

int x86_model_load(struct x86_model *model, const struct x86_model_saved *saved,
	const struct x86_topology *topology, struct err *err)
{
	if (saved->count > X86_MODEL_LEAVES || !saved->tsc_hz)
		return err_set(err, -EINVAL, "its processor is none that this strata makes");
	asked = saved;
	x86_model_build(model, saved_host, saved->tsc_hz, topology);
	asked = NULL;
	return says_the_same(model, saved) ? 0
					   : err_set(err, -EINVAL,
						     "its processor is none that this strata "
						     "makes: another version, or another "
						     "configuration, has saved it");
}

/* ---- what a host can be ---- */

static const u32 *reg_of(const struct x86_model *m, u32 leaf, u32 subleaf, enum policy_reg reg)
{
	static const u32 none = 0;

	for (unsigned i = 0; i < m->count; i++)
		if (m->leaf[i].leaf == leaf && m->leaf[i].subleaf == subleaf) {
			const struct x86_cpuid *v = &m->leaf[i].value;
			const u32 *const regs[] = { &v->eax, &v->ebx, &v->ecx, &v->edx };

			return regs[reg];
		}
	return &none;
}

/* Rows name their bits in order. */
static void name_bit(const struct policy_row *row, unsigned bit, char name[40])
{
	const char *at = row->what;

	for (u32 below = row->bits & (BIT(bit) - 1); below && *at; below &= below - 1) {
		at += strcspn(at, " ");
		at += strspn(at, " ");
	}
	snprintf(name, 40, "%.*s", (int)strcspn(at, " "), at);
}

static int lacks(const struct policy_row *row, u32 bits, struct err *err)
{
	char name[40];

	name_bit(row, (unsigned)__builtin_ctz(bits), name);
	return err_set(err, -ENOTSUP,
		"this host's processor cannot do what the saved one can: it lacks %s", name);
}

/* Where components of the XSAVE area lie is not for us to choose. */
static bool same_area(const struct x86_model *model, const struct x86_model *host)
{
	if (model->xcr0_mask & ~host->xcr0_mask)
		return false;
	for (unsigned i = 2; i < ARRAY_LEN(model->xsave_size); i++)
		if (model->xcr0_mask & BIT64(i) &&
			(model->xsave_size[i] != host->xsave_size[i] ||
				model->xsave_offset[i] != host->xsave_offset[i] ||
				(model->xsave_aligned ^ host->xsave_aligned) & BIT(i)))
			return false;
	return true;
}

int x86_model_fits(const struct x86_model *model, const struct x86_model *host, struct err *err)
{
	u64 apart = model->tsc_hz > host->tsc_hz ? model->tsc_hz - host->tsc_hz
						 : host->tsc_hz - model->tsc_hz;

	if (strcmp(model->vendor, host->vendor))
		return err_set(err, -ENOTSUP,
			"the saved processor is one of %s, and this host's one of %s",
			model->vendor, host->vendor);
	for (unsigned i = 0; i < x86_policy_count; i++) {
		const struct policy_row *row = &x86_policy[i];
		u32 missing = *reg_of(model, row->leaf, row->subleaf, row->reg) &
			      ~*reg_of(host, row->leaf, row->subleaf, row->reg) & row->bits;

		if (missing)
			return lacks(row, missing, err);
	}
	if (!same_area(model, host) || model->mxcsr_mask & ~host->mxcsr_mask)
		return err_set(err, -ENOTSUP,
			"this host's processor keeps its vector registers in another way than the "
			"saved one");
	if (model->phys_bits > host->phys_bits)
		return err_set(err, -ENOTSUP,
			"the saved processor has addresses of %u bits, and this host's of %u",
			model->phys_bits, host->phys_bits);
	if (apart > model->tsc_hz / TSC_TOLERANCE)
		return err_set(err, -ENOTSUP,
			"the saved processor's time stamp counter runs at %llu kHz, and this "
			"host's at %llu kHz",
			(unsigned long long)model->tsc_hz / 1000,
			(unsigned long long)host->tsc_hz / 1000);
	return 0;
}
