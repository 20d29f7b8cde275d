/*
 * FXSAVE, XSAVE and their relatives (SDM 1 chapters 10.5 and 13) between struct x86_fpu and memory
 * images, with XINUSE tracking done by comparing with the initial state. The instruction's
 * checks (alignment, CPL, CR0.TS, compaction header validity) are included.
 */
#pragma once
#include "x86/cpu.h"
#include "x86/cpuid.h"

int x86_fxsave(struct x86_cpu *cpu, gva_t at, unsigned access, bool rex_w);
int x86_fxrstor(struct x86_cpu *cpu, gva_t at, unsigned access, bool rex_w);

enum x86_xsave_form { X86_XSAVE, X86_XSAVEOPT, X86_XSAVEC, X86_XSAVES };
int x86_xsave(struct x86_cpu *cpu, gva_t at, u64 rfbm, enum x86_xsave_form form, bool rex_w);
int x86_xrstor(struct x86_cpu *cpu, gva_t at, u64 rfbm, bool supervisor, bool rex_w);
u64 x86_xinuse(const struct x86_state *s); /* XGETBV with ECX=1 */

/* Bytes of an XSAVE area with these components, as CPUID leaf 0xd reports (SDM 1 13.4.2-3). */
u32 x86_xsave_size(const struct x86_model *model, u64 components, bool compacted);

/* FNSAVE/FRSTOR/FNSTENV/FLDENV images; size 2 or 4 selects the 16/32-bit layout. Returns bytes. */
unsigned x86_fenv_store(const struct x86_state *s, unsigned size, u8 image[28]);
void x86_fenv_load(struct x86_state *s, unsigned size, const u8 image[28]);

/* FSW.ES and B follow from the exception flags and masks, whatever an image says (SDM 1 8.1.3.3).
 */
void x86_fpu_summarize(struct x86_fpu *f);
/* Sets FSW: st[] is relative to TOP, so registers move when TOP changes. */
void x86_fpu_set_fsw(struct x86_fpu *f, u16 fsw);

/* The whole state in the standard (non-compacted) XSAVE layout with the host model's offsets, for
 * KVM_GET/SET_XSAVE; image is at least 4096 bytes. */
void x86_xsave_image_store(const struct x86_cpu *cpu, u8 *image, size_t size);
void x86_xsave_image_load(struct x86_cpu *cpu, const u8 *image, size_t size);
