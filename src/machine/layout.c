/*
 * Where memory lies, as on a PC since the 82815:
 *
 *   0x00000000 - 0x0009ffff  RAM
 *   0x000a0000 - 0x000bffff  video memory: the bus's
 *   0x000c0000 - 0x000fffff  RAM, where firmware would put ROM shadows; our tables are here
 *   0x00100000 - 0xbfffffff  RAM, as much as there is
 *   0xc0000000 - 0xffffffff  the bus's: PCI (machine/pci.c), APICs, HPET, firmware
 *   0x100000000 ...          the rest of RAM, then PCI's 64-bit BARs
 *
 * Firmware has its ROM at the end of the 4 GiB, and shows PCI's configuration space where SeaBIOS
 * and OVMF do, at 0xb0000000: below 4 GiB, RAM ends there then.
 *
 * One region backs all of it. Below 3 GiB its offsets are the guest-physical addresses, so the
 * pages behind the video hole are never touched and cost nothing.
 */
#include "base/bits.h"
#include "machine/machine_priv.h"

#define VIDEO_BASE 0xa0000ull
#define VIDEO_END  0xc0000ull
#define LOW_TOP	   (3 * GiB)
#define HIGH_BASE  (4 * GiB)

int layout_memory(struct machine *m, struct err *err)
{
	u64 size = align_up(m->config.memory, PAGE_SIZE);
	u64 low = min_u64(size, m->config.firmware ? FIRMWARE_ECAM : LOW_TOP);
	const struct {
		u64 base, offset, size;
	} slots[] = {
		{ 0, 0, VIDEO_BASE },
		{ VIDEO_END, VIDEO_END, low - VIDEO_END },
		{ HIGH_BASE, low, size - low },
	};
	struct memory_region *ram = memory_add_region(&m->memory, "ram", size, false, err);

	if (!ram)
		return err->code;
	for (unsigned i = 0; i < ARRAY_LEN(slots); i++)
		if (slots[i].size && memory_add_slot(&m->memory, ram, gpa(slots[i].base),
					     slots[i].offset, slots[i].size, err))
			return err->code;
	if (video_layout(m, err))
		return err->code;
	if (flash_layout(m, err))
		return err->code;
	return m->config.firmware ? firmware_layout(m, err) : 0;
}
