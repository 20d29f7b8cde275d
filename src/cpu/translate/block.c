/*
 * Making a block: decode guest instructions until one ends it, emit each, and register the result.
 *
 * A block covers bytes of one page, or of two when its last instruction straddles them; then it
 * ends there. Its bytes are read from guest memory once, before anything else is done with them:
 * another vcpu may be writing to them, and what is copied into the cache must be what was decoded.
 */
#include "base/bits.h"
#include "base/must.h"
#include "cpu/translate/emit.h"

#define JUMP_SIZE 5u

struct making {
	struct translator *t;
	struct tblock *b;
	struct emit e;
	const struct code_bytes *src;
	unsigned bits;	    /* 32, 64 */
	unsigned count, at; /* instructions, bytes */
	unsigned op_count, fact_count;
	size_t outs_before;
	u64 gpa2; /* of the second page, or CODE_NO_PAGE */
	struct op op;
	u8 code[CODE_MOST + INSN_MAX]; /* guest memory from the start on ... */
	unsigned code_len;	       /* ... as far as its page goes, or a block can */
	struct op ops[TBLOCK_OPS];
	u64 facts[TBLOCK_OPS + 1]; /* each once */
};

void *tblock_pooled(struct translator *t, const void *from, size_t size)
{
	void *to = t->pool + t->pool_used;

	memcpy(to, from, size);
	t->pool_used += align_up(size, 16);
	return to;
}

/* What is next put there begins at a multiple of `align`, a power of two. */
static void pool_align(struct translator *t, size_t align)
{
	t->pool_used = align_up(t->pool_used, align);
}

struct tblock *tblock_place(struct translator *t)
{
	pool_align(t, TBLOCK_ALIGN);
	return (struct tblock *)(void *)(t->pool + t->pool_used);
}

_Static_assert(sizeof(struct tblock) + (TBLOCK_OPS + 1) * sizeof(struct tinsn) +
			       (BLOCK_LINKS + 1) * sizeof(struct link) <
		       OWNER_BACK_MAX * LINK_UNIT,
	"struct link's owner_back");

void tblock_add_links(
	struct translator *t, struct tblock *b, const struct link *from, unsigned count)
{
	pool_align(t, sizeof(struct link));
	b->link_count = (u8)count;
	b->links = tblock_pooled(t, from, count * sizeof(struct link));
	unsigned back = (pool_ref(t, b->links) - pool_ref(t, b)) / LINK_UNIT;
	for (unsigned i = 0; i < count; i++)
		b->links[i].owner_back = (back + i) & OWNER_BACK_MAX;
}

static bool code_has_room(const struct translator *t)
{
	return t->used + TBLOCK_HEAD + EMIT_MAX + LONG_OUT_SIZE * OUTS_MAX <= t->outs_at &&
	       t->next_id < t->end_id;
}

void tblock_room(struct translator *t)
{
	if (t->pool_used + DESCRIPTOR_MAX > POOL_SIZE || natives_full(t->c->natives))
		tcache_clear(t);
	while (!code_has_room(t) && !share_chunk(t))
		tcache_clear(t);
}

/* How an instruction reaches memory: what a miss has to fill. */
static u8 access_of(const struct build *d, u8 *bytes)
{
	*bytes = (u8)(d->bits / 8);
	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_PUSH:
	case ZYDIS_MNEMONIC_PUSHFD:
	case ZYDIS_MNEMONIC_PUSHFQ:
	case ZYDIS_MNEMONIC_CALL: return ACCESS_PUSH;
	case ZYDIS_MNEMONIC_POP:
	case ZYDIS_MNEMONIC_POPFD:
	case ZYDIS_MNEMONIC_POPFQ:
	case ZYDIS_MNEMONIC_RET: return ACCESS_POP;
	case ZYDIS_MNEMONIC_LEAVE: return ACCESS_LEAVE;
	default: break;
	}
	if (d->insn.meta.category == ZYDIS_CATEGORY_STRINGOP) {
		static const u8 accesses[] = { ACCESS_MOVS, ACCESS_STOS, ACCESS_LODS, ACCESS_NONE };

		*bytes = 1;
		return accesses[emit_string_kind(d->op)];
	}
	for (unsigned i = 0; i < d->insn.operand_count_visible; i++) {
		const ZydisDecodedOperand *o = &d->o[i];

		if (o->type != ZYDIS_OPERAND_TYPE_MEMORY || o->mem.type != ZYDIS_MEMOP_TYPE_MEM)
			continue;
		*bytes = (u8)(o->size / 8);
		if (is_bit_string(d)) {
			*bytes = d->op->size;
			return d->insn.mnemonic == ZYDIS_MNEMONIC_BT ? ACCESS_BIT_READ
								     : ACCESS_BIT_WRITE;
		}
		return o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE ? ACCESS_EA_WRITE
								    : ACCESS_EA_READ;
	}
	return ACCESS_NONE;
}

/* Is all of the instruction's code one jump to its exit, or a trap in its place? */
static bool is_handed(const struct emit *e, const u8 *before, unsigned outs)
{
	if (e->traps)
		return true;
	return e->out_count == outs + 1 && EXIT_KIND(e->outs[outs].code) == EXIT_OP &&
	       (size_t)(e->a.at - before) == JUMP_SIZE;
}

/* ---- decoding ---- */

/* Reads on behind an instruction that does not fit the page; false: the next page is not there, or
 * is not RAM. A fault is left to the interpreter, which finds it again. */
static bool fetch_straddling(struct making *m)
{
	struct interp *c = m->t->c;
	struct code_bytes second;

	if (blocks_fetch(c, (c->s->rip | PAGE_MASK) + 1, &second) != X86_OK || !second.host)
		return false;
	code_map_claim(&c->code, second.gpa);
	memcpy(m->code + m->code_len, second.host, INSN_MAX);
	m->gpa2 = second.gpa & ~PAGE_MASK;
	return true;
}

/* Decodes the next instruction; false: it is the interpreter's business. */
static bool decode_next(struct making *m, struct build *d)
{
	struct interp *c = m->t->c;
	unsigned left = m->code_len - m->at, avail = left < INSN_MAX ? left : INSN_MAX;

	m->e.bytes = m->code + m->at;
	enum decode_result r = decode_full(c, m->e.bytes, avail, m->bits, &m->op, d);
	if (r != DECODE_TRUNCATED || avail == INSN_MAX)
		return r == DECODE_OK;
	if (!fetch_straddling(m))
		return false;
	if (decode_full(c, m->e.bytes, INSN_MAX, m->bits, &m->op, d) == DECODE_OK)
		return true;
	m->gpa2 = CODE_NO_PAGE;
	return false;
}

/* ---- emitting ---- */

/* What is known before the instruction. */
static void record_facts(struct making *m, struct tinsn *in)
{
	u64 facts = facts_record(&m->e, in);
	unsigned i = m->fact_count;

	while (i && m->facts[i - 1] != facts)
		i--;
	if (!i)
		m->facts[m->fact_count++] = facts;
	in->facts = (u8)((i ? i : m->fact_count) - 1);
}

static enum emit_result add_insn(struct making *m, const struct build *d)
{
	struct emit *e = &m->e;
	struct tinsn *in = &m->b->insns[m->count];

	in->host_at = (u16)(e->a.at - e->start);
	in->guest_at = (u16)m->at;
	in->access = access_of(d, &in->bytes);
	in->mnemonic = (u16)d->insn.mnemonic;
	in->op = NO_OP;
	in->rep_at = in->behind = in->run_size = in->run_below = 0;
	record_facts(m, in);
	e->d = d;
	e->index = m->count;
	e->rip = e->start_rip + m->at;
	e->gpa = m->src->gpa + m->at;
	e->hint = !emit_window(e) ? (u8)HINT_GENERAL
		  : in->access || (m->op.flags & OPF_END)
			  ? window_hint_of(m->t, m->b->space, e->gpa)
			  : (u8)HINT_GUESS;
	in->hint = e->hint & 3u;
	e->traps = false;
	if (unlikely(m->gpa2 != CODE_NO_PAGE))
		emit_itlb_check(e, e->start_rip + PAGE_SIZE, m->gpa2, m->count);
	const u8 *before = e->a.at;
	unsigned outs = e->out_count, links = e->link_count;
	enum emit_result r = emit_insn(e);
	in->handed = is_handed(e, before, outs);
	/* A native stub's operation is kept, too: decoding it again would need room for the stub.
	 */
	bool native = m->op.exec == op_native || m->op.exec == op_native_mem;
	if (e->out_count - outs > e->link_count - links || e->traps || native ||
		m->gpa2 != CODE_NO_PAGE) {
		in->op = (u8)m->op_count;
		m->ops[m->op_count++] = m->op;
	}
	facts_after(e, in->handed);
	m->at += m->op.length;
	m->count++;
	return r;
}

static void end_offsets(struct making *m)
{
	struct tinsn *end = &m->b->insns[m->count];

	end->host_at = (u16)(m->e.a.at - m->e.start);
	end->guest_at = (u16)m->at;
	record_facts(m, end);
}

/* Emits instructions from m->at on, `most` at most, until one ends the block. *r: how the last one
 * did. */
static enum emit_result emit_body(struct making *m, unsigned most)
{
	unsigned page_left = (unsigned)(PAGE_SIZE - (m->b->rip & PAGE_MASK));
	unsigned end = m->count + most;
	enum emit_result r = EMIT_NEXT;
	struct build d UNINITIALIZED;

	bool piece = false;

	m->e.body_links = m->e.link_count;
	m->e.back = NO_LINK;
	while (m->count < end && m->at < page_left && r != EMIT_END && decode_next(m, &d)) {
		unsigned links = m->e.link_count;

		if (!piece)
			count_piece_begins(&m->e, m->count);
		r = add_insn(m, &d);
		piece = m->e.link_count == links;
		if (!piece)
			count_piece_ends(&m->e, m->count);
	}
	if (piece)
		count_piece_ends(&m->e, m->count);
	return r;
}

#define LOOP_TRIES 4u

/*
 * The block has ended with a branch to its own start. Emits its body once more, for further rounds:
 * what is known at the end of one is known at the start of the next. `head` is what is known there;
 * it shrinks until the end of the body implies it.
 */
static void emit_loop(struct making *m)
{
	struct emit *e = &m->e;
	const struct emit_mark mark = emit_mark(e);
	const unsigned count = m->count, bytes = m->at, op_count = m->op_count, back = e->back;
	const unsigned fact_count = m->fact_count;
	struct facts head = e->f;

	if (back == NO_LINK || !emit_window(e) || m->t->options & OPTION_NO_LOOPS ||
		m->gpa2 != CODE_NO_PAGE || m->b->unit.live_bytes)
		return;
	for (unsigned i = 0; i < LOOP_TRIES; i++) {
		u16 start = (u16)(e->a.at - e->start);

		e->f = head;
		m->at = 0;
		bool again = emit_body(m, count) == EMIT_END && e->back != NO_LINK &&
			     m->count == 2 * count && !e->a.full;
		if (again && facts_meet(&head, &e->f)) {
			e->links[back].loop = e->links[e->back].loop = start;
			m->t->loops++;
			return;
		}
		emit_back(e, &mark);
		m->count = count;
		m->at = bytes;
		m->op_count = op_count;
		m->fact_count = fact_count;
		if (!again)
			return;
	}
}

/* Emits the block's instructions; false: not even one. */
static bool emit_block(struct making *m)
{
	enum emit_result r = emit_body(m, m->t->block_ops);

	if (!m->count)
		return false;
	if (r == EMIT_STI) {
		emit_take_back_sti(&m->e, m->count - 1);
		if (m->b->insns[m->count - 1].op == NO_OP) {
			m->b->insns[m->count - 1].op = (u8)m->op_count;
			m->ops[m->op_count++] = m->op;
		}
		r = EMIT_END;
	}
	if (r == EMIT_END)
		emit_loop(m);
	end_offsets(m);
	if (r != EMIT_END)
		emit_link(&m->e, 0xff, m->e.start_rip + m->at);
	if (!m->e.a.full)
		emit_outs(m->t, m->b, m->e.links, m->e.outs, m->e.out_count);
	must(!m->e.a.full, "block at 0x%llx needs more than %u bytes",
		(unsigned long long)m->b->rip, EMIT_MAX);
	return true;
}

/* ---- the result ---- */

/* NULL: it is good for its address only, or there is no use for them. */
static const struct relocs *relocs_of(struct making *m)
{
	struct emit *e = &m->e;
	unsigned n = 0, count = e->slots.count + e->addresses.count + 2 * e->out_count;
	struct {
		struct relocs r;
		u16 at[RELOCS_MOST];
	} x;

	if (e->fixed || m->gpa2 != CODE_NO_PAGE || m->b->unit.live_bytes || count > RELOCS_MOST ||
		e->slots.count > ASM_PLACES || e->addresses.count > ASM_PLACES ||
		code_space_bits(m->b->space) != 64 || code_space_mmu(m->b->space) != MMU_USER ||
		m->b->floats || m->t->options & OPTION_NO_REBASE)
		return NULL;
	x.r = (struct relocs){ (u16)e->slots.count, (u16)e->addresses.count, (u16)e->out_count };
	for (unsigned i = 0; i < e->slots.count; i++)
		x.at[n++] = e->slots.at[i];
	for (unsigned i = 0; i < e->addresses.count; i++)
		x.at[n++] = e->addresses.at[i];
	for (unsigned i = 0; i < e->out_count; i++)
		x.at[n++] = (u16)(e->outs[i].site - e->start);
	for (unsigned i = 0; i < e->out_count; i++)
		x.at[n++] = (u16)((unsigned)EXIT_KIND(e->outs[i].code) << 8 |
				  EXIT_ARG(e->outs[i].code));
	return tblock_pooled(m->t, &x, relocs_size(&x.r));
}

/* ---- registering ---- */

void tblock_commit(struct translator *t, struct tblock *b, size_t outs_before)
{
	t->used += align_up(TBLOCK_HEAD + b->code_size, 4);
	t->next_id++;
	tcache_add(t, b);
	t->guest_bytes += b->unit.bytes;
	t->host_bytes += b->code_size + outs_before - t->outs_at;
}

static void commit(struct making *m)
{
	struct translator *t = m->t;
	struct tblock *b = m->b;
	bool straddles = m->gpa2 != CODE_NO_PAGE && (b->rip & PAGE_MASK) + m->at > PAGE_SIZE;

	b->count = (u8)m->count;
	b->code_size = (u16)(m->e.a.at - m->e.start);
	b->unit = (struct code_unit){ .gpa = m->src->gpa,
		.gpa2 = straddles ? m->gpa2 : CODE_NO_PAGE,
		.bytes = (u16)m->at,
		.live_at = b->unit.live_at,
		.live_bytes = b->unit.live_bytes,
		.keeper = CODE_TRANSLATED };
	t->pool_used += align_up(sizeof(*b) + tblock_insns_size(b), 16);
	tblock_add_links(t, b, m->e.links, m->e.link_count);
	b->ops = tblock_pooled(t, m->ops, m->op_count * sizeof(struct op));
	b->op_count = (u8)m->op_count;
	b->facts = tblock_pooled(t, m->facts, m->fact_count * sizeof(m->facts[0]));
	b->fact_count = (u8)m->fact_count;
	b->bytes = tblock_pooled(t, m->code, m->at);
	b->relocs = relocs_of(m);
	tblock_commit(t, b, m->outs_before);
	/* What was moved is left to nobody: whoever might want it moves it himself. */
	share_publish(t, b, m->outs_before - t->outs_at);
	rebase_offer(t, b);
	t->blocks_made++;
}

struct tblock *tblock_make(struct translator *t, const struct code_bytes *src, bool *interpret)
{
	struct making m UNINITIALIZED;

	u8 *at = t->mem.rw + t->used + TBLOCK_HEAD;
	struct tblock *b = tblock_place(t);
	*b = (struct tblock){ .rip = tcache_key(t, t->code_space, t->c->s->rip),
		.floats = tcache_floats(t, t->code_space, t->c->s->rip),
		.unit.gpa = src->gpa,
		.space = t->code_space,
		.vector_from = NO_VECTORS,
		.x87_from = NO_VECTORS,
		.gate = NO_GATE,
		.id = t->next_id,
		.code = (u8 *)(uintptr_t)codemem_rx(&t->mem, at),
		.insns = (struct tinsn *)(void *)(b + 1) };
	memcpy(at - TBLOCK_HEAD, &b->id, TBLOCK_HEAD);
	m.t = t;
	m.b = b;
	m.src = src;
	m.count = m.at = m.op_count = m.fact_count = 0;
	m.outs_before = t->outs_at;
	m.gpa2 = CODE_NO_PAGE;
	m.e.t = t;
	m.e.start_rip = t->c->s->rip;
	m.e.b = b;
	m.bits = code_space_bits(b->space);
	m.e.word = m.bits / 8;
	m.code_len = (unsigned)min_u64(PAGE_SIZE - (b->rip & PAGE_MASK), CODE_MOST);
	memcpy(m.code, src->host, m.code_len);
	m.e.code_end = m.code + m.code_len;
	m.e.host = src->host;
	m.e.start = at;
	m.e.a = asm_buf_for(t, at, EMIT_MAX);
	m.e.a.named = &m.e.slots;
	m.e.slots.start = m.e.addresses.start = at;
	m.e.slots.count = m.e.addresses.count = 0;
	m.e.fixed = false;
	m.e.out_count = m.e.link_count = 0;
	facts_start(&m.e);
	emit_itlb_check(&m.e, m.e.start_rip, b->unit.gpa, NO_INSN);
	if (!emit_block(&m)) {
		*interpret = true;
		return NULL;
	}
	commit(&m);
	return b;
}

/* It left by a trap. */
static NOINLINE const struct op *decode_again(
	struct translator *t, const struct tblock *b, unsigned index)
{
	const struct tinsn *in = &b->insns[index];
	struct build d UNINITIALIZED;

	must(decode_full(t->c, b->bytes + in->guest_at, INSN_MAX, code_space_bits(b->space),
		     &t->decoded, &d) == DECODE_OK,
		"instruction %u of the block at 0x%llx", index, (unsigned long long)b->rip);
	return &t->decoded;
}

const struct op *tblock_op(struct translator *t, const struct tblock *b, unsigned index)
{
	const struct tinsn *in = &b->insns[index];

	return likely(in->op != NO_OP) ? &b->ops[in->op] : decode_again(t, b, index);
}

unsigned tblock_insn_at(const struct tblock *b, const u8 *pc)
{
	u32 offset = (u32)(pc - b->code);
	unsigned i = 0;

	while (i + 1 < b->count && b->insns[i + 1].host_at <= offset)
		i++;
	return i;
}
