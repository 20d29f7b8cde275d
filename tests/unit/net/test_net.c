/* User-mode networking without a guest: who answers at 10.0.2.2, frames that must wait, forwards,
 * and the host's name server. */
#include "base/bits.h"
#include "net/net.h"
#include "net/resolv.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h> /* needs the above */

#define ARP_LEN 42u

struct guest {
	pthread_mutex_t lock;
	struct net *net;
	bool full;
	unsigned frames;
	u8 last[NET_FRAME_MAX];
};

static void lock(void *ctx) { pthread_mutex_lock(&((struct guest *)ctx)->lock); }
static void unlock(void *ctx) { pthread_mutex_unlock(&((struct guest *)ctx)->lock); }

static size_t receive(void *ctx, const u8 *frame, size_t len)
{
	struct guest *g = ctx;

	if (g->full)
		return 0;
	assert_true(len <= NET_FRAME_MAX);
	memcpy(g->last, frame, len);
	g->frames++;
	return len;
}

static int open_guest(struct guest *g, const struct net_forward *forwards, unsigned count)
{
	struct net_config config = { .lock = lock,
		.unlock = unlock,
		.receive = receive,
		.ctx = g,
		.forwards = forwards,
		.forward_count = count };
	struct err err = { 0 };

	*g = (struct guest){ .lock = PTHREAD_MUTEX_INITIALIZER };
	return net_open(&g->net, &config, &err);
}

static void send_arp(struct guest *g, u8 last_byte)
{
	u8 arp[ARP_LEN] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0, 1, 2, 3, 8, 6, 0, 1,
		8, 0, 6, 4, 0, 1, 0x52, 0x54, 0, 1, 2, 3, 10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0,
		2 };

	arp[41] = last_byte;
	lock(g);
	net_send(g->net, arp, sizeof(arp));
	unlock(g);
}

static void the_host_answers(void **state)
{
	static const u8 sender[4] = { 10, 0, 2, 2 };
	struct guest g;

	assert_int_equal(open_guest(&g, NULL, 0), 0);
	send_arp(&g, 2);
	assert_int_equal(g.frames, 1);
	assert_int_equal(g.last[21], 2); /* a reply */
	assert_memory_equal(g.last + 28, sender, 4);
	send_arp(&g, 77); /* nobody */
	assert_int_equal(g.frames, 1);
	net_close(g.net);
}

/* DHCP's request and answer are libslirp's to test; here the guest has an address of its own. */
static void an_address_is_seen_when_the_guest_uses_it(void **state)
{
	static const u8 asks_whether_it_is_free[ARP_LEN] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0x52, 0x54, 0, 1, 2, 3, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0x54, 0, 1, 2, 3, 0, 0,
		0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 2, 15 };
	struct guest g;

	assert_int_equal(open_guest(&g, NULL, 0), 0);
	lock(&g);
	net_send(g.net, asks_whether_it_is_free, sizeof(asks_whether_it_is_free));
	assert_false(net_has_address(g.net));
	unlock(&g);
	send_arp(&g, 2);
	lock(&g);
	assert_true(net_has_address(g.net));
	net_reset(g.net);
	assert_false(net_has_address(g.net));
	unlock(&g);
	net_close(g.net);
}

static void frames_wait_for_room_up_to_a_limit(void **state)
{
	struct guest g;

	assert_int_equal(open_guest(&g, NULL, 0), 0);
	g.full = true;
	for (unsigned i = 0; i < 3000; i++)
		send_arp(&g, 2);
	lock(&g);
	net_room(g.net);
	assert_int_equal(g.frames, 0);
	g.full = false;
	net_room(g.net);
	unlock(&g);
	assert_int_equal(g.frames, 1024);
	net_close(g.net);
}

static void nonsense_is_survived(void **state)
{
	u8 frame[NET_FRAME_MAX];
	struct guest g;

	assert_int_equal(open_guest(&g, NULL, 0), 0);
	for (unsigned i = 0; i < 5000; i++) {
		u32 seed = i * 2654435761u;

		for (unsigned n = 0; n < sizeof(frame); n++)
			frame[n] = (u8)((seed = seed * 1103515245 + 12345) >> 16);
		put_le16(frame + 12, i & 1 ? 0x0008 : 0x0608);
		frame[14] = i & 2 ? 0x45 : frame[14];
		lock(&g);
		net_send(g.net, frame, 14 + seed % (sizeof(frame) - 14));
		unlock(&g);
	}
	net_close(g.net);
}

/* A port of the loopback's that nobody has. */
static struct sockaddr_in free_port(void)
{
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in at = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);

	assert_int_equal(bind(s, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(getsockname(s, (struct sockaddr *)&at, &len), 0);
	close(s);
	return at;
}

static int knock(const struct sockaddr_in *at)
{
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(s, (const struct sockaddr *)at, sizeof(*at)), 0);
	return s;
}

/* A port that somebody has is refused. */
static void forwards_listen(void **state)
{
	const struct sockaddr_in at = free_port();
	struct guest g, other;
	struct net_forward f = { false, INADDR_LOOPBACK, ntohs(at.sin_port), 22 };

	assert_int_equal(open_guest(&g, &f, 1), 0);
	assert_true(open_guest(&other, &f, 1) < 0);
	close(knock(&at));
	net_close(g.net);
}

static unsigned be16(const u8 *p) { return (unsigned)p[0] << 8 | p[1]; }

/* Waits until the guest is sent a frame of that type; fails by the test's own limit of time. */
static void await(struct guest *g, u16 type)
{
	bool seen;

	do {
		usleep(1000);
		lock(g);
		seen = g->frames && be16(g->last + 12) == type;
		unlock(g);
	} while (!seen);
}

/* Who connects before the guest has its address waits until it has, and no longer. */
static void a_door_opens_when_the_guest_is_there(void **state)
{
	static const u8 of_guest[4] = { 10, 0, 2, 15 }, of_host[4] = { 10, 0, 2, 2 };
	const struct sockaddr_in at = free_port();
	const struct net_forward f = { false, INADDR_LOOPBACK, ntohs(at.sin_port), 22 };
	u8 arp[ARP_LEN] = { 0 };
	struct guest g;

	assert_int_equal(open_guest(&g, &f, 1), 0);
	int s = knock(&at);
	for (unsigned i = 0; i < 3; i++) { /* it is asked, and asked again */
		await(&g, 0x0806);
		lock(&g);
		assert_int_equal(be16(g.last + 20), 1); /* a request */
		assert_memory_equal(g.last + 28, of_host, 4);
		assert_memory_equal(g.last + 38, of_guest, 4);
		memcpy(arp, g.last, ARP_LEN);
		g.frames = 0;
		unlock(&g);
	}
	/* Its answer: the addresses change places. */
	memcpy(arp, arp + 6, 6);
	memcpy(arp + 32, arp + 22, 10);
	memcpy(arp + 6, "\x52\x54\0\1\2\3", 6);
	memcpy(arp + 22, arp + 6, 6);
	memcpy(arp + 28, of_guest, 4);
	arp[21] = 2;
	lock(&g);
	net_send(g.net, arp, sizeof(arp));
	unlock(&g);
	await(&g, 0x0800);
	lock(&g);
	assert_int_equal(g.last[14 + 9], IPPROTO_TCP);
	assert_memory_equal(g.last + 14 + 16, of_guest, 4);
	assert_int_equal(be16(g.last + 14 + 20 + 2), 22);
	unlock(&g);
	close(s);
	net_close(g.net);
}

/* ---- segments ---- */

static int open_member(struct guest *g, const char *name, const char *capture)
{
	struct net_config config = { .lock = lock,
		.unlock = unlock,
		.receive = receive,
		.ctx = g,
		.kind = NET_SEGMENT,
		.name = name,
		.capture = capture };
	struct err err = { 0 };

	*g = (struct guest){ .lock = PTHREAD_MUTEX_INITIALIZER };
	return net_open(&g->net, &config, &err);
}

/* From the machine whose address ends with `from`. */
static void send_to(struct guest *g, u8 from, u8 to, size_t len)
{
	u8 frame[2 * NET_FRAME_MAX] = { 2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 0x88, 0xb5 };

	if (to == 0xff)
		memset(frame, 0xff, 6);
	lock(g);
	net_send(g->net, frame, len);
	unlock(g);
}

/* Waits until one has come; fails by the test's own limit of time. */
static unsigned frames_after(struct guest *g, unsigned least)
{
	unsigned frames;

	do {
		lock(g);
		frames = g->frames;
		unlock(g);
		usleep(1000);
	} while (frames < least);
	return frames;
}

static void members_hear_each_other(void **state)
{
	char folder[] = "/tmp/strata-segment-XXXXXX", capture[64], command[64];
	struct guest g[3];

	assert_non_null(mkdtemp(folder));
	snprintf(capture, sizeof(capture), "%s/frames", folder);
	assert_int_equal(setenv("XDG_RUNTIME_DIR", folder, 1), 0);
	assert_int_equal(open_member(&g[0], "lab", capture), 0);
	assert_int_equal(open_member(&g[1], "lab", NULL), 0);
	assert_int_equal(open_member(&g[2], "lab", NULL), 0);
	send_to(&g[2], 3, 0xff, 60); /* to all */
	frames_after(&g[0], 1);
	frames_after(&g[1], 1);
	send_to(&g[0], 1, 3, NET_FRAME_MAX); /* where it was heard: to nobody else */
	frames_after(&g[2], 1);
	send_to(&g[1], 2, 1, 60); /* never heard: to all */
	frames_after(&g[0], 2);
	frames_after(&g[2], 2);
	assert_int_equal(frames_after(&g[1], 1), 1);
	send_to(&g[0], 1, 2, NET_FRAME_MAX + 1); /* too long, too short */
	send_to(&g[0], 1, 2, 13);
	/* One goes without a word, and another one comes in its place. */
	net_close(g[1].net);
	assert_int_equal(open_member(&g[1], "lab", NULL), 0);
	/* It speaks first: until they have taken its connection, they send it nothing. */
	send_to(&g[1], 2, 0xff, 60);
	frames_after(&g[0], 3);
	frames_after(&g[2], 3);
	send_to(&g[0], 1, 0xff, 60);
	frames_after(&g[1], 1);
	frames_after(&g[2], 4);
	/* One that takes nothing harms nobody, and goes on where it was. */
	lock(&g[1]);
	g[1].full = true;
	unlock(&g[1]);
	for (unsigned i = 0; i < 2000; i++)
		send_to(&g[0], 1, 0xff, 60);
	lock(&g[1]);
	assert_int_equal(g[1].frames, 1);
	g[1].full = false;
	net_room(g[1].net);
	unlock(&g[1]);
	frames_after(&g[1], 3);
	for (unsigned i = 0; i < 3; i++)
		net_close(g[i].net);
	snprintf(command, sizeof(command), "rm -r %s", folder);
	FILE *f = fopen(capture, "re");
	u32 word[3];

	assert_non_null(f);
	assert_int_equal(fread(word, sizeof(word), 1, f), 1);
	assert_int_equal(word[0], 0x0a0d0d0a);
	assert_int_equal(word[2], 0x1a2b3c4d);
	fclose(f);
	assert_int_equal(system(command), 0);
}

static void segments_need_a_place_and_a_name(void **state)
{
	struct guest g;

	assert_int_equal(setenv("XDG_RUNTIME_DIR", "/tmp", 1), 0);
	assert_int_equal(open_member(&g, "../lab", NULL), -EINVAL);
	assert_int_equal(open_member(&g, ".", NULL), -EINVAL);
	assert_int_equal(open_member(&g, "", NULL), -EINVAL);
	assert_int_equal(setenv("XDG_RUNTIME_DIR", "/nonexistent", 1), 0);
	assert_int_equal(open_member(&g, "lab", NULL), -ENOENT);
	unsetenv("XDG_RUNTIME_DIR");
	assert_int_equal(open_member(&g, "lab", NULL), -ENOENT);
}

static u32 read_text(const char *text)
{
	char path[] = "/tmp/strata-resolv-XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	u32 found = resolv_read(path);

	unlink(path);
	return found;
}

static void name_servers_are_found(void **state)
{
	assert_int_equal(read_text("# nameserver 1.1.1.1\nnameserver 9.8.7.6\n"), 0x09080706);
	assert_int_equal(read_text("nameserver fe80::1\n\tnameserver\t10.1.2.3 # x\n"), 0x0a010203);
	assert_int_equal(read_text("nameserver\nnameserver nowhere\n"), 0);
	assert_int_equal(resolv_read("/nonexistent"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_host_answers),
		cmocka_unit_test(an_address_is_seen_when_the_guest_uses_it),
		cmocka_unit_test(frames_wait_for_room_up_to_a_limit),
		cmocka_unit_test(nonsense_is_survived),
		cmocka_unit_test(forwards_listen),
		cmocka_unit_test(a_door_opens_when_the_guest_is_there),
		cmocka_unit_test(name_servers_are_found),
		cmocka_unit_test(members_hear_each_other),
		cmocka_unit_test(segments_need_a_place_and_a_name),
	};

	return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
