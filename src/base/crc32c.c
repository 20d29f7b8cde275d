#include "base/crc32c.h"
#include "base/bits.h"

__attribute__((target("sse4.2"))) u32 crc32c(u32 crc, const void *data, size_t len)
{
	const u8 *at = data;
	u64 sum = (u32)~crc;

	for (; len >= 8; at += 8, len -= 8)
		sum = __builtin_ia32_crc32di(sum, get_le64(at));
	for (; len; at++, len--)
		sum = __builtin_ia32_crc32qi((u32)sum, *at);
	return ~(u32)sum;
}
