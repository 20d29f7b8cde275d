/*
 * XSAVE and FXSAVE images. The oracle is this processor: what x86/ writes is restored by the real
 * XRSTOR and saved again by the real instruction of the same form, and the bytes compared; and the
 * other way round.
 */
#include "control_fake.h"

#define AREA 0x20000u

static struct fake *xsave_new(void)
{
	struct fake *f = control_new();
	struct x86_state *s = &f->cpu.s;

	fake_long(f, 0);
	s->cr4 |= CR4_OSXSAVE | CR4_OSFXSR;
	s->xcr0 = f->model.xcr0_mask;
	if (!(s->xcr0 & XCR0_AVX)) {
		fake_free(f);
		skip();
	}
	return f;
}

/* Random registers; each component stays initial with probability 1/4. FIP and FDP are zero: AMD
 * saves them only while an exception is pending. */
static void randomize(struct fake *f, u64 *seed)
{
	struct x86_fpu *p = &f->cpu.s.fpu;

	memset(p, 0, sizeof(*p));
	p->fcw = 0x37f;
	p->mxcsr = fake_random(seed) & 1 ? MXCSR_RESET : 0x7f80 | (u32)(fake_random(seed) & 0x3f);
	if (fake_random(seed) & 3) {
		p->fcw = 0x27f;
		p->fsw = (u16)(fake_random(seed) & 0x3800);
		p->ftw = (u8)fake_random(seed);
		for (unsigned i = 0; i < 8; i++)
			put_le64(p->st[i], fake_random(seed)), put_le16(p->st[i] + 8, 0x3fff);
	}
	static const struct {
		unsigned from, regs, at, len;
	} slices[] = {
		{ 0, 16, 0, 16 },
		{ 0, 16, 16, 16 },
		{ 0, 16, 32, 32 },
		{ 16, 16, 0, 64 },
	};
	for (unsigned i = 0; i < ARRAY_LEN(slices); i++) {
		if (!(fake_random(seed) & 3))
			continue;
		for (unsigned r = slices[i].from; r < slices[i].from + slices[i].regs; r++)
			for (unsigned b = 0; b < slices[i].len; b += 8)
				put_le64(p->zmm[r] + slices[i].at + b, fake_random(seed));
	}
	if (fake_random(seed) & 3)
		for (unsigned i = 0; i < 8; i++)
			p->k[i] = fake_random(seed);
}

/* Restores `in`, saves with the form's instruction to `out`, and puts the caller's state back. */
#define ROUND_TRIP(insn, in, out, mask)                                                           \
	asm volatile("xsave64 (%2)\n\txrstor64 (%0)\n\t" insn " (%1)\n\txrstor64 (%2)" ::"r"(in), \
		     "r"(out), "r"(keep), "a"((u32)(mask)), "d"((u32)((mask) >> 32))              \
		     : "memory")

static void native_round_trip(enum x86_xsave_form form, const u8 *in, u8 *out, u64 mask)
{
	static u8 keep[4096] __attribute__((aligned(64)));

	switch (form) {
	case X86_XSAVE: ROUND_TRIP("xsave64", in, out, mask); break;
	case X86_XSAVEOPT: ROUND_TRIP("xsaveopt64", in, out, mask); break;
	case X86_XSAVES: /* privileged: its image is XSAVEC's */
	case X86_XSAVEC: ROUND_TRIP("xsavec64", in, out, mask); break;
	}
}

static void images_equal_the_processors(void **state)
{
	static u8 in[4096] __attribute__((aligned(64))), out[4096] __attribute__((aligned(64)));
	struct fake *f = xsave_new();
	u64 seed = 20240607;

	for (unsigned i = 0; i < 4000; i++) {
		enum x86_xsave_form form = i & 3;
		u64 mask = f->model.xcr0_mask & (i % 7 ? ~0ull : fake_random(&seed));
		u8 fill = (u8)i;

		randomize(f, &seed);
		x86_xsave_image_store(&f->cpu, in, sizeof(in));
		/* Unwritten bytes must stay: both areas start out filled, header zero. */
		memset(f->ram + AREA, fill, 4096);
		memset(f->ram + AREA + 512, 0, 64);
		memcpy(out, f->ram + AREA, 4096);
		assert_ok(x86_xsave(&f->cpu, gva(AREA), mask, form, true));
		u64 all = f->model.xcr0_mask;
		if (mask == all)
			native_round_trip(form, in, out, mask);
		else
			continue; /* native: components outside the mask would be the test's own */
		assert_memory_equal(f->ram + AREA, out, 4096);
	}
	fake_free(f);
}

static void restoring_what_was_saved_gives_the_state_back(void **state)
{
	struct fake *f = xsave_new();
	u64 seed = 99;

	for (unsigned i = 0; i < 1000; i++) {
		enum x86_xsave_form form = i & 3;

		randomize(f, &seed);
		struct x86_fpu before = f->cpu.s.fpu;
		memset(f->ram + AREA, 0, 4096);
		assert_ok(x86_xsave(&f->cpu, gva(AREA), ~0ull, form, true));
		randomize(f, &seed);
		assert_ok(x86_xrstor(&f->cpu, gva(AREA), ~0ull, form == X86_XSAVES, true));
		if (!(f->cpu.s.xcr0 & XCR0_OPMASK)) /* not part of this host's state */
			continue;
		assert_memory_equal(&before, &f->cpu.s.fpu, sizeof(before));
	}
	fake_free(f);
}

static void restore_touches_only_requested_components(void **state)
{
	struct fake *f = xsave_new();
	u64 seed = 5;

	randomize(f, &seed);
	memset(f->ram + AREA, 0, 4096); /* XSTATE_BV = 0: initialize */
	put_le32(f->ram + AREA + 24, 0x1f81);
	struct x86_fpu before = f->cpu.s.fpu;
	assert_ok(x86_xrstor(&f->cpu, gva(AREA), XCR0_AVX, false, true));
	/* Standard form: AVX alone loads MXCSR too (SDM 1 13.8.1). */
	assert_int_equal(f->cpu.s.fpu.mxcsr, 0x1f81);
	assert_memory_equal(before.st, f->cpu.s.fpu.st, sizeof(before.st));
	for (unsigned r = 0; r < 16; r++) {
		assert_memory_equal(before.zmm[r], f->cpu.s.fpu.zmm[r], 16);
		assert_int_equal(get_le64(f->cpu.s.fpu.zmm[r] + 16), 0);
		assert_memory_equal(before.zmm[r] + 32, f->cpu.s.fpu.zmm[r] + 32, 32);
	}
	/* Compacted form: MXCSR belongs to SSE and is initialized with it. */
	put_le64(f->ram + AREA + 520, BIT64(63) | XCR0_SSE);
	assert_ok(x86_xrstor(&f->cpu, gva(AREA), XCR0_SSE, false, true));
	assert_int_equal(f->cpu.s.fpu.mxcsr, MXCSR_RESET);
	fake_free(f);
}

static void bad_headers_fault(void **state)
{
	static const struct {
		u64 bv, comp, third, fourth;
		bool supervisor, ok;
	} cases[] = {
		{ 7, 0, 0, 0, false, true }, { BIT64(40), 0, 0, 0, false, false }, /* not in XCR0 */
		{ 7, 1, 0, 0, false, false }, /* standard with XCOMP_BV */
		{ 7, 0, 1, 0, false, false }, /* bytes 23:16 */
		{ 7, 0, 0, 1, false, true },  /* standard ignores the rest */
		{ 7, BIT64(63) | 7, 0, 0, false, true },
		{ 7, BIT64(63) | 3, 0, 0, false, false }, /* BV beyond XCOMP_BV */
		{ 7, BIT64(63) | 7 | BIT64(40), 0, 0, false, false },
		{ 7, BIT64(63) | 7, 0, 1, false, false },
		{ BIT64(63), BIT64(63) | 7, 0, 0, false, false },
		{ 7, 0, 0, 0, true, false }, /* XRSTORS wants compacted */
	};
	struct fake *f = xsave_new();

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		u64 header[4] = { cases[i].bv, cases[i].comp, cases[i].third, cases[i].fourth };

		memset(f->ram + AREA, 0, 4096);
		memcpy(f->ram + AREA + 512, header, sizeof(header));
		if (cases[i].ok)
			assert_ok(x86_xrstor(&f->cpu, gva(AREA), ~0ull, cases[i].supervisor, true));
		else
			assert_fault(f,
				x86_xrstor(&f->cpu, gva(AREA), ~0ull, cases[i].supervisor, true),
				X86_GP, 0);
	}
	memset(f->ram + AREA, 0, 4096);
	put_le32(f->ram + AREA + 24, BIT(31)); /* reserved MXCSR bit */
	assert_fault(f, x86_xrstor(&f->cpu, gva(AREA), ~0ull, false, true), X86_GP, 0);
	assert_fault(f, x86_fxrstor(&f->cpu, gva(AREA), 0, true), X86_GP, 0);
	assert_fault(f, x86_xsave(&f->cpu, gva(AREA + 32), 7, X86_XSAVE, true), X86_GP, 0);
	assert_fault(f, x86_fxsave(&f->cpu, gva(AREA + 8), 0, true), X86_GP, 0);
	f->cpu.s.cr0 |= CR0_TS;
	assert_fault(f, x86_xsave(&f->cpu, gva(AREA), 7, X86_XSAVE, true), X86_NM, 0);
	f->cpu.s.cr4 &= ~CR4_OSXSAVE;
	assert_fault(f, x86_xsave(&f->cpu, gva(AREA), 7, X86_XSAVE, true), X86_UD, 0);
	fake_free(f);
}

static void fxsave_in_32bit_code_leaves_high_registers_alone(void **state)
{
	struct fake *f = xsave_new();
	u64 seed = 17;

	randomize(f, &seed);
	fake_protected(f, 0);
	randomize(f, &seed);
	f->cpu.s.fpu.fip = 0x1122334455667788;
	memset(f->ram + AREA, 0xee, 512);
	assert_ok(x86_fxsave(&f->cpu, gva(AREA), 0, false));
	assert_int_equal(fake_get(f, AREA + 8, 8), 0x55667788);
	assert_int_equal(fake_get(f, AREA + 160 + 8 * 16, 1), 0xee);
	assert_int_equal(fake_get(f, AREA + 28, 4), f->model.mxcsr_mask);
	memset(f->ram + AREA + 160, 0x11, 256);
	struct x86_fpu before = f->cpu.s.fpu;
	assert_ok(x86_fxrstor(&f->cpu, gva(AREA), 0, false));
	assert_int_equal(f->cpu.s.fpu.zmm[7][0], 0x11);
	assert_memory_equal(before.zmm[8], f->cpu.s.fpu.zmm[8], 8 * 64);
	assert_int_equal(f->cpu.s.fpu.fip, 0x55667788);
	fake_free(f);
}

static void fenv_images_equal_the_processors(void **state)
{
	static u8 image[512] __attribute__((aligned(64))), native[28], ours[28];
	struct fake *f = xsave_new();
	u64 seed = 3;

	for (unsigned i = 0; i < 200; i++) {
		randomize(f, &seed);
		for (unsigned r = 0; r < 8; r++) { /* zeros, denormals, infinities, unnormals */
			u16 exponents[] = { 0, 1, 0x7fff, 0x3fff };
			put_le64(f->cpu.s.fpu.st[r],
				fake_random(&seed) & 1 ? 0 : fake_random(&seed));
			put_le16(f->cpu.s.fpu.st[r] + 8, exponents[fake_random(&seed) & 3]);
		}
		fake_protected(f, 0);
		struct x86_fpu *p = &f->cpu.s.fpu;
		memcpy(image, p, 160);
		put_le32(image + 24, MXCSR_RESET);
		asm volatile("fxrstor64 %1\n\tfnstenv %0\n\tfninit" : "=m"(native) : "m"(image));
		assert_int_equal(x86_fenv_store(&f->cpu.s, 4, ours), 28);
		assert_memory_equal(ours, native, 12); /* control, status, tags */
		u8 tags = p->ftw;
		p->ftw = 0;
		x86_fenv_load(&f->cpu.s, 4, ours);
		assert_int_equal(p->ftw, tags);
	}
	fake_free(f);
}

static void fenv_keeps_pointers_in_every_layout(void **state)
{
	struct fake *f = control_new();
	u8 image[28];

	for (unsigned mode = 0; mode < 4; mode++) {
		unsigned size = mode & 1 ? 4 : 2;
		bool real = mode & 2;

		if (real)
			fake_real(f);
		else
			fake_protected(f, 0);
		f->cpu.s.fpu.fip = 0x1234;
		f->cpu.s.fpu.fdp = 0x5678;
		f->cpu.s.fpu.fop = 0x3a5;
		assert_int_equal(x86_fenv_store(&f->cpu.s, size, image), 7 * size);
		struct x86_fpu before = f->cpu.s.fpu;
		f->cpu.s.fpu.fip = f->cpu.s.fpu.fdp = f->cpu.s.fpu.fop = 0;
		x86_fenv_load(&f->cpu.s, size, image);
		assert_int_equal(f->cpu.s.fpu.fip, before.fip);
		assert_int_equal(f->cpu.s.fpu.fdp, before.fdp);
		assert_int_equal(f->cpu.s.fpu.fop, real || size == 4 ? 0x3a5 : 0);
	}
	fake_free(f);
}

static void whole_image_round_trips(void **state)
{
	static u8 image[4096];
	struct fake *f = xsave_new();
	u64 seed = 1;

	for (unsigned i = 0; i < 100; i++) {
		randomize(f, &seed);
		struct x86_fpu before = f->cpu.s.fpu;
		x86_xsave_image_store(&f->cpu, image, sizeof(image));
		randomize(f, &seed);
		x86_xsave_image_load(&f->cpu, image, sizeof(image));
		if (f->model.xcr0_mask & XCR0_OPMASK)
			assert_memory_equal(&before, &f->cpu.s.fpu, sizeof(before));
	}
	x86_xsave_image_load(&f->cpu, image, 100); /* too short: ignored */
	fake_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(images_equal_the_processors),
		cmocka_unit_test(restoring_what_was_saved_gives_the_state_back),
		cmocka_unit_test(restore_touches_only_requested_components),
		cmocka_unit_test(bad_headers_fault),
		cmocka_unit_test(fxsave_in_32bit_code_leaves_high_registers_alone),
		cmocka_unit_test(fenv_images_equal_the_processors),
		cmocka_unit_test(fenv_keeps_pointers_in_every_layout),
		cmocka_unit_test(whole_image_round_trips),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
