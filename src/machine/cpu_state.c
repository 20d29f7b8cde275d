/* See x86/state.h for what the fields mean. x86_fpu.scratch and the reserved byte carry nothing. */
#include "machine/cpu_state.h"

static const struct field seg_fields[] = {
	FIELD(struct x86_seg, selector),
	FIELD(struct x86_seg, attr),
	FIELD(struct x86_seg, limit),
	FIELD(struct x86_seg, base),
	FIELD_END,
};

static const struct field table_fields[] = {
	FIELD(struct x86_table, base),
	FIELD(struct x86_table, limit),
	FIELD_END,
};

static const struct field fpu_fields[] = {
	FIELD(struct x86_fpu, fcw),
	FIELD(struct x86_fpu, fsw),
	FIELD(struct x86_fpu, ftw),
	FIELD(struct x86_fpu, fop),
	FIELD(struct x86_fpu, fip),
	FIELD(struct x86_fpu, fdp),
	FIELD(struct x86_fpu, mxcsr),
	FIELD(struct x86_fpu, mxcsr_mask),
	FIELD_BLOB(struct x86_fpu, st),
	FIELD_BLOB(struct x86_fpu, zmm),
	FIELD_ARRAY(struct x86_fpu, k, u64),
	FIELD_END,
};

#define S struct x86_state

const struct field cpu_state_fields[] = {
	FIELD_ARRAY(S, gpr, u64),
	FIELD(S, rip),
	FIELD(S, rflags),
	FIELD_SUB(S, seg, struct x86_seg, seg_fields),
	FIELD_SUB(S, gdt, struct x86_table, table_fields),
	FIELD_SUB(S, idt, struct x86_table, table_fields),
	FIELD(S, cr0),
	FIELD(S, cr2),
	FIELD(S, cr3),
	FIELD(S, cr4),
	FIELD(S, xcr0),
	FIELD_ARRAY(S, dr, u64),
	FIELD(S, dr6),
	FIELD(S, dr7),
	FIELD(S, tsc_offset),
	FIELD(S, apic_base),
	FIELD(S, tsc_adjust),
	FIELD(S, spec_ctrl),
	FIELD(S, sysenter_cs),
	FIELD(S, sysenter_esp),
	FIELD(S, sysenter_eip),
	FIELD(S, misc_enable),
	FIELD_ARRAY(S, mtrr_var, u64),
	FIELD_ARRAY(S, mtrr_fix, u64),
	FIELD(S, mtrr_def_type),
	FIELD(S, pat),
	FIELD(S, xss),
	FIELD(S, efer),
	FIELD(S, star),
	FIELD(S, lstar),
	FIELD(S, cstar),
	FIELD(S, sfmask),
	FIELD(S, kernel_gs_base),
	FIELD(S, tsc_aux),
	FIELD(S, kvm_wall_clock),
	FIELD(S, kvm_system_time),
	FIELD(S, kvm_async_pf),
	FIELD(S, kvm_steal_time),
	FIELD(S, kvm_eoi),
	FIELD(S, kvm_poll),
	FIELD(S, activity),
	FIELD(S, blocking),
	FIELD_SUB(S, fpu, struct x86_fpu, fpu_fields),
	FIELD_END,
};

int cpu_state_save(const struct x86_state *s, struct blob *out)
{
	return state_save(out, cpu_state_fields, s);
}

int cpu_state_load(struct x86_state *s, const u8 *data, size_t len, size_t *used, struct err *err)
{
	return state_load(data, len, used, cpu_state_fields, s, sizeof(*s), err);
}
