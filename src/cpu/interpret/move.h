/* Data movement, stack, and flag handlers for the rule table. */
#pragma once
#include "cpu/interpret/alu.h"

extern const struct binary_set op_mov_set;
extern op_fn *const op_movzx_by_size[4], *const op_movsx_by_size[4], *const op_lea_by_size[4];
extern op_fn *const op_xchg_by_size[4], *const op_bswap_by_size[4], *const op_cmov_by_size[4];
extern op_fn *const op_push_reg_by_size[4], *const op_push_imm_by_size[4],
						    *const op_push_mem_by_size[4];
extern op_fn *const op_pop_reg_by_size[4], *const op_pop_mem_by_size[4];
op_fn op_setcc, op_nop, op_cbw, op_cwd, op_flag, op_lahf, op_sahf, op_salc, op_xlat, op_clzero;
op_fn op_pusha, op_popa, op_enter, op_leave, op_bound, op_arpl;
op_fn op_cmpxchg8b, op_cmpxchg16b;

/* Conditions as encoded in the low four bits of Jcc, SETcc and CMOVcc (SDM 1 appendix B). */
ALWAYS_INLINE bool condition(u64 f, unsigned cc)
{
	bool r;

	switch (cc >> 1) {
	case 0: r = f & FLAG_OF; break;
	case 1: r = f & FLAG_CF; break;
	case 2: r = f & FLAG_ZF; break;
	case 3: r = f & (FLAG_CF | FLAG_ZF); break;
	case 4: r = f & FLAG_SF; break;
	case 5: r = f & FLAG_PF; break;
	case 6: r = !(f & FLAG_SF) != !(f & FLAG_OF); break;
	default: r = (f & FLAG_ZF) || !(f & FLAG_SF) != !(f & FLAG_OF); break;
	}
	return r != (cc & 1);
}
