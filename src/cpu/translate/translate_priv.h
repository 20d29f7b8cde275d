/*
 * Shared by the translator's files.
 *
 * Registers. Guest registers are in the same-numbered host registers except: guest RCX is in host
 * R10 (T_COUNT), and guest R10, R11 and R15, which compilers use least, are in memory (ctx->gpr).
 * Host RCX, R11 (T_ADDR) and R15 (T_AUX) are scratch. RSP is only a value: the host never pushes
 * through it while translated code runs. GS addresses the context. Status flags are the host's;
 * IF, DF and AC, which code changes without leaving, are in slots of the context, and the rest
 * stays in x86_state.rflags.
 *
 * Inserted code changes no flags at all (LEA, PEXT, RORX, JRCXZ), so flags are exact at every
 * instruction boundary and no liveness analysis stands between a fault and the truth.
 *
 * Memory, general form. The linear address goes to T_ADDR; PEXT picks its TLB index into T_AUX; the
 * negated tag plus the address of the operand's last byte has no bits above the page offset exactly
 * on a hit, which checks page, rights and page crossing together:
 *
 *     lea  r11, [address]
 *     pext r15, r11, gs:[index_mask]
 *     mov  rcx, gs:[neg + r15*8]
 *     lea  rcx, [rcx + r11 + size-1]
 *     pext rcx, rcx, gs:[page_mask]
 *     jrcxz hit
 *     jmp  miss
 *   hit:
 *     mov  r15, gs:[add + r15*8]
 *     op   [r15 + r11]
 *
 * Several accesses by one register share a check: emit_run.c.
 *
 * A miss leaves the cache, runs the interpreter's handler for the instruction (which walks, faults,
 * reaches devices), fills the entry and resumes behind the instruction.
 *
 * Memory, window form: see window.h and emit_memory.c. User code of the address space that owns the
 * window runs in blocks of their own (CODE_WINDOW, CODE_LOOSE), where most accesses need no check:
 *
 *     mov  r15, gs:[window_delta + region*8]     once, while the region stays the same
 *     op   [r15 + base + displacement]
 *
 * A page that is not shown makes SIGSEGV, which leaves the cache like a miss; afterwards the page
 * is shown.
 *
 * Fast TLB invariants: an entry implies that the mmu.h entry of the same page would hit too; a
 * write entry further implies that the page is dirty and holds no code, so a store needs no
 * follow-up. mmu_flush() and the claiming of code pages remove entries through hooks.
 *
 * A block is a run of guest code with one entry: it goes on behind conditional branches, which
 * leave it when they are taken, if they lead forwards. What is known about registers (emit.h,
 * Facts) lives as long as the block. One that ends with a branch to its own start has its body
 * twice: the second one relies on what the first has shown, and is where further rounds go.
 *
 * Blocks are keyed by (linear RIP, physical address, space); those of user code by the latter two,
 * since the same code is at another address in each process (itlb.c, Floating code). Exits are
 * - links: direct jumps, patched to the target's code once that exists;
 * - lookups: indirect jumps, through a table per space keyed by RIP.
 * They live as long as the blocks. Those of the lower half, which is another one after each change
 * of CR3, check for themselves whether their page is there when they are entered from other pages
 * (itlb.c); what leads to a page of the upper half is cut when that has changed (upper.c).
 *
 * Attention. Translated code never polls. vcpu_post() sends the thread a signal; the handler points
 * every exit of the block it interrupted at the way out, so one signal is enough wherever it comes.
 *
 * The same code at another address, where that matters, is not made again but moved (rebase.c).
 *
 * 32-bit code is translated where segments do nothing but name rights (emit_flat.c).
 *
 * STAC and CLAC change the space without leaving: they end their block with a link into the other
 * space. C learns of it from ctx->ac when it sees the next exit (leave_state()), and the blocks are
 * right only for the CR4.SMAP they were made under: a change of what is baked into code (BAKED_CR4)
 * drops all of it.
 *
 * Vectors. The guest's vector registers are in x86_state until code needs them: the first vector
 * instruction of a block is preceded by a look whether they are in the host's registers, and a stub
 * that fetches them if not. Once they are, every exit to C saves them first. A link from code that
 * has them skips the look at the start of the next block.
 *
 * x87 and MMX: the same, but that they stay in the host's registers on the way out, and C saves
 * them first thing (x87.c).
 *
 * Threads: context, blocks and the image of the cache belong to the vcpu's thread; what the vcpus
 * of a machine share is in share.h.
 */
#pragma once
#include "cpu/interpret/blocks.h"
#include "cpu/interpret/interp.h"
#include "cpu/translate/asm.h"
#include "cpu/translate/block_map.h"
#include "cpu/translate/check.h"
#include "cpu/translate/kernel_window.h"
#include "cpu/translate/options.h"
#include "cpu/translate/share.h"
#include "cpu/translate/stats.h"
#include "cpu/translate/translate.h"
#include "cpu/translate/window.h"
#include "os/codemem.h"
#include <pthread.h>

#define FAST_ENTRIES 32768u    /* per space and kind: 128 MiB before two pages share an entry */
#define FAST_INVALID BIT64(62) /* as a negated tag: no canonical address cancels it */
/* Jump tables are indexed by bits 2 to 19 of RIP: what is jumped to lies further apart than four
 * bytes, as calls are longer. */
#define JUMP_ENTRIES 262144u
#define JUMP_SHIFT   2u
#define JUMP_LOG     262144u
#define FILL_LOG     32768u
#define ITLB_ENTRIES 32768u
#define ITLB_LOG     4096u

/*
 * What a block was made for: one of mmu.h's spaces, where every access is checked; the same in flat
 * 32-bit code (emit_flat.c); or code with a window: the user's, whose stack is in the high region
 * (as nearly all are) or anywhere; the kernel's, whose stack is in the region where its stacks were
 * seen or anywhere; the kernel's with AC set.
 */
#define CODE_FLAT	  ((unsigned)MMU_SPACES)
#define CODE_WINDOW	  (2u * MMU_SPACES)
#define CODE_LOOSE	  (CODE_WINDOW + 1)
#define CODE_KERNEL	  (CODE_WINDOW + 2)
#define CODE_KERNEL_LOOSE (CODE_WINDOW + 3)
#define CODE_KERNEL_OPEN  (CODE_WINDOW + 4)
#define CODE_SPACES	  (CODE_WINDOW + 5)
static inline bool code_space_window(unsigned code_space) { return code_space >= CODE_WINDOW; }
static inline bool code_space_kernel_window(unsigned code_space)
{
	return code_space >= CODE_KERNEL;
}
static inline enum mmu_space code_space_mmu(unsigned code_space)
{
	if (code_space < CODE_WINDOW)
		return (enum mmu_space)(code_space % MMU_SPACES);
	if (code_space < CODE_KERNEL)
		return MMU_USER;
	return code_space == CODE_KERNEL_OPEN ? MMU_OPEN : MMU_SYSTEM;
}

static inline bool code_space_flat(unsigned code_space)
{
	return code_space >= CODE_FLAT && code_space < CODE_WINDOW;
}
static inline unsigned code_space_bits(unsigned code_space)
{
	return code_space_flat(code_space) ? 32 : 64;
}

/* Code that assumes the same but for the stack. */
static inline unsigned code_space_loose(unsigned code_space)
{
	return code_space == CODE_WINDOW   ? CODE_LOOSE
	       : code_space == CODE_KERNEL ? CODE_KERNEL_LOOSE
					   : code_space;
}

static inline unsigned jump_index(u64 rip)
{
	return (unsigned)(rip >> JUMP_SHIFT) & (JUMP_ENTRIES - 1);
}

/* Regions of both windows, in one numbering; WINDOW_NOWHERE: none. */
#define ALL_REGIONS (WINDOW_REGIONS + KERNEL_REGIONS)

/* The regions of sixteen registers, four bits each. */
#define FACTS_NOWHERE 15u
#define FACTS_NONE    (~0ull)

enum exit_kind {
	EXIT_LINK,
	EXIT_LOOKUP,
	EXIT_OP,
	EXIT_VECTOR,
	EXIT_X87,
	EXIT_PAGE,
	EXIT_ATTENTION
};
#define EXIT_KINDS (EXIT_ATTENTION + 1u)
/* An exit says in one number what it is, of which block, and which link or instruction. */
#define EXIT_CODE(kind, id, arg) ((u32)(kind) << 29 | (u32)(id) << 8 | (u32)(arg))
#define EXIT_KIND(code)		 ((enum exit_kind)((code) >> 29))
#define EXIT_ID(code)		 ((code) >> 8 & 0x1fffffu)
#define EXIT_ARG(code)		 ((code)&0xffu)
#define NO_INSN			 0xffu /* EXIT_LOOKUP from a shared stub, EXIT_PAGE at a block's start */

struct fast_table {
	u64 neg[FAST_ENTRIES]; /* minus the page's linear address */
	u64 add[FAST_ENTRIES]; /* host address of a byte minus its linear address */
};

/* Side by side: a lookup takes one line of the host's cache, which seldom has it. */
struct jump_target {
	u64 neg;  /* minus the RIP */
	u64 code; /* in the running view */
};
struct jump_table {
	struct jump_target targets[JUMP_ENTRIES];
};

/* Of CR4: what code depends on without looking. */
#define BAKED_CR4 (CR4_SMAP | CR4_TSD | CR4_FSGSBASE)
/* Beside them: it counts itself. No bit of CR4. */
#define BAKED_COUNT BIT64(63)

/* What GS addresses. */
struct tctx {
	u64 gpr[16]; /* while code runs, those that have no host register */
	u64 flags;   /* host RFLAGS image, status flags only */
	u64 rip;     /* where to: of a lookup, and what T_ADDR holds on entry */
	u64 host_rsp;
	u64 enter; /* where translate_enter jumps */
	u64 code;  /* where the vector entry jumps */
	u64 leave; /* the way out: leave_plain, or what saves the vectors first */
	u64 leave_plain;
	u64 vector_fetch; /* where code goes for the vectors: to the stub, or out */
	u64 x87_fetch;	  /* the same for the x87 registers */
	u64 state;	  /* struct x86_state */
	u64 save;	  /* a value held across a second memory check */
	u64 index_mask, page_mask;
	u64 fs_base, gs_base; /* the guest's */
	u32 exit_code;
	u32 mxcsr_host;
	u32 vectors_away; /* 0: the guest's vectors are in the host's registers */
	u32 x87_away;	  /* the same of the x87 registers */
	u32 kicked;	  /* a signal came between the last look at attention and translate_enter */
	u64 vif;	  /* the guest's IF, as FLAG_IF or 0 */
	u64 rest;	  /* the guest's RFLAGS but for status flags, IF, DF, AC and RF */
	u64 df;		  /* FLAG_DF or 0 */
	u64 status_mask;
	u64 attention; /* address of vcpu.attention */
	u64 save_rdi;
	u64 save_rax, save_rdx;
	u64 x87_at;    /* what the last x87 instruction with an operand in memory touched */
	u64 aux;       /* what T_AUX is to hold on entry */
	u64 fs_window; /* the guest's FS base in the window; an address that faults if it is not
			  there */
	u64 trap;      /* the host's exception that left the code, plus 1; 0: none did */
	u64 trap_at;   /* if it was a page fault: where */
	u64 window_delta[ALL_REGIONS];
	u64 deltas[WINDOW_DELTAS];	    /* by bits 42 to 49 of an address: see window.h */
	u64 kernel_deltas[KERNEL_PIECES];   /* by bits 39 to 47: see kernel_window.h */
	u64 kernel_piece_mask, kernel_mask; /* these bits; and all from bit 39 */
	u64 gs_window;			    /* as fs_window, for kernel code's GS */
	u64 ac;				    /* FLAG_AC or 0 */
	u64 tsc_offset;
	u64 jump_mask;
	u64 string_delta[2]; /* host minus guest address of the source and destination of a string
			      */
	u64 bit_mask32, bit_mask64; /* of a bit's number, in a word of so many bits */
	u64 proof_addr, false_fact; /* emit_proof.c */
	u64 overwritten;	    /* by the return address of the last indirect call */
	u64 page;		    /* linear address of the page that floating code runs in */
	u64 itlb_mask;
	counter retired;	/* instructions that code has counted itself */
	u64 itlb[ITLB_ENTRIES]; /* see itlb.c */
	struct fast_table fast[MMU_SPACES][2];
	struct jump_table jump[CODE_SPACES];
};

#define SLOT(member) ((u32)offsetof(struct tctx, member))

/*
 * A patchable exit. There are a million of them, found in no order: what they refer to is named by
 * its offset, in the image of the cache, or in the memory of descriptors (a ref; 0: nothing), and
 * each is within one line of the host's cache.
 */
#define LINK_BITS	28u /* of an offset in the image */
#define LINK_AT		(BIT(LINK_BITS) - 1)
#define LINK_UNIT	32u /* bytes that a link's and its owner's addresses are multiples of */
#define OWNER_BACK_BITS 6u
#define OWNER_BACK_MAX	(BIT(OWNER_BACK_BITS) - 1)
struct link {
	u64 target;	     /* guest RIP; of floating code, from the start of its page */
	u32 site;	     /* of the rel32 in the image */
	u32 out : LINK_BITS; /* where it points when not chained, in the image */
	bool vectors : 1;    /* they are in the host's registers when it is taken */
	u32 to;	     /* ref of the block it is or was chained to, and is likely to be again */
	u32 next_in; /* ref of the next link in to->incoming */
	u16 loop;    /* where in the owner's code it leads if the target is the owner; 0: start */
	u8 space;    /* where the target runs */
	/* In a byte that nobody looks at who copies the block (share.h). */
	u8 owner_back : OWNER_BACK_BITS; /* the block it is an exit of is so many units before it */
	bool chained : 1;		 /* it leads to `to` */
};
_Static_assert(sizeof(struct link) == LINK_UNIT, "two in a line of the cache");

/* As it was when it was made, for another owner: chained to nothing. */
static inline struct link link_as_made(const struct link *from)
{
	return (struct link){ .target = from->target,
		.site = from->site,
		.out = from->out,
		.loop = from->loop,
		.space = from->space,
		.vectors = from->vectors };
}

static inline struct tblock *link_owner(struct link *l)
{
	return (struct tblock *)(void *)((u8 *)l - l->owner_back * LINK_UNIT);
}

#define BLOCK_LINKS 16u /* at most ... */
#define BODY_LINKS  8u	/* ... and of its body, which can be there twice (emit_loop) */
#define TBLOCK_OPS  64u
#define BODY_OPS    32u

/* How an instruction reaches memory: what to fill after a miss. */
enum access {
	ACCESS_NONE,
	ACCESS_EA_READ,
	ACCESS_EA_WRITE,
	ACCESS_PUSH,
	ACCESS_POP,
	ACCESS_LEAVE,
	ACCESS_BIT_READ, /* BT and its kin: a register's bits choose the address, too */
	ACCESS_LODS,
	ACCESS_BIT_WRITE,
	ACCESS_STOS,
	ACCESS_MOVS,
};
static inline bool access_writes(u8 access)
{
	return access == ACCESS_PUSH || access == ACCESS_EA_WRITE || access >= ACCESS_BIT_WRITE;
}

struct tinsn {
	u16 host_at;  /* offset of its code in the block */
	u16 guest_at; /* offset of its bytes */
	u16 mnemonic;
	u8 access;
	u8 bytes;	   /* of memory touched */
	u8 op;		   /* index in the block's ops, or NO_OP: decode it again (tblock_op) */
	bool handed : 1;   /* always the interpreter's; else only when its memory check misses */
	unsigned hint : 2; /* enum window_hint: the form it has */
	unsigned sums : 3; /* how many sums the code from here on relies on (emit.h, Facts) */
	/* Its check is that of a run of other accesses, too: of so many bytes in all, from so far
	 * below its own (emit_run.c). 0: of its own only. */
	u8 run_size, run_below;
	u8 rep_at; /* where a string instruction of the window itself is, behind host_at; 0: none */
	u8 behind; /* instructions that the code before this one has counted, and it itself not */
	/* What the code from here on relies on (emit.h, Facts). */
	u8 aux;
	u8 facts; /* which of the block's facts */
};
_Static_assert(sizeof(struct tinsn) == 16, "four in a line of the cache");
#define NO_OP 0xffu
/* As tinsn.aux: a run that was checked as a whole goes on here (emit_run.c). */
#define TINSN_AUX_RUN 0x20u
#define NO_RUNS	      4096u

/* What is looked at when blocks are found and joined is in one line of the host's cache, the first;
 * seldom is it there already. */
#define TBLOCK_ALIGN 64u
struct tblock {
	struct code_unit unit;
	u64 rip;      /* tcache_key() */
	u8 *code;     /* running view */
	u32 incoming; /* ref of the first link that has it as `to` */
	u8 space;     /* see CODE_WINDOW */
	u8 link_count;
	u8 vector_from;	 /* the instruction from which on vectors are in host registers ... */
	bool floats : 1; /* see itlb.c */
	bool cut : 1;	 /* the signal handler pointed the exits outwards */

	struct link *links;
	struct tinsn *insns; /* count + 1: the last only ends the offsets */
	struct op *ops;	     /* of the instructions that leave translated code by themselves */
	/* The region that each guest register lies in, or FACTS_NOWHERE: what instructions name. */
	const u64 *facts;
	const u8 *bytes;	     /* of the guest's code, as they were when it was made */
	const struct relocs *relocs; /* NULL: it is good for its address only */
	u32 id;
	u32 gate_out;  /* where the gate points when cut, in the image */
	u16 gate;      /* offset of the 5-byte NOP before a lookup, or NO_GATE */
	u16 code_size; /* bytes */
	u8 count, op_count, fact_count;
	u8 x87_from; /* as vector_from, of the x87 registers */
};
_Static_assert(offsetof(struct tblock, links) == TBLOCK_ALIGN, "the first line");
#define NO_GATE 0xffffu

/* A block of the lower half begins with a check of its page (itlb.c), which ends with a jump. */
#define ITLB_CHECK 28u
#define ITLB_JUMP  5u
/* Of floating code it is longer: see itlb.c. */
#define FLOAT_CHECK   57u
#define FLOAT_OVER_AT 37u /* in it: by how much it jumps when it passes */
/* Where who is in its page already enters it, behind the check. */
static inline unsigned tblock_entry(const struct tblock *b)
{
	return b->floats ? FLOAT_CHECK : b->rip >> 63 ? 0 : ITLB_CHECK;
}

static inline size_t tblock_insns_size(const struct tblock *b)
{
	return (b->count + 1u) * sizeof(struct tinsn);
}

/* What in a block's code depends on where the code is, or the guest address that it is for, as
 * offsets: see rebase.c. */
struct relocs {
	u16 slots, addresses, outs; /* how many */
	u16 at[];		    /* of these; then, for each exit, its kind and argument */
};
#define RELOCS_MOST 768u
static inline size_t relocs_size(const struct relocs *r)
{
	return sizeof(*r) + (r->slots + r->addresses + 2u * r->outs) * sizeof(r->at[0]);
}

/* The most that all of a block takes but for its code. */
#define INSN_MAX  15u
#define CODE_MOST (BODY_OPS * INSN_MAX)
#define DESCRIPTOR_MAX                                                                        \
	(sizeof(struct tblock) +                                                              \
		(TBLOCK_OPS + 1) * (sizeof(struct tinsn) + sizeof(struct op) + sizeof(u64)) + \
		BLOCK_LINKS * sizeof(struct link) + sizeof(struct relocs) + 2 * RELOCS_MOST + \
		CODE_MOST + 8 * 16 + TBLOCK_ALIGN + sizeof(struct link))

#define NO_VECTORS  0xffu /* no such instruction */
#define VECTOR_LOOK 13u	  /* bytes of code that see to that */

#define CACHE_SIZE  (256 * MiB)
#define CHUNKS_MAX  (CACHE_SIZE / CHUNK_SIZE)
#define TBLOCKS_MAX (CHUNKS_MAX * CHUNK_IDS)
_Static_assert(CACHE_SIZE <= BIT(LINK_BITS), "offsets in the image");
#define TBLOCK_HEAD 4u /* bytes before a block's code: its id */
#define POOL_SIZE   (224 * MiB)

/* What was learnt about an instruction's accesses to the window; also names its form. */
enum window_hint { HINT_GUESS, HINT_LOOKUP, HINT_GENERAL };
#define HINTS	   16384u
#define HINT_PAGES 4096u
#define HINT_LOOSE BIT64(63)
struct hint {
	u64 key; /* the instruction's physical address; HINT_LOOSE: in the kernel's loose blocks */
	u8 hint, misses;
};

/* An entry of the fast TLB that several pages want (settle_dispute). */
#define DISPUTES      64u
#define DISPUTE_LIMIT 64u    /* so many changes of hands ... */
#define DISPUTE_FILLS 16384u /* ... within so many fills */
#define FAST_LOW_BITS 10u    /* of the index are always the lowest of the page number */
#define ADDRESS_BITS  (BIT64(48) - 1)
struct dispute {
	u32 index, count;
	u64 fills;
};

#define CLAIMED 32u

/* Where a page is, as of one look at the guest's tables (retain.c). */
#define LOOKED_UP 256u
struct looked_up {
	u64 look, va;
	bool found;
	struct x86_xlat x;
};
#define KEPT_SPACES 32u

/* How often a store has changed the constant of an instruction, and with it killed its block. */
#define PATCHED 256u
struct patched {
	u64 gpa;
	u8 kills;
};

struct translator {
	struct interp *c;
	struct tctx *ctx;
	struct codemem mem;
	struct shared *shared;
	u64 epoch; /* of `shared`, that all blocks are of */
	u64 life;  /* how often everything was dropped; under the lock of `shared` */
	/* In the chunk at hand blocks grow upwards, their exits downwards, out of the way. */
	size_t used, outs_at, stubs_end, chunk_size;
	u32 next_id, end_id;
	u64 *starts;		      /* a bit for each four bytes of code: a block begins there */
	u64 touched[CHUNKS_MAX / 64]; /* chunks that have blocks in this image */
	const u8 *vector_enter, *vector_enter_end, *vector_leave, *lookup_miss, *exit_stub;
	const u8 *vector_fetch, *x87_fetch, *fetch_end; /* the fetching stubs, side by side */
	u8 *pool;
	size_t pool_used;
	struct block_map blocks;
	struct block_map origins; /* rebase.c */
	struct tblock **by_id;
	u64 itlb_log[ITLB_LOG]; /* pages whose entries were made */
	unsigned itlb_count;
	struct upper_page *upper; /* upper.c */
	unsigned upper_count;
	struct {
		u16 index;
		u8 space, kind;
	} fills[2][FILL_LOG];
	unsigned fill_count[2]; /* by half */
	struct dispute disputes[DISPUTES];
	u64 cr3; /* whose lower half is in the tables */
	struct kept_space *kept;
	unsigned kept_next;
	u64 flush_end, flush_took; /* the last lower_flush(), by the host's TSC */
	bool enter_waits;	   /* what is kept of the present space is still to be put back */
	bool leave_doubtful;	   /* what is put aside next may not be true any more */
	u64 looks;		   /* at the guest's page tables: struct looked_up */
	struct looked_up looked_up[LOOKED_UP];
	struct x86_near looked_near; /* where the last look ended */
	struct {
		u32 index;
		u8 space;
	} jumps[JUMP_LOG]; /* entries that were made */
	unsigned jump_count;
	u32 spaces_begun;	  /* a bit for each space that there has been code of */
	u8 code_space;		  /* of the blocks to run now */
	u64 baked;		  /* CR4's bits that code was made for, and BAKED_COUNT */
	_Atomic bool count_asked; /* code is to have that; by any thread */
	u64 tick;		  /* when the window's clock ticked last, by the host's TSC */
	u64 rest_since, rest_ran; /* rest.c: by the same */
	unsigned halts;
	bool dropped; /* everything was dropped: hold no block pointer */
	struct tblock *cut_block;
	_Atomic bool in_code;
	_Atomic bool kick_sent; /* a kick is under way to the thread */
	_Atomic bool purge;	/* claimed[] is to be seen to before code is entered again */
	pthread_mutex_t claimed_lock;
	const u8 *claimed[CLAIMED]; /* pages that others have claimed code from */
	unsigned claimed_count;	    /* more than CLAIMED: not all of them */
	pthread_t thread;
	bool bound; /* thread and signal stack are set */
	void *signal_stack;
	struct window window;
	struct kernel_window kernel;
	u8 stack_region; /* of the kernel's stacks, or WINDOW_NOWHERE: not known yet */
	u8 stack_seen;	 /* another one was seen at the last stack_votes ticks */
	unsigned stack_votes;
	struct hint *hints;		 /* direct-mapped */
	u64 hint_pages[HINT_PAGES / 64]; /* a bit for each page, hashed: there may be some */
	struct patched patched[PATCHED]; /* direct-mapped */
	u64 no_run[NO_RUNS];  /* instructions whose run crosses pages: by gpa, direct-mapped */
	bool interpret_once;  /* the next block is the interpreter's */
	u64 pending_rip;      /* where the pending exit leads */
	struct link *pending; /* the exit taken, to be chained to what is found next */
	bool pending_jump;    /* the same for a lookup */
	u32 options;	      /* enum translate_option */
	unsigned block_ops;   /* guest instructions a block may have */
	struct translate_stats *stats; /* NULL: nobody asked */
	struct check *check;	       /* the same */
	struct op decoded;	       /* tblock_op's */
	counter exits[EXIT_KINDS];
	u64 blocks_made, copied, rebased, guest_bytes, host_bytes, side_exits, loops, links_made,
		put_back, fast_fills, code_flushes, clears, rests;
};

/* Where code of b that was left a moment ago was running. */
static inline u64 tblock_rip(const struct translator *t, const struct tblock *b)
{
	return b->floats ? t->ctx->page + b->rip : b->rip;
}
static inline u64 link_target(
	const struct translator *t, const struct tblock *owner, const struct link *l)
{
	return owner->floats ? t->ctx->page + l->target : l->target;
}

/* ---- names of what is in the memory of descriptors ---- */

#define POOL_START TBLOCK_ALIGN /* no descriptor has ref 0 */
_Static_assert(POOL_SIZE <= UINT32_MAX, "refs have 32 bits");

static inline u32 pool_ref(const struct translator *t, const void *p)
{
	return (u32)((const u8 *)p - t->pool);
}
static inline struct tblock *tblock_at(const struct translator *t, u32 ref)
{
	return ref ? (struct tblock *)(void *)(t->pool + ref) : NULL;
}
static inline struct link *link_at(const struct translator *t, u32 ref)
{
	return ref ? (struct link *)(void *)(t->pool + ref) : NULL;
}
/* Where it jumps now, in the writable view. */
static inline void link_point(const struct translator *t, const struct link *l, u32 to)
{
	asm_patch(t->mem.rw + l->site, t->mem.rw + to);
}

/* ---- block.c ---- */
/* Makes the block at the current RIP, whose bytes are at src; NULL: *interpret is set, or a fault
 * is prepared. */
/* The page is claimed, and tblock_room() was called since everything was dropped last. */
struct tblock *tblock_make(struct translator *t, const struct code_bytes *src, bool *interpret);
/* Sees that there is room for a block, if all must be dropped for it. */
void tblock_room(struct translator *t);
/* Puts something into the memory of descriptors. */
void *tblock_pooled(struct translator *t, const void *from, size_t size);
/* Where the next block goes, in that memory: put there by tblock_pooled(), or grown in place. */
struct tblock *tblock_place(struct translator *t);
/* Gives a block that is in its place its exits. */
void tblock_add_links(
	struct translator *t, struct tblock *b, const struct link *from, unsigned count);
/* A decoded instruction of the block; valid until the next call. */
const struct op *tblock_op(struct translator *t, const struct tblock *b, unsigned index);
/* The instruction whose code is at pc. */
unsigned tblock_insn_at(const struct tblock *b, const u8 *pc);

/* Its code and exits are in their places: it is found from now on. */
void tblock_commit(struct translator *t, struct tblock *b, size_t outs_before);

/* ---- rebase.c ---- */
/* The block for the code at hand, made from one of the same code at another address, or NULL. */
struct tblock *rebase_find(struct translator *t, u64 gpa);
/* b may be that one. */
void rebase_offer(struct translator *t, struct tblock *b);
/* Something was learnt about its code. */
void rebase_forget(struct translator *t, const struct tblock *b);
void rebase_dropped(struct translator *t);

/* ---- cache.c ---- */
int tcache_open(struct translator *t, struct err *err);
void tcache_close(struct translator *t);
void tcache_clear(struct translator *t);
/* The block at the current RIP and modes; NULL with a fault prepared, or *interpret set. */
struct tblock *tcache_find(struct translator *t, bool *interpret);
/* A block that was made or copied is to be found from now on. */
void tcache_add(struct translator *t, struct tblock *b);
/* All of its exits lead out, whatever was patched into them. */
void tcache_unpatch(struct translator *t, const struct tblock *b);
/* Its lookup is reached. */
void tcache_open_gate(const struct translator *t, const struct tblock *b);
bool tcache_has(struct translator *t, const struct tblock *b, u64 at);
/* Does code of this space that runs at rip float? And what is a block of it known by, beside its
 * physical address and its space: where it runs, or if it floats where in its page. */
bool tcache_floats(const struct translator *t, unsigned code_space, u64 rip);
u64 tcache_key(const struct translator *t, unsigned code_space, u64 rip);
void tcache_link(struct translator *t, struct link *l, struct tblock *to);
void tcache_jump(struct translator *t, struct tblock *to);
void tcache_unlink_out(struct translator *t, struct tblock *b);
/* Nothing leads to it any more. */
void tcache_detach(struct translator *t, struct tblock *b);
struct tblock *tcache_by_code(const struct translator *t, const u8 *pc);
void tcache_flushed(void *translator, enum x86_flush kind, u64 at, unsigned pcid);
void tcache_switched(void *translator);
void tcache_purge(struct translator *t);
void tcache_claimed(void *translator, const u8 *host_page);
void tcache_dropped(void *translator);
void tcache_kill(struct translator *t, struct tblock *b);
void tcache_killed(void *translator, struct code_unit *u); /* the code map's kill */
void tcache_fill(struct translator *t, u64 at, unsigned size, bool write);
/* Of the fast TLB's entry for an address: as PEXT in the code has it. */
unsigned tcache_fast_index(const struct translator *t, u64 at);

#define EMIT_MAX 16384u /* bytes of host code no block exceeds */

/* All of it, and its memory goes back to the host. */
void tcache_forget(struct translator *t);

/* ---- count.c ---- */
/* Any thread, as struct cpu_engine has it. */
void count_switch(struct vcpu *v, bool on);
bool count_wanted(const struct translator *t);
/* Any thread: what was counted. */
u64 count_all(const struct translator *t);
/* An instruction that C executes for code: is it to be counted? */
bool count_is_ours(const struct translator *t, const struct tinsn *in);
void count_take_back(struct translator *t, unsigned instructions);

/* ---- rest.c ---- */
/* The processor halts; it has run since `entered`, by the host's TSC. */
void rest_halted(struct translator *t, u64 entered);

/* ---- emit_run.c ---- */
/* Instruction `in`, which a run begins with, was the interpreter's and has touched `at`: may the
 * rest of the run go on? Sets ctx->aux. */
bool run_resume(struct translator *t, struct tblock *b, const struct tinsn *in, u64 at);

/* ---- emit_patched.c ---- */
void patched_note(struct translator *t, const struct tblock *b);

/* ---- retain.c ---- */
int retain_open(struct translator *t);
void retain_close(struct translator *t);
/* Another CR3 is about to be used: puts aside what the tables hold of the present one ... */
void retain_leave(struct translator *t);
/* ... and, once they are empty, puts back what there is of the new one, or rather does so when it
 * is about to be used. */
void retain_enter(struct translator *t);
void retain_enter_now(struct translator *t);
/* All that is kept. */
void retain_forget(struct translator *t);
/* Something was flushed, or all of one PCID's: what is kept is to be looked up before it is put
 * back. */
void retain_doubt(struct translator *t);
void retain_doubt_pcid(struct translator *t, unsigned pcid);
/* The guest's tables may have changed since the last look at them. */
void retain_look_again(struct translator *t);
/* Would the processor, at this moment, fetch the code of this page for this linear one? */
bool retain_page_leads_to(struct translator *t, u64 va, u64 gpa, bool user);
/* What may store to a page (NULL: to any) without a check. */
void retain_forget_stores(struct translator *t, const u8 *host_page);
void retain_each(const struct translator *t,
	void (*page)(void *ctx, u64 va, const u8 *host, bool writable), void *ctx);

/* ---- itlb.c ---- */
struct itlb_entry {
	u64 va, tag;
};
/* b was found just now: its pages are where it was made from. */
void itlb_fill(struct translator *t, const struct tblock *b);
void itlb_drop(struct translator *t);
void itlb_drop_page(struct translator *t, u64 at); /* in the lower half */
/* Drops what is not true after a flush: retain_look_again() was called. */
void itlb_flush(struct translator *t);
/* Puts aside the most recent entries; how many. */
unsigned itlb_keep(const struct translator *t, struct itlb_entry *to, unsigned most);
/* Puts back those; doubtful: what is still true of them. */
void itlb_put_back(
	struct translator *t, const struct itlb_entry *from, unsigned count, bool doubtful);
/* Writes b's check for where b is and what it is for, but for its jump. */
void itlb_recheck(const struct translator *t, const struct tblock *b);
/* The check of b, which floats, fails from now on, whoever still leads to it. */
void itlb_shut(const struct translator *t, const struct tblock *b);
/* For checks: is there an entry for the page? */
bool itlb_has(const struct translator *t, u64 va);

/* ---- upper.c ---- */
int upper_open(struct translator *t);
void upper_close(struct translator *t);
/* A block was found in this page just now. */
void upper_note(struct translator *t, u64 va, u64 page, bool user);
void upper_flush(struct translator *t);
void upper_flush_page(struct translator *t, u64 at);
/* All blocks are gone. */
void upper_forget(struct translator *t);

/* ---- kernel_window_use.c ---- */
void kernel_window_use(struct translator *t);
void kernel_window_enter(struct translator *t);
u8 kernel_window_code_space(const struct translator *t);
/* The region of either window, as code of this space reaches the address. */
unsigned window_region_at(const struct translator *t, unsigned code_space, u64 at);
/* The region that RSP lies in wherever code of this space begins, or WINDOW_NOWHERE. */
unsigned window_stack_region(const struct translator *t, unsigned code_space);
/* An address that code is about to be made for: its piece gets a region, if it is memory. */
void kernel_window_expect(struct translator *t, u64 at);
bool kernel_window_reveal(struct translator *t, u64 at, bool write);
void kernel_window_flushed(struct translator *t, enum x86_flush kind, u64 at);
void kernel_window_switched(struct translator *t);
void kernel_window_clock(struct translator *t);
/* To the context: which pieces have regions. */
void kernel_window_tell(struct translator *t);

/* ---- window_use.c ---- */
int window_use(struct translator *t, struct err *err);
void window_unuse(struct translator *t);
/* The code space that fits the state at hand: with the window, if that may be used. */
u8 window_code_space(const struct translator *t);
/* Before code of the window is entered. */
void window_enter(struct translator *t);
/* Instruction `index` of b trapped and the interpreter has executed it, touching `at`: true if the
 * page is shown from now on. */
bool window_missed(struct translator *t, struct tblock *b, unsigned index, u64 at, bool write);
/* The instruction that missed the window faults: the kernel will mend that ... */
void window_faulted(struct translator *t);
/* ... and the owner's code goes on: the page is shown before it is missed again. */
void window_returned(struct translator *t);
/* May code of b that relies on next->facts be entered? Sets ctx->aux. */
bool window_resume(struct translator *t, const struct tblock *b, const struct tinsn *next);
u8 window_hint_of(const struct translator *t, unsigned code_space, u64 gpa);
void window_flushed(struct translator *t, enum x86_flush kind, u64 at, unsigned pcid);
/* From time to time while guest code runs. */
void window_clock(struct translator *t);

/* ---- emit_flat.c ---- */
/* Is the code at hand of a kind that is translated at all? */
bool emit_translatable(const struct interp *c);

/* ---- x87.c ---- */
/* Can x87 instructions run as themselves, on this host and with these options? */
bool x87_usable(const struct translator *t);
/* May they run now? What is not allowed faults in the interpreter. */
bool x87_allowed(const struct translator *t);
/* From the state to the host's registers, and back: if they hold the guest's, which they do no
 * longer then. */
void x87_put(struct translator *t);
void x87_take(struct translator *t);

/* ---- stubs.c ---- */
void emit_stubs(struct translator *t);

/* ---- enter.c ---- */
void translate_enter(void); /* assembly: see there */
extern const char translate_leave[], translate_abort[], translate_enter_end[];
void translate_signals(void);
int translate_kick_signal(void); /* its number: tests count where it comes */
extern __thread struct translator *translate_current;
/* Any thread: kicks t's, which is bound and leaves translated code soon. */
void translate_signal(struct translator *t);
