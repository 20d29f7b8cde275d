/* System instructions for the rule table. */
#pragma once
#include "cpu/interpret/interp.h"

/* After a port access: I/O breakpoints (SDM 3B 17.2.4). */
void interp_note_port(struct interp *c, u16 port, unsigned size);

extern op_fn *const op_in_by_size[4], *const op_out_by_size[4];
op_fn op_cli, op_sti, op_hlt, op_clts, op_lmsw, op_smsw, op_cpuid, op_rdtsc, op_rdtscp, op_rdpid,
	op_rdpmc;
op_fn op_rdmsr, op_wrmsr, op_xgetbv, op_xsetbv, op_invlpg, op_invpcid, op_wbinvd, op_swapgs,
	op_fsgsbase;
op_fn op_mov_from_cr, op_mov_to_cr, op_mov_from_dr, op_mov_to_dr;
op_fn op_mov_from_seg, op_mov_to_seg, op_push_seg, op_pop_seg, op_load_far;
op_fn op_sgdt, op_sidt, op_lgdt, op_lidt, op_sldt, op_str, op_lldt, op_ltr;
op_fn op_lar, op_lsl, op_verr, op_verw, op_pushf, op_popf, op_stac, op_clac;
op_fn op_ud, op_gp_cpl, op_hypercall, op_clflush, op_fence;
op_fn op_fxsave, op_fxrstor, op_xsave, op_xrstor;
op_fn op_fnstenv, op_fldenv, op_fnsave, op_frstor;
