/* Builds 4-level tables out of a small static pool. */
#include "paging.h"

static u64 pool[48][512] ALIGNED(4096);
static unsigned pool_used;

u64 *pt_entry(ulong va, unsigned level)
{
	u64 *table = page_root;

	for (unsigned l = 4; l > level; l--) {
		u64 *e = &table[va >> (12 + 9 * (l - 1)) & 511];

		if (!(*e & PTE_P)) {
			if (pool_used == ARRAY_LEN(pool)) {
				print("FAIL out of page tables\n");
				guest_exit(EXIT_FAIL);
			}
			*e = (ulong)pool[pool_used++] | PTE_P | PTE_W | PTE_U;
		}
		table = (u64 *)(*e & 0xffffffffff000);
	}
	return &table[va >> (12 + 9 * (level - 1)) & 511];
}

void pt_map(ulong va, ulong pa, u64 flags) { pt_set(pt_entry(va, 1), pa | flags, va); }
