/*
 * The instruction TLB: to which pages of the lower half code may go that runs in another one.
 *
 * What lies in the lower half changes with each CR3, and is the same again when that one returns.
 * So code does not ask whether a link or an entry of a jump table is good in this address space, of
 * which there are many; the block that it leads to asks, whether its page is where it was made
 * from, of which there are few. Where such a block is entered from other pages, it begins with
 *
 *     mov  rcx, [itlb + 8 * (the page's low bits)]
 *     mov  r15, -tag
 *     lea  rcx, [rcx + r15]
 *     jrcxz over
 *     jmp  exit
 *   over:
 *
 * where the tag names linear page, physical page and privilege (see below). An entry says that the
 * guest's tables lead there, and let code be fetched from there; on a miss C looks, and either
 * makes the entry, or the block is another address space's and what led to it is cut. Then jumps
 * and links outlive changes of CR3 and flushes. Links within a page skip the check: who is there
 * has passed it. An instruction on two pages asks for the second one itself.
 *
 * Floating code. Libraries, and most programs, are at another linear address in each process, but
 * in the same physical pages. So code of user programs, but for window blocks, is made for where it
 * is in physical memory, and runs wherever that is mapped. Which linear page it is in is in
 * ctx->page, for what depends on it: operands relative to RIP, return addresses, where a link
 * leads, and C. Its check takes the address that is jumped to from T_ADDR, where lookups and links
 * to other pages put it:
 *
 *     pext rcx, r11, [itlb_mask]
 *     mov  rcx, gs:[itlb + rcx*8]
 *     lea  rcx, [rcx + r11]
 *     mov  r15, -(number of the physical page + offset in it)
 *     lea  rcx, [rcx + r15]
 *     jrcxz over
 *     jmp  exit
 *   over:
 *     lea  r11, [r11 - offset]
 *     mov  [page], r11
 *
 * An entry of a jump table is not cut when such a block dies: there may be any number. Its check
 * fails from then on instead (itlb_shut()), and C finds what is there now.
 *
 * The upper half does without checks: its code stays where it is (upper.c).
 *
 * An entry is what a processor keeps in its own TLB: it goes when the guest flushes its page, or
 * everything, or sets CR3. A processor may fetch any translation again at once (SDM 3A 4.10.2.3),
 * and so do we: what a flush of everything leaves is what the guest's tables say still, of pages
 * that have been accessed.
 */
#include "base/bits.h"
#include "base/must.h"
#include "cpu/translate/emit.h"

/*
 * An entry is a number for physical page and privilege, less the linear page's address. The number
 * has no bits where linear addresses differ that share an entry, 27 to 47: so an entry plus an
 * address has the number's value for its own page only.
 */
#define TAG_VALID    BIT64(63)
#define TAG_USER     BIT64(26)
#define GPA_LOW_BITS 26u
#define GPA_HIGH_AT  48u
#define LINEAR_SHIFT 27u
#define TAG_NONE     (BIT64(48) - BIT64(LINEAR_SHIFT))
_Static_assert(BIT64(LINEAR_SHIFT) == ITLB_ENTRIES * PAGE_SIZE, "index and tag are all of it");

static unsigned index_of(u64 va) { return (unsigned)(va >> PAGE_SHIFT) % ITLB_ENTRIES; }

static u64 number_of(u64 gpa, unsigned code_space)
{
	bool user = code_space_mmu(code_space) == MMU_USER;
	u64 page = gpa >> PAGE_SHIFT;

	return TAG_VALID | page >> GPA_LOW_BITS << GPA_HIGH_AT | (user ? TAG_USER : 0) |
	       (page & (BIT64(GPA_LOW_BITS) - 1));
}

static u64 tag_of(u64 va, u64 gpa, unsigned code_space)
{
	return number_of(gpa, code_space) - (va & ~PAGE_MASK);
}

/* ---- in code ---- */

static u8 *emit_compare(struct asm_buf *a, u64 va, u64 gpa, unsigned code_space)
{
	const u8 *before = a->at;

	asm_load(a, ASM_RCX, SLOT(itlb) + index_of(va) * (u32)sizeof(u64));
	asm_const(a, T_AUX, -tag_of(va, gpa, code_space));
	asm_lea(a, ASM_RCX, ASM_RCX, T_AUX, 0, 0);
	asm_jrcxz(a, ITLB_JUMP);
	must(a->full || a->at - before == ITLB_CHECK - ITLB_JUMP, "the check takes %d bytes",
		(int)(a->at - before));
	return a->at;
}

/* The same of floating code: is the page of the address in T_ADDR the physical one? */
static void emit_float_compare(struct asm_buf *a, u64 offset, u64 gpa, unsigned code_space)
{
	const u8 *before = a->at;

	asm_bits(a, ASM_PEXT, ASM_RCX, T_ADDR, SLOT(itlb_mask));
	asm_gs_index(a, OP_MOV_LOAD, ASM_RCX, ASM_RCX, 3, SLOT(itlb));
	asm_lea(a, ASM_RCX, ASM_RCX, T_ADDR, 0, 0);
	asm_const(a, T_AUX, -(number_of(gpa, code_space) + offset));
	asm_lea(a, ASM_RCX, ASM_RCX, T_AUX, 0, 0);
	asm_jrcxz(a, ITLB_JUMP);
	must(a->full || a->at - before == FLOAT_OVER_AT + 1, "the check takes %d bytes",
		(int)(a->at - before));
}

static void emit_float_check(struct emit *e, u64 gpa, unsigned arg)
{
	u64 offset = arg == NO_INSN ? e->b->rip : 0;

	if (arg != NO_INSN) {
		asm_load(&e->a, T_ADDR, SLOT(page));
		asm_lea(&e->a, T_ADDR, T_ADDR, ASM_NONE, 0, PAGE_SIZE);
	}
	emit_float_compare(&e->a, offset, gpa, e->b->space);
	emit_out(e, 0xff, EXIT_CODE(EXIT_PAGE, e->b->id, arg));
	if (arg == NO_INSN) {
		asm_lea_open(&e->a, T_ADDR, T_ADDR, ASM_NONE, -(s32)offset, true);
		asm_store(&e->a, SLOT(page), T_ADDR);
		must(e->a.full || e->a.at - e->start == FLOAT_CHECK, "the check takes %d bytes",
			(int)(e->a.at - e->start));
	}
	e->f.aux = AUX_NONE;
}

void emit_itlb_check(struct emit *e, u64 va, u64 gpa, unsigned arg)
{
	if (va >> 63)
		return;
	if (e->b->floats) {
		emit_float_check(e, gpa, arg);
		return;
	}
	emit_compare(&e->a, va, gpa, e->b->space);
	emit_out(e, 0xff, EXIT_CODE(EXIT_PAGE, e->b->id, arg));
	e->f.aux = AUX_NONE;
}

void itlb_recheck(const struct translator *t, const struct tblock *b)
{
	struct asm_buf a = asm_buf_for(t, codemem_rw(&t->mem, b->code), FLOAT_CHECK);

	if (b->floats)
		emit_float_compare(&a, b->rip, b->unit.gpa, b->space);
	else if (tblock_entry(b))
		emit_compare(&a, b->rip, b->unit.gpa, b->space);
}

/* ---- entries ---- */

void itlb_drop(struct translator *t)
{
	for (unsigned n = 0; n < t->itlb_count; n++)
		t->ctx->itlb[index_of(t->itlb_log[n])] = 0;
	t->itlb_count = 0;
}

void itlb_drop_page(struct translator *t, u64 at) { t->ctx->itlb[index_of(at)] = 0; }

static void put(struct translator *t, u64 va, u64 tag)
{
	u64 *entry = &t->ctx->itlb[index_of(va)];

	if (*entry == tag)
		return;
	if (t->itlb_count == ITLB_LOG)
		itlb_drop(t);
	t->itlb_log[t->itlb_count++] = va & ~PAGE_MASK;
	*entry = tag;
}

static void fill_page(struct translator *t, u64 va, u64 gpa, unsigned code_space)
{
	if (va >> 63)
		upper_note(t, va, gpa & ~PAGE_MASK, code_space_mmu(code_space) == MMU_USER);
	else
		put(t, va, tag_of(va, gpa, code_space));
}

void itlb_shut(const struct translator *t, const struct tblock *b)
{
	*(u8 *)codemem_rw(&t->mem, b->code + FLOAT_OVER_AT) = 0;
}

void itlb_fill(struct translator *t, const struct tblock *b)
{
	u64 rip = t->c->s->rip;

	fill_page(t, rip, b->unit.gpa, b->space);
	if (unlikely(b->unit.gpa2 != CODE_NO_PAGE))
		fill_page(t, rip + PAGE_SIZE, b->unit.gpa2, b->space);
}

/* The entry that the log names; 0: it is gone, or another page's. */
static u64 logged(const struct translator *t, unsigned n)
{
	u64 va = t->itlb_log[n], tag = t->ctx->itlb[index_of(va)], number = tag + va;

	return number & TAG_VALID && !(number & TAG_NONE) ? tag : 0;
}

static bool is_true(struct translator *t, u64 va, u64 tag)
{
	u64 number = (tag + va) & ~TAG_VALID;
	u64 page = number >> GPA_HIGH_AT << GPA_LOW_BITS | (number & (BIT64(GPA_LOW_BITS) - 1));

	return retain_page_leads_to(t, va, page << PAGE_SHIFT, number & TAG_USER);
}

void itlb_flush(struct translator *t)
{
	unsigned left = 0;

	for (unsigned n = 0; n < t->itlb_count; n++) {
		u64 va = t->itlb_log[n], tag = logged(t, n);

		if (tag && is_true(t, va, tag))
			t->itlb_log[left++] = va;
		else if (tag)
			t->ctx->itlb[index_of(va)] = 0;
	}
	t->itlb_count = left;
}

unsigned itlb_keep(const struct translator *t, struct itlb_entry *to, unsigned most)
{
	unsigned count = 0;

	for (unsigned n = t->itlb_count; n-- && count < most;) {
		u64 tag = logged(t, n);

		if (tag)
			to[count++] = (struct itlb_entry){ t->itlb_log[n], tag };
	}
	return count;
}

void itlb_put_back(
	struct translator *t, const struct itlb_entry *from, unsigned count, bool doubtful)
{
	while (count--) {
		if (doubtful && !is_true(t, from[count].va, from[count].tag))
			continue;
		put(t, from[count].va, from[count].tag);
		t->put_back++;
	}
}

bool itlb_has(const struct translator *t, u64 va)
{
	u64 tag = t->ctx->itlb[index_of(va)];

	return !(va >> 63) && tag && !((tag + (va & ~PAGE_MASK)) & TAG_NONE);
}
