/*
 * --trace requests: the way of each disk request and each network frame through the parts that I/O
 * of a virtual machine has, with a time for each.
 *
 *   1 guest driver     puts the request into a ring in its memory, and writes to the doorbell
 *   2 virtual device   src/device: reads the ring, and what the request says
 *   3 channel          between the two worlds: struct disk_ops, struct net_ops; limits are here
 *   4 I/O stack        the host's: src/block with image formats and caches, src/net
 *   5 physical driver  the host's kernel, which is asked
 *   6 real device      and what it has the bytes from or sends them to
 *
 * and the way back, whose end is the guest's interrupt. A frame for the guest takes the same way
 * from 6 to 1.
 *
 * Nothing of this is in a device: what goes in or out of one is seen at its borders, by the
 * machine. A write to a register that comes before a request, from the same vcpu and with the
 * machine's lock held all the time, is its doorbell; an interrupt that a device sends before it
 * returns from being told of an answer is that answer's.
 *
 * Off, which is when there is no struct requests, it costs a test of a pointer where a request
 * passes. On, requests beyond FLIGHTS_MAX at the same time are counted, but not followed.
 *
 * Threads: with the machine's lock held.
 */
#pragma once
#include "block/block.h"
#include "net/net.h"
#include <stdio.h>

struct requests;

struct requests *requests_new(FILE *to); /* borrowed; NULL: no memory */
void requests_free(struct requests *q);	 /* prints what parts took on average; may be NULL */

/* A vcpu left guest code at that time to write to a register; and the device has done with it. */
void requests_rang(struct requests *q, unsigned cpu, u64 at);
void requests_rung(struct requests *q);
/* A message or a wire interrupts the guest. */
void requests_interrupt(struct requests *q);

/* Before a request is submitted to the disk's throttle: it is followed until done() is called. */
void requests_disk(struct requests *q, unsigned disk, struct block_request *r);

/* From the guest: before and after it went to the network. */
void requests_sends(struct requests *q);
void requests_sent(struct requests *q, unsigned nic, size_t len, const struct net_times *t);
/* For the guest: before and after it went to the device. */
void requests_receives(struct requests *q, const struct net_times *t);
void requests_received(struct requests *q, unsigned nic, size_t len);
