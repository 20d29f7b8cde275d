/* See folder.h: the process that has the files. One request after the other, in order. */
#include "base/bits.h"
#include "folder/folder_priv.h"
#include "folder/fuse.h"
#include "os/helper.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SOCKET, FOLDER, DESCRIPTORS };

/* A descriptor for each file that the guest has a name for. */
static void raise_limit(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

static int prepare(struct tree *t, int socket, int folder, bool readonly, struct err *err)
{
	prctl(PR_SET_NAME, "folder", 0, 0, 0);
	setsid(); /* what is typed at a terminal is for the monitor */
	signal(SIGXFSZ, SIG_IGN);
	umask(0); /* the guest has applied its own */
	raise_limit();
	int rc = helper_keep((const int[]){ [SOCKET] = socket, [FOLDER] = folder }, DESCRIPTORS);

	if (rc)
		return err_set(err, rc, "%s", strerror(-rc));
	return tree_open(t, FOLDER, readonly, err);
}

/* FOLDER_READY or what else there is to say, and perhaps words. */
static void report(char what, const struct err *err)
{
	char text[1 + sizeof(err->text)] = { what };

	memcpy(text + 1, err->text, strlen(err->text));
	(void)!send(SOCKET, text, 1 + strlen(err->text), MSG_NOSIGNAL);
}

static bool answer(struct tree *t, const struct folder_question *q, u8 *buffers)
{
	struct folder_reply r = { .slot = q->slot };

	if (q->slot >= FOLDER_SLOTS || q->len > FOLDER_BUFFER || q->room > FOLDER_BUFFER)
		return false;
	r.len = (u32)fuse_serve(t, buffers + (size_t)q->slot * FOLDER_BUFFER, q->len, q->room);
	return send(SOCKET, &r, sizeof(r), MSG_NOSIGNAL) == sizeof(r);
}

void folder_serve(int socket, int folder, u8 *buffers, bool readonly)
{
	struct folder_question q;
	struct err err = { 0 };
	struct tree t;
	u32 session = 0;
	ssize_t len;

	if (prepare(&t, socket, folder, readonly, &err)) {
		report(FOLDER_FAILED, &err);
		_exit(1);
	}
	/* Where the host forbids a stage, the monitor runs, too, and says so. */
	report(folder_fence(FOLDER, &err) ? FOLDER_UNFENCED : FOLDER_READY, &err);
	while ((len = recv(SOCKET, &q, sizeof(q), 0)) == sizeof(q) || (len < 0 && errno == EINTR)) {
		if (len < 0)
			continue;
		if (q.session != session)
			tree_forget_all(&t);
		session = q.session;
		if (!answer(&t, &q, buffers))
			break;
	}
	_exit(0);
}
