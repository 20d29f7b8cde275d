/* A bar on standard error, for whatever takes longer than a moment; only on a terminal. */
#pragma once
#include "base/types.h"

struct progress {
	const char *what;
	u64 started, shown; /* ns */
	bool terminal, drawn;
};

void progress_begin(struct progress *p, const char *what);
void progress_show(void *p, u64 done, u64 total); /* a struct progress; often: it draws seldom */
void progress_end(struct progress *p);		  /* leaves an empty line */
