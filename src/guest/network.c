#include "guest/network.h"
#include "guest/call.h"
#include "guest/dhcp.h"
#include "guest/say.h"
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>

#define DEVICES_MAX 32	/* by index */
#define WAIT_FIRST  250 /* milliseconds, for an answer; twice as long each time */
#define WAIT_LAST   2000
#define OTHERS_MAX  64 /* messages that are for others, while we wait */
#define TEXT_MAX    256u
#define OURS	    "# written by strata\n"

/* ---- files ---- */

struct page {
	char text[TEXT_MAX];
	size_t len;
};

static void add(struct page *p, const char *text)
{
	for (; *text && p->len < TEXT_MAX; text++)
		p->text[p->len++] = *text;
}

/* "10.0.2.3" */
static void add_address(struct page *p, const u8 *address)
{
	char room[24];

	for (unsigned i = 0; i < 4; i++) {
		add(p, i ? "." : "");
		add(p, say_number(room, address[i]));
	}
}

/* A link is the business of who made it. */
static void write_page(const char *path, const struct page *p)
{
	char old[sizeof(OURS) - 1];
	long fd = CALL(open, path, O_RDWR | O_CREAT | O_NOFOLLOW, 0644);
	long n = fd < 0 ? -1 : CALL(read, fd, old, sizeof(old));

	if (n == 0 || (n == sizeof(old) && !memcmp(old, OURS, sizeof(old)))) {
		CALL(ftruncate, fd, 0);
		CALL(pwrite64, fd, p->text, p->len, 0);
	}
	if (fd >= 0)
		CALL(close, fd);
}

static void write_hosts(const char *host)
{
	struct page p = { .len = 0 };

	add(&p, OURS "127.0.0.1\tlocalhost\n::1\tlocalhost\n");
	if (*host) {
		add(&p, "127.0.1.1\t");
		add(&p, host);
		add(&p, "\n");
	}
	write_page("/etc/hosts", &p);
}

static void write_name_servers(const struct dhcp_lease *lease)
{
	struct page p = { .len = 0 };

	add(&p, OURS);
	for (unsigned i = 0; i < DHCP_NAME_SERVERS && lease->name_servers[i][0]; i++) {
		add(&p, "nameserver ");
		add_address(&p, lease->name_servers[i]);
		add(&p, "\n");
	}
	write_page("/etc/resolv.conf", &p);
}

/* ---- a device ---- */

struct device {
	long control; /* a socket, for ioctl() */
	char name[IFNAMSIZ];
};

static struct ifreq about(const struct device *d)
{
	struct ifreq r = { .ifr_flags = 0 };

	memcpy(r.ifr_name, d->name, sizeof(r.ifr_name));
	return r;
}

static long raise(const struct device *d, short flags)
{
	struct ifreq r = about(d);

	r.ifr_flags = (short)(flags | IFF_UP);
	return CALL(ioctl, d->control, SIOCSIFFLAGS, &r);
}

static void put_address(struct sockaddr *to, const u8 *address)
{
	struct sockaddr_in in = { .sin_family = AF_INET };

	memcpy(&in.sin_addr, address, 4);
	memcpy(to, &in, sizeof(in));
}

static long set(const struct device *d, unsigned long what, const u8 *address)
{
	struct ifreq r = about(d);

	put_address(&r.ifr_addr, address);
	return CALL(ioctl, d->control, what, &r);
}

static long add_route(struct device *d, const u8 *router)
{
	static const u8 anywhere[4];
	struct rtentry r = { .rt_flags = RTF_UP | RTF_GATEWAY, .rt_dev = d->name };

	put_address(&r.rt_dst, anywhere);
	put_address(&r.rt_genmask, anywhere);
	put_address(&r.rt_gateway, router);
	return CALL(ioctl, d->control, SIOCADDRT, &r);
}

static bool take(struct device *d, const struct dhcp_lease *lease)
{
	return !set(d, SIOCSIFADDR, lease->address) &&
	       (!lease->mask[0] || !set(d, SIOCSIFNETMASK, lease->mask)) &&
	       (!lease->router[0] || !add_route(d, lease->router));
}

/* ---- asking ---- */

static bool hear(long fd, const struct dhcp_client *c, enum dhcp_type type, struct dhcp_lease *l)
{
	u8 message[DHCP_SIZE];

	for (unsigned i = 0; i < OTHERS_MAX; i++) {
		long n = CALL(recvfrom, fd, message, sizeof(message), 0, 0, 0);

		if (n < 0)
			return false;
		if (dhcp_read(message, (size_t)n, c, type, l))
			return true;
	}
	return false;
}

static bool ask(long fd, const struct dhcp_client *c, enum dhcp_type type, enum dhcp_type answer,
	struct dhcp_lease *l)
{
	struct sockaddr_in everyone = { .sin_family = AF_INET,
		.sin_port = __builtin_bswap16(DHCP_SERVER),
		.sin_addr = { 0xffffffff } };
	const struct dhcp_lease offered = *l;
	u8 message[DHCP_SIZE];

	dhcp_write(message, c, type, &offered);
	for (long ms = WAIT_FIRST; ms <= WAIT_LAST; ms *= 2) {
		struct timeval wait = { ms / 1000, ms % 1000 * 1000 };

		CALL(setsockopt, fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
		CALL(sendto, fd, message, sizeof(message), 0, &everyone, sizeof(everyone));
		if (hear(fd, c, answer, l))
			return true;
	}
	return false;
}

static bool get_lease(const struct device *d, struct dhcp_lease *l)
{
	struct sockaddr_in us = { .sin_family = AF_INET,
		.sin_port = __builtin_bswap16(DHCP_CLIENT) };
	struct ifreq r = about(d);
	struct dhcp_client c;
	int one = 1;
	long fd = CALL(socket, AF_INET, SOCK_DGRAM, 0);

	if (fd < 0 || CALL(ioctl, fd, SIOCGIFHWADDR, &r) < 0)
		return false;
	memcpy(c.mac, r.ifr_hwaddr.sa_data, sizeof(c.mac));
	memcpy(c.id, c.mac + 2, sizeof(c.id)); /* one exchange at a time */
	CALL(setsockopt, fd, SOL_SOCKET, SO_BROADCAST, &one, sizeof(one));
	CALL(setsockopt, fd, SOL_SOCKET, SO_BINDTODEVICE, d->name, sizeof(d->name));
	bool good = !CALL(bind, fd, &us, sizeof(us)) && ask(fd, &c, DHCP_DISCOVER, DHCP_OFFER, l) &&
		    ask(fd, &c, DHCP_REQUEST, DHCP_ACK, l);

	CALL(close, fd);
	return good;
}

static void begin_device(struct device *d)
{
	struct dhcp_lease lease = { 0 };
	struct ifreq r = about(d), hardware = r;

	if (CALL(ioctl, d->control, SIOCGIFFLAGS, &r) < 0 || raise(d, r.ifr_flags) < 0)
		return;
	if ((r.ifr_flags & IFF_LOOPBACK) || CALL(ioctl, d->control, SIOCGIFHWADDR, &hardware) < 0 ||
		hardware.ifr_hwaddr.sa_family != ARPHRD_ETHER)
		return;
	if (!get_lease(d, &lease))
		SAY(d->name, " has no address: no DHCP server answers in its network");
	else if (!take(d, &lease))
		SAY(d->name, " does not take the address that DHCP says");
	else
		write_name_servers(&lease);
}

void network_begin(const char *host)
{
	struct device d = { .control = CALL(socket, AF_INET, SOCK_DGRAM, 0) };

	CALL(mkdir, "/etc", 0755);
	write_hosts(host);
	for (int i = 1; i <= DEVICES_MAX; i++) {
		struct ifreq r = { .ifr_ifindex = i };

		if (CALL(ioctl, d.control, SIOCGIFNAME, &r) < 0)
			continue;
		memcpy(d.name, r.ifr_name, sizeof(d.name));
		begin_device(&d);
	}
	CALL(close, d.control);
}
