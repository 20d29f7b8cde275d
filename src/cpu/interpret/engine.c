/*
 * The run loop.
 *
 * Between blocks the loop looks at `attention`; while anything must be seen at every instruction
 * (TF, RF, event shadows, breakpoints, tracing) it goes one instruction at a time through
 * interp_step(). Inside a block nothing is tested: handlers return OP_NEXT until the sentinel, a
 * jump, a fault or an exit.
 *
 * A block that was built under a longer CS limit than the present one is rebuilt (blocks_find).
 */
#include "base/log.h"
#include "base/must.h"
#include "cpu/interpret/blocks.h"
#include "cpu/interpret/branch.h"
#include "cpu/interpret/decode.h"
#include "cpu/interpret/system.h"
#include <errno.h>
#include <stdlib.h>

static bool stepping_needed(const struct interp *c)
{
	const struct x86_state *s = c->s;

	return (s->rflags & (FLAG_TF | FLAG_RF)) || c->pending_dr6 ||
	       (s->blocking & (BLOCK_STI | BLOCK_MOV_SS)) || (s->dr7 & 0xff) ||
	       c->v->trace.instructions;
}

void interp_refresh(struct interp *c)
{
	c->code_bits = (u8)x86_code_bits(c->s);
	c->ip_mask = c->code_bits == 64 ? ~0ull : 0xffffffffull;
	mmu_refresh(&c->mmu);
	c->slow = stepping_needed(c);
}

/* ---- events ---- */

static void trace_event(struct interp *c, const char *kind, unsigned vector)
{
	if (unlikely(c->v->trace.interrupts))
		fprintf(c->v->trace.to, "%u %s %u rip=0x%llx\n", c->v->index, kind, vector,
			(unsigned long long)c->s->rip);
}

void interp_deliver(struct interp *c)
{
	c->v->stats.exceptions++;
	trace_event(c, "exception", c->v->x86.fault.vector);
	c->mmu.watch_hits = 0;
	x86_deliver(&c->v->x86);
	interp_refresh(c);
}

static void deliver_interrupt(struct interp *c, u8 vector)
{
	c->v->stats.interrupts++;
	trace_event(c, "interrupt", vector);
	x86_interrupt(&c->v->x86, vector);
	interp_refresh(c);
}

/* Looks at every attention bit; true when run() must return c->exit. */
bool interp_attend(struct interp *c)
{
	struct vcpu *v = c->v;
	struct x86_state *s = c->s;
	u32 a = atomic_load(&v->attention);

	if (a & ATTN_CODE) {
		atomic_fetch_and(&v->attention, ~ATTN_CODE);
		blocks_apply(c);
	}
	if (a & ATTN_STOP) {
		atomic_fetch_and(&v->attention, ~ATTN_STOP);
		c->exit = CPU_EXIT_KICK;
		return true;
	}
	if (a & ATTN_INIT) {
		atomic_fetch_and(&v->attention, ~ATTN_INIT);
		x86_init(&v->x86);
		mmu_flush(&c->mmu, X86_FLUSH_ALL, 0, 0);
		interp_refresh(c);
	}
	if (a & ATTN_SIPI) {
		atomic_fetch_and(&v->attention, ~ATTN_SIPI);
		if (s->activity == X86_WAIT_SIPI) {
			x86_sipi(&v->x86, atomic_load(&v->sipi_vector));
			interp_refresh(c);
		}
	}
	if (s->activity == X86_WAIT_SIPI || s->activity == X86_SHUTDOWN)
		return false;
	if ((a & ATTN_NMI) && !(s->blocking & (BLOCK_NMI | BLOCK_MOV_SS))) {
		atomic_fetch_and(&v->attention, ~ATTN_NMI);
		deliver_interrupt(c, X86_NMI);
		return false;
	}
	if ((a & ATTN_INTR) && x86_irq_enabled(s)) {
		/* Cleared first: whoever raises another one meanwhile sets it again. */
		atomic_fetch_and(&v->attention, ~ATTN_INTR);
		int vector = v->ops->interrupt(v->ops_ctx, v);
		if (vector >= 0) {
			atomic_fetch_or(&v->attention, ATTN_INTR);
			deliver_interrupt(c, (u8)vector);
		}
	}
	return false;
}

/* ---- one instruction at a time ---- */

static void trace_instruction(struct interp *c, const struct block *k)
{
	const u8 *bytes = memory_host(c->v->memory, gpa(k->unit.gpa), k->ops[0].length);
	char text[128] = "(straddles pages)";

	if (bytes)
		decode_text(bytes, k->ops[0].length, c->code_bits, c->s->rip, text, sizeof(text));
	fprintf(c->v->trace.to, "%u %04x:%016llx %s\n", c->v->index, c->s->seg[X86_CS].selector,
		(unsigned long long)c->s->rip, text);
}

/* Software interrupts and system calls that cleared TF enter their handler unstepped. */
static bool enters_handler(const struct op *op)
{
	return op->exec == op_int || op->exec == op_into || op->exec == op_int1 ||
	       op->exec == op_syscall || op->exec == op_sysenter;
}

static void debug_trap(struct interp *c, u64 dr6)
{
	c->v->x86.fault = (struct x86_fault){ .vector = X86_DB, .dr6 = dr6 };
	interp_deliver(c);
}

bool interp_step(struct interp *c)
{
	struct x86_state *s = c->s;
	u64 before = s->rflags, rip = s->rip;
	u32 shadow = s->blocking & (BLOCK_STI | BLOCK_MOV_SS);

	if (c->pending_dr6 && !(shadow & BLOCK_MOV_SS)) {
		u64 dr6 = c->pending_dr6;

		c->pending_dr6 = 0;
		debug_trap(c, dr6);
		return false;
	}
	if ((s->dr7 & 0xff) && !(before & FLAG_RF) && !(shadow & BLOCK_MOV_SS)) {
		u64 linear = c->code_bits == 64 ? rip : (u32)(rip + s->seg[X86_CS].base);
		u64 hits = x86_code_breakpoints(s, linear);

		if (hits) {
			debug_trap(c, hits);
			return false;
		}
	}
	struct block *k = blocks_find(c);
	if (!k) {
		interp_deliver(c);
		return false;
	}
	if (unlikely(c->v->trace.instructions))
		trace_instruction(c, k);
	struct op op = k->ops[0]; /* a copy: the instruction may overwrite itself */
	c->mmu.watch_hits = 0;
	s->blocking &= ~shadow;
	int r = op.exec(c, &op);
	counter_add(&c->retired, 1);
	if (r == OP_FAULT) {
		interp_deliver(c);
		return false;
	}
	if (r == OP_NEXT)
		s->rip = (s->rip + op.length) & c->ip_mask;
	if ((before & FLAG_RF) && op.exec != op_iret)
		s->rflags &= ~FLAG_RF;

	/* Debug traps wait while a MOV SS shadow is open (SDM 3A 6.8.3). */
	u64 dr6 = c->mmu.watch_hits | c->pending_dr6;
	if ((before & FLAG_TF) && (!enters_handler(&op) || (s->rflags & FLAG_TF)))
		dr6 |= DR6_BS;
	c->pending_dr6 = 0;
	if (dr6 && (s->blocking & BLOCK_MOV_SS))
		c->pending_dr6 = dr6 & ~DR6_BS;
	else if (dr6)
		debug_trap(c, dr6);
	interp_refresh(c);
	return r == OP_EXIT;
}

/* ---- the loop ---- */

bool interp_idle(struct interp *c)
{
	switch (c->s->activity) {
	case X86_RUNNING: return false;
	case X86_HALTED: c->exit = CPU_EXIT_HALT; return true;
	case X86_WAIT_SIPI: c->exit = CPU_EXIT_WAIT; return true;
	case X86_SHUTDOWN: c->exit = CPU_EXIT_SHUTDOWN; return true;
	}
	unreachable();
}

/* One block. False when run() must return c->exit. */
ALWAYS_INLINE bool run_block(struct interp *c)
{
	struct block *k = blocks_find(c);

	if (unlikely(!k)) {
		interp_deliver(c);
		return true;
	}
	const struct op *op = k->ops;
	int r;
	while (likely((r = op->exec(c, op)) == OP_NEXT)) {
		c->s->rip = (c->s->rip + op->length) & c->ip_mask;
		op++;
	}
	counter_add(&c->retired, (u64)(op - k->ops) + 1);
	if (unlikely(r == OP_FAULT))
		interp_deliver(c);
	return r != OP_EXIT;
}

bool interp_run_block(struct interp *c) { return run_block(c); }

static enum cpu_exit interpret_run(struct vcpu *v)
{
	struct interp *c = v->engine_data;

	blocks_owner(c);
	interp_refresh(c);
	for (;;) {
		if (unlikely(atomic_load_explicit(&v->attention, memory_order_relaxed)) &&
			interp_attend(c))
			break;
		if (unlikely(c->s->activity != X86_RUNNING) && interp_idle(c))
			break;
		if (unlikely(c->slow)) {
			if (interp_step(c))
				break;
		} else if (!run_block(c)) {
			break;
		}
	}
	blocks_owner(NULL);
	v->stats.instructions = counter_read(&c->retired);
	v->stats.exits[c->exit]++;
	if (unlikely(v->trace.exits))
		fprintf(v->trace.to, "%u exit %d rip=0x%llx\n", v->index, (int)c->exit,
			(unsigned long long)c->s->rip);
	return c->exit;
}

/* ---- life ---- */

static int interpret_probe(struct err *why) { return 0; }

void interp_free(struct interp *c)
{
	if (!c)
		return;
	memory_unwatch(c->v->memory, c);
	if (c->blocks)
		code_map_clear(&c->code);
	blocks_free(c->blocks);
	natives_free(c->natives);
	c->v->mmu = NULL;
	free(c);
}

struct interp *interp_new(struct vcpu *v, struct err *err)
{
	struct interp *c = calloc(1, sizeof(*c));

	if (!c) {
		err_set(err, -ENOMEM, "no memory for vcpu %u", v->index);
		return NULL;
	}
	v->mmu = &c->mmu;
	v->x86.ops = &mmu_x86_ops;
	v->x86.ctx = v;
	c->v = v;
	c->s = &v->x86.s;
	c->code.memory = v->memory;
	mmu_init(&c->mmu, v);
	c->blocks = blocks_new(c, err);
	c->natives = c->blocks ? natives_new(err) : NULL;
	if (!c->natives) {
		interp_free(c);
		return NULL;
	}
	memory_watch(
		v->memory, &(struct memory_watcher){ .code_written = blocks_written, .ctx = c });
	return c;
}

static void interpret_close(struct vcpu *v)
{
	interp_free(v->engine_data);
	v->engine_data = NULL;
}

static int interpret_open(struct vcpu *v, struct err *err)
{
	v->engine_data = interp_new(v, err);
	return v->engine_data ? 0 : err->code;
}

/* run() polls attention at every block: nothing to interrupt. */
static void interpret_kick(struct vcpu *v) {}

static int interpret_pull(struct vcpu *v) { return 0; }

static int interpret_push(struct vcpu *v)
{
	struct interp *c = v->engine_data;

	mmu_flush(&c->mmu, X86_FLUSH_ALL, 0, 0);
	c->pending_dr6 = 0;
	return 0;
}

static void interpret_forget(struct vcpu *v, gpa_t at, u64 len)
{
	blocks_forget(v->engine_data, at, len);
}

static struct cpu_counts interpret_counts(const struct vcpu *v)
{
	const struct interp *c = v->engine_data;

	return (struct cpu_counts){ .instructions = counter_read(&c->retired), .counting = true };
}

const struct cpu_engine interpret_engine = {
	.name = "interpret",
	.doc = "the reference interpreter: every mode and instruction, on any host",
	.probe = interpret_probe,
	.open = interpret_open,
	.close = interpret_close,
	.run = interpret_run,
	.kick = interpret_kick,
	.pull = interpret_pull,
	.push = interpret_push,
	.forget = interpret_forget,
	.counts = interpret_counts,
};
