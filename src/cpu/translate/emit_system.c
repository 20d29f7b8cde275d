/* The sensitive instructions that need no C. */
#include "cpu/translate/emit.h"

/* mov reg, [state + offset] and back, T_ADDR being the state */
static void emit_state(struct emit *e, u8 opcode, unsigned reg, size_t offset)
{
	const struct host_operand m = { T_ADDR, ASM_NONE, (s32)offset };

	asm_mem(&e->a, opcode, reg, &m);
}

bool emit_kernel(const struct emit *e)
{
	return e->b->space == MMU_SYSTEM || e->b->space == MMU_OPEN;
}

enum emit_result emit_cli(struct emit *e)
{
	if (!emit_kernel(e))
		return emit_hand_over(e);
	asm_store_imm32(&e->a, SLOT(vif), 0);
	return EMIT_NEXT;
}

/*
 * STI with nothing waiting just sets IF. An interrupt that comes during the next instruction is
 * taken after it, because the kick cuts the block's exits: so STI must not be its block's last
 * (translate() sees to that).
 */
enum emit_result emit_sti(struct emit *e)
{
	static const u8 mov_ecx_addr[] = { 0x41, 0x8b, 0x0b }; /* mov ecx, [r11] */

	if (!emit_kernel(e))
		return emit_hand_over(e);
	e->sti_at = e->a.at;
	e->sti_outs = e->out_count;
	asm_load(&e->a, T_ADDR, SLOT(attention));
	asm_bytes(&e->a, mov_ecx_addr, sizeof(mov_ecx_addr));
	emit_out_unless_rcx_zero(e);
	asm_store_imm32(&e->a, SLOT(vif), (u32)FLAG_IF);
	return EMIT_STI;
}

/* The block ends with the STI just emitted: the interpreter opens the shadow properly. */
void emit_take_back_sti(struct emit *e, unsigned index)
{
	e->a.at = e->sti_at;
	e->out_count = e->sti_outs;
	emit_out(e, 0xff, EXIT_CODE(EXIT_OP, e->b->id, index));
}

/* The host's status flags, read on the host's stack, plus what is kept elsewhere. */
enum emit_result emit_pushf(struct emit *e)
{
	static const u8 pushfq_pop_addr[] = { 0x9c, 0x41, 0x5b }; /* pushfq; pop r11 */

	if (e->d->op->size != 8)
		return emit_hand_over(e);
	e->f.aux = AUX_NONE;
	asm_store(&e->a, SLOT(save), ASM_RSP);
	asm_load(&e->a, ASM_RSP, SLOT(host_rsp));
	asm_bytes(&e->a, pushfq_pop_addr, sizeof(pushfq_pop_addr));
	asm_load(&e->a, ASM_RSP, SLOT(save));
	asm_bits(&e->a, ASM_PEXT, T_ADDR, T_ADDR, SLOT(status_mask));
	asm_bits(&e->a, ASM_PDEP, T_ADDR, T_ADDR, SLOT(status_mask));
	asm_load(&e->a, T_AUX, SLOT(vif));
	asm_lea(&e->a, T_ADDR, T_ADDR, T_AUX, 0, 0);
	asm_load(&e->a, T_AUX, SLOT(rest));
	asm_lea(&e->a, T_ADDR, T_ADDR, T_AUX, 0, 0);
	asm_store(&e->a, SLOT(save), T_ADDR);
	emit_push_saved(e);
	return EMIT_NEXT;
}

enum emit_result emit_swapgs(struct emit *e)
{
	if (!emit_kernel(e))
		return emit_hand_over(e);
	asm_load(&e->a, T_ADDR, SLOT(state));
	asm_load(&e->a, T_AUX, SLOT(gs_base));
	emit_state(e, OP_MOV_LOAD, ASM_RCX, offsetof(struct x86_state, kernel_gs_base));
	emit_state(e, OP_MOV_STORE, T_AUX, offsetof(struct x86_state, kernel_gs_base));
	emit_state(e, OP_MOV_STORE, ASM_RCX, offsetof(struct x86_state, seg[X86_GS].base));
	asm_store(&e->a, SLOT(gs_base), ASM_RCX);
	return EMIT_NEXT;
}
