/*
 * The slow half of the accessors in interp.h: segment checks outside 64-bit code, page crossings,
 * devices, and everything else the TLB has no entry for.
 */
#include "cpu/interpret/interp.h"

static int linear(struct interp *c, unsigned seg, u64 ea, unsigned size, unsigned access, u64 *at)
{
	gva_t out;

	TRY(x86_linear(&c->v->x86, (enum x86_segreg)seg, ea, size, access, &out));
	*at = out.v;
	/* SDM 3A 6.15, #AC: CPL 3 with CR0.AM and EFLAGS.AC; the mmu keeps no tags then. */
	if (unlikely(c->mmu.align) && size <= 8 && (*at & (size - 1)))
		return x86_fault_code(&c->v->x86, X86_AC, 0);
	return X86_OK;
}

int mem_read_slow(struct interp *c, unsigned seg, u64 ea, unsigned size, u64 *value)
{
	u64 at, raw = 0;

	TRY(linear(c, seg, ea, size, ACCESS_READ, &at));
	struct mmu_entry *e = mmu_find(&c->mmu, at, size, MMU_READ);
	if (likely(e)) {
		*value = host_get(e->host + (at & PAGE_MASK), size);
		return X86_OK;
	}
	TRY(mmu_read(&c->mmu, at, &raw, size, ACCESS_READ));
	*value = raw;
	return X86_OK;
}

int mem_write_slow(struct interp *c, unsigned seg, u64 ea, unsigned size, u64 value)
{
	u64 at;

	TRY(linear(c, seg, ea, size, ACCESS_WRITE, &at));
	struct mmu_entry *e = mmu_find(&c->mmu, at, size, MMU_WRITE);
	if (likely(e)) {
		host_put(e->host + (at & PAGE_MASK), size, value);
		mmu_stored(&c->mmu, e, at, size);
		return X86_OK;
	}
	return mmu_write(&c->mmu, at, &value, size, ACCESS_WRITE);
}

int rmw_begin_slow(struct interp *c, const struct op *op, unsigned size, struct rmw *r)
{
	int result;

	TRY(linear(c, op->seg, op_ea(c, op), size, ACCESS_WRITE, &r->at));
	r->e = NULL;
	r->old = 0;
	if ((r->at & PAGE_MASK) + size <= PAGE_SIZE) {
		r->e = mmu_fill(&c->mmu, r->at, ACCESS_WRITE, &result);
		if (result != X86_OK)
			return X86_FAULT;
		if (r->e) {
			r->old = host_get(r->e->host + (r->at & PAGE_MASK), size);
			return X86_OK;
		}
	} else {
		TRY(mmu_probe(&c->mmu, r->at, size, ACCESS_WRITE));
	}
	return mmu_read(&c->mmu, r->at, &r->old, size, ACCESS_READ);
}

int rmw_end_slow(struct interp *c, unsigned size, struct rmw *r, u64 value)
{
	return mmu_write(&c->mmu, r->at, &value, size, ACCESS_WRITE);
}

int push_slow(struct interp *c, u64 value, unsigned size)
{
	u64 mask = x86_stack_mask(c->s);
	u64 sp = (c->s->gpr[RSP] - size) & mask;

	TRY(mem_write_slow(c, X86_SS, sp, size, value));
	c->s->gpr[RSP] = (c->s->gpr[RSP] & ~mask) | sp;
	return X86_OK;
}

int stack_read_slow(struct interp *c, u64 offset, unsigned size, u64 *value)
{
	u64 mask = x86_stack_mask(c->s);

	return mem_read_slow(c, X86_SS, (c->s->gpr[RSP] + offset) & mask, size, value);
}
