/*
 * x86/ functions on a pulled state: INIT and start-up IPIs, MSRs that KVM hands back, and events
 * that KVM had accepted but not delivered. KVM has the TLB, so linear accesses here walk the page
 * tables each time, and there is nothing to flush.
 */
#include "base/bits.h"
#include "cpu/kvm/kvm_priv.h"
#include "cpu/mmu.h"
#include "x86/paging.h"

/* Translates both pages of an access before the first byte moves, so that it faults as a whole. */
static int translate(struct x86_cpu *cpu, gva_t at, unsigned len, unsigned access, gpa_t where[2],
	unsigned *first)
{
	struct x86_xlat x;

	*first = (unsigned)min_u64(len, PAGE_SIZE - (at.v & PAGE_MASK));
	TRY(x86_translate(cpu, at, access, &x));
	where[0] = x.gpa;
	if (*first < len) {
		TRY(x86_translate(cpu, gva(at.v + *first), access, &x));
		where[1] = x.gpa;
	}
	return X86_OK;
}

static int op_load(struct x86_cpu *cpu, gva_t at, void *buf, unsigned len, unsigned access)
{
	struct vcpu *v = cpu->ctx;
	gpa_t where[2];
	unsigned first;

	TRY(translate(cpu, at, len, access & ~ACCESS_WRITE, where, &first));
	/* Tables and stacks outside RAM read as ones, like an empty bus. */
	if (!memory_read(v->memory, where[0], buf, first))
		memset(buf, 0xff, first);
	if (first < len && !memory_read(v->memory, where[1], (u8 *)buf + first, len - first))
		memset((u8 *)buf + first, 0xff, len - first);
	return X86_OK;
}

static int op_store(struct x86_cpu *cpu, gva_t at, const void *buf, unsigned len, unsigned access)
{
	struct vcpu *v = cpu->ctx;
	gpa_t where[2];
	unsigned first;
	bool ram;

	TRY(translate(cpu, at, len, access | ACCESS_WRITE, where, &first));
	ram = memory_write(v->memory, where[0], buf, first);
	if (first < len)
		ram = memory_write(v->memory, where[1], (const u8 *)buf + first, len - first);
	(void)ram; /* a write to nowhere is lost, as on a bus */
	return X86_OK;
}

static void op_flush(struct x86_cpu *cpu, enum x86_flush kind, u64 at, unsigned pcid) {}
static void op_mode_changed(struct x86_cpu *cpu) {}

static struct x86_ops ops;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* The rest is what every engine does: the vcpu's ops. */
static void fill(void)
{
	ops = mmu_x86_ops;
	ops.load = op_load;
	ops.store = op_store;
	ops.flush = op_flush;
	ops.mode_changed = op_mode_changed;
}

const struct x86_ops *kvm_x86_ops(void)
{
	pthread_once(&once, fill);
	return &ops;
}
