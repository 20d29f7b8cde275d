/*
 * RAM shared out among the sockets: to each the same, in the order of its addresses. The guest is
 * told so by the SRAT and SLIT (boot/acpi.c); on the host, all of it is one memory.
 */
#include "base/bits.h"
#include "machine/machine_priv.h"

/* The offset into RAM at which a socket's part begins: where a kernel may map a large page. */
static u64 part_at(u64 ram, unsigned socket, unsigned sockets)
{
	return socket == sockets ? ram : align_down(ram / sockets * socket, 2 * MiB);
}

unsigned numa_memory(const struct machine *m, struct acpi_near to[MACHINE_NEAR_MAX])
{
	unsigned sockets = m->config.topology.sockets, socket = 0, count = 0;
	u64 ram = memory_ram_size(&m->memory), done = 0;

	if (!m->config.numa)
		return 0;
	for (unsigned i = 0; i < m->memory.slot_count; i++) {
		const struct memory_slot *s = &m->memory.slots[i];
		u64 left = s->region->rom ? 0 : s->size;

		for (u64 base = s->base; left; count++) {
			while (part_at(ram, socket + 1, sockets) <= done)
				socket++;
			u64 n = min_u64(left, part_at(ram, socket + 1, sockets) - done);

			to[count] = (struct acpi_near){ base, n, socket };
			base += n;
			done += n;
			left -= n;
		}
	}
	return count;
}
