/*
 * Interesting values: uniformly random bits almost never overflow, divide evenly, index memory or
 * form a floating-point special, so each kind has a distribution of its own.
 */
#include "diff.h"

/* splitmix64: one add and a mix, any seed is good. */
u64 rng_next(struct rng *r)
{
	u64 z = r->s += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

unsigned rng_below(struct rng *r, unsigned n) { return (unsigned)((rng_next(r) >> 32) * n >> 32); }
bool rng_one_in(struct rng *r, unsigned n) { return rng_below(r, n) == 0; }

u64 rng_value(struct rng *r)
{
	u64 v = rng_next(r);

	switch (rng_below(r, 10)) {
	case 0: return v & 0xff;
	case 1: return 0;
	case 2: return ~0ull;
	case 3: return 1ull << (v & 63);
	case 4: return (1ull << (v & 63)) - 1;
	case 5: return 0 - (v & 0xff);
	case 6: return v >> (v & 63);
	case 7: return (v & ~0xffffffffull) | (0x80000000u + (u32)(s32)(s8)v);
	case 8: return DATA_AT + (u32)(v % DATA_SIZE);
	default: return v;
	}
}

static u32 float32(struct rng *r)
{
	static const u32 special[] = { 0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000,
		0xff800000, 0x7fc00000, 0xffc00000, 0x7f800001, 1, 0x807fffff, 0x00800000,
		0x7f7fffff, 0x4f000000, 0xcf000000, 0x5f000000, 0x4f800000, 0x3f000000, 0x3fc00000,
		0x40200000 };
	u32 v = (u32)rng_next(r);

	if (rng_one_in(r, 2))
		return special[rng_below(r, ARRAY_LEN(special))];
	/* near 1, so that sums cancel and products round */
	return (v & 0x807fffff) | (0x3f800000u + ((v >> 7) % 64 - 32) * 0x00800000u);
}

static u64 float64(struct rng *r)
{
	static const u64 special[] = { 0, 1ull << 63, 0x3ff0000000000000, 0xbff0000000000000,
		0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000, 0xfff8000000000000,
		0x7ff0000000000001, 1, 0x800fffffffffffff, 0x0010000000000000, 0x7fefffffffffffff,
		0x41e0000000000000, 0xc1e0000000000000, 0x43e0000000000000, 0xc3e0000000000000,
		0x43f0000000000000, 0x3fe0000000000000, 0x36a0000000000000 };
	u64 v = rng_next(r);

	if (rng_one_in(r, 2))
		return special[rng_below(r, ARRAY_LEN(special))];
	return (v & 0x800fffffffffffffull) | ((0x3ffull + (v >> 52) % 128 - 64) << 52);
}

void rng_vector(struct rng *r, u8 *out, unsigned len)
{
	unsigned kind = rng_below(r, 8);

	for (unsigned i = 0; i < len; i += 8) {
		u64 v;

		switch (kind) {
		case 0: v = 0; break;
		case 1:
		case 2: v = float32(r) | (u64)float32(r) << 32; break;
		case 3:
		case 4: v = float64(r); break;
		case 5:
			v = (u64)(s64)(s32)(rng_next(r) % 4096 - 2048);
			break;						  /* indices of 8 bytes */
		case 6: v = (rng_next(r) & 0x00000fff00000fffull); break; /* indices of 4 bytes */
		default: v = rng_next(r); break;
		}
		memcpy(out + i, &v, 8);
	}
}

/* An 80-bit value: finite, special, or one of the encodings newer processors reject (SDM 1 8.2.2).
 */
static void float80(struct rng *r, u8 out[16])
{
	u64 mantissa = rng_next(r);
	u16 exponent = (u16)(rng_next(r) & 0x8000);

	switch (rng_below(r, 10)) {
	case 0: mantissa = 0; break;
	case 1: mantissa |= BIT64(63); break;			 /* pseudo-denormal */
	case 2: mantissa &= ~BIT64(63); break;			 /* denormal */
	case 3: mantissa = BIT64(63), exponent |= 0x7fff; break; /* infinity */
	case 4: exponent |= 0x7fff; break;			 /* some NaN or unsupported */
	case 5: exponent = (u16)rng_next(r); break;		 /* unnormal or anything */
	case 6: mantissa = BIT64(63), exponent |= 0x3fff; break; /* 1 */
	default:
		mantissa |= BIT64(63);
		exponent |= (u16)(0x3fff + rng_below(r, 160) - 80);
		if (rng_one_in(r, 2))
			mantissa &= ~0ull << rng_below(r, 64); /* integers, short fractions */
		break;
	}
	memset(out, 0, 16);
	memcpy(out, &mantissa, 8);
	memcpy(out + 8, &exponent, 2);
}

/* FSW.ES and B follow from the flags and the control word (SDM 1 8.1.3.3). */
static u16 consistent_fsw(u16 fsw, u16 fcw)
{
	fsw &= 0x7f7f;
	return fsw & ~fcw & 0x3f ? fsw | 0x8080 : fsw;
}

static void rng_x87(struct rng *r, struct x86_fpu *f)
{
	f->fcw = (u16)((rng_next(r) & 0x0f00) | 0x7f);
	if (rng_one_in(r, 4))
		f->fcw = (u16)((rng_next(r) & 0x0f3f) | 0x40);
	f->fsw = (u16)(rng_next(r) & 0x7f00);
	if (rng_one_in(r, 4))
		f->fsw |= (u16)(rng_next(r) & 0x7f);
	if (rng_one_in(r, 2))
		f->fsw &= (u16)~0x3800; /* TOP = 0, as compilers leave it */
	f->fsw = consistent_fsw(f->fsw, f->fcw);
	f->ftw = rng_one_in(r, 3) ? (u8)rng_next(r) : 0xff;
	if (f->fsw & 0x80) {
		f->fop = (u16)(rng_next(r) & 0x7ff);
		f->fip = CODE_AT + rng_below(r, CODE_SIZE);
		f->fdp = DATA_AT + rng_below(r, DATA_SIZE);
	}
	for (unsigned i = 0; i < 8; i++) {
		float80(r, f->st[i]);
		if (rng_one_in(r, 4)) /* what MMX leaves */
			rng_vector(r, f->st[i], 8), f->st[i][8] = f->st[i][9] = 0xff;
	}
}

void fpu_clip(struct x86_fpu *f)
{
	unsigned width = __builtin_cpu_supports("avx512f") ? 64
			 : __builtin_cpu_supports("avx")   ? 32
							   : 16;

	if (width == 64)
		return;
	for (unsigned i = 0; i < 16; i++)
		memset(f->zmm[i] + width, 0, 64 - width);
	memset(f->zmm[16], 0, 16 * sizeof(f->zmm[0]));
	memset(f->k, 0, sizeof(f->k));
}

void rng_fpu(struct rng *r, struct x86_fpu *f)
{
	memset(f, 0, sizeof(*f));
	rng_x87(r, f);
	f->mxcsr = MXCSR_RESET | (u32)(rng_next(r) & 0xe040);
	if (rng_one_in(r, 4))
		f->mxcsr = (u32)(rng_next(r) & 0xffff);
	for (unsigned i = 0; i < 32; i++)
		rng_vector(r, f->zmm[i], 64);
	for (unsigned i = 0; i < 8; i++)
		f->k[i] = rng_one_in(r, 4) ? ~0ull : rng_next(r) & rng_next(r);
}

void memory_fill_seed(const struct trial *t, u8 memory[DATA_SIZE])
{
	struct rng r = { t->memory_seed };

	for (unsigned i = 0; i < DATA_SIZE; i += 8) {
		u64 v = rng_next(&r);

		memcpy(memory + i, &v, 8);
	}
	for (unsigned i = 0; i < PATCHES_MAX; i++)
		memcpy(memory + t->patch[i].at, t->patch[i].bytes, t->patch[i].len);
}
