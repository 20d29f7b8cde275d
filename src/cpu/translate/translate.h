/*
 * The binary translator: 64-bit guest code, kernel and user, copied into a code cache and run
 * there.
 *
 * A copier, not a compiler. Guest registers live in the same-numbered host registers and guest
 * flags in host flags, so most instructions are copied as they are. Changed are memory operands
 * (through an inline TLB), control transfers (chained, or looked up), and whatever is sensitive
 * (handed to the interpreter's function for that instruction). Code that is not 64-bit, and
 * everything that must be single-stepped, is interpreted.
 */
#pragma once
#include "cpu/vcpu.h"

extern const struct cpu_engine translate_engine;
