/*
 * Linux keeps its symbols in read-only data, in tables that its build makes (scripts/kallsyms.c)
 * and kernel/kallsyms.c reads. Nothing points to them in a stripped image, so we find them by what
 * they must look like, and believe them only when all of them agree:
 *
 *   names        per symbol a length (one byte; since Linux 6.1 two when bit 7 is set) and as many
 *                tokens; the text they stand for begins with the symbol's type
 *   markers      u32: where every 256th name begins
 *   token table  256 zero-terminated strings, one for each byte value
 *   token index  u16: where each of them begins
 *   num_syms     u32
 *   offsets      u32 per symbol, to be added to:
 *   relative base
 *
 * Order: offsets, base, num_syms, names, markers, [seqs_of_names], token table, token index before
 * Linux 6.4; num_syms, names, markers, token table, token index, offsets, base since. Each begins
 * at a multiple of 8, or of 4. With CONFIG_KALLSYMS_ABSOLUTE_PERCPU an offset that is not negative
 * is an address by itself, and others are base - 1 - offset.
 *
 * The search. Digits occur in names only as themselves, so the token table contains the strings
 * "0" to "9" in a row; the index behind it confirms its beginning. Markers begin with 0 and
 * grow. The number of symbols fits the number of markers, and the names are as long as the
 * markers say. Every loop is bounded by the image's size, every search by a number of attempts.
 */
#include "boot/kallsyms.h"
#include "base/bits.h"
#include <errno.h>

#define TOKENS	      256u
#define TOKEN_BEFORE  '0'  /* tokens in front of the one for "0" */
#define MARKED	      256u /* symbols from one marker to the next */
#define NAME_LEAST    2u
#define NAME_MOST     (2u + SYMBOL_NAME) /* bytes in `names` */
#define TABLES_TRIED  64u
#define MARKERS_TRIED 256u
#define NAMES_TRIED   64u

struct tables {
	const u8 *image;
	u64 size;
	u64 tokens, index, markers, names, count_at;
	u32 count;
	bool long_names; /* lengths of two bytes exist */
	unsigned tried;	 /* NAMES_TRIED */
	u16 token_at[TOKENS];
	u16 token_length[TOKENS];
};

static u32 u32_at(const struct tables *t, u64 at) { return get_le32(t->image + at); }

/* ---- token table and index ---- */

/* The beginning of the first token, from the one for "0". */
static bool walk_back(const u8 *image, u64 zero, u64 *start)
{
	u64 at = zero;

	for (unsigned i = 0; i < TOKEN_BEFORE; i++) {
		u64 least = at > SYMBOL_NAME ? at - SYMBOL_NAME : 0;

		if (at <= least + 1)
			return false;
		for (at--; at > least && image[at - 1]; at--)
			;
	}
	*start = at;
	return true;
}

static bool measure_tokens(struct tables *t)
{
	u64 at = t->tokens;

	for (unsigned i = 0; i < TOKENS; i++) {
		u64 most = min_u64(SYMBOL_NAME, t->size - at);
		size_t len = strnlen((const char *)t->image + at, most);

		if (len == most || at - t->tokens > UINT16_MAX)
			return false;
		t->token_at[i] = (u16)(at - t->tokens);
		t->token_length[i] = (u16)len;
		at += len + 1;
	}
	t->index = at;
	return true;
}

static bool index_matches(const struct tables *t, u64 at)
{
	if (!range_ok(at, TOKENS * 2, t->size))
		return false;
	for (unsigned i = 0; i < TOKENS; i++)
		if (get_le16(t->image + at + 2 * i) != t->token_at[i])
			return false;
	return true;
}

static bool tokens_at(struct tables *t, u64 zero)
{
	if (!walk_back(t->image, zero, &t->tokens) || !measure_tokens(t))
		return false;
	for (u64 align = 8; align; align /= 2)
		if (index_matches(t, align_up(t->index, align))) {
			t->index = align_up(t->index, align);
			return true;
		}
	return false;
}

/* ---- names and markers ---- */

/* Steps over a length; its value, 0 when there is none. */
static u32 name_length(const struct tables *t, u64 *at, u64 end)
{
	u32 n = *at < end ? t->image[(*at)++] : 0;

	if (t->long_names && (n & 0x80))
		n = *at < end ? (n & 0x7f) | (u32)t->image[(*at)++] << 7 : 0;
	return n;
}

/* Do `count` names from t->names lead to the markers, and agree with each of them? */
static bool names_fit(const struct tables *t)
{
	u64 at = t->names;

	for (u32 i = 0; i < t->count; i++) {
		if (i % MARKED == 0 && u32_at(t, t->markers + i / MARKED * 4) != at - t->names)
			return false;
		u32 len = name_length(t, &at, t->markers);
		if (!len || len > t->markers - at)
			return false;
		at += len;
	}
	return align_up(at, 8) == t->markers || align_up(at, 4) == t->markers;
}

static bool try_names(struct tables *t, u64 names, u64 count_at, u32 marks)
{
	t->names = names;
	t->count_at = count_at;
	t->count = u32_at(t, count_at);
	if (!t->count || t->count > SYMBOLS_MAX || (t->count + MARKED - 1) / MARKED != marks ||
		t->tried == NAMES_TRIED)
		return false;
	t->tried++;
	t->long_names = true;
	if (names_fit(t))
		return true;
	t->long_names = false;
	return names_fit(t);
}

/* The names end at the markers and are as long as the last marker says, and up to 256 more. */
static bool names_before(struct tables *t, u32 marks)
{
	u64 last = u32_at(t, t->markers + (marks - 1) * 4ull);

	if (t->markers < last + 16)
		return false;
	u64 high = align_down(t->markers - last, 4);
	u64 low = high > MARKED * NAME_MOST ? high - MARKED * NAME_MOST : 0;
	for (u64 names = high; names >= low + 8; names -= 4)
		if (try_names(t, names, names - 4, marks) || try_names(t, names, names - 8, marks))
			return true;
	return false;
}

/* How many u32 from `at` on grow as 256 names make them, at most up to the token table. */
static u32 growing(const struct tables *t, u64 at)
{
	u32 n = 1;

	while (at + 4 * n + 4 <= t->tokens) {
		u32 step = u32_at(t, at + 4 * n) - u32_at(t, at + 4 * n - 4);

		if (step < MARKED * NAME_LEAST || step > MARKED * NAME_MOST)
			break;
		n++;
	}
	return n;
}

static bool find_names(struct tables *t)
{
	unsigned tried = 0;

	for (u64 at = align_down(t->tokens, 4); at >= 4 && tried < MARKERS_TRIED;) {
		at -= 4;
		if (at + 4 > t->tokens || u32_at(t, at))
			continue;
		tried++;
		t->markers = at;
		u32 marks = growing(t, at);
		/* What follows may look like one more. */
		if (names_before(t, marks) || (marks > 1 && names_before(t, marks - 1)))
			return true;
	}
	return false;
}

/* ---- addresses ---- */

static u64 address(const struct tables *t, u64 offsets, u64 base, bool absolute, u32 i)
{
	u32 raw = u32_at(t, offsets + 4ull * i);

	if (!absolute)
		return base + raw;
	return (s32)raw >= 0 ? raw : base - 1 - (u64)(s64)(s32)raw;
}

static bool has_negative(const struct tables *t, u64 offsets)
{
	for (u32 i = 0; i < t->count; i++)
		if (u32_at(t, offsets + 4ull * i) >> 31)
			return true;
	return false;
}

/* Kernel symbols lie in the upper half and are sorted. */
static bool addresses_fit(const struct tables *t, u64 offsets, u64 base_at, bool *absolute)
{
	if (!range_ok(offsets, 4ull * t->count, t->size) || !range_ok(base_at, 8, t->size))
		return false;
	u64 base = get_le64(t->image + base_at), before = 0;
	if (!(base >> 63))
		return false;
	*absolute = has_negative(t, offsets);
	for (u32 i = 0; i < t->count; i++) {
		u64 a = address(t, offsets, base, *absolute, i);

		if (a < before)
			return false;
		before = a;
	}
	return true;
}

static bool find_addresses(const struct tables *t, u64 *offsets, u64 *base_at, bool *absolute)
{
	u64 bytes = 4ull * t->count;

	for (u64 align = 8; align >= 4; align /= 2) {
		u64 padded = align_up(bytes, align);

		/* in front of the number of symbols, or behind the token index */
		*base_at = t->count_at - 8;
		*offsets = *base_at - padded;
		if (t->count_at >= 8 + padded && addresses_fit(t, *offsets, *base_at, absolute))
			return true;
		*offsets = align_up(t->index + TOKENS * 2, align);
		*base_at = align_up(*offsets + bytes, 8);
		if (addresses_fit(t, *offsets, *base_at, absolute))
			return true;
	}
	return false;
}

/* ---- all together ---- */

/* The text of `len` tokens, cut at SYMBOL_NAME; how long it is. */
static size_t expand(const struct tables *t, u64 at, u32 len, char text[SYMBOL_NAME])
{
	size_t n = 0;

	for (u32 i = 0; i < len; i++) {
		unsigned token = t->image[at + i];
		size_t take = min_u64(t->token_length[token], SYMBOL_NAME - n);

		memcpy(text + n, t->image + t->tokens + t->token_at[token], take);
		n += take;
		if (n == SYMBOL_NAME)
			break;
	}
	return n;
}

static int add_all(struct symbols *s, const struct tables *t, u64 offsets, u64 base, bool absolute)
{
	char text[SYMBOL_NAME];
	u64 at = t->names;

	for (u32 i = 0; i < t->count; i++) {
		u32 len = name_length(t, &at, t->markers);
		size_t n = expand(t, at, len, text);

		at += len;
		if (n < 2)
			continue;
		int r = symbols_add(
			s, address(t, offsets, base, absolute, i), text[0], text + 1, n - 1);
		if (r < 0)
			return r;
	}
	return 0;
}

int kallsyms_read(struct symbols *s, const u8 *image, u64 size)
{
	static const char digits[] = "0\0001\0002\0003\0004\0005\0006\0007\0008\0009";
	struct tables t = { .image = image, .size = size };
	const u8 *at = image, *end = image + size;

	for (unsigned i = 0; i < TABLES_TRIED; i++, at++) {
		u64 offsets, base_at;
		bool absolute;

		at = memmem(at, (size_t)(end - at), digits, sizeof(digits));
		if (!at)
			return 0;
		if (tokens_at(&t, (u64)(at - image)) && find_names(&t) &&
			find_addresses(&t, &offsets, &base_at, &absolute))
			return add_all(s, &t, offsets, get_le64(image + base_at), absolute);
	}
	return 0;
}
