/*
 * Interrupt lines and messages. A line is a function and a number handed to a device; the machine
 * decides what is behind it (both an 8259 input and an IOAPIC input, for ISA lines). set() is
 * idempotent: it carries the level, not an edge.
 */
#pragma once
#include "base/types.h"

struct irq_line {
	void (*set)(void *ctx, unsigned n, bool level);
	void *ctx;
	unsigned n;
};

static inline void irq_set(const struct irq_line *line, bool level)
{
	if (line->set)
		line->set(line->ctx, line->n, level);
}
/* An edge: up and down again. */
static inline void irq_pulse(const struct irq_line *line)
{
	irq_set(line, true);
	irq_set(line, false);
}

/* Message-signalled interrupts: address and data as the device wrote them (SDM 3A 10.11). */
struct msi_sink {
	void (*send)(void *ctx, u64 address, u32 data);
	void *ctx;
};
static inline void msi_send(const struct msi_sink *sink, u64 address, u32 data)
{
	if (sink->send)
		sink->send(sink->ctx, address, data);
}
