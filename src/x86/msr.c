/*
 * Model-specific registers (SDM volume 4, AMD APM volume 2 appendix A) as one sorted table.
 *
 * A row says where the register lives in struct x86_state, or which constant it reads as, which
 * bits a write may change, and what it does with the other bits: `ignore` bits are dropped
 * silently, any further bit that differs from the current value is #GP(0). `check` refuses values
 * that bits cannot describe; `write` has the consequences and then also stores. `gate` hides rows
 * that the CPU model does not announce.
 *
 * What the table lacks is asked of ops (local APIC base, x2APIC registers, TSC deadline: owned by
 * the local APIC), and else raises #GP(0). Linux probes with rdmsr_safe; the constants below are
 * those it reads without that, or complains about when they are missing.
 */
#include "x86/msr.h"
#include "base/bits.h"
#include "x86/control.h"
#include "x86/cpuid.h"
#include "x86/kvmclock.h"
#include "x86/mode.h"

struct msr_row {
	u32 index;
	u16 count; /* consecutive numbers, consecutive u64 in the state */
	u8 size;   /* of the state field; 0: constant */
	const char *name;
	u32 offset;
	u64 value; /* of a constant */
	u64 writable, ignore;
	bool (*gate)(const struct x86_model *model);
	bool (*check)(struct x86_cpu *cpu, u32 index, u64 value);
	int (*write)(struct x86_cpu *cpu, u32 index, u64 value);
	u64 (*read)(struct x86_cpu *cpu);
};

#define ALL   (~0ull)
#define LOW32 0xffffffffull

/* ---- gates ---- */

static bool is_amd(const struct x86_model *m) { return m->amd; }
static bool is_intel(const struct x86_model *m) { return !m->amd; }
static bool has_tsc_adjust(const struct x86_model *m) { return x86_model_has(m, 7, 0, 1, 1); }
static bool has_spec_ctrl(const struct x86_model *m) { return x86_model_has(m, 7, 0, 3, 26); }
static bool has_arch_cap(const struct x86_model *m) { return x86_model_has(m, 7, 0, 3, 29); }
static bool has_xss(const struct x86_model *m) { return x86_model_has(m, 0xd, 1, 0, 3); }
static bool has_kvm(const struct x86_model *m) { return x86_model_has(m, 0x40000001, 0, 0, 3); }
static bool has_tsc_aux(const struct x86_model *m)
{
	return x86_model_has(m, 0x80000001, 0, 3, 27) || x86_model_has(m, 7, 0, 2, 22);
}

/* ---- checks ---- */

static bool canonical(struct x86_cpu *cpu, u32 index, u64 value) { return x86_canonical(value); }

static bool memory_type_ok(u64 type) { return type <= 6 && type != 2 && type != 3; }

/* Eight memory types, a byte each; PAT also has UC- (7) (SDM 3A 11.12.2). */
static bool types_valid(u64 value, bool pat)
{
	for (unsigned i = 0; i < 8; i++) {
		u64 type = bits(value, 8 * i + 7, 8 * i);

		if (!memory_type_ok(type) && !(pat && type == 7))
			return false;
	}
	return true;
}

static bool pat_valid(struct x86_cpu *cpu, u32 index, u64 value)
{
	return types_valid(value, true);
}
static bool mtrr_fix_valid(struct x86_cpu *cpu, u32 index, u64 value)
{
	return types_valid(value, false);
}

/* SDM 3A 11.11.2.3: base has a type and reserved bits 11:8, mask a valid bit and reserved 10:0. */
static bool mtrr_var_valid(struct x86_cpu *cpu, u32 index, u64 value)
{
	bool is_mask = index & 1;
	u64 low = value & PAGE_MASK;

	if (value >> cpu->model->phys_bits)
		return false;
	return is_mask ? !(low & ~BIT64(11)) : memory_type_ok(low);
}

static bool mtrr_def_valid(struct x86_cpu *cpu, u32 index, u64 value)
{
	return memory_type_ok(value & 0xff);
}

static bool xss_valid(struct x86_cpu *cpu, u32 index, u64 value)
{
	return !(value & ~cpu->model->xss_mask);
}

static bool kvm_clock_valid(struct x86_cpu *cpu, u32 index, u64 value)
{
	return x86_kvmclock_address_valid(cpu, value);
}

/* ---- registers with consequences ---- */

u64 x86_tsc(struct x86_cpu *cpu) { return cpu->ops->host_tsc(cpu) + cpu->s.tsc_offset; }

/* A write to either register moves the counter and is visible in both (SDM 3B 17.17.3). */
static int move_tsc(struct x86_cpu *cpu, u64 delta)
{
	cpu->s.tsc_offset += delta;
	cpu->s.tsc_adjust += delta;
	x86_kvmclock_update(cpu);
	if (cpu->ops->tsc_changed)
		cpu->ops->tsc_changed(cpu);
	return X86_OK;
}

static int write_tsc(struct x86_cpu *cpu, u32 index, u64 value)
{
	return move_tsc(cpu, value - x86_tsc(cpu));
}

static int write_tsc_adjust(struct x86_cpu *cpu, u32 index, u64 value)
{
	return move_tsc(cpu, value - cpu->s.tsc_adjust);
}

static int write_efer(struct x86_cpu *cpu, u32 index, u64 value)
{
	return x86_write_efer(cpu, value);
}

static int write_system_time(struct x86_cpu *cpu, u32 index, u64 value)
{
	cpu->s.kvm_system_time = value;
	x86_kvmclock_update(cpu);
	return X86_OK;
}

static int write_wall_clock(struct x86_cpu *cpu, u32 index, u64 value)
{
	cpu->s.kvm_wall_clock = value;
	x86_kvmclock_write_wall(cpu, value);
	return X86_OK;
}

/* Commands: nothing to do, because predictors are the host's. */
static int write_command(struct x86_cpu *cpu, u32 index, u64 value)
{
	return value & ~1ull ? x86_gp(cpu, 0) : X86_OK;
}

/* Intel's revision is in the upper half (SDM 3A 9.11.7.1); AMD's patch level is one number. */
static u64 read_microcode(struct x86_cpu *cpu)
{
	return cpu->model->amd ? 0x01000065 : 0x1ull << 32;
}

/* What the CPU model's CPUID policy promises: immune to every speculation flaw that has a bit. */
static u64 read_arch_cap(struct x86_cpu *cpu) { return X86_ARCH_CAP_IMMUNE; }

/* ---- the table ---- */

#define AT(member)  offsetof(struct x86_state, member)
#define LEN(member) sizeof(((struct x86_state *)0)->member)
/* clang-format off */
#define ROW(num, label, member, mask, ...) \
	{ .index = (num), .count = 1, .size = LEN(member), .name = (label), .offset = AT(member), .writable = (mask), __VA_ARGS__ }
#define ROWS(num, n, label, member, mask, ...) \
	{ .index = (num), .count = (n), .size = 8, .name = (label), .offset = AT(member), .writable = (mask), __VA_ARGS__ }
#define CONSTANT(num, label, val, ...) \
	{ .index = (num), .count = 1, .name = (label), .value = (val), __VA_ARGS__ }

#define MISC_ENABLE_FAST_STRINGS BIT64(0)
#define MTRRCAP_VALUE  (X86_MTRR_VAR | BIT64(8) | BIT64(10)) /* count, fixed ranges, write-combining */
#define HWCR_TSC_FREQ_SEL  BIT64(24) /* TSC runs at the P0 frequency: Linux warns without it */
#define DE_CFG_LFENCE      BIT64(1)  /* LFENCE is dispatch-serializing */

static const struct msr_row rows[] = {
	ROW(MSR_TSC, "TSC", tsc_offset, ALL, .write = write_tsc, .read = x86_tsc),
	ROW(MSR_KVM_WALL_CLOCK, "KVM_WALL_CLOCK", kvm_wall_clock, ALL, .gate = has_kvm, .check = kvm_clock_valid, .write = write_wall_clock),
	ROW(MSR_KVM_SYSTEM_TIME, "KVM_SYSTEM_TIME", kvm_system_time, ALL, .gate = has_kvm, .check = kvm_clock_valid, .write = write_system_time),
	CONSTANT(0x17, "PLATFORM_ID", 0, .gate = is_intel),
	CONSTANT(0x2a, "EBL_CR_POWERON", 0, .gate = is_intel),
	CONSTANT(0x34, "SMI_COUNT", 0, .gate = is_intel),
	CONSTANT(0x3a, "FEATURE_CONTROL", 1 /* locked, nothing enabled */, .gate = is_intel),
	ROW(MSR_TSC_ADJUST, "TSC_ADJUST", tsc_adjust, ALL, .gate = has_tsc_adjust, .write = write_tsc_adjust),
	ROW(MSR_SPEC_CTRL, "SPEC_CTRL", spec_ctrl, 7 /* IBRS, STIBP, SSBD */, .gate = has_spec_ctrl),
	CONSTANT(MSR_PRED_CMD, "PRED_CMD", 0, .writable = 1, .gate = has_spec_ctrl, .write = write_command),
	CONSTANT(MSR_UCODE_REV, "UCODE_REV", 0, .ignore = ALL, .read = read_microcode),
	CONSTANT(0xce, "PLATFORM_INFO", 0, .gate = is_intel),
	CONSTANT(MSR_MTRRCAP, "MTRRCAP", MTRRCAP_VALUE),
	CONSTANT(MSR_ARCH_CAP, "ARCH_CAPABILITIES", 0, .gate = has_arch_cap, .read = read_arch_cap),
	ROW(MSR_SYSENTER_CS, "SYSENTER_CS", sysenter_cs, LOW32, .ignore = ALL),
	ROW(MSR_SYSENTER_ESP, "SYSENTER_ESP", sysenter_esp, ALL, .check = canonical),
	ROW(MSR_SYSENTER_EIP, "SYSENTER_EIP", sysenter_eip, ALL, .check = canonical),
	CONSTANT(0x179, "MCG_CAP", 0 /* no banks */),
	CONSTANT(0x17a, "MCG_STATUS", 0),
	CONSTANT(0x198, "PERF_STATUS", 0, .gate = is_intel),
	/* Its feature switches (XD disable, CPUID limit, MONITOR) are wired to what CPUID says. */
	ROW(MSR_MISC_ENABLE, "MISC_ENABLE", misc_enable, MISC_ENABLE_FAST_STRINGS, .ignore = ALL, .gate = is_intel),
	CONSTANT(MSR_DEBUGCTL, "DEBUGCTL", 0, .ignore = 3 /* LBR, BTF: neither is modelled */),
	CONSTANT(0x1db, "LASTBRANCHFROMIP", 0),
	CONSTANT(0x1dc, "LASTBRANCHTOIP", 0),
	CONSTANT(0x1dd, "LASTINTFROMIP", 0),
	CONSTANT(0x1de, "LASTINTTOIP", 0),
	ROWS(0x200, 2 * X86_MTRR_VAR, "MTRR_PHYS", mtrr_var, ALL, .check = mtrr_var_valid),
	ROWS(0x250, 1, "MTRR_FIX64K", mtrr_fix[0], ALL, .check = mtrr_fix_valid),
	ROWS(0x258, 2, "MTRR_FIX16K", mtrr_fix[1], ALL, .check = mtrr_fix_valid),
	ROWS(0x268, 8, "MTRR_FIX4K", mtrr_fix[3], ALL, .check = mtrr_fix_valid),
	ROW(MSR_PAT, "PAT", pat, ALL, .check = pat_valid),
	ROW(MSR_MTRR_DEF_TYPE, "MTRR_DEF_TYPE", mtrr_def_type, 0xcff, .check = mtrr_def_valid),
	ROW(MSR_XSS, "XSS", xss, ALL, .gate = has_xss, .check = xss_valid),
	ROW(MSR_KVM_WALL_CLOCK_NEW, "KVM_WALL_CLOCK_NEW", kvm_wall_clock, ALL, .gate = has_kvm, .check = kvm_clock_valid, .write = write_wall_clock),
	ROW(MSR_KVM_SYSTEM_TIME_NEW, "KVM_SYSTEM_TIME_NEW", kvm_system_time, ALL, .gate = has_kvm, .check = kvm_clock_valid, .write = write_system_time),
	ROW(MSR_EFER, "EFER", efer, ALL, .write = write_efer),
	ROW(MSR_STAR, "STAR", star, ALL),
	ROW(MSR_LSTAR, "LSTAR", lstar, ALL, .check = canonical),
	ROW(MSR_CSTAR, "CSTAR", cstar, ALL, .check = canonical),
	ROW(MSR_SFMASK, "SFMASK", sfmask, LOW32),
	ROW(MSR_FS_BASE, "FS_BASE", seg[X86_FS].base, ALL, .check = canonical),
	ROW(MSR_GS_BASE, "GS_BASE", seg[X86_GS].base, ALL, .check = canonical),
	ROW(MSR_KERNEL_GS_BASE, "KERNEL_GS_BASE", kernel_gs_base, ALL, .check = canonical),
	ROW(MSR_TSC_AUX, "TSC_AUX", tsc_aux, LOW32, .gate = has_tsc_aux),
	CONSTANT(MSR_AMD_SYSCFG, "SYSCFG", 0 /* no memory encryption, no TOM2 */, .gate = is_amd),
	CONSTANT(MSR_AMD_HWCR, "HWCR", HWCR_TSC_FREQ_SEL, .ignore = ALL, .gate = is_amd),
	CONSTANT(0xc001001a, "TOP_MEM", 0, .gate = is_amd),
	CONSTANT(0xc001001d, "TOP_MEM2", 0, .gate = is_amd),
	CONSTANT(0xc001001f, "NB_CFG", 0, .ignore = ALL, .gate = is_amd),
	CONSTANT(0xc0010055, "INT_PENDING", 0, .gate = is_amd),
	CONSTANT(0xc0010058, "MMIO_CONF_BASE", 0, .gate = is_amd),
	CONSTANT(0xc0010114, "VM_CR", 0x18 /* SVM disabled and locked */, .gate = is_amd),
	CONSTANT(MSR_AMD_DE_CFG, "DE_CFG", DE_CFG_LFENCE, .ignore = ALL, .gate = is_amd),
	CONSTANT(0xc001102a, "BU_CFG2", 0, .ignore = ALL, .gate = is_amd),
};
/* clang-format on */

/* The row that has this number, whether or not the model shows it. */
static const struct msr_row *find_row(u32 index)
{
	size_t low = 0, high = ARRAY_LEN(rows);

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (index < rows[mid].index)
			high = mid;
		else if (index - rows[mid].index >= rows[mid].count)
			low = mid + 1;
		else
			return &rows[mid];
	}
	return NULL;
}

static const struct msr_row *visible_row(const struct x86_cpu *cpu, u32 index)
{
	const struct msr_row *row = find_row(index);

	return row && (!row->gate || row->gate(cpu->model)) ? row : NULL;
}

static void *row_field(struct x86_cpu *cpu, const struct msr_row *row, u32 index)
{
	return (u8 *)&cpu->s + row->offset + (size_t)8 * (index - row->index);
}

static u64 row_value(struct x86_cpu *cpu, const struct msr_row *row, u32 index)
{
	if (row->read)
		return row->read(cpu);
	if (!row->size)
		return row->value;
	return row->size == 4 ? get_le32(row_field(cpu, row, index))
			      : get_le64(row_field(cpu, row, index));
}

/* The busiest of the MSRs that others own; asked before the table is searched. */
static bool owned_elsewhere(u32 index)
{
	return index == MSR_TSC_DEADLINE || (index >= MSR_X2APIC_FIRST && index <= MSR_X2APIC_LAST);
}

int x86_rdmsr(struct x86_cpu *cpu, u32 index, u64 *value)
{
	const struct msr_row *row = owned_elsewhere(index) ? NULL : visible_row(cpu, index);

	if (row)
		*value = row_value(cpu, row, index);
	else if (!cpu->ops->msr_read(cpu, index, value))
		return x86_gp(cpu, 0);
	return X86_OK;
}

static int write_row(struct x86_cpu *cpu, const struct msr_row *row, u32 index, u64 value)
{
	u64 current = row->writable == ALL ? 0 : row_value(cpu, row, index);

	if ((value ^ current) & ~(row->writable | row->ignore))
		return x86_gp(cpu, 0);
	value = (value & row->writable) | (current & ~row->writable);
	if (row->check && !row->check(cpu, index, value))
		return x86_gp(cpu, 0);
	if (row->write)
		return row->write(cpu, index, value);
	if (row->size == 4)
		put_le32(row_field(cpu, row, index), (u32)value);
	else if (row->size)
		put_le64(row_field(cpu, row, index), value);
	return X86_OK;
}

int x86_wrmsr(struct x86_cpu *cpu, u32 index, u64 value)
{
	const struct msr_row *row = owned_elsewhere(index) ? NULL : visible_row(cpu, index);

	if (row)
		return write_row(cpu, row, index, value);
	return cpu->ops->msr_write(cpu, index, value) ? X86_OK : x86_gp(cpu, 0);
}

const char *x86_msr_name(u32 index)
{
	const struct msr_row *row = find_row(index);

	return row ? row->name : NULL;
}

/* ---- what has to be carried ---- */

#define SLOT(num, member)                      \
	{                                      \
		(num), AT(member), LEN(member) \
	}
/* clang-format off */
#define MTRR(n) SLOT(0x200 + 2 * (n), mtrr_var[n][0]), SLOT(0x201 + 2 * (n), mtrr_var[n][1])

const struct x86_msr_slot x86_msr_slots[] = {
	SLOT(MSR_APIC_BASE, apic_base),
	SLOT(MSR_TSC_ADJUST, tsc_adjust),
	SLOT(MSR_SPEC_CTRL, spec_ctrl),
	SLOT(MSR_SYSENTER_CS, sysenter_cs), SLOT(MSR_SYSENTER_ESP, sysenter_esp), SLOT(MSR_SYSENTER_EIP, sysenter_eip),
	SLOT(MSR_MISC_ENABLE, misc_enable),
	MTRR(0), MTRR(1), MTRR(2), MTRR(3), MTRR(4), MTRR(5), MTRR(6), MTRR(7),
	SLOT(0x250, mtrr_fix[0]), SLOT(0x258, mtrr_fix[1]), SLOT(0x259, mtrr_fix[2]),
	SLOT(0x268, mtrr_fix[3]), SLOT(0x269, mtrr_fix[4]), SLOT(0x26a, mtrr_fix[5]), SLOT(0x26b, mtrr_fix[6]),
	SLOT(0x26c, mtrr_fix[7]), SLOT(0x26d, mtrr_fix[8]), SLOT(0x26e, mtrr_fix[9]), SLOT(0x26f, mtrr_fix[10]),
	SLOT(MSR_PAT, pat),
	SLOT(MSR_MTRR_DEF_TYPE, mtrr_def_type),
	SLOT(MSR_XSS, xss),
	SLOT(MSR_KVM_WALL_CLOCK_NEW, kvm_wall_clock), SLOT(MSR_KVM_SYSTEM_TIME_NEW, kvm_system_time),
	SLOT(0x4b564d02, kvm_async_pf), SLOT(0x4b564d03, kvm_steal_time), SLOT(MSR_KVM_EOI, kvm_eoi), SLOT(0x4b564d05, kvm_poll),
	SLOT(MSR_EFER, efer),
	SLOT(MSR_STAR, star), SLOT(MSR_LSTAR, lstar), SLOT(MSR_CSTAR, cstar), SLOT(MSR_SFMASK, sfmask),
	SLOT(MSR_FS_BASE, seg[X86_FS].base), SLOT(MSR_GS_BASE, seg[X86_GS].base), SLOT(MSR_KERNEL_GS_BASE, kernel_gs_base),
	SLOT(MSR_TSC_AUX, tsc_aux),
};
/* clang-format on */
const unsigned x86_msr_slot_count = ARRAY_LEN(x86_msr_slots);
