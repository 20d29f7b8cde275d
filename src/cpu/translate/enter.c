/*
 * Crossing between C and translated code, and the signals that arrive while in it.
 *
 * translate_enter saves what C expects to keep, loads guest flags from the context and registers
 * from the state and jumps; every exit ends in translate_leave, which does the reverse. When
 * vectors are in use one more stub is on each way (emit_stubs).
 *
 * Signals in translated code:
 * - SIGFPE, SIGSEGV, SIGBUS, SIGILL: the guest's instruction did it (divide error, SIMD exception,
 * alignment). The handler leaves with EXIT_OP for that instruction; the interpreter runs it again
 * and raises the guest's exception.
 * - the kick: see translate_priv.h, Attention.
 * The handlers run on a signal stack: RSP holds a guest value. SS_AUTODISARM makes the kernel
 * ignore where RSP points.
 */
#include "base/must.h"
#include "cpu/translate/translate_priv.h"
#include "os/chain.h"
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <ucontext.h>

/* Not a real-time signal: those are queued, and refused when the user's queue is full. */
#define KICK SIGURG

#define STR_(x)	   #x
#define STR(x)	   STR_(x)
#define O_GPR(n)   STR(n) "*8" /* in the context and in the state */
#define O_FLAGS	   "128"
#define O_RIP	   "136"
#define O_HOST_RSP "144"
#define O_ENTER	   "152"
#define O_STATE	   "200"
#define O_KICKED   "264"
#define O_AUX	   "344"

_Static_assert(offsetof(struct tctx, flags) == 128 && offsetof(struct tctx, rip) == 136 &&
		       offsetof(struct tctx, host_rsp) == 144 &&
		       offsetof(struct tctx, enter) == 152 && offsetof(struct tctx, state) == 200 &&
		       offsetof(struct tctx, kicked) == 264 && offsetof(struct tctx, aux) == 344 &&
		       offsetof(struct x86_state, gpr) == 0,
	"the assembly below knows these offsets");

/* One instruction a line. */
/* clang-format off */
__asm__(".text\n"
	".globl translate_enter, translate_leave, translate_abort, translate_enter_end\n"
	".hidden translate_enter, translate_leave, translate_abort, translate_enter_end\n"
	".type translate_enter, @function\n"
	"translate_enter:\n"
	"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"	mov %rsp, %gs:" O_HOST_RSP "\n"
	"	cmpl $0, %gs:" O_KICKED "\n"
	"	jne translate_abort\n"
	"	pushq %gs:" O_FLAGS "\n"
	"	popfq\n"
	"	mov %gs:" O_STATE ", %r15\n"
	"	mov " O_GPR(10) "(%r15), %rax; mov %rax, %gs:" O_GPR(10) "\n" /* those without a home */
	"	mov " O_GPR(11) "(%r15), %rcx; mov %rcx, %gs:" O_GPR(11) "\n"
	"	mov " O_GPR(15) "(%r15), %rdx; mov %rdx, %gs:" O_GPR(15) "\n"
	"	mov " O_GPR(0) "(%r15), %rax\n"
	"	mov " O_GPR(1) "(%r15), %r10\n" /* guest RCX */
	"	mov " O_GPR(2) "(%r15), %rdx\n"
	"	mov " O_GPR(3) "(%r15), %rbx\n"
	"	mov " O_GPR(5) "(%r15), %rbp\n"
	"	mov " O_GPR(6) "(%r15), %rsi\n"
	"	mov " O_GPR(7) "(%r15), %rdi\n"
	"	mov " O_GPR(8) "(%r15), %r8\n"
	"	mov " O_GPR(9) "(%r15), %r9\n"
	"	mov " O_GPR(12) "(%r15), %r12\n"
	"	mov " O_GPR(13) "(%r15), %r13\n"
	"	mov " O_GPR(14) "(%r15), %r14\n"
	"	mov " O_GPR(4) "(%r15), %rsp\n"
	"	mov %gs:" O_AUX ", %r15\n"
	"	mov %gs:" O_RIP ", %r11\n"
	"	jmp *%gs:" O_ENTER "\n"
	"translate_enter_end:\n"
	"translate_leave:\n"
	"	mov %gs:" O_STATE ", %rcx\n"
	"	mov %rax, " O_GPR(0) "(%rcx)\n"
	"	mov %r10, " O_GPR(1) "(%rcx)\n"
	"	mov %rdx, " O_GPR(2) "(%rcx)\n"
	"	mov %rbx, " O_GPR(3) "(%rcx)\n"
	"	mov %rsp, " O_GPR(4) "(%rcx)\n"
	"	mov %rbp, " O_GPR(5) "(%rcx)\n"
	"	mov %rsi, " O_GPR(6) "(%rcx)\n"
	"	mov %rdi, " O_GPR(7) "(%rcx)\n"
	"	mov %r8, " O_GPR(8) "(%rcx)\n"
	"	mov %r9, " O_GPR(9) "(%rcx)\n"
	"	mov %r12, " O_GPR(12) "(%rcx)\n"
	"	mov %r13, " O_GPR(13) "(%rcx)\n"
	"	mov %r14, " O_GPR(14) "(%rcx)\n"
	"	mov %gs:" O_GPR(10) ", %rax; mov %rax, " O_GPR(10) "(%rcx)\n"
	"	mov %gs:" O_GPR(11) ", %rax; mov %rax, " O_GPR(11) "(%rcx)\n"
	"	mov %gs:" O_GPR(15) ", %rax; mov %rax, " O_GPR(15) "(%rcx)\n"
	"	mov %gs:" O_HOST_RSP ", %rsp\n"
	"	pushfq\n"
	"	popq %gs:" O_FLAGS "\n"
	"translate_abort:\n" /* nothing has run yet: the state is still the truth */
	"	mov %gs:" O_HOST_RSP ", %rsp\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"	ret\n"
	".size translate_enter, . - translate_enter\n");
/* clang-format on */

__thread struct translator *translate_current;

static struct sigaction chained[NSIG];

int translate_kick_signal(void) { return KICK; }

/* One signal at a time: a thread that is sent more than it can take in would do nothing else. */
void translate_signal(struct translator *t)
{
	if (!atomic_exchange(&t->kick_sent, true))
		pthread_kill(t->thread, KICK);
}

/* A string instruction of the window may go on for long: it stops between two elements. */
static bool in_string(const struct tblock *b, const u8 *pc)
{
	const struct tinsn *in = &b->insns[tblock_insn_at(b, pc)];

	return in->rep_at && pc == b->code + in->host_at + in->rep_at;
}

/* The instruction leaves the cache before it is done: the guest's registers are to be as it left
 * them. */
static void leave_at(struct translator *t, struct tblock *b, const u8 *pc, greg_t *regs, u64 trap)
{
	unsigned index = tblock_insn_at(b, pc);
	const struct tinsn *in = &b->insns[index];

	if (in_string(b, pc)) {
		if (in->access == ACCESS_MOVS)
			regs[REG_RSI] -= (greg_t)t->ctx->string_delta[0];
		regs[REG_RDI] -= (greg_t)t->ctx->string_delta[1];
		regs[REG_R10] = regs[REG_RCX];
	}
	t->ctx->exit_code = EXIT_CODE(EXIT_OP, b->id, index);
	t->ctx->trap = in->handed ? 0 : trap; /* what is handed over traps on purpose */
	regs[REG_RIP] = (greg_t)t->ctx->leave;
}

static void on_trap(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t *regs = uc->uc_mcontext.gregs;
	const u8 *pc = (const u8 *)(uintptr_t)regs[REG_RIP];
	struct translator *t = translate_current;
	struct tblock *b = t && codemem_has(&t->mem, pc) ? tcache_by_code(t, pc) : NULL;

	if (!b || chain_is_shortage(sig, info)) {
		chain_signal(&chained[sig], sig, info, context);
		return;
	}
	t->ctx->trap_at = (u64)(uintptr_t)info->si_addr;
	leave_at(t, b, pc, regs, (u64)regs[REG_TRAPNO] + 1);
}

/* Points every exit of b outwards. Only stores: it runs in a signal handler. */
static void cut(struct translator *t, struct tblock *b)
{
	static const u8 jmp = 0xe9;

	for (unsigned i = 0; i < b->link_count; i++)
		link_point(t, &b->links[i], b->links[i].out);
	if (b->gate != NO_GATE) {
		u8 *gate = codemem_rw(&t->mem, b->code + b->gate);

		asm_patch(gate + 1, t->mem.rw + b->gate_out);
		*(volatile u8 *)gate = jmp;
	}
	b->cut = true;
}

/* Within a lookup, behind its gate: this block has no exit left to cut. The target is still in
 * T_ADDR, which is all that the way out needs. */
static bool past_gate(const struct tblock *b, const u8 *pc)
{
	return b->gate != NO_GATE && pc > b->code + b->gate && pc < b->code + b->code_size;
}

static void on_kick(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t *regs = uc->uc_mcontext.gregs;
	const u8 *pc = (const u8 *)(uintptr_t)regs[REG_RIP];
	struct translator *t = translate_current;

	if (!t)
		return;
	atomic_store(&t->kick_sent, false); /* before we act: who kicks after this is heard again */
	t->ctx->kicked = 1;
	/* Who goes there is on the way out. */
	t->ctx->vector_fetch = t->ctx->x87_fetch = (u64)(uintptr_t)t->exit_stub;
	bool entering =
		(pc >= (const u8 *)translate_enter && pc < (const u8 *)translate_enter_end) ||
		(pc >= t->vector_enter && pc < t->vector_enter_end);
	if (entering) {
		/* The jump at the end of the entry goes straight out instead: the context is still
		 * complete, nothing needs saving; from the vector entry through its own slot and
		 * the way that gives MXCSR back. */
		t->ctx->exit_code = EXIT_CODE(EXIT_ATTENTION, 0, 0);
		t->ctx->enter = (u64)(uintptr_t)translate_abort;
		t->ctx->code = (u64)(uintptr_t)t->vector_leave;
		return;
	}
	if (pc >= t->vector_fetch && pc < t->fetch_end)
		pc = (const u8 *)(uintptr_t)regs[REG_R11]; /* as good as back there */
	struct tblock *b = codemem_has(&t->mem, pc) ? tcache_by_code(t, pc) : NULL;
	if (b && in_string(b, pc)) {
		leave_at(t, b, pc, regs, 0);
	} else if (b && past_gate(b, pc)) {
		regs[REG_RIP] = (greg_t)(t->mem.rx + b->gate_out);
	} else if (b && !t->cut_block) {
		cut(t, b);
		t->cut_block = b;
	}
}

static void install(void)
{
	static const int traps[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL };
	struct sigaction sa = { .sa_sigaction = on_trap,
		.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK };

	for (unsigned i = 0; i < ARRAY_LEN(traps); i++)
		sigaction(traps[i], &sa, &chained[traps[i]]);
	sa.sa_sigaction = on_kick;
	sa.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
	sigaction(KICK, &sa, NULL);
}

void translate_signals(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, install);
}
