/* A virtio disk whose registers are memory-mapped: what identifies it, a request from end to end,
 * its wire, and a driver that breaks the rules. */
#include "device/virtio/blk.h"
#include "device/virtio/virtio.h"
#include "rig.h"

#define BASE  0ull /* where the rig attaches it */
#define RING  0x10000ull
#define HEAD  0x20000ull
#define DATA  0x21000ull
#define STATE 0x22000ull

static u32 get(struct rig *r, u64 at) { return (u32)bus_read(&r->bus, BUS_MMIO, BASE + at, 4); }
static void set(struct rig *r, u64 at, u32 value)
{
	bus_write(&r->bus, BUS_MMIO, BASE + at, 4, value);
}

static void start(struct rig *r)
{
	rig_open(r, &virtio_blk_mmio_class);
	set(r, 0x70, 0);
	set(r, 0x70, 3);
	set(r, 0x24, 1);
	set(r, 0x20, 1); /* VERSION_1 */
	set(r, 0x70, 11);
	assert_int_equal(get(r, 0x70), 11);
	set(r, 0x30, 0);
	assert_int_equal(get(r, 0x34), 256);
	set(r, 0x38, 16);
	set(r, 0x80, RING);
	set(r, 0x84, 0);
	set(r, 0x90, RING + 0x1000);
	set(r, 0x94, 0);
	set(r, 0xa0, RING + 0x2000);
	set(r, 0xa4, 0);
	set(r, 0x44, 1);
	assert_int_equal(get(r, 0x44), 1);
	set(r, 0x70, 15);
	assert_int_equal(get(r, 0x70), 15);
}

static void lay(struct rig *r, unsigned i, u64 at, u32 len, u16 flags)
{
	u8 d[16];

	put_le64(d, at);
	put_le32(d + 8, len);
	put_le16(d + 12, flags);
	put_le16(d + 14, (u16)(i + 1));
	assert_true(memory_write(&r->memory, gpa(RING + 16ull * i), d, sizeof(d)));
}

/* The first sector. */
static void offer_read(struct rig *r, u16 index)
{
	const u8 available[2] = { (u8)index, 0 };

	assert_true(memory_fill(&r->memory, gpa(HEAD), 0, 16));
	lay(r, 0, HEAD, 16, 1);
	lay(r, 1, DATA, 512, 3);
	lay(r, 2, STATE, 1, 2);
	assert_true(memory_write(&r->memory, gpa(RING + 0x1002), available, 2));
	set(r, 0x50, 0);
}

static void it_says_what_it_is(void **state)
{
	struct rig r;

	rig_open(&r, &virtio_blk_mmio_class);
	assert_int_equal(get(&r, 0), 0x74726976);
	assert_int_equal(get(&r, 4), 2);
	assert_int_equal(get(&r, 8), 2);
	set(&r, 0x14, 1);
	assert_true(get(&r, 0x10) & 1);
	set(&r, 0x14, 2);
	assert_int_equal(get(&r, 0x10), 0);
	assert_int_equal(get(&r, 0x100), RIG_DISK / 512);
	assert_int_equal(bus_read(&r.bus, BUS_MMIO, BASE + 0x100, 1), RIG_DISK / 512 & 0xff);
	assert_int_equal(get(&r, 0xb0), 0xffffffff);
	assert_int_equal(get(&r, 0xb4), 0xffffffff);
	/* A queue that is none. */
	set(&r, 0x30, 77);
	assert_int_equal(get(&r, 0x34), 0);
	set(&r, 0x44, 1);
	assert_int_equal(get(&r, 0x44), 0);
	rig_close(&r);
}

static void a_request_is_served(void **state)
{
	u8 data[512], used[2];
	struct rig r;

	start(&r);
	memset(r.disk, 0x4e, 512);
	offer_read(&r, 1);
	assert_int_equal(r.pending_count, 1);
	assert_false(r.level[0]);
	rig_disk_end(&r, 0, 0);
	assert_true(r.level[0]);
	assert_int_equal(get(&r, 0x60), 1);
	set(&r, 0x64, 1);
	assert_false(r.level[0]);
	assert_true(memory_read(&r.memory, gpa(RING + 0x2002), used, 2));
	assert_int_equal(get_le16(used), 1);
	assert_true(memory_read(&r.memory, gpa(DATA), data, sizeof(data)));
	assert_memory_equal(data, r.disk, sizeof(data));
	rig_close(&r);
}

static void who_breaks_the_rules_must_reset(void **state)
{
	struct rig r;

	start(&r);
	set(&r, 0x80, 0x1234); /* of an enabled queue */
	offer_read(&r, 1);
	assert_int_equal(r.pending_count, 1);
	rig_disk_end(&r, 0, 0);
	set(&r, 0x64, 3);
	set(&r, 0x44, 0);
	assert_int_equal(get(&r, 0x70), 0x4f);
	assert_true(r.level[0]);
	assert_int_equal(get(&r, 0x60), 2);
	set(&r, 0x70, 0);
	assert_int_equal(get(&r, 0x70), 0);
	assert_int_equal(get(&r, 0x44), 0);
	assert_false(r.level[0]);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_says_what_it_is),
		cmocka_unit_test(a_request_is_served),
		cmocka_unit_test(who_breaks_the_rules_must_reset),
	};

	return cmocka_run_group_tests_name("virtio_mmio", tests, NULL, NULL);
}
