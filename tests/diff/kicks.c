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

void kicks_watch(struct vcpu *v)
{
	struct sigaction mine;

	watched = v->engine_data;
	sigaction(translate_kick_signal(), NULL, &translators);
	mine = translators;
	mine.sa_sigaction = on_kick;
	sigaction(translate_kick_signal(), &mine, NULL);
}

struct kicks kicks_counted(void) { return (struct kicks){ in_block, in_stub, elsewhere }; }
