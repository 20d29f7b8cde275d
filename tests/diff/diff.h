/*
 * Differential tests: the same user-mode instructions, from the same state, on this host's
 * processor and in an engine.
 *
 * A `struct trial` is a complete starting point: registers, vector and x87 state, the seed that
 * fills the window's memory, and a few instructions. Running it gives a `struct outcome`: the same
 * things afterwards, and the exception that ended it. There always is one: code is surrounded by
 * INT3, and most trials set TF, so that exactly one instruction runs wherever it goes.
 *
 * The window is a range of low addresses that exists in both worlds:
 *
 *     CODE   2 pages, read and execute: all INT3 except the trial's instructions
 *     DATA   2 pages, read and write
 *     RODATA 1 page, read only, right behind DATA
 *
 *     TEXT   3 pages, read, write and execute: where routines are (routine.h)
 *
 * with nothing mapped around CODE, DATA..RODATA and TEXT. It lies below 4 GiB so that 32-bit code
 * reaches it.
 *
 *   forms.c     every instruction form there is, found by decoding the opcode maps
 *   generate.c  a trial from a seed            values.c  interesting numbers
 *   native.c    the processor                  guest.c   an engine's vcpu with the same window
 *   compare.c   what must be equal             rules.c   what is left out or undefined, and why
 *   cases.c     trials as text                 shrink.c  a failing trial with less noise
 *   diff.c      the program
 *   routine*.c  whole programs, three ways: routine.h
 *   interrupts.c asynchronous interrupts into them; kicks.c where they hit
 */
#pragma once
#include "base/bits.h"
#include "x86/state.h"
#include <Zydis/Zydis.h>
#include <stdio.h>

#define CODE_AT	    0x10000000u
#define CODE_PAGES  2u
#define CODE_SIZE   (CODE_PAGES * PAGE_SIZE)
#define DATA_AT	    0x10010000u
#define DATA_PAGES  3u /* the last one is read-only */
#define DATA_SIZE   (DATA_PAGES * PAGE_SIZE)
#define DATA_RW	    (DATA_SIZE - PAGE_SIZE)
#define TEXT_AT	    0x10020000u
#define TEXT_PAGES  3u
#define TEXT_SIZE   (TEXT_PAGES * PAGE_SIZE)
#define CODE_MAX    64u /* bytes of a trial in CODE */
#define PATCHES_MAX 2u
#define PATCH_MAX   64u

/* Linux's user-mode selectors (arch/x86/include/asm/segment.h); the guest's GDT is laid out the
 * same. */
#define USER32_CS 0x23u
#define USER_DS	  0x2bu
#define USER64_CS 0x33u

struct regs {
	u64 gpr[X86_GPRS];
	u64 rip, rflags;
	u64 fs_base, gs_base;
	u16 cs, ss, ds, es, fs, gs; /* outcomes only */
	struct x86_fpu fpu;
};

/* Bytes of DATA that are not what memory_seed makes them. */
struct patch {
	u16 at;
	u8 len;
	u8 bytes[PATCH_MAX];
};

struct trial {
	u64 seed; /* it came from; 0 for a stored case */
	u64 memory_seed;
	u8 bits;   /* 64 or 32 */
	bool text; /* a routine: its code lies in TEXT */
	u16 count; /* instructions */
	u16 len;   /* bytes of code */
	u16 at;	   /* of the code, in CODE or TEXT */
	struct patch patch[PATCHES_MAX];
	struct regs in;
	u8 code[TEXT_SIZE]; /* last: only `len` bytes mean anything */
};

static inline u64 trial_base(const struct trial *t) { return t->text ? TEXT_AT : CODE_AT; }
static inline unsigned trial_room(const struct trial *t) { return t->text ? TEXT_SIZE : CODE_SIZE; }

struct outcome {
	struct regs regs;
	u32 vector;
	u32 error;    /* 0 where the exception has none */
	u64 cr2;      /* of a page fault, else 0 */
	bool stopped; /* false: it never ended, and nothing else here means anything */
	u8 memory[DATA_SIZE];
	u8 text[TEXT_SIZE]; /* of routines only */
};

/* ---- values.c ---- */

struct rng {
	u64 s;
};
u64 rng_next(struct rng *r);
/* 0..n-1 */
unsigned rng_below(struct rng *r, unsigned n);
/* True once in n. */
bool rng_one_in(struct rng *r, unsigned n);
u64 rng_value(struct rng *r); /* an interesting integer */
void rng_vector(struct rng *r, u8 *out,
	unsigned len); /* interesting vector elements; len a multiple of 8 */
void rng_fpu(struct rng *r, struct x86_fpu *f);
/* Clears the registers that this host does not have: stored cases come from others. */
void fpu_clip(struct x86_fpu *f);
void memory_fill_seed(const struct trial *t, u8 memory[DATA_SIZE]);

/* ---- forms.c ---- */

enum form_kind { FORM_LEGACY, FORM_VEX, FORM_EVEX };
enum form_mask { MASK_NEVER, MASK_OPTIONAL, MASK_ALWAYS };

#define FORM_ANY 0xff

/* One instruction encoding with its free fields left open. */
struct form {
	u16 mnemonic;
	u8 kind; /* enum form_kind */
	u8 map;	 /* 0: one-byte, 1: 0F, 2: 0F38, 3: 0F3A */
	u8 opcode;
	u8 pp;	      /* as VEX.pp: 0 none, 1 66, 2 F3, 3 F2 */
	u8 l;	      /* VEX.L, EVEX.L'L */
	u8 reg, rm;   /* ModRM fields that select the instruction, or FORM_ANY */
	u8 mask;      /* enum form_mask: EVEX.aaa */
	bool w, b;    /* REX, VEX or EVEX.W; EVEX.b */
	bool zeroing; /* EVEX.z is allowed */
	bool vvvv;    /* VEX.vvvv names a register */
	bool modrm, memory;
	bool vsib; /* memory is addressed by a vector of indices */
};

struct forms {
	struct form *list; /* sorted by mnemonic */
	u32 *hits;	   /* how often each was generated */
	unsigned count;
	u32 first[ZYDIS_MNEMONIC_MAX_VALUE + 2]; /* of each mnemonic in list */
	u16 present[ZYDIS_MNEMONIC_MAX_VALUE + 1];
	unsigned present_count; /* mnemonics that have forms and are not excluded */
};

struct forms *forms_new(unsigned bits);
void forms_free(struct forms *f);
/* Every byte of an instruction, open fields random; `near`: memory is addressed without registers.
 * Returns bytes, of which the instruction is a prefix. */
unsigned form_encode(const struct form *f, unsigned bits, struct rng *r, bool near, u8 out[40]);

/* Decodes as the CPU model of this host does: CET, MPX and CLDEMOTE as the NOPs they are carved
 * from. */
ZyanStatus decode_status(unsigned bits, const u8 *code, unsigned len, ZydisDecodedInstruction *insn,
	ZydisDecodedOperand *operands);
bool decode_one(unsigned bits, const u8 *code, unsigned len, ZydisDecodedInstruction *insn,
	ZydisDecodedOperand *operands);

/* ---- rules.c ---- */

/* Why a mnemonic is not run, or NULL. */
const char *rules_excluded(ZydisMnemonic m);
/* Flags this mnemonic leaves undefined and in which processors and the engine really differ. */
u64 rules_undefined_flags(ZydisMnemonic m);
/* May a fault be another one than the host's? */
bool rules_any_fault(ZydisMnemonic m);
/* Must it be the only instruction of its trial? It stores what processors keep differently between
 * instructions. */
bool rules_alone(ZydisMnemonic m);
void rules_print_undefined(FILE *to);
void rules_print_excluded(FILE *to);

/* ---- generate.c ---- */

struct generator {
	struct forms *long_mode, *compat; /* compat NULL: no 32-bit trials */
};
void generate(const struct generator *g, u64 seed, struct trial *t);

/* An instruction as it was chosen. */
struct choice {
	u8 code[40];
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];
	unsigned len;
	bool decoded;
};
/* An instruction of 64-bit code from the form, as part of a sequence: no transfer, memory addressed
 * relative to RIP. false: that one must not run. */
bool generate_plain(const struct form *f, struct rng *r, struct choice *c);

/* ---- native.c ---- */

struct host;
/* RDPID and LSL tell the processor's number: before a host and a guest are made that are compared,
 * so that both stay on one. */
void host_stay_on_this_processor(void);
struct host *host_new(void);
void host_free(struct host *n);
/* Runs count <= HOST_BATCH trials. Outcomes stay valid until the next call. */
#define HOST_BATCH 64u
struct trial *host_trials(struct host *n); /* the array to fill */
const struct outcome *host_run(struct host *n, unsigned count);

/* ---- guest.c ---- */

struct cpu_engine;
struct guest;
struct vcpu;
struct guest *guest_new(const struct cpu_engine *engine, u32 options);
/* A second vcpu in the same memory, of the same engine; to be freed first. They run one at a time.
 */
struct guest *guest_beside(struct guest *g);
void guest_free(struct guest *g);
void guest_run(struct guest *g, const struct trial *t, struct outcome *out);
/* What guest_run() does, in steps. guest_go() runs until some vector's handler has halted, and says
 * which, or 256; again, it returns from that handler first. */
void guest_load(struct guest *g, const struct trial *t);
u32 guest_go(struct guest *g);
/* While halted in a handler: what was interrupted; returns the error code. */
u32 guest_registers(const struct guest *g, struct regs *r);
const u8 *guest_memory(const struct guest *g); /* DATA */
const u8 *guest_text(const struct guest *g);
/* The vcpu, to look at between trials and to set up otherwise. */
struct vcpu *guest_vcpu(struct guest *g);

/* ---- compare.c ---- */

bool outcome_equal(
	const struct trial *t, const struct outcome *native, const struct outcome *engine);
void outcome_print_differences(const struct trial *t, const struct outcome *native,
	const struct outcome *engine, const char *engine_name);
void trial_print_code(const struct trial *t, FILE *to);

/* ---- cases.c ---- */

void case_write(const struct trial *t, FILE *to);
/* false: not a case; *t is unspecified */
bool case_read(const char *line, struct trial *t);

/* ---- shrink.c ---- */

struct bench {
	struct host *host;
	struct guest *guest;
};
/* Runs t in both; true when they agree. The outcomes may be NULL. */
bool bench_agrees(
	struct bench *b, const struct trial *t, struct outcome *native, struct outcome *engine);
void shrink(struct bench *b, struct trial *t);
