/*
 * Local APIC core: from an interrupt's arrival to its EOI (SDM 3A chapter 10).
 *
 * A fixed interrupt is accepted into the IRR, moves to the ISR when the processor takes it
 * (lapic_ack), and leaves with the EOI. It may be taken while its priority class (vector / 16)
 * is above the processor priority's, which is the higher of the task priority and the highest
 * class in service (10.8.3). NMI, INIT, SIPI and ExtINT bypass the IRR and go to the vcpu at once.
 *
 * The 8259's output reaches the processor by three ways, tried last: the INTR pin itself while
 * the APIC is globally disabled, LINT0 programmed for ExtINT, or an ExtINT message from the I/O
 * APIC. All end in an INTA cycle at the 8259 (wiring.extint).
 *
 * The rest: lapic_regs.c (registers, MMIO, MSRs), lapic_timer.c, lapic_bus.c (destinations, ICR).
 */
#include "base/bits.h"
#include "base/log.h"
#include "base/must.h"
#include "device/apic/lapic_priv.h"

/* Helpers */

static inline void set_bit(u64 map[4], u8 n) { map[n / 64] |= BIT64(n % 64); }
static inline void clear_bit(u64 map[4], u8 n) { map[n / 64] &= ~BIT64(n % 64); }
static inline bool test_bit(const u64 map[4], u8 n) { return map[n / 64] >> (n % 64) & 1; }

static inline int highest_bit(const u64 map[4])
{
	for (int i = 3; i >= 0; i--)
		if (map[i])
			return i * 64 + 63 - __builtin_clzll(map[i]);
	return -1;
}

/* Processor priority, 10.8.3.1. */
u32 lapic_ppr(const struct lapic *l)
{
	int in_service = highest_bit(l->isr);
	u32 class = in_service < 0 ? 0 : (u32)in_service & 0xf0;

	return (l->tpr & 0xf0) >= class ? l->tpr : class;
}

/* The vector that the priority rules let through, or -1. */
static inline int deliverable(const struct lapic *l)
{
	int v = highest_bit(l->irr);

	return v >= 0 && (u32)v >> 4 > lapic_ppr(l) >> 4 ? v : -1;
}

static bool extint_pending(const struct lapic *l)
{
	u32 lint0 = l->lvt[LVT_LINT0];

	if (!lapic_enabled(l))
		return l->lint[0];
	return l->extint || (l->lint[0] && !(lint0 & LVT_MASKED) && LVT_MODE(lint0) == APIC_EXTINT);
}

bool lapic_pending(const struct lapic *l) { return deliverable(l) >= 0 || extint_pending(l); }

void lapic_notify(struct lapic *l)
{
	if (l->wiring.intr && lapic_pending(l))
		l->wiring.intr(l->wiring.ctx);
}

static void raise_nmi(struct lapic *l)
{
	if (l->wiring.nmi)
		l->wiring.nmi(l->wiring.ctx);
}

/* INIT resets the APIC with the processor (10.4.7.3). */
static void raise_init(struct lapic *l)
{
	lapic_reset_registers(l);
	if (l->wiring.init)
		l->wiring.init(l->wiring.ctx);
}

/* Accepting */

/* The error LVT entry fires when a bit is new, so an illegal vector in that very entry ends here.
 */
void lapic_error(struct lapic *l, u32 esr_bit)
{
	bool was_set = l->errors & esr_bit;

	l->errors |= esr_bit;
	if (!was_set)
		lapic_raise_lvt(l, LVT_ERROR);
}

static void accept_fixed(struct lapic *l, u8 vector, bool level)
{
	if (vector < 16) {
		lapic_error(l, ESR_RECEIVE_VECTOR);
		return;
	}
	set_bit(l->irr, vector);
	if (level)
		set_bit(l->tmr, vector);
	else
		clear_bit(l->tmr, vector);
	lapic_notify(l);
}

bool lapic_deliver(struct lapic *l, const struct apic_message *msg)
{
	bool enabled = l->svr & SVR_ENABLE;

	switch ((enum apic_mode)msg->mode) {
	case APIC_FIXED:
	case APIC_LOWEST:
		if (enabled)
			accept_fixed(l, msg->vector, msg->level);
		return enabled;
	case APIC_EXTINT:
		if (enabled) {
			l->extint = true;
			lapic_notify(l);
		}
		return enabled;
	case APIC_NMI: raise_nmi(l); return true;
	case APIC_INIT: raise_init(l); return true;
	case APIC_SIPI:
		if (l->wiring.sipi)
			l->wiring.sipi(l->wiring.ctx, msg->vector);
		return true;
	case APIC_SMI: /* there is no system management mode */
	case APIC_REMOTE_READ: return false;
	}
	return false;
}

/* A local source's event, 10.5.1. ExtINT is a level that extint_pending() looks at. */
void lapic_raise_lvt(struct lapic *l, enum lapic_lvt entry)
{
	u32 lvt = l->lvt[entry];

	if (lvt & LVT_MASKED)
		return;
	/* The timer and error entries have no mode field: those bits are zero, which is Fixed. */
	switch ((enum apic_mode)LVT_MODE(lvt)) {
	case APIC_FIXED: accept_fixed(l, (u8)(lvt & LVT_VECTOR), false); break;
	case APIC_NMI: raise_nmi(l); break;
	case APIC_INIT: raise_init(l); break;
	case APIC_EXTINT: lapic_notify(l); break;
	case APIC_LOWEST:
	case APIC_SMI:
	case APIC_REMOTE_READ:
	case APIC_SIPI: break;
	}
}

/* Local pins */

/* LINT0 is the only local source that can be level-triggered (figure 10-8). */
static bool lint0_is_level(const struct lapic *l)
{
	u32 lvt = l->lvt[LVT_LINT0];

	return LVT_MODE(lvt) == APIC_FIXED && (lvt & LVT_LEVEL);
}

static void sample_lint0(struct lapic *l)
{
	u32 *lvt = &l->lvt[LVT_LINT0];

	if (!l->lint[0] || *lvt & (LVT_MASKED | LVT_REMOTE_IRR))
		return;
	*lvt |= LVT_REMOTE_IRR;
	accept_fixed(l, (u8)(*lvt & LVT_VECTOR), true);
}

void lapic_set_lint(struct lapic *l, unsigned pin, bool level)
{
	must(pin < ARRAY_LEN(l->lint), "local pin %u", pin);
	bool rising = level && !l->lint[pin];

	l->lint[pin] = level;
	if (!rising)
		return;
	if (!lapic_enabled(l)) { /* the pins are the processor's own INTR and NMI, 10.4.3 */
		if (pin == 1)
			raise_nmi(l);
		lapic_notify(l);
	} else if (pin == 0 && lint0_is_level(l)) {
		sample_lint0(l);
	} else {
		lapic_raise_lvt(l, LVT_LINT0 + pin);
	}
}

void lapic_lint_changed(struct lapic *l, unsigned pin)
{
	if (pin == 0 && lint0_is_level(l))
		sample_lint0(l);
	lapic_notify(l); /* an ExtINT level may show now */
}

/* Taking and finishing */

int lapic_ack(struct lapic *l)
{
	int v = deliverable(l);

	if (v >= 0) {
		clear_bit(l->irr, (u8)v);
		set_bit(l->isr, (u8)v);
		return v;
	}
	if (!extint_pending(l))
		return -1;
	l->extint = false;
	return l->wiring.extint ? l->wiring.extint(l->wiring.ctx) : -1;
}

/* 10.8.5. Level interrupts are told to the I/O APIC, unless software does it there itself. */
void lapic_eoi(struct lapic *l)
{
	int v = highest_bit(l->isr);

	if (v < 0)
		return; /* a spurious interrupt's handler should not, but may, send one */
	clear_bit(l->isr, (u8)v);
	if (test_bit(l->tmr, (u8)v)) {
		u32 *lint0 = &l->lvt[LVT_LINT0];

		if (*lint0 & LVT_REMOTE_IRR && (*lint0 & LVT_VECTOR) == (u32)v) {
			*lint0 &= ~LVT_REMOTE_IRR;
			if (lint0_is_level(l))
				sample_lint0(l);
		}
		if (!(l->svr & SVR_EOI_DIRECTED) && l->bus && l->bus->eoi)
			l->bus->eoi(l->bus->eoi_ctx, (u8)v);
	}
	lapic_notify(l);
}

void lapic_set_cr8(struct lapic *l, u64 value)
{
	l->tpr = (u32)(value & 0xf) << 4;
	lapic_notify(l);
}

void lapic_virtual_wire(struct lapic *l)
{
	l->svr |= SVR_ENABLE;
	l->lvt[LVT_LINT0] = APIC_EXTINT << 8;
	l->lvt[LVT_LINT1] = APIC_NMI << 8;
	lapic_lint_changed(l, 0);
}

/* Reset */

void lapic_reset_registers(struct lapic *l)
{
	u32 x2id = (u32)l->initial_id;

	lapic_timer_stop(l);
	for (unsigned i = 0; i < 4; i++)
		l->irr[i] = l->isr[i] = l->tmr[i] = 0;
	for (unsigned i = 0; i < LVT_COUNT; i++)
		l->lvt[i] = LVT_MASKED;
	l->tpr = l->esr = l->errors = l->initial_count = l->divide = 0;
	l->icr = 0;
	l->svr = 0xff;
	l->dfr = ~0u;
	l->ldr = lapic_x2apic(l) ? (x2id >> 4) << 16 | BIT(x2id & 15) : 0; /* 10.12.10.2 */
	l->extint = false;
}

static void lapic_reset(struct device *d)
{
	struct lapic *l = (struct lapic *)d;

	l->base = LAPIC_DEFAULT_BASE | APIC_BASE_ENABLE | (l->bsp ? APIC_BASE_BSP : 0);
	l->id = (u32)l->initial_id << 24;
	l->lint[0] = l->lint[1] = false;
	lapic_reset_registers(l);
}

/* Init */

static int lapic_init(struct device *d, struct err *err)
{
	lapic_timer_init((struct lapic *)d);
	return 0;
}

static void lapic_fini(struct device *d) { lapic_timer_stop((struct lapic *)d); }

static void lapic_loaded(struct device *d)
{
	struct lapic *l = (struct lapic *)d;

	lapic_timer_restore(l);
	lapic_notify(l);
}

static u64 lapic_read(struct device *d, unsigned window, u64 offset, unsigned size)
{
	return lapic_mmio_read((struct lapic *)d, offset, size);
}

static void lapic_write(struct device *d, unsigned window, u64 offset, unsigned size, u64 value)
{
	lapic_mmio_write((struct lapic *)d, offset, size, value);
}

/* Tables */

static const struct prop lapic_props[] = {
	{ "id", "APIC id", PROP_U64, offsetof(struct lapic, initial_id), 0, 0, 254 },
	{ "bsp", "bootstrap processor", PROP_BOOL, offsetof(struct lapic, bsp), 0, 0, 1 },
	{ "phys-bits", "physical address width", PROP_U64, offsetof(struct lapic, phys_bits), 46,
		36, 52 },
	PROP_END,
};

static const struct field lapic_state[] = {
	FIELD(struct lapic, base),
	FIELD_ARRAY(struct lapic, irr, u64),
	FIELD_ARRAY(struct lapic, isr, u64),
	FIELD_ARRAY(struct lapic, tmr, u64),
	FIELD(struct lapic, id),
	FIELD(struct lapic, tpr),
	FIELD(struct lapic, ldr),
	FIELD(struct lapic, dfr),
	FIELD(struct lapic, svr),
	FIELD(struct lapic, esr),
	FIELD(struct lapic, errors),
	FIELD(struct lapic, icr),
	FIELD_ARRAY(struct lapic, lvt, u32),
	FIELD(struct lapic, initial_count),
	FIELD(struct lapic, divide),
	FIELD(struct lapic, zero_at),
	FIELD(struct lapic, tsc_deadline),
	FIELD_ARRAY(struct lapic, lint, bool),
	FIELD(struct lapic, extint),
	FIELD_END,
};

const struct device_class lapic_class = {
	.name = "lapic",
	.doc = "local APIC with xAPIC and x2APIC interfaces",
	.size = sizeof(struct lapic),
	.init = lapic_init,
	.reset = lapic_reset,
	.fini = lapic_fini,
	.read = lapic_read,
	.write = lapic_write,
	.loaded = lapic_loaded,
	.props = lapic_props,
	.state = lapic_state,
};
