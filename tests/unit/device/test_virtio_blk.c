/* The block device: requests as 5.2.6 has them, in any order, and everything a driver gets wrong.
 */
#include "device/virtio/blk.h"
#include "virtio_driver.h"
#include <errno.h>

#define F_FLUSH	  BIT64(9)
#define F_CLEAR	  (BIT64(13) | BIT64(14))
#define HEAD	  BUFFERS
#define STATUS	  (BUFFERS + 0x20)
#define DATA	  (BUFFERS + 0x1000)
#define UNTOUCHED 0xaa

enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, ZEROES = 13 };
enum { OK, IOERR, UNSUPP };

static void configure(struct rig *r)
{
	assert_int_equal(device_set(r->dev, "packed", "on", NULL), 0);
	assert_int_equal(device_set(r->dev, "queues", "2", NULL), 0);
	assert_int_equal(device_set(r->dev, "serial", "0123456789abcdefghij", NULL), 0);
}

static void open_rig(struct rig *r)
{
	rig_open(r, &virtio_blk_class);
	r->configure = configure;
	configure(r);
	for (unsigned i = 0; i < RIG_DISK; i++)
		r->disk[i] = (u8)(i / 512 + i);
}

static void lay_head(struct rig *r, u64 at, u32 type, u64 sector)
{
	u8 head[16] = { 0 };

	put_le32(head, type);
	put_le64(head + 8, sector);
	poke(r, at, head, sizeof(head));
	poke(r, STATUS, &(u8){ UNTOUCHED }, 1);
}

/* A request of three descriptors; its data are `len` bytes at DATA. */
static void ask(struct driver *d, unsigned q, u32 type, u64 sector, u32 len)
{
	u16 write = type == IN || type == GET_ID ? WRITE : 0;
	const struct buffer b[] = { { HEAD, 16, 0 }, { DATA, len, write }, { STATUS, 1, WRITE } };

	lay_head(d->r, HEAD, type, sector);
	offer(d, q, b, 3);
	kick(d, q);
}

static u8 answer(struct driver *d, unsigned q)
{
	u32 written;
	u8 status;

	assert_true(collect(d, q, 3, &written));
	assert_true(written >= 1);
	peek(d->r, STATUS, &status, 1);
	return status;
}

static u8 do_request(struct driver *d, u32 type, u64 sector, u32 len)
{
	ask(d, 0, type, sector, len);
	while (d->r->pending_count)
		rig_disk_end(d->r, 0, 0);
	return answer(d, 0);
}

static void configuration_describes_the_disk(void **state)
{
	struct rig r;

	open_rig(&r);
	map_bars(&r);
	assert_int_equal(get(&r, CONFIG(0), 8), RIG_DISK / 512);
	assert_int_equal(get(&r, CONFIG(12), 4), VIRTQ_SIZE_MAX - 2);
	assert_int_equal(get(&r, CONFIG(20), 4), 512);
	assert_int_equal(get(&r, CONFIG(34), 2), 2);
	assert_int_equal(get(&r, CONFIG(40), 4), 1);
	assert_int_equal(get(&r, CONFIG(60), 4), 0);
	assert_int_equal(get(&r, COMMON(0x12), 2), 2);
	assert_true(offered(&r) & BIT64(12));
	assert_false(offered(&r) & BIT64(5));
	set(&r, CONFIG(0), 8, 0);
	assert_int_equal(get(&r, CONFIG(0), 8), RIG_DISK / 512);
	rig_close(&r);
}

static void sectors_are_read_and_written(void **state)
{
	static const u64 kinds[] = { F_FLUSH, F_FLUSH | VIRTIO_F_PACKED | VIRTIO_F_EVENT_IDX };
	u8 data[1024];

	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
		struct rig r;

		open_rig(&r);
		struct driver d = start(&r, kinds[i], 2);

		assert_int_equal(do_request(&d, IN, 3, 1024), OK);
		peek(&r, DATA, data, sizeof(data));
		assert_memory_equal(data, r.disk + 3 * 512, sizeof(data));
		assert_int_equal(do_request(&d, OUT, 10, 1024), OK);
		assert_memory_equal(data, r.disk + 10 * 512, sizeof(data));
		assert_int_equal(r.flushes, 0);
		assert_int_equal(do_request(&d, FLUSH, 0, 0), OK);
		assert_int_equal(r.flushes, 1);
		assert_int_equal(do_request(&d, IN, RIG_DISK / 512, 0), OK);
		rig_close(&r);
	}
}

/* The head and the data in odd pieces (2.6.4.2: framing means nothing). */
static void framing_does_not_matter(void **state)
{
	const struct buffer b[] = { { HEAD, 7, 0 }, { HEAD + 7, 9 + 100, 0 },
		{ HEAD + 7 + 109, 412, 0 }, { STATUS + 0x800, 1, WRITE } };
	u8 data[512];
	struct rig r;
	u32 written;

	open_rig(&r);
	struct driver d = start(&r, F_FLUSH, 1);

	lay_head(&r, HEAD, OUT, 5);
	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (u8)(i * 3);
	poke(&r, HEAD + 16, data, sizeof(data));
	offer(&d, 0, b, 4);
	kick(&d, 0);
	rig_disk_end(&r, 0, 0);
	assert_true(collect(&d, 0, 4, &written));
	assert_int_equal(written, 1);
	assert_memory_equal(r.disk + 5 * 512, data, sizeof(data));

	const struct buffer in[] = { { HEAD, 16, 0 }, { DATA, 100, WRITE },
		{ DATA + 100, 413, WRITE } };

	lay_head(&r, HEAD, IN, 5);
	offer(&d, 0, in, 3);
	kick(&d, 0);
	rig_disk_end(&r, 0, 0);
	assert_true(collect(&d, 0, 3, &written));
	assert_int_equal(written, 513);
	u8 got[513];

	peek(&r, DATA, got, sizeof(got));
	assert_memory_equal(got, data, sizeof(data));
	assert_int_equal(got[512], OK);
	rig_close(&r);
}

static void requests_end_in_any_order(void **state)
{
	static const u64 kinds[] = { F_FLUSH, F_FLUSH | VIRTIO_F_PACKED };
	u32 written;

	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
		struct rig r;

		open_rig(&r);
		struct driver d = start(&r, kinds[i], 2);

		ask(&d, 0, IN, 0, 512);
		ask(&d, 0, FLUSH, 0, 0);
		ask(&d, 1, IN, 2, 1024);
		assert_int_equal(r.pending_count, 3);
		rig_disk_end(&r, 2, 0);
		assert_true(collect(&d, 1, 3, &written));
		assert_int_equal(r.data, VECTOR + 2);
		rig_disk_end(&r, 1, 0);
		assert_int_equal(answer(&d, 0), OK);
		rig_disk_end(&r, 0, 0);
		assert_true(collect(&d, 0, 3, &written));
		assert_int_equal(written, 513);
		assert_int_equal(r.data, VECTOR + 1);
		rig_close(&r);
	}
}

static void without_flush_every_write_is_stable(void **state)
{
	struct rig r;

	open_rig(&r);
	struct driver d = start(&r, 0, 1);

	assert_int_equal(do_request(&d, OUT, 1, 512), OK);
	assert_int_equal(r.flushes, 1);
	assert_int_equal(do_request(&d, IN, 1, 512), OK);
	assert_int_equal(r.flushes, 1);
	rig_close(&r);
}

static void ranges_are_cleared(void **state)
{
	u8 range[16] = { 0 };
	struct rig r;

	open_rig(&r);
	struct driver d = start(&r, F_FLUSH | F_CLEAR, 1);

	put_le64(range, 8);
	put_le32(range + 8, 2);
	poke(&r, DATA, range, sizeof(range));
	assert_int_equal(do_request(&d, DISCARD, 0, 16), OK);
	assert_int_equal(r.disk[8 * 512], 0xdd);
	assert_int_equal(r.disk[10 * 512], 10);
	put_le32(range + 12, 1); /* unmap: for zeroes only */
	poke(&r, DATA, range, sizeof(range));
	assert_int_equal(do_request(&d, DISCARD, 0, 16), UNSUPP);
	assert_int_equal(do_request(&d, ZEROES, 0, 16), OK);
	assert_int_equal(r.disk[9 * 512 + 511], 0);
	put_le32(range + 12, 2);
	poke(&r, DATA, range, sizeof(range));
	assert_int_equal(do_request(&d, ZEROES, 0, 16), UNSUPP);
	put_le32(range + 12, 0);
	put_le32(range + 8, 0x7fffffff);
	poke(&r, DATA, range, sizeof(range));
	assert_int_equal(do_request(&d, ZEROES, 0, 16), IOERR);
	assert_int_equal(do_request(&d, ZEROES, 0, 32), IOERR);
	assert_int_equal(do_request(&d, ZEROES, 0, 15), UNSUPP);
	rig_close(&r);
}

static void the_serial_number_is_told(void **state)
{
	char id[21] = "";
	struct rig r;

	open_rig(&r);
	struct driver d = start(&r, F_FLUSH, 1);

	assert_int_equal(do_request(&d, GET_ID, 0, 20), OK);
	peek(&r, DATA, id, 20);
	assert_string_equal(id, "0123456789abcdefghij");
	rig_close(&r);
}

static void errors_are_told(void **state)
{
	struct rig r;

	open_rig(&r);
	struct driver d = start(&r, F_FLUSH, 1);

	ask(&d, 0, IN, 0, 512);
	rig_disk_end(&r, 0, -EIO);
	assert_int_equal(answer(&d, 0), IOERR);
	ask(&d, 0, OUT, 0, 512);
	rig_disk_end(&r, 0, -ENOSPC);
	assert_int_equal(answer(&d, 0), IOERR);
	ask(&d, 0, FLUSH, 0, 0);
	rig_disk_end(&r, 0, -EOPNOTSUPP);
	assert_int_equal(answer(&d, 0), UNSUPP);
	rig_close(&r);
}

static void impossible_requests_are_refused(void **state)
{
	struct rig r;

	open_rig(&r);
	struct driver d = start(&r, F_FLUSH, 1);

	assert_int_equal(do_request(&d, IN, RIG_DISK / 512, 512), IOERR);
	assert_int_equal(do_request(&d, IN, RIG_DISK / 512 - 1, 1024), IOERR);
	assert_int_equal(do_request(&d, IN, ~0ull, 512), IOERR);
	assert_int_equal(do_request(&d, IN, 1ull << 55, 512), IOERR);
	assert_int_equal(do_request(&d, OUT, 0, 511), IOERR);
	assert_int_equal(do_request(&d, 99, 0, 512), UNSUPP);
	/* A head that is too short. */
	const struct buffer b[] = { { HEAD, 15, 0 }, { STATUS, 1, WRITE } };
	u32 written;

	offer(&d, 0, b, 2);
	kick(&d, 0);
	assert_true(collect(&d, 0, 2, &written));
	assert_int_equal(peek16(&r, STATUS) & 0xff, IOERR);
	/* No room for a status. */
	offer(&d, 0, b, 1);
	kick(&d, 0);
	assert_int_equal(status(&r), 15 | 0x40);
	rig_close(&r);
}

static void readonly_disks_are_not_written_to(void **state)
{
	struct rig r;

	open_rig(&r);
	r.disk_readonly = true;
	r.dev->class->reset(r.dev);
	struct driver d = start(&r, F_FLUSH, 1);

	assert_true(offered(&r) & BIT64(5));
	assert_int_equal(do_request(&d, OUT, 0, 512), IOERR);
	assert_int_equal(do_request(&d, ZEROES, 0, 16), IOERR);
	assert_int_equal(do_request(&d, IN, 0, 512), OK);
	rig_close(&r);
}

static void a_reset_waits_for_the_disk(void **state)
{
	struct rig r;

	open_rig(&r);
	struct driver d = start(&r, F_FLUSH, 1);

	ask(&d, 0, IN, 0, 512);
	ask(&d, 0, OUT, 4, 512);
	assert_int_equal(r.pending_count, 2);
	set(&r, COMMON(0x14), 1, 0);
	assert_int_equal(r.pending_count, 0);
	assert_int_equal(status(&r), 0);
	ask(&d, 0, IN, 0, 512);
	assert_int_equal(r.pending_count, 0);
	rig_close(&r);
}

static void script(struct rig *r)
{
	struct driver d = { .r = r, .next[0] = 3 };

	ask(&d, 0, IN, 7, 512);
	while (r->pending_count)
		rig_disk_end(r, 0, 0);
	set(r, COMMON(0x16), 2, 1);
	assert_int_equal(get(r, COMMON(0x1c), 2), 1);
}

static void state_survives_migration(void **state)
{
	struct rig r;

	open_rig(&r);
	struct driver d = start(&r, F_FLUSH, 2);

	memset(r.disk, 0, RIG_DISK); /* the other rig's is */
	assert_int_equal(do_request(&d, IN, 0, 512), OK);
	rig_check_migration(&r, script);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(configuration_describes_the_disk),
		cmocka_unit_test(sectors_are_read_and_written),
		cmocka_unit_test(framing_does_not_matter),
		cmocka_unit_test(requests_end_in_any_order),
		cmocka_unit_test(without_flush_every_write_is_stable),
		cmocka_unit_test(ranges_are_cleared),
		cmocka_unit_test(the_serial_number_is_told),
		cmocka_unit_test(errors_are_told),
		cmocka_unit_test(impossible_requests_are_refused),
		cmocka_unit_test(readonly_disks_are_not_written_to),
		cmocka_unit_test(a_reset_waits_for_the_disk),
		cmocka_unit_test(state_survives_migration),
	};

	return cmocka_run_group_tests_name("virtio-blk", tests, NULL, NULL);
}
