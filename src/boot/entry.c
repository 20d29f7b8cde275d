/*
 * The processor at the kernel's first instruction. Hidden parts of segment registers are filled in
 * as a load of the matching descriptor would have (SDM 3A 3.4.3); LDTR is null and TR busy, which
 * is what a hardware engine demands of a processor in protected mode (SDM 3C 26.3.1.2).
 */
#include "boot/boot_priv.h"
#include <string.h>

#define ATTR_DATA  (SEG_P | SEG_S | SEG_RW | SEG_ACCESSED)
#define ATTR_CODE  (ATTR_DATA | SEG_CODE)
#define ATTR_TSS32 (SEG_P | 0xbu) /* busy */
#define ATTR_LDT   (SEG_P | 0x2u)

/* Null, null, flat code, flat data (SDM 3A 3.4.5). */
const u64 entry_gdt64[4] = { 0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff };
const u64 entry_gdt32[4] = { 0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff };

static const struct x86_seg tss = { .attr = ATTR_TSS32, .limit = 0x67 };
static const struct x86_seg ldt = { .attr = ATTR_LDT, .limit = 0xffff };

static void clear(struct x86_state *s, u64 rip)
{
	memset(s->gpr, 0, sizeof(s->gpr));
	s->rip = rip;
	s->rflags = FLAG_ONE;
	s->activity = X86_RUNNING;
	s->blocking = 0;
	s->cr0 = CR0_ET;
	s->cr2 = s->cr3 = s->cr4 = s->efer = 0;
	s->seg[X86_LDTR] = ldt;
	s->seg[X86_TR] = tss;
	s->gdt = s->idt = (struct x86_table){ 0 };
}

static void set_segments(struct x86_state *s, struct x86_seg code, struct x86_seg data)
{
	for (unsigned i = X86_ES; i <= X86_GS; i++)
		s->seg[i] = i == X86_CS ? code : data;
}

static const struct x86_seg flat_data = {
	.selector = ENTRY_DS, .attr = ATTR_DATA | SEG_DB | SEG_G, .limit = 0xffffffff
};

void entry_long(struct x86_state *s, u64 rip, u64 page_tables, struct x86_table gdt)
{
	clear(s, rip);
	set_segments(s, (struct x86_seg){ ENTRY_CS, ATTR_CODE | SEG_L | SEG_G, 0xffffffff, 0 },
		flat_data);
	s->gdt = gdt;
	s->cr0 |= CR0_PE | CR0_PG;
	s->cr3 = page_tables;
	s->cr4 = CR4_PAE;
	s->efer = EFER_LME | EFER_LMA;
}

void entry_flat32(struct x86_state *s, u32 eip, struct x86_table gdt)
{
	clear(s, eip);
	set_segments(s, (struct x86_seg){ ENTRY_CS, ATTR_CODE | SEG_DB | SEG_G, 0xffffffff, 0 },
		flat_data);
	s->gdt = gdt;
	s->cr0 |= CR0_PE;
}

void entry_real(struct x86_state *s, u16 cs, u64 cs_base, u16 ip)
{
	u64 signature =
		s->gpr[RDX]; /* reset leaves the processor's signature in EDX (SDM 3A 9.1.2) */

	clear(s, ip);
	set_segments(s, (struct x86_seg){ cs, ATTR_CODE, 0xffff, cs_base },
		(struct x86_seg){ 0, ATTR_DATA, 0xffff, 0 });
	s->gpr[RDX] = signature;
	s->seg[X86_TR].limit = 0xffff;
	s->gdt = s->idt = (struct x86_table){ .limit = 0xffff };
}
