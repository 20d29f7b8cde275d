#include "cli/admission.h"
#include "base/bits.h"
#include "base/scope.h"
#include "control/client.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOOK_MS 1000u

/* What programs may have without swapping: proc_meminfo(5). 0: it does not say. */
static u64 available(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned long long kib = 0;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return (u64)kib * 1024;
}

/* What it has already; 0 of one that cannot be asked, which is just starting perhaps. */
static u64 held(const struct store_machine *m)
{
	struct control_client c;
	struct err err = { 0 };
	json_t *status = NULL;
	u64 bytes = 0;

	if (client_open(&c, m->folder, LOOK_MS, &err))
		return 0;
	if (!client_ask(&c, "status", -1, LOOK_MS, &status, &err))
		bytes = (u64)json_integer_value(json_object_get(status, "host_memory"));
	json_decref(status);
	client_close(&c);
	return bytes;
}

struct owed {
	const char *but; /* NULL: to all */
	u64 bytes;
};

static void add_owed(const struct store_machine *m, void *ctx)
{
	struct owed *owed = ctx;
	struct store_outcome o;

	if ((owed->but && !strcmp(m->name, owed->but)) || store_state(m, &o) != STORE_RUNNING)
		return;
	u64 promised = store_promised(m);

	if (promised)
		owed->bytes += promised - min_u64(promised, held(m));
}

static u64 owed_to_all(const char *but)
{
	struct owed owed = { .but = but };
	char path[1100];
	struct err err = { 0 };

	/* Looking makes no folders. */
	if (!store_path(".", path, sizeof(path), &err) && !access(path, F_OK))
		store_each(add_owed, &owed);
	return owed.bytes;
}

static int decide(const char *name, u64 memory, struct err *err)
{
	u64 room = available(), owed = room ? owed_to_all(name) : 0;

	if (!room || (owed <= room && memory <= room - owed))
		return 0;
	if (!owed)
		return err_set(err, -ENOMEM,
			"the guest is to have %llu MiB of memory, and this host has %llu MiB left: "
			"ask for less with --memory, or --overcommit",
			(unsigned long long)(memory / MiB), (unsigned long long)(room / MiB));
	return err_set(err, -ENOMEM,
		"the guest is to have %llu MiB of memory, and of the %llu MiB that this host has "
		"left, %llu MiB are promised to machines that run: ask for less with --memory, "
		"stop one of them (`strata ls`), or --overcommit",
		(unsigned long long)(memory / MiB), (unsigned long long)(room / MiB),
		(unsigned long long)(owed / MiB));
}

int admission_ask(const struct store_machine *m, u64 memory, bool overcommit, struct err *err)
{
	if (!m)
		return overcommit ? 0 : decide(NULL, memory, err);
	AUTO_FD alone = store_alone(err);

	if (alone < 0)
		return alone;
	if (!overcommit && decide(m->name, memory, err))
		return err->code;
	return store_promise(m, memory, err);
}
