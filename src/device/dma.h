/*
 * Host memory behind a list of guest-physical pieces, in order, as devices collect it from their
 * drivers' lists before they move data. A piece is checked when it is added: all of it is RAM of
 * one slot, and writable when the device is to write there. What goes on where the last piece ends
 * becomes part of it.
 */
#pragma once
#include "memory/memory.h"
#include <sys/uio.h>

#define DMA_SEGMENTS_MAX 1024u /* as many as a disk's request may have */

struct dma_map {
	unsigned count;
	u64 len;
	struct iovec iov[DMA_SEGMENTS_MAX];
	u64 at[DMA_SEGMENTS_MAX];
};

static inline void dma_clear(struct dma_map *map)
{
	map->count = 0;
	map->len = 0;
}

/* False: not memory, or too many pieces. `in`: the device is to write there. */
NODISCARD bool dma_add(struct dma_map *map, const struct memory *m, u64 at, u64 len, bool in);
/* The first `len` bytes were written. */
void dma_written(const struct dma_map *map, struct memory *m, u64 len);
/* Copies from or to the beginning; how much there was. dma_put() also says that it was written. */
u64 dma_get(const struct dma_map *map, void *data, u64 len);
u64 dma_put(const struct dma_map *map, struct memory *m, const void *data, u64 len);
