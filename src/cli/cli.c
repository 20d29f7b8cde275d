/* Dispatch: finds the verb, fills its options, runs it. */
#include "cli/cli.h"
#include "base/log.h"
#include "base/scope.h"
#include "cli/machines.h"
#include "cli/verbs.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

const struct verb *const cli_verbs[] = { &verbs_run, &verbs_create, &verbs_start, &verbs_ls,
	&verbs_top, &verbs_show, &verbs_console, &verbs_ssh, &verbs_exec, &verbs_stop, &verbs_kill,
	&verbs_pause, &verbs_resume, &verbs_reset, &verbs_attach, &verbs_detach, &verbs_balloon,
	&verbs_set, &verbs_save, &verbs_restore, &verbs_rm, &verbs_logs, &verbs_events,
	&verbs_image, &verbs_explain, &verbs_mem, &verbs_host, &verbs_isa_audit, &verbs_generate,
	&verbs_version, NULL };
#define VERBS (ARRAY_LEN(cli_verbs) - 1)

static void usage(FILE *to)
{
	fprintf(to, "usage: strata VERB [--option value]...\n\n");
	for (unsigned i = 0; i < VERBS; i++)
		fprintf(to, "  %-9s  %s\n", cli_verbs[i]->name, cli_verbs[i]->doc);
	fprintf(to, "  %-9s  %s\n", "help", "explain a verb and its options: strata help run");
}

static void verb_help(const struct verb *v, FILE *to)
{
	fprintf(to, "usage: strata %s", v->name);
	if (v->verbs) {
		fprintf(to, " VERB [--option value]...\n\n%s\n\n", v->doc);
		for (unsigned i = 0; v->verbs[i]; i++)
			fprintf(to, "  %-13s  %s\n", v->verbs[i]->name, v->verbs[i]->doc);
		return;
	}
	options_operands(v->options, to);
	fprintf(to, "%s\n\n%s\n", v->options->name ? " [--option value]..." : "", v->doc);
	if (v->options->name)
		fprintf(to, "\n");
	options_help(v->options, to);
	if (v->more)
		fprintf(to, "\n%s", v->more);
}

static const struct verb *find(const char *name)
{
	for (unsigned i = 0; i < VERBS; i++)
		if (!strcmp(cli_verbs[i]->name, name))
			return cli_verbs[i];
	return NULL;
}

static int unknown_verb(const char *name)
{
	const char *names[VERBS + 1] = { "help" };
	struct err err;

	for (unsigned i = 0; i < VERBS; i++)
		names[i + 1] = cli_verbs[i]->name;
	const char *near = options_nearest(name, names, ARRAY_LEN(names), sizeof(names[0]));

	if (near)
		err_set(&err, -EINVAL, "unknown verb %.64s; did you mean %s?", name, near);
	else
		err_set(&err, -EINVAL, "unknown verb %.64s; `strata help` lists them", name);
	fprintf(stderr, "strata: %s\n", err.text);
	return CLI_USAGE;
}

/* Steps down to the verb that argv begins with; NULL when a word is none, which *argv is then, or
 * is missing. */
static const struct verb *find_below(const struct verb *v, int *argc, char ***argv)
{
	while (v && v->verbs && *argc && (*argv)[0][0] != '-') {
		size_t prefix = strlen(v->name) + 1;
		const struct verb *const *at = v->verbs;

		while (*at && strcmp((*at)->name + prefix, (*argv)[0]))
			at++;
		v = *at;
		*argc -= v ? 1 : 0;
		*argv += v ? 1 : 0;
	}
	return v;
}

static int unknown_below(const struct verb *v, const char *word)
{
	fprintf(stderr, "strata: %s: %s%.64s; `strata help %s` lists what there is\n", v->name,
		word ? "unknown verb " : "a verb is missing", word ? word : "", v->name);
	return CLI_USAGE;
}

static int help(int argc, char **argv)
{
	const struct verb *v = argc ? find(argv[0]) : NULL, *below;

	if (argc && !v)
		return unknown_verb(argv[0]);
	if (!v) {
		usage(stdout);
		return CLI_OK;
	}
	argc--;
	argv++;
	below = find_below(v, &argc, &argv);
	if (!below)
		return unknown_below(v, argv[0]);
	verb_help(below, stdout);
	return CLI_OK;
}

static bool asks_help(int argc, char **argv)
{
	for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
			return true;
	return false;
}

static int run_one(const struct verb *v, int argc, char **argv)
{
	AUTO_FREE void *values = calloc(1, v->size + 1);
	struct err err = { 0 };

	if (!values) {
		fprintf(stderr, "strata: no memory\n");
		return CLI_FAILED;
	}
	if (v->defaults)
		v->defaults(values);
	if (options_parse(v->options, argc, argv, values, &err)) {
		fprintf(stderr, "strata: %s: %s\n", v->name, err.text);
		return CLI_USAGE;
	}
	return v->run(values);
}

static int run(const struct verb *v, int argc, char **argv)
{
	const struct verb *below = find_below(v, &argc, &argv);

	if (!below)
		return unknown_below(v, argv[0]);
	if (asks_help(argc, argv)) {
		verb_help(below, stdout);
		return CLI_OK;
	}
	return below->verbs ? unknown_below(below, argc ? argv[0] : NULL)
			    : run_one(below, argc, argv);
}

/* A descriptor that the parent has closed would otherwise become some file of ours, and be written
 * to. */
static void fill_standard_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

static int dispatch(int argc, char **argv)
{
	if (argc < 2) {
		usage(stderr);
		return CLI_USAGE;
	}
	if (!strcmp(argv[1], "help") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
		return help(argc - 2, argv + 2);
	if (!strcmp(argv[1], "--version"))
		return verbs_version.run(NULL);

	const struct verb *v = find(argv[1]);

	return v ? run(v, argc - 2, argv + 2) : unknown_verb(argv[1]);
}

int cli_main(int argc, char **argv)
{
	fill_standard_descriptors();
	int status = dispatch(argc, argv);

	/* What stdio still holds may not fit on a full disk; that is a failure, too. */
	if (fflush(stdout) && !status)
		status = CLI_FAILED;
	return status;
}
