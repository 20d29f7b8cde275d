/*
 * Exceptions and interrupts: what is delivered, in which order, and when to give up.
 *
 * Three entries: x86_deliver() for the fault in cpu->fault, x86_interrupt() for what comes from
 * outside, x86_software_interrupt() for INT and its relatives. Each makes an x86_delivery and hands
 * it to x86_enter_handler() (event.c), which either enters the handler or fails without changes
 * and with a new fault. What that second fault means is decided here (SDM 3A table 6-5): it is
 * delivered in the first one's stead, the pair becomes #DF, or the processor shuts down. Entering a
 * handler can only raise contributory faults and page faults, so at most #DF and then shutdown
 * end the chain.
 */
#include "x86/exception.h"
#include "x86/x86_priv.h"

#define DR6_TRAPS 0xfull
#define DR6_BD	  BIT64(13)
#define DR7_GD	  BIT64(13)

enum severity { BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE_FAULT };

/* SDM 3A table 6-4 */
static enum severity severity(u8 vector)
{
	switch (vector) {
	case X86_DE:
	case X86_TS:
	case X86_NP:
	case X86_SS_FAULT:
	case X86_GP: return CONTRIBUTORY;
	case X86_PF: return PAGE_FAULT;
	case X86_DF: return DOUBLE_FAULT;
	default: return BENIGN;
	}
}

enum outcome { SERIAL, DOUBLE, SHUTDOWN };

/* Rows: the first event. Columns: what went wrong while delivering it (SDM 3A table 6-5). */
static const enum outcome outcomes[4][4] = {
	[BENIGN] = { SERIAL, SERIAL, SERIAL, SERIAL },
	[CONTRIBUTORY] = { SERIAL, DOUBLE, SERIAL, SERIAL },
	[PAGE_FAULT] = { SERIAL, DOUBLE, DOUBLE, SERIAL },
	[DOUBLE_FAULT] = { SERIAL, SHUTDOWN, SHUTDOWN, SHUTDOWN },
};

/* The registers that an exception reports through, written when it is recognized: a page fault that
 * ends up as #DF still shows in CR2. */
static void report(struct x86_state *s, const struct x86_fault *f)
{
	if (f->vector == X86_PF)
		s->cr2 = f->address;
	if (f->vector == X86_DB) {
		s->dr6 = (s->dr6 & ~DR6_TRAPS) | f->dr6;
		s->dr7 &= ~DR7_GD; /* so that the handler can use the debug registers */
	}
}

/*
 * RF in the pushed image, so that an instruction breakpoint does not hit again on return (SDM 3B
 * 17.3.1.1): set by faults. Of debug exceptions only general detect is one that is not an
 * instruction breakpoint.
 */
static bool sets_rf(const struct x86_fault *f)
{
	switch (f->vector) {
	case X86_DB: return f->dr6 & DR6_BD;
	case X86_NMI:
	case X86_BP:
	case X86_OF:
	case X86_DF:
	case X86_MC: return false;
	default: return true;
	}
}

static int deliver_once(struct x86_cpu *cpu, const struct x86_fault *f)
{
	struct x86_state *s = &cpu->s;
	struct x86_delivery d = {
		.vector = f->vector,
		.kind = X86_EVENT_FAULT,
		.has_error = f->has_error,
		.error = f->error,
		.rip = s->rip,
		.rflags = s->rflags | (sets_rf(f) ? FLAG_RF : 0),
	};

	cpu->last_vector = f->vector;
	cpu->last_error = f->error;
	cpu->last_rip = s->rip;
	report(s, f);
	return x86_enter_handler(cpu, &d);
}

void x86_deliver(struct x86_cpu *cpu)
{
	struct x86_fault f = cpu->fault;

	while (deliver_once(cpu, &f) != X86_OK) {
		struct x86_fault next = cpu->fault;

		switch (outcomes[severity(f.vector)][severity(next.vector)]) {
		case SERIAL: f = next; break;
		case DOUBLE:
			report(&cpu->s, &next);
			f = (struct x86_fault){ .vector = X86_DF, .has_error = true };
			break;
		case SHUTDOWN: cpu->s.activity = X86_SHUTDOWN; return;
		}
	}
}

void x86_interrupt(struct x86_cpu *cpu, u8 vector)
{
	struct x86_state *s = &cpu->s;
	struct x86_delivery d = {
		.vector = vector,
		.kind = X86_EVENT_INTERRUPT,
		.rip = s->rip,
		.rflags = s->rflags,
	};

	s->activity = X86_RUNNING;
	if (vector == X86_NMI)
		s->blocking |= BLOCK_NMI;
	if (x86_enter_handler(cpu, &d) != X86_OK)
		x86_deliver(cpu);
}

int x86_software_interrupt(struct x86_cpu *cpu, u8 vector, enum x86_event kind, u64 next_rip)
{
	struct x86_delivery d = {
		.vector = vector,
		.kind = kind,
		.rip = next_rip,
		.rflags = cpu->s.rflags,
	};
	bool done = false;

	if (kind == X86_EVENT_INT_N && x86_v86(&cpu->s))
		TRY(x86_v86_int_n(cpu, vector, next_rip, &done));
	return done ? X86_OK : x86_enter_handler(cpu, &d);
}
