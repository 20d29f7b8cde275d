/* --limits: what it says, as the kernel and systemd have it. */
#include "cli/limits_option.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h> /* needs the above */

static void words_become_values(void **state)
{
	struct limits_option o;
	struct err err = { 0 };

	assert_int_equal(limits_option_parse("pids=64,memory=2G,cpu=1.5,weight=50", &o, &err), 0);
	assert_int_equal(o.value[LIMIT_MEMORY], 2 * GiB);
	assert_int_equal(o.value[LIMIT_CPU], 1500);
	assert_int_equal(o.value[LIMIT_WEIGHT], 50);
	assert_int_equal(o.value[LIMIT_PIDS], 64);
	assert_int_equal(limits_option_parse(NULL, &o, &err), 0);
	for (unsigned i = 0; i < LIMITS; i++)
		assert_true(o.value[i] == LIMIT_UNSET);
}

static void mistakes_are_refused(void **state)
{
	static const char *const bad[] = { "", "cpu", "cpu=", "cpu=1x", "cpu=-1", "cpu=nan",
		"cpu=inf", "cpu=0.001", "memory=15M", "memory=-1", "weight=0", "weight=10001",
		"pids=15", "pids=+16", "CPU=1", "cp=1", "cpux=1", "cpu=1,cpu=1", "=1" };
	struct limits_option o;

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct err err = { 0 };

		if (limits_option_parse(bad[i], &o, &err) != -EINVAL)
			fail_msg("%s is taken", bad[i]);
		assert_non_null(strstr(err.text, "--limits"));
	}
}

static void memory_leaves_room_for_the_monitor(void **state)
{
	struct limits_option o;
	struct err err = { 0 };

	assert_int_equal(limits_option_parse("memory=576M", &o, &err), 0);
	assert_int_equal(limits_option_check(&o, 512 * MiB, &err), 0);
	assert_int_equal(limits_option_check(&o, 513 * MiB, &err), -EINVAL);
	assert_non_null(strstr(err.text, "577M"));
}

static void values_are_told_to_the_kernel(void **state)
{
	struct cgroup_value v[LIMITS];
	struct limits_option o;
	struct err err = { 0 };

	assert_int_equal(limits_option_parse("cpu=0.25,memory=16M", &o, &err), 0);
	assert_int_equal(limits_option_values(&o, false, v), 2);
	assert_string_equal(v[0].file, "memory.max");
	assert_string_equal(v[0].text, "16777216");
	assert_string_equal(v[1].file, "cpu.max");
	assert_string_equal(v[1].text, "25000 100000");
	assert_int_equal(limits_option_values(&o, true, v), LIMITS);
	assert_string_equal(v[2].text, "100");
	assert_string_equal(v[3].text, "max");
	for (unsigned i = 0; i < LIMITS; i++) /* and back; what is usual is a value, too */
		assert_true(
			limits_option_read(i, v[i].text) == (i == LIMIT_WEIGHT ? 100 : o.value[i]));
	assert_true(limits_option_read(LIMIT_CPU, "max 100000") == LIMIT_UNSET);
	assert_true(limits_option_read(LIMIT_CPU, "1 0") == LIMIT_UNSET);
}

static void values_are_told_to_systemd(void **state)
{
	char words[LIMITS_WORDS][CGROUP_VALUE_MAX];
	struct limits_option o;
	struct err err = { 0 };

	assert_int_equal(limits_option_parse("cpu=0.255,pids=20", &o, &err), 0);
	assert_int_equal(limits_option_properties(&o, false, words), 6);
	assert_string_equal(words[0], "CPUQuotaPerSecUSec");
	assert_string_equal(words[1], "t");
	assert_string_equal(words[2], "255000");
	assert_string_equal(words[3], "TasksMax");
	assert_int_equal(limits_option_properties(&o, true, words), LIMITS);
	assert_string_equal(words[0], "MemoryMax=infinity");
	assert_string_equal(words[1], "CPUQuota=25.5%");
	assert_string_equal(words[2], "CPUWeight=");
	assert_string_equal(words[3], "TasksMax=20");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_become_values),
		cmocka_unit_test(mistakes_are_refused),
		cmocka_unit_test(memory_leaves_room_for_the_monitor),
		cmocka_unit_test(values_are_told_to_the_kernel),
		cmocka_unit_test(values_are_told_to_systemd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
