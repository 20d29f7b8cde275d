/*
 * The two mappings of an address, one after the other: the guest's page tables lead from its linear
 * to its physical address, the slots of struct memory from there to a byte of the host's.
 */
#include "machine/address.h"
#include "machine/kernel_view.h"
#include "machine/machine_priv.h"
#include <stdio.h>

static void find_host(const struct memory *m, struct machine_address *a)
{
	a->host = memory_host(m, a->walk.to.gpa, 1);
	for (unsigned i = 0; a->host && i < m->region_count; i++) {
		const struct memory_region *r = &m->regions[i];

		if ((size_t)(a->host - r->host) >= r->size)
			continue;
		snprintf(a->region, sizeof(a->region), "%s", r->name);
		a->in_region = (u64)(a->host - r->host);
		a->rom = r->rom;
	}
}

int machine_address(struct machine_address *a, struct err *err)
{
	struct kernel_view k;

	int r = kernel_view_open(&k, a->engine, a->kernel, a->memory, err);
	if (r)
		return r;
	r = kernel_view_resolve(&k, a->at, &a->linear, err);
	if (!r) {
		struct x86_cpu *cpu = &k.m->cpus[0].v.x86;
		const char *symbol = kernel_view_name(&k, a->linear, &a->offset);

		snprintf(a->symbol, sizeof(a->symbol), "%s", symbol ? symbol : "");
		a->cr3 = cpu->s.cr3;
		x86_walk(cpu, gva(a->linear), &a->walk);
		if (a->walk.end == X86_WALK_PAGE)
			find_host(&k.m->memory, a);
	}
	kernel_view_close(&k);
	return r;
}
