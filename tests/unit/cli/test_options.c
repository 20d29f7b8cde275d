#include "cli/options.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h> /* needs the above */

struct values {
	const char *text;
	u64 number, size, ns;
	unsigned choice;
	bool on;
	struct option_list list;
	const char *operand;
	struct option_rest rest;
};

static const char *const colours[] = { "red", "green", NULL };

static const struct option_row table[] = {
	{ "text", "TEXT", "", OPTION_TEXT, offsetof(struct values, text), .required = true },
	{ "number", "N", "", OPTION_NUMBER, offsetof(struct values, number), 1, 8 },
	{ "size", "SIZE", "", OPTION_SIZE, offsetof(struct values, size), 1 * MiB, 4 * GiB },
	{ "time", "SECONDS", "", OPTION_SECONDS, offsetof(struct values, ns) },
	{ "colour", "COLOUR", "", OPTION_CHOICE, offsetof(struct values, choice),
		.choices = colours },
	{ "on", NULL, "", OPTION_SWITCH, offsetof(struct values, on) },
	{ "item", "ITEM", "", OPTION_LIST, offsetof(struct values, list) },
	{ 0 },
};

#define PARSE(v, err, ...)                                                      \
	({                                                                      \
		const char *argv_[] = { __VA_ARGS__ };                          \
		options_parse(table, ARRAY_LEN(argv_), (char **)argv_, v, err); \
	})

static void all_kinds_are_stored(void **state)
{
	struct values v = { 0 };
	struct err err = { 0 };

	assert_int_equal(PARSE(&v, &err, "--text", "a b", "--number=3", "--size", "512M", "--time",
				 "1.5", "--colour", "green", "--on"),
		0);
	assert_string_equal(v.text, "a b");
	assert_int_equal(v.number, 3);
	assert_int_equal(v.size, 512 * MiB);
	assert_int_equal(v.ns, 1500000000);
	assert_int_equal(v.choice, 1);
	assert_true(v.on);
}

static void lists_keep_their_order_and_have_an_end(void **state)
{
	struct values v = { 0 };
	struct err err = { 0 };

	assert_int_equal(PARSE(&v, &err, "--text=x", "--item=a", "--item", "b"), 0);
	assert_int_equal(v.list.count, 2);
	assert_string_equal(v.list.items[0], "a");
	assert_string_equal(v.list.items[1], "b");
	v.list.count = OPTION_LIST_MAX;
	assert_true(PARSE(&v, &err, "--text=x", "--item=a") < 0);
}

static void behind_two_dashes_words_are_anothers(void **state)
{
	static const struct option_row other[] = {
		{ "NAME", NULL, "", OPTION_OPERAND, offsetof(struct values, operand),
			.required = true },
		{ "on", NULL, "", OPTION_SWITCH, offsetof(struct values, on) },
		{ "COMMAND", NULL, "", OPTION_REST, offsetof(struct values, rest),
			.required = true },
		{ 0 },
	};
	const char *words[] = { "web", "--", "ls", "--on", "--", "" };
	struct values v = { 0 };
	struct err err = { 0 };

	assert_int_equal(options_parse(other, 6, (char **)words, &v, &err), 0);
	assert_string_equal(v.operand, "web");
	assert_false(v.on);
	assert_int_equal(v.rest.count, 4);
	assert_string_equal(v.rest.items[1], "--on");
	assert_int_equal(options_parse(other, 2, (char **)words, &v, &err), -EINVAL);
	assert_int_equal(options_parse(other, 1, (char **)words, &v, &err), -EINVAL);
	assert_string_equal(err.text, "COMMAND is missing");
	/* A verb that has no such row takes no such word. */
	assert_int_equal(PARSE(&v, &err, "--text=x", "--", "a"), -EINVAL);
}

static void empty_and_dashed_values_are_values(void **state)
{
	struct values v = { 0 };
	struct err err = { 0 };

	assert_int_equal(PARSE(&v, &err, "--text="), 0);
	assert_string_equal(v.text, "");
	assert_int_equal(PARSE(&v, &err, "--text", "--on"), 0);
	assert_string_equal(v.text, "--on");
	assert_int_equal(PARSE(&v, &err, "--text=a=b"), 0);
	assert_string_equal(v.text, "a=b");
}

static void bad_values_are_refused_by_name(void **state)
{
	static const char *const bad[][2] = {
		{ "--number", "0" },
		{ "--number", "9" },
		{ "--number", "" },
		{ "--number", "-1" },
		{ "--number", "3x" },
		{ "--number", "99999999999999999999999" },
		{ "--size", "512Q" },
		{ "--size", "512MB" },
		{ "--size", "1K" },
		{ "--size", "M" },
		{ "--size", "18446744073709551615T" },
		{ "--time", "0" },
		{ "--time", "nan" },
		{ "--time", "inf" },
		{ "--time", "-1" },
		{ "--time", "1s" },
		{ "--colour", "blue" },
	};

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct values v = { .number = 77 };
		struct err err = { 0 };

		assert_int_equal(PARSE(&v, &err, bad[i][0], bad[i][1]), -EINVAL);
		assert_int_equal(strncmp(err.text, bad[i][0], strlen(bad[i][0])), 0);
		assert_int_equal(v.number, 77);
	}
}

static void usage_errors_are_told(void **state)
{
	struct values v = { 0 };
	struct err err = { 0 };

	assert_int_equal(PARSE(&v, &err, "--on"), -EINVAL);
	assert_non_null(strstr(err.text, "--text"));
	assert_int_equal(PARSE(&v, &err, "--text"), -EINVAL);
	assert_non_null(strstr(err.text, "needs a value"));
	assert_int_equal(PARSE(&v, &err, "--on=1"), -EINVAL);
	assert_int_equal(PARSE(&v, &err, "word"), -EINVAL);
	assert_int_equal(PARSE(&v, &err, "--"), -EINVAL);
	assert_int_equal(PARSE(&v, &err, "--colr", "red"), -EINVAL);
	assert_non_null(strstr(err.text, "did you mean --colour?"));
}

static void nearest_name_needs_likeness(void **state)
{
	static const char *const names[] = { "kernel", "initrd", "memory" };

	assert_string_equal(options_nearest("kernle", names, 3, sizeof(names[0])), "kernel");
	assert_string_equal(options_nearest("mem", names, 3, sizeof(names[0])), "memory");
	assert_null(options_nearest(
		"frobnicate-the-thing-with-a-very-long-name-indeed", names, 3, sizeof(names[0])));
	assert_null(options_nearest("", names, 3, sizeof(names[0])));
}

static int collect(void *ctx, const char *name, const char *text)
{
	char *all = ctx;
	size_t used = strlen(all);

	snprintf(all + used, 200 - used, "%s=%s;", name, text);
	return 0;
}

/* What differs from the defaults, and back: a configuration's file. */
static void values_are_written_and_set_again(void **state)
{
	struct values v = { .text = "d" }, usual = v, again = v;
	struct err err = { 0 };
	char all[200] = "";

	assert_int_equal(options_each(table, &v, &usual, collect, all), 0);
	assert_string_equal(all, "");
	assert_int_equal(PARSE(&v, &err, "--text=x", "--number=3", "--size=1536M", "--time=1.5",
				 "--on", "--item=a", "--item=b"),
		0);
	assert_int_equal(options_each(table, &v, &usual, collect, all), 0);
	for (char *rest = all, *item; (item = strsep(&rest, ";")) && *item;) {
		char *text = strchr(item, '=');

		*text++ = '\0';
		assert_int_equal(options_set(table, item, text, &again, &err), 0);
	}
	assert_string_equal(again.text, "x");
	assert_int_equal(again.number, v.number);
	assert_int_equal(again.size, v.size);
	assert_int_equal(again.ns, v.ns);
	assert_true(again.on);
	assert_int_equal(again.list.count, 2);
	assert_int_equal(options_set(table, "on", "maybe", &again, &err), -EINVAL);
	assert_int_equal(options_set(table, "nmuber", "1", &again, &err), -EINVAL);
	assert_non_null(strstr(err.text, "did you mean number?"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_kinds_are_stored),
		cmocka_unit_test(lists_keep_their_order_and_have_an_end),
		cmocka_unit_test(behind_two_dashes_words_are_anothers),
		cmocka_unit_test(empty_and_dashed_values_are_values),
		cmocka_unit_test(bad_values_are_refused_by_name),
		cmocka_unit_test(usage_errors_are_told),
		cmocka_unit_test(nearest_name_needs_likeness),
		cmocka_unit_test(values_are_written_and_set_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
