/* Saving and loading: processors alone, then whole machines. */
#include "fake_engine.h"
#include "machine/cpu_state.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h> /* needs the above */

/* Every byte different from its neighbours; bools and enums are stored as integers, so any value
 * will do. */
static void fill(struct x86_state *s)
{
	for (size_t i = 0; i < sizeof(*s); i++)
		((u8 *)s)[i] = (u8)(i * 7 + 1);
}

static void processor_survives_a_round_trip(void **state)
{
	struct x86_state from, to;
	struct blob b = { 0 };
	struct err err = { 0 };
	char name[64];
	size_t used;

	fill(&from);
	memset(&to, 0, sizeof(to));
	assert_int_equal(cpu_state_save(&from, &b), 0);
	assert_int_equal(cpu_state_load(&to, b.data, b.len, &used, &err), 0);
	assert_int_equal(used, b.len);
	assert_null(state_diff(cpu_state_fields, &from, &to, name, sizeof(name)));
	struct blob again = { 0 };
	assert_int_equal(cpu_state_save(&to, &again), 0);
	assert_int_equal(again.len, b.len);
	assert_memory_equal(again.data, b.data, b.len);
	blob_free(&b);
	blob_free(&again);
}

/* Rows are in the order of the members and only alignment lies between them: a member without a row
 * fails here, unless it hides in padding. */
static void every_member_is_in_the_table(void **state)
{
	u32 at = 0;

	for (const struct field *f = cpu_state_fields; f->name; f++) {
		u32 align = f->size < 8 ? f->size : 8;

		assert_true(f->offset >= at);
		assert_true(f->offset - at < (f->kind == FIELD_STRUCT ? 64 : align));
		at = f->offset + f->size * f->count;
	}
	assert_int_equal(at, sizeof(struct x86_state));
}

static struct machine *machine(unsigned cpus)
{
	struct machine_config config = fake_config();
	struct err err = { 0 };

	config.cpus = cpus;
	struct machine *m = machine_new(&config, &err);
	assert_non_null(m);
	return m;
}

/* A little of every device. */
static void disturb(struct machine *m)
{
	static const u16 writes[][2] = {
		{ 0x20, 0x11 },
		{ 0x21, 0x20 },
		{ 0x21, 4 },
		{ 0x21, 1 },
		{ 0x21, 0xb8 }, /* 8259 */
		{ 0x43, 0x34 },
		{ 0x40, 0x34 },
		{ 0x40, 0x12 }, /* 8254 */
		{ 0x70, 0x50 },
		{ 0x71, 0x77 },
		{ 0x70, 0x0b },
		{ 0x71, 0x42 }, /* RTC */
		{ 0x3ff, 0x5a },
		{ 0x3fb, 0x83 },
		{ 0x3f8, 3 },
		{ 0x3fb, 3 },
		{ 0x2ff, 1 }, /* UARTs */
		{ 0x80, 0x44 },
	};
	struct vcpu *v = &m->cpus[0].v;

	for (unsigned i = 0; i < ARRAY_LEN(writes); i++)
		fake_out(v, writes[i][0], (u8)writes[i][1]);
	v->ops->port_out(v->ops_ctx, v, 0x602, 2, 0x0101); /* PM1 enable: timer, power button */
	v->ops->mmio_write(v->ops_ctx, v, gpa(0xfed00100), 4, 0x4); /* HPET timer 0 */
	v->ops->mmio_write(v->ops_ctx, v, gpa(0xfec00000), 4, 0x12);
	v->ops->mmio_write(v->ops_ctx, v, gpa(0xfec00010), 4, 0x31); /* I/O APIC pin 1 */
	v->ops->mmio_write(v->ops_ctx, v, gpa(0xfee00080), 4, 0x20); /* local APIC: task priority */
	v->x86.s.gpr[RSI] = 0x1122334455667788;
	clock_advance(&m->clock, 12345678);
}

static struct blob save(struct machine *m)
{
	struct blob b = { 0 };
	struct err err = { 0 };

	assert_int_equal(machine_save(m, &b, &err), 0);
	return b;
}

static void assert_blobs(const struct blob *a, const struct blob *b, bool equal)
{
	bool same = a->len == b->len && !memcmp(a->data, b->data, a->len);

	assert_int_equal(same, equal);
}

static void machine_survives_a_round_trip(void **state)
{
	struct machine *a = machine(2), *b = machine(2);
	struct err err = { 0 };

	disturb(a);
	struct blob from = save(a), fresh = save(b);
	assert_blobs(&from, &fresh, false);
	assert_int_equal(machine_load(b, from.data, from.len, &err), 0);
	struct blob loaded = save(b);
	assert_blobs(&from, &loaded, true);
	blob_free(&from);
	blob_free(&fresh);
	blob_free(&loaded);
	machine_free(a);
	machine_free(b);
}

static struct machine *machine_with_devices(const char *image)
{
	static struct machine_disk_config disk = { .options = { .format = "raw", .readonly = true },
		.serial = "1" };
	static const struct machine_net_config net = { .packed = true };
	struct machine_config config = fake_config();
	struct err err = { 0 };

	disk.path = image;
	config.disks = &disk;
	config.disk_count = 1;
	config.net = &net;
	struct machine *m = machine_new(&config, &err);
	if (!m)
		fail_msg("%s", err.text);
	return m;
}

/* A function's configuration moves its BARs, and a driver has begun with it. */
static void disturb_slot(struct machine *m, unsigned slot)
{
	u64 bar = 0xd0000000 + 0x10000ull * slot;
	struct vcpu *v = &m->cpus[0].v;

	v->ops->port_out(v->ops_ctx, v, 0xcf8, 4, 0x80000020 | slot << 11);
	v->ops->port_out(v->ops_ctx, v, 0xcfc, 4, (u32)bar);
	v->ops->mmio_write(v->ops_ctx, v, gpa(bar + 0x14), 1, 3);
	assert_int_equal(v->ops->mmio_read(v->ops_ctx, v, gpa(bar + 0x14), 1), 3);
}

static void devices_of_the_user_survive_too(void **state)
{
	char image[] = "/tmp/strata-snapshot-XXXXXX";
	int fd = mkstemp(image);
	struct err err = { 0 };

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, MiB), 0);
	struct machine *a = machine_with_devices(image), *b = machine_with_devices(image);
	struct machine *bare = machine(1);

	for (unsigned slot = 1; slot <= 3; slot++) /* entropy, disk, network */
		disturb_slot(a, slot);
	struct blob from = save(a);
	assert_int_not_equal(machine_load(bare, from.data, from.len, &err), 0);
	assert_int_equal(machine_load(b, from.data, from.len, &err), 0);
	struct blob loaded = save(b);
	assert_blobs(&from, &loaded, true);
	blob_free(&from);
	blob_free(&loaded);
	machine_free(a);
	machine_free(b);
	machine_free(bare);
	close(fd);
	unlink(image);
}

static void refused_stream_changes_nothing(void **state)
{
	struct machine *a = machine(1), *b = machine(1), *two = machine(2);
	struct err err = { 0 };

	disturb(a);
	disturb(b);
	b->cpus[0].v.x86.s.gpr[RSI] = 1;
	struct blob from = save(a), before = save(b), other = save(two);

	for (size_t len = 0; len < from.len; len += 97) {
		assert_int_not_equal(machine_load(b, from.data, len, &err), 0);
		assert_true(err.text[0]);
	}
	assert_int_not_equal(machine_load(b, other.data, other.len, &err), 0);
	from.data[from.len / 2 - from.len / 2 % 8] ^= 0xff; /* wherever that is */
	(void)!machine_load(b, from.data, from.len - 1, &err);

	struct blob after = save(b);
	assert_blobs(&before, &after, true);
	blob_free(&from);
	blob_free(&before);
	blob_free(&other);
	blob_free(&after);
	machine_free(a);
	machine_free(b);
	machine_free(two);
}

static void impossible_activity_is_refused(void **state)
{
	struct machine *a = machine(1), *b = machine(1);
	struct err err = { 0 };

	a->cpus[0].v.x86.s.activity = (enum x86_activity)77;
	struct blob from = save(a), before = save(b);
	assert_int_not_equal(machine_load(b, from.data, from.len, &err), 0);
	assert_non_null(strstr(err.text, "cpu0: activity 77"));
	struct blob after = save(b);
	assert_blobs(&before, &after, true);
	blob_free(&from);
	blob_free(&before);
	blob_free(&after);
	machine_free(a);
	machine_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(processor_survives_a_round_trip),
		cmocka_unit_test(every_member_is_in_the_table),
		cmocka_unit_test(machine_survives_a_round_trip),
		cmocka_unit_test(devices_of_the_user_survive_too),
		cmocka_unit_test(refused_stream_changes_nothing),
		cmocka_unit_test(impossible_activity_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
