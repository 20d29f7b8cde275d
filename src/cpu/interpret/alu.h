/* The integer handlers that the rule table (rules.c) refers to. A set holds one array of instances
 * by operand size for each operand form: r register, m memory, i immediate, c count in CL. */
#pragma once
#include "cpu/interpret/interp.h"

struct binary_set {
	op_fn *const *rr, *const *ri, *const *rm, *const *mr, *const *mi;
};
struct unary_set {
	op_fn *const *r, *const *m;
};
struct shift_set {
	op_fn *const *ri, *const *rc, *const *mi, *const *mc;
};

extern const struct binary_set op_add_set, op_or_set, op_adc_set, op_sbb_set, op_and_set,
	op_sub_set, op_xor_set, op_cmp_set, op_test_set;
extern const struct unary_set op_inc_set, op_dec_set, op_neg_set, op_not_set;
extern const struct shift_set op_rol_set, op_ror_set, op_rcl_set, op_rcr_set, op_shl_set,
	op_shr_set, op_sar_set;

extern op_fn *const op_shld_by_size[4], *const op_shrd_by_size[4];
extern op_fn *const op_mul_by_size[4], *const op_imul1_by_size[4], *const op_imul2_by_size[4];
extern op_fn *const op_div_by_size[4], *const op_idiv_by_size[4];
extern op_fn *const op_bt_by_size[4], *const op_bts_by_size[4], *const op_btr_by_size[4],
									*const op_btc_by_size[4];
extern op_fn *const op_bsf_by_size[4], *const op_bsr_by_size[4];
extern op_fn *const op_cmpxchg_by_size[4], *const op_xadd_by_size[4];
op_fn op_daa_das, op_aaa_aas, op_aam, op_aad;

/* Sets the flags of a - b. */
void compare_flags(struct interp *c, unsigned size, u64 a, u64 b);
