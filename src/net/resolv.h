/* Which name server the host uses. */
#pragma once
#include "base/types.h"

/* The first IPv4 name server in a file of resolv.conf's form, in host order; 0: none. */
u32 resolv_read(const char *path);
/* The one a guest can reach: a server on this host's loopback gives `host`, its address for the
 * guest. 0: there is none. */
u32 resolv_find(u32 host);
