/* Scoped ownership: AUTO_FD, AUTO_FREE; steal_*() hands over to an owner that outlives the scope.
 */
#pragma once
#include "base/types.h"
#include <stdlib.h>
#include <unistd.h>

static inline void scope_close_(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
static inline void scope_free_(void *p) { free(*(void **)p); }

#define AUTO_FD	  __attribute__((cleanup(scope_close_))) int
#define AUTO_FREE __attribute__((cleanup(scope_free_)))

static inline int steal_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

#define steal_ptr(pp)                         \
	({                                    \
		typeof(*(pp)) taken_ = *(pp); \
		*(pp) = NULL;                 \
		taken_;                       \
	})
