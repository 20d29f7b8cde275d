/* Messages for people: one line whatever names they hold, and never longer than their buffer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/err.h"
#include <errno.h>
#include <string.h>

static void set_returns_its_code_and_needs_no_err(void **state)
{
	struct err err;

	assert_int_equal(err_set(&err, -ENOENT, "%s: %d", "x", 7), -ENOENT);
	assert_int_equal(err.code, -ENOENT);
	assert_string_equal(err.text, "x: 7");
	assert_int_equal(err_set(NULL, -EIO, "nobody"), -EIO);
}

static void wrap_prepends_and_keeps_the_code(void **state)
{
	struct err err;

	err_set(&err, -EIO, "inner");
	assert_int_equal(err_wrap(&err, "disk %d", 2), -EIO);
	assert_string_equal(err.text, "disk 2: inner");
}

static void control_characters_become_question_marks(void **state)
{
	struct err err;

	err_set(&err, -EIO, "a\nb\r\033[2J\177");
	err_wrap(&err, "c\td");
	assert_string_equal(err.text, "c?d: a?b??[2J?");
	/* Other languages' letters stay. */
	err_set(&err, -EIO, "gr\xc3\xbc\xc3\x9f");
	assert_string_equal(err.text, "gr\xc3\xbc\xc3\x9f");
}

static void long_names_are_cut(void **state)
{
	char name[4 * sizeof((struct err){ 0 }.text)];
	struct err err;

	memset(name, 'x', sizeof(name));
	name[sizeof(name) - 1] = 0;
	err_set(&err, -EIO, "%s", name);
	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
	err_wrap(&err, "%s", name);
	assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(set_returns_its_code_and_needs_no_err),
		cmocka_unit_test(wrap_prepends_and_keeps_the_code),
		cmocka_unit_test(control_characters_become_question_marks),
		cmocka_unit_test(long_names_are_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
