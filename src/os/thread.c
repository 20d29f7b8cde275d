#include "os/thread.h"
#include <string.h>

int thread_start(pthread_t *t, const char *name, void *(*run)(void *), void *ctx, struct err *err)
{
	int rc = pthread_create(t, NULL, run, ctx);

	if (rc)
		return err_set(err, -rc, "thread %s: %s", name, strerror(rc));
	pthread_setname_np(*t, name); /* cut at 15 characters by the kernel; only cosmetic */
	return 0;
}
