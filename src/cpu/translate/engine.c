/*
 * The translator's run loop: interpret what is not 64-bit code or must be stepped, else find, enter
 * and join blocks.
 */
#include "base/log.h"
#include "base/must.h"
#include "cpu/interpret/branch.h"
#include "cpu/translate/explain.h"
#include "cpu/translate/translate_priv.h"
#include "os/pages.h"
#include "x86/control.h"
#include <asm/prctl.h>
#include <errno.h>
#include <immintrin.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1u << 31)
#endif
#define SIGNAL_STACK (64 * KiB)

static int translate_probe(struct err *why)
{
	if (!__builtin_cpu_supports("bmi2"))
		return err_set(why, -ENOTSUP, "this processor lacks BMI2");
	return 0;
}

/* ---- entering ---- */

static void set_gs(const void *base) { syscall(SYS_arch_prctl, ARCH_SET_GS, base); }

/* May vector instructions of any kind run now? What is not allowed faults in the interpreter. */
static bool vectors_allowed(const struct translator *t)
{
	const struct x86_state *s = t->c->s;
	u64 need = t->c->v->x86.model->xcr0_mask;

	return !(t->options & OPTION_NO_VECTOR) && !(s->cr0 & (CR0_TS | CR0_EM)) &&
	       (s->cr4 & CR4_OSFXSR) && (s->cr4 & CR4_OSXMMEXCPT) && (s->cr4 & CR4_OSXSAVE) &&
	       (s->xcr0 & need) == need;
}

/* Flags that are in slots of the context while code runs. */
#define FLAGS_SLOTS (FLAG_IF | FLAG_DF | FLAG_AC)

/* From the context to the state: what translated code may have changed. */
static void leave_state(struct translator *t)
{
	const struct tctx *x = t->ctx;
	struct x86_state *s = t->c->s;
	u64 ac = (s->rflags ^ x->ac) & FLAG_AC;

	s->rflags = (s->rflags & ~(FLAGS_STATUS | FLAGS_SLOTS)) | (x->flags & FLAGS_STATUS) |
		    x->vif | x->df | x->ac;
	if (unlikely(ac)) {
		mmu_refresh(&t->c->mmu);
		t->code_space = window_code_space(t);
	}
}

/* What code relies on finding in the host's registers. */
struct resident {
	bool vectors, x87;
};

static void enter(struct translator *t, const u8 *code, struct resident in)
{
	struct tctx *x = t->ctx;
	struct x86_state *s = t->c->s;

	x->flags = (s->rflags & FLAGS_STATUS) | FLAG_ONE | FLAG_IF;
	x->vif = s->rflags & FLAG_IF;
	x->df = s->rflags & FLAG_DF;
	x->ac = s->rflags & FLAG_AC;
	x->rest = s->rflags & ~(FLAGS_STATUS | FLAG_RF | FLAGS_SLOTS);
	x->tsc_offset = s->tsc_offset;
	x->fs_base = s->seg[X86_FS].base;
	x->gs_base = s->seg[X86_GS].base;
	x->trap = 0;
	x->rip = s->rip;
	if (code_space_kernel_window(t->code_space))
		kernel_window_enter(t);
	else if (code_space_window(t->code_space))
		window_enter(t);
	x->code = (u64)(uintptr_t)code;
	x->enter = in.vectors ? (u64)(uintptr_t)t->vector_enter : x->code;
	x->leave = in.vectors ? (u64)(uintptr_t)t->vector_leave : x->leave_plain;
	x->vectors_away = !in.vectors;
	x->vector_fetch = (u64)(uintptr_t)(vectors_allowed(t) ? t->vector_fetch : t->exit_stub);
	x->x87_away = 1;
	x->x87_at = s->fpu.fdp;
	x->x87_fetch = (u64)(uintptr_t)(x87_allowed(t) ? t->x87_fetch : t->exit_stub);
	if (unlikely(in.x87))
		x87_put(t);
	translate_enter();
	if (unlikely(!x->x87_away))
		x87_take(t);
	leave_state(t);
}

/* Is there attention that the outer loop can do something about? What waits for IF or for the end
 * of an NMI waits while code runs: whatever lifts the block is handed over and ends its block. */
static bool wanted(const struct interp *c)
{
	u32 a = atomic_load(&c->v->attention);

	if (!x86_irq_enabled(c->s))
		a &= ~ATTN_INTR;
	if (c->s->blocking & BLOCK_NMI)
		a &= ~ATTN_NMI;
	return a;
}

/* ---- after an exit ---- */

/* How far the register of a bit string instruction moves its operand. */
static u64 bit_string_bytes(const struct interp *c, const struct op *op)
{
	s64 bit = (s64)sign_extend(reg_get(c, op->src, op->size), op->size);

	return (u64)(bit >> (3 + size_index(op->size))) * op->size;
}

/* So many bytes below what a register points to, in the width of the code's addresses. */
static u64 pointer(const struct interp *c, unsigned reg, unsigned below)
{
	u64 at = c->s->gpr[reg] - below;

	return c->code_bits == 32 ? (u32)at : at;
}

/* What the instruction is about to touch, to be cached once it has. */
static u64 touched(const struct translator *t, const struct tinsn *in, const struct op *op)
{
	const struct interp *c = t->c;

	switch ((enum access)in->access) {
	case ACCESS_PUSH: return pointer(c, RSP, c->code_bits / 8);
	case ACCESS_POP: return pointer(c, RSP, 0);
	case ACCESS_LEAVE: return pointer(c, RBP, 0);
	case ACCESS_EA_READ:
	case ACCESS_EA_WRITE: return op_linear64(c, op);
	case ACCESS_BIT_READ:
	case ACCESS_BIT_WRITE: return op_linear64(c, op) + bit_string_bytes(c, op);
	case ACCESS_STOS:
	case ACCESS_MOVS: return pointer(c, RDI, 0);
	case ACCESS_LODS: return pointer(c, RSI, 0);
	case ACCESS_NONE: break;
	}
	return 0;
}

/* A second access, always a read: the operand of PUSH m and CALL m, the source of MOVS. */
static bool touches_two(
	const struct interp *c, const struct tinsn *in, const struct op *op, u64 *at)
{
	*at = in->access == ACCESS_MOVS ? pointer(c, RSI, 0) : op_linear64(c, op);
	return in->access == ACCESS_MOVS ||
	       (in->access == ACCESS_PUSH && op->flags & (OPF_SRC_MEM | OPF_DST_MEM));
}

/* Runs the instruction that translated code handed over; the code to go on at, NULL for the outer
 * loop. *stop: leave run(). */
static const u8 *hand_over(struct translator *t, struct tblock *b, unsigned index, bool *stop)
{
	struct interp *c = t->c;
	struct tinsn *in = &b->insns[index];
	const struct op *op = tblock_op(t, b, index);
	enum mmu_space space = c->mmu.space;
	u64 at, second;

	c->s->rip = tblock_rip(t, b) + in->guest_at; /* operands may be relative to it */
	at = touched(t, in, op);
	bool two = touches_two(c, in, op, &second);
	bool counted = !count_is_ours(t, in);
	int r = op->exec(c, op);
	counter_add(&c->retired, !counted);
	switch (r) {
	case OP_NEXT: c->s->rip += op->length; break;
	case OP_JUMP: break;
	case OP_FAULT:
		if (b->space < CODE_KERNEL && code_space_window(b->space) && t->ctx->trap)
			window_faulted(t);
		interp_deliver(c);
		return NULL;
	default: *stop = true; return NULL;
	}
	bool shown = false;
	if (t->ctx->trap && code_space_window(b->space) && c->mmu.space == space && !t->dropped)
		shown = window_missed(t, b, index, at, access_writes(in->access)) &&
			(!two || window_missed(t, b, index, second, false));
	if (in->access && c->mmu.space == space && !t->dropped && !shown) {
		tcache_fill(t, at, in->bytes, access_writes(in->access));
		if (two)
			tcache_fill(t, second, in->bytes, false);
	}
	if (r == OP_JUMP || t->dropped || !b->unit.valid || (op->flags & OPF_END) || c->slow ||
		c->mmu.space != space || wanted(c))
		return NULL;
	if (code_space_window(b->space) && !window_resume(t, b, in + 1))
		return NULL;
	if (code_space_flat(b->space) && !emit_translatable(c))
		return NULL;
	if (in[1].aux == TINSN_AUX_RUN && !run_resume(t, b, in, at))
		return NULL;
	return b->code + b->insns[index + 1].host_at;
}

static void settle_modes(struct translator *t)
{
	u64 baked = (t->c->s->cr4 & BAKED_CR4) | (count_wanted(t) ? BAKED_COUNT : 0);

	if (unlikely(baked != t->baked)) {
		t->baked = baked;
		t->pending = NULL;
		t->pending_jump = false;
		tcache_clear(t);
	}
	if (t->enter_waits && (t->c->mmu.space == MMU_USER || !(t->c->s->rip >> 63)))
		retain_enter_now(t);
	if ((t->options & OPTION_WINDOW_ALWAYS) && t->c->mmu.space == MMU_USER)
		window_give(&t->window, t->c->s->cr3);
	t->code_space = window_code_space(t);
	if (t->window.awaited && t->code_space < CODE_KERNEL && code_space_window(t->code_space))
		window_returned(t);
}

/* An indirect transfer to nowhere, which only 64-bit code can make, faults before it has any
 * effect: back to where the interpreter finds it. */
static void undo_transfer(struct translator *t, const struct op *op)
{
	struct interp *c = t->c;

	if (op->exec == op_ret) {
		c->s->gpr[RSP] -= 8 + op->imm;
	} else if (op->exec == op_call_ind) {
		/* It was written a moment ago, so this does not fault. */
		mem_write_slow(c, X86_SS, c->s->gpr[RSP], 8, t->ctx->overwritten);
		c->s->gpr[RSP] += 8;
	}
}

/*
 * Where code goes on after an exit that led elsewhere (a system call, a return from it, a fault's
 * handler), if indirect jumps lead there already; else NULL, and what the outer loop finds is
 * entered in their table.
 */
static const u8 *resume(struct translator *t)
{
	struct interp *c = t->c;
	u64 rip = c->s->rip;

	if (c->slow || !emit_translatable(c) || c->s->activity != X86_RUNNING || !rip ||
		t->options & (OPTION_NO_LOOKUP | OPTION_NO_RESUME))
		return NULL;
	settle_modes(t);
	const struct jump_target *j = &t->ctx->jump[t->code_space].targets[jump_index(rip)];
	if (j->neg == -rip)
		return (const u8 *)(uintptr_t)j->code;
	t->pending_jump = true;
	return NULL;
}

/* The ITLB has no entry for the page of b that is about to be entered (or for its second one: then
 * `arg` is an instruction): where code goes on if b is what belongs there, NULL for the outer loop.
 */
static const u8 *page_missed(struct translator *t, struct tblock *b, unsigned arg)
{
	struct interp *c = t->c;
	struct code_bytes src;

	if (arg != NO_INSN) {
		c->s->rip = tblock_rip(t, b) + b->insns[arg].guest_at;
		if (unlikely(t->baked & BAKED_COUNT))
			count_take_back(t, b->insns[arg].behind + 1u);
		return NULL;
	}
	c->s->rip = b->floats ? t->ctx->rip : b->rip;
	if (blocks_fetch(c, c->s->rip, &src) != X86_OK)
		return NULL;
	if (!b->unit.valid || src.gpa != b->unit.gpa) {
		tcache_detach(t, b);	     /* another space's */
		t->pending_jump = b->floats; /* if it was one, it is to lead to what is found */
		return NULL;
	}
	if (b->unit.gpa2 != CODE_NO_PAGE)
		return NULL; /* whoever finds it looks at both */
	t->ctx->page = c->s->rip & ~PAGE_MASK;
	itlb_fill(t, b);
	return b->code + tblock_entry(b);
}

static bool run_blocks(struct translator *t, struct tblock *b)
{
	struct interp *c = t->c;
	const u8 *code = b->code + tblock_entry(b);
	bool stop = false;
	struct resident in = { 0 };

	t->ctx->page = c->s->rip & ~PAGE_MASK;
	while (code) {
		/* Order: announce, then look; vcpu_post() and tcache_claimed() do the reverse. */
		t->ctx->kicked = 0;
		t->ctx->exit_code =
			EXIT_CODE(EXIT_ATTENTION, 0, 0); /* unless some exit says otherwise */
		atomic_store(&t->in_code, true);
		if (unlikely(wanted(c) || atomic_load(&t->purge))) {
			atomic_store(&t->in_code, false);
			if (atomic_exchange(&t->purge, false))
				tcache_purge(t);
			if (wanted(c))
				return true; /* RIP is exact: it was set before */
			continue;
		}
		enter(t, code, in);
		atomic_store_explicit(&t->in_code, false, memory_order_release);
		check_left(t);
		code = NULL;
		in = (struct resident){ 0 };

		u32 exit = t->ctx->exit_code, arg = EXIT_ARG(exit);
		enum exit_kind kind = EXIT_KIND(exit);
		unsigned behind;
		counter_add(&t->exits[kind], 1);
		if (kind == EXIT_ATTENTION)
			return true;
		struct tblock *from = t->by_id[EXIT_ID(exit)]; /* not of a shared lookup */
		if (t->cut_block) {
			tcache_unlink_out(t, t->cut_block);
			t->cut_block = NULL;
		}
		switch (kind) {
		case EXIT_LINK:
			c->s->rip = t->pending_rip = link_target(t, from, &from->links[arg]);
			t->pending = &from->links[arg];
			break;
		case EXIT_LOOKUP:
			if (arg != NO_INSN && !x86_canonical(t->ctx->rip)) {
				undo_transfer(t, tblock_op(t, from, arg));
				hand_over(t, from, arg, &stop);
				break;
			}
			c->s->rip = t->ctx->rip;
			t->pending_jump = true;
			break;
		case EXIT_VECTOR:
		case EXIT_X87:
			/* They are not available; or a kick came before they were fetched. */
			c->s->rip = tblock_rip(t, from) + from->insns[arg].guest_at;
			if (unlikely(t->baked & BAKED_COUNT))
				count_take_back(t, from->insns[arg].behind + 1u);
			t->interpret_once =
				kind == EXIT_X87 ? !x87_allowed(t) : !vectors_allowed(t);
			break;
		case EXIT_OP:
			t->dropped = false;
			if (unlikely(t->stats))
				stats_op(t, &from->insns[arg]);
			behind = from->insns[arg].behind;
			code = hand_over(t, from, arg, &stop);
			if (unlikely(!code && behind))
				count_take_back(t, behind);
			in.vectors = code && from->vector_from <= arg;
			in.x87 = code && from->x87_from <= arg;
			if (!code && !stop)
				code = resume(t);
			break;
		case EXIT_PAGE: code = page_missed(t, from, arg); break;
		case EXIT_ATTENTION: break;
		}
	}
	return !stop;
}

static enum cpu_exit translate_run(struct vcpu *v)
{
	struct translator *t = v->engine_data;
	struct interp *c = t->c;
	u64 since = stats_now(t), entered = __rdtsc();

	/* Only while we run: the stack is freed with the engine, the thread may live on. */
	stack_t kept, ss = {
		.ss_sp = t->signal_stack, .ss_size = SIGNAL_STACK, .ss_flags = (int)SS_AUTODISARM
	};
	sigaltstack(&ss, &kept);
	if (!t->bound) {
		t->thread = pthread_self();
		t->bound = true;
	}
	translate_current = t;
	atomic_store(&t->kick_sent, false); /* one that came between two runs was not for us */
	set_gs(t->ctx);
	t->ctx->mxcsr_host = _mm_getcsr();
	blocks_owner(c);
	interp_refresh(c);
	for (;;) {
		if (unlikely(atomic_load_explicit(&v->attention, memory_order_relaxed))) {
			window_clock(t);
			atomic_fetch_and(&v->attention, ~ATTN_LOOK); /* settle_modes() looks */
			if (interp_attend(c))
				break;
		}
		if (unlikely(c->s->activity != X86_RUNNING) && interp_idle(c))
			break;
		if (unlikely(c->slow)) {
			t->pending = NULL;
			t->pending_jump = false;
			if (interp_step(c))
				break;
			continue;
		}
		settle_modes(t);
		bool interpret = !emit_translatable(c) || t->interpret_once;
		struct tblock *b = NULL;
		/* A link to loose code is made although firm code would do this time. */
		if (t->pending && t->pending->space == code_space_loose(t->code_space))
			t->code_space = t->pending->space;
		if (!interpret)
			b = tcache_find(t, &interpret);
		if (!b) {
			t->pending = NULL;
			t->pending_jump = false;
			t->interpret_once = false;
			if (!interpret)
				interp_deliver(c);
			else if (!interp_run_block(c))
				break;
			continue;
		}
		itlb_fill(t, b);
		if (t->pending && t->pending_rip == c->s->rip && t->pending->space == b->space &&
			!(t->options & OPTION_NO_CHAIN))
			tcache_link(t, t->pending, b);
		if (t->pending_jump && !(t->options & OPTION_NO_LOOKUP))
			tcache_jump(t, b);
		t->pending = NULL;
		t->pending_jump = false;
		if (!run_blocks(t, b))
			break;
	}
	if (t->stats)
		t->stats->run_ns += stats_now(t) - since;
	blocks_owner(NULL);
	translate_current = NULL;
	sigaltstack(&kept, NULL);
	t->pending = NULL;
	t->pending_jump = false;
	if (c->exit == CPU_EXIT_HALT)
		rest_halted(t, entered);
	if (t->options & OPTION_COUNT)
		v->stats.instructions = count_all(t);
	v->stats.exits[c->exit]++;
	return c->exit;
}

/* ---- life ---- */

static void translate_close(struct vcpu *v)
{
	struct translator *t = v->engine_data;

	if (!t)
		return;
	if (t->c)
		t->c->mmu.flushed = NULL, t->c->mmu.switched = NULL;
	memory_unwatch(v->memory, t);
	interp_free(t->c);
	check_close(t);
	window_unuse(t);
	tcache_close(t);
	pthread_mutex_destroy(&t->claimed_lock);
	free(t->signal_stack);
	free(t->stats);
	pages_free(t, sizeof(*t));
	v->engine_data = NULL;
}

/* Writes come to our blocks through the interpreter's watcher: they share its code map. */
static void ignore_written(void *ctx, gpa_t at, u64 len) {}

static int translate_open(struct vcpu *v, struct err *err)
{
	struct translator *t = pages_new(sizeof(*t)); /* parts of it are aligned to lines */

	if (!t)
		return err_set(err, -ENOMEM, "translate: no memory for vcpu %u", v->index);
	v->engine_data = t;
	t->options = v->engine_options;
	pthread_mutex_init(&t->claimed_lock, NULL);
	t->signal_stack = malloc(SIGNAL_STACK);
	t->c = interp_new(v, err);
	if (!t->signal_stack || !t->c || tcache_open(t, err) < 0 || window_use(t, err) < 0 ||
		check_open(t, err) < 0 || ((t->options & OPTION_STATS) && stats_open(t, err) < 0)) {
		translate_close(v);
		return -ENOMEM;
	}
	t->ctx->leave_plain = (u64)(uintptr_t)translate_leave;
	t->ctx->state = (u64)(uintptr_t)&v->x86.s;
	t->ctx->attention = (u64)(uintptr_t)&v->attention;
	t->c->code.keepers[CODE_TRANSLATED].kill = tcache_killed;
	t->c->code.keepers[CODE_TRANSLATED].ctx = t;
	t->c->hooks = (struct interp_hooks){ .dropped = tcache_dropped, .ctx = t };
	memory_watch(v->memory,
		&(struct memory_watcher){
			.code_written = ignore_written, .code_claimed = tcache_claimed, .ctx = t });
	t->c->mmu.flushed = tcache_flushed;
	t->c->mmu.switched = tcache_switched;
	t->c->mmu.flushed_ctx = t;
	translate_signals();
	return 0;
}

static void translate_kick(struct vcpu *v)
{
	struct translator *t = v->engine_data;

	if (t && t->bound && atomic_load(&t->in_code))
		translate_signal(t);
}

static int translate_pull(struct vcpu *v) { return 0; }

static int translate_push(struct vcpu *v)
{
	struct translator *t = v->engine_data;

	mmu_flush(&t->c->mmu, X86_FLUSH_ALL, 0, 0);
	t->c->pending_dr6 = 0;
	return 0;
}

static void translate_forget(struct vcpu *v, gpa_t at, u64 len)
{
	struct translator *t = v->engine_data;

	blocks_forget(t->c, at, len);
}

static struct cpu_counts translate_counts(const struct vcpu *v)
{
	const struct translator *t = v->engine_data;
	struct cpu_counts c = { .instructions = count_all(t), .counting = count_wanted(t) };

	for (unsigned i = 0; i < ARRAY_LEN(t->exits); i++) {
		u64 n = counter_read(&t->exits[i]);

		c.exits += n;
		c.misses += i == EXIT_LINK || i == EXIT_LOOKUP ? n : 0;
	}
	return c;
}

static void translate_report(struct vcpu *v, FILE *to)
{
	stats_report(v->engine_data, v->index, to);
}

const struct cpu_engine translate_engine = {
	.name = "translate",
	.doc = "the binary translator: 64-bit and flat 32-bit code runs from a code cache",
	.probe = translate_probe,
	.open = translate_open,
	.close = translate_close,
	.run = translate_run,
	.kick = translate_kick,
	.pull = translate_pull,
	.push = translate_push,
	.forget = translate_forget,
	.options = options_table,
	.report = translate_report,
	.counts = translate_counts,
	.count = count_switch,
	.explain = translate_explain,
};
