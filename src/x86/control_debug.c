/*
 * MOV to and from debug registers (SDM 3B 17.2). DR4 and DR5 are DR6 and DR7 unless CR4.DE makes
 * them undefined; DR7.GD turns every access into #DB with DR6.BD.
 */
#include "x86/control.h"

#define DR6_WRITABLE 0xe00full	   /* B0-B3, BD, BS, BT */
#define DR6_ONES     0xffff0ff0ull /* reserved, and "no bus lock, no RTM" */
#define DR6_BD	     BIT64(13)
#define DR7_WRITABLE 0xffff23ffull /* L/G0-3, LE, GE, GD, R/W and LEN */
#define DR7_ONES     0x400ull
#define DR7_GD	     BIT64(13)

/* Resolves the aliases and takes the faults common to reads and writes, #UD before #DB. */
static int access_dr(struct x86_cpu *cpu, unsigned *dr)
{
	if (*dr > 7)
		return x86_ud(cpu);
	if (*dr == 4 || *dr == 5) {
		if (cpu->s.cr4 & CR4_DE)
			return x86_ud(cpu);
		*dr += 2;
	}
	if (cpu->s.dr7 & DR7_GD) {
		x86_fault_plain(cpu, X86_DB);
		cpu->fault.dr6 = DR6_BD;
		return X86_FAULT;
	}
	return X86_OK;
}

int x86_write_dr(struct x86_cpu *cpu, unsigned dr, u64 value)
{
	struct x86_state *s = &cpu->s;

	TRY(access_dr(cpu, &dr));
	if (dr < 4) {
		s->dr[dr] = value; /* not checked for canonical form (SDM 3B 17.2.6) */
		if (s->dr7 & 0xff)
			cpu->ops->mode_changed(cpu);
		return X86_OK;
	}
	if (value >> 32)
		return x86_gp(cpu, 0);
	if (dr == 6) {
		s->dr6 = (value & DR6_WRITABLE) | DR6_ONES;
		return X86_OK;
	}
	value = (value & DR7_WRITABLE) | DR7_ONES;
	if (s->dr7 != value) {
		s->dr7 = value;
		cpu->ops->mode_changed(cpu);
	}
	return X86_OK;
}

int x86_read_dr(struct x86_cpu *cpu, unsigned dr, u64 *value)
{
	TRY(access_dr(cpu, &dr));
	*value = dr < 4 ? cpu->s.dr[dr] : dr == 6 ? cpu->s.dr6 : cpu->s.dr7;
	return X86_OK;
}
