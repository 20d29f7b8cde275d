/* Which key a keysym is on. */
#include "display/keys.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h> /* needs the above */

static void every_printable_character_has_a_key(void **state)
{
	for (u32 c = ' '; c < 0x7f; c++)
		assert_in_range(keys_find(c), 1, 0x83);
}

static void shift_is_a_key_of_its_own(void **state)
{
	static const char pairs[][2] = { { 'a', 'A' }, { '1', '!' }, { '2', '@' }, { '/', '?' },
		{ '\'', '"' }, { '[', '{' }, { '`', '~' }, { '-', '_' } };

	for (unsigned i = 0; i < ARRAY_LEN(pairs); i++)
		assert_int_equal(keys_find((u8)pairs[i][0]), keys_find((u8)pairs[i][1]));
	assert_int_equal(keys_find(0xffe1), 0x12);
}

static void named_keys(void **state)
{
	assert_int_equal(keys_find('q'), 0x15);
	assert_int_equal(keys_find(0xff0d), 0x5a);
	assert_int_equal(keys_find(0xff51), KEYS_E0 | 0x6b);
	assert_int_equal(keys_find(0xffbe), 0x05);
	assert_int_equal(keys_find(0xff61), KEYS_PRINT);
	assert_int_equal(keys_find(0xffff), KEYS_E0 | 0x71);
}

static void others_have_none(void **state)
{
	assert_int_equal(keys_find(0), 0);
	assert_int_equal(keys_find(0x20ac), 0);
	assert_int_equal(keys_find(0xffffffff), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_printable_character_has_a_key),
		cmocka_unit_test(shift_is_a_key_of_its_own),
		cmocka_unit_test(named_keys),
		cmocka_unit_test(others_have_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
