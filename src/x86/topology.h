/*
 * Where a machine's processors are: packages of cores of threads, all alike, and the APIC ids that
 * say so. An id is three fields side by side, package, core and thread, the lower two of just as
 * many bits as their numbers need (SDM 3A 9.9.1, APM 3 E.5): three cores take two bits, and every
 * fourth id is nobody's.
 *
 * Processors are numbered from 0 thread by thread, then core by core, so that their APIC ids
 * ascend.
 */
#pragma once
#include "base/types.h"

/* Each at least 1; together at most 255, with ids below 255. */
struct x86_topology {
	unsigned sockets, cores, threads; /* in the machine, in each socket, in each core */
};

/* How most machines are made: one package. */
static inline struct x86_topology x86_topology_flat(unsigned cpus)
{
	return (struct x86_topology){ 1, cpus, 1 };
}

static inline unsigned x86_topology_package(const struct x86_topology *t)
{
	return t->cores * t->threads;
}

static inline unsigned x86_topology_count(const struct x86_topology *t)
{
	return t->sockets * x86_topology_package(t);
}

/* So many bits tell `count` things apart. */
static inline unsigned x86_topology_bits(unsigned count)
{
	unsigned bits = 0;

	while (BIT64(bits) < count)
		bits++;
	return bits;
}

static inline unsigned x86_topology_thread_bits(const struct x86_topology *t)
{
	return x86_topology_bits(t->threads);
}

static inline unsigned x86_topology_core_bits(const struct x86_topology *t)
{
	return x86_topology_bits(t->cores);
}

static inline unsigned x86_topology_package_bits(const struct x86_topology *t)
{
	return x86_topology_core_bits(t) + x86_topology_thread_bits(t);
}

static inline unsigned x86_topology_socket(const struct x86_topology *t, unsigned index)
{
	return index / x86_topology_package(t);
}

static inline u32 x86_topology_apic_id(const struct x86_topology *t, unsigned index)
{
	return x86_topology_socket(t, index) << x86_topology_package_bits(t) |
	       index / t->threads % t->cores << x86_topology_thread_bits(t) | index % t->threads;
}
