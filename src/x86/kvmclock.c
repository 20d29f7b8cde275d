/*
 * kvmclock: the guest names a page, the host writes there how to turn a TSC reading into
 * nanoseconds (Linux Documentation/virt/kvm/x86/msr.rst, asm/pvclock-abi.h).
 *
 *	ns = system_time + (((tsc - tsc_timestamp) << shift) * mul >> 32)
 *
 * The pair is one point of a line that all vcpus share (ops->clock_ns is linear in the host's TSC),
 *so PVCLOCK_TSC_STABLE_BIT is honest: readings on different vcpus are ordered without a lock in the
 * guest. `version` is odd while the record is being written and grows with every
 * update, so that a reader on another vcpu notices one that happened in between.
 */
#include "x86/kvmclock.h"
#include "x86/cpuid.h"
#include "x86/msr.h"

struct pvclock_vcpu {
	u32 version, pad0;
	u64 tsc_timestamp, system_time;
	u32 mul;
	s8 shift;
	u8 flags, pad1[2];
};
_Static_assert(sizeof(struct pvclock_vcpu) == 32, "pvclock ABI");

struct pvclock_wall {
	u32 version, sec, nsec;
};
_Static_assert(sizeof(struct pvclock_wall) == 12, "pvclock ABI");

#define PVCLOCK_TSC_STABLE    BIT(0)
#define PVCLOCK_GUEST_STOPPED BIT(1)
#define SYSTEM_TIME_ENABLE    1ull
#define NS_PER_S	      1000000000ull

/*
 * mul and shift such that ticks << shift is at most one doubling away from nanoseconds and mul uses
 * all its 32 bits: hz is brought into (1e9, 2e9], where the 32-bit fraction 1e9/hz is in [1/2, 1).
 */
static void pvclock_scale(u64 hz, u32 *mul, s8 *shift)
{
	int s = 0;

	while (hz > 2 * NS_PER_S) {
		hz >>= 1;
		s--;
	}
	while (hz <= NS_PER_S) {
		hz <<= 1;
		s++;
	}
	*mul = (u32)((NS_PER_S << 32) / hz);
	*shift = (s8)s;
}

static u64 tsc_hz(const struct x86_cpu *cpu)
{
	return cpu->model->tsc_hz ? cpu->model->tsc_hz : NS_PER_S;
}

static u64 guest_ns(struct x86_cpu *cpu, u64 host_tsc)
{
	if (cpu->ops->clock_ns)
		return cpu->ops->clock_ns(cpu, host_tsc);
	return (u64)((u128)host_tsc * NS_PER_S / tsc_hz(cpu));
}

/* The record must not leave its page's RAM, and is written as four-byte-aligned words. */
bool x86_kvmclock_address_valid(struct x86_cpu *cpu, u64 value)
{
	return !(value & 2) && !(value >> cpu->model->phys_bits);
}

void x86_kvmclock_update(struct x86_cpu *cpu)
{
	gpa_t at = gpa(cpu->s.kvm_system_time & ~SYSTEM_TIME_ENABLE);
	u64 now = cpu->ops->host_tsc(cpu);
	struct pvclock_vcpu clock = { .flags = PVCLOCK_TSC_STABLE };

	if (!(cpu->s.kvm_system_time & SYSTEM_TIME_ENABLE))
		return;
	clock.version = ((u32)cpu->ops->phys_load(cpu, at, 4) + 1) | 1;
	if (!cpu->ops->phys_store(cpu, at, &clock.version, sizeof(clock.version)))
		return; /* not RAM: the guest named a wrong page, and will read no time there */
	clock.tsc_timestamp = now + cpu->s.tsc_offset;
	clock.system_time = guest_ns(cpu, now);
	pvclock_scale(tsc_hz(cpu), &clock.mul, &clock.shift);
	cpu->ops->phys_store(cpu, at, &clock, sizeof(clock));
	clock.version++;
	cpu->ops->phys_store(cpu, at, &clock.version, sizeof(clock.version));
}

/* The guest clears the flag. Its byte is stored alone: nothing else of the record changes. */
void x86_kvmclock_tell_stopped(struct x86_cpu *cpu)
{
	u64 at = (cpu->s.kvm_system_time & ~SYSTEM_TIME_ENABLE) +
		 offsetof(struct pvclock_vcpu, flags);
	u8 flags;

	if (!(cpu->s.kvm_system_time & SYSTEM_TIME_ENABLE))
		return;
	flags = (u8)(cpu->ops->phys_load(cpu, gpa(at), 1) | PVCLOCK_GUEST_STOPPED);
	(void)!cpu->ops->phys_store(cpu, gpa(at), &flags, sizeof(flags));
}

/* The wall clock is the time of day at which the system time was 0. */
void x86_kvmclock_write_wall(struct x86_cpu *cpu, u64 value)
{
	u64 wall = cpu->ops->wall_ns ? cpu->ops->wall_ns(cpu) : 0;
	u64 up = guest_ns(cpu, cpu->ops->host_tsc(cpu));
	u64 start = wall > up ? wall - up : 0;
	struct pvclock_wall record = {
		.version = 2,
		.sec = (u32)(start / NS_PER_S),
		.nsec = (u32)(start % NS_PER_S),
	};

	if (value)
		cpu->ops->phys_store(cpu, gpa(value), &record, sizeof(record));
}
