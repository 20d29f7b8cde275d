/* Handlers of synchronous signals that look after some addresses only, and leave the rest to
 * whoever was there before. */
#pragma once
#include <signal.h>
#include <stddef.h>

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
