/*
 * The reference engine: every mode and every instruction, clarity first.
 *
 * Zydis decodes; a block cache keeps what was decoded; integer instructions are small C functions
 * whose arithmetic and flags come from the host's own instruction in inline assembly; SIMD, x87 and
 * other pure register-and-memory instructions run as themselves in generated stubs (native.h).
 */
#pragma once
#include "cpu/vcpu.h"

extern const struct cpu_engine interpret_engine;
