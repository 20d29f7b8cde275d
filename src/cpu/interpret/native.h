/*
 * Instructions that run as themselves.
 *
 * Guest and host share one instruction set, so SIMD, x87, BMI, CRC, AES and the like need no model: a stub loads
 * the guest registers the instruction names into the same host registers, runs the very
 * instruction with its memory operand redirected to a checked pointer, and stores what it wrote.
 * Stubs are generated once per distinct instruction (memory operands reduced to "pointer") into a
 * codemem arena and shared by all occurrences.
 *
 * Faults: an instruction may raise #XM, #MF, #GP (alignment, MXCSR) or #UD on the host. The signal handler
 * recognises the arena, notes the trap and leaves the stub; the guest gets the exception, and
 * since results are stored only after the instruction completed, no guest state has changed.
 *
 * Memory operands: the host address of guest RAM when the bytes lie in one page, else a
 * bounce buffer with the same alignment. Masked accesses (AVX-512 masks, VMASKMOV) touch only their
 * active elements, so that inactive ones never fault.
 *
 * Threads: one arena per vcpu; the handler is process-wide and finds its frame through a
 * thread-local pointer.
 */
#pragma once
#include "cpu/interpret/interp.h"
#include <Zydis/Zydis.h>

struct natives *natives_new(struct err *err);
void natives_free(struct natives *n);

/* Builds (or finds) the stub for an instruction; NULL when the arena is full (drop everything with natives_clear
 * and decode again) or, with *unencodable set, when there is no such host form. */
const struct native *native_get(struct natives *n, const ZydisDecodedInstruction *insn,
	const ZydisDecodedOperand *operands, bool *unencodable);
void natives_clear(struct natives *n);
bool natives_full(const struct natives *n);

/* Handlers: op->aux is the struct native. */
op_fn op_native;       /* registers only */
op_fn op_native_mem;   /* with a memory operand, op->size bytes */

/* Vector instructions whose memory behaviour is their own: written out in vector.c. */
op_fn op_vzeroupper, op_vzeroall, op_gather, op_scatter, op_maskmov;
