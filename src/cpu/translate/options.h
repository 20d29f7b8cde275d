/* What `--translate LIST` can ask for: counters, and off-switches for each optimization. */
#pragma once
#include "cpu/vcpu.h"

enum translate_option {
	OPTION_STATS = BIT(0),
	OPTION_CHECK = BIT(30),
	OPTION_TRAP_EXITS = BIT(29),
	OPTION_NO_CHAIN = BIT(1),
	OPTION_NO_LOOKUP = BIT(2),
	OPTION_NO_FAST_TLB = BIT(3),
	OPTION_NO_VECTOR = BIT(4),
	OPTION_SINGLE = BIT(5),
	OPTION_SMALL_CACHE = BIT(6),
	OPTION_NO_WINDOW = BIT(7),
	OPTION_WINDOW_ALWAYS = BIT(8),
	OPTION_NO_RESUME = BIT(9),
	OPTION_NO_PATCHED = BIT(10),
	OPTION_NO_RUNS = BIT(11),
	OPTION_NO_KERNEL_WINDOW = BIT(12),
	OPTION_NO_SUPERBLOCKS = BIT(13),
	OPTION_NO_RETAIN = BIT(14),
	OPTION_NO_X87 = BIT(15),
	OPTION_NO_LOOPS = BIT(16),
	OPTION_NO_SHARE = BIT(17),
	OPTION_NO_FLAT = BIT(18),
	OPTION_NO_REBASE = BIT(19),
	OPTION_NO_HUGE = BIT(20),
};

extern const struct cpu_engine_option options_table[];
