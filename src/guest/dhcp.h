/*
 * DHCP's messages (RFC 2131, options: RFC 2132), as far as a client needs them that asks for an
 * address once. What a server says is whoever's on the network.
 */
#pragma once
#include "base/types.h"

#define DHCP_CLIENT	  68u /* ports */
#define DHCP_SERVER	  67u
#define DHCP_SIZE	  576u /* each client takes that much */
#define DHCP_NAME_SERVERS 3u   /* as many as resolv.conf(5) has */

enum dhcp_type { DHCP_DISCOVER = 1, DHCP_OFFER = 2, DHCP_REQUEST = 3, DHCP_ACK = 5 };

struct dhcp_client {
	u8 mac[6], id[4]; /* the latter of the exchange */
};

/* All zeros: it says nothing of that. */
struct dhcp_lease {
	u8 address[4], mask[4], router[4], server[4];
	u8 name_servers[DHCP_NAME_SERVERS][4];
};

/* What a client says, in DHCP_SIZE bytes; a request is for the lease that was offered. */
void dhcp_write(u8 *message, const struct dhcp_client *c, enum dhcp_type type,
	const struct dhcp_lease *offered);
/* false: it is none of that type for this client, or says no address. */
bool dhcp_read(const u8 *message, size_t len, const struct dhcp_client *c, enum dhcp_type type,
	struct dhcp_lease *lease);
