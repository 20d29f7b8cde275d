/*
 * Once the sandbox is entered, nobody reads /etc/resolv.conf any more, so its name server is looked
 * up at the start and given to the guest by DHCP. Where it is a local stub (systemd-resolved), the
 * servers behind it are asked, if they are known.
 */
#include "net/resolv.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define LINES_MAX 200u

static bool is_loopback(u32 address) { return address >> 24 == 127; }

u32 resolv_read(const char *path)
{
	FILE *f = fopen(path, "re");
	struct in_addr address;
	char line[256], text[64];
	u32 found = 0;

	for (unsigned i = 0; f && !found && i < LINES_MAX && fgets(line, sizeof(line), f); i++)
		if (sscanf(line, " nameserver %63s", text) == 1 &&
			inet_pton(AF_INET, text, &address) == 1)
			found = ntohl(address.s_addr);
	if (f)
		fclose(f);
	return found;
}

u32 resolv_find(u32 host)
{
	u32 first = resolv_read("/etc/resolv.conf");
	u32 behind = is_loopback(first) ? resolv_read("/run/systemd/resolve/resolv.conf") : 0;

	if (!is_loopback(first))
		return first;
	return behind && !is_loopback(behind) ? behind : host;
}
