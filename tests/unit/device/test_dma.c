/* Lists of guest memory: pieces that join, pieces that are refused, copies. */
#include "base/bits.h"
#include "device/dma.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h> /* needs the above */

#define RAM (64 * KiB)

static struct memory memory;
static struct dma_map map;

static int open_memory(void **state)
{
	memory_init(&memory);
	struct memory_region *ram = memory_add_region(&memory, "ram", RAM, false, NULL);
	struct memory_region *rom = memory_add_region(&memory, "rom", RAM, true, NULL);

	dma_clear(&map);
	return memory_add_slot(&memory, ram, gpa(0), 0, RAM, NULL) ||
	       memory_add_slot(&memory, rom, gpa(MiB), 0, RAM, NULL);
}

static int close_memory(void **state)
{
	memory_fini(&memory);
	return 0;
}

static void neighbours_become_one(void **state)
{
	assert_true(dma_add(&map, &memory, 0x1000, 0x800, true));
	assert_true(dma_add(&map, &memory, 0x1800, 0x800, true));
	assert_true(dma_add(&map, &memory, 0, 0, true));
	assert_int_equal(map.count, 1);
	assert_true(dma_add(&map, &memory, 0x4000, 1, true));
	assert_int_equal(map.count, 2);
	assert_int_equal(map.len, 0x1001);
}

static void what_is_no_memory_is_refused(void **state)
{
	assert_false(dma_add(&map, &memory, RAM - 1, 2, false));
	assert_false(dma_add(&map, &memory, ~0ull, 1, false));
	assert_false(dma_add(&map, &memory, 0, ~0ull, false));
	assert_false(dma_add(&map, &memory, MiB, 1, true));
	assert_true(dma_add(&map, &memory, MiB, 1, false));
	for (unsigned i = 1; i < DMA_SEGMENTS_MAX; i++)
		assert_true(dma_add(&map, &memory, 2 * i, 1, false));
	assert_false(dma_add(&map, &memory, 2 * DMA_SEGMENTS_MAX, 1, false));
	assert_int_equal(map.len, DMA_SEGMENTS_MAX);
}

static void data_is_copied_and_marked(void **state)
{
	char text[16] = "";

	assert_true(dma_add(&map, &memory, 0x1ffe, 2, true));
	assert_true(dma_add(&map, &memory, 0x4000, 4, true));
	assert_int_equal(dma_put(&map, &memory, "abcdefgh", 8), 6);
	assert_true(memory_page(&memory, gpa(0x1000)).flags[0] & MEM_DIRTY);
	assert_true(memory_page(&memory, gpa(0x4000)).flags[0] & MEM_DIRTY);
	assert_int_equal(dma_get(&map, text, sizeof(text)), 6);
	assert_string_equal(text, "abcdef");
	assert_int_equal(dma_get(&map, text, 3), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(neighbours_become_one, open_memory, close_memory),
		cmocka_unit_test_setup_teardown(
			what_is_no_memory_is_refused, open_memory, close_memory),
		cmocka_unit_test_setup_teardown(
			data_is_copied_and_marked, open_memory, close_memory),
	};

	return cmocka_run_group_tests_name("dma", tests, NULL, NULL);
}
