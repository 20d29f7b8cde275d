/* See dma.h. */
#include "device/dma.h"
#include "base/bits.h"

bool dma_add(struct dma_map *map, const struct memory *m, u64 at, u64 len, bool in)
{
	u8 *host = memory_host(m, gpa(at), len);
	struct iovec *last = map->count ? &map->iov[map->count - 1] : NULL;

	if (!len)
		return true;
	if (!host || (in && memory_page(m, gpa(at)).rom))
		return false;
	if (last && (u8 *)last->iov_base + last->iov_len == host &&
		map->at[map->count - 1] + last->iov_len == at) {
		last->iov_len += len;
	} else {
		if (map->count == DMA_SEGMENTS_MAX)
			return false;
		map->iov[map->count] = (struct iovec){ host, len };
		map->at[map->count++] = at;
	}
	map->len += len;
	return true;
}

void dma_written(const struct dma_map *map, struct memory *m, u64 len)
{
	for (unsigned i = 0; i < map->count && len; i++) {
		u64 part = min_u64(len, map->iov[i].iov_len);

		memory_written(m, gpa(map->at[i]), part);
		len -= part;
	}
}

u64 dma_get(const struct dma_map *map, void *data, u64 len)
{
	u64 done = 0;

	for (unsigned i = 0; i < map->count && done < len; i++) {
		u64 part = min_u64(len - done, map->iov[i].iov_len);

		memcpy((u8 *)data + done, map->iov[i].iov_base, part);
		done += part;
	}
	return done;
}

u64 dma_put(const struct dma_map *map, struct memory *m, const void *data, u64 len)
{
	u64 done = 0;

	for (unsigned i = 0; i < map->count && done < len; i++) {
		u64 part = min_u64(len - done, map->iov[i].iov_len);

		memcpy(map->iov[i].iov_base, (const u8 *)data + done, part);
		done += part;
	}
	dma_written(map, m, done);
	return done;
}
