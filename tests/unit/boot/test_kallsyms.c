/* The kernel's own table of symbols: found and read whole, or not at all. */
#include "boot/kallsyms.h"
#include "kallsyms_image.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
/* cmocka wants the three above first */
#include <cmocka.h>

#define COUNT  700u /* three markers, the last one not full */
#define PERCPU 5u

static struct kallsyms_image k;

static size_t symbols_in(const u8 *data, u64 size)
{
	struct symbols s = { 0 };

	assert_int_equal(kallsyms_read(&s, data, size), 0);
	size_t n = s.count;
	symbols_free(&s);
	return n;
}

static void check_all(u32 count, u32 percpu)
{
	struct symbols s = { 0 };
	struct err err = { 0 };

	assert_int_equal(symbols_read(&s, k.data, k.size, &err), 0);
	assert_int_equal(s.count, count);
	assert_string_equal(symbols_text(&s, &s.list[0]), "cpu_0");
	assert_int_equal(s.list[0].type, 'A');
	const struct symbol *last = &s.list[count - 1];
	assert_int_equal(last->at, KALLSYMS_BASE + (count - 1) * KALLSYMS_STEP);
	assert_int_equal(last->type, 'T');
	const struct symbol *first = symbols_at(&s, KALLSYMS_BASE + percpu * KALLSYMS_STEP + 3);
	assert_string_equal(symbols_text(&s, first), "symbol_5");
	assert_ptr_equal(symbols_named(&s, "symbol_5"), first);
	assert_null(symbols_named(&s, "symbol_"));
	symbols_free(&s);
}

static void reads_each_order(void **state)
{
	for (unsigned order = 0; order < 2; order++)
		for (unsigned seqs = 0; seqs < 2; seqs++) {
			kallsyms_image(&k, (enum kallsyms_order)order, seqs, COUNT, PERCPU);
			check_all(COUNT, PERCPU);
		}
}

static void reads_any_number_of_symbols(void **state)
{
	/* around what one marker covers */
	static const u32 counts[] = { 6, 255, 256, 257, 511, 512, 513 };

	for (unsigned i = 0; i < ARRAY_LEN(counts); i++) {
		kallsyms_image(&k, KALLSYMS_OFFSETS_FIRST, false, counts[i], PERCPU);
		check_all(counts[i], PERCPU);
	}
}

static void finds_nothing_where_nothing_is(void **state)
{
	static const u8 zeros[4096];

	assert_int_equal(symbols_in(zeros, sizeof(zeros)), 0);
	assert_int_equal(symbols_in(zeros, 0), 0);
}

static void a_damaged_table_is_none(void **state)
{
	for (unsigned i = 0; i < 6; i++) {
		kallsyms_image(&k, KALLSYMS_OFFSETS_FIRST, false, COUNT, PERCPU);
		const u64 at[] = { k.num, k.names, k.markers + 4, k.index + 20, k.base + 7,
			k.offsets + 4 * COUNT - 1 };
		/* a length that is changed moves all names behind it; a type or a digit would be
		 * believed */
		k.data[at[i]] ^= 0x80;
		assert_int_equal(symbols_in(k.data, k.size), 0);
	}
}

/* In memory of exactly its size, so that a checked build sees an overrun. */
static void a_cut_image_is_read_within_its_bounds(void **state)
{
	kallsyms_image(&k, KALLSYMS_OFFSETS_LAST, true, COUNT, PERCPU);
	for (u64 size = 1; size < k.base + 8; size += 37) {
		u8 *exact = malloc(size);

		assert_non_null(exact);
		memcpy(exact, k.data, size);
		assert_int_equal(symbols_in(exact, size), 0);
		free(exact);
	}
}

static void no_names_is_an_error_that_says_so(void **state)
{
	static const u8 zeros[64];
	struct symbols s = { 0 };
	struct err err = { 0 };

	assert_int_equal(symbols_read(&s, zeros, sizeof(zeros), &err), -2 /* ENOENT */);
	assert_non_null(strstr(err.text, "no symbol table"));
	assert_null(symbols_at(&s, KALLSYMS_BASE));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_each_order),
		cmocka_unit_test(reads_any_number_of_symbols),
		cmocka_unit_test(finds_nothing_where_nothing_is),
		cmocka_unit_test(a_damaged_table_is_none),
		cmocka_unit_test(a_cut_image_is_read_within_its_bounds),
		cmocka_unit_test(no_names_is_an_error_that_says_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
