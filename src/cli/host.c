/*
 * strata host: what this host offers. Probing an engine may run a tiny guest program, so this shows
 * what
 * --engine auto would find, and why.
 */
#include "base/scope.h"
#include "cli/json.h"
#include "cli/verbs.h"
#include "machine/engines.h"
#include "os/sandbox.h"
#include "os/tsc.h"
#include "x86/cpuid.h"
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

struct values {
	bool json;
};

struct facts {
	char cpu[64], kernel[128];
	long cpus;
	u64 memory, free;
	u64 tsc_hz;
	const char *tsc_source;
};

/* Leaves 0x80000002 to 0x80000004: 48 characters (SDM 2A, CPUID), often padded with blanks. */
static void cpu_name(char name[64])
{
	char text[49] = "";
	u32 highest = x86_native_cpuid(0x80000000u, 0).eax;

	for (u32 i = 0; i < 3 && highest >= 0x80000004u; i++) {
		struct x86_cpuid c = x86_native_cpuid(0x80000002u + i, 0);

		memcpy(text + 16 * i, &c, 16);
	}
	char *from = text + strspn(text, " ");
	size_t len = strlen(from);

	while (len && from[len - 1] == ' ')
		len--;
	snprintf(name, 64, "%.*s", (int)len, len ? from : "unknown");
}

static struct facts gather(void)
{
	u64 page = (u64)sysconf(_SC_PAGESIZE);
	struct facts f = {
		.cpus = sysconf(_SC_NPROCESSORS_ONLN),
		.memory = (u64)sysconf(_SC_PHYS_PAGES) * page,
		.free = (u64)sysconf(_SC_AVPHYS_PAGES) * page,
		.tsc_hz = tsc_hz(),
		.tsc_source = tsc_source(),
	};
	struct utsname u;

	cpu_name(f.cpu);
	if (uname(&u) == 0)
		snprintf(f.kernel, sizeof(f.kernel), "%.40s %.80s", u.sysname, u.release);
	return f;
}

/* What is missing in each stage; where not even that can be found out, all of it is. */
static struct sandbox_report probe_sandbox(void)
{
	struct sandbox_report report = { 0 };
	struct err err = { 0 };

	fflush(stdout); /* the probe forks: nothing may be there to be written twice */
	if (sandbox_probe(&report, &err))
		for (unsigned i = 0; i < SANDBOX_STAGES; i++)
			report.stages[i] = err;
	return report;
}

static void show_sandbox_json(void)
{
	struct sandbox_report report = probe_sandbox();

	printf(",\"sandbox\":[");
	for (unsigned i = 0; i < SANDBOX_STAGES; i++) {
		const struct err *e = &report.stages[i];

		printf("%s{\"name\":\"%s\",\"complete\":%s,\"detail\":", i ? "," : "",
			sandbox_stage_name(i), e->code ? "false" : "true");
		json_print(stdout, e->text);
		printf("}");
	}
	printf("]");
}

static void show_sandbox_text(void)
{
	struct sandbox_report report = probe_sandbox();

	for (unsigned i = 0; i < SANDBOX_STAGES; i++) {
		const struct err *e = &report.stages[i];

		printf("sandbox    %-11s %s%s%s\n", sandbox_stage_name(i),
			e->code ? "incomplete" : "complete", e->text[0] ? ": " : "", e->text);
	}
}

static bool about(const struct cpu_engine *e, char *text, size_t size)
{
	if (e->about)
		e->about(text, size);
	return e->about;
}

static void show_json(const struct facts *f)
{
	printf("{\"cpu\":");
	json_print(stdout, f->cpu);
	printf(",\"cpus\":%ld,\"memory\":%llu,\"memory_free\":%llu,\"kernel\":", f->cpus,
		(unsigned long long)f->memory, (unsigned long long)f->free);
	json_print(stdout, f->kernel);
	printf(",\"tsc_hz\":%llu,\"tsc_source\":\"%s\",\"engines\":[",
		(unsigned long long)f->tsc_hz, f->tsc_source);
	for (unsigned i = 0; i < engines_count; i++) {
		struct err why = { 0 };
		bool usable = !engines[i]->probe(&why);
		char line[200];

		printf("%s{\"name\":\"%s\",\"usable\":%s,\"doc\":", i ? "," : "", engines[i]->name,
			usable ? "true" : "false");
		json_print(stdout, engines[i]->doc);
		if (!usable) {
			printf(",\"reason\":");
			json_print(stdout, why.text);
		}
		if (about(engines[i], line, sizeof(line))) {
			printf(",\"about\":");
			json_print(stdout, line);
		}
		printf("}");
	}
	printf("]");
	show_sandbox_json();
	printf("}\n");
}

static void show_text(const struct facts *f)
{
	printf("processor  %s, %ld online\n", f->cpu, f->cpus);
	printf("TSC        %.3f MHz (%s)\n", (double)f->tsc_hz / 1e6, f->tsc_source);
	printf("memory     %llu MiB, %llu MiB free\n", (unsigned long long)(f->memory / MiB),
		(unsigned long long)(f->free / MiB));
	printf("kernel     %s\n", f->kernel);
	for (unsigned i = 0; i < engines_count; i++) {
		struct err why = { 0 };
		bool usable = !engines[i]->probe(&why);
		char line[200];

		printf("engine     %-10s %s%s\n", engines[i]->name,
			usable ? "usable" : "not usable: ", usable ? "" : why.text);
		if (about(engines[i], line, sizeof(line)))
			printf("           %-10s %s\n", "", line);
	}
	show_sandbox_text();
}

static int run(const void *values)
{
	const struct values *v = values;
	struct facts f = gather();

	if (v->json)
		show_json(&f);
	else
		show_text(&f);
	return CLI_OK;
}

static const struct option_row options[] = {
	{ "json", NULL, "as one JSON object", OPTION_SWITCH, offsetof(struct values, json) },
	{ 0 },
};

const struct verb verbs_host = {
	.name = "host",
	.doc = "show what this host offers: processor, memory, and which engines and which parts of"
	       " the sandbox work here",
	.options = options,
	.size = sizeof(struct values),
	.run = run,
};
