/* The guest-physical memory map as firmware reports it: INT 15h E820h (ACPI 6.4 chapter 15). */
#pragma once
#include "base/types.h"
#include "memory/memory.h"

enum e820_type { E820_RAM = 1, E820_RESERVED = 2, E820_ACPI = 3, E820_NVS = 4 };

/* The layout of the E820 interface and of Linux's zero page. */
struct e820_entry {
	u64 base, size;
	u32 type;
} __attribute__((packed));

#define E820_MAX 48

struct e820_map {
	struct e820_entry entries[E820_MAX]; /* sorted, disjoint, neighbours of one type merged */
	unsigned count;
};

/* Where conventional memory ends: the EBDA, video memory, ROMs and our tables lie above. */
#define E820_LOW_END 0x9fc00ull

void e820_build(struct e820_map *map, const struct memory *m);
