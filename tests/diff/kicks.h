/* Where the translator's signal finds its thread: a signal handler in front of its own counts. */
#pragma once
#include "base/types.h"

struct vcpu;

struct kicks {
	u64 in_block;  /* in a translated block */
	u64 in_stub;   /* in a way into the code cache, or out */
	u64 elsewhere; /* in C, about to enter or just having left */
};

/* From now on; of the vcpu of the translator that was opened last. */
void kicks_watch(struct vcpu *v);
struct kicks kicks_counted(void);
