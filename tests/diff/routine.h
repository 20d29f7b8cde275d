/*
 * Routines: trials that are programs. Some 20 to 200 instructions in basic blocks that lie
 * scattered over the three pages of TEXT, with loops, calls, indirect jumps, strings, faults that
 * come when the code has long been running, and stores into code.
 *
 * Whatever is random, a routine ends, and it touches nothing but the window:
 *
 * - Some registers have roles, which no random instruction writes: RSP, two pointers into DATA,
 *   and the counters of the outer and of the inner loop. Memory is addressed relative to RIP or
 *   to a pointer.
 * - Transfers go forward, except the ends of the two loops, which count down and are also left when
 *   the count is not positive.
 * - The stack has its own part of DATA, which no other operand reaches.
 * - What is stored into code are bytes that the place stored to was made for: immediates, and
 *   opcodes with as long instructions (`site`).
 *
 *   routine.c        roles, state, and the plan of a routine
 *   routine_lay.c   bytes, labels, the parts of TEXT
 *   routine_body.c   random instructions, and which forms can be among them
 *   routine_piece.c  short hand-written pieces: transfers, strings, stores into code, faults
 *   routines.c       the program: three ways, and what is printed
 *   routine_shrink.c a failing routine with less in it
 */
#pragma once
#include "diff.h"

#define LABELS_MAX    96u
#define FIXUPS_MAX    256u
#define SITES_MAX     48u
#define PENDING_MAX   48u
#define PARTS	      3u
#define FUNCTIONS_MAX 3u
#define TEXT_DATA     0x1a40u /* in TEXT: data beside code, up to */
#define TEXT_DATA_END 0x2400u

/* ---- routine_body.c ---- */

/* The forms that complete on this processor wherever their operand is aligned, and the integer
 * ones among them. */
struct tame {
	const struct forms *forms;
	u16 *all, *base;
	unsigned all_count, base_count;
};
bool tame_open(struct tame *m, const struct forms *forms, struct host *h);
void tame_close(struct tame *m);

/* ---- routine.c ---- */

struct routine_wish {
	unsigned loops;	   /* iterations of the outer loop; 0: a few */
	bool well_behaved; /* no faults, no stores into code: it ends with its last INT3 */
};

/* The routine of `seed`, with the state of `variant`: all variants have the same code. */
void routine_generate(const struct tame *m, u64 seed, unsigned variant,
	const struct routine_wish *wish, struct trial *t);

/* ---- routine_lay.c ---- */

/* A place in code that may be stored to: `len` bytes, any value or one of a few. */
enum site_kind {
	SITE_ANY,    /* an immediate */
	SITE_ALU,    /* the ModRM byte of 81 /n */
	SITE_JUMP,   /* the opcode of a jump that is a MOV at other times */
	SITE_SINGLE, /* an instruction of one byte */
};
struct site {
	u16 at;
	u8 kind, len, reg;
};

/* A store whose target comes later: its displacement, the end of the instruction, and what it may
 * hit. */
struct pending {
	u16 disp_at, end;
	s16 value_at; /* of its immediate, chosen with the site; -1: stores anything */
	u8 len;
};

struct maker {
	struct rng r;
	struct trial *t;
	const struct tame *tame;
	const struct routine_wish *wish;
	u8 text[TEXT_SIZE];
	u16 at; /* where the next byte goes */
	u16 next[PARTS], end[PARTS];
	unsigned part;
	unsigned count; /* instructions */
	bool full;
	/* roles */
	u8 pointer, counter, inner; /* pointer + 8 is the second one */
	u32 reserved;
	u64 pointer_start;
	bool low_stack;
	/* where transfers may go now */
	unsigned ahead; /* a label */
	unsigned function[FUNCTIONS_MAX], functions,
		callable; /* labels; the first that may be called */
	/* labels */
	u16 label[LABELS_MAX]; /* 0: not yet */
	unsigned labels;
	struct {
		u16 at, label;
	} fixup[FIXUPS_MAX];
	unsigned fixups;
	struct site site[SITES_MAX];
	unsigned sites;
	struct pending pending[PENDING_MAX];
	unsigned pendings;
};

void lay_start(struct maker *m);
void lay_bytes(struct maker *m, const void *bytes, unsigned len);
#define LAY(m, ...)                                \
	do {                                       \
		const u8 lay_[] = { __VA_ARGS__ }; \
		lay_bytes(m, lay_, sizeof(lay_));  \
	} while (0)
void lay_32(struct maker *m, u32 v);
unsigned lay_label(struct maker *m); /* a new one, not placed */
void lay_place(struct maker *m, unsigned label);
void lay_rel32(struct maker *m, unsigned label); /* behind an opcode; ends the instruction */
/* Goes on in another part of TEXT, if there is room. */
void lay_elsewhere(struct maker *m);
/* Resolves what is left and gives the trial its code. */
void lay_end(struct maker *m);

/* REX opcode ModRM between registers; REX opcode ModRM disp32 on a pointer; and on RIP. */
void lay_rr(struct maker *m, bool wide, unsigned opcode, unsigned reg, unsigned rm);
void lay_rm(struct maker *m, bool wide, unsigned opcode, unsigned reg, u64 target);
void lay_constant(struct maker *m, unsigned reg, u32 value); /* mov r32, imm32 */
void lay_address(struct maker *m, unsigned reg, unsigned label);
void lay_site(struct maker *m, unsigned at, enum site_kind kind, unsigned len, unsigned reg);
/* The disp32 of a store into code, behind its ModRM; `more`: bytes of the instruction behind it, of
 * which the last is the value if the store is of one byte. */
void lay_code_disp(struct maker *m, unsigned len, unsigned more, bool chosen);

/* ---- routine_piece.c ---- */

unsigned piece_free_register(struct maker *m);
u64 piece_target(struct maker *m, unsigned size); /* where an operand goes */
void piece_random(struct maker *m);
/* Ends a block towards the label; true: execution may also go on behind it. */
bool piece_transfer(struct maker *m, unsigned label);
void piece_return(struct maker *m);
/* Counts a loop's register down and goes back to the label while it is positive. */
void piece_loop_end(struct maker *m, unsigned reg, unsigned label);
void piece_long_string(struct maker *m); /* wants low_stack */
void piece_fault(struct maker *m);	 /* once, when the outer loop has come to some count */

/* ---- routine_body.c ---- */

void body_instruction(struct maker *m);

/* ---- routine_shrink.c ---- */

/* Do all sides agree? */
typedef bool agree_fn(void *ctx, const struct trial *t);
void routine_shrink(struct trial *t, agree_fn *agrees, void *ctx);
void routine_print(const struct trial *t, FILE *to);
