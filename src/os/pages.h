/* Hints to the host about memory. */
#pragma once
#include "base/types.h"

/*
 * The private, anonymous memory in [at, at+size) is used at random: on huge pages, where the host
 * has them, it takes 2 MiB for the first byte that is used, and seldom misses the TLB, which under
 * a hypervisor costs two walks of page tables in one. Before it is used.
 */
void pages_huge(void *at, size_t size);

/* All bytes of private, anonymous memory become 0; whole pages of it go back to the host. */
void pages_forget(void *at, size_t size);
