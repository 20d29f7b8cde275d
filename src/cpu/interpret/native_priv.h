/* Shared by native.c (execution) and stub.c (generation). */
#pragma once
#include "cpu/interpret/native.h"
#include "os/codemem.h"
#include "x86/control.h"

/* What a memory operand needs besides its address. */
enum native_mask { MASK_NONE, MASK_K, MASK_VECTOR, MASK_COMPRESS };

struct native {
	const void *code;         /* in the running view */
	enum x86_simd simd;       /* which availability check applies */
	bool check_simd;
	bool x87;                 /* sets FIP, FDP, FOP */
	bool flags;               /* reads or writes status flags */
	bool mem_read, mem_write;
	bool vex;                 /* #UD in real and virtual-8086 mode */
	u8 mem_size;              /* bytes */
	enum native_mask mask;
	u8 mask_reg;              /* k register, or vector register */
	u8 element;               /* bytes, for masked accesses */
	u16 fop;
	u8 key[16];               /* the redirected instruction's bytes: the lookup key */
	u8 key_len;
	struct native *next;      /* same hash */
};

#define NATIVE_BUCKETS 4096u
#define NATIVE_ARENA   (16 * MiB)
#define NATIVE_STUB_MAX 1024u /* more than any stub needs */

struct natives {
	struct codemem mem;
	size_t used;
	bool avx, avx512, avx512bw; /* how wide the host's vector registers are */
	struct native *buckets[NATIVE_BUCKETS];
};

/* Generates code for `insn` into the arena; fills n->code, returns false when it cannot be encoded. */
bool stub_generate(struct natives *ns, struct native *n, const ZydisDecodedInstruction *insn,
	const ZydisDecodedOperand *operands);

/* Re-encodes for the host with the memory operand at [memory]; ZYDIS_REGISTER_NONE keys it. Length or 0. */
unsigned stub_encode(const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *operands,
	ZydisRegister memory, ZydisRegister rsp_replacement, u8 out[16]);

/* Runs a stub. Returns the host trap number, or -1 when it completed; flags are exchanged. */
int native_run(struct natives *ns, const struct native *n, struct x86_state *s, void *mem, u64 *flags);
