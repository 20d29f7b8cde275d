/*
 * The control socket under programs that say anything: requests that are right, edited and random,
 * in pieces and in heaps; the console as a stream; readers who do not read; connections that come
 * and go, also while the machine speaks. A machine's configuration file is read by the same people:
 * the input as such a file.
 */
#include "base/must.h"
#include "control/control.h"
#include "store/config.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define PEERS 4u

struct input {
	const u8 *at, *end;
};

static struct bench {
	struct loop loop;
	struct control *control;
	int peers[PEERS], log[2];
	u32 done;
} bench;

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static u8 take8(struct input *in) { return in->at < in->end ? *in->at++ : 0; }

static void op_status(void *ctx, struct control_status *s)
{
	*s = (struct control_status){ .state = "running", .engine = "none", .cpus = 1 };
}

static int op_any(void *ctx, struct err *err)
{
	return bench.done++ & 1 ? err_set(err, -EALREADY, "not twice") : 0;
}

static int op_save(void *ctx, int fd, struct err *err)
{
	must(fcntl(fd, F_GETFD) >= 0, "descriptor %d", fd);
	close(fd);
	return 0;
}

static int attach(
	void *ctx, const struct control_attach *a, char name[CONTROL_DEVICE_MAX], struct err *err)
{
	must((a->disk || a->net) && a->count <= CONTROL_FDS_MAX, "%u descriptors", a->count);
	if (a->count && bench.done++ & 1) { /* taken */
		close(a->fds[0]);
		a->fds[0] = -1;
	}
	memcpy(name, "disk0", 6);
	return 0;
}

static int detach(void *ctx, const char *name, struct err *err)
{
	return bench.done++ & 1 ? err_set(err, -ENODEV, "no %.40s", name) : 0;
}

static bool attached(void *ctx, unsigned n, struct control_device *d)
{
	*d = (struct control_device){ "disk0", "an image", n };
	return n < 2;
}

static int balloon(void *ctx, const u64 *target, struct control_balloon *b, struct err *err)
{
	*b = (struct control_balloon){ .target = target ? *target : 0, .told = true };
	return 0;
}

static int count(void *ctx, bool on, struct err *err)
{
	return on && bench.done++ & 1 ? err_set(err, -ENOSYS, "not here") : 0;
}

static const struct control_ops ops = { .status = op_status,
	.pause = op_any,
	.resume = op_any,
	.stop = op_any,
	.kill = op_any,
	.reset = op_any,
	.save = op_save,
	.attach = attach,
	.detach = detach,
	.attached = attached,
	.balloon = balloon,
	.count = count };

static void open_bench(void)
{
	struct err err = { 0 };

	must(!loop_open(&bench.loop, &err), "%s", err.text);
	for (unsigned i = 0; i < 2; i++)
		bench.log[i] = memfd_create("log", MFD_CLOEXEC);
	const struct control_config config = { .version = "1",
		.name = "fuzz",
		.folder = -1,
		.log = { bench.log[0], bench.log[1] },
		.ops = &ops };

	bench.control = control_open(&config, &bench.loop, &err);
	must(bench.control != NULL, "%s", err.text);
	for (unsigned i = 0; i < PEERS; i++)
		bench.peers[i] = -1;
}

static void set_peer(unsigned i, int fd)
{
	if (bench.peers[i] >= 0)
		close(bench.peers[i]);
	bench.peers[i] = fd;
}

static void op_join(struct input *in)
{
	int ends[2];

	must(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), "%s", strerror(errno));
	control_adopt(bench.control, ends[1]);
	set_peer(take8(in) % PEERS, ends[0]);
}

static void op_ask(struct input *in)
{
	static const char *const lines[] = { "{\"command\":\"status\",\"id\":1}\n",
		"{\"command\":\"help\"}\n{\"command\":\"pause\"}\n", "{\"command\":\"console\"}\n",
		"{\"command\":\"events\"}\n", "{\"command\":\"balloon\",\"target\":1}\n",
		"{\"command\":\"save\"}\n", "{\"id\":", "\n",
		"{\"command\":\"kill\",\"id\":\"x\"}\n",
		"{\"command\":\"attach\",\"disk\":\"/x,readonly\"}\n",
		"{\"command\":\"attach\",\"net\":\"segment=a\"}\n",
		"{\"command\":\"detach\",\"device\":\"disk0\"}\n" };
	u8 what = take8(in);
	char line[64];
	int fd = bench.peers[what % PEERS];
	const char *chosen = lines[(what >> 2 & 15) % ARRAY_LEN(lines)];
	size_t len = strlen(chosen);

	memcpy(line, chosen, len);
	if (what & 0x40)
		line[take8(in) % len] = (char)take8(in);
	if (fd >= 0)
		(void)!send(fd, line, what & 0x80 ? take8(in) % (len + 1) : len, MSG_NOSIGNAL);
}

static void op_say(struct input *in)
{
	u8 what = take8(in), len = take8(in);
	int fd = bench.peers[what % PEERS];

	if (len > in->end - in->at)
		len = (u8)(in->end - in->at);
	if (fd >= 0)
		(void)!send(fd, in->at, len, MSG_NOSIGNAL);
	in->at += len;
}

static void op_send_file(struct input *in)
{
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(2 * sizeof(int))];
	} control = { .head = { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	u8 what = take8(in);
	int fd = bench.peers[what % PEERS], files[] = { 0, 0 };
	size_t len = what & 0x80 ? sizeof(files) : sizeof(int);
	char save[] = "{\"command\":\"save\"}\n";
	char attach_it[] = "{\"command\":\"attach\",\"disk\":\"/x\"}\n";
	char *line = what & 0x20 ? attach_it : save;
	struct iovec iov = { line, what & 0x40 ? strlen(line) : 1 };
	struct msghdr m = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = CMSG_SPACE(len) };

	control.head.cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(&control.head), files, len);
	if (fd >= 0)
		(void)!sendmsg(fd, &m, MSG_NOSIGNAL);
}

static void op_hear(struct input *in)
{
	static char data[65536];
	u8 what = take8(in);
	int fd = bench.peers[what % PEERS];

	if (fd >= 0)
		(void)!recv(fd, data, what & 0x80 ? sizeof(data) : 100, 0);
	if (fd >= 0 && what & 0x40)
		shutdown(fd, SHUT_WR);
	if (what & 0x20)
		set_peer(what % PEERS, -1);
}

static void op_machine(struct input *in)
{
	static char data[32768];
	u8 what = take8(in);
	int fd = control_console(bench.control);

	if (what & 1)
		(void)!send(fd, data, 128u * take8(in), MSG_DONTWAIT | MSG_NOSIGNAL);
	if (what & 2)
		(void)!recv(fd, data, 128u * take8(in), MSG_DONTWAIT);
	if (what & 4)
		control_event(bench.control, "paused", "because");
}

static void op_turn(struct input *in)
{
	for (u8 n = take8(in) % 8; n; n--)
		loop_turn(&bench.loop, 0);
}

static void (*const all[])(struct input *) = { op_join, op_ask, op_ask, op_say, op_send_file,
	op_hear, op_machine, op_turn, op_turn };

static void try_config(const u8 *data, size_t size)
{
	struct store_config c;
	struct err err = { 0 };

	if (store_config_parse(&c, (const char *)data, size, &err)) {
		must(err.code && err.text[0] && !c.count, "refused without a word");
		return;
	}
	for (unsigned i = 0; i < c.count; i++)
		must(c.items[i].name && c.items[i].value && c.items[i].line, "item %u", i);
	store_config_free(&c);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct input in = { data, data + size };

	try_config(data, size);
	open_bench();
	while (in.at < in.end)
		all[take8(&in) % ARRAY_LEN(all)](&in);
	control_close(bench.control, "over");
	for (unsigned i = 0; i < PEERS; i++)
		set_peer(i, -1);
	for (unsigned i = 0; i < 2; i++)
		close(bench.log[i]);
	loop_close(&bench.loop);
	return 0;
}
