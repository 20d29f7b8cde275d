/*
 * Where in guest memory things go. The address map decides what is RAM for the guest (it leaves out
 * the firmware areas and the tables); guest memory decides whether the bytes exist. A range is
 * usable when it lies in one RAM range of the map and in one slot.
 */
#include "base/bits.h"
#include "boot/boot_priv.h"
#include <errno.h>

static unsigned long long mib_up(u64 bytes) { return bytes / MiB + !!(bytes % MiB); }

static bool in_map(const struct boot_request *req, u64 at, u64 size)
{
	for (unsigned i = 0; i < req->map->count; i++) {
		const struct e820_entry *r = &req->map->entries[i];

		if (r->type == E820_RAM && at >= r->base && range_ok(at - r->base, size, r->size))
			return true;
	}
	return false;
}

int place_check(const struct boot_request *req, const char *what, u64 at, u64 size, struct err *err)
{
	u64 end;

	if (!add_ok(at, size, &end))
		return err_set(err, -ENOEXEC, "%s at 0x%llx wraps around the address space", what,
			(unsigned long long)at);
	if (in_map(req, at, size) && memory_host(req->memory, gpa(at), size))
		return 0;
	/* Below 3 GiB more memory helps (above, addresses may belong to devices). */
	if (end > memory_ram_top(req->memory) && end <= 3 * GiB)
		return err_set(err, -ENOMEM,
			"%s needs at least %llu MiB of memory, the machine has %llu MiB", what,
			mib_up(end), (unsigned long long)(memory_ram_size(req->memory) / MiB));
	return err_set(err, -ENOEXEC, "%s at 0x%llx-0x%llx is not all in RAM", what,
		(unsigned long long)at, (unsigned long long)end);
}

/* The best place in one range of the map; false when there is none. */
static bool find_in_range(const struct e820_entry *r, enum place_order order, u64 size,
	struct boot_extent in, u64 *at)
{
	u64 range_end, low;

	if (!add_ok(r->base, r->size, &range_end) || in.start > ~PAGE_MASK || r->base > ~PAGE_MASK)
		return false;
	low = align_up(max_u64(r->base, in.start), PAGE_SIZE);
	u64 high = min_u64(range_end, in.end);
	if (high < size || align_down(high - size, PAGE_SIZE) < low)
		return false;
	*at = order == PLACE_LOWEST ? low : align_down(high - size, PAGE_SIZE);
	return true;
}

bool place_find(const struct boot_request *req, enum place_order order, u64 size,
	struct boot_extent in, u64 *at)
{
	bool found = false;

	for (unsigned i = 0; i < req->map->count; i++) {
		u64 here;

		if (req->map->entries[i].type != E820_RAM ||
			!find_in_range(&req->map->entries[i], order, size, in, &here) ||
			!memory_host(req->memory, gpa(here), size))
			continue;
		if (!found || (order == PLACE_LOWEST ? here < *at : here > *at))
			*at = here;
		found = true;
	}
	return found;
}

int place_initrd(const struct boot_request *req, enum place_order order, struct boot_extent in,
	u64 *at, struct err *err)
{
	u64 size = req->initrd.size, end;

	*at = 0;
	if (!size || place_find(req, order, size, in, at))
		return 0;
	if (!add_ok(align_up(in.start, PAGE_SIZE), size, &end) || end > in.end)
		return err_set(err, -EFBIG,
			"initrd %s: its %llu MiB do not fit below 0x%llx, where this kernel wants "
			"it",
			req->initrd.name, mib_up(size), (unsigned long long)in.end);
	return err_set(err, -ENOMEM,
		"initrd %s: its %llu MiB do not fit beside the kernel into %llu MiB of memory; "
		"%llu MiB would do",
		req->initrd.name, mib_up(size),
		(unsigned long long)(memory_ram_size(req->memory) / MiB), mib_up(end) + 1);
}

int place_after(const struct boot_request *req, u64 kernel_end, u64 info_size, u64 *info,
	u64 *initrd, struct err *err)
{
	struct boot_extent room = { max_u64(kernel_end, 1 * MiB), 4 * GiB };

	if (!place_find(req, PLACE_LOWEST, info_size, room, info))
		return err_set(err, -ENOMEM,
			"no room after the kernel for its boot data: %llu MiB of memory would do, "
			"the machine has %llu",
			mib_up(room.start) + 1,
			(unsigned long long)(memory_ram_size(req->memory) / MiB));
	room.start = *info + info_size;
	if (place_initrd(req, PLACE_LOWEST, room, initrd, err) < 0)
		return -ENOMEM;
	return place_copy(req, "initrd", *initrd, req->initrd.data, req->initrd.size, err);
}

int place_copy(const struct boot_request *req, const char *what, u64 at, const void *data, u64 size,
	struct err *err)
{
	if (!memory_write(req->memory, gpa(at), data, size))
		return err_set(err, -EFAULT, "%s at 0x%llx: cannot write guest memory", what,
			(unsigned long long)at);
	return 0;
}
