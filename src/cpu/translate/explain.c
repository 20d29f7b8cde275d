/*
 * struct cpu_engine.explain: translates blocks as run() would, and tells what became of each guest
 * instruction, without running any.
 *
 * What an instruction became is read off its code, not remembered by the emitter: that keeps the
 * emitter free of it, and the answer true. An exit is recognized by what its stub stores.
 */
#include "cpu/translate/explain.h"
#include "base/must.h"
#include "cpu/interpret/decode.h"
#include "cpu/translate/emit.h"
#include <Zydis/Zydis.h>
#include <errno.h>
#include <stdio.h>

#define HOST_MAX 64u /* host instructions of one guest instruction */

struct explainer {
	struct translator *t;
	const struct explain_sink *to;
	struct tblock *b;
	ZydisDecoder decoder;
	ZydisFormatter guest, host;
	struct explain_code lines[HOST_MAX];
	u64 host_base; /* host code is told as offsets from here */
};

/* ---- what a host jump leads to ---- */

/* The exit whose stub begins at `at`; false: none does. */
static bool exit_at(const u8 *at, u32 *code)
{
	if (*at != 0xb9) /* mov ecx, imm */
		return false;
	*code = get_le32(at + 1);
	return true;
}

/* What a branch of the block leads to when it is one of the block's exits. */
static bool exit_of(const struct explainer *x, const u8 *target, u32 *code)
{
	const struct codemem *m = &x->t->mem;
	size_t at = (size_t)(target - m->rx);

	return at >= x->t->stubs_end && range_ok(at, OUT_SIZE, m->size) &&
	       !tcache_by_code(x->t, target) && exit_at(target, code) && EXIT_ID(*code) == x->b->id;
}

static const u8 *branch_target(
	const ZydisDecodedInstruction *i, const ZydisDecodedOperand *o, const u8 *at)
{
	if (!i->operand_count || o[0].type != ZYDIS_OPERAND_TYPE_IMMEDIATE || !o[0].imm.is_relative)
		return NULL;
	return at + i->length + o[0].imm.value.s;
}

/* ---- names in operands ---- */

/* Zydis exports no function that appends plain text; its string is a vector of characters whose
 * size counts the terminating zero. */
static ZyanStatus append(ZydisFormatterBuffer *buffer, const char *text)
{
	ZyanString *to;
	size_t len = strlen(text);

	ZYAN_CHECK(ZydisFormatterBufferAppend(buffer, ZYDIS_TOKEN_SYMBOL));
	ZYAN_CHECK(ZydisFormatterBufferGetString(buffer, &to));
	if (to->vector.size + len > to->vector.capacity)
		return ZYAN_STATUS_INSUFFICIENT_BUFFER_SIZE;
	memcpy((char *)to->vector.data + to->vector.size - 1, text, len + 1);
	to->vector.size += len;
	return ZYAN_STATUS_SUCCESS;
}

static void name_text(const struct explainer *x, u64 at, char text[EXPLAIN_TEXT])
{
	u64 offset = 0;
	const char *name = x->to->name ? x->to->name(x->to->name_ctx, at, &offset) : NULL;

	if (!name)
		snprintf(text, EXPLAIN_TEXT, "0x%llx", (unsigned long long)at);
	else if (offset)
		snprintf(text, EXPLAIN_TEXT, "%.90s+0x%llx", name, (unsigned long long)offset);
	else
		snprintf(text, EXPLAIN_TEXT, "%.90s", name);
}

static ZyanStatus print_guest_address(
	const ZydisFormatter *f, ZydisFormatterBuffer *buffer, ZydisFormatterContext *ctx)
{
	char text[EXPLAIN_TEXT];
	u64 at;

	ZYAN_CHECK(ZydisCalcAbsoluteAddress(
		ctx->instruction, ctx->operand, ctx->runtime_address, &at));
	name_text(ctx->user_data, at, text);
	return append(buffer, text);
}

static ZyanStatus print_host_address(
	const ZydisFormatter *f, ZydisFormatterBuffer *buffer, ZydisFormatterContext *ctx)
{
	const struct explainer *x = ctx->user_data;
	char text[EXPLAIN_TEXT], name[EXPLAIN_TEXT];
	u64 at;
	u32 code;

	ZYAN_CHECK(ZydisCalcAbsoluteAddress(
		ctx->instruction, ctx->operand, ctx->runtime_address, &at));
	if (!exit_of(x, (const u8 *)(uintptr_t)at, &code)) {
		snprintf(text, sizeof(text), "+0x%llx", (unsigned long long)(at - x->host_base));
		return append(buffer, text);
	}
	switch (EXIT_KIND(code)) {
	case EXIT_LINK:
		name_text(x, x->b->links[EXIT_ARG(code)].target, name);
		snprintf(text, sizeof(text), "<%.100s>", name);
		return append(buffer, text);
	case EXIT_LOOKUP: return append(buffer, "<lookup in C>");
	case EXIT_OP: return append(buffer, "<interpreter>");
	case EXIT_VECTOR: return append(buffer, "<fetch vectors>");
	case EXIT_X87: return append(buffer, "<fetch x87>");
	case EXIT_PAGE: return append(buffer, "<look at the page>");
	case EXIT_ATTENTION: break;
	}
	return append(buffer, "<exit>");
}

/* Slots of the context. */
static const struct slot {
	u32 at;
	const char *name;
} slots[] = {
	{ SLOT(gpr[10]), "guest_r10" },
	{ SLOT(gpr[11]), "guest_r11" },
	{ SLOT(gpr[15]), "guest_r15" },
	{ SLOT(rip), "target" },
	{ SLOT(save), "saved" },
	{ SLOT(index_mask), "index_mask" },
	{ SLOT(page_mask), "page_mask" },
	{ SLOT(jump_mask), "jump_mask" },
	{ SLOT(fs_base), "fs_base" },
	{ SLOT(gs_base), "gs_base" },
	{ SLOT(host_rsp), "host_stack" },
	{ SLOT(state), "state" },
	{ SLOT(vif), "guest_if" },
	{ SLOT(rest), "other_flags" },
	{ SLOT(df), "guest_df" },
	{ SLOT(attention), "attention" },
	{ SLOT(save_rdi), "saved_rdi" },
	{ SLOT(status_mask), "status_mask" },
	{ SLOT(fs_window), "fs_window" },
	{ SLOT(vectors_away), "vectors_away" },
	{ SLOT(x87_away), "x87_away" },
	{ SLOT(retired), "instructions" },
	{ SLOT(page), "page" },
	{ SLOT(itlb_mask), "itlb_mask" },
};

static const char *slot_name(u32 at)
{
	u32 table = sizeof(struct fast_table), jump = sizeof(struct jump_table);

	for (unsigned i = 0; i < ARRAY_LEN(slots); i++)
		if (slots[i].at == at)
			return slots[i].name;
	if (at >= SLOT(itlb) && at < SLOT(itlb) + ITLB_ENTRIES * sizeof(u64))
		return "itlb";
	if (at >= SLOT(fast) && at < SLOT(fast) + MMU_SPACES * 2 * table) {
		u32 in = (at - SLOT(fast)) % table, write = (at - SLOT(fast)) / table % 2;

		if (in == offsetof(struct fast_table, neg))
			return write ? "write_tags" : "read_tags";
		if (in == offsetof(struct fast_table, add))
			return write ? "write_hosts" : "read_hosts";
	}
	if (at >= SLOT(jump) && at < SLOT(jump) + CODE_SPACES * jump) {
		u32 in = (at - SLOT(jump)) % jump;

		if (in == offsetof(struct jump_target, neg))
			return "jump_tags";
		if (in == offsetof(struct jump_target, code))
			return "jump_code";
	}
	return NULL;
}

static ZydisFormatterFunc default_disp, default_abs;

/* Host code reaches the context through GS with an index, and relative to RIP without one. */
static const char *slot_of(const ZydisFormatterContext *ctx)
{
	const struct explainer *x = ctx->user_data;
	const ZydisDecodedOperand *o = ctx->operand;
	u64 at;

	if (o->type != ZYDIS_OPERAND_TYPE_MEMORY)
		return NULL;
	if (o->mem.segment == ZYDIS_REGISTER_GS)
		return slot_name((u32)o->mem.disp.value);
	if (o->mem.base != ZYDIS_REGISTER_RIP ||
		ZYAN_FAILED(
			ZydisCalcAbsoluteAddress(ctx->instruction, o, ctx->runtime_address, &at)))
		return NULL;
	at -= (u64)(uintptr_t)x->t->ctx;
	return at < sizeof(struct tctx) ? slot_name((u32)at) : NULL;
}

static ZyanStatus print_host_disp(
	const ZydisFormatter *f, ZydisFormatterBuffer *buffer, ZydisFormatterContext *ctx)
{
	const char *name = slot_of(ctx);
	char text[EXPLAIN_TEXT];

	if (!name)
		return default_disp(f, buffer, ctx);
	snprintf(text, sizeof(text), "+%s", name);
	return append(buffer, text);
}

static ZyanStatus print_host_absolute(
	const ZydisFormatter *f, ZydisFormatterBuffer *buffer, ZydisFormatterContext *ctx)
{
	const char *name = slot_of(ctx);

	if (name)
		return append(buffer, name);
	if (ctx->operand->type == ZYDIS_OPERAND_TYPE_MEMORY)
		return default_abs(f, buffer, ctx);
	return print_host_address(f, buffer, ctx);
}

static void hook(ZydisFormatter *f, ZydisFormatterFunction which, ZydisFormatterFunc fn,
	ZydisFormatterFunc *before)
{
	const void *p = (const void *)(uintptr_t)fn;

	must(ZYAN_SUCCESS(ZydisFormatterSetHook(f, which, &p)), "hook %d", (int)which);
	if (before)
		*before = (ZydisFormatterFunc)(uintptr_t)p;
}

static void formatters_init(struct explainer *x)
{
	ZydisDecoderInit(&x->decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	ZydisFormatterInit(&x->guest, ZYDIS_FORMATTER_STYLE_INTEL);
	ZydisFormatterInit(&x->host, ZYDIS_FORMATTER_STYLE_INTEL);
	ZydisFormatterSetProperty(&x->guest, ZYDIS_FORMATTER_PROP_HEX_UPPERCASE, ZYAN_FALSE);
	ZydisFormatterSetProperty(&x->guest, ZYDIS_FORMATTER_PROP_DISP_PADDING, 0);
	ZydisFormatterSetProperty(&x->guest, ZYDIS_FORMATTER_PROP_IMM_PADDING, 0);
	ZydisFormatterSetProperty(&x->host, ZYDIS_FORMATTER_PROP_HEX_UPPERCASE, ZYAN_FALSE);
	ZydisFormatterSetProperty(&x->host, ZYDIS_FORMATTER_PROP_DISP_PADDING, 0);
	ZydisFormatterSetProperty(&x->host, ZYDIS_FORMATTER_PROP_IMM_PADDING, 0);
	hook(&x->guest, ZYDIS_FORMATTER_FUNC_PRINT_ADDRESS_ABS, print_guest_address, NULL);
	hook(&x->host, ZYDIS_FORMATTER_FUNC_PRINT_ADDRESS_ABS, print_host_absolute, &default_abs);
	hook(&x->host, ZYDIS_FORMATTER_FUNC_PRINT_DISP, print_host_disp, &default_disp);
}

/* ---- one instruction ---- */

static unsigned disassemble(struct explainer *x, const ZydisFormatter *f, const u8 *bytes,
	size_t size, u64 at, struct explain_code *out)
{
	ZydisDecodedInstruction i;
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];

	out->bytes = bytes;
	out->length = 1;
	if (ZYAN_FAILED(ZydisDecoderDecodeFull(&x->decoder, bytes, size, &i, o)) ||
		ZYAN_FAILED(ZydisFormatterFormatInstruction(
			f, &i, o, i.operand_count_visible, out->text, sizeof(out->text), at, x))) {
		snprintf(out->text, sizeof(out->text), "(bad)");
		return 1;
	}
	return out->length = i.length;
}

/* What is in one guest instruction's code. */
struct found {
	bool op, link, lookup; /* exits of that kind */
	bool check;	       /* PEXT: only memory checks have it */
	unsigned others;       /* instructions that are not exits */
};

static void look(struct explainer *x, const u8 *at, struct found *found)
{
	ZydisDecodedInstruction i;
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];
	const u8 *target;
	u32 code;

	if (ZYAN_FAILED(ZydisDecoderDecodeFull(&x->decoder, at, 15, &i, o)))
		return;
	target = branch_target(&i, o, at);
	found->check |= i.mnemonic == ZYDIS_MNEMONIC_PEXT;
	if (!target || !exit_of(x, target, &code)) {
		found->others++;
		return;
	}
	found->op |= EXIT_KIND(code) == EXIT_OP;
	found->link |= EXIT_KIND(code) == EXIT_LINK;
	found->lookup |= EXIT_KIND(code) == EXIT_LOOKUP;
}

static enum explain_fate fate_of(
	const struct tinsn *in, const struct op *op, const struct found *f, bool same, bool empty)
{
	if (in->handed)
		return EXPLAIN_HANDED;
	if (explain_sensitive(op))
		return EXPLAIN_INLINE;
	if (f->lookup)
		return EXPLAIN_LOOKUP;
	if (f->link)
		return EXPLAIN_LINK;
	if (f->check)
		return EXPLAIN_MEMORY;
	if (empty)
		return EXPLAIN_NOTHING;
	return same ? EXPLAIN_COPIED : EXPLAIN_REENCODED;
}

static void name_it(struct explainer *x, struct explain_insn *out)
{
	out->symbol =
		x->to->name ? x->to->name(x->to->name_ctx, out->guest.at, &out->offset) : NULL;
}

static void read_code(struct explainer *x, u64 at, u8 *bytes, unsigned length)
{
	for (unsigned i = 0; i < length; i++)
		if (mmu_read(&x->t->c->mmu, at + i, bytes + i, 1, ACCESS_READ) != X86_OK)
			break;
}

/* Instruction n of the block. */
static void tell(struct explainer *x, unsigned n)
{
	const struct tblock *b = x->b;
	const struct tinsn *in = &b->insns[n], *next = in + 1;
	struct explain_insn out = { .starts_block = !n };
	struct found found = { 0 };
	unsigned entry = n ? 0 : tblock_entry(b); /* the check of the block's page comes first */
	unsigned size = (unsigned)next->host_at - in->host_at + entry;
	/* A block that is not ended by a transfer ends with a link, which is the last one's. */
	unsigned length = (unsigned)next->guest_at - in->guest_at;
	const u8 *code = b->code + in->host_at - entry;
	const struct op *op = tblock_op(x->t, b, n);
	u8 bytes[15] = { 0 };

	out.guest.at = b->rip + in->guest_at;
	read_code(x, out.guest.at, bytes, length);
	disassemble(x, &x->guest, bytes, length, out.guest.at, &out.guest);
	for (unsigned at = 0; at < size && out.host_count < HOST_MAX;) {
		struct explain_code *line = &x->lines[out.host_count++];

		line->at = (u64)(code + at - b->code);
		if (at >= entry)
			look(x, code + at, &found);
		at += disassemble(
			x, &x->host, code + at, size - at, (u64)(uintptr_t)(code + at), line);
	}
	out.host = x->lines;
	size -= entry;
	code += entry;
	out.fate = fate_of(in, op, &found, size == length && !memcmp(code, bytes, size), !size);
	name_it(x, &out);
	explain_why(&out, in, op);
	x->to->insn(x->to->insn_ctx, &out);
}

/* ---- blocks ---- */

/* An instruction that is in no block: it straddles pages, is not RAM, or none at all. */
static int tell_interpreted(struct explainer *x, unsigned *length)
{
	struct interp *c = x->t->c;
	struct explain_insn out = { .starts_block = true, .fate = EXPLAIN_INTERPRETED };
	u8 bytes[15] = { 0 };

	out.guest.at = c->s->rip;
	read_code(x, out.guest.at, bytes, sizeof(bytes));
	*length = disassemble(x, &x->guest, bytes, sizeof(bytes), out.guest.at, &out.guest);
	name_it(x, &out);
	explain_why(&out, NULL, NULL);
	x->to->insn(x->to->insn_ctx, &out);
	return 0;
}

/* Translates at RIP; NULL: interpreted, or a fault. */
static struct tblock *block_at_rip(struct translator *t, bool *interpret)
{
	t->code_space = (u8)t->c->mmu.space;
	return tcache_find(t, interpret);
}

int translate_explain(struct vcpu *v, u64 from, u64 end, unsigned count,
	const struct explain_sink *to, struct err *err)
{
	struct translator *t = v->engine_data;
	struct interp *c = t->c;
	struct explainer x = { .t = t, .to = to };

	formatters_init(&x);
	c->s->rip = from;
	interp_refresh(c);
	if (c->code_bits != 64)
		return err_set(err, -ENOTSUP,
			"the translator takes 64-bit code; this kernel is entered in %u-bit code",
			c->code_bits);
	while (count && c->s->rip < end) {
		struct code_bytes src;
		bool interpret;
		unsigned length = 0;

		if (!x86_canonical(c->s->rip) || blocks_fetch(c, c->s->rip, &src) != X86_OK)
			return err_set(err, -EFAULT, "there is no code at 0x%llx",
				(unsigned long long)c->s->rip);
		x.b = block_at_rip(t, &interpret);
		if (!x.b) {
			tell_interpreted(&x, &length);
			count--;
		} else {
			x.host_base = (u64)(uintptr_t)x.b->code;
			for (unsigned i = 0;
				i < x.b->count && count && c->s->rip + x.b->insns[i].guest_at < end;
				i++, count--)
				tell(&x, i);
			length = x.b->insns[x.b->count].guest_at;
		}
		c->s->rip += length;
	}
	return 0;
}
