/* Bit, range and byte-order arithmetic. Range tests never add two untrusted numbers. */
#pragma once
#include "base/types.h"
#include <string.h>

static inline bool range_ok(u64 off, u64 len, u64 size) { return off <= size && len <= size - off; }
static inline bool add_ok(u64 a, u64 b, u64 *sum) { return !__builtin_add_overflow(a, b, sum); }
static inline bool mul_ok(u64 a, u64 b, u64 *prod) { return !__builtin_mul_overflow(a, b, prod); }

static inline u64 min_u64(u64 a, u64 b) { return a < b ? a : b; }
static inline u64 max_u64(u64 a, u64 b) { return a > b ? a : b; }
static inline s64 min_s64(s64 a, s64 b) { return a < b ? a : b; }
static inline s64 max_s64(s64 a, s64 b) { return a > b ? a : b; }

/* align is a power of two; align_up wraps to 0 past the last multiple. */
static inline u64 align_down(u64 v, u64 align) { return v & ~(align - 1); }
static inline u64 align_up(u64 v, u64 align) { return (v + align - 1) & ~(align - 1); }

/* Bits hi..lo of v, as the manuals write them. */
static inline u64 bits(u64 v, unsigned hi, unsigned lo)
{
	return (v >> lo) & (hi - lo == 63 ? ~0ull : (BIT64(hi - lo + 1) - 1));
}

/* All ones in the low `bytes` bytes; bytes is 1, 2, 4 or 8. */
static inline u64 mask_bytes(unsigned bytes) { return ~0ull >> (64 - 8 * bytes); }

static inline u64 sign_extend(u64 v, unsigned bytes)
{
	unsigned shift = 64 - 8 * bytes;

	return (u64)((s64)(v << shift) >> shift);
}

/* Little-endian fields of guest structures at any alignment (the host is x86: little-endian). */
static inline u16 get_le16(const void *p)
{
	u16 v;
	memcpy(&v, p, 2);
	return v;
}
static inline u32 get_le32(const void *p)
{
	u32 v;
	memcpy(&v, p, 4);
	return v;
}
static inline u64 get_le64(const void *p)
{
	u64 v;
	memcpy(&v, p, 8);
	return v;
}
static inline void put_le16(void *p, u16 v) { memcpy(p, &v, 2); }
static inline void put_le32(void *p, u32 v) { memcpy(p, &v, 4); }
static inline void put_le64(void *p, u64 v) { memcpy(p, &v, 8); }

/* Guest memory as guests access it: one host access of that size, at any alignment. Plain u16 and
 * so on promise the compiler natural alignment. */
typedef u16 u16_any __attribute__((aligned(1), may_alias));
typedef u32 u32_any __attribute__((aligned(1), may_alias));
typedef u64 u64_any __attribute__((aligned(1), may_alias));
