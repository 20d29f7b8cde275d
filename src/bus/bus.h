/*
 * Port and memory-mapped I/O dispatch. A window is a range of ports or guest-physical addresses
 * owned by one handler; windows are disjoint and sorted, so dispatch is a binary search. What no
 * window claims reads as all ones and swallows writes, as an unterminated bus does.
 *
 * Threads: windows change only while no vcpu runs or under the machine's lock. Dispatch is called
 * with the machine's lock held (the machine does so), so handlers never run concurrently.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"

enum bus_space { BUS_PORT, BUS_MMIO, BUS_SPACES };

struct bus_handler {
	/* offset is relative to the window; size 1, 2, 4 or 8 (ports: up to 4). Accesses do not
	 * straddle the window's end: the bus splits them. */
	u64 (*read)(void *ctx, u64 offset, unsigned size);
	void (*write)(void *ctx, u64 offset, unsigned size, u64 value);
};

struct bus_window {
	u64 base, len;
	const struct bus_handler *handler;
	void *ctx;
	const char *name;
};

#define BUS_WINDOWS_MAX 256

struct bus {
	struct bus_window windows[BUS_SPACES][BUS_WINDOWS_MAX];
	unsigned count[BUS_SPACES];
};

void bus_init(struct bus *b);
NODISCARD int bus_add(struct bus *b, enum bus_space space, u64 base, u64 len,
	const struct bus_handler *handler, void *ctx, const char *name, struct err *err);
void bus_remove(struct bus *b, enum bus_space space, u64 base);
u64 bus_read(struct bus *b, enum bus_space space, u64 at, unsigned size);
void bus_write(struct bus *b, enum bus_space space, u64 at, unsigned size, u64 value);
const struct bus_window *bus_find(const struct bus *b, enum bus_space space, u64 at);
