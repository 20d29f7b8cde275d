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
 * where the tag names linear page, physical page and privilege. An entry says that the guest's
 * tables lead there, and let code be fetched from there; on a miss C looks, and either makes the
 * entry, or the block is another address space's and what led to it is cut. Then jumps and links
 * outlive changes of CR3 and flushes. Links within a page skip the check: who is there has passed
 * it. An instruction on two pages asks for the second one itself.
 *
 * The upper half does without: its code stays where it is (upper.c).
 *
 * An entry is what a processor keeps in its own TLB: it goes when the guest flushes its page, or
 * everything, or sets CR3. A processor may fetch any translation again at once (SDM 3A 4.10.2.3),
 * and so do we: what a flush of everything leaves is what the guest's tables say still, of pages
 * that have been accessed.
 */
#include "base/bits.h"
#include "base/must.h"
#include "cpu/translate/emit.h"

/* Linear bits 12 to 26 are the index. Above: physical page, privilege, linear bits 27 to 47. */
#define TAG_VALID     BIT64(63)
#define TAG_GPA_SHIFT 22u
#define TAG_USER      BIT64(21)
#define TAG_LINEAR    (TAG_USER - 1)
#define LINEAR_SHIFT  27u
_Static_assert(BIT64(LINEAR_SHIFT) == ITLB_ENTRIES * PAGE_SIZE, "index and tag are all of it");

static unsigned index_of(u64 va) { return (unsigned)(va >> PAGE_SHIFT) % ITLB_ENTRIES; }
static u64 linear_of(u64 va) { return va >> LINEAR_SHIFT & TAG_LINEAR; }

static u64 tag_of(u64 va, u64 gpa, unsigned code_space)
{
	bool user = code_space_mmu(code_space) == MMU_USER;

	return TAG_VALID | gpa >> PAGE_SHIFT << TAG_GPA_SHIFT | (user ? TAG_USER : 0) |
	       linear_of(va);
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

void emit_itlb_check(struct emit *e, u64 va, u64 gpa, unsigned arg)
{
	if (va >> 63)
		return;
	emit_compare(&e->a, va, gpa, e->b->space);
	emit_out(e, 0xff, EXIT_CODE(EXIT_PAGE, e->b->id, arg));
	e->f.aux = AUX_NONE;
}

void itlb_recheck(const struct translator *t, const struct tblock *b)
{
	struct asm_buf a = asm_buf_for(t, codemem_rw(&t->mem, b->code), ITLB_CHECK);

	if (tblock_entry(b))
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

void itlb_fill(struct translator *t, const struct tblock *b)
{
	fill_page(t, b->rip, b->unit.gpa, b->space);
	if (unlikely(b->unit.gpa2 != CODE_NO_PAGE))
		fill_page(t, b->rip + PAGE_SIZE, b->unit.gpa2, b->space);
}

/* The entry that the log names; 0: it is gone, or another page's. */
static u64 logged(const struct translator *t, unsigned n)
{
	u64 va = t->itlb_log[n], tag = t->ctx->itlb[index_of(va)];

	return (tag & TAG_LINEAR) == linear_of(va) ? tag : 0;
}

static bool is_true(struct translator *t, u64 va, u64 tag)
{
	u64 gpa = (tag & ~TAG_VALID) >> TAG_GPA_SHIFT << PAGE_SHIFT;

	return retain_page_leads_to(t, va, gpa, tag & TAG_USER);
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

	return !(va >> 63) && tag && (tag & TAG_LINEAR) == linear_of(va);
}
