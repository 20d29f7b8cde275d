#include "machine/requests.h"
#include "base/must.h"
#include "os/fd.h"
#include <stdatomic.h>
#include <stdlib.h>

#define FLIGHTS_MAX 64u /* disk requests at the same time, and frames at one ring of a doorbell */
#define ROWS_MAX    10u

/* Where a request has been, in the order in which it gets there. */
enum mark { NOWHERE, RANG, DEVICE, CHANNEL, STACK, DRIVER, REAL, ENDED, TOLD, INTERRUPT, MARKS };

/* A part's row begins at its mark and lasts until the next one that there was. */
struct row {
	enum mark mark; /* NOWHERE ends the list */
	const char *part, *what;
};

enum way_kind { DISK, TO_NET, FROM_NET };

static const struct row rows[][ROWS_MAX] = {
	[DISK] = { { RANG, "1 guest driver",
			   "has it in a ring, rings the doorbell and leaves guest code" },
		{ DEVICE, "2 virtual device", "reads the ring, and finds the guest's memory" },
		{ CHANNEL, "3 channel",
			"takes it to the host; where there are limits, it waits here" },
		{ STACK, "4 I/O stack", "looks up which bytes of which file they are" },
		{ DRIVER, "5 physical driver", "the host's kernel is asked" },
		{ REAL, "6 real device", "has it; in the end the event loop hears of it" },
		{ ENDED, "  I/O stack", "knows the answer, and waits for the machine's lock" },
		{ TOLD, "  virtual device", "puts the answer into the ring" },
		{ INTERRUPT, "  guest driver", "is interrupted" } },
	[TO_NET] = { { RANG, "1 guest driver",
			     "has it in a ring, rings the doorbell and leaves guest code" },
		{ DEVICE, "2 virtual device", "reads the ring, copies the frame and looks at it" },
		{ CHANNEL, "3,4 I/O stack",
			"gets it, captures it, makes it what the network takes" },
		{ DRIVER, "5,6 driver, device", "the host's socket or interface has it" },
		{ ENDED, "  virtual device", "gives the buffer back" },
		{ INTERRUPT, "  guest driver", "is interrupted" } },
	[FROM_NET] = { { REAL, "6 real device", "the host says that something has come" },
		{ DRIVER, "5 physical driver", "the host's kernel is asked for it" },
		{ STACK, "4 I/O stack", "has the frame, and takes off what is not the guest's" },
		{ CHANNEL, "3 channel", "takes it to the guest's side" },
		{ DEVICE, "2 virtual device", "puts it into the driver's buffers" },
		{ INTERRUPT, "1 guest driver", "is interrupted" } },
};

struct way {
	enum way_kind kind;
	unsigned op; /* of enum block_op */
	unsigned number;
	int cpu, rc;
	u64 offset, len;
	u64 at[MARKS];
};

struct flight {
	struct requests *q;
	struct way way;
	struct block_times times;
	void (*done)(struct block_request *r, int rc);
	bool used;
};

#define DISK_OPS   (BLOCK_ZERO + 1u)
#define MEAN_KINDS (DISK_OPS + 2)

struct mean {
	u64 count;
	struct {
		u64 ns, count;
	} rows[ROWS_MAX];
};

struct requests {
	FILE *to;
	u64 missed; /* for want of room */
	int cpu;    /* that rang; -1: no device is being written to */
	u64 rang, entered;
	struct way *current; /* its device is being told of it */
	struct way received; /* one at a time */
	u64 sends_at;
	struct way sent[FLIGHTS_MAX]; /* since the doorbell rang */
	unsigned sent_count;
	struct flight flights[FLIGHTS_MAX];
	struct mean means[MEAN_KINDS];
};

static const char *const disk_names[DISK_OPS] = {
	[BLOCK_READ] = "read",
	[BLOCK_WRITE] = "write",
	[BLOCK_FLUSH] = "flush",
	[BLOCK_DISCARD] = "discard",
	[BLOCK_ZERO] = "write of zeroes",
};

struct requests *requests_new(FILE *to)
{
	struct requests *q = calloc(1, sizeof(*q));

	if (!q)
		return NULL;
	q->to = to;
	q->cpu = -1;
	fputs("# Requests on their way: when each part begins with one, after the first did, and "
	      "how "
	      "long it takes, in microseconds\n",
		to);
	return q;
}

/* ---- printing ---- */

static u64 begins(const struct way *w)
{
	for (const struct row *r = rows[w->kind]; r->mark; r++)
		if (w->at[r->mark])
			return w->at[r->mark];
	return 0;
}

/* Until the next mark that there is; false: there is none. */
static bool lasts(const struct way *w, const struct row *r, u64 *ns)
{
	u64 from = w->at[r->mark];

	for (const struct row *n = r + 1; from && n->mark; n++)
		if (w->at[n->mark]) {
			*ns = w->at[n->mark] - from;
			return true;
		}
	return false;
}

static void print_title(FILE *to, const struct way *w)
{
	if (w->kind == DISK && w->op == BLOCK_FLUSH)
		fprintf(to, "\ndisk%u: flush", w->number);
	else if (w->kind == DISK)
		fprintf(to, "\ndisk%u: %s, %llu bytes at 0x%llx", w->number, disk_names[w->op],
			(unsigned long long)w->len, (unsigned long long)w->offset);
	else
		fprintf(to, "\nnet%u: frame %s the guest, %llu bytes", w->number,
			w->kind == TO_NET ? "from" : "for", (unsigned long long)w->len);
	if (w->cpu >= 0)
		fprintf(to, ", cpu%d", w->cpu);
	if (w->rc)
		fprintf(to, ", failed: %d", w->rc);
	fputc('\n', to);
}

static void print_row(FILE *to, const struct way *w, const struct row *r)
{
	double at = (double)(w->at[r->mark] - begins(w)) / 1000;
	u64 ns;

	if (lasts(w, r, &ns))
		fprintf(to, "  %-18s %9.1f %9.1f  %s\n", r->part, at, (double)ns / 1000, r->what);
	else
		fprintf(to, "  %-18s %9.1f %9s  %s\n", r->part, at, "", r->what);
}

static void print(struct requests *q, const struct way *w)
{
	flockfile(q->to);
	print_title(q->to, w);
	fprintf(q->to, "  %-18s %9s %9s\n", "part", "at", "takes");
	for (const struct row *r = rows[w->kind]; r->mark; r++)
		if (w->at[r->mark])
			print_row(q->to, w, r);
	if (!w->at[INTERRUPT])
		fprintf(q->to, "  (no interrupt of its own: the driver wanted none now)\n");
	funlockfile(q->to);
}

static void finish(struct requests *q, const struct way *w)
{
	struct mean *mean = &q->means[w->kind == DISK ? w->op : DISK_OPS + w->kind - TO_NET];

	mean->count++;
	for (unsigned i = 0; rows[w->kind][i].mark; i++) {
		u64 ns;

		if (lasts(w, &rows[w->kind][i], &ns)) {
			mean->rows[i].ns += ns;
			mean->rows[i].count++;
		}
	}
	print(q, w);
}

static void print_mean(FILE *to, unsigned kind, const struct mean *mean)
{
	enum way_kind way = kind < DISK_OPS ? DISK : kind - DISK_OPS + TO_NET;

	if (way == DISK)
		fprintf(to, "\n%llu of disks, %s: what parts took on average\n",
			(unsigned long long)mean->count, disk_names[kind]);
	else
		fprintf(to, "\n%llu frames %s the guest: what parts took on average\n",
			(unsigned long long)mean->count, way == TO_NET ? "from" : "for");
	for (unsigned i = 0; rows[way][i].mark; i++)
		if (mean->rows[i].count)
			fprintf(to, "  %-18s %9s %9.1f  %s\n", rows[way][i].part, "",
				(double)mean->rows[i].ns / (double)mean->rows[i].count / 1000,
				rows[way][i].what);
}

void requests_free(struct requests *q)
{
	if (!q)
		return;
	for (unsigned i = 0; i < MEAN_KINDS; i++)
		if (q->means[i].count)
			print_mean(q->to, i, &q->means[i]);
	if (q->missed)
		fprintf(q->to, "\n%llu more were not followed: too many at the same time\n",
			(unsigned long long)q->missed);
	free(q);
}

/* ---- doorbells and interrupts ---- */

void requests_rang(struct requests *q, unsigned cpu, u64 at)
{
	q->cpu = (int)cpu;
	q->rang = at;
	q->entered = fd_monotonic_ns();
}

void requests_rung(struct requests *q)
{
	for (unsigned i = 0; i < q->sent_count; i++)
		finish(q, &q->sent[i]);
	q->sent_count = 0;
	q->cpu = -1;
	q->rang = q->entered = 0;
}

/* Frames that were sent share the interrupt that tells of them. */
void requests_interrupt(struct requests *q)
{
	u64 now = fd_monotonic_ns();

	if (q->current) {
		if (!q->current->at[INTERRUPT])
			q->current->at[INTERRUPT] = now;
		return;
	}
	for (unsigned i = 0; i < q->sent_count; i++)
		if (!q->sent[i].at[INTERRUPT])
			q->sent[i].at[INTERRUPT] = now;
}

static struct way begin(const struct requests *q, enum way_kind kind, unsigned number)
{
	return (struct way){
		.kind = kind,
		.number = number,
		.cpu = q->cpu,
		.at = { [RANG] = q->rang, [DEVICE] = q->entered },
	};
}

/* ---- disks ---- */

static u64 noted(_Atomic u64 *at) { return atomic_load_explicit(at, memory_order_relaxed); }

static void disk_done(struct block_request *r, int rc)
{
	struct flight *f = container_of(r->times, struct flight, times);
	struct requests *q = f->q;
	struct way w = f->way, *outer = q->current;

	w.at[STACK] = noted(&f->times.begun);
	w.at[DRIVER] = noted(&f->times.io.given);
	w.at[REAL] = noted(&f->times.io.taken);
	w.at[ENDED] = noted(&f->times.ended);
	w.at[TOLD] = fd_monotonic_ns();
	w.rc = rc;
	r->done = f->done;
	r->times = NULL;
	f->used = false; /* the device may submit another one */
	q->current = &w;
	r->done(r, rc);
	q->current = outer;
	finish(q, &w);
}

static struct flight *free_flight(struct requests *q)
{
	for (unsigned i = 0; i < FLIGHTS_MAX; i++)
		if (!q->flights[i].used)
			return &q->flights[i];
	return NULL;
}

void requests_disk(struct requests *q, unsigned disk, struct block_request *r)
{
	struct flight *f = free_flight(q);

	if (!f) {
		q->missed++;
		return;
	}
	*f = (struct flight){ .q = q, .way = begin(q, DISK, disk), .done = r->done, .used = true };
	f->way.op = r->op;
	f->way.offset = r->offset;
	f->way.len = r->len;
	f->way.at[CHANNEL] = fd_monotonic_ns();
	r->done = disk_done;
	r->times = &f->times;
}

/* ---- networks ---- */

void requests_sends(struct requests *q) { q->sends_at = fd_monotonic_ns(); }

void requests_sent(struct requests *q, unsigned nic, size_t len, const struct net_times *t)
{
	struct way w = begin(q, TO_NET, nic);

	w.len = len;
	w.at[CHANNEL] = q->sends_at;
	w.at[DRIVER] = t->given;
	w.at[ENDED] = fd_monotonic_ns();
	if (q->cpu < 0) /* no doorbell: nobody will say that it is over */
		finish(q, &w);
	else if (q->sent_count < FLIGHTS_MAX)
		q->sent[q->sent_count++] = w;
	else
		q->missed++;
}

void requests_receives(struct requests *q, const struct net_times *t)
{
	q->received = (struct way){ .kind = FROM_NET, .cpu = -1 };
	q->received.at[REAL] = t->arrived;
	q->received.at[DRIVER] = t->asked;
	q->received.at[STACK] = t->delivered;
	q->received.at[CHANNEL] = fd_monotonic_ns();
	q->received.at[DEVICE] = fd_monotonic_ns();
	q->current = &q->received;
}

void requests_received(struct requests *q, unsigned nic, size_t len)
{
	q->current = NULL;
	q->received.number = nic;
	q->received.len = len;
	if (len) /* else it comes again */
		finish(q, &q->received);
}
