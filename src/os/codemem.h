/*
 * Memory for host code that we generate.
 *
 * One memfd is mapped twice: through `rw` it is written, through `rx` it runs. No mapping is ever
 * writable and executable at once, so neither W^X hosts nor a stray write through a code pointer
 * can turn data into code. x86 keeps instruction fetch coherent with stores through another
 * mapping of the same physical page (SDM 3A 11.6 asks for a jump before modified code runs, which
 * calling it is), so nothing has to be flushed on the thread that wrote; code that another thread
 * may be running must not be changed.
 *
 * Threads: as the owner arranges; the arena itself has no state that changes.
 */
#pragma once
#include "base/err.h"
#include "base/must.h"
#include "base/types.h"

struct codemem {
	u8 *rw;
	const u8 *rx;
	size_t size;
};

/* size is rounded up to pages; pages cost host memory only once written. The running view replaces
 * what the caller has mapped at `at` (NULL: it goes anywhere). */
NODISCARD int codemem_open(struct codemem *c, size_t size, void *at, struct err *err);
void codemem_close(struct codemem *c); /* also of a zeroed or failed arena */
/* Whole pages in [from, end) go back to the host; what is in there is lost. */
void codemem_forget(struct codemem *c, size_t from, size_t end);

/* The same byte in the other view. */
static inline const void *codemem_rx(const struct codemem *c, const void *rw)
{
	size_t at = (size_t)((const u8 *)rw - c->rw);

	check(at <= c->size);
	return c->rx + at;
}
static inline void *codemem_rw(const struct codemem *c, const void *rx)
{
	size_t at = (size_t)((const u8 *)rx - c->rx);

	check(at <= c->size);
	return c->rw + at;
}
/* Is the host address in this arena's running view? For signal handlers and unwinders. */
static inline bool codemem_has(const struct codemem *c, const void *rx)
{
	return (size_t)((const u8 *)rx - c->rx) < c->size;
}
