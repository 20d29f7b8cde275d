/*
 * The network as a container's host would have set it up: lo is up, each Ethernet device has the
 * address and the way out that DHCP says, and /etc/resolv.conf and /etc/hosts are there.
 *
 * Both files are written where there are none, empty ones, or those that were written by an earlier
 * start.
 */
#pragma once

void network_begin(const char *host);
