/*
 * The bytes of a routine: three parts of TEXT that fill up side by side, so that blocks which
 * follow each other in the listing lie on different pages. One part begins shortly before a page's
 * end: instructions and stored-to places straddle it. The rest of TEXT is for data beside code.
 *
 * A label that is used before it is placed is resolved in lay_end(); so is a store into code that
 * was emitted before the place it stores to.
 */
#include "base/must.h"
#include "routine.h"

#define SLACK 96u /* what one piece may need */

void lay_start(struct maker *m)
{
	static const u16 first[PARTS] = { 0x40, 0x1000, 0x2500 };
	static const u16 end[PARTS] = { 0x800, 0x1a00, 0x2e00 };

	memset(m->text, 0xcc, sizeof(m->text));
	for (unsigned i = 0; i < PARTS; i++) {
		m->next[i] = (u16)(first[i] + rng_below(&m->r, 64));
		m->end[i] = (u16)(end[i] - SLACK);
	}
	m->next[1] = (u16)(0x1000 - 8 - rng_below(&m->r, 700));
	m->part = 1;
	m->at = m->next[1];
}

void lay_bytes(struct maker *m, const void *bytes, unsigned len)
{
	must(m->at + len <= TEXT_SIZE, "0x%x", m->at);
	memcpy(m->text + m->at, bytes, len);
	m->at = (u16)(m->at + len);
	m->full |= m->at >= m->end[m->part];
}

void lay_32(struct maker *m, u32 v) { lay_bytes(m, &v, 4); }

unsigned lay_label(struct maker *m)
{
	must(m->labels < LABELS_MAX, "labels");
	m->label[m->labels] = 0;
	return m->labels++;
}

void lay_place(struct maker *m, unsigned label) { m->label[label] = m->at; }

void lay_rel32(struct maker *m, unsigned label)
{
	must(m->fixups < FIXUPS_MAX, "fixups");
	m->fixup[m->fixups].at = m->at;
	m->fixup[m->fixups++].label = (u16)label;
	lay_32(m, 0);
}

void lay_elsewhere(struct maker *m)
{
	unsigned to = (m->part + 1 + rng_below(&m->r, PARTS - 1)) % PARTS;

	m->next[m->part] = (u16)(m->at + rng_below(&m->r, 24));
	if (m->next[to] + 200u < m->end[to])
		m->part = to;
	m->at = m->next[m->part];
	m->full = m->at >= m->end[m->part];
}

/* ---- encodings ---- */

static void rex(struct maker *m, bool wide, unsigned reg, unsigned rm)
{
	u8 byte = (u8)(0x40 | wide << 3 | reg >> 3 << 2 | rm >> 3);

	if (byte != 0x40)
		LAY(m, byte);
}

static void opcode_bytes(struct maker *m, unsigned opcode)
{
	if (opcode > 0xff)
		LAY(m, (u8)(opcode >> 8));
	LAY(m, (u8)opcode);
}

void lay_rr(struct maker *m, bool wide, unsigned opcode, unsigned reg, unsigned rm)
{
	rex(m, wide, reg, rm);
	opcode_bytes(m, opcode);
	LAY(m, (u8)(0xc0 | (reg & 7) << 3 | (rm & 7)));
}

void lay_rm(struct maker *m, bool wide, unsigned opcode, unsigned reg, u64 target)
{
	unsigned base = m->pointer + (rng_one_in(&m->r, 2) ? 8 : 0);
	bool relative = rng_one_in(&m->r, 3);

	rex(m, wide, reg, relative ? 0 : base);
	opcode_bytes(m, opcode);
	if (relative) {
		LAY(m, (u8)((reg & 7) << 3 | 5));
		lay_32(m, (u32)(target - (TEXT_AT + m->at + 4)));
	} else {
		LAY(m, (u8)(0x80 | (reg & 7) << 3 | (base & 7)));
		lay_32(m, (u32)(target - m->pointer_start));
	}
}

void lay_constant(struct maker *m, unsigned reg, u32 value)
{
	rex(m, false, 0, reg);
	LAY(m, (u8)(0xb8 | (reg & 7)));
	lay_32(m, value);
}

void lay_address(struct maker *m, unsigned reg, unsigned label)
{
	rex(m, true, reg, 0);
	LAY(m, 0x8d, (u8)((reg & 7) << 3 | 5));
	lay_rel32(m, label);
}

/* ---- stores into code ---- */

static u8 site_value(struct maker *m, const struct site *s)
{
	static const u8 singles[] = { 0x90, 0xf5, 0xf8, 0xf9, 0xfc, 0x98, 0x9e };

	switch ((enum site_kind)s->kind) {
	case SITE_ANY: return (u8)rng_next(&m->r);
	case SITE_ALU: return (u8)(0xc0 | rng_below(&m->r, 8) << 3 | s->reg);
	case SITE_JUMP: return rng_one_in(&m->r, 2) ? 0xe9 : (u8)(0xb8 | s->reg);
	case SITE_SINGLE: return singles[rng_below(&m->r, m->reserved & BIT(RAX) ? 5 : 7)];
	}
	return 0x90;
}

static bool hits(const struct pending *p, const struct site *s)
{
	return p->value_at >= 0 || (s->kind == SITE_ANY && s->len >= p->len);
}

static void resolve(struct maker *m, const struct pending *p, const struct site *s)
{
	unsigned within = s->kind == SITE_ANY ? rng_below(&m->r, s->len - p->len + 1u) : 0;

	put_le32(m->text + p->disp_at, (u32)(s->at + within - p->end));
	if (p->value_at >= 0)
		m->text[p->value_at] = site_value(m, s);
}

void lay_site(struct maker *m, unsigned at, enum site_kind kind, unsigned len, unsigned reg)
{
	struct site s = { (u16)at, (u8)kind, (u8)len, (u8)(reg & 7) };

	if (m->sites < SITES_MAX)
		m->site[m->sites++] = s;
	for (unsigned i = 0; i < m->pendings;) {
		if (!hits(&m->pending[i], &s) || rng_one_in(&m->r, 2)) {
			i++;
			continue;
		}
		resolve(m, &m->pending[i], &s);
		m->pending[i] = m->pending[--m->pendings];
	}
}

void lay_code_disp(struct maker *m, unsigned len, unsigned more, bool chosen)
{
	struct pending p = { .disp_at = m->at,
		.end = (u16)(m->at + 4 + more),
		.value_at = (s16)(chosen ? m->at + 4 + (int)more - 1 : -1),
		.len = (u8)len };
	unsigned first = rng_below(&m->r, m->sites + 1);

	lay_32(m, 0);
	for (unsigned i = 0; i < more; i++)
		LAY(m, (u8)rng_next(&m->r));
	/* Code that was emitted before, or else what comes. */
	for (unsigned i = 0; i < m->sites && rng_one_in(&m->r, 2); i++) {
		const struct site *s = &m->site[(first + i) % m->sites];

		if (!hits(&p, s))
			continue;
		resolve(m, &p, s);
		return;
	}
	if (m->pendings < PENDING_MAX)
		m->pending[m->pendings++] = p;
	else
		put_le32(m->text + p.disp_at, TEXT_DATA - p.end);
}

void lay_end(struct maker *m)
{
	struct trial *t = m->t;
	unsigned first = TEXT_SIZE, last = 0;

	for (unsigned i = 0; i < m->pendings; i++)
		put_le32(m->text + m->pending[i].disp_at, TEXT_DATA - m->pending[i].end);
	for (unsigned i = 0; i < m->fixups; i++) {
		must(m->label[m->fixup[i].label], "label %u is nowhere", m->fixup[i].label);
		put_le32(m->text + m->fixup[i].at,
			(u32)m->label[m->fixup[i].label] - (m->fixup[i].at + 4u));
	}
	for (unsigned i = 0; i < TEXT_SIZE; i++) {
		if (m->text[i] == 0xcc)
			continue;
		first = (unsigned)min_u64(first, i);
		last = i + 1;
	}
	t->at = (u16)first;
	t->len = (u16)(last - first);
	memcpy(t->code, m->text + first, t->len);
}
