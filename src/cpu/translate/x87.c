/*
 * The x87 and MMX registers, which code uses as they are (SDM 1, 8 and 9).
 *
 * They are the guest's from the first x87 instruction that code comes to until it leaves the cache;
 * then C takes them over before it does anything else. An unmasked exception needs no care: the
 * next instruction that waits traps, and the interpreter executes it anew.
 *
 * The processor notes where the last instruction was, which it was and what it touched, in terms of
 * the host. On the way out they become the guest's: the instruction is found by its code, and code
 * notes the operand's address itself (ctx->x87_at). Some processors save all this only while an
 * unmasked exception is pending (AMD APM 2 11.4.4), so FNSTENV is asked where the instruction was.
 */
#include "cpu/translate/translate_priv.h"

bool x87_usable(const struct translator *t)
{
	/* AVX stands for XSAVE, which not every compiler knows by name. */
	return !(t->options & OPTION_NO_X87) && __builtin_cpu_supports("avx");
}

bool x87_allowed(const struct translator *t)
{
	const struct x86_state *s = t->c->s;

	/* Without NE exceptions are interrupts. */
	return x87_usable(t) && (s->cr0 & (CR0_TS | CR0_EM | CR0_NE)) == CR0_NE;
}

void x87_put(struct translator *t)
{
	struct x86_fpu *f = &t->c->s->fpu;

	f->xsave_header[0] = XCR0_X87;
	__asm__ volatile("xrstor64 %0" ::"m"(*f), "a"(XCR0_X87), "d"(0));
	t->ctx->x87_away = 0;
}

/* The processor's pointers, which code has changed, become the guest's. */
static void settle_pointers(struct translator *t, const u8 *pc)
{
	struct x86_fpu *f = &t->c->s->fpu;
	const struct tblock *b = codemem_has(&t->mem, pc) ? tcache_by_code(t, pc) : NULL;
	unsigned index = b ? tblock_insn_at(b, pc) : 0;

	f->fip = b ? tblock_rip(t, b) + b->insns[index].guest_at : 0;
	f->fop = b ? tblock_op(t, b, index)->imm & 0x7ff : 0;
}

/* The environment in 64-bit code (SDM 1 8.1.10): offsets of 32 bits. */
struct env {
	u32 control, status, tags, instruction, opcode, operand, selector;
};

/* The code that these are the lower bits of. */
static const u8 *code_at(const struct translator *t, u32 low)
{
	return t->mem.rx + (u32)(low - (u32)(uintptr_t)t->mem.rx);
}

void x87_take(struct translator *t)
{
	struct x86_fpu *f = &t->c->s->fpu;
	u64 fip = f->fip;
	u16 fop = f->fop;
	struct env env;

	__asm__ volatile("xsave64 %0; fnstenv %1; fninit"
			 : "+m"(*f), "=m"(env)
			 : "a"(XCR0_X87), "d"(0));
	t->ctx->x87_away = 1;
	f->fip = fip;
	f->fop = fop;
	f->fdp = t->ctx->x87_at;
	if (env.instruction != (u32)fip)
		settle_pointers(t, code_at(t, env.instruction));
}
