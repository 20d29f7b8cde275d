/* See folder.h: the monitor's end. */
#include "base/bits.h"
#include "base/log.h"
#include "folder/folder_priv.h"
#include "folder/fuse.h"
#include "os/helper.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

_Static_assert(FOLDER_BUFFER == FUSE_BUFFER && FOLDER_SLOTS <= 32, "buffers");

#define BUFFERS ((size_t)FOLDER_SLOTS * FOLDER_BUFFER)

static int wait_ready(int fd, struct err *err)
{
	char text[1 + sizeof(err->text)] = { FOLDER_FAILED };
	ssize_t len;

	do
		len = recv(fd, text, sizeof(text) - 1, 0);
	while (len < 0 && errno == EINTR);
	if (len <= 0)
		return err_set(err, -EIO, "its process has ended");
	text[len] = '\0';
	if (text[0] == FOLDER_FAILED)
		return err_set(err, -EIO, "%.200s", text + 1);
	if (text[0] == FOLDER_UNFENCED)
		log_warn("folder", "its process keeps more rights than it needs: %s", text + 1);
	return 0;
}

static int start(struct folder *s, int folder, bool readonly, struct err *err)
{
	int end;
	pid_t child = helper_fork(&end, err);

	if (!child)
		folder_serve(end, folder, s->buffers, readonly);
	if (child < 0)
		return err->code;
	s->fd = end;
	return wait_ready(s->fd, err);
}

int folder_open(struct folder *s, const char *folder, bool readonly, struct err *err)
{
	int fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);

	*s = (struct folder){ .fd = -1 };
	if (fd < 0) {
		err_set(err, -errno, "%s", strerror(errno));
		return err_wrap(err, "%.200s", folder);
	}
	s->buffers = mmap(NULL, BUFFERS, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (s->buffers == MAP_FAILED) {
		s->buffers = NULL;
		err_set(err, -ENOMEM, "no memory for its buffers");
	} else {
		(void)!start(s, fd, readonly, err);
	}
	close(fd);
	if (!err->code)
		return 0;
	folder_close(s);
	return err_wrap(err, "%.200s", folder);
}

void folder_close(struct folder *s)
{
	if (s->fd >= 0)
		close(s->fd);
	if (s->buffers)
		munmap(s->buffers, BUFFERS);
	*s = (struct folder){ .fd = -1 };
}

static void lost(struct folder *s)
{
	close(s->fd);
	s->fd = -1;
}

bool folder_ask(struct folder *s, unsigned slot, u32 in_len, u32 room)
{
	const struct folder_question q = { slot, s->session, in_len, room };

	if (s->fd < 0)
		return false;
	if (send(s->fd, &q, sizeof(q), MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof(q)) {
		lost(s);
		return false;
	}
	s->busy |= BIT(slot);
	s->room[slot] = room;
	return true;
}

bool folder_answer(struct folder *s, unsigned *slot, u32 *len)
{
	struct folder_reply r;

	while (s->fd >= 0) {
		ssize_t n = recv(s->fd, &r, sizeof(r), MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return false;
		if (n != sizeof(r) || r.slot >= FOLDER_SLOTS || !(s->busy & BIT(r.slot)) ||
			r.len > s->room[r.slot]) {
			lost(s);
			break;
		}
		s->busy &= ~(u32)BIT(r.slot);
		*slot = r.slot;
		*len = r.len;
		return true;
	}
	if (!s->busy)
		return false;
	*slot = (unsigned)__builtin_ctz(s->busy);
	*len = FOLDER_GONE;
	s->busy &= s->busy - 1;
	return true;
}

void folder_wait(const struct folder *s)
{
	struct pollfd p = { .fd = s->fd, .events = POLLIN };

	if (s->fd >= 0)
		(void)!poll(&p, 1, -1);
}

void folder_reset(struct folder *s) { s->session++; }
