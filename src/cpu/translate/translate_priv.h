/*
 * Shared by the translator's files.
 *
 * Registers. Guest registers are in the same-numbered host registers except: guest RCX is in host
 * R13, and guest R13, R14 and R15 are in memory (ctx->gpr). Host RCX, R14 and R15 are scratch. RSP
 * is only a value: the host never pushes through it while translated code runs. GS addresses the
 * context. Status flags are the host's; DF, IF, AC and the rest stay in x86_state.rflags.
 *
 * Inserted code changes no flags at all (LEA, PEXT, JRCXZ), so flags are exact at every instruction
 * boundary and no liveness analysis stands between a fault and the truth.
 *
 * Memory. The linear address goes to R14; PEXT picks its TLB index into R15; the negated tag plus
 * the address of the operand's last byte has no bits above the page offset exactly on a hit, which
 * checks page, rights and page crossing together:
 *
 *     lea  r14, [address]
 *     pext r15, r14, gs:[index_mask]
 *     mov  rcx, gs:[neg + r15*8]
 *     lea  rcx, [rcx + r14 + size-1]
 *     pext rcx, rcx, gs:[page_mask]
 *     jrcxz hit
 *     jmp  miss
 *   hit:
 *     mov  r15, gs:[add + r15*8]
 *     op   [r15 + r14]
 *
 * A miss leaves the cache, runs the interpreter's handler for the instruction (which walks, faults,
 * reaches devices), fills the entry and resumes behind the instruction.
 *
 * Fast TLB invariants: an entry implies that the mmu.h entry of the same page would hit too; a
 * write entry further implies that the page is dirty and holds no code, so a store needs no
 * follow-up. mmu_flush() and the claiming of code pages remove entries through hooks.
 *
 * Blocks are keyed by (linear RIP, physical address, space, vector mode). Exits are
 * - links: direct jumps, patched to the target's code once that exists. Within a page they live as
 * long as both blocks; across pages they are cut when translations of that half of the address
 * space are flushed;
 * - lookups: indirect jumps, through a table per (space, vector mode) keyed by RIP, emptied by the
 * same flushes.
 *
 * Attention. Translated code never polls. vcpu_post() sends the thread a signal; the handler points
 * every exit of the block it interrupted at the way out.
 *
 * Vector mode. In mode 0 the guest's vector registers are in x86_state; in mode 1 they are in the
 * host's registers, and every exit to C saves them first. Blocks that use vector instructions exist
 * in mode 1 only.
 *
 * Threads: context, cache and blocks belong to the vcpu's thread.
 */
#pragma once
#include "cpu/interpret/blocks.h"
#include "cpu/interpret/interp.h"
#include "cpu/translate/asm.h"
#include "cpu/translate/options.h"
#include "cpu/translate/stats.h"
#include "cpu/translate/translate.h"
#include "os/codemem.h"
#include <pthread.h>

#define FAST_ENTRIES 32768u    /* per space and kind: 128 MiB before two pages share an entry */
#define FAST_INVALID BIT64(62) /* as a negated tag: no canonical address cancels it */
#define JUMP_ENTRIES 65536u    /* indexed by the low 16 bits of RIP */
#define FILL_LOG     32768u
#define VECTOR_MODES 2

enum exit_kind { EXIT_LINK, EXIT_LOOKUP, EXIT_OP, EXIT_VECTOR, EXIT_ATTENTION };
#define NO_INSN		     0xffffffu /* EXIT_LOOKUP from a shared stub */
#define EXIT_CODE(kind, arg) ((u32)(kind) << 24 | (u32)(arg))

struct fast_table {
	u64 neg[FAST_ENTRIES]; /* minus the page's linear address */
	u64 add[FAST_ENTRIES]; /* host address of a byte minus its linear address */
};

struct jump_table {
	u64 neg[JUMP_ENTRIES];	/* minus the RIP */
	u64 code[JUMP_ENTRIES]; /* in the running view */
};

/* What GS addresses. */
struct tctx {
	u64 gpr[16];
	u64 flags; /* host RFLAGS image, status flags only */
	u64 rip;   /* EXIT_LOOKUP: where to */
	u64 host_rsp;
	u64 enter; /* where translate_enter jumps */
	u64 code;  /* where the vector entry jumps */
	u64 leave; /* the way out for the current vector mode */
	u64 leave_plain;
	u64 state; /* struct x86_state */
	u64 save;  /* a value held across a second memory check */
	u64 index_mask, page_mask;
	u64 fs_base, gs_base; /* the guest's */
	u32 exit_code, exit_block;
	u32 mxcsr_host;
	u32 kicked; /* a signal came between the last look at attention and translate_enter */
	u64 vif;    /* the guest's IF, as FLAG_IF or 0 */
	u64 rest;   /* the guest's RFLAGS but for status flags, IF and RF */
	u64 df;	    /* FLAG_DF or 0 */
	u64 status_mask;
	u64 attention; /* address of vcpu.attention */
	u64 save_rdi;
	struct fast_table fast[MMU_SPACES][2];
	struct jump_table jump[MMU_SPACES][VECTOR_MODES];
};

#define SLOT(member) ((u32)offsetof(struct tctx, member))

/* A patchable exit. */
struct link {
	u8 *site;	   /* the rel32, writable view; NULL: unused */
	const u8 *out;	   /* where it points when not chained, running view */
	u64 target;	   /* guest RIP */
	struct tblock *to; /* chained to, or NULL */
	struct tblock *owner;
	struct link *next_in; /* in to->incoming */
	struct link *next_cross;
};

#define BLOCK_LINKS 2u
#define TBLOCK_OPS  32u

/* How an instruction reaches memory: what to fill after a miss. */
enum access { ACCESS_NONE, ACCESS_EA_READ, ACCESS_EA_WRITE, ACCESS_PUSH, ACCESS_POP, ACCESS_LEAVE };

struct tinsn {
	struct op op;
	u16 host_at;  /* offset of its code in the block */
	u16 guest_at; /* offset of its bytes */
	u8 access;
	u8 bytes;    /* of memory touched */
	bool handed; /* always the interpreter's; else only when its memory check misses */
	u16 mnemonic;
};

struct tblock {
	struct code_unit unit;
	u64 rip;
	u8 space, vector;
	u16 count;
	u32 id;
	u8 *code; /* running view */
	u32 code_size;
	u8 *gate;	    /* 5-byte NOP before a lookup, writable view; NULL: none */
	const u8 *gate_out; /* where the gate points when cut, running view */
	bool cut;	    /* the signal handler pointed the exits outwards */
	struct link links[BLOCK_LINKS];
	struct link *incoming;
	struct tblock *hash_next;
	struct tinsn insns[]; /* count + 1: the last only ends the offsets */
};

#define TBLOCK_HASH 65536u
#define TBLOCKS_MAX (512u * 1024)

struct translator {
	struct interp *c;
	struct tctx *ctx;
	struct codemem mem;
	size_t used, stubs_end;
	const u8 *vector_enter, *vector_enter_end, *vector_leave, *lookup_miss;
	u8 *pool;
	size_t pool_used;
	struct tblock *hash[TBLOCK_HASH];
	struct tblock **by_id; /* in the order of their code */
	u32 block_count;
	struct link *cross[2]; /* links across pages, by half of the target */
	u64 exec_filter[64];   /* pages that links or jump entries point into, hashed */
	struct {
		u16 index;
		u8 space, kind;
	} fills[2][FILL_LOG];
	unsigned fill_count[2]; /* by half */
	struct {
		u16 index;
		u8 space, vector;
	} jumps[2][FILL_LOG];
	unsigned jump_count[2];
	bool vector;
	bool dropped; /* everything was dropped: hold no block pointer */
	struct tblock *cut_block;
	_Atomic bool in_code;
	_Atomic bool purge; /* drop the fast TLB before entering again: someone claims code pages */
	pthread_t thread;
	bool bound; /* thread and signal stack are set */
	void *signal_stack;
	u8 vector_space;	       /* the space vector mode 1 was entered in */
	bool interpret_once;	       /* the next block is the interpreter's */
	struct link *pending;	       /* the exit taken, to be chained to what is found next */
	bool pending_jump;	       /* the same for a lookup */
	u32 options;		       /* enum translate_option */
	unsigned block_ops;	       /* guest instructions a block may have */
	size_t cache_limit;	       /* bytes of code before everything is dropped */
	struct translate_stats *stats; /* NULL: nobody asked */
	u64 exits[5], blocks_made, guest_bytes, host_bytes, links_made, fast_fills, clears;
};

/* ---- cache.c ---- */
int tcache_open(struct translator *t, struct err *err);
void tcache_close(struct translator *t);
void tcache_clear(struct translator *t);
/* The block at the current RIP and modes; NULL with a fault prepared, or *interpret set. */
struct tblock *tcache_find(struct translator *t, bool *interpret);
void tcache_link(struct translator *t, struct link *l, struct tblock *to);
void tcache_jump(struct translator *t, struct tblock *to);
void tcache_unlink_out(struct translator *t, struct tblock *b);
struct tblock *tcache_by_code(struct translator *t, const u8 *pc);
void tcache_flushed(void *translator, enum x86_flush kind, u64 at);
void tcache_purge(struct translator *t);
void tcache_claimed(void *translator, const u8 *host_page);
void tcache_dropped(void *translator);
void tcache_fill(struct translator *t, u64 at, unsigned size, bool write);

/* ---- emit.c ---- */
#define EMIT_MAX 8192u /* bytes of host code no block exceeds */

struct emit {
	struct translator *t;
	struct asm_buf a;
	struct tblock *b;
	const u8 *start; /* writable view */
	const u8 *bytes; /* of the instruction being emitted */
	struct {
		u8 *site;
		u32 code;
	} outs[6 * TBLOCK_OPS];
	unsigned out_count;
	u8 *sti_at; /* where the last STI began, to take it back */
	unsigned sti_outs;
};

enum emit_result { EMIT_NEXT, EMIT_STI, EMIT_END, EMIT_REFUSED };
struct build;
/* Emits one decoded instruction; EMIT_END: it ended the block with all exits in place.
 * EMIT_REFUSED: vector code in mode 0. */
enum emit_result emit_insn(struct emit *e, const struct build *d, unsigned index);
void emit_link(struct emit *e, u8 cc, u64 target);
void emit_finish(struct emit *e);
void emit_take_back_sti(struct emit *e, unsigned index);

/* ---- stubs.c ---- */
void emit_stubs(struct translator *t);

/* ---- enter.c ---- */
void translate_enter(void); /* assembly: see there */
extern const char translate_leave[], translate_abort[], translate_enter_end[];
void translate_signals(void);
extern __thread struct translator *translate_current;
int translate_kick_signal(void);
