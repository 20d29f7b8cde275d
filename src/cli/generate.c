/*
 * strata generate: shell completion and the manual page, from the tables that parsing and help come
 * from. The build runs it.
 */
#include "cli/cli.h"
#include "cli/verbs.h"
#include "cli/version.h"
#include <stdlib.h>
#include <string.h>

enum { BASH, MAN };

struct values {
	unsigned kind;
};

/* Calls fn for each verb that does something, those below others included. */
static void each_verb(const struct verb *const *verbs, void (*fn)(const struct verb *v))
{
	for (; *verbs; verbs++)
		if ((*verbs)->verbs)
			each_verb((*verbs)->verbs, fn);
		else
			fn(*verbs);
}

/* ---- bash ---- */

/* A verb's last word: what stands on the command line where it is chosen. */
static const char *last_word(const struct verb *v)
{
	const char *space = strrchr(v->name, ' ');

	return space ? space + 1 : v->name;
}

/* Every verb, as a pattern of `case`. */
static void print_patterns(const struct verb *const *verbs, bool *first)
{
	for (; *verbs; verbs++) {
		printf("%s'%s'", *first ? "" : "|", (*verbs)->name);
		*first = false;
		if ((*verbs)->verbs)
			print_patterns((*verbs)->verbs, first);
	}
}

static void print_words(const char *name, const struct verb *const *verbs)
{
	printf("\t'%s') words='", name);
	for (unsigned i = 0; verbs[i]; i++)
		printf("%s%s", i ? " " : "", last_word(verbs[i]));
	printf("%s' ;;\n", *name ? "" : " help");
	for (; *verbs; verbs++)
		if ((*verbs)->verbs)
			print_words((*verbs)->name, (*verbs)->verbs);
}

/* What may follow an option: its choices, or a file, which an empty list means. */
static void print_values(const struct option_row *row)
{
	if (row->kind == OPTION_SWITCH || options_stands_alone(row))
		return;
	printf("\t\t--%s) words='", row->name);
	for (unsigned i = 0; row->choices && row->choices[i]; i++)
		printf("%s%s", i ? " " : "", row->choices[i]);
	printf("' ;;\n");
}

static void print_verb_case(const struct verb *v)
{
	const char *list = NULL;

	printf("\t'%s')\n\t\tcase \"$prev\" in\n", v->name);
	for (const struct option_row *row = v->options; row->name; row++)
		print_values(row);
	printf("\t\t*) words='");
	for (const struct option_row *row = v->options; row->name; row++)
		if (!options_stands_alone(row))
			printf("--%s ", row->name);
		else if (!strcmp(row->name, "NAME"))
			list = "ls";
		else if (!strcmp(row->name, "IMAGE"))
			list = "image ls";
	printf("--help'");
	if (list)
		printf("; [[ $cur == -* ]] || words=$(\"${COMP_WORDS[0]}\" %s 2>/dev/null | "
		       "awk 'NR > 1 { print $1 }')",
			list);
	printf(" ;;\n\t\tesac ;;\n");
}

static void print_bash(void)
{
	bool first = true;

	printf("# Bash completion of strata %s, made by `strata generate --for bash`.\n"
	       "_strata() {\n"
	       "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}\n"
	       "\tlocal verb='' words='' i\n"
	       "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	       "\t\t[[ $i == 1 && ${COMP_WORDS[1]} == help ]] && continue\n"
	       "\t\tcase \"$verb${verb:+ }${COMP_WORDS[i]}\" in\n\t\t",
		STRATA_VERSION);
	print_patterns(cli_verbs, &first);
	printf(") verb+=${verb:+ }${COMP_WORDS[i]} ;;\n"
	       "\t\t*) break ;;\n"
	       "\t\tesac\n"
	       "\tdone\n"
	       "\tcase \"$verb\" in\n");
	print_words("", cli_verbs);
	each_verb(cli_verbs, print_verb_case);
	/* Words where there are some; else -o default in the last line has files. */
	printf("\tesac\n"
	       "\tmapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
	       "}\n"
	       "complete -o default -F _strata strata\n");
}

/* ---- the manual page ---- */

/* Text for troff: what it would take for its own is escaped (groff(7), "Escape sequences"). */
static void print_text(const char *text)
{
	bool begins = true;

	for (; *text; text++) {
		if (begins && (*text == '.' || *text == '\''))
			fputs("\\&", stdout);
		if (*text == '\\')
			fputs("\\e", stdout);
		else if (*text == '-')
			fputs("\\-", stdout);
		else
			fputc(*text, stdout);
		begins = *text == '\n';
	}
}

/* What help has below an option, with its lines and columns. */
static void print_more(const struct option_row *row)
{
	char *text = NULL;
	size_t len;
	FILE *to = row->more ? open_memstream(&text, &len) : NULL;

	if (!to)
		return;
	row->more(to);
	if (!fclose(to) && len) {
		printf("\n.nf\n");
		print_text(text);
		printf(".fi");
	}
	free(text);
}

static void print_option(const struct option_row *row)
{
	printf(".TP\n");
	if (options_stands_alone(row)) {
		printf(".I ");
		print_text(row->name);
	} else {
		printf(".BR \\-\\-");
		print_text(row->name);
		if (row->value) {
			printf(" \" \\fI");
			print_text(row->value);
			printf("\\fP\"");
		}
	}
	printf("\n");
	print_text(row->doc);
	print_more(row);
	printf("\n");
}

static void print_verb(const struct verb *v)
{
	printf(".SS \"strata ");
	print_text(v->name);
	options_operands(v->options, stdout);
	printf("%s\"\n", v->options->name ? " [options]" : "");
	print_text(v->doc);
	printf("\n");
	for (const struct option_row *row = v->options; row->name; row++)
		print_option(row);
	if (v->more) {
		printf(".P\n.nf\n");
		print_text(v->more);
		printf(".fi\n");
	}
}

static void print_man(void)
{
	printf(".\\\" Made by `strata generate`.\n"
	       ".TH STRATA 1 \"\" \"strata %s\" \"User Commands\"\n"
	       ".SH NAME\nstrata \\- virtual machines, with KVM or without\n"
	       ".SH SYNOPSIS\n.B strata\n.I VERB\n[\\fB\\-\\-option\\fP \\fIvalue\\fP]...\n"
	       ".SH VERBS\n",
		STRATA_VERSION);
	each_verb(cli_verbs, print_verb);
	printf(".SH EXIT STATUS\n"
	       "0: an orderly end; 1: it failed; 2: usage; 3: not possible on this host; 124: the "
	       "time of \\-\\-timeout ran out; 128 and more: a signal.\n"
	       ".SH FILES\n.TP\n.I ~/.local/state/strata/machines\n"
	       "machines with names, a folder each; "
	       "below $XDG_STATE_HOME where that is set\n"
	       ".TP\n.I ~/.local/share/strata/images\n"
	       "images that machines are made of, a folder each; "
	       "below $XDG_DATA_HOME where that is set\n");
}

/* ---- the verb ---- */

static int generate(const void *values)
{
	switch (((const struct values *)values)->kind) {
	case BASH: print_bash(); break;
	case MAN: print_man(); break;
	}
	return CLI_OK;
}

static void defaults(void *values) { ((struct values *)values)->kind = MAN; }

static const char *const kinds[] = { "bash", "man", NULL };

static const struct option_row options[] = {
	{ "for", "KIND", "bash: its completion; man (default): the manual page", OPTION_CHOICE,
		offsetof(struct values, kind), .choices = kinds },
	{ 0 },
};

const struct verb verbs_generate = {
	.name = "generate",
	.doc = "print what shells and man(1) want to know of this program",
	.options = options,
	.size = sizeof(struct values),
	.defaults = defaults,
	.run = generate,
};
