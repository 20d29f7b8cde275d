/*
 * Fixed-width shorthands, the two guest address types, and the small arithmetic every layer uses.
 *
 * Guest-physical, guest-virtual and host addresses are three different C types on purpose: passing
 * one where another is meant does not compile. A gpa_t is what memory/ and bus/ take; a gva_t is a
 * linear address (segment base already added); a host address is an ordinary pointer.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
typedef unsigned __int128 u128;

typedef struct gpa {
	u64 v;
} gpa_t;
typedef struct gva {
	u64 v;
} gva_t;

static inline gpa_t gpa(u64 v) { return (gpa_t){ v }; }
static inline gva_t gva(u64 v) { return (gva_t){ v }; }

#define BIT(n)	 (1u << (n))
#define BIT64(n) (1ull << (n))
#define KiB	 1024ull
#define MiB	 (1024ull * KiB)
#define GiB	 (1024ull * MiB)

#define PAGE_SHIFT 12u
#define PAGE_SIZE  4096ull
#define PAGE_MASK  (PAGE_SIZE - 1)

/* Refuses pointers: &(a) and &(a)[0] have the same type only when a is a pointer. */
#define ARRAY_LEN(a)                                                                      \
	(sizeof(a) / sizeof((a)[0]) + 0 * sizeof(struct {                                 \
		_Static_assert(!__builtin_types_compatible_p(typeof(a), typeof(&(a)[0])), \
			"not an array");                                                  \
		int x;                                                                    \
	}))

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define NODISCARD     __attribute__((warn_unused_result))
#define PRINTF(f, a)  __attribute__((format(printf, f, a)))
#define UNUSED	      __attribute__((unused))
#define NOINLINE      __attribute__((noinline))
#define UNINITIALIZED __attribute__((uninitialized)) /* large and written before it is read */
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#define likely(x)     __builtin_expect(!!(x), 1)
#define unlikely(x)   __builtin_expect(!!(x), 0)
