/*
 * Attention: how other threads reach a vcpu.
 *
 * The poster sets bits, then looks whether the vcpu sleeps; the vcpu announces that it sleeps, then
 * looks at the bits. Both orders are sequentially consistent, so at least one sees the other; and
 * the kernel compares the word once more before it puts the thread to sleep.
 */
#include "cpu/vcpu.h"
#include "os/futex.h"
#include <stdatomic.h>

void vcpu_post(struct vcpu *v, u32 attention)
{
	atomic_fetch_or(&v->attention, attention);
	if (atomic_load(&v->sleeping))
		futex_wake_all(&v->attention);
	else if (v->engine->kick)
		v->engine->kick(v);
}

void vcpu_sleep(struct vcpu *v, u32 wake)
{
	u32 now;

	atomic_store(&v->sleeping, true);
	while (!((now = atomic_load(&v->attention)) & wake))
		futex_wait(&v->attention, now);
	atomic_store(&v->sleeping, false);
}
