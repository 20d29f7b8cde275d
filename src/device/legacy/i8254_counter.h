/*
 * One counter of an 8254 as a function of time: nothing ticks, everything is computed from the
 * tick at which the counting element was loaded. `now` is in ticks of the counter's CLK. Functions
 * that read the counter's registers by time want counter_settle() called first.
 */
#pragma once
#include "state/field.h"

/* HELD: GATE is low in a mode where that stops the count. */
enum counter_run { COUNTER_IDLE, COUNTER_COUNTING, COUNTER_HELD };

struct counter {
	u64 start;     /* tick at which the counting element takes `count`; may be the next one */
	u64 held;      /* ticks already counted, while HELD in modes 0 and 4 */
	u64 switch_at; /* tick at which `reload` becomes `count`, while `switching` (modes 2, 3) */
	u16 reload;    /* the count register, as written: 0 is the largest count */
	u16 count;     /* what the counting element started from */
	u16 latch;
	u8 control; /* control word, bits 5-0 */
	u8 run;	    /* enum counter_run */
	u8 latched; /* bytes of `latch` still to read */
	u8 status, low;
	bool gate;
	bool switching, waiting; /* waiting: a new count needs a trigger (modes 1, 5) */
	bool out_before;	 /* OUT until `start` */
	bool status_latched, write_high, read_high;
};

extern const struct field counter_state[];

void counter_settle(struct counter *c, u64 now);
bool counter_out(const struct counter *c, u64 now);
/* The next tick after `now` at which OUT rises; ~0 when it will not. */
u64 counter_rise(const struct counter *c, u64 now);
bool counter_is_periodic(const struct counter *c);

void counter_set_gate(struct counter *c, bool gate, u64 now);
void counter_control(struct counter *c, u8 word, u64 now);
void counter_latch_count(struct counter *c, u64 now);
void counter_latch_status(struct counter *c, u64 now);
u8 counter_read(struct counter *c, u64 now);
void counter_write(struct counter *c, u8 value, u64 now);
