/*
 * A tap interface of the host (Documentation/networking/tuntap.rst): what the guest sends arrives
 * there, and the other way round; bridging or routing it is the host's business. Somebody with the
 * right to has made it beforehand for this user:
 *
 *   ip tuntap add dev tap0 mode tap user NAME && ip link set tap0 up
 *
 * Frames have virtio's heads in front, so that checksums and segments that a guest leaves undone
 * go through to the host's network card, or to another guest, undone. What the guest does not take
 * undone the host's kernel does before it hands a frame over (TUNSETOFFLOAD).
 *
 * A frame that the guest does not take waits, and so do those behind it, in the interface's queue.
 */
#include "base/log.h"
#include "net/net_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DEVICE "/dev/net/tun"

struct tap {
	int fd;
	int watched;
	unsigned offloads;
	size_t waiting; /* of the packet: bytes that the guest has not taken */
	u8 packet[NET_PACKET_MAX];
};

static int refused(const char *name, int error, struct err *err)
{
	if (error == EPERM)
		return err_set(err, -error,
			"tap=%s: not yours; as root: ip tuntap add dev %s mode tap user NAME", name,
			name);
	if (error == EBUSY)
		return err_set(err, -error, "tap=%s: another program has it open", name);
	if (error == EINVAL)
		return err_set(err, -error,
			"tap=%s: not a tap interface with one queue; see ip -details link show %s",
			name, name);
	return err_set(err, -error, "tap=%s: %s", name, strerror(error));
}

static int tap_gather(const char *name, struct net_files *f, struct err *err)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int head = NET_HEAD_LEN, fd = open(DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0)
		return err_set(err, -errno, "tap=%s: %s: %s%s", name, DEVICE, strerror(errno),
			errno == EACCES
				? ": root gives it to those who may use it; --net user needs "
				  "no right"
			: errno == ENOENT ? ": modprobe tun brings it; --net user needs none"
					  : "");
	net_files_put(f, fd);
	if (strlen(name) >= sizeof(request.ifr_name))
		return err_set(err, -EINVAL, "tap=%.40s: an interface's name is shorter", name);
	memcpy(request.ifr_name, name, strlen(name));
	if (ioctl(fd, TUNSETIFF, &request) < 0)
		return refused(name, errno, err);
	if (ioctl(fd, TUNSETVNETHDRSZ, &head) < 0 || ioctl(fd, TUNSETOFFLOAD, 0) < 0)
		return refused(name, errno, err);
	return 0;
}

static int tap_adopt(struct net *n, struct net_files *f, struct err *err)
{
	struct tap *t = n->back;

	t->fd = net_files_take(f);
	return t->fd < 0
		       ? err_set(err, -EINVAL, "tap=%s: its descriptor is missing", n->config.name)
		       : 0;
}

static void tap_close(struct net *n)
{
	struct tap *t = n->back;

	if (t->fd > 0)
		close(t->fd);
}

/* A full queue of the host's loses frames, as a wire does; so does an interface that is down. */
static void tap_send(struct net *n, const u8 *frame, size_t len)
{
	struct tap *t = n->back;

	if (write(t->fd, frame, len) < 0)
		n->lost++;
}

static void tap_room(struct net *n)
{
	struct tap *t = n->back;

	if (t->waiting && net_deliver(n, t->packet, t->waiting)) {
		t->waiting = 0;
		net_wake(n);
	}
}

static void tap_watch(struct net *n, u32 *timeout)
{
	struct tap *t = n->back;

	t->watched = t->waiting ? -1 : net_watch(n, t->fd, POLLIN);
}

static void tap_ready(struct net *n, bool failed)
{
	struct tap *t = n->back;

	if (failed || t->watched < 0 || !(n->fds[t->watched].revents & POLLIN))
		return;
	for (unsigned i = 0; i < NET_TURN_FRAMES && !t->waiting; i++) {
		ssize_t len = read(t->fd, t->packet, sizeof(t->packet));

		if (len <= (ssize_t)NET_HEAD_LEN)
			return;
		if (!net_deliver(n, t->packet, (size_t)len))
			t->waiting = (size_t)len;
	}
}

/* A packet that waits was made for what was agreed before, and is of no use. */
static void tap_offload(struct net *n, unsigned offloads)
{
	_Static_assert(TUN_F_CSUM == 1 && TUN_F_TSO4 == 2 && TUN_F_TSO6 == 4 && TUN_F_TSO_ECN == 8,
		"offloads are the kernel's");
	struct tap *t = n->back;

	if (offloads == t->offloads)
		return;
	if (ioctl(t->fd, TUNSETOFFLOAD, offloads) < 0)
		log_warn("net", "tap=%s: offloads 0x%x: %s", n->config.name, offloads,
			strerror(errno));
	else
		t->offloads = offloads;
	t->waiting = 0;
	net_wake(n);
}

const struct net_back tap_back = {
	.traits = { .heads = true },
	.size = sizeof(struct tap),
	.gather = tap_gather,
	.adopt = tap_adopt,
	.close = tap_close,
	.send = tap_send,
	.room = tap_room,
	.watch = tap_watch,
	.ready = tap_ready,
	.offload = tap_offload,
};
