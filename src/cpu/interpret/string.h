/* String instructions for the rule table. op->flags carries REP/REPNE, op->seg the source's
 * segment. */
#pragma once
#include "cpu/interpret/interp.h"

extern op_fn *const op_movs_by_size[4], *const op_stos_by_size[4], *const op_lods_by_size[4];
extern op_fn *const op_cmps_by_size[4], *const op_scas_by_size[4];
extern op_fn *const op_ins_by_size[4], *const op_outs_by_size[4];
