/* The translator's window for the kernel: what it shows, and what it must never reach. */
#include "base/bits.h"
#include "cpu/translate/kernel_window.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGES	 4096u
#define RESERVED (KERNEL_REGIONS * (KERNEL_PIECE + WINDOW_GUARD) + WINDOW_GUARD)
#define DIRECT	 0xffff888000000000ull
#define STACKS	 0xffffc90000000000ull
#define TEXT	 0xffffffff81000000ull

struct fixture {
	struct memory memory;
	struct memory_region *ram;
	struct kernel_window w;
	bool none;   /* a host that limits address space, or the thread sanitizer */
	int pipe[2]; /* the kernel says whether memory may be read or written */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err err;

	memory_init(&f->memory);
	f->ram = memory_add_region(&f->memory, "ram", PAGES * PAGE_SIZE, false, &err);
	assert_non_null(f->ram);
	assert_int_equal(memory_add_slot(&f->memory, f->ram, gpa(0), 0, f->ram->size, &err), 0);
	assert_int_equal(pipe(f->pipe), 0);
	f->none = kernel_window_open(&f->w, &f->memory) < 0;
	for (unsigned i = 0; i < PAGES; i++)
		f->ram->host[i * PAGE_SIZE] = (u8)(i * 7 + 1);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (!f->none)
		kernel_window_close(&f->w);
	memory_fini(&f->memory);
	close(f->pipe[0]);
	close(f->pipe[1]);
	free(f);
	return 0;
}

/* Not in setup(), which cannot skip. */
static struct fixture *fixture(void **state)
{
	struct fixture *f = *state;

	if (f->none)
		skip();
	return f;
}

static u8 *page(const struct fixture *f, unsigned i) { return f->ram->host + i * PAGE_SIZE; }

static u8 *shown_at(const struct fixture *f, u64 va)
{
	return (u8 *)(uintptr_t)(va + kernel_window_delta(&f->w, kernel_window_piece(va)));
}

/* The first byte of the page shown there, or -1. */
static int byte_at(const struct fixture *f, u64 va)
{
	u8 byte = 0;

	if (write(f->pipe[1], shown_at(f, va), 1) != 1) {
		assert_int_equal(errno, EFAULT);
		return -1;
	}
	assert_int_equal(read(f->pipe[0], &byte, 1), 1);
	return byte;
}

static bool writable(const struct fixture *f, u64 va)
{
	u8 byte = 0x5a;

	assert_int_equal(write(f->pipe[1], &byte, 1), 1);
	if (read(f->pipe[0], shown_at(f, va), 1) == 1)
		return true;
	assert_int_equal(errno, EFAULT);
	assert_int_equal(read(f->pipe[0], &byte, 1), 1);
	return false;
}

/* ---- safety ---- */

/* Whatever is in a guest register, the sum that code would use is in the window, not canonical, or
 * an address of the host's kernel. */
static void kernel_sums_never_leave_the_window(void **state)
{
	static const u64 uppers[] = { 0, 1, 2, 0x7fff, 0x8000, 0xfffd, 0xfffe, 0xffff };
	static const u64 lows[] = { 0, 1, 0x1234567890, KERNEL_PIECE / 2, KERNEL_PIECE - 1 };
	static const s64 disps[] = { 0, 1, -1, INT32_MAX, INT32_MIN, (s64)(36 * GiB),
		-(s64)(36 * GiB) };
	struct fixture *f = fixture(state);
	u64 base = (u64)(uintptr_t)f->w.base;
	unsigned inside = 0;

	assert_int_not_equal(kernel_window_region_for(&f->w, DIRECT), WINDOW_NOWHERE);
	assert_int_not_equal(kernel_window_region_for(&f->w, TEXT), WINDOW_NOWHERE);
	assert_int_not_equal(kernel_window_region_for(&f->w, 0x1000), WINDOW_NOWHERE);
	for (unsigned piece = 0; piece < KERNEL_PIECES; piece++)
		for (unsigned u = 0; u < ARRAY_LEN(uppers); u++)
			for (unsigned l = 0; l < ARRAY_LEN(lows); l++)
				for (unsigned d = 0; d < ARRAY_LEN(disps); d++) {
					u64 value = uppers[u] << 48 | (u64)piece << KERNEL_SHIFT |
						    lows[l];
					u64 sum = value + kernel_window_delta(&f->w, piece) +
						  (u64)disps[d];
					bool canonical = (u64)((s64)(sum << 16) >> 16) == sum;

					if (!canonical || sum >> 63)
						continue;
					assert_true(sum - base < RESERVED);
					inside++;
				}
	assert_true(inside > 0);
}

static void kernel_pieces_get_regions_as_long_as_there_are_some(void **state)
{
	struct fixture *f = fixture(state);
	unsigned first = kernel_window_region_for(&f->w, DIRECT);

	assert_int_equal(kernel_window_region_of(&f->w, DIRECT + KERNEL_PIECE - 1), first);
	assert_int_equal(kernel_window_region_of(&f->w, DIRECT + KERNEL_PIECE), WINDOW_NOWHERE);
	assert_int_equal(kernel_window_region_for(&f->w, DIRECT + 5), first);
	assert_int_equal(kernel_window_region_for(&f->w, DIRECT & ~BIT64(60)), WINDOW_NOWHERE);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(
			kernel_window_region_for(&f->w, i * KERNEL_PIECE) != WINDOW_NOWHERE,
			i < KERNEL_LOW_REGIONS);
	for (unsigned i = 0; i < 10; i++)
		kernel_window_region_for(&f->w, STACKS + i * KERNEL_PIECE);
	assert_int_equal(f->w.pieces.used, KERNEL_REGIONS);
	assert_int_equal(kernel_window_region_for(&f->w, TEXT), WINDOW_NOWHERE);
}

static void kernel_windows_of_one_machine_agree_on_regions(void **state)
{
	struct fixture *f = fixture(state);
	struct kernel_window *other = calloc(1, sizeof(*other));

	assert_int_equal(kernel_window_open(other, &f->memory), 0);
	assert_int_equal(kernel_window_region_for(&f->w, DIRECT), 0);
	assert_int_equal(kernel_window_region_for(&f->w, TEXT), 1);
	assert_true(kernel_window_adopt(other, &f->w.pieces));
	assert_false(kernel_window_adopt(other, &f->w.pieces));
	assert_int_equal(kernel_window_region_of(other, TEXT), 1);
	assert_int_equal(kernel_window_region_for(other, STACKS), 2);
	assert_true(kernel_window_adopt(&f->w, &other->pieces));
	assert_int_equal(kernel_window_region_of(&f->w, STACKS), 2);
	assert_int_equal(kernel_window_region_of(&f->w, DIRECT), 0);
	kernel_window_close(other);
	free(other);
}

/* ---- pages ---- */

static void kernel_page_is_reachable_while_shown(void **state)
{
	struct fixture *f = fixture(state);

	kernel_window_region_for(&f->w, DIRECT);
	assert_int_equal(byte_at(f, DIRECT), -1);
	assert_true(kernel_window_show(&f->w, DIRECT, page(f, 3), 2, false));
	assert_int_equal(byte_at(f, DIRECT), 3 * 7 + 1);
	assert_int_equal(byte_at(f, DIRECT + PAGE_SIZE), 4 * 7 + 1);
	assert_int_equal(byte_at(f, DIRECT + 2 * PAGE_SIZE), -1);
	assert_false(writable(f, DIRECT));
	assert_true(kernel_window_show(&f->w, DIRECT, page(f, 3), 1, true));
	assert_true(writable(f, DIRECT));
	assert_int_equal(page(f, 3)[0], 0x5a);
	kernel_window_hide(&f->w, DIRECT + 123, PAGE_SIZE);
	assert_int_equal(byte_at(f, DIRECT), -1);
	assert_int_equal(byte_at(f, DIRECT + PAGE_SIZE), 4 * 7 + 1);
	kernel_window_hide_all(&f->w);
	assert_int_equal(byte_at(f, DIRECT + PAGE_SIZE), -1);
	assert_int_equal(f->w.count, 0);
}

/* Of all extents, no more than what lies around. */
static void kernel_pages_around_are_hidden(void **state)
{
	struct fixture *f = fixture(state);
	const u64 size = 16 * PAGE_SIZE;

	kernel_window_region_for(&f->w, DIRECT);
	kernel_window_show(&f->w, DIRECT + 10 * PAGE_SIZE, page(f, 10), 20, true);
	kernel_window_show(&f->w, DIRECT + 30 * PAGE_SIZE, page(f, 40), 4, true);
	kernel_window_hide(&f->w, DIRECT + size + 5, size);
	for (unsigned i = 10; i < 16; i++)
		assert_int_equal(byte_at(f, DIRECT + i * PAGE_SIZE), (u8)(i * 7 + 1));
	for (unsigned i = 16; i < 32; i++)
		assert_int_equal(byte_at(f, DIRECT + i * PAGE_SIZE), -1);
	for (unsigned i = 32; i < 34; i++)
		assert_int_equal(byte_at(f, DIRECT + i * PAGE_SIZE), (u8)((i + 10) * 7 + 1));
}

/* A page of RAM that is shown at several addresses is hidden at all of them. */
static void kernel_page_is_hidden_wherever_it_is_shown(void **state)
{
	struct fixture *f = fixture(state);

	kernel_window_region_for(&f->w, DIRECT);
	kernel_window_region_for(&f->w, TEXT);
	kernel_window_region_for(&f->w, 0);
	kernel_window_show(&f->w, DIRECT, page(f, 0), 64, true);
	kernel_window_show(&f->w, TEXT, page(f, 16), 8, false);
	kernel_window_show(&f->w, 0x5000, page(f, 17), 1, true);
	kernel_window_hide_page(&f->w, page(f, 17));
	assert_int_equal(byte_at(f, DIRECT + 17 * PAGE_SIZE), -1);
	assert_int_equal(byte_at(f, TEXT + PAGE_SIZE), -1);
	assert_int_equal(byte_at(f, 0x5000), -1);
	assert_int_equal(byte_at(f, DIRECT + 16 * PAGE_SIZE), 16 * 7 + 1);
	assert_int_equal(byte_at(f, TEXT), 16 * 7 + 1);
	kernel_window_show(&f->w, 0x5000, page(f, 17), 1, true);
	kernel_window_hide_low(&f->w);
	assert_int_equal(byte_at(f, 0x5000), -1);
	assert_int_equal(byte_at(f, TEXT), 16 * 7 + 1);
}

/* Runs that meet become one extent; more than there is room for start afresh, and nothing is lost.
 */
static void kernel_extents_never_run_out(void **state)
{
	struct fixture *f = fixture(state);

	kernel_window_region_for(&f->w, STACKS);
	for (unsigned i = 0; i < 64; i++)
		kernel_window_show(&f->w, STACKS + i * PAGE_SIZE, page(f, i), 1, true);
	assert_int_equal(f->w.count, 1);
	for (unsigned i = 0; i < 2 * KERNEL_EXTENTS; i++) {
		u64 va = STACKS + GiB + (u64)i * 8 * PAGE_SIZE;

		assert_true(kernel_window_show(&f->w, va, page(f, i), 1, true));
		assert_int_equal(byte_at(f, va), (u8)(i * 7 + 1));
		assert_in_range(f->w.count, 1, KERNEL_EXTENTS);
	}
	for (unsigned i = 0; i < PAGES; i++)
		kernel_window_hide_page(&f->w, page(f, i));
	for (unsigned i = 0; i < 2 * KERNEL_EXTENTS; i++)
		assert_int_equal(byte_at(f, STACKS + GiB + (u64)i * 8 * PAGE_SIZE), -1);
}

/* The guest's addresses are not ours: some are just above where its memory is for us. */
static void kernel_extents_join_wherever_they_are(void **state)
{
	struct fixture *f = fixture(state);
	u64 va = (u64)(uintptr_t)page(f, 0) + GiB;

	if (kernel_window_piece(va) != kernel_window_piece(va + PAGE_SIZE))
		skip();
	kernel_window_region_for(&f->w, va);
	assert_true(kernel_window_show(&f->w, va, page(f, 0), 1, true));
	assert_true(kernel_window_show(&f->w, va + PAGE_SIZE, page(f, 1), 1, true));
	assert_int_equal(f->w.count, 1);
	assert_int_equal(byte_at(f, va + PAGE_SIZE), 1 * 7 + 1);
}

struct odd {
	u64 asked, gone; /* pages; the first of them */
};

/* Of each eight pages the first `gone` are gone. */
static bool still_odd(void *ctx, u64 va, const u8 *host, bool writable, u64 *pages)
{
	struct odd *odd = ctx;

	(void)host;
	(void)writable;
	*pages = 1;
	odd->asked++;
	return (va >> PAGE_SHIFT) % 8 >= odd->gone;
}

/* What a review has hidden is nobody's any more: another one does not ask for it again. */
static void kernel_review_hides_once(void **state)
{
	struct fixture *f = fixture(state);
	struct odd odd = { .gone = 3 };

	kernel_window_region_for(&f->w, DIRECT);
	kernel_window_region_for(&f->w, TEXT);
	kernel_window_show(&f->w, DIRECT, page(f, 0), 64, true);
	kernel_window_show(&f->w, TEXT, page(f, 3), 2, false);
	kernel_window_review(&f->w, still_odd, &odd);
	assert_int_equal(odd.asked, 64 + 2 + 8); /* the page behind each run again */
	assert_int_equal(f->w.count, 8);
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(byte_at(f, DIRECT + i * PAGE_SIZE),
			i % 8 < odd.gone ? -1 : (u8)(i * 7 + 1));
	assert_int_equal(byte_at(f, TEXT + PAGE_SIZE), -1);
	odd.asked = 0;
	kernel_window_review(&f->w, still_odd, &odd);
	assert_int_equal(odd.asked, 64 - 8 * 3);
	assert_int_equal(f->w.holes, 8 + 1); /* each hides a run */
	odd.gone = 8;
	kernel_window_review(&f->w, still_odd, &odd);
	assert_int_equal(f->w.count, 0);
	assert_int_equal(byte_at(f, DIRECT + 7 * PAGE_SIZE), -1);
}

/* There are no extents left for what a review takes apart. */
static void kernel_review_leaves_holes_without_extents(void **state)
{
	struct fixture *f = fixture(state);
	struct odd odd = { .gone = 1 };

	kernel_window_region_for(&f->w, STACKS);
	for (unsigned i = 0; i < KERNEL_EXTENTS; i++)
		kernel_window_show(
			&f->w, STACKS + (u64)i * 32 * PAGE_SIZE, page(f, i % 64), 17, true);
	assert_int_equal(f->w.count, KERNEL_EXTENTS);
	kernel_window_review(&f->w, still_odd, &odd);
	assert_int_equal(f->w.count, KERNEL_EXTENTS);
	for (unsigned i = 0; i < KERNEL_EXTENTS; i += 51)
		for (unsigned n = 0; n < 17; n++)
			assert_int_equal(byte_at(f, STACKS + (u64)(i * 32 + n) * PAGE_SIZE),
				n % 8 < 1 ? -1 : (u8)((i % 64 + n) * 7 + 1));
	kernel_window_hide_all(&f->w);
	assert_int_equal(f->w.count, 0);
	assert_int_equal(byte_at(f, STACKS + PAGE_SIZE), -1);
}

/* What is hidden is asked of the host once, however often it is flushed. */
static void kernel_hides_once(void **state)
{
	struct fixture *f = fixture(state);

	kernel_window_region_for(&f->w, DIRECT);
	kernel_window_show(&f->w, DIRECT, page(f, 0), 8, false);
	kernel_window_show(&f->w, DIRECT + 2 * PAGE_SIZE, page(f, 2), 2, true);
	for (unsigned i = 0; i < 3; i++) {
		kernel_window_hide(&f->w, DIRECT + 2 * PAGE_SIZE, PAGE_SIZE);
		kernel_window_hide_page(&f->w, page(f, 5));
	}
	assert_int_equal(f->w.holes, 2);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(byte_at(f, DIRECT + i * PAGE_SIZE),
			i == 2 || i == 5 ? -1 : (u8)(i * 7 + 1));
}

/* ---- pages that are not global ---- */

/* The page at ctx is gone. */
static bool still_others(void *ctx, u64 va, const u8 *host, bool writable)
{
	(void)host;
	assert_true(writable);
	return va != *(const u64 *)ctx;
}

static void show_local(struct fixture *f, unsigned i)
{
	u64 va = DIRECT + (u64)i * PAGE_SIZE;

	assert_true(kernel_window_show(&f->w, va, page(f, i), 1, true));
	kernel_window_note_local(&f->w, va, page(f, i), true);
}

static void kernel_local_pages_stay_if_they_are_still_so(void **state)
{
	struct fixture *f = fixture(state);
	u64 gone = DIRECT + 2 * PAGE_SIZE;

	kernel_window_region_for(&f->w, DIRECT);
	kernel_window_region_for(&f->w, TEXT);
	kernel_window_show(&f->w, TEXT, page(f, 9), 1, false);
	for (unsigned i = 0; i < 4; i++)
		show_local(f, i);
	show_local(f, 3); /* once more: it is one page */
	assert_int_equal(f->w.local_count, 4);
	for (unsigned n = 0; n < 2; n++) {
		kernel_window_review_local(&f->w, still_others, &gone);
		for (unsigned i = 0; i < 4; i++)
			assert_int_equal(
				byte_at(f, DIRECT + i * PAGE_SIZE), i == 2 ? -1 : (u8)(i * 7 + 1));
		assert_int_equal(f->w.local_count, 3);
	}
	assert_int_equal(byte_at(f, TEXT), 9 * 7 + 1);
	f->w.local_many = true;
	kernel_window_review_local(&f->w, still_others, &gone);
	assert_int_equal(f->w.count, 0);
	assert_int_equal(f->w.local_count, 0);
	assert_false(f->w.local_many);
	assert_int_equal(byte_at(f, DIRECT), -1);
	assert_int_equal(byte_at(f, TEXT), -1);
}

/* Each local page that is shown is listed. */
static void kernel_local_pages_make_room(void **state)
{
	struct fixture *f = fixture(state);
	u64 nowhere = 0;
	unsigned shown = 0;

	kernel_window_region_for(&f->w, DIRECT);
	for (unsigned i = 0; i < 3 * KERNEL_LOCAL; i++) {
		show_local(f, i);
		assert_int_equal(byte_at(f, DIRECT + (u64)i * PAGE_SIZE), (u8)(i * 7 + 1));
	}
	for (unsigned i = 0; i < 3 * KERNEL_LOCAL; i++)
		shown += byte_at(f, DIRECT + (u64)i * PAGE_SIZE) >= 0;
	assert_int_equal(shown, KERNEL_LOCAL);
	kernel_window_review_local(&f->w, still_others, &nowhere);
	assert_int_equal(f->w.local_count, KERNEL_LOCAL);
	for (unsigned i = 0; i < KERNEL_LOCAL; i++)
		assert_true(byte_at(f, f->w.local[i].va) >= 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			kernel_sums_never_leave_the_window, setup, teardown),
		cmocka_unit_test_setup_teardown(
			kernel_pieces_get_regions_as_long_as_there_are_some, setup, teardown),
		cmocka_unit_test_setup_teardown(
			kernel_windows_of_one_machine_agree_on_regions, setup, teardown),
		cmocka_unit_test_setup_teardown(
			kernel_page_is_reachable_while_shown, setup, teardown),
		cmocka_unit_test_setup_teardown(kernel_pages_around_are_hidden, setup, teardown),
		cmocka_unit_test_setup_teardown(
			kernel_page_is_hidden_wherever_it_is_shown, setup, teardown),
		cmocka_unit_test_setup_teardown(kernel_extents_never_run_out, setup, teardown),
		cmocka_unit_test_setup_teardown(
			kernel_extents_join_wherever_they_are, setup, teardown),
		cmocka_unit_test_setup_teardown(kernel_review_hides_once, setup, teardown),
		cmocka_unit_test_setup_teardown(
			kernel_review_leaves_holes_without_extents, setup, teardown),
		cmocka_unit_test_setup_teardown(kernel_hides_once, setup, teardown),
		cmocka_unit_test_setup_teardown(
			kernel_local_pages_stay_if_they_are_still_so, setup, teardown),
		cmocka_unit_test_setup_teardown(kernel_local_pages_make_room, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
