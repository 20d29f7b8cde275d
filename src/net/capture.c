/* See capture.h. Section numbers are those of draft-ietf-opsawg-pcapng; all fields are in the
 * writer's byte order, which is little-endian. */
#include "net/capture.h"
#include "base/bits.h"
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define SECTION	      0x0a0d0d0au /* 4.1 */
#define ORDER_MAGIC   0x1a2b3c4du
#define INTERFACE     1u /* 4.2 */
#define LINK_ETHERNET 1u
#define TSRESOL	      9u /* the option: 10 to the minus */
#define NANOSECONDS   9u
#define PACKET	      6u /* 4.3 */
#define FLAGS	      2u /* the option */
#define INBOUND	      1u
#define OUTBOUND      2u

static bool write_all(int fd, const struct iovec *iov, int count)
{
	size_t len = 0;

	for (int i = 0; i < count; i++)
		len += iov[i].iov_len;
	return writev(fd, iov, count) == (ssize_t)len;
}

static bool write_heads(int fd)
{
	static const u32 heads[] = { SECTION, 28, ORDER_MAGIC, 1 /* version 1.0 */, ~0u,
		~0u /* length: unknown */, 28,
		/* no limit of a frame's length */
		INTERFACE, 32, LINK_ETHERNET, 0, TSRESOL | 1u << 16, NANOSECONDS, 0, 32 };
	const struct iovec iov = { (void *)(uintptr_t)heads, sizeof(heads) };

	return write_all(fd, &iov, 1);
}

int capture_open(struct capture *c, const char *path, struct err *err)
{
	c->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0600);
	if (c->fd < 0)
		return err_set(err, -errno, "capture=%.200s: %s", path, strerror(errno));
	if (!write_heads(c->fd))
		return err_set(
			err, -EIO, "capture=%.200s: cannot be written: %s", path, strerror(errno));
	return 0;
}

void capture_frame(struct capture *c, enum capture_way way, const u8 *frame, size_t len)
{
	static const u8 zeroes[3];
	u32 padded = (u32)align_up(len, 4), total = 32 + padded + 12;
	struct timespec t;

	if (c->fd < 0)
		return;
	clock_gettime(CLOCK_REALTIME, &t);
	u64 ns = (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec;
	u32 head[7] = { PACKET, total, 0, (u32)(ns >> 32), (u32)ns, (u32)len, (u32)len };
	/* From where the interface stands: what the guest sends goes out. */
	u32 tail[4] = { FLAGS | 4u << 16, way == CAPTURE_TO_GUEST ? INBOUND : OUTBOUND, 0, total };
	const struct iovec iov[] = {
		{ head, sizeof(head) },
		{ (void *)(uintptr_t)frame, len },
		{ (void *)(uintptr_t)zeroes, padded - len },
		{ tail, sizeof(tail) },
	};

	if (!write_all(c->fd, iov, ARRAY_LEN(iov))) {
		log_warn("net", "the capture ends here: %s", strerror(errno));
		capture_close(c);
	}
}

void capture_close(struct capture *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}
