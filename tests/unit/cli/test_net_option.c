/* --net: what its options mean, and what is refused. */
#include "cli/net_option.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h> /* needs the above */

static struct net_option option;

static int parse(const char *text, bool *wanted)
{
	struct err err = { 0 };
	net_option_free(&option);
	int rc = net_option_parse(text, &option, wanted, &err);

	assert_int_equal(rc < 0, err.text[0] != 0);
	return rc;
}

static void options_are_stored(void **state)
{
	bool wanted;

	assert_int_equal(parse(NULL, &wanted), 0);
	assert_false(wanted);
	assert_int_equal(parse("none", &wanted), 0);
	assert_false(wanted);
	assert_int_equal(parse("user", &wanted), 0);
	assert_true(wanted);
	assert_null(option.config.mac);
	assert_int_equal(parse("user,forward=tcp:2222:22,forward=udp:127.0.0.1:5353:53,packed,"
			       "mac=52:54:00:aB:cd:ef",
				 &wanted),
		0);
	assert_int_equal(option.config.forward_count, 2);
	assert_false(option.forwards[0].udp);
	assert_int_equal(option.forwards[0].host, 0);
	assert_int_equal(option.forwards[0].host_port, 2222);
	assert_int_equal(option.forwards[0].guest_port, 22);
	assert_true(option.forwards[1].udp);
	assert_int_equal(option.forwards[1].host, 0x7f000001);
	assert_int_equal(option.forwards[1].guest_port, 53);
	assert_true(option.config.packed);
	assert_string_equal(option.config.mac, "52:54:00:aB:cd:ef");
}

static void kinds_have_names(void **state)
{
	bool wanted;

	assert_int_equal(parse("tap=tap0,queues=4,capture=/tmp/x", &wanted), 0);
	assert_true(wanted);
	assert_int_equal(option.config.kind, NET_TAP);
	assert_string_equal(option.config.name, "tap0");
	assert_int_equal(option.config.queues, 4);
	assert_string_equal(option.config.capture, "/tmp/x");
	assert_int_equal(option.config.bandwidth, 0);
	assert_int_equal(parse("segment=lab,bandwidth=2M", &wanted), 0);
	assert_int_equal(option.config.bandwidth, 2 * MiB);
	assert_int_equal(option.config.kind, NET_SEGMENT);
	assert_string_equal(option.config.name, "lab");
}

static void mistakes_are_refused(void **state)
{
	static const char *const bad[] = { "", "tap", "users", "user,", "user,forward", "user,x=1",
		"none,forward=tcp", "user,forward=tcp:1", "user,forward=tcp:1:2:3:4",
		"user,forward=icmp:1:2", "user,forward=tcp:0:22", "user,forward=tcp:22:65536",
		"user,forward=tcp:-1:22", "user,forward=tcp:host:22:22", "user,mac=52:54:00:12:34",
		"user,mac=52:54:00:12:34:5g", "user,mac=53:54:00:12:34:56",
		"user,mac=52:54:00:12:34:56:", "tap=", "segment", "none=1", "user=x",
		"tap=tap0,forward=tcp:1:1", "user,queues=0", "user,queues=5",
		"user,capture=", "user,capture", "user,bandwidth", "user,bandwidth=0",
		"user,bandwidth=fast" };
	bool wanted;

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		if (!parse(bad[i], &wanted))
			fail_msg("\"%s\" was taken", bad[i]);
}

static void forwards_have_a_limit(void **state)
{
	char text[1024] = "user";
	bool wanted;

	for (unsigned i = 0; i < NET_FORWARDS_MAX; i++)
		strcat(text, ",forward=tcp:1:1");
	assert_int_equal(parse(text, &wanted), 0);
	strcat(text, ",forward=tcp:1:1");
	assert_true(parse(text, &wanted) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_are_stored),
		cmocka_unit_test(kinds_have_names),
		cmocka_unit_test(mistakes_are_refused),
		cmocka_unit_test(forwards_have_a_limit),
	};

	int failed = cmocka_run_group_tests_name("net-option", tests, NULL, NULL);

	net_option_free(&option);
	return failed;
}
