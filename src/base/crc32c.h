/* CRC-32C (Castagnoli's polynomial, RFC 3720 B.4), with the instruction that every x86-64-v2 host
 * has. */
#pragma once
#include "base/types.h"

/* Goes on from `crc`, which is 0 at first. */
u32 crc32c(u32 crc, const void *data, size_t len);
