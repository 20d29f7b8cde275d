/* Memory in whole pages of the host, and hints to it about them. */
#pragma once
#include "base/types.h"

/* All zero, and of no cost until it is touched; NULL: there is no room. */
void *pages_new(size_t size);
void pages_free(void *at, size_t size); /* NULL: nothing */

/*
 * The private, anonymous memory in [at, at+size) is used at random: on huge pages, where the host
 * has them, it takes 2 MiB for the first byte that is used, and seldom misses the TLB, which under
 * a hypervisor costs two walks of page tables in one. Before it is used.
 */
void pages_huge(void *at, size_t size);

/* All bytes of private, anonymous memory become 0; whole pages of it go back to the host. */
void pages_forget(void *at, size_t size);
