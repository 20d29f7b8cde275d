/*
 * Instructions that run as themselves.
 *
 * Guest and host share one instruction set, so SIMD, x87, BMI, CRC, AES and the like need no model:
 * a stub loads the guest registers the instruction names into the same host registers, runs the
 * very instruction with its memory operand redirected to a checked pointer, and stores what it
 * wrote. Stubs are generated once per distinct instruction (memory operands reduced to "pointer")
 * into a codemem arena and shared by all occurrences.
 *
 * Faults: an instruction may raise #XM, #MF, #GP (alignment, MXCSR) or #UD on the host. The signal
 * handler recognises the arena, notes the trap and leaves the stub; the guest gets the exception,
 * and since results are stored only after the instruction completed, no guest state has changed.
 *
 * Memory operands: the host address of guest RAM when the bytes lie in one page, else a
 * bounce buffer with the same alignment. When some byte may not be accessed, the stub runs on two
 * guard pages that are protected as the guest's are: so the processor itself decides whether a
 * masked access touches that byte, whether #GP, #AC, #MF or #UD comes before #PF, and what CR2
 * says.
 *
 * Threads: one arena per vcpu; the handler is process-wide and finds its frame through a
 * thread-local pointer.
 */
#pragma once
#include "cpu/interpret/interp.h"
#include <Zydis/Zydis.h>

struct natives *natives_new(struct err *err);
void natives_free(struct natives *n);

/* Builds (or finds) the stub for an instruction; NULL when the arena is full (drop everything with
 * natives_clear and decode again) or, with *unencodable set, when there is no such host form. */
const struct native *native_get(struct natives *n, const ZydisDecodedInstruction *insn,
	const ZydisDecodedOperand *operands, bool *unencodable);
/* What b_native keeps in op->imm: the opcode for FOP, or 0. */
u16 native_fop(const ZydisDecodedInstruction *insn);
void natives_clear(struct natives *n);
bool natives_full(const struct natives *n);

/* What another engine has to know before it copies a stub's instruction: does it use the x87 or MMX
 * registers, does it need vector or mask registers? */
bool native_uses_x87(const struct native *n);
bool native_uses_vectors(const struct native *n);
/* Does the processor note where the instruction was and what it touched? */
bool native_notes_x87(const struct op *op);

/* Handlers: op->aux is the struct native. */
op_fn op_native;     /* registers only */
op_fn op_native_mem; /* with a memory operand, op->size bytes */

/* Vector instructions whose memory behaviour is their own: written out in vector.c. */
op_fn op_vzeroupper, op_vzeroall, op_gather, op_scatter, op_maskmov;
