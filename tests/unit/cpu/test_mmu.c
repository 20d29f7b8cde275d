/* Accesses through the software MMU that reach into a second page. */
#include "base/bits.h"
#include "cpu/mmu.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RAM (1 * GiB)
/* The pages on both sides have one entry between them (mmu_index()): a carry through the bits that
 * are folded can change as many of them in one part as in the other. */
#define SHARED	(512 * MiB)
#define ACROSS	(SHARED - 6)
#define LEN	16u
#define DEVICE	0xfee00000u
#define BENEATH (DEVICE - 4)

struct fixture {
	struct memory memory;
	struct memory_region *ram;
	struct x86_model model;
	struct vcpu v;
	struct mmu mmu;
};

static u64 device_read(void *ctx, struct vcpu *v, gpa_t at, unsigned size)
{
	(void)ctx, (void)v, (void)at, (void)size;
	return 0x5a5a5a5a5a5a5a5a;
}

static const struct vcpu_ops ops = { .mmio_read = device_read };

static int setup(void **state)
{
	struct fixture *f = aligned_alloc(64, align_up(sizeof(*f), 64));
	struct err err = { 0 };

	assert_non_null(f);
	memset(f, 0, sizeof(*f));
	memory_init(&f->memory);
	f->ram = memory_add_region(&f->memory, "ram", RAM, false, &err);
	assert_non_null(f->ram);
	assert_int_equal(memory_add_slot(&f->memory, f->ram, gpa(0), 0, RAM, &err), 0);
	/* The last page before the device, which is RAM, too. */
	assert_int_equal(
		memory_add_slot(&f->memory, f->ram, gpa(DEVICE - PAGE_SIZE), 0, PAGE_SIZE, &err),
		0);
	x86_model_build(&f->model, x86_native_cpuid, 1000000000, &(struct x86_topology){ 1, 1, 1 });
	f->v.memory = &f->memory;
	f->v.ops = &ops;
	f->v.mmu = &f->mmu;
	f->v.x86.model = &f->model;
	f->v.x86.ctx = &f->v;
	f->v.x86.ops = &mmu_x86_ops;
	mmu_init(&f->mmu, &f->v);
	x86_reset(&f->v.x86);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	memory_fini(&f->memory);
	free(f);
	return 0;
}

static void fill(u8 *p, u8 from)
{
	for (unsigned i = 0; i < LEN; i++)
		p[i] = (u8)(from + i);
}

static void the_pages_share_an_entry(void **state)
{
	(void)state;
	assert_int_equal(mmu_index(SHARED - 1), mmu_index(SHARED));
}

static void read_across_pages_that_share_an_entry(void **state)
{
	struct fixture *f = *state;
	u8 got[LEN], want[LEN];

	fill(f->ram->host + ACROSS, 1);
	fill(want, 1);
	/* With neither page known, with either, with both having been. */
	for (unsigned i = 0; i < 4; i++) {
		u8 byte;

		if (i == 1 || i == 2)
			mmu_read(&f->mmu, i == 1 ? SHARED : ACROSS, &byte, 1, ACCESS_READ);
		memset(got, 0, sizeof(got));
		assert_int_equal(mmu_read(&f->mmu, ACROSS, got, LEN, ACCESS_READ), X86_OK);
		assert_memory_equal(got, want, LEN);
	}
}

static void write_across_pages_that_share_an_entry(void **state)
{
	struct fixture *f = *state;
	u8 bytes[LEN];

	memset(f->ram->host + SHARED - PAGE_SIZE, 0, 2 * PAGE_SIZE);
	for (u8 i = 1; i < 4; i++) {
		fill(bytes, i);
		assert_int_equal(mmu_write(&f->mmu, ACROSS, bytes, LEN, ACCESS_WRITE), X86_OK);
		assert_memory_equal(f->ram->host + ACROSS, bytes, LEN);
	}
	/* Nothing has gone to the other page's end or beginning. */
	for (u64 at = 0; at < PAGE_SIZE - 6; at++)
		assert_int_equal(f->ram->host[SHARED - PAGE_SIZE + at], 0);
	for (u64 at = LEN - 6; at < PAGE_SIZE; at++)
		assert_int_equal(f->ram->host[SHARED + at], 0);
}

static void each_page_hears_of_its_part(void **state)
{
	struct fixture *f = *state;
	u8 bytes[LEN] = { 0 };

	for (u64 at = SHARED - PAGE_SIZE; at <= SHARED; at += PAGE_SIZE)
		atomic_store(memory_page(&f->memory, gpa(at)).flags, 0);
	assert_int_equal(mmu_write(&f->mmu, ACROSS, bytes, LEN, ACCESS_WRITE), X86_OK);
	for (u64 at = SHARED - PAGE_SIZE; at <= SHARED; at += PAGE_SIZE)
		assert_true(*memory_page(&f->memory, gpa(at)).flags & MEM_DIRTY);
}

static void read_from_ram_into_a_device(void **state)
{
	struct fixture *f = *state;
	u8 got[8], want[8] = { 1, 2, 3, 4, 0x5a, 0x5a, 0x5a, 0x5a };

	memcpy(f->ram->host + PAGE_SIZE - 4, want, 4);
	assert_int_equal(mmu_read(&f->mmu, BENEATH, got, 8, ACCESS_READ), X86_OK);
	assert_memory_equal(got, want, 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_pages_share_an_entry),
		cmocka_unit_test_setup_teardown(
			read_across_pages_that_share_an_entry, setup, teardown),
		cmocka_unit_test_setup_teardown(
			write_across_pages_that_share_an_entry, setup, teardown),
		cmocka_unit_test_setup_teardown(each_page_hears_of_its_part, setup, teardown),
		cmocka_unit_test_setup_teardown(read_from_ram_into_a_device, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
