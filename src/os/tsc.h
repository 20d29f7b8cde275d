/*
 * The host's time-stamp counter. Its frequency, in order of trust:
 *   1. CPUID 0x40000010 EAX, kHz, where a hypervisor offers it;
 *   2. CPUID 0x15, crystal Hz * EBX / EAX, where the crystal is stated (SDM 2A, CPUID leaf 15H);
 *   3. measured against the monotonic clock during 10 ms, good to some parts in a million.
 * Found once per process; any thread.
 */
#pragma once
#include "base/types.h"
#include <x86intrin.h>

u64 tsc_hz(void);
const char *tsc_source(void); /* "hypervisor", "cpuid" or "measured" */

static inline u64 tsc_read(void) { return __rdtsc(); }
