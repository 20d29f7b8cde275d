/*
 * RESET, INIT and start-up IPI (SDM 3A 9.1, table 9-1; SDM 3A 8.4.3 for SIPI).
 *
 * INIT resets what programs use to run (registers, segments, control and debug registers) and
 * keeps what configures the processor: the FPU and vector state, XCR0, most MSRs, the cache bits of
 * CR0. RESET is INIT plus all of that. Which processor is the bootstrap processor is not decided
 * here: the BSP flag of IA32_APIC_BASE, set by the machine, survives both.
 */
#include "x86/cpuid.h"
#include "x86/mode.h"

#define APIC_BASE_RESET	 0xfee00800ull /* enabled, at the usual address (SDM 3A 10.4.4) */
#define APIC_BASE_BSP	 BIT64(8)
#define DR6_RESET	 0xffff0ff0ull
#define DR7_RESET	 0x400ull
#define PAT_RESET	 0x0007040600070406ull
#define MISC_ENABLE_FAST BIT64(0) /* fast strings */
#define FPU_TAGS_ZERO	 0xff	  /* RESET: every register holds +0, none is empty */

#define REAL_DATA (SEG_P | SEG_S | SEG_RW | SEG_ACCESSED)
#define REAL_CODE (REAL_DATA | SEG_CODE)

static void reset_segments(struct x86_state *s)
{
	for (unsigned i = X86_ES; i <= X86_GS; i++)
		s->seg[i] = (struct x86_seg){ .attr = REAL_DATA, .limit = 0xffff };
	s->seg[X86_CS] = (struct x86_seg){ 0xf000, REAL_CODE, 0xffff, 0xffff0000 };
	s->seg[X86_LDTR] = (struct x86_seg){ .attr = SEG_P | 2, .limit = 0xffff };
	s->seg[X86_TR] = (struct x86_seg){ .attr = SEG_P | 11, .limit = 0xffff };
	s->gdt = s->idt = (struct x86_table){ .limit = 0xffff };
}

/* What RESET and INIT have in common. */
static void reset_program_state(struct x86_cpu *cpu, u64 cache_bits)
{
	struct x86_state *s = &cpu->s;

	for (unsigned i = 0; i < X86_GPRS; i++)
		s->gpr[i] = 0;
	s->gpr[RDX] = x86_cpuid(cpu, 1, 0, 0).eax; /* the processor's signature */
	s->rip = 0xfff0;
	s->rflags = FLAG_ONE;
	reset_segments(s);
	s->cr0 = CR0_ET | cache_bits;
	s->cr2 = s->cr3 = s->cr4 = s->efer = 0;
	for (unsigned i = 0; i < 4; i++)
		s->dr[i] = 0;
	s->dr6 = DR6_RESET;
	s->dr7 = DR7_RESET;
	s->blocking = 0;
	s->activity = X86_RUNNING;
	cpu->last_vector = 0xff;
}

static void notify(struct x86_cpu *cpu)
{
	cpu->ops->flush(cpu, X86_FLUSH_ALL, 0, 0);
	cpu->ops->mode_changed(cpu);
}

void x86_reset(struct x86_cpu *cpu)
{
	u64 bsp = cpu->s.apic_base & APIC_BASE_BSP;
	struct x86_state *s = &cpu->s;

	*s = (struct x86_state){
		.xcr0 = XCR0_X87,
		.apic_base = APIC_BASE_RESET | bsp,
		.misc_enable = MISC_ENABLE_FAST,
		.pat = PAT_RESET,
		.tsc_offset = 0 - cpu->ops->host_tsc(cpu),
		.fpu = { .fcw = FCW_RESET,
			.ftw = FPU_TAGS_ZERO,
			.mxcsr = MXCSR_RESET,
			.mxcsr_mask = cpu->model->mxcsr_mask },
	};
	cpu->last_error = 0;
	cpu->last_rip = 0;
	cpu->fault = (struct x86_fault){ 0 };
	reset_program_state(cpu, CR0_CD | CR0_NW);
	notify(cpu);
}

void x86_init(struct x86_cpu *cpu)
{
	reset_program_state(cpu, cpu->s.cr0 & (CR0_CD | CR0_NW));
	if (!(cpu->s.apic_base & APIC_BASE_BSP))
		cpu->s.activity = X86_WAIT_SIPI;
	notify(cpu);
}

void x86_sipi(struct x86_cpu *cpu, u8 vector)
{
	struct x86_state *s = &cpu->s;

	if (s->activity != X86_WAIT_SIPI)
		return;
	s->seg[X86_CS].selector = (u16)(vector << 8);
	s->seg[X86_CS].base = (u64)vector << 12;
	s->rip = 0;
	s->activity = X86_RUNNING;
	cpu->ops->mode_changed(cpu);
}
