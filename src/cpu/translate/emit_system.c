/* The sensitive instructions that need no C. */
#include "cpu/interpret/system.h"
#include "cpu/translate/emit.h"

/* mov reg, [state + offset] and back, T_ADDR being the state */
static void emit_state(struct emit *e, u8 opcode, unsigned reg, size_t offset)
{
	const struct host_operand m = { T_ADDR, ASM_NONE, (s32)offset };

	asm_mem(&e->a, opcode, reg, &m);
}

bool emit_kernel(const struct emit *e) { return code_space_mmu(e->b->space) != MMU_USER; }

enum emit_result emit_cli(struct emit *e)
{
	if (!emit_kernel(e))
		return emit_hand_over(e);
	asm_store_imm32(&e->a, SLOT(vif), 0);
	return EMIT_NEXT;
}

/* RCX: what waits for the vcpu. */
static void load_attention(struct emit *e)
{
	static const u8 mov_ecx_at_rcx[] = { 0x8b, 0x09 }; /* mov ecx, [rcx] */

	asm_load(&e->a, ASM_RCX, SLOT(attention));
	asm_bytes(&e->a, mov_ecx_at_rcx, sizeof(mov_ecx_at_rcx));
}

/* Code of ours that pushes and pops: RSP is the guest's. */
static void on_host_stack(struct emit *e, const u8 *code, size_t size)
{
	asm_store(&e->a, SLOT(save), ASM_RSP);
	asm_load(&e->a, ASM_RSP, SLOT(host_rsp));
	asm_bytes(&e->a, code, size);
	asm_load(&e->a, ASM_RSP, SLOT(save));
}

/*
 * STI with nothing waiting just sets IF. An interrupt that comes during the next instruction is
 * taken after it, because the kick cuts the block's exits: so STI must not be its block's last
 * (translate() sees to that).
 */
enum emit_result emit_sti(struct emit *e)
{
	if (!emit_kernel(e))
		return emit_hand_over(e);
	e->sti_at = e->a.at;
	e->sti_outs = e->out_count;
	load_attention(e);
	emit_out_unless_rcx_zero(e);
	asm_store_imm32(&e->a, SLOT(vif), (u32)FLAG_IF);
	return EMIT_STI;
}

/* The block ends with the STI just emitted: the interpreter opens the shadow properly. */
void emit_take_back_sti(struct emit *e, unsigned index)
{
	emit_cut(e, e->sti_at);
	e->out_count = e->sti_outs;
	emit_out(e, 0xff, EXIT_CODE(EXIT_OP, e->b->id, index));
}

/* The host's status flags, read on the host's stack, plus what is kept elsewhere. */
enum emit_result emit_pushf(struct emit *e)
{
	static const u8 pushfq_pop_addr[] = { 0x9c, 0x41, 0x5b }; /* pushfq; pop r11 */

	if (e->d->op->size != e->word)
		return emit_hand_over(e);
	e->f.aux = AUX_NONE;
	on_host_stack(e, pushfq_pop_addr, sizeof(pushfq_pop_addr));
	asm_bits(&e->a, ASM_PEXT, T_ADDR, T_ADDR, SLOT(status_mask));
	asm_bits(&e->a, ASM_PDEP, T_ADDR, T_ADDR, SLOT(status_mask));
	asm_load(&e->a, T_AUX, SLOT(vif));
	asm_lea(&e->a, T_ADDR, T_ADDR, T_AUX, 0, 0);
	asm_load(&e->a, T_AUX, SLOT(rest));
	asm_lea(&e->a, T_ADDR, T_ADDR, T_AUX, 0, 0);
	asm_load(&e->a, T_AUX, SLOT(df));
	asm_lea(&e->a, T_ADDR, T_ADDR, T_AUX, 0, 0);
	asm_load(&e->a, T_AUX, SLOT(ac));
	asm_lea(&e->a, T_ADDR, T_ADDR, T_AUX, 0, 0);
	asm_store(&e->a, SLOT(save), T_ADDR);
	emit_push_saved(e);
	return EMIT_NEXT;
}

/* Bits of RFLAGS that are always the same, whatever POPF brings (SDM 1 3.4.3). */
#define FLAGS_FIXED (FLAG_ONE | BIT64(3) | BIT64(5) | BIT64(15))

/*
 * POPF that changes no more than status flags and IF, which is what it is used for: the rest must
 * be as it is, and if IF is set behind it, nothing may be waiting. (No interrupt is held off for an
 * instruction; one that comes meanwhile cuts the block's exits, as for STI.) The status flags are
 * free once the value is read: whoever executes it writes them.
 */
enum emit_result emit_popf(struct emit *e)
{
	static const u8 bt_addr_if[] = { 0x41, 0x0f, 0xba, 0xe3, 9 }; /* bt r11d, 9 */
	static const u8 sbb_aux[] = { 0x4d, 0x19, 0xff };	      /* sbb r15, r15 */
	static const u8 push_addr_popfq[] = { 0x41, 0x53, 0x9d };     /* push r11; popfq */
	struct host_operand m;

	if (e->d->op->size != e->word || !emit_kernel(e))
		return emit_hand_over(e);
	emit_stack_operand(e, 0, e->word, false, &m);
	emit_word(e, OP_MOV_LOAD, T_ADDR, &m);
	e->f.aux = AUX_NONE;

	asm_load(&e->a, T_AUX, SLOT(rest));
	asm_at_slot(&e->a, OP_ADD_LOAD, T_AUX, SLOT(df), true);
	asm_at_slot(&e->a, OP_ADD_LOAD, T_AUX, SLOT(ac), true);
	asm_rr(&e->a, OP_XOR_LOAD, T_AUX, T_ADDR, false);
	asm_rr(&e->a, OP_MOV_LOAD, ASM_RCX, T_AUX, false);
	asm_ri32(&e->a, OP_IMM32, EXT_AND, ASM_RCX, ~(u32)(FLAGS_STATUS | FLAG_IF | FLAGS_FIXED),
		false);
	emit_out_unless_rcx_zero(e);

	load_attention(e);
	asm_bytes(&e->a, bt_addr_if, sizeof(bt_addr_if));
	asm_bytes(&e->a, sbb_aux, sizeof(sbb_aux)); /* all ones if IF is to be set */
	asm_rr(&e->a, OP_AND_LOAD, ASM_RCX, T_AUX, false);
	emit_out_unless_rcx_zero(e);

	asm_rr(&e->a, OP_MOV_LOAD, ASM_RCX, T_ADDR, false);
	asm_ri32(&e->a, OP_IMM32, EXT_AND, ASM_RCX, (u32)FLAG_IF, false);
	asm_store(&e->a, SLOT(vif), ASM_RCX);
	emit_move_rsp(e, (s32)e->word);
	asm_ri32(&e->a, OP_IMM32, EXT_AND, T_ADDR, (u32)FLAGS_STATUS, false);
	asm_ri32(&e->a, OP_IMM32, EXT_OR, T_ADDR, (u32)(FLAG_ONE | FLAG_IF), false);
	on_host_stack(e, push_addr_popfq, sizeof(push_addr_popfq));
	return EMIT_NEXT;
}

/* GS has a new base, in RCX: as kernel code with the window reaches it. */
static void set_gs_window(struct emit *e)
{
	asm_bits(&e->a, ASM_PEXT, T_AUX, ASM_RCX, SLOT(kernel_piece_mask));
	asm_gs_index(&e->a, OP_MOV_LOAD, T_AUX, T_AUX, 3, SLOT(kernel_deltas));
	asm_lea(&e->a, T_AUX, T_AUX, ASM_RCX, 0, 0);
	asm_store(&e->a, SLOT(gs_window), T_AUX);
}

enum emit_result emit_swapgs(struct emit *e)
{
	if (!emit_kernel(e))
		return emit_hand_over(e);
	e->f.aux = AUX_NONE;
	asm_load(&e->a, T_ADDR, SLOT(state));
	asm_load(&e->a, T_AUX, SLOT(gs_base));
	emit_state(e, OP_MOV_LOAD, ASM_RCX, offsetof(struct x86_state, kernel_gs_base));
	emit_state(e, OP_MOV_STORE, T_AUX, offsetof(struct x86_state, kernel_gs_base));
	emit_state(e, OP_MOV_STORE, ASM_RCX, offsetof(struct x86_state, seg[X86_GS].base));
	asm_store(&e->a, SLOT(gs_base), ASM_RCX);
	if (emit_kernel_window(e))
		set_gs_window(e);
	return EMIT_NEXT;
}

enum emit_result emit_direction(struct emit *e, bool down)
{
	asm_store_imm32(&e->a, SLOT(df), down ? (u32)FLAG_DF : 0);
	return EMIT_NEXT;
}

/* STAC and CLAC: with SMAP, code behind them runs in the other space. */
enum emit_result emit_user_access(struct emit *e, bool open)
{
	unsigned space = open ? MMU_OPEN : MMU_SYSTEM;

	if (!emit_kernel(e))
		return emit_hand_over(e);
	asm_store_imm32(&e->a, SLOT(ac), open ? (u32)FLAG_AC : 0);
	if (!(e->t->c->s->cr4 & CR4_SMAP) || code_space_mmu(e->b->space) == space)
		return EMIT_NEXT;
	if (emit_kernel_window(e)) {
		unsigned region = e->t->stack_region;

		space = open			   ? CODE_KERNEL_OPEN
			: region == WINDOW_NOWHERE ? CODE_KERNEL_LOOSE
						   : CODE_KERNEL;
		/* AC is changed already: the check may not trap, it goes on in the loose space. */
		if (space == CODE_KERNEL) {
			emit_region_bits(e, ASM_RSP, region);
			asm_jrcxz(&e->a, 5);
			emit_link_to_space(e, e->rip + e->d->op->length, CODE_KERNEL_LOOSE);
		}
	}
	emit_link_to_space(e, e->rip + e->d->op->length, space);
	return EMIT_END;
}

/* EDX:EAX is joined, moved by the guest's offset, and split again. */
enum emit_result emit_rdtsc(struct emit *e)
{
	const struct op *op = e->d->op;
	struct host_operand aux = { T_ADDR, ASM_NONE, (s32)offsetof(struct x86_state, tsc_aux) };

	if (!emit_kernel(e) && (e->t->c->s->cr4 & CR4_TSD))
		return emit_hand_over(e);
	asm_bytes(&e->a, e->bytes, e->d->insn.length); /* RDTSCP writes to host RCX, too */
	asm_rorx(&e->a, ASM_RDX, ASM_RDX, 32);
	asm_lea(&e->a, ASM_RDX, ASM_RDX, ASM_RAX, 0, 0);
	asm_load(&e->a, ASM_RCX, SLOT(tsc_offset));
	asm_lea(&e->a, ASM_RDX, ASM_RDX, ASM_RCX, 0, 0);
	asm_rr(&e->a, 0x8b, ASM_RAX, ASM_RDX, false);
	asm_rorx(&e->a, ASM_RDX, ASM_RDX, 32);
	asm_rr(&e->a, 0x8b, ASM_RDX, ASM_RDX, false);
	if (op->exec == op_rdtscp) {
		asm_load(&e->a, T_ADDR, SLOT(state));
		asm_mem32(&e->a, OP_MOV_LOAD, T_COUNT, &aux);
	}
	return EMIT_NEXT;
}

/* RCX: the selector of a segment register */
static void load_selector(struct emit *e, unsigned seg)
{
	struct host_operand selector = { ASM_RCX, ASM_NONE,
		(s32)(offsetof(struct x86_state, seg) + seg * sizeof(struct x86_seg) +
			offsetof(struct x86_seg, selector)) };

	asm_load(&e->a, ASM_RCX, SLOT(state));
	asm_mem32(&e->a, OP_MOV_LOAD, ASM_RCX, &selector);
	asm_movzx(&e->a, ASM_RCX, ASM_RCX, 16);
}

/* MOV m, sreg; MOV r, sreg */
enum emit_result emit_from_segment(struct emit *e)
{
	const struct op *op = e->d->op;
	struct places p = places_home();
	unsigned g = op->dst / 8;

	if (op->flags & OPF_DST_MEM) {
		struct emit_mark mark = emit_mark(e);
		struct host_operand m;
		u32 free_hosts;

		if (!emit_operand(e, op, 2, true, &m, &free_hosts)) {
			emit_back(e, &mark);
			return emit_hand_over(e);
		}
		load_selector(e, op->extra);
		asm_u8(&e->a, 0x66);
		asm_mem32(&e->a, OP_MOV_STORE, ASM_RCX, &m);
		return EMIT_NEXT;
	}
	if (op->size == 2 && p.host[g] == ASM_NONE)
		return emit_hand_over(e);
	load_selector(e, op->extra);
	if (p.host[g] == ASM_NONE) {
		asm_store(&e->a, SLOT(gpr) + 8 * g, ASM_RCX);
		return EMIT_NEXT;
	}
	if (op->size == 2) /* the rest of the register stays */
		asm_u8(&e->a, 0x66);
	asm_rr(&e->a, 0x8b, p.host[g], ASM_RCX, op->size == 8);
	return EMIT_NEXT;
}

/* RCX: zero exactly if the value in T_ADDR is canonical. */
static void emit_canonical_bits(struct emit *e)
{
	static const u8 mov_aux_16[] = { 0x41, 0xbf, 16, 0, 0, 0 }; /* mov r15d, 16 */
	static const u8 not_addr[] = { 0x49, 0xf7, 0xd3 };	    /* not r11 */

	asm_bytes(&e->a, mov_aux_16, sizeof(mov_aux_16));
	asm_shlx(&e->a, ASM_RCX, T_ADDR, T_AUX);
	asm_sarx(&e->a, ASM_RCX, ASM_RCX, T_AUX);
	asm_bytes(&e->a, not_addr, sizeof(not_addr));
	asm_lea(&e->a, ASM_RCX, ASM_RCX, T_ADDR, 0, 1);
	asm_bytes(&e->a, not_addr, sizeof(not_addr));
}

/* RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE: op->extra bit 0 is GS, bit 1 a write. Kernels do it at
 * each switch of tasks; a user's writes, which move its window of FS, are the interpreter's. */
enum emit_result emit_segment_base(struct emit *e)
{
	const struct op *op = e->d->op;
	bool gs = op->extra & 1, write = op->extra & 2;
	u32 slot = gs ? SLOT(gs_base) : SLOT(fs_base);
	struct places p = places_home();
	unsigned g = op->dst / 8;

	if (op->size != 8 || !(e->t->c->s->cr4 & CR4_FSGSBASE) || (write && !emit_kernel(e)))
		return emit_hand_over(e);
	if (!write) {
		unsigned to = p.host[g] == ASM_NONE ? T_ADDR : p.host[g];

		asm_load(&e->a, to, slot);
		if (to == T_ADDR)
			asm_store(&e->a, SLOT(gpr) + 8 * g, T_ADDR);
		return EMIT_NEXT;
	}
	e->f.aux = AUX_NONE;
	if (p.host[g] == ASM_NONE)
		asm_load(&e->a, T_ADDR, SLOT(gpr) + 8 * g);
	else
		asm_rr(&e->a, 0x8b, T_ADDR, p.host[g], true);
	emit_canonical_bits(e);
	emit_out_unless_rcx_zero(e);
	asm_rr(&e->a, 0x8b, ASM_RCX, T_ADDR, true);
	asm_store(&e->a, slot, ASM_RCX);
	asm_load(&e->a, T_ADDR, SLOT(state));
	emit_state(e, OP_MOV_STORE, ASM_RCX,
		offsetof(struct x86_state, seg) + (gs ? X86_GS : X86_FS) * sizeof(struct x86_seg) +
			offsetof(struct x86_seg, base));
	if (gs && emit_kernel_window(e))
		set_gs_window(e);
	return EMIT_NEXT;
}
