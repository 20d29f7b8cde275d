#include "guest/dhcp.h"
#include <string.h>

/* RFC 2131 figure 1. */
enum {
	AT_OP = 0,
	AT_HARDWARE = 1, /* 1: Ethernet */
	AT_MAC_LEN = 2,
	AT_ID = 4,
	AT_FLAGS = 10,
	AT_ADDRESS = 16,
	AT_MAC = 28,
	AT_COOKIE = 236,
	AT_OPTIONS = 240,
};

/* RFC 2132. */
enum {
	OPTION_PAD = 0,
	OPTION_MASK = 1,
	OPTION_ROUTER = 3,
	OPTION_NAME_SERVER = 6,
	OPTION_ADDRESS = 50,
	OPTION_TYPE = 53,
	OPTION_SERVER = 54,
	OPTION_WANTED = 55,
	OPTION_END = 255,
};

static const u8 cookie[4] = { 99, 130, 83, 99 };

static u8 *put_option(u8 *to, u8 option, const u8 *data, u8 len)
{
	to[0] = option;
	to[1] = len;
	memcpy(to + 2, data, len);
	return to + 2 + len;
}

void dhcp_write(u8 *message, const struct dhcp_client *c, enum dhcp_type type,
	const struct dhcp_lease *offered)
{
	static const u8 wanted[] = { OPTION_MASK, OPTION_ROUTER, OPTION_NAME_SERVER };
	const u8 kind = (u8)type;
	u8 *to = message + AT_OPTIONS;

	memset(message, 0, DHCP_SIZE);
	message[AT_OP] = 1;
	message[AT_HARDWARE] = 1;
	message[AT_MAC_LEN] = sizeof(c->mac);
	memcpy(message + AT_ID, c->id, sizeof(c->id));
	message[AT_FLAGS] = 0x80; /* by broadcast: there is no address yet */
	memcpy(message + AT_MAC, c->mac, sizeof(c->mac));
	memcpy(message + AT_COOKIE, cookie, sizeof(cookie));
	to = put_option(to, OPTION_TYPE, &kind, 1);
	to = put_option(to, OPTION_WANTED, wanted, sizeof(wanted));
	if (type == DHCP_REQUEST) {
		to = put_option(to, OPTION_ADDRESS, offered->address, 4);
		to = put_option(to, OPTION_SERVER, offered->server, 4);
	}
	*to = OPTION_END;
}

static bool is_none(const u8 *address)
{
	static const u8 none[4];

	return !memcmp(address, none, 4);
}

static void take(
	struct dhcp_lease *lease, enum dhcp_type *type, u8 option, const u8 *data, size_t len)
{
	u8 *to = option == OPTION_MASK	   ? lease->mask
		 : option == OPTION_ROUTER ? lease->router
		 : option == OPTION_SERVER ? lease->server
					   : NULL;

	if (option == OPTION_TYPE && len)
		*type = data[0];
	else if (to && len >= 4)
		memcpy(to, data, 4);
	else if (option == OPTION_NAME_SERVER)
		memcpy(lease->name_servers, data,
			len < sizeof(lease->name_servers) ? len & ~(size_t)3
							  : sizeof(lease->name_servers));
}

bool dhcp_read(const u8 *message, size_t len, const struct dhcp_client *c, enum dhcp_type type,
	struct dhcp_lease *lease)
{
	enum dhcp_type found = 0;

	*lease = (struct dhcp_lease){ 0 };
	if (len < AT_OPTIONS || message[AT_OP] != 2 ||
		memcmp(message + AT_ID, c->id, sizeof(c->id)) != 0 ||
		memcmp(message + AT_MAC, c->mac, sizeof(c->mac)) != 0 ||
		memcmp(message + AT_COOKIE, cookie, sizeof(cookie)) != 0)
		return false;
	memcpy(lease->address, message + AT_ADDRESS, 4);
	for (size_t at = AT_OPTIONS; at < len && message[at] != OPTION_END;) {
		if (message[at] == OPTION_PAD) {
			at++;
			continue;
		}
		if (len - at < 2 || len - at - 2 < message[at + 1])
			return false;
		take(lease, &found, message[at], message + at + 2, message[at + 1]);
		at += 2u + message[at + 1];
	}
	return found == type && !is_none(lease->address);
}
