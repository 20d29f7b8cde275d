/* Shared by native.c (execution) and stub.c (generation). */
#pragma once
#include "cpu/interpret/native.h"
#include "os/codemem.h"
#include "x86/control.h"

struct native {
	const void *code;   /* in the running view */
	enum x86_simd simd; /* which availability check applies */
	bool check_simd;
	bool x87;   /* x87 or MMX */
	bool flags; /* reads or writes status flags */
	bool mem_read, mem_write;
	bool vex;     /* #UD in real and virtual-8086 mode */
	u8 mem_size;  /* bytes */
	bool partial; /* may write only some of its bytes */
	u8 key[16];   /* the redirected instruction's bytes: the lookup key */
	u8 key_len;
	struct native *next; /* same hash */
};

#define NATIVE_BUCKETS	4096u
#define NATIVE_ARENA	(16 * MiB)
#define NATIVE_STUB_MAX 1024u /* more than any stub needs */

struct natives {
	struct codemem mem;
	size_t used;
	u8 *guard;	   /* two pages for operands that may not be accessed as a whole ... */
	int guard_prot[2]; /* ... and how they are protected now */
	bool avx, avx512, avx512bw; /* how wide the host's vector registers are */
	struct native *buckets[NATIVE_BUCKETS];
};

/* Does it use MXCSR though no vector register is named? */
bool stub_needs_mxcsr(const ZydisDecodedInstruction *insn);
/* Generates code for `insn` into the arena; fills n->code, returns false when it cannot be encoded.
 */
bool stub_generate(struct natives *ns, struct native *n, const ZydisDecodedInstruction *insn,
	const ZydisDecodedOperand *operands);

/* Re-encodes for the host with the memory operand at [memory]; ZYDIS_REGISTER_NONE keys it. Length
 * or 0. */
unsigned stub_encode(const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *operands,
	ZydisRegister memory, ZydisRegister rsp_replacement, u8 out[16]);

/* How a stub ended. */
struct native_end {
	int trap;     /* host trap number, or -1 when it completed */
	u64 fault_at; /* of a page fault */
	bool fault_write;
};

/* Runs a stub; status flags are exchanged. With FLAG_AC alignment is checked. */
struct native_end native_run(
	struct natives *ns, const struct native *n, struct x86_state *s, void *mem, u64 *flags);
