/* Field tables: what is saved comes back, and nothing else is believed. */
#include "base/bits.h"
#include "state/field.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h> /* needs the above */

enum colour { RED, GREEN, BLUE };

struct part {
	u16 count;
	bool on;
};
struct whole {
	u64 big;
	u8 grid[2][3];
	enum colour colour;
	u8 raw[40];
	struct part parts[2];
	u32 not_saved;
};

static const struct field part_fields[] = { FIELD(struct part, count), FIELD(struct part, on),
	FIELD_END };
static const struct field whole_fields[] = { FIELD(struct whole, big),
	FIELD_ARRAY(struct whole, grid, u8), FIELD_MAX(struct whole, colour, BLUE),
	FIELD_BLOB(struct whole, raw), FIELD_SUB(struct whole, parts, struct part, part_fields),
	FIELD_END };

static const struct whole sample = { .big = 0x1122334455667788,
	.grid = { { 1, 2, 3 }, { 4, 5, 6 } },
	.colour = BLUE,
	.raw = "bytes",
	.parts = { { 7, true }, { 8, false } } };

static struct blob saved(void)
{
	struct blob b = { 0 };

	assert_int_equal(state_save(&b, whole_fields, &sample), 0);
	return b;
}

static int load(const struct blob *b, size_t len, struct whole *to, struct err *err)
{
	size_t used;

	return state_load(b->data, len, &used, whole_fields, to, sizeof(*to), err);
}

static void save_then_load_gives_equal_object(void **state)
{
	struct blob b = saved();
	struct whole got = { .not_saved = 99 };
	size_t used = 0;
	char text[64];

	assert_int_equal(
		state_load(b.data, b.len, &used, whole_fields, &got, sizeof(got), NULL), 0);
	assert_int_equal(used, b.len);
	assert_null(state_diff(whole_fields, &sample, &got, text, sizeof(text)));
	assert_int_equal(got.not_saved, 99);
	blob_free(&b);
}

static void integers_are_little_endian_at_their_width(void **state)
{
	struct blob b = saved();
	/* u16 fields, u8 length, "big", u8 kind, u32 size, u32 count, then the value. */
	const u8 *big = b.data + 2 + 1 + 3 + 1 + 4 + 4;

	assert_int_equal(get_le64(big), sample.big);
	blob_free(&b);
}

static void every_truncation_is_refused_and_changes_nothing(void **state)
{
	struct blob b = saved();
	struct whole got, before;

	memset(&before, 0x11, sizeof(before));
	before.parts[0].on = before.parts[1].on = true;
	got = before;
	for (size_t len = 0; len < b.len; len++) {
		/* An exact copy, so that an overrun is seen by the address sanitizer. */
		u8 *exact = malloc(len + 1);
		struct blob part = { exact, len, len };

		memcpy(exact, b.data, len);
		assert_int_equal(load(&part, len, &got, NULL), -EINVAL);
		assert_memory_equal(&got, &before, sizeof(got));
		free(exact);
	}
	blob_free(&b);
}

/* Replaces the first occurrence of `from` in a saved stream and expects a refusal naming `why`. */
static void refused_after(const char *from, size_t len, const char *to, const char *why)
{
	struct blob b = saved();
	struct whole got = { 0 };
	struct err err = { 0 };
	u8 *at = memmem(b.data, b.len, from, len);

	assert_non_null(at);
	memcpy(at, to, len);
	assert_int_equal(load(&b, b.len, &got, &err), -EINVAL);
	assert_non_null(strstr(err.text, why));
	assert_int_equal(got.big, 0);
	blob_free(&b);
}

static void unknown_repeated_and_misshapen_fields_are_refused_by_name(void **state)
{
	refused_after("big", 3, "bIg", "bIg");
	refused_after("count", 5, "cOunt", "cOunt");
	refused_after("big\0\x08", 5, "big\0\x04", "big");
	refused_after("big\0", 4, "big\1", "big");
	refused_after("grid\0\1\0\0\0\6", 10, "grid\0\1\0\0\0\7", "grid");
}

static void values_out_of_range_are_refused(void **state)
{
	/* kind INT, size 4, count 1, value 2 -> 3 */
	refused_after("colour\0\4\0\0\0\1\0\0\0\2", 16, "colour\0\4\0\0\0\1\0\0\0\3", "colour");
	refused_after("on\3\1\0\0\0\1\0\0\0\1", 12, "on\3\1\0\0\0\1\0\0\0\2", "on");
}

static void missing_and_repeated_fields_are_refused(void **state)
{
	static const struct field one[] = { FIELD(struct whole, big), FIELD_END };
	static const struct field twice[] = { FIELD(struct whole, big), FIELD(struct whole, big),
		FIELD_END };
	struct whole got = { 0 };
	struct err err = { 0 };
	struct blob b = { 0 };
	size_t used;

	assert_int_equal(state_save(&b, one, &sample), 0);
	assert_int_equal(load(&b, b.len, &got, &err), -EINVAL);
	assert_non_null(strstr(err.text, "grid: missing"));
	b.len = 0;
	assert_int_equal(state_save(&b, twice, &sample), 0);
	assert_int_equal(state_load(b.data, b.len, &used, one, &got, sizeof(got), &err), -EINVAL);
	assert_non_null(strstr(err.text, "big: repeated"));
	assert_int_equal(got.big, 0);
	blob_free(&b);
}

static void fields_in_another_order_load(void **state)
{
	static const struct field ab[] = { FIELD(struct part, count), FIELD(struct part, on),
		FIELD_END };
	static const struct field ba[] = { FIELD(struct part, on), FIELD(struct part, count),
		FIELD_END };
	const struct part from = { 513, true };
	struct part to = { 0 };
	struct blob b = { 0 };

	assert_int_equal(state_save(&b, ab, &from), 0);
	assert_int_equal(state_load(b.data, b.len, NULL, ba, &to, sizeof(to), NULL), 0);
	assert_int_equal(to.count, 513);
	assert_true(to.on);
	blob_free(&b);
}

static void diff_names_the_first_difference(void **state)
{
	struct whole other = sample;
	char text[64];

	other.parts[1].count++;
	assert_string_equal(
		state_diff(whole_fields, &sample, &other, text, sizeof(text)), "parts[1].count");
	other.raw[3]++;
	assert_string_equal(
		state_diff(whole_fields, &sample, &other, text, sizeof(text)), "raw[3]");
	other.grid[1][0]++;
	assert_string_equal(
		state_diff(whole_fields, &sample, &other, text, sizeof(text)), "grid[3]");
}

static void dump_prints_one_value_per_line(void **state)
{
	char *text = NULL;
	size_t len = 0;
	FILE *to = open_memstream(&text, &len);

	state_dump(to, whole_fields, &sample);
	fclose(to);
	assert_non_null(strstr(text, "big = 0x1122334455667788\n"));
	assert_non_null(strstr(text, "grid[5] = 0x6\n"));
	assert_non_null(strstr(text, "raw[32] = 00 00 00 00 00 00 00 00\n"));
	assert_non_null(strstr(text, "parts[0].on = 0x1\n"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(save_then_load_gives_equal_object),
		cmocka_unit_test(integers_are_little_endian_at_their_width),
		cmocka_unit_test(every_truncation_is_refused_and_changes_nothing),
		cmocka_unit_test(unknown_repeated_and_misshapen_fields_are_refused_by_name),
		cmocka_unit_test(values_out_of_range_are_refused),
		cmocka_unit_test(missing_and_repeated_fields_are_refused),
		cmocka_unit_test(fields_in_another_order_load),
		cmocka_unit_test(diff_names_the_first_difference),
		cmocka_unit_test(dump_prints_one_value_per_line),
	};

	return cmocka_run_group_tests_name("field", tests, NULL, NULL);
}
