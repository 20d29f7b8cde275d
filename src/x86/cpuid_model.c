/*
 * Building struct x86_model from the host's CPUID: features through the policy table, identity and
 * caches as the host says, topology for the number of vcpus asked for, the XSAVE layout of the
 * host.
 *
 * The topology (x86/topology.h) is in leaves 1, 4, 0xb, 0x1f, 0x80000008, 0x8000001d and
 * 0x8000001e, which all say the same.
 */
#include "base/bits.h"
#include "base/must.h"
#include "x86/cpuid.h"
#include "x86/cpuid_policy.h"
#include <cpuid.h>
#include <string.h>

#define MAX_BASIC_AMD	0x16u
#define MAX_BASIC_INTEL 0x1fu
#define MAX_KVM		0x40000010u
#define MAX_EXT_AMD	0x80000021u
#define MAX_EXT_INTEL	0x80000008u

#define SYSTEM_BITS                                                                               \
	(CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCE | CR4_MCE | \
		CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_UMIP | CR4_PCIDE | CR4_SMEP | CR4_SMAP)
#define EFER_AUTOIBRS BIT64(21)

#define XSAVE_LEGACY_END 576u /* legacy region and header */

struct x86_cpuid x86_native_cpuid(u32 leaf, u32 subleaf)
{
	struct x86_cpuid r;

	__cpuid_count(leaf, subleaf, r.eax, r.ebx, r.ecx, r.edx);
	return r;
}

struct build {
	struct x86_model *m;
	x86_host_cpuid host;
	u32 max_basic, max_ext; /* the host's */
};

static struct x86_cpuid host_leaf(const struct build *b, u32 leaf, u32 subleaf)
{
	u32 max = leaf & 0x80000000 ? b->max_ext : b->max_basic;

	return leaf <= max ? b->host(leaf, subleaf) : (struct x86_cpuid){ 0 };
}

static struct x86_cpuid *put(struct build *b, u32 leaf, u32 subleaf, struct x86_cpuid value)
{
	struct x86_model *m = b->m;

	must(m->count < X86_MODEL_LEAVES, "CPUID leaf 0x%x: table full", leaf);
	m->leaf[m->count].leaf = leaf;
	m->leaf[m->count].subleaf = subleaf;
	m->leaf[m->count].value = value;
	return &m->leaf[m->count++].value;
}

/* A leaf without subleaves ignores ECX. */
static struct x86_cpuid *put_plain(struct build *b, u32 leaf, struct x86_cpuid value)
{
	b->m->leaf[b->m->count].any_subleaf = true;
	return put(b, leaf, 0, value);
}

static u32 *reg_of(struct x86_cpuid *c, enum policy_reg reg)
{
	u32 *const regs[] = { &c->eax, &c->ebx, &c->ecx, &c->edx };

	return regs[reg];
}

static u32 policy_bits(const struct policy_row *row, u32 host, bool amd)
{
	switch (row->action) {
	case POLICY_HIDE: return 0;
	case POLICY_PASS: return row->bits & host;
	case POLICY_FORCE: return row->bits;
	case POLICY_FORCE_AMD: return amd ? row->bits : 0;
	case POLICY_FORCE_INTEL: return amd ? 0 : row->bits;
	case POLICY_PASS_AMD: return amd ? row->bits & host : 0;
	}
	unreachable();
}

/* One register of one leaf as the policy shapes it. */
static u32 feature_word(const struct build *b, u32 leaf, u32 subleaf, enum policy_reg reg)
{
	struct x86_cpuid host = host_leaf(b, leaf, subleaf);
	u32 word = 0;

	for (unsigned i = 0; i < x86_policy_count; i++) {
		const struct policy_row *row = &x86_policy[i];

		if (row->leaf == leaf && row->subleaf == subleaf && row->reg == reg)
			word |= policy_bits(row, *reg_of(&host, reg), b->m->amd);
	}
	for (unsigned i = 0; i < x86_policy_needs_count; i++) {
		const struct policy_needs *n = &x86_policy_needs[i];

		if (n->leaf == leaf && n->subleaf == subleaf && n->reg == reg &&
			(b->m->xcr0_mask & n->xcr0) != n->xcr0)
			word &= ~n->bits;
	}
	return word;
}

static struct x86_cpuid feature_leaf(const struct build *b, u32 leaf, u32 subleaf)
{
	return (struct x86_cpuid){
		.eax = feature_word(b, leaf, subleaf, REG_EAX),
		.ebx = feature_word(b, leaf, subleaf, REG_EBX),
		.ecx = feature_word(b, leaf, subleaf, REG_ECX),
		.edx = feature_word(b, leaf, subleaf, REG_EDX),
	};
}

/* ---- XSAVE layout ---- */

/*
 * Components the guest may enable: those in the state, that the host's operating system has enabled
 * too. CPUID tells the latter by the size for the current XCR0 (EBX), which no enabled component
 * can exceed. AVX-512's three go together.
 */
static void find_xsave_layout(struct build *b)
{
	/* Sizes are architectural; an area with others is not one that xsave.c can write. */
	static const u32 known[8] = { [2] = 256, [5] = 64, [6] = 512, [7] = 1024 };
	struct x86_model *m = b->m;
	struct x86_cpuid main = host_leaf(b, 0xd, 0);
	bool osxsave = host_leaf(b, 1, 0).ecx & BIT(27);

	m->xcr0_mask = XCR0_X87 | XCR0_SSE;
	m->xsave_size[0] = m->xsave_offset[1] = 160;
	m->xsave_size[1] = 256;
	for (unsigned i = 2; i < 8 && osxsave; i++) {
		struct x86_cpuid c = host_leaf(b, 0xd, i);

		if (!(main.eax & BIT(i)) || !known[i] || c.eax != known[i] ||
			c.ebx < XSAVE_LEGACY_END || !range_ok(c.ebx, c.eax, main.ebx) ||
			!range_ok(c.ebx, c.eax, PAGE_SIZE))
			continue;
		m->xcr0_mask |= BIT64(i);
		m->xsave_offset[i] = c.ebx;
		m->xsave_size[i] = c.eax;
		m->xsave_aligned |= c.ecx & 2 ? BIT(i) : 0;
	}
	if ((m->xcr0_mask & XCR0_AVX512) != XCR0_AVX512 || !(m->xcr0_mask & XCR0_AVX))
		m->xcr0_mask &= ~XCR0_AVX512;
}

static void put_xsave(struct build *b)
{
	struct x86_model *m = b->m;
	u32 end = XSAVE_LEGACY_END;

	if (!x86_model_has(m, 1, 0, REG_ECX, 26))
		return;
	for (unsigned i = 2; i < 8; i++)
		if (m->xcr0_mask & BIT64(i) && m->xsave_offset[i] + m->xsave_size[i] > end)
			end = m->xsave_offset[i] + m->xsave_size[i];
	/* EBX of both depends on XCR0 and XSS: filled in by x86_cpuid(). */
	put(b, 0xd, 0, (struct x86_cpuid){ .eax = (u32)m->xcr0_mask, .ecx = end });
	put(b, 0xd, 1, feature_leaf(b, 0xd, 1));
	for (unsigned i = 2; i < 8; i++)
		if (m->xcr0_mask & BIT64(i))
			put(b, 0xd, i,
				(struct x86_cpuid){ .eax = m->xsave_size[i],
					.ebx = m->xsave_offset[i],
					.ecx = m->xsave_aligned & BIT(i) ? 2 : 0 });
}

/* ---- identity and topology ---- */

static void find_vendor(struct build *b, struct x86_cpuid zero)
{
	struct x86_model *m = b->m;

	put_le32(m->vendor, zero.ebx);
	put_le32(m->vendor + 4, zero.edx);
	put_le32(m->vendor + 8, zero.ecx);
	m->amd = !strcmp(m->vendor, "AuthenticAMD") || !strcmp(m->vendor, "HygonGenuine");
}

static void put_leaf1(struct build *b)
{
	struct x86_cpuid c = feature_leaf(b, 1, 0);
	const struct x86_topology *t = &b->m->topology;
	u64 ids = BIT64(x86_topology_package_bits(t)), logical = ids > 255 ? 255 : ids;

	c.eax = host_leaf(b, 1, 0).eax;
	/* CLFLUSH line of 64 bytes; ids of logical processors in this package */
	c.ebx = 8u << 8 | (u32)logical << 16;
	if (x86_topology_package(t) > 1)
		c.edx |= BIT(28); /* HTT: the count above is valid */
	put_plain(b, 1, c);
}

/* Leaf 4 and its AMD twin 0x8000001d: caches up to L2 are a core's own, L3 is the package's. */
static void put_caches(struct build *b, u32 leaf)
{
	const struct x86_topology *t = &b->m->topology;
	u32 ids = BIT(x86_topology_package_bits(t)) - 1, cores = BIT(x86_topology_core_bits(t)) - 1;
	u32 threads = BIT(x86_topology_thread_bits(t)) - 1;

	for (u32 i = 0; i < 8; i++) {
		struct x86_cpuid c = host_leaf(b, leaf, i);
		u32 level = (c.eax >> 5) & 7;

		if (!(c.eax & 0x1f))
			break;
		c.eax &= 0x3fff;
		c.eax |= (level >= 3 ? ids : threads) << 14;
		if (leaf == 4)
			c.eax |= (cores > 63 ? 63 : cores) << 26;
		put(b, leaf, i, c);
	}
}

/* Leaf 0xb and, with the same levels, 0x1f; EDX, the x2APIC id, is filled in by x86_cpuid(). */
static void put_topology(struct build *b, u32 leaf)
{
	enum { LEVEL_SMT = 1, LEVEL_CORE = 2 };
	const struct x86_topology *t = &b->m->topology;

	put(b, leaf, 0,
		(struct x86_cpuid){ .eax = x86_topology_thread_bits(t),
			.ebx = t->threads,
			.ecx = LEVEL_SMT << 8 });
	put(b, leaf, 1,
		(struct x86_cpuid){ .eax = x86_topology_package_bits(t),
			.ebx = x86_topology_package(t),
			.ecx = 1 | LEVEL_CORE << 8 });
}

/* Crystal and TSC as a ratio, in kHz so that the terms fit (SDM 3B 18.7.3). */
static void put_frequencies(struct build *b)
{
	u64 tsc = b->m->tsc_hz / 1000, bus = X86_APIC_TIMER_HZ / 1000, x = tsc, y = bus;
	u32 mhz = (u32)(b->m->tsc_hz / 1000000);

	while (y) {
		u64 rest = x % y;

		x = y;
		y = rest;
	}
	put_plain(b, 0x15, (struct x86_cpuid){ (u32)(bus / x), (u32)(tsc / x), X86_APIC_TIMER_HZ });
	put_plain(b, 0x16, (struct x86_cpuid){ mhz, mhz, 100 });
}

static void put_kvm(struct build *b)
{
	struct x86_cpuid id = { .eax = MAX_KVM };

	memcpy(&id.ebx, "KVMK", 4);
	memcpy(&id.ecx, "VMKV", 4);
	memcpy(&id.edx, "M\0\0\0", 4);
	put_plain(b, 0x40000000, id);
	put_plain(b, 0x40000001, feature_leaf(b, 0x40000001, 0));
	put_plain(b, MAX_KVM,
		(struct x86_cpuid){ (u32)(b->m->tsc_hz / 1000), (u32)(X86_APIC_TIMER_HZ / 1000) });
}

static void put_brand(struct build *b)
{
	static const char fallback[48] = "Strata virtual processor";
	struct x86_cpuid part[3];

	for (u32 i = 0; i < 3; i++)
		part[i] = host_leaf(b, 0x80000002 + i, 0);
	if (!part[0].eax)
		memcpy(part, fallback, sizeof(part));
	for (u32 i = 0; i < 3; i++)
		put_plain(b, 0x80000002 + i, part[i]);
}

static void put_extended_features(struct build *b)
{
	const u32 same_as_leaf1 = 0x0183f3ff; /* AMD repeats these EDX bits (APM 3 E.4.2) */
	struct x86_cpuid c = feature_leaf(b, 0x80000001, 0);

	if (b->m->amd) {
		c.eax = host_leaf(b, 0x80000001, 0).eax;
		c.ebx = host_leaf(b, 0x80000001, 0).ebx;
		c.edx |= feature_word(b, 1, 0, REG_EDX) & same_as_leaf1;
		/* CmpLegacy: HTT means cores */
		c.ecx |= x86_topology_package(&b->m->topology) > 1 ? BIT(1) : 0;
	}
	put_plain(b, 0x80000001, c);
}

static void put_address_sizes(struct build *b)
{
	const struct x86_topology *t = &b->m->topology;
	struct x86_cpuid c = feature_leaf(b, 0x80000008, 0);

	c.eax = b->m->phys_bits | 48u << 8;
	if (b->m->amd)
		c.ecx = (x86_topology_package(t) - 1) | x86_topology_package_bits(t) << 12;
	put_plain(b, 0x80000008, c);
}

static void put_extended(struct build *b)
{
	const struct x86_model *m = b->m;
	struct x86_cpuid zero = { .eax = m->amd ? MAX_EXT_AMD : MAX_EXT_INTEL };

	if (m->amd) { /* Intel leaves them 0 */
		zero.ebx = get_le32(m->vendor);
		zero.edx = get_le32(m->vendor + 4);
		zero.ecx = get_le32(m->vendor + 8);
	}
	put_plain(b, 0x80000000, zero);
	put_extended_features(b);
	put_brand(b);
	if (m->amd)
		put_plain(b, 0x80000005, host_leaf(b, 0x80000005, 0));
	put_plain(b, 0x80000006, host_leaf(b, 0x80000006, 0));
	put_plain(b, 0x80000007, feature_leaf(b, 0x80000007, 0));
	put_address_sizes(b);
	if (!m->amd)
		return;
	put_plain(b, 0x80000019, host_leaf(b, 0x80000019, 0));
	put_plain(b, 0x8000001a, host_leaf(b, 0x8000001a, 0));
	put_caches(b, 0x8000001d);
	put_plain(b, 0x8000001e, (struct x86_cpuid){ 0 }); /* ids: filled in by x86_cpuid() */
	put_plain(b, 0x80000021, feature_leaf(b, 0x80000021, 0));
}

static void find_masks(struct build *b)
{
	struct x86_model *m = b->m;
	u32 bits = host_leaf(b, 0x80000008, 0).eax & 0xff;

	m->phys_bits = bits < 36 ? 36 : bits > 52 ? 52 : bits;
	m->cr4_mask = SYSTEM_BITS;
	m->efer_mask = EFER_SCE | EFER_LME | EFER_NXE | (m->amd ? EFER_AUTOIBRS : 0);
	m->mxcsr_mask = 0xffff;
}

/* Masks that follow from features, once these are known. */
static void refine_masks(struct x86_model *m)
{
	if (x86_model_has(m, 1, 0, REG_ECX, 26))
		m->cr4_mask |= CR4_OSXSAVE;
	else
		m->xcr0_mask = XCR0_X87;
	if (x86_model_has(m, 7, 0, REG_EBX, 0))
		m->cr4_mask |= CR4_FSGSBASE;
	if (x86_model_has(m, 0x80000001, 0, REG_ECX, 7))
		m->mxcsr_mask |= BIT(17); /* MXCSR.MM comes with MISALIGNSSE */
}

void x86_model_build(struct x86_model *model, x86_host_cpuid host, u64 tsc_hz,
	const struct x86_topology *topology)
{
	struct build b = { .m = model, .host = host };
	struct x86_cpuid zero = host(0, 0);

	*model = (struct x86_model){ .tsc_hz = tsc_hz ? tsc_hz : X86_APIC_TIMER_HZ };
	model->topology = *topology;
	b.max_basic = zero.eax;
	b.max_ext = host(0x80000000, 0).eax;
	find_vendor(&b, zero);
	find_masks(&b);
	find_xsave_layout(&b);

	u32 last = model->amd ? MAX_BASIC_AMD : MAX_BASIC_INTEL;
	put_plain(&b, 0, (struct x86_cpuid){ last, zero.ebx, zero.ecx, zero.edx });
	put_leaf1(&b);
	if (!model->amd) {
		put_plain(&b, 2, host_leaf(&b, 2, 0));
		put_caches(&b, 4);
	}
	put_plain(&b, 6, feature_leaf(&b, 6, 0));
	put(&b, 7, 0, feature_leaf(&b, 7, 0))->eax = 1; /* the last subleaf */
	put(&b, 7, 1, feature_leaf(&b, 7, 1));
	put_topology(&b, 0xb);
	if (!model->amd)
		put_topology(&b, 0x1f);
	put_xsave(&b);
	put_frequencies(&b);
	put_kvm(&b);
	put_extended(&b);
	refine_masks(model);
}
