/* Control transfers for the rule table. */
#pragma once
#include "cpu/interpret/interp.h"

op_fn op_jmp, op_jcc, op_call, op_jcxz, op_loop;
op_fn op_jmp_ind, op_call_ind, op_ret;
op_fn op_jmp_far, op_call_far, op_ret_far, op_iret;
op_fn op_int, op_into, op_int1;
op_fn op_syscall, op_sysret, op_sysenter, op_sysexit;
