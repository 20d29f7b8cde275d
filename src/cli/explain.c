/*
 * strata explain: a kernel's code and its translation, side by side. On the left the guest's
 * instruction; on the right what became of it, in words, and the code that runs instead.
 */
#include "machine/explain.h"
#include "cli/json.h"
#include "cli/verbs.h"
#include "machine/engines.h"
#include <errno.h>
#include <string.h>

#define COUNT_MOST   10000u
#define COUNT_AUTO   200u /* of a function, unless --count says otherwise */
#define LEFT	     34	  /* columns of the guest's side after the address */
#define MEMORY_START (512 * MiB)

struct values {
	const char *kernel, *at;
	u64 count;
	bool json;
};

struct shown {
	unsigned insns;
	u64 fates[EXPLAIN_FATES];
	u64 guest_bytes, host_bytes;
};

static const char *const fates[] = {
	[EXPLAIN_COPIED] = "copied",
	[EXPLAIN_REENCODED] = "re-encoded",
	[EXPLAIN_MEMORY] = "memory check",
	[EXPLAIN_LINK] = "chained jump",
	[EXPLAIN_LOOKUP] = "lookup",
	[EXPLAIN_HANDED] = "handed to the interpreter",
	[EXPLAIN_INLINE] = "emulated inline",
	[EXPLAIN_NOTHING] = "no code",
	[EXPLAIN_INTERPRETED] = "interpreted",
};
_Static_assert(ARRAY_LEN(fates) == EXPLAIN_FATES, "a name for each fate");

static void count(struct shown *s, const struct explain_insn *i)
{
	s->insns++;
	s->fates[i->fate]++;
	s->guest_bytes += i->guest.length;
	for (unsigned k = 0; k < i->host_count; k++)
		s->host_bytes += i->host[k].length;
}

/* ---- text ---- */

static const char *joined(enum explain_fate fate) { return fate == EXPLAIN_HANDED ? " " : ": "; }

static void text_heading(const struct explain_insn *i, bool again)
{
	printf("%s%s", again ? "\n" : "", i->symbol);
	if (i->offset)
		printf("+0x%llx", (unsigned long long)i->offset);
	printf(":\n");
}

static void text_insn(void *ctx, const struct explain_insn *i)
{
	struct shown *s = ctx;

	if (i->symbol && (!i->offset || !s->insns))
		text_heading(i, s->insns);
	else if (i->starts_block && s->insns)
		printf("\n");
	count(s, i);
	printf("%016llx  %-*s; %s%s%s\n", (unsigned long long)i->guest.at, LEFT, i->guest.text,
		fates[i->fate], joined(i->fate), i->why);
	for (unsigned k = 0; k < i->host_count; k++)
		printf("%*s%4llx  %s\n", 18 + LEFT, "", (unsigned long long)i->host[k].at,
			i->host[k].text);
}

static void text_sum(const struct shown *s)
{
	printf("\n%u instructions:", s->insns);
	for (unsigned f = 0, n = 0; f < EXPLAIN_FATES; f++)
		if (s->fates[f])
			printf("%s %llu %s", n++ ? "," : "", (unsigned long long)s->fates[f],
				fates[f]);
	printf("; %llu bytes became %llu, without the exits behind each block\n",
		(unsigned long long)s->guest_bytes, (unsigned long long)s->host_bytes);
}

/* ---- JSON ---- */

static void json_code(const struct explain_code *c)
{
	printf("{\"at\":\"0x%llx\",\"bytes\":\"", (unsigned long long)c->at);
	for (unsigned i = 0; i < c->length; i++)
		printf("%02x", c->bytes[i]);
	printf("\",\"text\":");
	json_print(stdout, c->text);
	printf("}");
}

static void json_insn(void *ctx, const struct explain_insn *i)
{
	struct shown *s = ctx;

	printf("%s\n{\"guest\":", s->insns ? "," : "");
	count(s, i);
	json_code(&i->guest);
	if (i->symbol) {
		printf(",\"symbol\":");
		json_print(stdout, i->symbol);
		printf(",\"offset\":%llu", (unsigned long long)i->offset);
	}
	printf(",\"starts_block\":%s,\"became\":\"%s\",\"why\":",
		i->starts_block ? "true" : "false", fates[i->fate]);
	json_print(stdout, i->why);
	printf(",\"host\":[");
	for (unsigned k = 0; k < i->host_count; k++) {
		printf("%s", k ? "," : "");
		json_code(&i->host[k]);
	}
	printf("]}");
}

/* ---- the verb ---- */

static int run(const void *values)
{
	const struct values *v = values;
	struct shown shown = { 0 };
	struct err err = { 0 };

	if (v->json)
		printf("[");
	int r = machine_explain(
		&(struct machine_explain){
			.engine = engines_named("translate"),
			.kernel = v->kernel,
			.at = v->at,
			.count = (unsigned)v->count,
			.most = COUNT_AUTO,
			.memory = MEMORY_START,
			.insn = v->json ? json_insn : text_insn,
			.ctx = &shown,
		},
		&err);
	if (v->json)
		printf("\n]\n");
	else if (shown.insns)
		text_sum(&shown);
	if (!r)
		return CLI_OK;
	fprintf(stderr, "strata: explain: %s\n", err.text);
	return r == -EINVAL ? CLI_USAGE : r == MACHINE_CANNOT ? CLI_CANNOT : CLI_FAILED;
}

#define AT(member) offsetof(struct values, member)

static const struct option_row options[] = {
	{ "kernel", "FILE", "bzImage or vmlinux", OPTION_TEXT, AT(kernel), .required = true },
	{ "at", "SYMBOL|ADDRESS", "where to begin; SYMBOL+OFFSET, too", OPTION_TEXT, AT(at),
		.required = true },
	{ "count", "N", "how many instructions (default: to the end of the function)",
		OPTION_NUMBER, AT(count), 1, COUNT_MOST },
	{ "json", NULL, "as a JSON array, one object for each instruction", OPTION_SWITCH,
		AT(json) },
	{ 0 },
};

static const char more[] =
	"The translator keeps guest RCX in host R10, and guest R10, R11 and R15 in memory. Host "
	"RCX, R11\n"
	"and R15 are its own; GS addresses its tables. Good places in Debian 12's kernels:\n"
	"  pv_native_irq_disable     cli\n"
	"  native_write_cr3          mov cr3\n"
	"  native_save_fl            pushf, pop\n"
	"  secondary_startup_64      popf, near its end, and much else of a processor's start\n"
	"  __x86_return_thunk        ret\n"
	"  native_flush_tlb_global   a whole function, with invpcid\n"
	"  entry_SYSCALL_64          swapgs, gs:, mov cr3\n"
	"  memcpy_orig, __memcpy     rep movs, and copying without it\n";

const struct verb verbs_explain = {
	.name = "explain",
	.doc = "show a kernel's code and what the translator makes of it, side by side",
	.options = options,
	.size = sizeof(struct values),
	.run = run,
	.more = more,
};
