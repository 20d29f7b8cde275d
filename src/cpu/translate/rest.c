/*
 * Rest: a machine that does next to nothing gives back what its engine can make again.
 *
 * All code is made anew when it runs next, so what is taken from a machine that wakes up is a part
 * of a second. What it gives is most of what a machine takes beside the guest's own memory, which
 * is what a host with many of them runs out of first.
 */
#include "cpu/translate/translate_priv.h"
#include <x86intrin.h>

#define REST_HALTS   128u      /* with rest-often */
#define REST_SECONDS 30u       /* it is looked at so often ... */
#define REST_PART    50u       /* ... and rests if it ran for no more than this part of them ... */
#define REST_WORTH   (4 * MiB) /* ... and its blocks have descriptors of more than this */

void rest_halted(struct translator *t, u64 entered)
{
	u64 now = __rdtsc();

	if (t->options & OPTION_REST_OFTEN && !(++t->halts % REST_HALTS)) {
		tcache_forget(t);
		return;
	}
	if (!t->rest_since)
		t->rest_since = entered;
	t->rest_ran += now - entered;
	u64 took = now - t->rest_since;
	if (took < REST_SECONDS * t->c->v->x86.model->tsc_hz)
		return;
	bool idle = t->rest_ran < took / REST_PART;
	t->rest_since = now;
	t->rest_ran = 0;
	if (idle && t->pool_used > REST_WORTH && !(t->options & OPTION_NO_REST))
		tcache_forget(t);
}
