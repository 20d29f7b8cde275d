/* See kicks.h. The only part of these tests that looks into an engine. */
#include "kicks.h"
#include "cpu/translate/translate_priv.h"
#include <signal.h>
#include <ucontext.h>

static struct sigaction translators;
static struct translator *watched;
static _Atomic u64 in_block, in_stub, elsewhere;

static void on_kick(int sig, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;
	const u8 *pc = (const u8 *)(uintptr_t)uc->uc_mcontext.gregs[REG_RIP];

	if (!codemem_has(&watched->mem, pc))
		atomic_fetch_add(&elsewhere, 1);
	else if (tcache_by_code(watched, pc))
		atomic_fetch_add(&in_block, 1);
	else
		atomic_fetch_add(&in_stub, 1);
	translators.sa_sigaction(sig, info, context);
}

/* Which one it is, is the translator's secret: the one with a handler that is neither an
 * exception's nor guest.c's alarm. */
static int kick_signal(void)
{
	u64 others = BIT64(SIGSEGV) | BIT64(SIGBUS) | BIT64(SIGFPE) | BIT64(SIGILL) |
		     BIT64(SIGTRAP) | BIT64(SIGALRM);

	for (int sig = 1; sig < 64; sig++)
		if (!(others & BIT64(sig)) && !sigaction(sig, NULL, &translators) &&
			translators.sa_handler != SIG_DFL && translators.sa_handler != SIG_IGN)
			return sig;
	return 0;
}

void kicks_watch(struct vcpu *v)
{
	int sig = kick_signal();

	if (!sig)
		return;
	watched = v->engine_data;
	struct sigaction mine = translators;
	mine.sa_sigaction = on_kick;
	sigaction(sig, &mine, NULL);
}

struct kicks kicks_counted(void) { return (struct kicks){ in_block, in_stub, elsewhere }; }
