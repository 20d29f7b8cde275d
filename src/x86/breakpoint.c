/*
 * Debug breakpoints (SDM 3B 17.2.4, 17.2.5): DR7 gives each of DR0-DR3 two enable bits, a kind and
 * a length.
 */
#include "x86/exception.h"
#include "x86/state.h"

enum kind { KIND_EXECUTE = 0, KIND_WRITE = 1, KIND_IO = 2, KIND_ACCESS = 3 };

#define ANY_ENABLED 0xffull

static bool enabled(u64 dr7, unsigned i) { return dr7 >> (2 * i) & 3; }
static enum kind kind_of(u64 dr7, unsigned i) { return (enum kind)(dr7 >> (16 + 4 * i) & 3); }
static unsigned length_of(u64 dr7, unsigned i)
{
	static const unsigned length[] = { 1, 2, 8, 4 };

	return length[dr7 >> (18 + 4 * i) & 3];
}

/* The address is taken as aligned to the length; do the two ranges share a byte? */
static bool overlap(u64 breakpoint, unsigned length, u64 at, unsigned size)
{
	u64 first = breakpoint & ~(u64)(length - 1);

	return at - first < length || first - at < size;
}

static u64 matches(const struct x86_state *s, u32 kinds, u64 at, unsigned size)
{
	u64 dr6 = 0;

	for (unsigned i = 0; i < 4; i++)
		if (enabled(s->dr7, i) && (kinds & BIT(kind_of(s->dr7, i))) &&
			overlap(s->dr[i], length_of(s->dr7, i), at, size))
			dr6 |= BIT64(i);
	return dr6;
}

u64 x86_code_breakpoints(const struct x86_state *s, u64 linear)
{
	u64 dr6 = 0;

	if (likely(!(s->dr7 & ANY_ENABLED)) || (s->rflags & FLAG_RF))
		return 0;
	for (unsigned i = 0; i < 4; i++)
		if (enabled(s->dr7, i) && kind_of(s->dr7, i) == KIND_EXECUTE && s->dr[i] == linear)
			dr6 |= BIT64(i);
	return dr6;
}

u64 x86_data_breakpoints(const struct x86_state *s, u64 linear, unsigned size, bool write)
{
	if (likely(!(s->dr7 & ANY_ENABLED)))
		return 0;
	return matches(s, BIT(KIND_ACCESS) | (write ? BIT(KIND_WRITE) : 0), linear, size);
}

u64 x86_io_breakpoints(const struct x86_state *s, u16 port, unsigned size)
{
	if (likely(!(s->dr7 & ANY_ENABLED)) || !(s->cr4 & CR4_DE))
		return 0;
	return matches(s, BIT(KIND_IO), port, size);
}
