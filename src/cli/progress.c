#include "cli/progress.h"
#include "os/fd.h"
#include <stdio.h>
#include <unistd.h>

#define FIRST_NS 500000000ull
#define EACH_NS	 100000000ull
#define WIDTH	 40u

void progress_begin(struct progress *p, const char *what)
{
	*p = (struct progress){
		.what = what, .started = fd_monotonic_ns(), .terminal = isatty(STDERR_FILENO) == 1
	};
}

void progress_show(void *ctx, u64 done, u64 total)
{
	static const char full[] = "########################################";
	struct progress *p = ctx;
	u64 now = p->terminal ? fd_monotonic_ns() : 0;

	if (!p->terminal || now - p->started < FIRST_NS || now - p->shown < EACH_NS)
		return;
	double part = total ? (double)done / (double)total : 1;

	p->shown = now;
	p->drawn = true;
	fprintf(stderr, "\r%s [%-*.*s] %3.0f %%", p->what, (int)WIDTH, (int)(part * WIDTH), full,
		part * 100);
}

void progress_end(struct progress *p)
{
	if (p->drawn)
		fprintf(stderr, "\r\033[K");
}
