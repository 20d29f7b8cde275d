/*
 * Where a command's data is (NVMe 1.4 4.3): physical region page entries. The first may begin
 * within a page; all others are whole pages. Of two, the second is in the command; of more, the
 * command has the address of a list, which may go on in other pages: the last entry of a page of
 * it then leads to the next one.
 *
 * Entries are read one page of them at a time into a copy. NVME_DATA_MAX bounds the walk.
 */
#include "device/nvme/nvme_priv.h"

#define ENTRY		8u
#define ENTRIES_IN_PAGE (PAGE_SIZE / ENTRY)

static enum nvme_status add(struct nvme *n, struct dma_map *map, u64 at, u64 len, bool in)
{
	return dma_add(map, n->dev.env.memory, at, len, in) ? NVME_OK : NVME_TRANSFER_ERROR;
}

static enum nvme_status add_page(struct nvme *n, struct dma_map *map, u64 at, u64 left, bool in)
{
	return at & PAGE_MASK ? NVME_INVALID_PRP_OFFSET
			      : add(n, map, at, min_u64(left, PAGE_SIZE), in);
}

static enum nvme_status walk(struct nvme *n, u64 list, u64 left, bool in, struct dma_map *map)
{
	u8 entries[PAGE_SIZE];
	enum nvme_status status = NVME_OK;

	while (left) {
		u64 room = (PAGE_SIZE - (list & PAGE_MASK)) / ENTRY;
		u64 need = (left + PAGE_SIZE - 1) / PAGE_SIZE;
		u64 count = min_u64(room, need);

		if (list & (ENTRY - 1))
			return NVME_INVALID_PRP_OFFSET;
		if (!memory_read(n->dev.env.memory, gpa(list), entries, count * ENTRY))
			return NVME_TRANSFER_ERROR;
		if (need > room) /* the last one leads on */
			count--;
		for (u64 i = 0; i < count; i++) {
			u64 part = min_u64(left, PAGE_SIZE);

			status = add_page(n, map, get_le64(entries + i * ENTRY), part, in);
			if (status)
				return status;
			left -= part;
		}
		if (left) {
			list = get_le64(entries + count * ENTRY);
			if (list & PAGE_MASK)
				return NVME_INVALID_PRP_OFFSET;
		}
	}
	return NVME_OK;
}

enum nvme_status nvme_map_data(
	struct nvme *n, const struct nvme_command *c, u64 len, bool in, struct dma_map *map)
{
	u64 first = min_u64(len, PAGE_SIZE - (c->prp1 & PAGE_MASK));
	enum nvme_status status;

	dma_clear(map);
	if (len > NVME_DATA_MAX || c->flags & 0xc0) /* 4.2: SGLs instead */
		return NVME_INVALID_FIELD;
	if (!len)
		return NVME_OK;
	if (c->prp1 & 3)
		return NVME_INVALID_PRP_OFFSET;
	status = add(n, map, c->prp1, first, in);
	if (status || len == first)
		return status;
	if (len - first <= PAGE_SIZE)
		return add_page(n, map, c->prp2, len - first, in);
	return walk(n, c->prp2, len - first, in, map);
}

enum nvme_status nvme_put_data(
	struct nvme *n, const struct nvme_command *c, const void *data, u64 known, u64 len)
{
	UNINITIALIZED struct dma_map map;
	enum nvme_status status = nvme_map_data(n, c, len, true, &map);

	if (status)
		return status;
	for (unsigned i = 0; i < map.count; i++)
		memset(map.iov[i].iov_base, 0, map.iov[i].iov_len);
	dma_written(&map, n->dev.env.memory, len);
	dma_put(&map, n->dev.env.memory, data, min_u64(known, len));
	return NVME_OK;
}

enum nvme_status nvme_get_data(struct nvme *n, const struct nvme_command *c, void *data, u64 len)
{
	UNINITIALIZED struct dma_map map;
	enum nvme_status status = nvme_map_data(n, c, len, false, &map);

	if (!status)
		dma_get(&map, data, len);
	return status;
}
