#include "cpu/translate/options.h"

const struct cpu_engine_option options_table[] = {
	{ "stats", "print the translator's counters at the end", OPTION_STATS },
	{ "no-chain", "leave the code cache at every direct jump", OPTION_NO_CHAIN },
	{ "no-lookup", "leave the code cache at every return and indirect jump", OPTION_NO_LOOKUP },
	{ "no-fast-tlb", "leave the code cache at every access to memory", OPTION_NO_FAST_TLB },
	{ "no-vector", "interpret SSE and AVX instructions", OPTION_NO_VECTOR },
	{ "no-x87", "interpret x87 and MMX instructions", OPTION_NO_X87 },
	{ "single", "translate one instruction at a time", OPTION_SINGLE },
	{ "small-cache", "a code cache of 256 KiB, emptied often", OPTION_SMALL_CACHE },
	{ "no-superblocks", "end each block at its first branch", OPTION_NO_SUPERBLOCKS },
	{ "no-window", "check each access of user code, too", OPTION_NO_WINDOW },
	{ "no-kernel-window", "check each access of the kernel's code", OPTION_NO_KERNEL_WINDOW },
	{ "window-always", "any user code gets the window at once (slow; for tests)",
		OPTION_WINDOW_ALWAYS },
	{ "no-resume", "after system calls and faults, find the next code the long way",
		OPTION_NO_RESUME },
	{ "no-retain", "forget an address space while another one runs", OPTION_NO_RETAIN },
	{ "no-patched", "translate code anew for each constant that is patched",
		OPTION_NO_PATCHED },
	{ "no-runs", "check each push and pop by itself", OPTION_NO_RUNS },
	{ 0 },
};
