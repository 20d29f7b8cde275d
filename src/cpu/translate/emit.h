/*
 * Shared by the emitters: the block being written, what is known while it is, and the pieces that
 * instructions are made of. translate_priv.h has the theory.
 *
 * Facts. In a window block (window.h) the emitter keeps, for each instruction boundary, which guest
 * registers are known to lie in which region, and what the scratch register T_AUX holds. Whoever
 * enters a block in the middle (run_blocks(), behind an instruction that the interpreter executed)
 * checks the facts recorded there, or does not enter it where sums are among them.
 *
 * The guest's stack pointer is known to lie in the region of stacks at the start of every window
 * block that is not loose (window_stack_region()), give or take STACK_SLOP; so whoever goes there
 * has proven it, by a successful access near RSP or by a check, or goes to a loose block instead.
 */
#pragma once
#include "cpu/translate/recode.h"
#include "cpu/translate/translate_priv.h"

/* Homes and scratch: see translate_priv.h. */
#define T_COUNT	 ASM_R10
#define T_ADDR	 ASM_R11
#define T_AUX	 ASM_R15
#define HOMELESS (BIT(R10) | BIT(R11) | BIT(R15))

#define STACK_SLOP BIT64(20)
#define FACT_REACH BIT64(30) /* farther from a checked value than this: check again */
#define SLOP_LOST  BIT64(40)

/* What T_AUX holds: nothing, a region's delta, or the delta of a guest register's region; or, in
 * the general form, what leads from linear addresses of a run's page to the host's (emit_run.c). */
#define AUX_NONE      0xffu
#define AUX_OF(reg)   (0x10u + (reg))
#define AUX_RUN	      TINSN_AUX_RUN
#define AUX_IS_REG(a) ((a) >= 0x10u && (a) < 0x20u)
#define AUX_REG(a)    ((a)-0x10u)

/*
 * base + (index << shift) was seen to lie in a region: by a check of that sum, or since what was
 * added to it was accessed. So the elements of an array need no check of their own while the index
 * counts, and what an index of any size would do is never asked.
 */
struct fact_sum {
	u8 base, index, shift; /* base: REG_NONE if there is none */
	u8 region;
	u64 drift; /* at most so far from where it was */
};
#define FACT_SUMS 4u

/* Accesses that share a check, all by one register: see emit_run.c. Offsets are from what the
 * register held at the check. */
struct fact_run {
	u8 base;
	bool write, wide;     /* wide: the lowest offset has 32 bits */
	u8 first, last;	      /* the instructions with the check, and with the last access so far */
	s64 moved;	      /* what was added to the register since then */
	s64 low, end;	      /* what is checked: [low, end) */
	s64 first_at;	      /* where the first access is */
	u8 *low_at, *size_at; /* where in the check they are */
};

struct facts {
	u8 region[X86_GPRS]; /* WINDOW_NOWHERE: nothing is known */
	u64 drift[X86_GPRS]; /* at most so far from the value that was checked */
	u8 aux;
	u64 aux_drift; /* of its register since then */
	u8 stack; /* the region that RSP is checked for: where stacks are, but in a loose block */
	u64 slop; /* RSP's distance from that region, at most */
	struct fact_sum sums[FACT_SUMS];
	unsigned sum_count;
	struct fact_run run; /* with AUX_RUN */
	u32 narrow; /* guest registers whose value is one of 32 bits, extended either way */
	u32 known;  /* guest registers whose present value is in value[]: for guesses only */
	u64 value[X86_GPRS];
};

#define NO_LINK	      (~0u)
#define OUTS_MAX      (6u * TBLOCK_OPS)
#define OUT_SIZE      10u /* bytes of an exit's stub ... */
#define LONG_OUT_SIZE 18u /* ... and of one of a lookup, or that fetches registers */

/* An exit: the jump's rel32, and EXIT_CODE(). */
struct out {
	u8 *site;
	u32 code;
};

struct emit {
	struct translator *t;
	struct asm_buf a;
	struct tblock *b;
	const u8 *start;    /* writable view */
	const u8 *host;	    /* of the block's first byte in guest memory */
	const u8 *bytes;    /* of the instruction being emitted, as they were read ... */
	const u8 *code_end; /* ... and of those behind it, as far as the page goes */
	const struct build *d;
	unsigned
		word; /* bytes of an address, and of what goes to the stack: 8, or 4 in flat code */
	unsigned index; /* of the instruction */
	bool traps;	/* it is handed over by a trap */
	u64 rip;	/* its address ... */
	u64 start_rip;	/* ... and the block's, now */
	u64 gpa;	/* its guest-physical address, if it lies in the block's first page */
	u8 hint;	/* enum window_hint */
	struct facts f;
	struct out outs[OUTS_MAX];
	unsigned out_count;
	struct asm_places slots, addresses; /* in the code: see rebase.c */
	bool fixed;			/* some other part of it depends on the block's address */
	struct link links[BLOCK_LINKS]; /* to be the block's */
	unsigned link_count;
	unsigned body_links; /* where those of the present body begin */
	unsigned back;	     /* the one that leads to the block's start, or NO_LINK */
	unsigned piece;	     /* the instruction that the present piece begins with (count.c) ... */
	u8 *piece_count;     /* ... and where their number is in its code, or NULL */
	u8 *sti_at;	     /* where the last STI began, to take it back */
	unsigned sti_outs;
};

static inline struct asm_buf asm_buf_for(const struct translator *t, u8 *at, size_t size)
{
	return (struct asm_buf){
		.at = at, .end = at + size, .slots = (u8 *)t->ctx - t->mem.rx + t->mem.rw
	};
}

enum emit_result { EMIT_NEXT, EMIT_STI, EMIT_END };

/* ---- count.c ---- */
/* Around the code of a piece: of the instructions from `index` on, and before `index`. */
void count_piece_begins(struct emit *e, unsigned index);
void count_piece_ends(struct emit *e, unsigned index);

/* ---- emit.c ---- */
/* Emits one decoded instruction; EMIT_END: it ended the block with all exits in place. */
enum emit_result emit_insn(struct emit *e);
/* The exits' stubs. */
void emit_outs(struct translator *t, struct tblock *b, struct link *links, const struct out *outs,
	unsigned count);
/* A register gets a value. near_rip: it is a guest address, or one in the window, that is as far
 * from RIP wherever the block is. */
void emit_constant(struct emit *e, unsigned reg, u64 value, bool near_rip);
/* An integer instruction that behaves the same when copied? */
bool emit_copyable(ZydisMnemonic m);
/* A jump (cc 0xff: always) to an exit stub. */
void emit_out(struct emit *e, u8 cc, u32 code);
void emit_link(struct emit *e, u8 cc, u64 target);
void emit_link_to_space(struct emit *e, u64 target, unsigned code_space);
enum emit_result emit_hand_over(struct emit *e);
/* The kernel's spaces run at CPL 0 here: CPL 1 and 2 are interpreted. */
bool emit_kernel(const struct emit *e);
static inline bool emit_window(const struct emit *e) { return code_space_window(e->b->space); }
static inline bool emit_kernel_window(const struct emit *e)
{
	return code_space_kernel_window(e->b->space);
}

/* A guest address near RIP to a register. False: it is too far. */
bool emit_near(struct emit *e, unsigned reg, u64 at);
/* How far a guest address is from the start of the block's page, which floating code knows. */
static inline u64 emit_from_page(const struct emit *e, u64 at)
{
	return at - (e->start_rip & ~PAGE_MASK);
}
static inline bool emit_in_page(const struct emit *e, u64 at)
{
	return emit_from_page(e, at) < PAGE_SIZE;
}
/* To take back what was emitted. */
struct emit_mark {
	u8 *at;
	unsigned outs, links;
	struct facts f;
};
static inline struct emit_mark emit_mark(const struct emit *e)
{
	return (struct emit_mark){ e->a.at, e->out_count, e->link_count, e->f };
}
static inline void emit_cut(struct emit *e, u8 *at)
{
	e->a.at = at;
	asm_forget(&e->slots, at);
	asm_forget(&e->addresses, at);
}
static inline void emit_back(struct emit *e, const struct emit_mark *m)
{
	emit_cut(e, m->at);
	e->out_count = m->outs;
	e->link_count = m->links;
	e->f = m->f;
}

/* ---- itlb.c ---- */
/* Goes on if the linear page is the physical one, as far as code is concerned; else leaves the
 * block with this argument. Clobbers RCX and T_AUX. Nothing, of the upper half. */
void emit_itlb_check(struct emit *e, u64 va, u64 gpa, unsigned arg);

/* ---- emit_regs.c: guest registers in host registers ---- */
struct use {
	u32 read, written; /* explicit guest general registers */
	bool count;	   /* CL is the shift count */
	bool high;	   /* names AH, BH or DH */
	bool ch;	   /* names CH: nowhere */
	bool index_out;	   /* PCMPxSTRI: the result is in RCX */
	bool other;	   /* names something that is not a general or vector register */
};
struct use use_of(const struct build *d);
struct places places_home(void);
/* Gives every homeless register in `want` one of the free host registers. */
bool places_assign(struct places *p, u32 want, u32 free_hosts);
void places_load(struct emit *e, const struct places *p, u32 set);
void places_store(struct emit *e, const struct places *p, u32 set);
enum emit_result emit_registers(struct emit *e);

/* ---- emit_flat.c: 32-bit code ---- */
/* Does the instruction do the same in 64-bit code, with the operands that it has here? */
bool emit_flat_fits(const struct emit *e);
/* In either kind of code: moves of a word, and sums of one. */
static inline void emit_word(struct emit *e, u8 opcode, unsigned reg, const struct host_operand *m)
{
	if (e->word == 8)
		asm_mem(&e->a, opcode, reg, m);
	else
		asm_mem32(&e->a, opcode, reg, m);
}
static inline void emit_lea_word(struct emit *e, unsigned reg, unsigned base, s32 disp)
{
	asm_lea_sized(&e->a, reg, base, ASM_NONE, 0, disp, e->word == 8);
}
/* The address of code `by` bytes from `at`. */
static inline u64 emit_code_at(const struct emit *e, u64 at, u64 by)
{
	return e->word == 8 ? at + by : (u32)(at + by);
}

/* ---- emit_rcx.c: what needs guest RCX in host RCX ---- */
enum emit_result emit_in_rcx(struct emit *e, bool written);
enum emit_result emit_cmpxchg_wide(struct emit *e);

/* ---- emit_patched.c: constants in code that is patched ---- */
bool emit_patched(struct emit *e);

/* ---- emit_bits.c: bit strings ---- */
bool is_bit_string(const struct build *d);
enum emit_result emit_bit_string(struct emit *e);

/* ---- emit_memory.c: memory operands ---- */
/*
 * Makes the access possible, or leaves the block: afterwards *out is the operand in host code.
 * Clobbers RCX and T_AUX, T_ADDR; *free_hosts says which of them are free now. False: registers
 * do not suffice, take back what was emitted.
 */
bool emit_operand(struct emit *e, const struct op *op, unsigned size, bool write,
	struct host_operand *out, u32 *free_hosts);
/* The same for [guest RSP + disp]. */
void emit_stack_operand(
	struct emit *e, s32 disp, unsigned size, bool write, struct host_operand *out);
/* The linear address to T_ADDR. */
bool emit_address(struct emit *e, const struct op *op);
/* The general form: checks the access at T_ADDR; [T_AUX + T_ADDR] is the operand. Returns where in
 * the code size-1 is. */
u8 *emit_check(struct emit *e, unsigned size, bool write);
/* T_AUX: the window's delta for the value in a host register, or one that makes it trap. Clobbers
 * RCX. */
void emit_look_up_delta(struct emit *e, unsigned host);
enum emit_result emit_memory(struct emit *e, const ZydisDecodedOperand *mem);
enum emit_result emit_lea(struct emit *e);
/* ---- emit_run.c: accesses that share a check ---- */
/* [reg + disp] in the general form. False: it is no member of a run, and needs a check of its own.
 * Clobbers RCX and T_ADDR, and T_AUX unless a run goes on. */
bool run_operand(struct emit *e, unsigned reg, s64 disp, unsigned size, bool write,
	struct host_operand *out);
/* Behind an instruction: does the run go on? */
void run_after(struct emit *e, bool handed);
/* jrcxz over a jump out: goes on when RCX is 0. */
void emit_out_unless_rcx_zero(struct emit *e);
static inline u32 fast_slot(const struct emit *e, bool write)
{
	return SLOT(fast) +
	       (u32)((code_space_mmu(e->b->space) * 2 + write) * sizeof(struct fast_table));
}

/* ---- emit_facts.c: what is known in a window block ---- */
void facts_start(struct emit *e);
/* Does the instruction write the register, or a part of it? */
bool facts_writes(const struct build *d, unsigned reg);
/* Does the instruction add a constant to the register, and is that all that it does to it? */
bool facts_adds(const struct build *d, unsigned reg, s64 *by);
/* After an instruction: what it wrote is no longer known. */
void facts_after(struct emit *e, bool handed);
u64 facts_record(struct emit *e, struct tinsn *next);
/* The operand's address if the registers have known values. */
bool facts_guess(const struct emit *e, const struct op *op, u64 *at);
/* Where code goes on behind this block: that which relies on where RSP is if this has been proven,
 * else a loose one. */
unsigned facts_next_space(const struct emit *e);
/* Where a loop's body begins again: keeps of `head`, which holds before a round, what holds after
 * it too. False: something was dropped. */
bool facts_meet(struct facts *head, const struct facts *end);
/* [reg + disp] is accessed through the window. */
void facts_base_touched(struct emit *e, unsigned reg, s64 disp);
/* What is known of the operand's base and index; NULL: nothing. */
struct fact_sum *facts_sum(struct facts *f, const struct op *op);
/* The operand, whose fact this is (NULL: none yet), was checked to lie in the region, or is
 * accessed there. */
void facts_sum_touched(
	struct emit *e, const struct op *op, struct fact_sum *known, unsigned region);
/* emit_proof.c: the value in `host` is believed to lie in the region, or close by. */
void emit_proof(struct emit *e, unsigned host, unsigned region);
/* Before the block is left: a check of where RSP is, if it is likely to be where stacks are. */
void facts_settle_stack(struct emit *e);
/* RSP is about to be checked: what for? */
void facts_guess_stack(struct emit *e);
static inline bool facts_narrow(const struct emit *e, unsigned reg)
{
	return e->f.narrow & BIT(reg);
}
/* The stack pointer was accessed at [RSP + disp]: it is in its region. */
void facts_stack_touched(struct emit *e, s32 disp);
/* RCX: zero exactly if the value in the host register is in the region (but for bits 50 to 63,
 * which trap). */
void emit_region_bits(struct emit *e, unsigned host, unsigned region);
/* Leaves by a trap unless they do. Clobbers RCX. */
void emit_region_check(struct emit *e, unsigned host, unsigned region);

/* ---- emit_stack.c, emit_transfer.c, emit_string.c, emit_system.c ---- */
enum emit_result emit_push(struct emit *e);
enum emit_result emit_pop(struct emit *e);
enum emit_result emit_leave(struct emit *e);
void emit_push_next(struct emit *e, u64 next); /* where a call returns to */
void emit_push_return(struct emit *e, u64 next);
void emit_push_saved(struct emit *e); /* ctx->save */
void emit_move_rsp(struct emit *e, s32 by);
enum emit_result emit_transfer(struct emit *e);
enum emit_result emit_count_branch(struct emit *e);
enum emit_result emit_string(struct emit *e);
enum string_kind { STRING_MOVS, STRING_STOS, STRING_LODS, STRING_OTHER };
enum string_kind emit_string_kind(const struct op *op); /* of a string instruction */
enum emit_result emit_cli(struct emit *e);
enum emit_result emit_sti(struct emit *e);
void emit_take_back_sti(struct emit *e, unsigned index);
enum emit_result emit_pushf(struct emit *e);
enum emit_result emit_popf(struct emit *e);
enum emit_result emit_swapgs(struct emit *e);
enum emit_result emit_direction(struct emit *e, bool down);
enum emit_result emit_user_access(struct emit *e, bool open); /* STAC, CLAC */
enum emit_result emit_rdtsc(struct emit *e);
enum emit_result emit_from_segment(struct emit *e);
enum emit_result emit_segment_base(struct emit *e);
