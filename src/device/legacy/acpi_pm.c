/*
 * ACPI fixed hardware (ACPI 6.4, 4.8): PM1a event and control blocks, power-management timer,
 * general-purpose event block 0, SMI command port.
 *
 * The timer's value is the guest clock in units of 1/3579545 s. TMR_STS is set each time its
 * highest bit changes; the changes up to `seen` have been accounted for, and a timer stands at
 * the next one while its interrupt is enabled and not yet raised.
 *
 * lines[0] is SCI: a level, high while SCI_EN and any enabled status bit are set.
 */
#include "device/legacy/acpi_pm.h"
#include "base/bits.h"
#include "base/log.h"
#include "base/must.h"
#include "device/legacy/legacy.h"
#include <errno.h>

enum { WINDOW_PM, WINDOW_SMI };

#define TIMER_HZ 3579545u

/* Byte offsets in the PM window. */
enum { PM1_STS = 0, PM1_EN = 2, PM1_CNT = 4, PM_TMR = 8, GPE0_STS = 0x20, GPE0_EN = 0x22 };

/* Sleep button and RTC are never signalled here, but systems insist on enabling them. */
#define PM1_TMR	    BIT(0)
#define PM1_BM	    BIT(4)
#define PM1_GBL	    BIT(5)
#define PM1_PWRBTN  BIT(8)
#define PM1_SLPBTN  BIT(9)
#define PM1_RTC	    BIT(10)
#define PM1_WAK	    BIT(15)
#define PM1_EN_ALL  (PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_SLPBTN | PM1_RTC)
#define PM1_STS_ALL (PM1_EN_ALL | PM1_BM | PM1_WAK)

#define CNT_SCI_EN    BIT(0)
#define CNT_BM_RLD    BIT(1)
#define CNT_SLP_SHIFT 10u
#define CNT_SLP_TYP   (7u << CNT_SLP_SHIFT)
#define CNT_SLP_EN    BIT(13)
#define CNT_WRITABLE  (CNT_BM_RLD | CNT_SLP_TYP)

struct acpi_pm {
	struct device dev;
	struct clock_timer timer;
	u64 timer_bits; /* property */
	u64 seen;	/* timer ticks up to which TMR_STS is right */
	u16 pm1_sts, pm1_en, pm1_cnt;
	u16 gpe_sts, gpe_en;
	u8 smi_cmd, smi_data;
};

static struct acpi_pm *pm_of(struct device *d) { return container_of(d, struct acpi_pm, dev); }

static u64 ticks_now(const struct acpi_pm *p)
{
	return clock_ticks(clock_now(p->dev.env.clock), TIMER_HZ);
}

/* How often the highest bit of the timer has changed by then. */
static u64 carries(const struct acpi_pm *p, u64 ticks) { return ticks >> (p->timer_bits - 1); }

static void settle(struct acpi_pm *p)
{
	u64 now = ticks_now(p);

	if (carries(p, now) != carries(p, p->seen))
		p->pm1_sts |= PM1_TMR;
	p->seen = now;
}

static bool sci(const struct acpi_pm *p)
{
	return p->pm1_cnt & CNT_SCI_EN && (p->pm1_sts & p->pm1_en || p->gpe_sts & p->gpe_en);
}

/* Drives SCI and arms the timer; after settle() and whatever the guest changed. */
static void plan(struct acpi_pm *p)
{
	struct guest_clock *clock = p->dev.env.clock;
	u64 next = (carries(p, p->seen) + 1) << (p->timer_bits - 1);

	irq_set(&p->dev.env.lines[0], sci(p));
	if (p->pm1_en & ~p->pm1_sts & PM1_TMR)
		timer_arm(clock, &p->timer, clock_ns(next, TIMER_HZ));
	else
		timer_cancel(clock, &p->timer);
}

static void pm_fire(void *ctx)
{
	struct acpi_pm *p = ctx;

	settle(p);
	plan(p);
}

void acpi_pm_power_button(struct device *d)
{
	pm_of(d)->pm1_sts |= PM1_PWRBTN;
	pm_fire(pm_of(d));
}

void acpi_pm_event(struct device *d, unsigned n)
{
	must(n < 16, "event %u", n);
	pm_of(d)->gpe_sts |= (u16)BIT(n);
	pm_fire(pm_of(d));
}

/* ---- reads ---- */

/* The registers as the little-endian dwords they form in the window. */
static u32 read_dword(const struct acpi_pm *p, u64 offset)
{
	switch (offset) {
	case PM1_STS: return p->pm1_sts | (u32)p->pm1_en << 16;
	case PM1_CNT: return p->pm1_cnt;
	case PM_TMR: return (u32)bits(p->seen, (unsigned)p->timer_bits - 1, 0);
	case GPE0_STS: return p->gpe_sts | (u32)p->gpe_en << 16;
	default: return 0;
	}
}

static u32 read_pm(struct acpi_pm *p, u64 offset, unsigned size)
{
	u32 value = 0;

	settle(p);
	for (unsigned i = 0; i < size; i++) {
		u64 at = offset + i;
		u32 byte = read_dword(p, at & ~3ull) >> (8 * (at & 3)) & 0xff;

		value |= byte << (8 * i);
	}
	plan(p);
	return value;
}

static u64 pm_read(struct device *d, unsigned window, u64 offset, unsigned size)
{
	struct acpi_pm *p = pm_of(d);

	switch (window) {
	case WINDOW_PM: return read_pm(p, offset, size);
	case WINDOW_SMI: return offset ? p->smi_data : p->smi_cmd | (u64)p->smi_data << 8;
	default: return mask_bytes(size);
	}
}

/* ---- writes ---- */

static void sleep_now(struct acpi_pm *p)
{
	unsigned type = (p->pm1_cnt & CNT_SLP_TYP) >> CNT_SLP_SHIFT;

	if (type != ACPI_PM_S5_TYPE)
		guest_err(p->dev.name, "sleep type %u is none that \\_Sx offers", type);
	else if (p->dev.env.power_off)
		p->dev.env.power_off(p->dev.env.machine);
}

/* Replaces one byte of a register; bits outside `writable` keep their value. */
static void put_byte(u16 *reg, unsigned high, u8 v, u16 writable)
{
	u16 lane = (u16)((0xffu << (8 * high)) & writable);

	*reg = (u16)((*reg & ~lane) | ((unsigned)v << (8 * high) & lane));
}

/* Each register's effects lie within one byte, so wide writes are done bytewise. */
static void write_byte(struct acpi_pm *p, u64 offset, u8 v)
{
	unsigned high = offset & 1;

	switch (offset & ~1ull) {
	case PM1_STS: p->pm1_sts &= (u16) ~(v << (8 * high)); break;
	case PM1_EN: put_byte(&p->pm1_en, high, v, PM1_EN_ALL); break;
	case PM1_CNT:
		put_byte(&p->pm1_cnt, high, v, CNT_WRITABLE);
		if (high && v & CNT_SLP_EN >> 8)
			sleep_now(p);
		break;
	case GPE0_STS: p->gpe_sts &= (u16) ~(v << (8 * high)); break;
	case GPE0_EN: put_byte(&p->gpe_en, high, v, 0xffff); break;
	default: break;
	}
}

static void write_pm(struct acpi_pm *p, u64 offset, unsigned size, u64 value)
{
	settle(p);
	for (unsigned i = 0; i < size; i++)
		write_byte(p, offset + i, (u8)(value >> (8 * i)));
	plan(p);
}

/* What the firmware's SMI handler would do (ACPI 6.4, 4.8.2.5): hand the hardware over and back. */
static void write_smi(struct acpi_pm *p, u64 offset, unsigned size, u64 value)
{
	if (offset || size > 1)
		p->smi_data = (u8)(offset ? value : value >> 8);
	if (offset)
		return;
	p->smi_cmd = (u8)value;
	if (p->smi_cmd == ACPI_PM_ENABLE)
		p->pm1_cnt |= CNT_SCI_EN;
	else if (p->smi_cmd == ACPI_PM_DISABLE)
		p->pm1_cnt &= (u16)~CNT_SCI_EN;
	settle(p);
	plan(p);
}

static void pm_write(struct device *d, unsigned window, u64 offset, unsigned size, u64 value)
{
	struct acpi_pm *p = pm_of(d);

	if (window == WINDOW_PM)
		write_pm(p, offset, size, value);
	else if (window == WINDOW_SMI)
		write_smi(p, offset, size, value);
}

/* ---- reset, init, tables ---- */

static void pm_reset(struct device *d)
{
	struct acpi_pm *p = pm_of(d);

	p->seen = ticks_now(p);
	p->pm1_sts = p->pm1_en = p->gpe_sts = p->gpe_en = 0;
	p->pm1_cnt = CNT_SCI_EN;
	p->smi_cmd = p->smi_data = 0;
	/* Any width but the two that exist is the nearer one. */
	p->timer_bits = p->timer_bits > 24 ? 32 : 24;
	plan(p);
}

static int pm_init(struct device *d, struct err *err)
{
	struct acpi_pm *p = pm_of(d);

	if (!d->env.clock)
		return err_set(err, -EINVAL, "no clock");
	timer_init(&p->timer, pm_fire, p);
	return 0;
}

static void pm_fini(struct device *d) { timer_cancel(d->env.clock, &pm_of(d)->timer); }

static void pm_loaded(struct device *d)
{
	struct acpi_pm *p = pm_of(d);

	p->seen = min_u64(p->seen, ticks_now(p));
	p->pm1_sts &= PM1_STS_ALL;
	p->pm1_en &= PM1_EN_ALL;
	p->pm1_cnt &= CNT_WRITABLE | CNT_SCI_EN;
	plan(p);
}

static const struct prop pm_props[] = {
	{ "timer_bits", "width of the PM timer, 24 or 32", PROP_U64,
		offsetof(struct acpi_pm, timer_bits), 32, 24, 32 },
	PROP_END,
};

static const struct field pm_state[] = {
	FIELD(struct acpi_pm, seen),
	FIELD(struct acpi_pm, pm1_sts),
	FIELD(struct acpi_pm, pm1_en),
	FIELD(struct acpi_pm, pm1_cnt),
	FIELD(struct acpi_pm, gpe_sts),
	FIELD(struct acpi_pm, gpe_en),
	FIELD(struct acpi_pm, smi_cmd),
	FIELD(struct acpi_pm, smi_data),
	FIELD_END,
};

const struct device_class acpi_pm_class = {
	.name = "acpi_pm",
	.doc = "ACPI power management registers",
	.size = sizeof(struct acpi_pm),
	.init = pm_init,
	.reset = pm_reset,
	.fini = pm_fini,
	.read = pm_read,
	.write = pm_write,
	.loaded = pm_loaded,
	.windows = { { BUS_PORT, ACPI_PM_BASE, ACPI_PM_LEN }, { BUS_PORT, ACPI_PM_SMI_CMD, 2 } },
	.props = pm_props,
	.state = pm_state,
};
