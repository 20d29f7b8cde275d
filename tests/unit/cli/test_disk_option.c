/* --disk: what its options mean, and what is refused in words that help. */
#include "base/err.h"
#include "cli/disk_option.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h> /* needs the above */

static struct machine_disk_config disks[MACHINE_DISKS_MAX];

static int parse(const char *text, struct err *err)
{
	const struct option_list list = { { text }, 1 };

	disk_option_free(disks);
	memset(disks, 0, sizeof(disks));
	*err = (struct err){ 0 };
	return disk_option_parse(&list, disks, err);
}

static void options_are_stored(void **state)
{
	struct err err;

	assert_int_equal(parse("a=b.img", &err), 0);
	assert_string_equal(disks[0].path, "a=b.img");
	assert_null(disks[0].options.format);
	assert_int_equal(disks[0].options.cache, BLOCK_WRITEBACK);
	assert_int_equal(parse("x,format=raw,cache=none,readonly,serial=S1,queues=3,packed,bus="
			       "virtio,iops=7,"
			       "bandwidth=2M",
				 &err),
		0);
	assert_string_equal(disks[0].path, "x");
	assert_string_equal(disks[0].options.format, "raw");
	assert_int_equal(disks[0].options.cache, BLOCK_NONE);
	assert_true(disks[0].options.readonly);
	assert_string_equal(disks[0].serial, "S1");
	assert_int_equal(disks[0].queues, 3);
	assert_int_equal(disks[0].iops, 7);
	assert_int_equal(disks[0].bandwidth, 2 * MiB);
	assert_true(disks[0].packed);
	assert_int_equal(parse("x,readonly=off,packed=on", &err), 0);
	assert_false(disks[0].options.readonly);
	assert_true(disks[0].packed);
}

static void commas_in_names_are_doubled(void **state)
{
	struct err err;

	assert_int_equal(parse("a,,b,,,serial=x,,y", &err), 0);
	assert_string_equal(disks[0].path, "a,b,");
	assert_string_equal(disks[0].serial, "x,y");
}

static void mistakes_are_named(void **state)
{
	static const char *const bad[][2] = {
		{ "", "file is missing" },
		{ ",readonly", "file is missing" },
		{ "x,", "no option" },
		{ "x,seriel=1", "did you mean serial" },
		{ "x,serial", "needs a value" },
		{ "x,serial=123456789012345678901", "longer than 20" },
		{ "x,queues=0", "between 1 and 8" },
		{ "x,iops=0", "between 1 and 1000000" },
		{ "x,bandwidth=0", "with K, M or G" },
		{ "x,bandwidth=fast", "with K, M or G" },
		{ "x,queues=9", "between 1 and 8" },
		{ "x,queues=two", "between 1 and 8" },
		{ "x,cache=maybe", "writeback" },
		{ "x,bus=isa", "virtio" },
		{ "x,readonly=perhaps", "on or off" },
	};
	struct err err;

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		assert_true(parse(bad[i][0], &err) < 0);
		if (!strstr(err.text, bad[i][1]))
			fail_msg("\"%s\": %s", bad[i][0], err.text);
	}
}

static void there_is_a_limit(void **state)
{
	struct option_list list = { .count = MACHINE_DISKS_MAX + 1 };
	struct err err = { 0 };

	for (unsigned i = 0; i < list.count; i++)
		list.items[i] = "x";
	assert_true(disk_option_parse(&list, disks, &err) < 0);
}

static int teardown(void **state)
{
	disk_option_free(disks);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_are_stored),
		cmocka_unit_test(commas_in_names_are_doubled),
		cmocka_unit_test(mistakes_are_named),
		cmocka_unit_test(there_is_a_limit),
	};

	return cmocka_run_group_tests_name("disk-option", tests, NULL, teardown);
}
