/* Sleeping on a 32-bit word of this process (futex(2)). Wakes may be spurious: callers loop. */
#pragma once
#include "base/types.h"
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Sleeps while *word is `value`. */
static inline void futex_wait(_Atomic u32 *word, u32 value)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static inline void futex_wake_all(_Atomic u32 *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 0x7fffffff, NULL, NULL, 0);
}
