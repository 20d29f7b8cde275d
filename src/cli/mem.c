/*
 * strata mem translate: how the address of a kernel's code or data becomes an address of the host,
 * level by level, in the tables that the kernel starts with.
 */
#include "cli/json.h"
#include "cli/verbs.h"
#include "machine/address.h"
#include "machine/engines.h"
#include <errno.h>
#include <string.h>

#define MEMORY_START (512 * MiB)

struct values {
	const char *kernel, *at;
	bool json;
};

/* As the manual calls them (SDM 3A tables 4-4 to 4-20). */
static const struct {
	u64 bit;
	const char *name;
} flags[] = {
	{ X86_PTE_P, "P" },
	{ X86_PTE_W, "R/W" },
	{ X86_PTE_U, "U/S" },
	{ X86_PTE_PWT, "PWT" },
	{ X86_PTE_PCD, "PCD" },
	{ X86_PTE_A, "A" },
	{ X86_PTE_D, "D" },
	{ X86_PTE_PS, "PS" },
	{ X86_PTE_G, "G" },
	{ X86_PTE_NX, "XD" },
};

/* By the lowest linear-address bit that indexes it and the size of its entries. */
static const char *table_name(unsigned shift, unsigned entry_size)
{
	switch (shift) {
	case 39: return "PML4";
	case 30: return "PDPT";
	case 12: return "PT";
	default: return entry_size == 4 || shift == 21 ? "PD" : "?";
	}
}

static const char *size_name(u64 size)
{
	return size == GiB	 ? "1 GiB"
	       : size == 4 * MiB ? "4 MiB"
	       : size == 2 * MiB ? "2 MiB"
				 : "4 KiB";
}

static const char *const ends[] = {
	[X86_WALK_PAGE] = "page",
	[X86_WALK_NOT_PRESENT] = "not present",
	[X86_WALK_RESERVED] = "reserved bits",
};

/* ---- text ---- */

static void text_linear(const struct machine_address *a)
{
	printf("linear    %016llx", (unsigned long long)a->linear);
	if (a->symbol[0])
		printf("  %s", a->symbol);
	if (a->symbol[0] && a->offset)
		printf("+0x%llx", (unsigned long long)a->offset);
	printf("\n");
}

static void text_levels(const struct x86_walk *w)
{
	for (unsigned i = 0; i < w->depth; i++) {
		u64 entry = w->level[i].entry;

		printf("  %-4s [%3u]  at %012llx: %016llx ", table_name(w->level[i].shift, w->size),
			w->level[i].index, (unsigned long long)w->level[i].at.v,
			(unsigned long long)entry);
		for (unsigned f = 0; f < ARRAY_LEN(flags); f++)
			if (entry & flags[f].bit)
				printf(" %s", flags[f].name);
		if (i + 1 == w->depth && w->end == X86_WALK_PAGE)
			printf("; maps %s", size_name(w->to.page_size));
		else if (i + 1 == w->depth)
			printf("; %s", ends[w->end]);
		printf("\n");
	}
	if (!w->depth)
		printf("  paging is off\n");
}

static void text_memory(const struct machine_address *a)
{
	const struct x86_xlat *to = &a->walk.to;

	printf("physical  %016llx  %s, %s, %s%s\n", (unsigned long long)to->gpa.v,
		to->user ? "user" : "supervisor", to->writable ? "writable" : "read-only",
		to->executable ? "executable" : "not executable", to->global ? ", global" : "");
	if (a->host)
		printf("host      %016llx  byte 0x%llx of \"%s\"%s\n",
			(unsigned long long)(uintptr_t)a->host, (unsigned long long)a->in_region,
			a->region, a->rom ? ", read-only" : "");
	else
		printf("host      none: no memory is there, accesses go to the bus\n");
}

static void text(const struct machine_address *a)
{
	text_linear(a);
	if (a->walk.depth)
		printf("CR3       %016llx\n", (unsigned long long)a->cr3);
	text_levels(&a->walk);
	if (a->walk.end == X86_WALK_PAGE)
		text_memory(a);
	else
		printf("physical  none: a page fault\n");
}

/* ---- JSON ---- */

static void json_number(const char *name, u64 value)
{
	printf("\"%s\":\"0x%llx\"", name, (unsigned long long)value);
}

static void json_levels(const struct x86_walk *w)
{
	for (unsigned i = 0; i < w->depth; i++) {
		printf("%s{\"table\":\"%s\",\"index\":%u,", i ? "," : "",
			table_name(w->level[i].shift, w->size), w->level[i].index);
		json_number("at", w->level[i].at.v);
		printf(",");
		json_number("entry", w->level[i].entry);
		printf(",\"flags\":[");
		for (unsigned f = 0, n = 0; f < ARRAY_LEN(flags); f++)
			if (w->level[i].entry & flags[f].bit)
				printf("%s\"%s\"", n++ ? "," : "", flags[f].name);
		printf("]}");
	}
}

static const char *json_bool(bool b) { return b ? "true" : "false"; }

static void json(const struct machine_address *a)
{
	const struct x86_xlat *to = &a->walk.to;

	printf("{");
	json_number("linear", a->linear);
	if (a->symbol[0]) {
		printf(",\"symbol\":");
		json_print(stdout, a->symbol);
		printf(",\"offset\":%llu", (unsigned long long)a->offset);
	}
	printf(",");
	json_number("cr3", a->cr3);
	printf(",\"levels\":[");
	json_levels(&a->walk);
	printf("],\"end\":\"%s\"", ends[a->walk.end]);
	if (a->walk.end == X86_WALK_PAGE) {
		printf(",");
		json_number("physical", to->gpa.v);
		printf(",\"page_size\":%llu,\"user\":%s,\"writable\":%s,\"executable\":%s",
			(unsigned long long)to->page_size, json_bool(to->user),
			json_bool(to->writable), json_bool(to->executable));
	}
	if (a->host) {
		printf(",");
		json_number("host", (u64)(uintptr_t)a->host);
		printf(",\"region\":\"%s\",", a->region);
		json_number("in_region", a->in_region);
	}
	printf("}\n");
}

/* ---- the verb ---- */

static int run_translate(const void *values)
{
	const struct values *v = values;
	struct machine_address a = {
		.engine = engines_named("interpret"),
		.kernel = v->kernel,
		.at = v->at,
		.memory = MEMORY_START,
	};
	struct err err = { 0 };

	int r = machine_address(&a, &err);
	if (r) {
		fprintf(stderr, "strata: mem translate: %s\n", err.text);
		return r == -EINVAL ? CLI_USAGE : r == MACHINE_CANNOT ? CLI_CANNOT : CLI_FAILED;
	}
	(v->json ? json : text)(&a);
	return a.walk.end == X86_WALK_PAGE ? CLI_OK : CLI_FAILED;
}

#define AT(member) offsetof(struct values, member)

static const struct option_row options[] = {
	{ "kernel", "FILE", "bzImage or vmlinux", OPTION_TEXT, AT(kernel), .required = true },
	{ "at", "SYMBOL|ADDRESS", "which address; SYMBOL+OFFSET, too", OPTION_TEXT, AT(at),
		.required = true },
	{ "json", NULL, "as a JSON object", OPTION_SWITCH, AT(json) },
	{ 0 },
};

static const struct verb translate_verb = {
	.name = "mem translate",
	.doc = "show how an address becomes one of the host, level by level",
	.options = options,
	.size = sizeof(struct values),
	.run = run_translate,
	.more = "The kernel is loaded as `strata run` does, and mapped where it will run; nothing "
		"has run.\nExit status 1: the address is not mapped.\n",
};

static const struct verb *const below[] = { &translate_verb, NULL };

const struct verb verbs_mem = {
	.name = "mem",
	.doc = "look at a machine's memory",
	.verbs = below,
};
