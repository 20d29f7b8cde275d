/*
 * LAR, LSL, VERR and VERW (SDM 2): what may this privilege level know of a selector?
 *
 * None of them faults on a bad selector: they answer no. Only reading the table itself can fault.
 */
#include "x86/segment.h"
#include "x86/x86_priv.h"

/* Bits by system type. In long mode 16-bit and task types do not exist (SDM 2, tables of LAR, LSL).
 */
#define LAR_TYPES                                                                \
	(BIT(SYS_TSS16) | BIT(SYS_LDT) | BIT(SYS_TSS16_BUSY) | BIT(SYS_CALL16) | \
		BIT(SYS_TASK_GATE) | BIT(SYS_TSS) | BIT(SYS_TSS_BUSY) | BIT(SYS_CALL))
#define LAR_TYPES_LONG (BIT(SYS_LDT) | BIT(SYS_TSS) | BIT(SYS_TSS_BUSY) | BIT(SYS_CALL))
#define LSL_TYPES \
	(BIT(SYS_TSS16) | BIT(SYS_LDT) | BIT(SYS_TSS16_BUSY) | BIT(SYS_TSS) | BIT(SYS_TSS_BUSY))
#define LSL_TYPES_LONG (BIT(SYS_LDT) | BIT(SYS_TSS) | BIT(SYS_TSS_BUSY))

/* *found: there is such a descriptor, and both CPL and RPL reach its DPL. */
static int look_up(struct x86_cpu *cpu, u16 selector, bool *found, struct x86_desc *desc)
{
	unsigned dpl;
	gva_t at;

	if (x86_real_segments(&cpu->s))
		return x86_ud(cpu);
	*found = false;
	if (selector_null(selector) || !x86_desc_at(&cpu->s, selector, 8, &at))
		return X86_OK;
	TRY(x86_read_desc(cpu, at, desc));
	dpl = SEG_DPL(desc->attr);
	*found = attr_conforming(desc->attr) ||
		 (dpl >= x86_cpl(&cpu->s) && dpl >= selector_rpl(selector));
	return X86_OK;
}

static bool type_in(u32 attr, u32 system_types)
{
	return (attr & SEG_S) || (system_types & BIT(attr & SEG_TYPE));
}

int x86_lar(struct x86_cpu *cpu, u16 selector, bool *ok, u32 *value)
{
	struct x86_desc desc;

	TRY(look_up(cpu, selector, ok, &desc));
	if (!*ok)
		return X86_OK;
	*ok = type_in(desc.attr, x86_long_mode(&cpu->s) ? LAR_TYPES_LONG : LAR_TYPES);
	if (*ok)
		*value = desc.hi & 0x00ffff00; /* limit 19:16 comes along, as processors do it */
	return X86_OK;
}

int x86_lsl(struct x86_cpu *cpu, u16 selector, bool *ok, u32 *value)
{
	struct x86_desc desc;

	TRY(look_up(cpu, selector, ok, &desc));
	if (!*ok)
		return X86_OK;
	*ok = type_in(desc.attr, x86_long_mode(&cpu->s) ? LSL_TYPES_LONG : LSL_TYPES);
	if (*ok)
		*value = desc.limit;
	return X86_OK;
}

int x86_verify(struct x86_cpu *cpu, u16 selector, bool write, bool *ok)
{
	struct x86_desc desc;

	TRY(look_up(cpu, selector, ok, &desc));
	if (*ok)
		*ok = write ? attr_writable(desc.attr) : attr_readable(desc.attr);
	return X86_OK;
}
