/*
 * A pair of 8259A interrupt controllers as a PC has them: the slave's INT on the master's IR2.
 * Follows Intel's 8259A data sheet (231468); the edge/level registers are those of the PIIX
 * (290550, ELCR1-2).
 *
 * Requests: IRR latches a rising edge until the request is acknowledged, and follows the pin of a
 * level-triggered input. The data sheet takes an edge back when the pin falls before INTA; a
 * line here may carry an edge as an up-and-down of no duration, so edges stay latched. The
 * slave's INT is treated as a level, which spares the short gap that two chips put between two
 * requests.
 *
 * Priorities rotate: `lowest` is the level with the lowest one, so levels are looked at in the
 * order lowest+1, lowest+2, ... The bits in ISR block their own and all lower levels, except where
 * the special modes say otherwise (blocking_levels()).
 *
 * Output: lines[0] is the master's INT, updated after everything that can change it.
 */
#include "device/legacy/i8259.h"
#include "base/log.h"
#include "base/must.h"
#include "device/legacy/legacy.h"

enum { MASTER, SLAVE, CHIPS };
enum { WINDOW_MASTER, WINDOW_SLAVE, WINDOW_ELCR };

#define CASCADE_LEVEL 2u

/* Written to the even port. */
#define ICW1_IC4  BIT(0) /* ICW4 follows */
#define ICW1_SNGL BIT(1) /* no ICW3 */
#define ICW1_LTIM BIT(3) /* level-triggered inputs */
#define ICW1_MARK BIT(4)
#define OCW3_MARK BIT(3)
#define OCW3_RIS  BIT(0)
#define OCW3_RR	  BIT(1)
#define OCW3_POLL BIT(2)
#define OCW3_SMM  BIT(5)
#define OCW3_ESMM BIT(6)
/* Written to the odd port. */
#define ICW2_BASE 0xf8u
#define ICW4_AEOI BIT(1)
#define ICW4_SFNM BIT(4)

/* OCW2, bits 7-5: rotate, specific, end of interrupt. */
enum ocw2 {
	OCW2_AEOI_ROTATE_OFF,
	OCW2_EOI,
	OCW2_NOP,
	OCW2_EOI_SPECIFIC,
	OCW2_AEOI_ROTATE_ON,
	OCW2_EOI_ROTATE,
	OCW2_SET_LOWEST,
	OCW2_EOI_SPECIFIC_ROTATE,
};

/* Levels that cannot be made level-triggered: timer, keyboard, cascade; RTC, FPU error. */
static const u8 elcr_writable[CHIPS] = { 0xf8, 0xde };

/* What the odd port's next write is. */
enum icw_step { ICW_NONE, ICW_2, ICW_3, ICW_4 };

struct chip {
	u8 irr, isr, imr;
	u8 pins; /* levels of the inputs */
	u8 elcr;
	u8 base;   /* vector of level 0 */
	u8 lowest; /* level with the lowest priority */
	u8 icw1, icw3, icw4;
	u8 step; /* enum icw_step */
	bool read_isr, poll, special_mask, rotate_on_aeoi;
};

struct pic {
	struct device dev;
	struct chip chips[CHIPS];
};

static struct pic *pic_of(struct device *d) { return container_of(d, struct pic, dev); }

static u8 level_triggered(const struct chip *c) { return c->icw1 & ICW1_LTIM ? 0xff : c->elcr; }

/* The first level of `set` in priority order, or -1. */
static int highest(const struct chip *c, u8 set)
{
	for (unsigned i = 1; i <= 8; i++) {
		unsigned level = (c->lowest + i) & 7;

		if (set & BIT(level))
			return (int)level;
	}
	return -1;
}

/*
 * In special mask mode a level in service that is masked blocks nobody. In special fully nested
 * mode the master lets further requests of a slave in service through.
 */
static u8 blocking_levels(const struct pic *p, const struct chip *c)
{
	u8 set = c->isr;

	if (c->special_mask)
		set &= (u8)~c->imr;
	if (c == &p->chips[MASTER] && c->icw4 & ICW4_SFNM)
		set &= (u8)~BIT(CASCADE_LEVEL);
	return set;
}

/* The level the chip asks service for, or -1. */
static int pending(const struct pic *p, const struct chip *c)
{
	u8 blocking = blocking_levels(p, c);
	u8 wanted = c->irr & (u8)~c->imr;

	for (unsigned i = 1; i <= 8; i++) {
		unsigned level = (c->lowest + i) & 7;

		if (blocking & BIT(level))
			return -1;
		if (wanted & BIT(level))
			return (int)level;
	}
	return -1;
}

static void update(struct pic *p)
{
	struct chip *m = &p->chips[MASTER];

	if (pending(p, &p->chips[SLAVE]) >= 0)
		m->irr |= BIT(CASCADE_LEVEL);
	else
		m->irr &= (u8)~BIT(CASCADE_LEVEL);
	irq_set(&p->dev.env.lines[0], pending(p, m) >= 0);
}

static void set_pin(struct chip *c, unsigned level, bool up)
{
	u8 bit = (u8)BIT(level);
	bool rose = up && !(c->pins & bit);

	c->pins = up ? c->pins | bit : c->pins & (u8)~bit;
	if (level_triggered(c) & bit)
		c->irr = up ? c->irr | bit : c->irr & (u8)~bit;
	else if (rose)
		c->irr |= bit;
}

void pic_set_irq(struct device *d, unsigned n, bool level)
{
	struct pic *p = pic_of(d);

	must(n < 16, "irq %u", n);
	if (n == CASCADE_LEVEL)
		return;
	set_pin(&p->chips[n / 8], n % 8, level);
	update(p);
}

/* End of interrupt for one level (-1: there was none in service). */
static void retire(struct chip *c, int level, bool rotate)
{
	if (level < 0)
		return;
	c->isr &= (u8)~BIT(level);
	if (rotate)
		c->lowest = (u8)level;
}

/* INTA: moves the level into service; a level input's request stays until its pin falls. */
static void take_level(struct chip *c, unsigned level)
{
	c->isr |= (u8)BIT(level);
	if (!(level_triggered(c) & BIT(level)))
		c->irr &= (u8)~BIT(level);
	if (c->icw4 & ICW4_AEOI)
		retire(c, (int)level, c->rotate_on_aeoi);
}

/* One chip's part of the INTA cycles: the level, 7 when the request has gone (spurious). */
static unsigned ack_chip(struct pic *p, struct chip *c)
{
	int level = pending(p, c);

	if (level < 0)
		return 7;
	take_level(c, (unsigned)level);
	return (unsigned)level;
}

int pic_ack(struct device *d)
{
	struct pic *p = pic_of(d);
	struct chip *c = &p->chips[MASTER];
	bool cascade = pending(p, c) == (int)CASCADE_LEVEL;
	unsigned level = ack_chip(p, c);

	if (cascade) {
		c = &p->chips[SLAVE];
		level = ack_chip(p, c);
	}
	update(p);
	return c->base | (int)level;
}

/* ---- reads ---- */

/* Poll command: the read is the acknowledge (data sheet, "Poll Command"). */
static u8 read_poll(struct pic *p, struct chip *c)
{
	int level = pending(p, c);

	c->poll = false;
	if (level < 0)
		return 0;
	take_level(c, (unsigned)level);
	update(p);
	return (u8)(0x80 | level);
}

static u64 pic_read(struct device *d, unsigned window, u64 offset, unsigned size)
{
	struct pic *p = pic_of(d);
	struct chip *c;

	if (window == WINDOW_ELCR)
		return p->chips[offset & 1].elcr;
	c = &p->chips[window];
	if (c->poll)
		return read_poll(p, c);
	if (offset & 1)
		return c->imr;
	return c->read_isr ? c->isr : c->irr;
}

/* ---- writes ---- */

/* Data sheet, "Initialization Command Words", effects a to f. Level inputs still up request again.
 */
static void write_icw1(struct chip *c, u8 v)
{
	c->icw1 = v;
	c->icw4 = 0;
	c->imr = 0;
	c->isr = 0;
	c->irr = c->pins & level_triggered(c);
	c->lowest = 7;
	c->read_isr = c->poll = c->special_mask = c->rotate_on_aeoi = false;
	c->step = ICW_2;
}

/* In special mask mode a non-specific EOI passes over masked levels. */
static int level_to_retire(const struct chip *c)
{
	return highest(c, c->special_mask ? c->isr & (u8)~c->imr : c->isr);
}

static void write_ocw2(struct chip *c, u8 v)
{
	int level = v & 7;

	switch ((enum ocw2)(v >> 5)) {
	case OCW2_AEOI_ROTATE_OFF: c->rotate_on_aeoi = false; return;
	case OCW2_AEOI_ROTATE_ON: c->rotate_on_aeoi = true; return;
	case OCW2_EOI: retire(c, level_to_retire(c), false); return;
	case OCW2_EOI_ROTATE: retire(c, level_to_retire(c), true); return;
	case OCW2_EOI_SPECIFIC: retire(c, level, false); return;
	case OCW2_EOI_SPECIFIC_ROTATE: retire(c, level, true); return;
	case OCW2_SET_LOWEST: c->lowest = (u8)level; return;
	case OCW2_NOP: return;
	}
}

static void write_ocw3(struct chip *c, u8 v)
{
	if (v & OCW3_ESMM)
		c->special_mask = v & OCW3_SMM;
	if (v & OCW3_RR)
		c->read_isr = v & OCW3_RIS;
	c->poll = v & OCW3_POLL;
}

static void write_even(struct chip *c, u8 v)
{
	if (v & ICW1_MARK)
		write_icw1(c, v);
	else if (v & OCW3_MARK)
		write_ocw3(c, v);
	else
		write_ocw2(c, v);
}

static enum icw_step step_after(const struct chip *c, enum icw_step step)
{
	if (step == ICW_2 && !(c->icw1 & ICW1_SNGL))
		return ICW_3;
	if (step != ICW_4 && c->icw1 & ICW1_IC4)
		return ICW_4;
	return ICW_NONE;
}

static void write_odd(struct chip *c, u8 v)
{
	enum icw_step step = c->step;

	switch (step) {
	case ICW_NONE: c->imr = v; return;
	case ICW_2: c->base = v & ICW2_BASE; break;
	case ICW_3: c->icw3 = v; break;
	case ICW_4: c->icw4 = v; break;
	}
	c->step = (u8)step_after(c, step);
}

static void write_elcr(struct pic *p, unsigned chip, u8 v)
{
	struct chip *c = &p->chips[chip];
	u8 was = level_triggered(c);

	c->elcr = v & elcr_writable[chip];
	/* What became level-triggered now requests by its pin alone. */
	c->irr &= (u8) ~(level_triggered(c) & (u8)~was);
	c->irr |= c->pins & level_triggered(c);
}

static void pic_write(struct device *d, unsigned window, u64 offset, unsigned size, u64 value)
{
	struct pic *p = pic_of(d);
	u8 v = (u8)value;

	if (window == WINDOW_ELCR)
		write_elcr(p, offset & 1, v);
	else if (offset & 1)
		write_odd(&p->chips[window], v);
	else
		write_even(&p->chips[window], v);
	update(p);
}

/* ---- reset, tables ---- */

/* The data sheet leaves power-on undefined: everything masked, until a guest says what it wants. */
static void pic_reset(struct device *d)
{
	struct pic *p = pic_of(d);

	for (unsigned i = 0; i < CHIPS; i++)
		p->chips[i] = (struct chip){ .pins = p->chips[i].pins, .imr = 0xff, .lowest = 7 };
	update(p);
}

static void pic_loaded(struct device *d) { update(pic_of(d)); }

static const struct field chip_state[] = {
	FIELD(struct chip, irr),
	FIELD(struct chip, isr),
	FIELD(struct chip, imr),
	FIELD(struct chip, pins),
	FIELD(struct chip, elcr),
	FIELD(struct chip, base),
	FIELD_MAX(struct chip, lowest, 7),
	FIELD(struct chip, icw1),
	FIELD(struct chip, icw3),
	FIELD(struct chip, icw4),
	FIELD_MAX(struct chip, step, ICW_4),
	FIELD(struct chip, read_isr),
	FIELD(struct chip, poll),
	FIELD(struct chip, special_mask),
	FIELD(struct chip, rotate_on_aeoi),
	FIELD_END,
};

static const struct field pic_state[] = {
	FIELD_SUB(struct pic, chips, struct chip, chip_state),
	FIELD_END,
};

const struct device_class pic_class = {
	.name = "pic",
	.doc = "8259A interrupt controllers, master and slave",
	.size = sizeof(struct pic),
	.width = 1,
	.reset = pic_reset,
	.read = pic_read,
	.write = pic_write,
	.loaded = pic_loaded,
	.windows = { { BUS_PORT, 0x20, 2 }, { BUS_PORT, 0xa0, 2 }, { BUS_PORT, 0x4d0, 2 } },
	.state = pic_state,
};
