/* struct x86_state as a field table, for saving, loading, comparing and dumping processors. */
#pragma once
#include "state/field.h"
#include "x86/state.h"

extern const struct field cpu_state_fields[];

NODISCARD int cpu_state_save(const struct x86_state *s, struct blob *out);
NODISCARD int cpu_state_load(
	struct x86_state *s, const u8 *data, size_t len, size_t *used, struct err *err);
