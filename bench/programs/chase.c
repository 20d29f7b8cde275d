/* Pointer chase: each load gives the address of the next, all over 64 MiB: the latency of memory,
 * caches and TLBs. A unit is 1000 loads. */
#include <stdint.h>

#include "bench.h"

enum { LINE = 64, NODES = (64 << 20) / LINE };

struct node {
	struct node *next;
	char pad[LINE - sizeof(struct node *)];
};

/* Sattolo's shuffle of the identity is one cycle through all nodes. */
static struct node *one_cycle(void)
{
	struct node *nodes = aligned_alloc(LINE, sizeof(struct node) * NODES);
	uint64_t random = 1;

	if (!nodes)
		fail("aligned_alloc");
	for (uint32_t i = 0; i < NODES; i++)
		nodes[i].next = &nodes[i];
	for (uint32_t i = NODES - 1; i > 0; i--) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		const uint32_t j = (uint32_t)((random >> 32) * i >> 32);
		struct node *other = nodes[i].next;

		nodes[i].next = nodes[j].next;
		nodes[j].next = other;
	}
	return nodes;
}

int main(int argc, char **argv)
{
	const long n = units(argc, argv);
	const struct node *at = one_cycle();
	const double started = now();

	for (long i = 0; i < n * 1000; i++)
		at = at->next;
	KEEP(at);
	report(n, started);
	return 0;
}
