/*
 * Dispatch of port and memory-mapped accesses to the window that claims them: a binary search in
 * a sorted array of disjoint windows, one array per address space.
 *
 * An access that lies in one window is one call. One that crosses a window's edge is done byte by
 * byte, as an 8-bit bus does with a wide access; bytes that nobody claims read as ones.
 */
#include "bus/bus.h"
#include "base/bits.h"
#include "base/must.h"
#include <errno.h>

void bus_init(struct bus *b) { *b = (struct bus){ 0 }; }

/* Index of the first window whose end lies beyond `at`; count when there is none. */
static unsigned first_ending_after(const struct bus *b, enum bus_space space, u64 at)
{
	unsigned lo = 0, hi = b->count[space];

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;
		const struct bus_window *w = &b->windows[space][mid];

		if (w->base <= at && at - w->base >= w->len)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

int bus_add(struct bus *b, enum bus_space space, u64 base, u64 len,
	const struct bus_handler *handler, void *ctx, const char *name, struct err *err)
{
	struct bus_window *all = b->windows[space];
	unsigned i = first_ending_after(b, space, base);
	unsigned n = b->count[space];
	u64 last;

	if (!len || !add_ok(base, len - 1, &last) || (space == BUS_PORT && last > 0xffff))
		return err_set(err, -EINVAL, "%s: bad window 0x%llx, 0x%llx bytes", name,
			(unsigned long long)base, (unsigned long long)len);
	if (i < n && all[i].base <= last)
		return err_set(err, -EBUSY, "%s: window 0x%llx overlaps %s", name,
			(unsigned long long)base, all[i].name);
	if (n == BUS_WINDOWS_MAX)
		return err_set(err, -ENOSPC, "%s: more than %u windows", name, BUS_WINDOWS_MAX);
	memmove(&all[i + 1], &all[i], (n - i) * sizeof(all[0]));
	all[i] = (struct bus_window){ base, len, handler, ctx, name };
	b->count[space]++;
	return 0;
}

void bus_remove(struct bus *b, enum bus_space space, u64 base)
{
	struct bus_window *all = b->windows[space];
	unsigned i = first_ending_after(b, space, base);
	unsigned n = b->count[space];

	if (i == n || all[i].base != base)
		return;
	memmove(&all[i], &all[i + 1], (n - i - 1) * sizeof(all[0]));
	b->count[space]--;
}

const struct bus_window *bus_find(const struct bus *b, enum bus_space space, u64 at)
{
	unsigned i = first_ending_after(b, space, at);

	if (i == b->count[space] || b->windows[space][i].base > at)
		return NULL;
	return &b->windows[space][i];
}

static bool holds(const struct bus_window *w, u64 at, unsigned size)
{
	return w && range_ok(at - w->base, size, w->len);
}

u64 bus_read(struct bus *b, enum bus_space space, u64 at, unsigned size)
{
	const struct bus_window *w = bus_find(b, space, at);
	u64 value = 0;

	must(size == 1 || size == 2 || size == 4 || size == 8, "access of %u bytes", size);
	if (holds(w, at, size))
		return w->handler->read(w->ctx, at - w->base, size) & mask_bytes(size);
	if (size == 1)
		return 0xff;
	for (unsigned i = 0; i < size; i++)
		value |= bus_read(b, space, at + i, 1) << (8 * i);
	return value;
}

void bus_write(struct bus *b, enum bus_space space, u64 at, unsigned size, u64 value)
{
	const struct bus_window *w = bus_find(b, space, at);

	must(size == 1 || size == 2 || size == 4 || size == 8, "access of %u bytes", size);
	if (holds(w, at, size)) {
		w->handler->write(w->ctx, at - w->base, size, value & mask_bytes(size));
		return;
	}
	for (unsigned i = 0; i < size && size > 1; i++)
		bus_write(b, space, at + i, 1, value >> (8 * i) & 0xff);
}
