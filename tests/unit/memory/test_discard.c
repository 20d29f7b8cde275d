/* Memory that goes back to the host: what is zero then, who hears of it, and what the host has. */
#include "base/bits.h"
#include "memory/memory.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h> /* needs the above */

#define LOW  0x100000ull /* two slots, side by side, and a ROM behind them */
#define HIGH (LOW + 8 * PAGE_SIZE)
#define ROM  (HIGH + 8 * PAGE_SIZE)

static unsigned heard;
static u64 heard_at;

static void on_code(void *ctx, gpa_t at, u64 len)
{
	heard++;
	heard_at = at.v;
}

static void open_memory(struct memory *m)
{
	memory_init(m);
	struct memory_region *ram = memory_add_region(m, "ram", 16 * PAGE_SIZE, false, NULL);
	struct memory_region *rom = memory_add_region(m, "rom", PAGE_SIZE, true, NULL);

	assert_non_null(ram);
	assert_non_null(rom);
	/* The upper half of the region comes first. */
	assert_int_equal(memory_add_slot(m, ram, gpa(LOW), 8 * PAGE_SIZE, 8 * PAGE_SIZE, NULL), 0);
	assert_int_equal(memory_add_slot(m, ram, gpa(HIGH), 0, 8 * PAGE_SIZE, NULL), 0);
	assert_int_equal(memory_add_slot(m, rom, gpa(ROM), 0, PAGE_SIZE, NULL), 0);
	memory_watch(m, &(struct memory_watcher){ .code_written = on_code, .ctx = m });
	assert_true(memory_fill(m, gpa(LOW), 0x77, 16 * PAGE_SIZE));
	heard = 0;
}

static u64 pages_of_host(const struct memory *m) { return memory_held(m) / PAGE_SIZE; }

static u8 byte_at(const struct memory *m, u64 at)
{
	u8 byte;

	assert_true(memory_read(m, gpa(at), &byte, 1));
	return byte;
}

static void whole_pages_are_given_back(void **state)
{
	struct memory m;

	open_memory(&m);
	assert_int_equal(pages_of_host(&m), 16);
	/* From within page 5 to within page 10: four whole ones, across two slots. */
	assert_true(memory_discard(&m, gpa(LOW + 5 * PAGE_SIZE + 1), 5 * PAGE_SIZE));
	assert_int_equal(pages_of_host(&m), 12);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(byte_at(&m, LOW + i * PAGE_SIZE), i >= 6 && i < 10 ? 0 : 0x77);
	assert_true(memory_discard(&m, gpa(LOW + 1), PAGE_SIZE - 1));
	assert_true(memory_discard(&m, gpa(LOW), 0));
	assert_int_equal(byte_at(&m, LOW), 0x77);
	/* It comes again. */
	assert_true(memory_fill(&m, gpa(LOW + 6 * PAGE_SIZE), 1, 1));
	assert_int_equal(byte_at(&m, LOW + 6 * PAGE_SIZE), 1);
	memory_fini(&m);
}

static void what_is_not_ram_is_refused(void **state)
{
	struct memory m;

	open_memory(&m);
	assert_false(memory_discard(&m, gpa(LOW - PAGE_SIZE), 2 * PAGE_SIZE));
	assert_false(memory_discard(&m, gpa(HIGH), 9 * PAGE_SIZE));
	assert_false(memory_discard(&m, gpa(ROM), PAGE_SIZE));
	assert_false(memory_discard(&m, gpa(LOW), UINT64_MAX));
	assert_false(memory_discard(&m, gpa(UINT64_MAX), 1));
	assert_int_equal(pages_of_host(&m), 16);
	memory_fini(&m);
}

static void engines_hear_of_their_code(void **state)
{
	struct memory m;

	open_memory(&m);
	memory_claim_code(&m, gpa(LOW + 3 * PAGE_SIZE));
	atomic_fetch_and(memory_page(&m, gpa(LOW + 2 * PAGE_SIZE)).flags, (u8)~MEM_DIRTY);
	assert_true(memory_discard(&m, gpa(LOW), 3 * PAGE_SIZE));
	assert_int_equal(heard, 0);
	assert_true(*memory_page(&m, gpa(LOW + 2 * PAGE_SIZE)).flags & MEM_DIRTY);
	assert_true(memory_discard(&m, gpa(LOW), 8 * PAGE_SIZE));
	assert_int_equal(heard, 1);
	assert_int_equal(heard_at, LOW + 3 * PAGE_SIZE);
	memory_release_code(&m, gpa(LOW + 3 * PAGE_SIZE));
	memory_fini(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_pages_are_given_back),
		cmocka_unit_test(what_is_not_ram_is_refused),
		cmocka_unit_test(engines_hear_of_their_code),
	};

	return cmocka_run_group_tests_name("discard", tests, NULL, NULL);
}
