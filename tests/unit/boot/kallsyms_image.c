#include "kallsyms_image.h"
#include <stdio.h>

/* Some bytes stand for longer text, as the kernel's build chooses them; the others for themselves.
 */
static const char *token(unsigned c, char one[2])
{
	switch (c) {
	case 1: return "Tsymbol_";
	case 2: return "Acpu_";
	default: break;
	}
	one[0] = c > ' ' && c < 0x7f ? (char)c : '?';
	one[1] = 0;
	return one;
}

static void align(struct kallsyms_image *k, u64 to) { k->size = align_up(k->size, to); }

static void put32(struct kallsyms_image *k, u32 v)
{
	put_le32(k->data + k->size, v);
	k->size += 4;
}

static void put_offsets(struct kallsyms_image *k, u32 count, u32 percpu)
{
	align(k, 8);
	k->offsets = k->size;
	for (u32 i = 0; i < count; i++)
		put32(k, i < percpu ? i * KALLSYMS_STEP : (u32)(-1 - (s32)(i * KALLSYMS_STEP)));
	align(k, 8);
	k->base = k->size;
	put_le64(k->data + k->size, KALLSYMS_BASE);
	k->size += 8;
}

static void put_names(struct kallsyms_image *k, u32 count, u32 percpu)
{
	u32 marks[64];

	k->num = k->size;
	put32(k, count);
	align(k, 8);
	k->names = k->size;
	for (u32 i = 0; i < count; i++) {
		char digits[16];
		int n = snprintf(digits, sizeof(digits), "%u", i);

		if (i % 256 == 0)
			marks[i / 256] = (u32)(k->size - k->names);
		k->data[k->size++] = (u8)(n + 1);
		k->data[k->size++] = i < percpu ? 2 : 1;
		memcpy(k->data + k->size, digits, (size_t)n);
		k->size += (u64)n;
	}
	align(k, 8);
	k->markers = k->size;
	for (u32 i = 0; i < (count + 255) / 256; i++)
		put32(k, marks[i]);
	align(k, 8);
}

static void put_tokens(struct kallsyms_image *k)
{
	u16 at[256];
	char one[2];

	k->tokens = k->size;
	for (unsigned c = 0; c < 256; c++) {
		const char *text = token(c, one);

		at[c] = (u16)(k->size - k->tokens);
		memcpy(k->data + k->size, text, strlen(text) + 1);
		k->size += strlen(text) + 1;
	}
	align(k, 8);
	k->index = k->size;
	memcpy(k->data + k->size, at, sizeof(at));
	k->size += sizeof(at);
}

void kallsyms_image(
	struct kallsyms_image *k, enum kallsyms_order order, bool seqs, u32 count, u32 percpu)
{
	memset(k, 0, sizeof(*k));
	k->size = 256; /* something in front */
	if (order == KALLSYMS_OFFSETS_FIRST)
		put_offsets(k, count, percpu);
	put_names(k, count, percpu);
	for (u32 i = 0; seqs && i < 3 * count; i++) /* three bytes each, most significant first */
		k->data[k->size++] = (u8)(i % 3 == 2 ? i / 3 : i / 3 >> 8);
	align(k, 8);
	put_tokens(k);
	if (order == KALLSYMS_OFFSETS_LAST)
		put_offsets(k, count, percpu);
	k->size += 64;
}
