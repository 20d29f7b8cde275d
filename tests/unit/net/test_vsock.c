/* A vsock's host side with a guest that is played by the test: the convention of the Unix sockets,
 * credit, the ways in which a connection ends, and a guest that says anything. */
#include "base/bits.h"
#include "net/net.h"
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h> /* needs the above */

#define HEAD   44u
#define BUFFER 65536u
#define CID    5u
#define PORT   1234u

enum op { REQUEST = 1, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST };

struct guest {
	pthread_mutex_t lock;
	struct net *net;
	char folder[32], path[48];
	bool full;
	unsigned packets, ops[8];
	u8 last[HEAD + 4096]; /* of the kind that was waited for */
	u32 received;	      /* bytes of RW */
	u32 sum;
};

static void lock(void *ctx) { pthread_mutex_lock(&((struct guest *)ctx)->lock); }
static void unlock(void *ctx) { pthread_mutex_unlock(&((struct guest *)ctx)->lock); }

static size_t receive(void *ctx, const u8 *packet, size_t len)
{
	struct guest *g = ctx;

	if (g->full)
		return 0;
	assert_true(len >= HEAD && len <= sizeof(g->last));
	assert_int_equal(get_le32(packet + 24), len - HEAD);
	assert_int_equal(get_le64(packet), 2);
	assert_int_equal(get_le64(packet + 8), CID);
	memcpy(g->last, packet, len);
	g->packets++;
	g->ops[get_le16(packet + 30) & 7]++;
	g->received += (u32)len - HEAD;
	for (size_t i = HEAD; i < len; i++)
		g->sum += packet[i];
	return len;
}

static void open_guest(struct guest *g)
{
	struct net_config config = { .lock = lock,
		.unlock = unlock,
		.receive = receive,
		.ctx = g,
		.kind = NET_VSOCK,
		.name = g->path,
		.cid = CID };
	struct err err = { 0 };

	*g = (struct guest){ .lock = PTHREAD_MUTEX_INITIALIZER,
		.folder = "/tmp/strata-vsock-XXXXXX" };
	assert_non_null(mkdtemp(g->folder));
	snprintf(g->path, sizeof(g->path), "%s/v", g->folder);
	assert_int_equal(net_open(&g->net, &config, &err), 0);
	assert_true(net_open(&(struct net *){ NULL }, &config, &err) < 0); /* somebody listens */
}

static void close_guest(struct guest *g)
{
	char path[64];

	net_close(g->net);
	unlink(g->path);
	snprintf(path, sizeof(path), "%s_%u", g->path, PORT);
	unlink(path);
	assert_int_equal(rmdir(g->folder), 0);
}

/* The guest's packet; its own buffer is `room` bytes. */
static void say(struct guest *g, u32 from, u32 to, enum op op, u32 flags, u32 len, u32 room)
{
	static u8 packet[HEAD + BUFFER + 1];

	memset(packet, 0, HEAD);
	memset(packet + HEAD, 7, len);
	put_le64(packet, CID);
	put_le64(packet + 8, 2);
	put_le32(packet + 16, from);
	put_le32(packet + 20, to);
	put_le32(packet + 24, len);
	put_le16(packet + 28, 1);
	put_le16(packet + 30, (u16)op);
	put_le32(packet + 32, flags);
	put_le32(packet + 36, room);
	lock(g);
	net_send(g->net, packet, HEAD + len);
	unlock(g);
}

/* Waits for so many packets of a kind; the test's limit of time is what ends a wait in vain. */
static void await(struct guest *g, enum op op, unsigned count)
{
	unsigned seen;

	do {
		lock(g);
		seen = g->ops[op];
		unlock(g);
		usleep(1000);
	} while (seen < count);
	assert_int_equal(seen, count);
}

static struct sockaddr_un address(const struct guest *g, int port)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	if (port < 0)
		snprintf(a.sun_path, sizeof(a.sun_path), "%s", g->path);
	else
		snprintf(a.sun_path, sizeof(a.sun_path), "%s_%d", g->path, port);
	return a;
}

static int listen_at(struct guest *g, int port)
{
	struct sockaddr_un a = address(g, port);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 8), 0);
	return fd;
}

static int call(struct guest *g, const char *line)
{
	struct sockaddr_un a = address(g, -1);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(write(fd, line, strlen(line)), strlen(line));
	return fd;
}

/* An open connection that the guest has begun. */
static int open_to_host(struct guest *g, int listener, u32 from, u32 room)
{
	unsigned before = g->ops[RESPONSE];

	say(g, from, PORT, REQUEST, 0, 0, room);
	await(g, RESPONSE, before + 1);
	return accept(listener, NULL, NULL);
}

static void nobody_listens(void **state)
{
	struct guest g;

	open_guest(&g);
	say(&g, 1, PORT, REQUEST, 0, 0, 100);
	await(&g, RST, 1);
	say(&g, 1, PORT, RW, 0, 10, 100); /* and there is no such connection */
	await(&g, RST, 2);
	say(&g, 1, PORT, RST, 0, 0, 100); /* which is not answered */
	say(&g, 1, PORT, CREDIT_REQUEST, 0, 0, 100);
	await(&g, RST, 3);
	close_guest(&g);
}

static void the_guest_calls(void **state)
{
	static char buf[BUFFER];
	struct guest g;

	open_guest(&g);
	int listener = listen_at(&g, PORT), fd = open_to_host(&g, listener, 1, 5000);

	say(&g, 1, PORT, RW, 0, 3, 5000);
	assert_int_equal(recv(fd, buf, 3, MSG_WAITALL), 3);
	assert_int_equal(buf[2], 7);
	/* No more than there is room for. */
	memset(buf, 1, sizeof(buf));
	assert_int_equal(write(fd, buf, 8000), 8000);
	await(&g, RW, 2);
	assert_int_equal(g.received, 5000);
	say(&g, 1, PORT, CREDIT_UPDATE, 0, 0, 9000);
	await(&g, RW, 3);
	assert_int_equal(g.received, 8000);
	assert_int_equal(g.sum, 8000);
	/* One direction after the other. */
	shutdown(fd, SHUT_WR);
	await(&g, SHUTDOWN, 1);
	assert_int_equal(get_le32(g.last + 32), 2);
	say(&g, 1, PORT, RW, 0, 1, 9000);
	assert_int_equal(recv(fd, buf, 1, MSG_WAITALL), 1);
	say(&g, 1, PORT, SHUTDOWN, 2, 0, 8000);
	assert_int_equal(recv(fd, buf, 1, 0), 0);
	say(&g, 1, PORT, SHUTDOWN, 3, 0, 8000);
	await(&g, RST, 1);
	close(fd);
	/* The same ports again, closed from the host at once. */
	fd = open_to_host(&g, listener, 1, 5000);
	close(fd);
	await(&g, SHUTDOWN, 2);
	assert_int_equal(get_le32(g.last + 32), 3);
	say(&g, 1, PORT, RST, 0, 0, 0);
	close(listener);
	close_guest(&g);
}

static void the_host_calls(void **state)
{
	struct guest g;
	char buf[64] = "";
	u32 port;

	open_guest(&g);
	int fd = call(&g, "CONNECT 80\nhello");

	await(&g, REQUEST, 1);
	assert_int_equal(get_le32(g.last + 20), 80);
	port = get_le32(g.last + 16);
	assert_int_equal(g.ops[RW], 0); /* nothing before the guest has agreed */
	say(&g, 80, port, RESPONSE, 0, 0, 1000);
	await(&g, RW, 1);
	assert_memory_equal(g.last + HEAD, "hello", 5);
	assert_true(read(fd, buf, sizeof(buf)) > 4);
	assert_memory_equal(buf, "OK ", 3);
	assert_int_equal(strtoul(buf + 3, NULL, 10), port);
	say(&g, 80, port, RST, 0, 0, 0);
	assert_int_equal(read(fd, buf, 1), 0);
	close(fd);
	fd = call(&g, "CONNECT 81\n");
	await(&g, REQUEST, 2);
	say(&g, 81, get_le32(g.last + 16), RST, 0, 0, 0);
	assert_int_equal(read(fd, buf, 1), 0);
	close(fd);
	static const char *const bad[] = { "CONNECT\n", "connect 5\n", "CONNECT 5 6\n",
		"CONNECT -5\n", "GET / HTTP/1.1\r\nHost: a name that is long\r\n" };
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		fd = call(&g, bad[i]);
		assert_true(read(fd, buf, 1) <= 0);
		close(fd);
	}
	assert_int_equal(g.ops[REQUEST], 2);
	close_guest(&g);
}

static void credit_is_enforced(void **state)
{
	static char buf[BUFFER];
	struct guest g;

	open_guest(&g);
	int listener = listen_at(&g, PORT), fd = open_to_host(&g, listener, 1, 5000);

	/* The host does not read: the socket and the buffer fill up; the guest, who goes on, is
	 * reset. */
	for (unsigned i = 0; i < 100 && !g.ops[RST]; i++)
		say(&g, 1, PORT, RW, 0, BUFFER, 5000);
	await(&g, RST, 1);
	while (read(fd, buf, sizeof(buf)) > 0)
		;
	close(fd);
	/* A guest that takes nothing, and whose driver then begins anew. */
	fd = open_to_host(&g, listener, 2, 1u << 30);
	lock(&g);
	g.full = true;
	unlock(&g);
	while (send(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
	lock(&g);
	net_room(g.net);
	g.full = false;
	net_reset(g.net);
	unlock(&g);
	assert_true(recv(fd, buf, 1, 0) <= 0);
	close(fd);
	close(listener);
	close_guest(&g);
}

static void nonsense_is_survived(void **state)
{
	u8 packet[HEAD + 64];
	struct guest g;
	u32 seed = 1;

	open_guest(&g);
	int listener = listen_at(&g, PORT);
	for (unsigned i = 0; i < 20000; i++) {
		for (unsigned n = 0; n < sizeof(packet); n++)
			packet[n] = (u8)((seed = seed * 1103515245 + 12345) >> 16);
		put_le64(packet, i % 64 ? CID : 9);
		put_le64(packet + 8, i % 63 ? 2 : 3);
		put_le32(packet + 16, seed >> 8 & 3);
		put_le32(packet + 20, i & 256 ? PORT : (seed >> 20 & 1));
		put_le32(packet + 24, i % 61 ? 64 : seed);
		put_le16(packet + 28, i % 62 ? 1 : 2);
		put_le16(packet + 30, seed >> 12 & 7);
		lock(&g);
		g.full = seed >> 28 == 0;
		net_send(g.net, packet, i % 50 ? sizeof(packet) : seed % sizeof(packet));
		if (i % 100 == 0)
			net_room(g.net);
		if (i % 5000 == 0)
			net_reset(g.net);
		unlock(&g);
	}
	close(listener);
	close_guest(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_listens),
		cmocka_unit_test(the_guest_calls),
		cmocka_unit_test(the_host_calls),
		cmocka_unit_test(credit_is_enforced),
		cmocka_unit_test(nonsense_is_survived),
	};

	return cmocka_run_group_tests_name("vsock", tests, NULL, NULL);
}
