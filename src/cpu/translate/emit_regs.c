/* Guest registers in host registers: which an instruction names, where they are, and instructions
 * that touch no memory. */
#include "base/must.h"
#include "cpu/translate/emit.h"

static bool index_result(ZydisMnemonic m)
{
	return m == ZYDIS_MNEMONIC_PCMPISTRI || m == ZYDIS_MNEMONIC_PCMPESTRI ||
	       m == ZYDIS_MNEMONIC_VPCMPISTRI || m == ZYDIS_MNEMONIC_VPCMPESTRI;
}

struct use use_of(const struct build *d)
{
	struct use u = { 0 };

	for (unsigned i = 0; i < d->insn.operand_count; i++) {
		const ZydisDecodedOperand *o = &d->o[i];

		if (o->type != ZYDIS_OPERAND_TYPE_REGISTER || !recode_is_gpr(o->reg.value))
			continue;
		unsigned id = recode_gpr_id(o->reg.value);
		if (o->visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT) {
			u.count |= o->reg.value == ZYDIS_REGISTER_CL;
			if (index_result(d->insn.mnemonic))
				u.index_out |= id == RCX;
			else
				u.other |= (BIT(id) & (HOMELESS | BIT(RCX))) &&
					   o->reg.value != ZYDIS_REGISTER_CL;
			continue;
		}
		if (o->reg.value >= ZYDIS_REGISTER_AH && o->reg.value <= ZYDIS_REGISTER_BH) {
			u.high = true;
			u.ch |= o->reg.value == ZYDIS_REGISTER_CH;
		}
		/* A partial write keeps the rest: it reads, too. */
		if ((o->actions & ZYDIS_OPERAND_ACTION_MASK_READ) || o->size < 32 ||
			(o->actions & ZYDIS_OPERAND_ACTION_CONDWRITE))
			u.read |= BIT(id);
		if (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
			u.written |= BIT(id);
	}
	/* With a zero source these leave their destination as it is. */
	if (d->insn.mnemonic == ZYDIS_MNEMONIC_BSF || d->insn.mnemonic == ZYDIS_MNEMONIC_BSR)
		u.read |= u.written;
	return u;
}

struct places places_home(void)
{
	struct places p;

	for (unsigned i = 0; i < X86_GPRS; i++)
		p.host[i] = HOMELESS & BIT(i) ? ASM_NONE : (u8)i;
	p.host[RCX] = T_COUNT;
	return p;
}

bool places_assign(struct places *p, u32 want, u32 free_hosts)
{
	for (unsigned g = 0; g < X86_GPRS; g++) {
		if (!(want & HOMELESS & BIT(g)))
			continue;
		if (!free_hosts)
			return false;
		unsigned h = free_hosts & BIT(g) ? g : (unsigned)__builtin_ctz(free_hosts);
		p->host[g] = (u8)h;
		free_hosts &= ~BIT(h);
	}
	return true;
}

void places_load(struct emit *e, const struct places *p, u32 set)
{
	for (unsigned g = 0; g < X86_GPRS; g++)
		if (set & HOMELESS & BIT(g) && p->host[g] != ASM_NONE)
			asm_load(&e->a, p->host[g], SLOT(gpr) + 8 * g);
}

void places_store(struct emit *e, const struct places *p, u32 set)
{
	for (unsigned g = 0; g < X86_GPRS; g++)
		if (set & HOMELESS & BIT(g) && p->host[g] != ASM_NONE)
			asm_store(&e->a, SLOT(gpr) + 8 * g, p->host[g]);
}

/* The host registers that hold homeless guest registers now. */
static u32 occupied(const struct places *p, u32 set)
{
	u32 hosts = 0;

	for (unsigned g = 0; g < X86_GPRS; g++)
		if (set & HOMELESS & BIT(g))
			hosts |= BIT(p->host[g]);
	return hosts;
}

enum emit_result emit_registers(struct emit *e)
{
	const struct build *d = e->d;
	struct use u = use_of(d);
	struct places p = places_home();
	u32 named = u.read | u.written, homeless = named & HOMELESS;

	if (u.other)
		return emit_hand_over(e);
	if (u.high && (u.count || named & BIT(RCX)))
		return emit_in_rcx(e, u.written & BIT(RCX));
	if (u.count)
		asm_rr(&e->a, 0x8b, ASM_RCX, T_COUNT, true);
	if (!(named & (BIT(RCX) | HOMELESS)) && !recode_needed(d)) {
		asm_bytes(&e->a, e->bytes, d->insn.length);
		if (u.index_out)
			asm_rr(&e->a, 0x8b, T_COUNT, ASM_RCX, true);
		return EMIT_NEXT;
	}
	/* T_AUX last: what it holds may be of use to the next access. */
	u32 first = BIT(T_ADDR) | (u.count ? 0 : BIT(ASM_RCX));
	if (!places_assign(&p, homeless, first) && !places_assign(&p, homeless, first | BIT(T_AUX)))
		return emit_hand_over(e);
	if (occupied(&p, homeless) & BIT(T_AUX))
		e->f.aux = AUX_NONE;
	u8 *mark = e->a.at;
	places_load(e, &p, u.read);
	if (!recode(&e->a, d, e->bytes, &p, NULL)) {
		e->a.at = mark;
		return emit_hand_over(e);
	}
	places_store(e, &p, u.written);
	return EMIT_NEXT;
}
