/* Handlers of synchronous signals that look after some addresses only, and leave the rest to
 * whoever was there before. */
#pragma once
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

/* SIGBUS for a page of a memfd that the host has no memory for: no guest's doing, whatever
 * instruction touched it. The handler of src/os/tty.c says so and ends the process. */
static inline bool chain_is_shortage(int sig, const siginfo_t *info)
{
	return sig == SIGBUS && info->si_code == BUS_ADRERR;
}

/* From within a handler: what would have happened without it. Async-signal-safe. */
static inline void chain_signal(
	const struct sigaction *old, int sig, siginfo_t *info, void *context)
{
	if (old->sa_flags & SA_SIGINFO)
		old->sa_sigaction(sig, info, context);
	else if (old->sa_handler == SIG_DFL || old->sa_handler == SIG_IGN)
		sigaction(sig, old, NULL); /* returning faults again, now for real */
	else
		old->sa_handler(sig);
}
