/* Unpacks the kernel inside a bzImage, for the compressions that our libraries know. */
#pragma once
#include "base/err.h"
#include "base/types.h"

/* The name of the compression, told by its magic number, or NULL when it is none of ours. */
const char *unpack_format(const u8 *in, u64 in_size);

/*
 * Fills out[0..out_size) from in, which may have trailing bytes. Anything else than exactly
 * out_size bytes is an error. The libraries allocate at most memory_limit besides. Sizes are below
 * 4 GiB.
 */
NODISCARD int unpack(
	const u8 *in, u64 in_size, u8 *out, u64 out_size, u64 memory_limit, struct err *err);
