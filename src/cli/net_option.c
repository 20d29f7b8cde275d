#include "cli/net_option.h"
#include "base/scope.h"
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

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
	if (!value || strcmp(item, "forward"))
		return err_set(err, -EINVAL, "no option %.40s; --help lists them", item);
	if (o->config.forward_count == NET_FORWARDS_MAX)
		return err_set(err, -EINVAL, "more than %u forwards", NET_FORWARDS_MAX);
	return parse_forward(value, &o->forwards[o->config.forward_count++], err);
}

int net_option_parse(const char *text, struct net_option *o, bool *wanted, struct err *err)
{
	AUTO_FREE char *copy = strdup(text ? text : "none");
	char *rest = copy, *item = strsep(&rest, ",");

	*o = (struct net_option){ .config.forwards = o->forwards };
	*wanted = !strcmp(item, "user");
	if (!*wanted && strcmp(text ? text : "none", "none"))
		return err_set(err, -EINVAL, "--net %.64s: must be user or none", text);
	while ((item = strsep(&rest, ",")))
		if (set(o, item, err))
			return err_wrap(err, "--net");
	return 0;
}

void net_option_help(FILE *to)
{
	fputs("          user  the guest reaches what this process can reach; nobody reaches the "
	      "guest\n"
	      "          none  no network (the default)\n"
	      "          forward=tcp|udp:[ADDRESS:]PORT:PORT  a port of the host leads to one of "
	      "the "
	      "guest's; several\n"
	      "          mac=ADDRESS  the device's hardware address\n"
	      "          packed  offer virtio's packed rings\n",
		to);
}
