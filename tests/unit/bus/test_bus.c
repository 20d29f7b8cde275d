/* Dispatch: who gets an access, with which offset, and what nobody's addresses read as. */
#include "bus/bus.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h> /* needs the above */

/* Remembers its last write and reads as (tag << 8 | offset) in every access. */
struct probe {
	u64 tag, writes, offset, value;
	unsigned size;
};

static u64 probe_read(void *ctx, u64 offset, unsigned size)
{
	return ((struct probe *)ctx)->tag << 8 | offset;
}

static void probe_write(void *ctx, u64 offset, unsigned size, u64 value)
{
	struct probe *p = ctx;

	p->writes++;
	p->offset = offset;
	p->size = size;
	p->value = value;
}

static const struct bus_handler probe_ops = { probe_read, probe_write };

static int add(struct bus *b, u64 base, u64 len, struct probe *p)
{
	return bus_add(b, BUS_PORT, base, len, &probe_ops, p, "probe", NULL);
}

static void accesses_reach_their_window(void **state)
{
	struct probe p[3] = { { .tag = 1 }, { .tag = 2 }, { .tag = 3 } };
	struct bus b;

	bus_init(&b);
	assert_int_equal(add(&b, 0x60, 1, &p[1]), 0);
	assert_int_equal(add(&b, 0x3f8, 8, &p[2]), 0);
	assert_int_equal(add(&b, 0x20, 2, &p[0]), 0);
	assert_int_equal(bus_read(&b, BUS_PORT, 0x21, 2) & 0xff, 0x01);
	assert_int_equal(bus_read(&b, BUS_PORT, 0x20, 2), 0x100);
	assert_int_equal(bus_read(&b, BUS_PORT, 0x3fa, 4), 0x302);
	bus_write(&b, BUS_PORT, 0x3f9, 2, 0xabcdef);
	assert_int_equal(p[2].offset, 1);
	assert_int_equal(p[2].size, 2);
	assert_int_equal(p[2].value, 0xcdef);
	assert_ptr_equal(bus_find(&b, BUS_PORT, 0x60)->ctx, &p[1]);
	assert_null(bus_find(&b, BUS_PORT, 0x61));
	assert_null(bus_find(&b, BUS_MMIO, 0x60));
}

static void unclaimed_addresses_read_ones_and_swallow_writes(void **state)
{
	struct bus b;

	bus_init(&b);
	assert_int_equal(bus_read(&b, BUS_PORT, 0x80, 1), 0xff);
	assert_int_equal(bus_read(&b, BUS_PORT, 0xffff, 4), 0xffffffff);
	assert_true(bus_read(&b, BUS_MMIO, ~0ull, 8) == ~0ull);
	bus_write(&b, BUS_MMIO, ~0ull - 2, 8, 1);
}

static void access_across_an_edge_is_split(void **state)
{
	struct probe p[2] = { { .tag = 0 }, { .tag = 0 } };
	struct bus b;

	bus_init(&b);
	assert_int_equal(add(&b, 0x10, 4, &p[0]), 0);
	assert_int_equal(add(&b, 0x14, 1, &p[1]), 0);
	assert_int_equal(bus_read(&b, BUS_PORT, 0x12, 4), 0xff000302);
	bus_write(&b, BUS_PORT, 0x12, 4, 0x44332211);
	assert_int_equal(p[0].writes, 2);
	assert_int_equal(p[0].value, 0x22);
	assert_int_equal(p[1].value, 0x33);
	/* Begins before the window. */
	assert_int_equal(bus_read(&b, BUS_PORT, 0x0f, 2), 0x00ff);
}

static void overlapping_and_impossible_windows_are_refused(void **state)
{
	struct probe p = { 0 };
	struct bus b;

	bus_init(&b);
	assert_int_equal(add(&b, 0x10, 4, &p), 0);
	assert_int_equal(add(&b, 0x13, 4, &p), -EBUSY);
	assert_int_equal(add(&b, 0x0e, 3, &p), -EBUSY);
	assert_int_equal(add(&b, 0x11, 1, &p), -EBUSY);
	assert_int_equal(add(&b, 0x00, 0x100, &p), -EBUSY);
	assert_int_equal(add(&b, 0x14, 0, &p), -EINVAL);
	assert_int_equal(add(&b, 0xffff, 2, &p), -EINVAL);
	assert_int_equal(add(&b, ~0ull, 2, &p), -EINVAL);
	assert_int_equal(bus_add(&b, BUS_MMIO, ~0ull, 1, &probe_ops, &p, "top", NULL), 0);
	assert_int_equal(add(&b, 0x0e, 2, &p), 0);
	assert_int_equal(add(&b, 0x14, 1, &p), 0);
}

static void windows_can_be_filled_and_removed(void **state)
{
	struct probe p = { 0 };
	struct bus b;

	bus_init(&b);
	for (unsigned i = 0; i < BUS_WINDOWS_MAX; i++)
		assert_int_equal(add(&b, 0x1000 - 8 * i, 8, &p), 0);
	assert_int_equal(add(&b, 0x4000, 8, &p), -ENOSPC);
	bus_remove(&b, BUS_PORT, 0x1000);
	bus_remove(&b, BUS_PORT, 0x1004);
	assert_null(bus_find(&b, BUS_PORT, 0x1000));
	assert_non_null(bus_find(&b, BUS_PORT, 0xfff));
	assert_int_equal(add(&b, 0x4000, 8, &p), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accesses_reach_their_window),
		cmocka_unit_test(unclaimed_addresses_read_ones_and_swallow_writes),
		cmocka_unit_test(access_across_an_edge_is_split),
		cmocka_unit_test(overlapping_and_impossible_windows_are_refused),
		cmocka_unit_test(windows_can_be_filled_and_removed),
	};

	return cmocka_run_group_tests_name("bus", tests, NULL, NULL);
}
