/*
 * The local APIC's registers and the two ways to them (SDM 3A 10.4.1, 10.12.1).
 *
 * Register n is at offset n * 16 of the xAPIC page and is MSR 0x800 + n in x2APIC mode. One table
 * says what exists in which mode; one pair of functions does the work. The modes differ in their
 * manners: the page ignores reserved bits and notes illegal addresses in the ESR, the MSRs raise
 * #GP for both.
 */
#include "base/bits.h"
#include "base/log.h"
#include "device/apic/lapic_priv.h"

#define MSR_BASE      0x01bu
#define MSR_DEADLINE  0x6e0u
#define MSR_REGISTERS 0x800u

#define SVR_VALID 0x13ffu
#define ICR_VALID 0xcdfffu

/* What the guest may write in an LVT entry; status bits are not among it. */
static const u32 lvt_writable[LVT_COUNT] = {
	[LVT_TIMER] = LVT_VECTOR | LVT_MASKED | LVT_TIMER_MODE,
	[LVT_THERMAL] = LVT_VECTOR | 0x700 | LVT_MASKED,
	[LVT_PERF] = LVT_VECTOR | 0x700 | LVT_MASKED,
	[LVT_LINT0] = LVT_VECTOR | 0x700 | BIT(13) | LVT_LEVEL | LVT_MASKED,
	[LVT_LINT1] = LVT_VECTOR | 0x700 | BIT(13) | LVT_LEVEL | LVT_MASKED,
	[LVT_ERROR] = LVT_VECTOR | LVT_MASKED,
};

#define R  1u
#define W  2u
#define RW 3u

/* Access in each mode, and the bits a WRMSR may set without #GP. */
struct reg_info {
	u8 xapic, x2apic;
	u32 valid;
};

static const struct reg_info reg_table[LAPIC_REGS] = {
	[REG_ID] = { RW, R, 0 },
	[REG_VERSION] = { R, R, 0 },
	[REG_TPR] = { RW, RW, 0xff },
	[REG_APR] = { R, 0, 0 },
	[REG_PPR] = { R, R, 0 },
	[REG_EOI] = { W, W, 0 },
	[REG_RRD] = { R, 0, 0 },
	[REG_LDR] = { RW, R, 0 },
	[REG_DFR] = { RW, 0, 0 },
	[REG_SVR] = { RW, RW, SVR_VALID },
	[REG_ISR... REG_IRR + 7] = { R, R, 0 },
	[REG_ESR] = { RW, RW, 0 },
	[REG_ICR] = { RW, RW, ICR_VALID },
	[REG_ICR_HIGH] = { RW, 0, 0 },
	[REG_LVT + LVT_TIMER] = { RW, RW, 0x710ff },
	[REG_LVT + LVT_THERMAL] = { RW, RW, 0x117ff },
	[REG_LVT + LVT_PERF] = { RW, RW, 0x117ff },
	[REG_LVT + LVT_LINT0] = { RW, RW, 0x1f7ff },
	[REG_LVT + LVT_LINT1] = { RW, RW, 0x1f7ff },
	[REG_LVT + LVT_ERROR] = { RW, RW, 0x110ff },
	[REG_INITIAL_COUNT] = { RW, RW, ~0u },
	[REG_CURRENT_COUNT] = { R, R, 0 },
	[REG_DIVIDE] = { RW, RW, 0xb },
	[REG_SELF_IPI] = { 0, W, 0xff },
};

/* Reads */

static u32 bitmap_word(const u64 map[4], unsigned word)
{
	return (u32)(map[word / 2] >> (word % 2 * 32));
}

static u64 read_reg(const struct lapic *l, unsigned reg)
{
	switch (reg) {
	case REG_ID: return l->id;
	case REG_VERSION: return LAPIC_VERSION;
	case REG_TPR: return l->tpr;
	case REG_APR: /* arbitration is the bus's business; processors since the P4 have no APR */
	case REG_RRD: return 0;
	case REG_PPR: return lapic_ppr(l);
	case REG_LDR: return l->ldr;
	case REG_DFR: return l->dfr;
	case REG_SVR: return l->svr;
	case REG_ISR ... REG_ISR + 7: return bitmap_word(l->isr, reg - REG_ISR);
	case REG_TMR ... REG_TMR + 7: return bitmap_word(l->tmr, reg - REG_TMR);
	case REG_IRR ... REG_IRR + 7: return bitmap_word(l->irr, reg - REG_IRR);
	case REG_ESR: return l->esr;
	case REG_ICR: return lapic_x2apic(l) ? l->icr : (u32)l->icr;
	case REG_ICR_HIGH: return l->icr >> 32;
	case REG_LVT ... REG_LVT + LVT_ERROR: return l->lvt[reg - REG_LVT];
	case REG_INITIAL_COUNT: return l->initial_count;
	case REG_CURRENT_COUNT: return lapic_timer_count(l);
	case REG_DIVIDE: return l->divide;
	default: return 0;
	}
}

/* Writes */

static void write_lvt(struct lapic *l, enum lapic_lvt entry, u32 value)
{
	u32 old = l->lvt[entry];

	value &= lvt_writable[entry];
	if (!(l->svr & SVR_ENABLE))
		value |= LVT_MASKED; /* 10.4.7.2: cannot be cleared while software-disabled */
	if (entry == LVT_TIMER && !l->wiring.tsc_hz)
		value &= ~TIMER_TSC_DEADLINE;
	if (value & LVT_LEVEL)
		value |= old & LVT_REMOTE_IRR;
	l->lvt[entry] = value;
	if (entry == LVT_TIMER)
		lapic_timer_mode_changed(l, old);
	else if (entry == LVT_LINT0 || entry == LVT_LINT1)
		lapic_lint_changed(l, entry - LVT_LINT0);
}

static void write_svr(struct lapic *l, u32 value)
{
	l->svr = value & SVR_VALID;
	if (l->svr & SVR_ENABLE)
		return;
	for (unsigned i = 0; i < LVT_COUNT; i++)
		l->lvt[i] |= LVT_MASKED;
}

static void write_icr(struct lapic *l, u64 value)
{
	u64 high = lapic_x2apic(l) ? value : l->icr;

	/* Delivery is instant: the status bit never shows "send pending". */
	l->icr = (high & ~0xffffffffull) | (value & ICR_VALID & ~ICR_PENDING);
	lapic_send_icr(l);
}

static void write_reg(struct lapic *l, unsigned reg, u64 value)
{
	u32 low = (u32)value;

	switch (reg) {
	case REG_ID: l->id = low & 0xff000000; break;
	case REG_TPR:
		l->tpr = low & 0xff;
		lapic_notify(l);
		break;
	case REG_EOI: lapic_eoi(l); break;
	case REG_LDR: l->ldr = low & 0xff000000; break;
	case REG_DFR: l->dfr = low | 0x0fffffff; break;
	case REG_SVR: write_svr(l, low); break;
	case REG_ESR: /* shows what gathered since the last write, 10.5.3 */
		l->esr = l->errors;
		l->errors = 0;
		break;
	case REG_ICR: write_icr(l, value); break;
	case REG_ICR_HIGH: l->icr = (u32)l->icr | (u64)low << 32; break;
	case REG_LVT ... REG_LVT + LVT_ERROR: write_lvt(l, reg - REG_LVT, low); break;
	case REG_INITIAL_COUNT: lapic_timer_set_count(l, low); break;
	case REG_DIVIDE: lapic_timer_set_divide(l, low & 0xb); break;
	case REG_SELF_IPI: lapic_self_ipi(l, (u8)low); break;
	default: break;
	}
}

/* The xAPIC page: 32-bit registers, each on a 16-byte boundary; nothing lies between them. */

static bool page_allows(struct lapic *l, u64 offset, u8 access)
{
	u8 allowed = offset / 16 < LAPIC_REGS ? reg_table[offset / 16].xapic : 0;

	if (!allowed)
		lapic_error(l, ESR_REGISTER);
	return allowed & access;
}

u64 lapic_mmio_read(struct lapic *l, u64 offset, unsigned size)
{
	if (!page_allows(l, offset, R) || offset % 16 >= 4)
		return 0;
	return (read_reg(l, (unsigned)(offset / 16)) >> (offset % 4 * 8)) & mask_bytes(size);
}

void lapic_mmio_write(struct lapic *l, u64 offset, unsigned size, u64 value)
{
	if (offset % 16 || size < 4) {
		guest_err(l->dev.name, "%u-byte write at 0x%llx", size, (unsigned long long)offset);
		return;
	}
	if (page_allows(l, offset, W))
		write_reg(l, (unsigned)(offset / 16), value & 0xffffffff);
}

/* IA32_APIC_BASE, 10.4.4 and 10.12.5 */

/* Figure 10-27: x2APIC mode is entered only from xAPIC mode and left only by disabling. */
static bool mode_change_valid(u64 old, u64 new)
{
	bool was_x2 = old & APIC_BASE_EXTD, is_x2 = new &APIC_BASE_EXTD;
	bool was_on = old & APIC_BASE_ENABLE, is_on = new &APIC_BASE_ENABLE;

	if (is_x2)
		return is_on && (was_x2 || was_on);
	return !was_x2 || !is_on;
}

static bool write_base(struct lapic *l, u64 value)
{
	u64 old = l->base;
	u64 page = (BIT64(l->phys_bits) - 1) & ~PAGE_MASK;
	u64 valid = page | APIC_BASE_BSP | APIC_BASE_EXTD | APIC_BASE_ENABLE;

	if (value & ~valid || !mode_change_valid(old, value))
		return false;
	l->base = value;
	if (!(value & APIC_BASE_ENABLE)) {
		lapic_reset_registers(l);
		l->id = (u32)l->initial_id << 24;
	} else if (!(old & APIC_BASE_EXTD) && value & APIC_BASE_EXTD) {
		u32 id = (u32)l->initial_id;

		l->id = id;
		l->ldr = (id >> 4) << 16 | BIT(id & 15);
		l->icr = (u32)l->icr;
	}
	lapic_notify(l);
	return true;
}

/* MSRs */

/* The register behind an x2APIC MSR that allows this access, or NULL. */
static const struct reg_info *msr_reg(const struct lapic *l, u32 index, u8 access)
{
	u32 reg = index - MSR_REGISTERS;

	if (reg >= LAPIC_REGS || !lapic_x2apic(l) || !(reg_table[reg].x2apic & access))
		return NULL;
	return &reg_table[reg];
}

bool lapic_msr_read(struct lapic *l, u32 index, u64 *value)
{
	if (index == MSR_BASE) {
		*value = l->base;
		return true;
	}
	if (index == MSR_DEADLINE && l->wiring.tsc_hz) {
		*value = l->tsc_deadline;
		return true;
	}
	if (!msr_reg(l, index, R))
		return false;
	*value = read_reg(l, index - MSR_REGISTERS);
	return true;
}

bool lapic_msr_write(struct lapic *l, u32 index, u64 value)
{
	if (index == MSR_BASE)
		return write_base(l, value);
	if (index == MSR_DEADLINE && l->wiring.tsc_hz) {
		lapic_timer_set_deadline(l, value);
		return true;
	}
	const struct reg_info *info = msr_reg(l, index, W);
	u64 valid = info ? info->valid : 0;

	if (info == &reg_table[REG_ICR])
		valid |= 0xffffffff00000000ull; /* the one 64-bit register: destination */
	if (!info || value & ~valid)
		return false;
	write_reg(l, index - MSR_REGISTERS, value);
	return true;
}
