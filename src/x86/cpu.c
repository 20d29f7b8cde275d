/*
 * Raising faults, typed linear accesses, and the one-line description of a processor.
 */
#include "x86/cpu.h"
#include "base/bits.h"
#include "x86/mode.h"
#include <stdio.h>

int x86_fault_plain(struct x86_cpu *cpu, enum x86_vector v)
{
	cpu->fault = (struct x86_fault){ .vector = (u8)v };
	return X86_FAULT;
}

int x86_fault_code(struct x86_cpu *cpu, enum x86_vector v, u32 error)
{
	cpu->fault = (struct x86_fault){ .vector = (u8)v, .has_error = true, .error = error };
	return X86_FAULT;
}

int x86_load(struct x86_cpu *cpu, gva_t at, unsigned size, unsigned access, u64 *value)
{
	u64 v = 0;

	TRY(cpu->ops->load(cpu, at, &v, size, access));
	*value = v;
	return X86_OK;
}

int x86_store(struct x86_cpu *cpu, gva_t at, unsigned size, unsigned access, u64 value)
{
	return cpu->ops->store(cpu, at, &value, size, access | ACCESS_WRITE);
}

static const char *mode_name(const struct x86_state *s)
{
	if (!x86_protected(s))
		return "real mode";
	if (x86_v86(s))
		return "virtual-8086 mode";
	if (x86_code64(s))
		return "64-bit mode";
	if (x86_long_mode(s))
		return "compatibility mode";
	return s->seg[X86_CS].attr & SEG_DB ? "32-bit protected mode" : "16-bit protected mode";
}

static const char *vector_name(u8 vector)
{
	static const char *const name[] = { "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM",
		"#DF", NULL, "#TS", "#NP", "#SS", "#GP", "#PF", NULL, "#MF", "#AC", "#MC", "#XM" };

	return vector < ARRAY_LEN(name) && name[vector] ? name[vector] : "interrupt";
}

void x86_describe(const struct x86_cpu *cpu, char *text, size_t size)
{
	const struct x86_state *s = &cpu->s;
	char last[96] = "no exception yet";

	if (cpu->last_vector != 0xff)
		snprintf(last, sizeof(last),
			"last exception %s (vector %u, error 0x%x) at rip 0x%llx",
			vector_name(cpu->last_vector), cpu->last_vector, cpu->last_error,
			(unsigned long long)cpu->last_rip);
	snprintf(text, size, "rip 0x%llx, cs 0x%x, cpl %u, %s; %s", (unsigned long long)s->rip,
		s->seg[X86_CS].selector, x86_cpl(s), mode_name(s), last);
}
