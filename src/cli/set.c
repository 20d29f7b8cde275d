/*
 * strata set: changes one option of a machine. What it is from its next start on says machine.yaml,
 * which is checked as a whole before it takes the old one's place. A machine that runs is given
 * what can be changed there: less memory than it began with, by its balloon; limits, of one that
 * was started with some. Otherwise the command says that a restart is needed.
 */
#include "cli/create.h"
#include "cli/limits.h"
#include "cli/machines.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

struct set_values {
	const char *name, *option, *value;
};

static const struct option_row *find_row(const char *name, struct err *err)
{
	for (const struct option_row *row = run_options; row->name; row++)
		if (!strcmp(row->name, name) && !row->once && !options_stands_alone(row)) {
			if (row->kind != OPTION_LIST)
				return row;
			err_set(err, -EINVAL,
				"there may be several of %s: edit the machine's machine.yaml; "
				"`strata show` says what is in it",
				name);
			return NULL;
		}
	struct run_values v;

	run_defaults(&v);
	(void)!options_set(run_options, name, "", &v, err); /* says what is near */
	return NULL;
}

/* Under store_alone(), so that of two changes none is lost. */
static int change(const struct set_values *v, struct store_machine *m, struct err *err)
{
	struct store_config config = { 0 };
	struct run_values values;
	int rc = store_read_config(m, &config, err);

	if (!rc)
		rc = *v->value ? store_config_set(&config, v->option, v->value, err)
			       : (store_config_drop(&config, v->option), 0);
	if (!rc && create_check(&config, &values, err))
		rc = err->code;
	if (!rc)
		rc = store_write_config(m, &config, err);
	store_config_free(&config);
	return rc;
}

/* Bytes of memory that the balloon is to take; false: it cannot do that. */
static bool balloon_for(struct control_client *c, const char *text, u64 *target)
{
	json_t *status = NULL;
	struct err err = { 0 };
	u64 wanted, has = 0;

	if (!client_ask(c, "status", -1, MACHINES_ASK_MS, &status, &err))
		has = (u64)json_integer_value(json_object_get(status, "memory"));
	json_decref(status);
	if (options_size(text, &wanted) || wanted > has)
		return false;
	*target = has - wanted;
	return true;
}

static bool give_memory(const struct set_values *v, const struct store_machine *m, struct err *err)
{
	struct control_client c = { .fd = -1 };
	u64 target;
	bool done =
		!client_open(&c, m->folder, MACHINES_ASK_MS, err) &&
		balloon_for(&c, v->value, &target) &&
		!client_request(&c,
			json_pack("{s:s,s:I}", "command", "balloon", "target", (json_int_t)target),
			-1, MACHINES_ASK_MS, NULL, err);
	client_close(&c);
	return done;
}

static bool give_limits(const struct set_values *v, const struct store_machine *m, struct err *err)
{
	struct limits_option o;

	return !limits_option_parse(*v->value ? v->value : NULL, &o, err) &&
	       !limits_change(m, &o, err);
}

/* What can be changed while a machine runs. */
static const struct {
	const char *option;
	bool (*give)(const struct set_values *v, const struct store_machine *m, struct err *err);
} live[] = { { "memory", give_memory }, { "limits", give_limits } };

/* What has been changed for later is tried now, too. */
static void change_running(const struct set_values *v, const struct store_machine *m)
{
	struct store_outcome o;
	struct err err = { 0 };
	bool done = false;

	if (store_state(m, &o) != STORE_RUNNING)
		return;
	for (unsigned i = 0; i < ARRAY_LEN(live); i++)
		if (!strcmp(v->option, live[i].option))
			done = live[i].give(v, m, &err);
	if (!done)
		fprintf(stderr,
			"strata: set: %s runs, and needs a restart for that%s%s: `strata stop %s`, "
			"`strata start %s`\n",
			m->name, err.text[0] ? ", since " : "", err.text, m->name, m->name);
}

static int set(const void *values)
{
	const struct set_values *v = values;
	struct err err = { 0 };
	struct store_machine m;

	if (!find_row(v->option, &err) || store_open(&m, v->name, &err))
		return machines_failed("set", &err);
	int alone = store_alone(&err);
	int rc = alone < 0 ? alone : change(v, &m, &err);

	if (alone >= 0)
		close(alone);
	if (!rc)
		change_running(v, &m);
	store_close(&m);
	return rc ? machines_failed("set", &err) : CLI_OK;
}

#define AT(member) offsetof(struct set_values, member)

static const struct option_row set_options[] = {
	{ "NAME", NULL, "the machine's", OPTION_OPERAND, AT(name), .required = true },
	{ "OPTION", NULL, "one of run's, without its dashes: memory, cpus, ...", OPTION_OPERAND,
		AT(option), .required = true },
	{ "VALUE", NULL, "what it is to be; \"\": what is usual", OPTION_OPERAND, AT(value),
		.required = true },
	{ 0 },
};

const struct verb verbs_set = {
	.name = "set",
	.doc = "change an option of a machine: at once where it can, otherwise from its next start "
	       "on",
	.options = set_options,
	.size = sizeof(struct set_values),
	.run = set,
};
