/* Where translated blocks are found: all of dense code at once, and what takes its place. */
#include "cpu/translate/translate_priv.h"
#include "os/pages.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define BLOCKS 4096u
#define SPACE  1u
#define GPA    0x1234000ull
#define RIP    0x7f0000456000ull

struct fixture {
	struct translator *t;
	struct tblock *blocks;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->t = pages_new(sizeof(*f->t));
	f->t->pool = pages_new((BLOCKS + 1) * sizeof(struct tblock));
	f->blocks = (struct tblock *)(void *)f->t->pool + 1; /* no descriptor has ref 0 */
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	pages_free(f->t->pool, (BLOCKS + 1) * sizeof(struct tblock));
	pages_free(f->t, sizeof(*f->t));
	free(f);
	return 0;
}

static bool begins_at(struct translator *t, const struct tblock *b, const void *key)
{
	(void)t;
	return b->rip == *(const u64 *)key;
}

static void add(struct fixture *f, unsigned i, u64 into)
{
	f->blocks[i].rip = RIP + into;
	block_map_add(
		f->t, &f->t->blocks, block_hash(GPA + into, RIP + into, SPACE), &f->blocks[i]);
}

static struct tblock *find(struct fixture *f, u64 into)
{
	u64 rip = RIP + into;

	return block_map_find(
		f->t, &f->t->blocks, block_hash(GPA + into, rip, SPACE), begins_at, &rip);
}

/* Code of nothing but jumps has a block in every two bytes. */
static void block_map_holds_all_of_dense_code(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < BLOCKS; i++)
		add(f, i, 2ull * i);
	for (unsigned i = 0; i < BLOCKS; i++)
		assert_ptr_equal(find(f, 2ull * i), &f->blocks[i]);
	assert_null(find(f, 1));
	for (unsigned i = 0; i < BLOCKS; i += 2) {
		u64 rip = RIP + 2ull * i;

		block_map_remove(f->t, &f->t->blocks, block_hash(GPA + 2ull * i, rip, SPACE),
			begins_at, &rip);
	}
	for (unsigned i = 0; i < BLOCKS; i++)
		assert_ptr_equal(find(f, 2ull * i), i % 2 ? &f->blocks[i] : NULL);
	block_map_clear(&f->t->blocks);
	assert_null(find(f, 2));
}

/* A place that is full forgets what was found in it longest ago. */
static void block_map_forgets_what_is_not_looked_for(void **state)
{
	struct fixture *f = *state;

	for (unsigned i = 0; i < 4 * BLOCK_MAP_WAYS; i++) {
		add(f, i, i % 16); /* one area of code, over and over */
		assert_ptr_equal(find(f, i % 16), &f->blocks[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(block_map_holds_all_of_dense_code, setup, teardown),
		cmocka_unit_test_setup_teardown(
			block_map_forgets_what_is_not_looked_for, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
