#include "cli/net_option.h"
#include "base/scope.h"
#include "cli/options.h"
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SSH_PORT 22

static bool parse_port(const char *text, u16 *port)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	*port = (u16)n;
	return *text >= '0' && *text <= '9' && !*end && n >= 1 && n <= 65535;
}

/* tcp|udp:[ADDRESS:]PORT:PORT */
static int parse_forward(char *text, struct net_forward *f, struct err *err)
{
	char *part[4], *rest = text;
	AUTO_FREE char *whole = strdup(text);
	unsigned n = 0;

	while (n < 4 && (part[n] = strsep(&rest, ":")))
		n++;
	struct in_addr host = { 0 };
	bool ok = (n == 3 || n == 4) && !rest &&
		  (!strcmp(part[0], "tcp") || !strcmp(part[0], "udp")) &&
		  (n == 3 || inet_pton(AF_INET, part[1], &host) == 1) &&
		  parse_port(part[n - 2], &f->host_port) && parse_port(part[n - 1], &f->guest_port);

	if (!ok)
		return err_set(err, -EINVAL,
			"forward=%.64s: must be like tcp:2222:22, or udp:127.0.0.1:5353:53", whole);
	f->udp = part[0][0] == 'u';
	f->host = ntohl(host.s_addr);
	return 0;
}

static bool is_mac(const char *text)
{
	static const char digits[] = "0123456789abcdefABCDEF";

	for (unsigned i = 0; i < 17; i++)
		if (!text[i] || (i % 3 == 2 ? text[i] != ':' : !strchr(digits, text[i])))
			return false;
	/* The lowest bit of the first byte is for groups. */
	return !text[17] && !(strtoul((char[]){ text[1], 0 }, NULL, 16) & 1);
}

static int set_mac(struct net_option *o, const char *value, struct err *err)
{
	if (!is_mac(value))
		return err_set(err, -EINVAL, "mac=%.40s: must be like 52:54:00:12:34:56", value);
	snprintf(o->mac, sizeof(o->mac), "%s", value);
	o->config.mac = o->mac;
	return 0;
}

static int set_queues(struct net_option *o, const char *value, struct err *err)
{
	u64 n;

	if (options_size(value, &n) || !n || n > MACHINE_NET_QUEUES_MAX)
		return err_set(err, -EINVAL, "queues=%.40s: must be between 1 and %d", value,
			MACHINE_NET_QUEUES_MAX);
	o->config.queues = (unsigned)n;
	return 0;
}

static int set_bandwidth(struct net_option *o, const char *value, struct err *err)
{
	if (options_size(value, &o->config.bandwidth) || !o->config.bandwidth)
		return err_set(err, -EINVAL,
			"bandwidth=%.40s: must be a number of bytes a second, with K, M or G, not "
			"0",
			value);
	return 0;
}

static int set_capture(struct net_option *o, const char *value, struct err *err)
{
	o->config.capture = value;
	return *value ? 0 : err_set(err, -EINVAL, "capture=: a file is missing");
}

static int add_forward(struct net_option *o, char *value, struct err *err)
{
	if (o->config.kind != NET_USER)
		return err_set(err, -EINVAL, "forward=%.40s: for --net user only", value);
	if (o->config.forward_count == NET_FORWARDS_MAX)
		return err_set(err, -EINVAL, "more than %u forwards", NET_FORWARDS_MAX);
	return parse_forward(value, &o->forwards[o->config.forward_count++], err);
}

static int set_model(struct net_option *o, const char *value, struct err *err)
{
	static const char *const models[] = {
		[MACHINE_NIC_VIRTIO] = "virtio", [MACHINE_NIC_E1000] = "e1000"
	};

	for (unsigned i = 0; i < ARRAY_LEN(models); i++)
		if (!strcmp(value, models[i])) {
			o->config.model = (enum machine_nic_model)i;
			return 0;
		}
	return err_set(err, -EINVAL, "model=%.40s: must be virtio or e1000", value);
}

static int set(struct net_option *o, char *item, struct err *err)
{
	char *value = strchr(item, '=');

	if (!strcmp(item, "packed")) {
		o->config.packed = true;
		return 0;
	}
	if (value)
		*value++ = '\0';
	if (value && !strcmp(item, "mac"))
		return set_mac(o, value, err);
	if (value && !strcmp(item, "queues"))
		return set_queues(o, value, err);
	if (value && !strcmp(item, "capture"))
		return set_capture(o, value, err);
	if (value && !strcmp(item, "bandwidth"))
		return set_bandwidth(o, value, err);
	if (value && !strcmp(item, "model"))
		return set_model(o, value, err);
	if (value && !strcmp(item, "forward"))
		return add_forward(o, value, err);
	return err_set(err, -EINVAL, "no option %.40s; --help lists them", item);
}

/* false: it is none of them. */
static bool set_kind(struct net_option *o, char *item, bool *wanted)
{
	static const struct {
		const char *name;
		enum net_kind kind;
		bool named;
	} kinds[] = { { "user", NET_USER, false }, { "tap", NET_TAP, true },
		{ "segment", NET_SEGMENT, true } };
	char *value = strchr(item, '=');

	*wanted = true;
	if (value)
		*value++ = '\0';
	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++)
		if (!strcmp(kinds[i].name, item)) {
			o->config.kind = kinds[i].kind;
			o->config.name = value;
			return kinds[i].named ? value && *value : !value;
		}
	*wanted = false;
	return !value && !strcmp(item, "none");
}

int net_option_parse(const char *text, struct net_option *o, bool *wanted, struct err *err)
{
	*o = (struct net_option){ .config.forwards = o->forwards,
		.text = strdup(text ? text : "none") };
	char *rest = o->text, *item = strsep(&rest, ",");

	if (!set_kind(o, item, wanted))
		return err_set(err, -EINVAL,
			"--net %.64s: must be user, tap=INTERFACE, segment=NAME or none", text);
	while ((item = strsep(&rest, ",")))
		if (set(o, item, err))
			return err_wrap(err, "--net");
	if (o->config.packed && o->config.model != MACHINE_NIC_VIRTIO)
		return err_set(err, -EINVAL, "--net: packed is for model=virtio; leave it out");
	if (o->config.queues && o->config.model != MACHINE_NIC_VIRTIO)
		return err_set(err, -EINVAL,
			"--net: queues= is for model=virtio: the e1000 has one pair; leave it out");
	return 0;
}

const struct net_forward *net_option_ssh(const struct net_option *o)
{
	for (unsigned i = 0; i < o->config.forward_count; i++)
		if (!o->forwards[i].udp && o->forwards[i].guest_port == SSH_PORT)
			return &o->forwards[i];
	return NULL;
}

void net_option_free(struct net_option *o) { free(o->text); }

void net_option_help(FILE *to)
{
	fputs("          user  the guest reaches what this process can reach; nobody reaches the "
	      "guest\n"
	      "          tap=INTERFACE  a tap interface that was made for you: ip tuntap add dev "
	      "NAME mode tap user YOU\n"
	      "          segment=NAME  your other machines with a segment of that name, and nobody "
	      "else\n"
	      "          none  no network (the default)\n"
	      "          forward=tcp|udp:[ADDRESS:]PORT:PORT  a port of the host leads to one of "
	      "the "
	      "guest's; several; with user\n"
	      "          mac=ADDRESS  the device's hardware address; each machine of a network "
	      "needs "
	      "its own\n"
	      "          capture=FILE  write what passes to a file, as pcapng\n"
	      "          bandwidth=SIZE  bytes a second that the guest sends at most, and gets, "
	      "with K, M or G\n"
	      "          queues=N  pairs of queues, 1 to 4 (default 1); with model=virtio\n"
	      "          model=virtio|e1000  which device the guest finds (default: virtio)\n"
	      "          packed  offer virtio's packed rings\n",
		to);
}
