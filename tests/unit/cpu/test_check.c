/* --translate check finds what is planted: an entry or a mapping that leads elsewhere than to the
 * guest's memory, or allows more than it may. */
#include "base/bits.h"
#include "cpu/translate/translate_priv.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#define RAM  (16 * MiB)
#define AT   0x123000u /* some address; without paging, its own physical one */
#define USER 0x400000ull
#define HIGH 0xffff888000000000ull

struct fixture {
	struct memory memory;
	struct memory_region *ram, *foreign; /* foreign: no slot shows it */
	struct x86_model model;
	struct vcpu v;
	struct translator *t;
	char text[CHECK_TEXT];
};

static const struct vcpu_ops nothing;

static int setup(void **state)
{
	struct fixture *f = aligned_alloc(64, align_up(sizeof(*f), 64));
	struct err err = { 0 };

	assert_non_null(f);
	memset(f, 0, sizeof(*f));
	memory_init(&f->memory);
	f->ram = memory_add_region(&f->memory, "ram", RAM, false, &err);
	f->foreign = memory_add_region(&f->memory, "foreign", MiB, false, &err);
	assert_true(f->ram && f->foreign);
	assert_int_equal(memory_add_slot(&f->memory, f->ram, gpa(0), 0, RAM, &err), 0);
	x86_model_build(&f->model, x86_native_cpuid, 1000000000, &(struct x86_topology){ 1, 1, 1 });
	f->v.engine = &translate_engine;
	f->v.engine_options = OPTION_CHECK;
	f->v.memory = &f->memory;
	f->v.ops = &nothing;
	f->v.x86.model = &f->model;
	f->v.x86.ctx = &f->v;
	assert_int_equal(translate_engine.open(&f->v, &err), 0);
	x86_reset(&f->v.x86);
	assert_int_equal(translate_engine.push(&f->v), 0);
	f->t = f->v.engine_data;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	translate_engine.close(&f->v);
	memory_fini(&f->memory);
	free(f);
	return 0;
}

static bool clean(struct fixture *f) { return check_all(f->t, f->text); }

/* As an access that misses does it. */
static struct fast_table *fill(struct fixture *f, u64 at, bool write)
{
	struct mmu *m = &f->t->c->mmu;
	u8 byte = 1;

	assert_int_equal(mmu_write(m, at, &byte, 1, ACCESS_WRITE), X86_OK);
	tcache_fill(f->t, at, 1, write);
	struct fast_table *fast = &f->t->ctx->fast[m->space][write];
	assert_int_equal(fast->neg[tcache_fast_index(f->t, at)], -(at & ~PAGE_MASK));
	return fast;
}

static void check_is_content_with_what_accesses_leave(void **state)
{
	struct fixture *f = *state;

	assert_true(clean(f));
	fill(f, AT, false);
	fill(f, AT, true);
	fill(f, 0, true);
	assert_true(clean(f));
	mmu_flush(&f->t->c->mmu, X86_FLUSH_PAGE, AT, 0);
	mmu_flush(&f->t->c->mmu, X86_FLUSH_ALL, 0, 0);
	assert_true(clean(f));
}

static void check_finds_a_foreign_frame(void **state)
{
	struct fixture *f = *state;
	const u8 *const frames[] = { f->foreign->host, (u8 *)f->t->ctx, f->ram->host + RAM,
		f->ram->host - PAGE_SIZE, f->ram->host + 1 };

	for (unsigned i = 0; i < ARRAY_LEN(frames); i++) {
		struct fast_table *fast = fill(f, AT, false);

		fast->add[tcache_fast_index(f->t, AT)] = (u64)(uintptr_t)frames[i] - AT;
		assert_false(clean(f));
		assert_non_null(strstr(f->text, "fast TLB"));
		mmu_flush(&f->t->c->mmu, X86_FLUSH_PAGE, AT, 0);
		assert_true(clean(f));
	}
}

static void check_finds_another_frame_of_the_guest(void **state)
{
	struct fixture *f = *state;
	struct fast_table *fast = fill(f, AT, true);

	assert_true(check_entry(f->t, AT, true, f->text));
	fast->add[tcache_fast_index(f->t, AT)] -= PAGE_SIZE;
	assert_false(check_entry(f->t, AT, true, f->text));
	/* Which may be one that has never been written ... */
	assert_non_null(strstr(f->text, "unreported"));
	memory_written(&f->memory, gpa(AT - PAGE_SIZE), 1);
	assert_false(check_entry(f->t, AT, true, f->text));
	/* ... or else it is at least not the one that the tables say. */
	assert_non_null(strstr(f->text, "not where the guest's tables lead"));
}

static void check_finds_stores_that_nobody_would_see(void **state)
{
	struct fixture *f = *state;

	fill(f, AT, true);
	atomic_fetch_and(&f->ram->flags[AT >> PAGE_SHIFT], (u8)~MEM_DIRTY);
	assert_false(clean(f));
	assert_non_null(strstr(f->text, "unreported"));
	atomic_fetch_or(&f->ram->flags[AT >> PAGE_SHIFT], MEM_DIRTY);
	assert_true(clean(f));
	f->ram->rom = true;
	assert_false(clean(f));
	assert_non_null(strstr(f->text, "ROM"));
}

static void check_finds_a_wrong_entry_of_the_shared_table(void **state)
{
	struct fixture *f = *state;
	struct mmu *m = &f->t->c->mmu;
	u8 byte;

	assert_int_equal(mmu_read(m, AT, &byte, 1, ACCESS_READ), X86_OK);
	struct mmu_entry *e = mmu_find(m, AT, 1, MMU_READ);
	assert_non_null(e);
	assert_true(clean(f));
	e->host += PAGE_SIZE;
	assert_false(clean(f));
	assert_non_null(strstr(f->text, "TLB"));
}

/* ---- the windows ---- */

static u8 *in_window(const struct fixture *f, u64 va)
{
	return (u8 *)(uintptr_t)(va + window_delta(&f->t->window, (unsigned)(va >> WINDOW_SHIFT)));
}

static void put(u8 *at, int rights, int flags, int fd, u64 offset)
{
	assert_ptr_equal(mmap(at, PAGE_SIZE, rights, flags | MAP_FIXED, fd, (off_t)offset), at);
}

static void check_finds_what_the_window_should_not_show(void **state)
{
	struct fixture *f = *state;
	struct window *w = &f->t->window;
	u8 *page = f->ram->host + AT;

	if (!w->base)
		skip();
	memory_written(&f->memory, gpa(AT), 1);
	window_show(w, USER, page, 1, true);
	assert_true(clean(f));
	/* Something else in its place, ... */
	put(in_window(f, USER), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_false(clean(f));
	put(in_window(f, USER), PROT_READ, MAP_SHARED, f->foreign->fd, 0);
	assert_false(clean(f));
	put(in_window(f, USER), PROT_READ, MAP_SHARED, f->ram->fd, AT + PAGE_SIZE);
	assert_false(clean(f));
	put(in_window(f, USER), PROT_READ, MAP_SHARED, f->ram->fd, AT);
	assert_true(clean(f));
	/* ... with a right that nobody knows of, ... */
	window_protect(w, page);
	put(in_window(f, USER), PROT_READ | PROT_WRITE, MAP_SHARED, f->ram->fd, AT);
	assert_false(clean(f));
	put(in_window(f, USER), PROT_READ, MAP_SHARED, f->ram->fd, AT);
	assert_true(clean(f));
	/* ... and where nothing is shown, or in the guard before the first region. */
	put(in_window(f, USER + PAGE_SIZE), PROT_READ, MAP_SHARED, f->ram->fd, 0);
	assert_false(clean(f));
	window_reserve(in_window(f, USER + PAGE_SIZE), PAGE_SIZE);
	assert_true(clean(f));
	put(w->base, PROT_READ, MAP_SHARED, f->ram->fd, 0);
	assert_false(clean(f));
}

static void check_finds_what_the_kernels_window_should_not_show(void **state)
{
	struct fixture *f = *state;
	struct kernel_window *w = &f->t->kernel;

	if (!w->base)
		skip();
	kernel_window_region_for(w, HIGH);
	u8 *at = (u8 *)(uintptr_t)(HIGH + kernel_window_delta(w, kernel_window_piece(HIGH)));
	memory_written(&f->memory, gpa(0), 4 * PAGE_SIZE);
	assert_true(kernel_window_show(w, HIGH, f->ram->host, 4, true));
	assert_true(clean(f));
	put(at + PAGE_SIZE, PROT_READ, MAP_SHARED, f->ram->fd, 2 * PAGE_SIZE);
	assert_false(clean(f));
	/* A page that is hidden one by one leaves a hole, which is right. */
	kernel_window_hide(w, HIGH + PAGE_SIZE, PAGE_SIZE);
	assert_true(clean(f));
	atomic_fetch_and(&f->ram->flags[2], (u8)~MEM_DIRTY);
	assert_false(clean(f));
	kernel_window_hide_page(w, f->ram->host + 2 * PAGE_SIZE);
	assert_true(clean(f));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(check_is_content_with_what_accesses_leave),
		TEST(check_finds_a_foreign_frame),
		TEST(check_finds_another_frame_of_the_guest),
		TEST(check_finds_stores_that_nobody_would_see),
		TEST(check_finds_a_wrong_entry_of_the_shared_table),
		TEST(check_finds_what_the_window_should_not_show),
		TEST(check_finds_what_the_kernels_window_should_not_show),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
