/* The shape of a vector-indexed memory operand, packed into op->imm by the decoder. */
#pragma once
#include "cpu/interpret/interp.h"

struct vsib {
	u8 data, index; /* bytes of an element and of an index */
	u8 count;	/* lanes */
	u8 index_reg;	/* vector register of the indices */
	u8 shift;
	bool evex; /* mask in k[op->src], else in the sign bits of zmm[op->src] */
};

static inline u64 vsib_pack(struct vsib v)
{
	return v.data | (u64)v.index << 8 | (u64)v.count << 16 | (u64)v.index_reg << 24 |
	       (u64)v.shift << 32 | (u64)v.evex << 40;
}
static inline struct vsib vsib_unpack(u64 p)
{
	return (struct vsib){ (u8)p, (u8)(p >> 8), (u8)(p >> 16), (u8)(p >> 24), (u8)(p >> 32),
		p >> 40 & 1 };
}
