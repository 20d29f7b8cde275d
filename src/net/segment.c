/*
 * A segment: an Ethernet between machines of one user. There is no daemon, and no machine is more
 * than another: each is connected to each of the others by a socket that keeps frames apart.
 *
 * Joining. A segment is a folder, $XDG_RUNTIME_DIR/strata/segment/NAME, with a socket in it for
 * each machine, on which it takes the connections of those that come later. Who joins locks the
 * folder, connects to all sockets that are there, and listens; so each pair has one connection,
 * and once the sandbox is entered nobody opens a path any more. A socket that nobody listens at is
 * what a machine has left behind: who finds it removes it.
 *
 * A frame goes to the machine that its destination was heard from last, or else to all. It goes to
 * nobody who has no room for it: a machine that stands still loses frames, and stops nobody.
 * A machine that ends, however it does, is a connection that closes.
 *
 * The others are this user's, but their guests need not be trusted: a frame is bytes that nobody
 * looks into, but for the addresses, and there are no heads. At most PEERS_MAX are heard.
 */
#include "base/bits.h"
#include "base/log.h"
#include "base/scope.h"
#include "net/net_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PEERS_MAX  (NET_FILES_MAX - 1) /* the other is the listener */
#define PLACES	   256u		       /* of addresses that were heard */
#define ADDRESS	   6u
#define ETHERNET   14u
#define BUFFER	   (4 * MiB) /* of frames that a peer has not taken yet */
#define FOLDER_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 16)

struct place {
	u8 address[ADDRESS];
	int peer; /* its descriptor; 0: none */
};

struct segment {
	int listener, listener_at; /* the second: in n->fds */
	int peers[PEERS_MAX], peers_at[PEERS_MAX];
	unsigned peer_count;
	struct place places[PLACES];
	size_t waiting; /* of the frame: bytes that the guest has not taken */
	u8 frame[NET_FRAME_MAX];
};

/* ---- peers ---- */

static void add_peer(struct segment *s, int fd)
{
	int size = BUFFER;

	if (s->peer_count == PEERS_MAX) {
		close(fd);
		return;
	}
	/* As much as the host allows. */
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	s->peers_at[s->peer_count] = -1;
	s->peers[s->peer_count++] = fd;
}

static void drop_peer(struct segment *s, unsigned i)
{
	for (unsigned p = 0; p < PLACES; p++)
		if (s->places[p].peer == s->peers[i])
			s->places[p].peer = 0;
	close(s->peers[i]);
	s->peer_count--;
	s->peers[i] = s->peers[s->peer_count];
	s->peers_at[i] = s->peers_at[s->peer_count];
}

static struct place *place_of(struct segment *s, const u8 *address)
{
	return &s->places[(address[5] ^ address[4] * 7u ^ address[3] * 31u) % PLACES];
}

static bool is_group(const u8 *address) { return address[0] & 1; }

static void learn(struct segment *s, const u8 *frame, int peer)
{
	const u8 *source = frame + ADDRESS;
	struct place *p = place_of(s, source);

	if (is_group(source))
		return;
	memcpy(p->address, source, ADDRESS);
	p->peer = peer;
}

static void segment_send(struct net *n, const u8 *frame, size_t len)
{
	struct segment *s = n->back;

	if (len < ETHERNET || len > NET_FRAME_MAX)
		return;
	const struct place *p = place_of(s, frame);
	int only = p->peer && !is_group(frame) && !memcmp(p->address, frame, ADDRESS) ? p->peer : 0;

	for (unsigned i = 0; i < s->peer_count; i++)
		if ((!only || only == s->peers[i]) &&
			send(s->peers[i], frame, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			n->lost++;
}

static void segment_room(struct net *n)
{
	struct segment *s = n->back;

	if (s->waiting && net_deliver(n, s->frame, s->waiting)) {
		s->waiting = 0;
		net_wake(n);
	}
}

/* false: the peer is gone. */
static bool hear(struct net *n, int peer)
{
	struct segment *s = n->back;

	for (unsigned i = 0; i < NET_TURN_FRAMES && !s->waiting; i++) {
		/* Longer frames are cut off, and then are none. */
		ssize_t len = recv(peer, s->frame, sizeof(s->frame), MSG_DONTWAIT | MSG_TRUNC);

		if (len < 0)
			return errno == EAGAIN || errno == EINTR;
		if (!len)
			return false;
		if (len < (ssize_t)ETHERNET || len > (ssize_t)NET_FRAME_MAX)
			continue;
		learn(s, s->frame, peer);
		if (!net_deliver(n, s->frame, (size_t)len))
			s->waiting = (size_t)len;
	}
	return true;
}

/* While a frame waits nobody is heard. */
static void segment_watch(struct net *n, u32 *timeout)
{
	struct segment *s = n->back;

	s->listener_at = net_watch(n, s->listener, POLLIN);
	for (unsigned i = 0; i < s->peer_count; i++)
		s->peers_at[i] = s->waiting ? -1 : net_watch(n, s->peers[i], POLLIN);
}

static short events_at(const struct net *n, int at) { return at < 0 ? 0 : n->fds[at].revents; }

static void segment_ready(struct net *n, bool failed)
{
	struct segment *s = n->back;

	if (failed)
		return;
	/* Backwards: the last one takes the place of one that goes. */
	for (unsigned i = s->peer_count; i--;) {
		if (events_at(n, s->peers_at[i]) && !hear(n, s->peers[i]))
			drop_peer(s, i);
	}
	if (events_at(n, s->listener_at) & POLLIN) {
		int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd >= 0)
			add_peer(s, fd);
	}
}

/* ---- joining ---- */

static bool name_ok(const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789-_.";

	return *name && *name != '.' && name[strspn(name, allowed)] == '\0';
}

/* The folder, which others cannot write to, made if need be. */
static int make_folder(const char *name, char path[FOLDER_MAX], struct err *err)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	struct stat st;

	if (!name_ok(name))
		return err_set(err, -EINVAL,
			"segment=%.40s: a name is letters, digits, '-', '_' and '.'", name);
	if (!runtime || *runtime != '/')
		return err_set(err, -ENOENT,
			"segment=%.40s: XDG_RUNTIME_DIR is not set; it names a folder of yours "
			"for sockets, like /run/user/1000",
			name);
	int len = snprintf(path, FOLDER_MAX, "%s/strata/segment/%s", runtime, name);

	if (len < 0 || (size_t)len >= FOLDER_MAX)
		return err_set(err, -ENAMETOOLONG,
			"segment=%.40s: the path of its sockets would be too long", name);
	for (char *at = path + strlen(runtime) + 1; at; *at++ = '/') {
		at = strchr(at, '/');
		if (at)
			*at = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return err_set(err, -errno, "%s: %s", path, strerror(errno));
		if (!at)
			break;
	}
	if (stat(path, &st) < 0 || st.st_uid != geteuid() || st.st_mode & 022)
		return err_set(err, -EPERM, "%s: must be yours, and writable for you only", path);
	return 0;
}

static struct sockaddr_un socket_at(const char *folder, unsigned i)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	snprintf(a.sun_path, sizeof(a.sun_path), "%s/%u", folder, i);
	return a;
}

/* At the first name that nobody has. */
static int listen_there(int listener, const char *folder, struct err *err)
{
	for (unsigned i = 0; i <= PEERS_MAX; i++) {
		struct sockaddr_un a = socket_at(folder, i);

		if (bind(listener, (struct sockaddr *)&a, sizeof(a)) == 0)
			return listen(listener, PEERS_MAX) < 0
				       ? err_set(err, -errno, "%s: %s", a.sun_path, strerror(errno))
				       : 0;
		if (errno != EADDRINUSE)
			return err_set(err, -errno, "%s: %s", a.sun_path, strerror(errno));
	}
	return err_set(err, -EUSERS, "%s: %u machines are there already", folder, PEERS_MAX + 1);
}

/* A queue of connections that is full belongs to a machine that does not turn any more. */
static void meet(struct net_files *f, const char *folder, unsigned i)
{
	struct sockaddr_un a = socket_at(folder, i);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return;
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0) {
		net_files_put(f, fd);
		return;
	}
	if (errno == ECONNREFUSED)
		unlink(a.sun_path);
	else if (errno != ENOENT)
		log_warn("net", "%s: %s", a.sun_path, strerror(errno));
	close(fd);
}

/* The listener comes first. */
static int segment_gather(const char *name, struct net_files *f, struct err *err)
{
	char folder[FOLDER_MAX];

	if (make_folder(name, folder, err))
		return err->code;
	AUTO_FD lock = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (lock < 0 || flock(lock, LOCK_EX) < 0)
		return err_set(err, -errno, "%s: %s", folder, strerror(errno));
	int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (listener < 0)
		return err_set(err, -errno, "segment: %s", strerror(errno));
	net_files_put(f, listener);
	for (unsigned i = 0; i <= PEERS_MAX; i++)
		meet(f, folder, i);
	return listen_there(listener, folder, err);
}

static int segment_adopt(struct net *n, struct net_files *f, struct err *err)
{
	struct segment *s = n->back;
	int fd = net_files_take(f);

	if (fd < 0)
		return err_set(
			err, -EINVAL, "segment=%s: its descriptors are missing", n->config.name);
	s->listener = fd;
	while ((fd = net_files_take(f)) >= 0)
		add_peer(s, fd);
	return 0;
}

static void segment_close(struct net *n)
{
	struct segment *s = n->back;

	while (s->peer_count)
		drop_peer(s, s->peer_count - 1);
	if (s->listener > 0)
		close(s->listener);
}

const struct net_back segment_back = {
	.size = sizeof(struct segment),
	.gather = segment_gather,
	.adopt = segment_adopt,
	.close = segment_close,
	.send = segment_send,
	.room = segment_room,
	.watch = segment_watch,
	.ready = segment_ready,
};
