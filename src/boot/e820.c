/*
 * The memory map: RAM slots are usable and ROM slots reserved, except where a PC has something
 * else. Those holes are reserved whether or not memory lies behind them.
 */
#include "boot/e820.h"
#include "base/bits.h"
#include "base/must.h"
#include <assert.h>

/* Sorted. */
static const struct hole {
	u64 base, end;
} holes[] = {
	{ E820_LOW_END, 0x100000 }, /* EBDA, video memory, ROMs, ACPI and SMBIOS tables */
	{ 0xfec00000, 0xfec01000 }, /* I/O APIC */
	{ 0xfed00000, 0xfed01000 }, /* HPET */
	{ 0xfee00000, 0xfee01000 }, /* local APICs */
};

/* A slot is cut into one piece more than there are holes at most. */
static_assert(MEMORY_SLOTS_MAX + 2 * ARRAY_LEN(holes) <= E820_MAX, "E820_MAX");

static void add(struct e820_map *map, u64 base, u64 end, enum e820_type type)
{
	if (base >= end)
		return;
	must(map->count < E820_MAX, "memory map entry %u", map->count);
	map->entries[map->count++] = (struct e820_entry){ base, end - base, type };
}

static void add_outside_holes(struct e820_map *map, const struct memory_slot *slot)
{
	enum e820_type type = slot->region->rom ? E820_RESERVED : E820_RAM;
	u64 from = slot->base, end = slot->base + slot->size;

	for (unsigned i = 0; i < ARRAY_LEN(holes); i++) {
		add(map, from, min_u64(end, holes[i].base), type);
		from = max_u64(from, holes[i].end);
	}
	add(map, from, end, type);
}

static void sort(struct e820_map *map)
{
	for (unsigned i = 1; i < map->count; i++) {
		struct e820_entry e = map->entries[i];
		unsigned at = i;

		for (; at > 0 && map->entries[at - 1].base > e.base; at--)
			map->entries[at] = map->entries[at - 1];
		map->entries[at] = e;
	}
}

static void merge(struct e820_map *map)
{
	unsigned last = 0;

	for (unsigned i = 1; i < map->count; i++) {
		struct e820_entry *to = &map->entries[last], *e = &map->entries[i];

		if (e->type == to->type && to->base + to->size == e->base)
			to->size += e->size;
		else
			map->entries[++last] = *e;
	}
	map->count = map->count ? last + 1 : 0;
}

void e820_build(struct e820_map *map, const struct memory *m)
{
	*map = (struct e820_map){ 0 };
	for (unsigned i = 0; i < ARRAY_LEN(holes); i++)
		add(map, holes[i].base, holes[i].end, E820_RESERVED);
	for (unsigned i = 0; i < m->slot_count; i++)
		if (!m->slots[i].region->device)
			add_outside_holes(map, &m->slots[i]);
	sort(map);
	merge(map);
}
