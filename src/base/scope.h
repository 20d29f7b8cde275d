/* Scoped ownership: AUTO_FD, AUTO_FREE; steal_*() hands over to an owner that outlives the scope.
 * AUTO_LOCK(&mutex): held until the scope ends. */
#pragma once
#include "base/types.h"
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static inline void scope_close_(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
static inline void scope_free_(void *p) { free(*(void **)p); }

static inline pthread_mutex_t *scope_lock_(pthread_mutex_t *m)
{
	pthread_mutex_lock(m);
	return m;
}
static inline void scope_unlock_(pthread_mutex_t **m) { pthread_mutex_unlock(*m); }

#define AUTO_LOCK(mutex)                                                           \
	__attribute__((cleanup(scope_unlock_), unused)) pthread_mutex_t *locked_ = \
		scope_lock_(mutex)
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
