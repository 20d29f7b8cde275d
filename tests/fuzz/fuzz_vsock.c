/*
 * A vsock's host side under a guest that says anything, and hosts that come and go: packets that
 * are nearly right, for ports that exist and others; a guest that takes nothing for a while;
 * resets; connections to the socket with and without a proper greeting. Whatever happens, the guest
 * must only ever see packets that are well-formed.
 */
#include "base/bits.h"
#include "base/must.h"
#include "net/net.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define HEAD   44u
#define CID    3u
#define PORT   1u /* of the host's, at which somebody listens */
#define HOSTS  4u
#define DATA   4096u
#define BUFFER 65536u

struct input {
	const u8 *at, *end;
};

static struct bench {
	pthread_mutex_t lock;
	struct net *net;
	char path[64];
	bool full;
	u32 host_port; /* of a connection that the host has begun, as last heard of */
	int listener, hosts[HOSTS];
} bench = { .lock = PTHREAD_MUTEX_INITIALIZER };

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static u8 take8(struct input *in) { return in->at < in->end ? *in->at++ : 0; }

static void lock(void *ctx) { pthread_mutex_lock(&bench.lock); }
static void unlock(void *ctx) { pthread_mutex_unlock(&bench.lock); }

static size_t receive(void *ctx, const u8 *packet, size_t len)
{
	if (bench.full)
		return 0;
	must(len >= HEAD && len <= HEAD + DATA, "a packet of %zu bytes", len);
	must(get_le32(packet + 24) == len - HEAD, "length %u of %zu", get_le32(packet + 24), len);
	must(get_le64(packet) == 2 && get_le64(packet + 8) == CID, "addresses");
	must(get_le16(packet + 30) >= 1 && get_le16(packet + 30) <= 7, "operation");
	if (get_le16(packet + 30) == 1)
		bench.host_port = get_le32(packet + 16);
	return len;
}

static struct sockaddr_un address(const char *suffix)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	snprintf(a.sun_path, sizeof(a.sun_path), "%s%s", bench.path, suffix);
	return a;
}

static void clean_up(void)
{
	unlink(address("").sun_path);
	unlink(address("_1").sun_path);
	*strrchr(bench.path, '/') = '\0';
	rmdir(bench.path);
}

static void open_bench(void)
{
	char folder[] = "/tmp/strata-fuzz-XXXXXX";
	struct err err = { 0 };

	must(mkdtemp(folder) != NULL, "folder");
	snprintf(bench.path, sizeof(bench.path), "%s/v", folder);
	const struct net_config config = { .lock = lock,
		.unlock = unlock,
		.receive = receive,
		.kind = NET_VSOCK,
		.name = bench.path,
		.cid = CID };

	must(!net_open(&bench.net, &config, &err), "%s", err.text);
	struct sockaddr_un a = address("_1");

	bench.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	must(!bind(bench.listener, (struct sockaddr *)&a, sizeof(a)), "bind");
	must(!listen(bench.listener, 64), "listen");
	for (unsigned i = 0; i < HOSTS; i++)
		bench.hosts[i] = -1;
	atexit(clean_up);
}

/* ---- operations ---- */

static void op_say(struct input *in)
{
	static u8 packet[HEAD + BUFFER + 64];
	u8 what = take8(in), where = take8(in);
	u32 len = (what & 8 ? 255u : 1u) * take8(in);

	memset(packet, 0, HEAD);
	put_le64(packet, where & 0x80 ? take8(in) : CID);
	put_le64(packet + 8, where & 0x40 ? take8(in) : 2);
	put_le32(packet + 16, where & 3);
	put_le32(packet + 20, where & 4 ? bench.host_port : where >> 3 & 3);
	put_le32(packet + 24, where & 0x20 ? take8(in) : len);
	put_le16(packet + 28, where == 0xff ? 2 : 1);
	put_le16(packet + 30, what & 7);
	put_le32(packet + 32, take8(in));
	put_le32(packet + 36, take8(in) * 1000u);
	put_le32(packet + 40, take8(in) * 1000u);
	lock(NULL);
	net_send(bench.net, packet, what & 0x80 ? take8(in) : HEAD + len);
	unlock(NULL);
}

static void op_room(struct input *in)
{
	lock(NULL);
	bench.full = take8(in) & 1;
	net_room(bench.net);
	unlock(NULL);
}

static void op_reset(struct input *in)
{
	lock(NULL);
	net_reset(bench.net);
	unlock(NULL);
}

static void set_host(unsigned i, int fd)
{
	if (bench.hosts[i] >= 0)
		close(bench.hosts[i]);
	bench.hosts[i] = fd;
}

static void op_call(struct input *in)
{
	static const char *const lines[] = { "CONNECT 1\n", "CONNECT 2\nhello", "CONNECT", "\n" };
	struct sockaddr_un a = address("");
	u8 which = take8(in);
	const char *line = lines[which & 3];
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (!connect(fd, (struct sockaddr *)&a, sizeof(a)))
		(void)!send(fd, line, strlen(line), MSG_NOSIGNAL);
	set_host(which >> 2 & (HOSTS - 1), fd);
}

static void op_accept(struct input *in)
{
	set_host(take8(in) % HOSTS,
		accept4(bench.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

static void op_host(struct input *in)
{
	static char buf[BUFFER];
	u8 what = take8(in);
	int fd = bench.hosts[what % HOSTS];

	if (fd < 0)
		return;
	if (what & 0x80)
		(void)!send(fd, buf, take8(in) * 100u, MSG_NOSIGNAL);
	if (what & 0x40)
		(void)!recv(fd, buf, take8(in) * 256u, 0);
	if (what & 0x20)
		shutdown(fd, SHUT_WR);
	if (what & 0x10)
		set_host(what % HOSTS, -1);
}

static void (*const ops[])(struct input *) = { op_say, op_say, op_say, op_say, op_room, op_reset,
	op_call, op_accept, op_host, op_host };

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct input in = { data, data + size };

	if (!bench.net)
		open_bench();
	while (in.at < in.end)
		ops[take8(&in) % ARRAY_LEN(ops)](&in);
	op_reset(&in);
	op_room(&in); /* in is at its end: not full */
	for (unsigned i = 0; i < HOSTS; i++)
		set_host(i, -1);
	return 0;
}
