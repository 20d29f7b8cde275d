/*
 * A small assembler for the sequences that the translator inserts. Guest instructions are copied or
 * re-encoded by Zydis; these are our own few.
 *
 * Everything is 64-bit code. The translation context (struct tctx) lies beside the code: a fixed
 * slot is reached relative to RIP, and GS addresses the context where a register is added
 * (gs_index()). A buffer that runs out sets `full` and swallows the rest. Whoever wants to move the
 * code later has the places noted where it names slots.
 */
#pragma once
#include "base/types.h"
#include <string.h>

/* Places in code, ascending. */
#define ASM_PLACES 512u
struct asm_places {
	const u8 *start;
	unsigned count; /* more than ASM_PLACES: not all of them */
	u16 at[ASM_PLACES];
};

struct asm_buf {
	u8 *at, *end;		  /* in the writable view */
	u8 *slots;		  /* the context, as seen from the writable view */
	struct asm_places *named; /* where slots are named; NULL: nobody asks */
	bool full;
};

static inline void asm_note(struct asm_places *p, const u8 *at)
{
	if (p->count < ASM_PLACES)
		p->at[p->count] = (u16)(at - p->start);
	p->count += p->count <= ASM_PLACES;
}

/* What was emitted from there on has been taken back. */
static inline void asm_forget(struct asm_places *p, const u8 *from)
{
	while (p->count && p->count <= ASM_PLACES && p->start + p->at[p->count - 1] >= from)
		p->count--;
}

enum {
	ASM_RAX,
	ASM_RCX,
	ASM_RDX,
	ASM_RBX,
	ASM_RSP,
	ASM_RBP,
	ASM_RSI,
	ASM_RDI,
	ASM_R8,
	ASM_R9,
	ASM_R10,
	ASM_R11,
	ASM_R12,
	ASM_R13,
	ASM_R14,
	ASM_R15
};

#define ASM_NONE 0xffu

/* A memory operand of host code: [base + index + disp]. The index is not RSP. */
struct host_operand {
	u8 base, index; /* ASM_NONE: no index */
	s32 disp;
};

static inline void asm_bytes(struct asm_buf *b, const void *p, size_t n)
{
	if ((size_t)(b->end - b->at) < n) {
		b->full = true;
		return;
	}
	memcpy(b->at, p, n);
	b->at += n;
}
static inline void asm_u8(struct asm_buf *b, u8 v) { asm_bytes(b, &v, 1); }
static inline void asm_u32(struct asm_buf *b, u32 v) { asm_bytes(b, &v, 4); }
static inline void asm_u64(struct asm_buf *b, u64 v) { asm_bytes(b, &v, 8); }

/* disp32 of a slot, `tail` bytes before the end of the instruction */
static inline void asm_slot(struct asm_buf *b, u32 slot, unsigned tail)
{
	if (b->named)
		asm_note(b->named, b->at);
	asm_u32(b, (u32)(b->slots + slot - (b->at + 4 + tail)));
}

/* op reg, [slot]   (or the reverse, as the opcode says); wide: REX.W */
static inline void asm_at_slot(struct asm_buf *b, u8 opcode, unsigned reg, u32 slot, bool wide)
{
	if (wide || reg >= 8)
		asm_u8(b, (u8)(0x40 | (wide ? 8 : 0) | (reg >= 8 ? 4 : 0)));
	asm_u8(b, opcode);
	asm_u8(b, (u8)((reg & 7) << 3 | 5));
	asm_slot(b, slot, 0);
}

/* op reg, gs:[disp + index * (1 << scale)]; index is not RSP */
static inline void asm_gs_index(
	struct asm_buf *b, u8 opcode, unsigned reg, unsigned index, unsigned scale, u32 disp)
{
	u8 head[] = { 0x65, (u8)(0x48 | (reg >= 8 ? 4 : 0) | (index >= 8 ? 2 : 0)), opcode,
		(u8)((reg & 7) << 3 | 4), (u8)(scale << 6 | (index & 7) << 3 | 5) };

	asm_bytes(b, head, sizeof(head));
	asm_u32(b, disp);
}

#define OP_MOV_LOAD  0x8b
#define OP_MOV_STORE 0x89
#define OP_ADD_LOAD  0x03
#define OP_AND_LOAD  0x23
#define OP_XOR_LOAD  0x33
#define OP_IMM32     0x81 /* asm_ri32(): an operation by its extension */
#define EXT_OR	     1u
#define EXT_AND	     4u

static inline void asm_load(struct asm_buf *b, unsigned reg, u32 slot)
{
	asm_at_slot(b, OP_MOV_LOAD, reg, slot, true);
}
static inline void asm_store(struct asm_buf *b, u32 slot, unsigned reg)
{
	asm_at_slot(b, OP_MOV_STORE, reg, slot, true);
}

/* mov dword [slot], imm */
static inline void asm_store_imm32(struct asm_buf *b, u32 slot, u32 imm)
{
	static const u8 head[] = { 0xc7, 0x05 };

	asm_bytes(b, head, sizeof(head));
	asm_slot(b, slot, 4);
	asm_u32(b, imm);
}

/* ModRM, SIB and displacement. `scaled8`: 8-bit displacements mean something else (EVEX). */
static inline void asm_modrm(
	struct asm_buf *b, unsigned reg, const struct host_operand *m, bool scaled8)
{
	bool sib = m->index != ASM_NONE || (m->base & 7) == 4;
	bool none = !m->disp && (m->base & 7) != 5;
	unsigned mod = none ? 0 : m->disp == (s8)m->disp && (!scaled8 || !m->disp) ? 1 : 2;

	asm_u8(b, (u8)(mod << 6 | (reg & 7) << 3 | (sib ? 4 : m->base & 7)));
	if (sib)
		asm_u8(b, (u8)((m->index == ASM_NONE ? 4 << 3 : (m->index & 7) << 3) |
				  (m->base & 7)));
	if (mod == 1)
		asm_u8(b, (u8)m->disp);
	else if (mod == 2)
		asm_u32(b, (u32)m->disp);
}

/* REX bits X and B of a memory operand. */
static inline u8 asm_rex_xb(const struct host_operand *m)
{
	return (u8)((m->index != ASM_NONE && m->index >= 8 ? 2 : 0) | (m->base >= 8 ? 1 : 0));
}

/* op reg, [m] at 64 bits (or the reverse, as the opcode says) */
static inline void asm_mem(struct asm_buf *b, u8 opcode, unsigned reg, const struct host_operand *m)
{
	asm_u8(b, (u8)(0x48 | (reg >= 8 ? 4 : 0) | asm_rex_xb(m)));
	asm_u8(b, opcode);
	asm_modrm(b, reg, m, false);
}

/* The same at 32 bits. */
static inline void asm_mem32(
	struct asm_buf *b, u8 opcode, unsigned reg, const struct host_operand *m)
{
	asm_u8(b, (u8)(0x40 | (reg >= 8 ? 4 : 0) | asm_rex_xb(m)));
	asm_u8(b, opcode);
	asm_modrm(b, reg, m, false);
}

/* op reg, reg at 64 or 32 bits, in the "r, r/m" form */
static inline void asm_rr(struct asm_buf *b, u8 opcode, unsigned reg, unsigned rm, bool wide)
{
	u8 code[] = { (u8)(0x40 | (wide ? 8 : 0) | (reg >= 8 ? 4 : 0) | (rm >= 8 ? 1 : 0)), opcode,
		(u8)(0xc0 | (reg & 7) << 3 | (rm & 7)) };

	asm_bytes(b, code, sizeof(code));
}

/* movzx dst, low 16 or 8 bits of src */
static inline void asm_movzx(struct asm_buf *b, unsigned dst, unsigned src, unsigned bits)
{
	if (dst >= 8 || src >= 4)
		asm_u8(b, (u8)(0x40 | (dst >= 8 ? 4 : 0) | (src >= 8 ? 1 : 0)));
	asm_u8(b, 0x0f);
	asm_u8(b, bits == 16 ? 0xb7 : 0xb6);
	asm_u8(b, (u8)(0xc0 | (dst & 7) << 3 | (src & 7)));
}

/* rorx dst, src, by */
static inline void asm_rorx(struct asm_buf *b, unsigned dst, unsigned src, u8 by)
{
	/* VEX.LZ.F2.0F3A.W1 F0 /r ib: R and B inverted, X and vvvv unused */
	u8 code[] = { 0xc4, (u8)((dst < 8 ? 0x80 : 0) | 0x40 | (src < 8 ? 0x20 : 0) | 3), 0xfb,
		0xf0, (u8)(0xc0 | (dst & 7) << 3 | (src & 7)), by };

	asm_bytes(b, code, sizeof(code));
}

/* sarx or shlx dst, src, by: a register */
static inline void asm_shift_by(
	struct asm_buf *b, u8 which, unsigned dst, unsigned src, unsigned by)
{
	/* VEX.LZ.(F3|66).0F38.W1 F7 /r: inverted R, X=1, B; vvvv = by inverted */
	u8 code[] = { 0xc4, (u8)((dst < 8 ? 0x80 : 0) | 0x40 | (src < 8 ? 0x20 : 0) | 2),
		(u8)(0x80 | (~by & 15) << 3 | which), 0xf7,
		(u8)(0xc0 | (dst & 7) << 3 | (src & 7)) };

	asm_bytes(b, code, sizeof(code));
}
static inline void asm_sarx(struct asm_buf *b, unsigned dst, unsigned src, unsigned by)
{
	asm_shift_by(b, 2, dst, src, by);
}
static inline void asm_shlx(struct asm_buf *b, unsigned dst, unsigned src, unsigned by)
{
	asm_shift_by(b, 1, dst, src, by);
}

/* pext or pdep dst, src, [slot] */
#define ASM_PEXT 2u
#define ASM_PDEP 3u
static inline void asm_bits(struct asm_buf *b, unsigned which, unsigned dst, unsigned src, u32 slot)
{
	/* VEX.LZ.(F3|F2).0F38.W1 F5 /r: inverted R, X=1, B=1; vvvv = src inverted */
	u8 code[] = { 0xc4, (u8)((dst < 8 ? 0x80 : 0) | 0x60 | 2),
		(u8)(0x80 | (~src & 15) << 3 | which), 0xf5, (u8)((dst & 7) << 3 | 5) };

	asm_bytes(b, code, sizeof(code));
	asm_slot(b, slot, 0);
}

/* jrcxz over the next `over` bytes */
static inline void asm_jrcxz(struct asm_buf *b, u8 over)
{
	u8 code[] = { 0xe3, over };

	asm_bytes(b, code, sizeof(code));
}

/* lea reg, [rip + what leads to `to`], in the writable view */
static inline void asm_lea_rip(struct asm_buf *b, unsigned reg, const u8 *to)
{
	u8 head[] = { (u8)(0x48 | (reg >= 8 ? 4 : 0)), 0x8d, (u8)((reg & 7) << 3 | 5) };

	asm_bytes(b, head, sizeof(head));
	asm_u32(b, (u32)(to - (b->at + 4)));
}

/* jmp [slot] */
static inline void asm_jmp_slot(struct asm_buf *b, u32 slot)
{
	static const u8 head[] = { 0xff, 0x25 };

	asm_bytes(b, head, sizeof(head));
	asm_slot(b, slot, 0);
}

/* Group-1 immediate and shift forms on a register: /ext r/m, imm8 or imm32 */
static inline void asm_ri32(
	struct asm_buf *b, u8 opcode, unsigned ext, unsigned rm, u32 imm, bool wide)
{
	u8 code[] = { (u8)(0x40 | (wide ? 8 : 0) | (rm >= 8 ? 1 : 0)), opcode,
		(u8)(0xc0 | ext << 3 | (rm & 7)) };

	asm_bytes(b, code, sizeof(code));
	asm_u32(b, imm);
}

static inline bool asm_is_s32(u64 v) { return (u64)(s64)(s32)v == v; }

/* The shortest way to a constant. */
static inline void asm_const(struct asm_buf *b, unsigned reg, u64 v)
{
	if (v <= 0xffffffff) {
		u8 code[] = { (u8)(0x40 | (reg >= 8 ? 1 : 0)), (u8)(0xb8 | (reg & 7)) };
		asm_bytes(b, code, sizeof(code));
		asm_u32(b, (u32)v);
	} else if (asm_is_s32(v)) {
		asm_ri32(b, 0xc7, 0, reg, (u32)v, true);
	} else {
		u8 code[] = { (u8)(0x48 | (reg >= 8 ? 1 : 0)), (u8)(0xb8 | (reg & 7)) };
		asm_bytes(b, code, sizeof(code));
		asm_u64(b, v);
	}
}

/* lea reg, [base + index << scale + disp]; base or index may be 0xff (none) */
static inline void asm_lea_sized(struct asm_buf *b, unsigned reg, unsigned base, unsigned index,
	unsigned scale, s32 disp, bool wide)
{
	bool has_base = base != 0xff, has_index = index != 0xff;
	bool sib = has_index || !has_base || (base & 7) == 4; /* RSP and R12 need one as a base */
	unsigned mod = !has_base ? 0 : !disp && (base & 7) != 5 ? 0 : disp == (s8)disp ? 1 : 2;
	u8 code[4] = {
		(u8)(0x40 | (wide ? 8 : 0) | (reg >= 8 ? 4 : 0) |
			(has_index && index >= 8 ? 2 : 0) | (has_base && base >= 8 ? 1 : 0)),
		0x8d,
		(u8)(mod << 6 | (reg & 7) << 3 | (sib ? 4 : base & 7)),
		(u8)((has_index ? scale << 6 | (index & 7) << 3 : 4 << 3) |
			(has_base ? base & 7 : 5)),
	};

	asm_bytes(b, code, sib ? 4 : 3);
	if (!has_base || mod == 2)
		asm_u32(b, (u32)disp);
	else if (mod == 1)
		asm_u8(b, (u8)disp);
}
static inline void asm_lea(
	struct asm_buf *b, unsigned reg, unsigned base, unsigned index, unsigned scale, s32 disp)
{
	asm_lea_sized(b, reg, base, index, scale, disp, true);
}

/* lea reg, [base + index + disp] with a displacement of eight or 32 bits, which may be changed:
 * returns where it is. index: ASM_NONE if there is none. */
static inline u8 *asm_lea_open(
	struct asm_buf *b, unsigned reg, unsigned base, unsigned index, s32 disp, bool wide_disp)
{
	bool sib = index != ASM_NONE || (base & 7) == 4;
	u8 code[4] = {
		(u8)(0x48 | (reg >= 8 ? 4 : 0) | (index != ASM_NONE && index >= 8 ? 2 : 0) |
			(base >= 8 ? 1 : 0)),
		0x8d,
		(u8)((wide_disp ? 0x80 : 0x40) | (reg & 7) << 3 | (sib ? 4 : base & 7)),
		(u8)((index != ASM_NONE ? (index & 7) << 3 : 4 << 3) | (base & 7)),
	};

	asm_bytes(b, code, sib ? 4 : 3);
	if (wide_disp)
		asm_u32(b, (u32)disp);
	else
		asm_u8(b, (u8)disp);
	return b->at - (wide_disp ? 4 : 1);
}

/* jmp/jcc rel32 to be patched: returns where the rel32 is. cc 0xff: jmp. */
static inline u8 *asm_jump(struct asm_buf *b, u8 cc)
{
	if (cc == 0xff) {
		asm_u8(b, 0xe9);
	} else {
		asm_u8(b, 0x0f);
		asm_u8(b, (u8)(0x80 | cc));
	}
	asm_u32(b, 0);
	return b->at - 4;
}

/* Both addresses in the same view. */
static inline void asm_patch(u8 *rel32, const u8 *target)
{
	s32 d = (s32)(target - (rel32 + 4));

	memcpy(rel32, &d, 4);
}
