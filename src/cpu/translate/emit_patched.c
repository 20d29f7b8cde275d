/*
 * Constants in code that the guest patches while it runs, as run-time compilers do with inline
 * caches:
 *
 *     mov reg, imm     becomes     mov rcx, address of the constant in guest memory
 *                                  mov reg, [rcx]
 *
 * so that a store to exactly these bytes leaves the block as right as it was (code_map.h, live
 * bytes). An instruction is treated so once a store to its constant alone has killed its block
 * PATCHES times. A block has at most one.
 */
#include "cpu/translate/emit.h"

#define PATCHES 2u

static struct patched *slot(const struct translator *t, u64 gpa)
{
	return (struct patched *)&t->patched[(gpa ^ (gpa >> 8)) & (PATCHED - 1)];
}

/* The constant of MOV r, imm: how far in the instruction; 0: it is something else. */
static unsigned constant_at(const struct build *d)
{
	const ZydisDecodedOperand *o = d->o;

	if (d->insn.mnemonic != ZYDIS_MNEMONIC_MOV || o[0].type != ZYDIS_OPERAND_TYPE_REGISTER ||
		o[1].type != ZYDIS_OPERAND_TYPE_IMMEDIATE || d->insn.raw.imm[0].size < 32 ||
		!recode_is_gpr(o[0].reg.value))
		return 0;
	return d->insn.raw.imm[0].offset;
}

/* A write has killed b. */
void patched_note(struct translator *t, const struct tblock *b)
{
	const struct code_map *m = &t->c->code;
	u64 from = m->write_at - b->unit.gpa;
	unsigned i = 0;

	if (!m->write_len || from >= b->unit.bytes || t->options & OPTION_NO_PATCHED)
		return;
	while (i + 1u < b->count && b->insns[i + 1].guest_at <= from)
		i++;
	const struct tinsn *in = &b->insns[i];
	if (in->mnemonic != ZYDIS_MNEMONIC_MOV || from == in->guest_at ||
		from + m->write_len > in[1].guest_at)
		return;
	u64 gpa = b->unit.gpa + in->guest_at;
	struct patched *p = slot(t, gpa);
	if (p->gpa != gpa)
		*p = (struct patched){ .gpa = gpa };
	if (p->kills < PATCHES)
		p->kills++;
}

bool emit_patched(struct emit *e)
{
	const struct build *d = e->d;
	const struct patched *p = slot(e->t, e->gpa);
	unsigned at = constant_at(d), size = d->insn.raw.imm[0].size / 8;
	struct places places = places_home();

	if (!at || p->gpa != e->gpa || p->kills < PATCHES || e->b->unit.live_bytes ||
		(e->gpa & PAGE_MASK) + d->insn.length > PAGE_SIZE)
		return false;
	unsigned g = recode_gpr_id(d->o[0].reg.value);
	unsigned to = places.host[g] == ASM_NONE ? ASM_RCX : places.host[g];
	const struct host_operand m = { ASM_RCX, ASM_NONE, 0 };
	u64 offset = e->rip - e->start_rip;

	asm_const(&e->a, ASM_RCX, (u64)(uintptr_t)(e->host + offset + at));
	if (size == 4 && d->op->size == 8)
		asm_mem(&e->a, 0x63, to, &m); /* movsxd */
	else if (size == 4)
		asm_mem32(&e->a, OP_MOV_LOAD, to, &m);
	else
		asm_mem(&e->a, OP_MOV_LOAD, to, &m);
	if (to == ASM_RCX)
		asm_store(&e->a, SLOT(gpr) + 8 * g, ASM_RCX);
	e->b->unit.live_at = (u16)(offset + at);
	e->b->unit.live_bytes = (u16)size;
	return true;
}
