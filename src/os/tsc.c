#include "os/tsc.h"
#include "os/fd.h"
#include <cpuid.h>
#include <pthread.h>
#include <time.h>

#define LEAF_FEATURES		0x1u
#define FEATURES_ECX_HYPERVISOR BIT(31)
#define LEAF_TSC		0x15u
#define LEAF_HYPERVISOR		0x40000000u
#define LEAF_HYPERVISOR_TIMING	0x40000010u

/* What a TSC of this century can run at; anything else is a leaf that means something different. */
#define HZ_MIN 100000000ull
#define HZ_MAX 20000000000ull

#define MEASURE_NS 10000000
#define READINGS   8

static struct {
	pthread_once_t once;
	u64 hz;
	const char *source;
} found = { .once = PTHREAD_ONCE_INIT };

static bool plausible(u64 hz) { return hz >= HZ_MIN && hz <= HZ_MAX; }

static u64 from_hypervisor(void)
{
	u32 a, b, c, d;

	__cpuid(LEAF_FEATURES, a, b, c, d);
	if (!(c & FEATURES_ECX_HYPERVISOR))
		return 0;
	__cpuid(LEAF_HYPERVISOR, a, b, c, d);
	if (a < LEAF_HYPERVISOR_TIMING || a > LEAF_HYPERVISOR + 0xffff)
		return 0;
	__cpuid(LEAF_HYPERVISOR_TIMING, a, b, c, d);
	return a * 1000ull;
}

static u64 from_crystal(void)
{
	u32 a, b, c, d;

	if ((u32)__get_cpuid_max(0, NULL) < LEAF_TSC)
		return 0;
	__cpuid_count(LEAF_TSC, 0, a, b, c, d);
	return a ? (u64)c * b / a : 0;
}

struct instant {
	u64 tsc, ns;
};

/* Of several readings the one whose clock call took least: the least disturbed. */
static struct instant read_both(void)
{
	struct instant best = { 0 };
	u64 narrowest = ~0ull;

	for (unsigned i = 0; i < READINGS; i++) {
		u64 before = tsc_read();
		u64 ns = fd_monotonic_ns();
		u64 width = tsc_read() - before;

		if (width < narrowest) {
			narrowest = width;
			best = (struct instant){ .tsc = before + width / 2, .ns = ns };
		}
	}
	return best;
}

static u64 measured(void)
{
	struct instant from = read_both();
	nanosleep(&(struct timespec){ .tv_nsec = MEASURE_NS }, NULL);
	struct instant to = read_both();

	return (u64)((u128)(to.tsc - from.tsc) * 1000000000u / (to.ns - from.ns));
}

static void find(void)
{
	static const struct {
		const char *name;
		u64 (*hz)(void);
	} sources[] = {
		{ "hypervisor", from_hypervisor },
		{ "cpuid", from_crystal },
		{ "measured", measured },
	};

	for (unsigned i = 0; i < ARRAY_LEN(sources); i++) {
		found.hz = sources[i].hz();
		found.source = sources[i].name;
		if (plausible(found.hz))
			return;
	}
}

u64 tsc_hz(void)
{
	pthread_once(&found.once, find);
	return found.hz;
}

const char *tsc_source(void)
{
	pthread_once(&found.once, find);
	return found.source;
}
