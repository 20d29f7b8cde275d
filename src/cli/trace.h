/* --trace KIND[,KIND...]=FILE */
#pragma once
#include "base/err.h"
#include "cpu/vcpu.h"

/* Opens the file. text NULL: nothing is traced. -EINVAL: usage; else the file cannot be written. */
NODISCARD int trace_open(struct vcpu_trace *trace, const char *text, struct err *err);
NODISCARD int trace_close(struct vcpu_trace *trace, struct err *err);
