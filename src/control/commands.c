/* What can be asked for: a row each. Requests are untrusted; control.h says what they look like. */
#include "control/control_priv.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

struct command {
	const char *name, *doc;
	/* 0, or -errno with err; members of the result go into `result`. */
	int (*run)(
		struct control_conn *conn, const json_t *request, json_t *result, struct err *err);
	size_t op;		/* without run: which of control_ops does it */
	const char *members[2]; /* of a request, besides command and id */
};

static int put(json_t *object, const char *name, json_t *take_value)
{
	return json_object_set_new(object, name, take_value) ? -ENOMEM : 0;
}

/* New reference. */
static json_t *attached(const struct control_config *config)
{
	json_t *list = json_array();
	struct control_device d;

	for (unsigned n = 0; config->ops->attached && config->ops->attached(config->ctx, n, &d);
		n++)
		json_array_append_new(list, json_pack("{s:s,s:s,s:b}", "name", d.name, "about",
						    d.about, "leaving", d.leaving));
	return list;
}

static int status(struct control_conn *conn, const json_t *request, json_t *result, struct err *err)
{
	const struct control_config *config = &conn->control->config;
	struct control_status s = { 0 };

	if (!config->ops->status)
		return err_set(err, -ENOSYS, "this machine cannot do that");
	config->ops->status(config->ctx, &s);
	if (put(result, "name", json_string(config->name)) ||
		put(result, "state", json_string(s.state)) ||
		put(result, "pid", json_integer(getpid())) ||
		put(result, "engine", json_string(s.engine)) ||
		put(result, "cpus", json_integer(s.cpus)) ||
		put(result, "memory", json_integer((json_int_t)s.memory)) ||
		put(result, "host_memory", json_integer((json_int_t)s.held)) ||
		put(result, "guest_seconds", json_real((double)(s.guest_ns / 1000000) / 1e3)) ||
		put(result, "cpu_seconds", json_real((double)(s.cpu_ns / 1000000) / 1e3)) ||
		put(result, "counters",
			json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "port_ios",
				(json_int_t)s.port_ios, "mmios", (json_int_t)s.mmios, "interrupts",
				(json_int_t)s.interrupts, "disk_read", (json_int_t)s.disk_read,
				"disk_written", (json_int_t)s.disk_written, "net_sent",
				(json_int_t)s.net_sent, "net_received", (json_int_t)s.net_received,
				"instructions", (json_int_t)s.instructions, "code_exits",
				(json_int_t)s.code_exits, "code_misses",
				(json_int_t)s.code_misses)) ||
		put(result, "counting", json_boolean(s.counting)) ||
		put(result, "console", json_boolean(conn->control->console.fd >= 0)) ||
		put(result, "network", json_boolean(s.network)) ||
		put(result, "attached", attached(config)) ||
		put(result, "address", s.address ? json_string(s.address) : json_null()))
		return err_set(err, -ENOMEM, "no memory for the answer");
	return 0;
}

static int events(struct control_conn *conn, const json_t *request, json_t *result, struct err *err)
{
	conn->events = true;
	return 0;
}

static int console(
	struct control_conn *conn, const json_t *request, json_t *result, struct err *err)
{
	if (conn->control->console.fd < 0)
		return err_set(err, -ENOTTY,
			"the machine's console is the terminal that it was started from");
	conn->mode = CONTROL_CONSOLE;
	conn->events = false;
	return 0;
}

static int save(struct control_conn *conn, const json_t *request, json_t *result, struct err *err)
{
	const struct control_config *config = &conn->control->config;

	if (!config->ops->save)
		return err_set(err, -ENOSYS, "this machine cannot do that");
	if (!conn->passed_count)
		return err_set(err, -EINVAL, "an open file must come with the request");
	int *file = &conn->passed[conn->passed_count - 1];
	if (config->ops->save(config->ctx, *file, err))
		return err->code;
	*file = -1;
	conn->saves = true;
	return 0;
}

static int saving(struct control_conn *conn, const json_t *request, json_t *result, struct err *err)
{
	const struct control_config *config = &conn->control->config;
	struct control_saving s = { 0 };

	if (!config->ops->saving)
		return err_set(err, -ENOSYS, "this machine cannot do that");
	if (config->ops->saving(config->ctx, &s, err))
		return err->code;
	if (put(result, "done", json_boolean(s.done)) ||
		put(result, "written", json_integer((json_int_t)s.written)) ||
		put(result, "total", json_integer((json_int_t)s.total)))
		return err_set(err, -ENOMEM, "no memory for the answer");
	return 0;
}

static int attach(struct control_conn *conn, const json_t *request, json_t *result, struct err *err)
{
	const struct control_config *config = &conn->control->config;
	const struct control_attach a = {
		.disk = json_string_value(json_object_get(request, "disk")),
		.net = json_string_value(json_object_get(request, "net")),
		.fds = conn->passed,
		.count = conn->passed_count,
	};
	char name[CONTROL_DEVICE_MAX];

	if (!config->ops->attach)
		return err_set(err, -ENOSYS, "this machine cannot do that");
	if (!a.disk == !a.net)
		return err_set(err, -EINVAL,
			"either \"disk\" or \"net\" is to be there, a text: what is to be "
			"attached");
	if (config->ops->attach(config->ctx, &a, name, err))
		return err->code;
	return put(result, "device", json_string(name))
		       ? err_set(err, -ENOMEM, "no memory for the answer")
		       : 0;
}

static int detach(struct control_conn *conn, const json_t *request, json_t *result, struct err *err)
{
	const struct control_config *config = &conn->control->config;
	const char *name = json_string_value(json_object_get(request, "device"));

	if (!config->ops->detach)
		return err_set(err, -ENOSYS, "this machine cannot do that");
	if (!name)
		return err_set(err, -EINVAL, "\"device\" is missing, a name");
	return config->ops->detach(config->ctx, name, err);
}

static int balloon(
	struct control_conn *conn, const json_t *request, json_t *result, struct err *err)
{
	const struct control_config *config = &conn->control->config;
	const json_t *member = json_object_get(request, "target");
	struct control_balloon b = { 0 };
	u64 target = (u64)json_integer_value(member);

	if (!config->ops->balloon)
		return err_set(err, -ENOSYS, "this machine cannot do that");
	if (member && (!json_is_integer(member) || json_integer_value(member) < 0))
		return err_set(err, -EINVAL, "target is no number of bytes");
	if (config->ops->balloon(config->ctx, member ? &target : NULL, &b, err))
		return err->code;
	if (put(result, "target", json_integer((json_int_t)b.target)) ||
		put(result, "actual", json_integer((json_int_t)b.actual)) ||
		put(result, "given", json_integer((json_int_t)b.given)) ||
		(b.told &&
			(put(result, "free", json_integer((json_int_t)b.free)) ||
				put(result, "available", json_integer((json_int_t)b.available)) ||
				put(result, "total", json_integer((json_int_t)b.total)))))
		return err_set(err, -ENOMEM, "no memory for the answer");
	return 0;
}

static int count(struct control_conn *conn, const json_t *request, json_t *result, struct err *err)
{
	const struct control_config *config = &conn->control->config;
	json_int_t seconds = json_integer_value(json_object_get(request, "seconds"));

	if (!config->ops->count)
		return err_set(err, -ENOSYS, "this machine cannot do that");
	if (seconds < 1 || seconds > CONTROL_COUNT_MAX)
		return err_set(err, -EINVAL, "\"seconds\" is to be there, a number from 1 to %u",
			CONTROL_COUNT_MAX);
	return control_count(conn->control, (unsigned)seconds, err);
}

static int help(struct control_conn *conn, const json_t *request, json_t *result, struct err *err);

#define OP(name) offsetof(struct control_ops, name)

static const struct command commands[] = {
	{ "status", "what the machine is and does", status },
	{ "pause", "hold guest code and the guest's clocks", .op = OP(pause) },
	{ "resume", "let it go on", .op = OP(resume) },
	{ "stop", "press the power button", .op = OP(stop) },
	{ "kill", "end the machine at once", .op = OP(kill) },
	{ "reset", "press the reset button", .op = OP(reset) },
	{ "console", "the connection becomes the serial console", console },
	{ "events", "lines for what happens, from now on", events },
	{ "count", "count the guest's instructions for so long, which makes it slower", count,
		.members = { "seconds" } },
	{ "balloon", "how full the memory balloon is, and is to be", balloon,
		.members = { "target" } },
	{ "attach", "plug in a disk or a network, whose files come along", attach,
		.members = { "disk", "net" } },
	{ "detach", "ask the guest to let go of a device", detach, .members = { "device" } },
	{ "save", "hold the machine, and write it to the file that comes along", save },
	{ "saving", "how far that is", saving },
	{ "help", "what there is to ask for", help },
};

static int help(struct control_conn *conn, const json_t *request, json_t *result, struct err *err)
{
	for (const struct command *c = commands; c < commands + ARRAY_LEN(commands); c++)
		if (put(result, c->name, json_string(c->doc)))
			return err_set(err, -ENOMEM, "no memory for the answer");
	return 0;
}

/* ---- one request ---- */

static int run_op(const struct control_config *config, size_t op, struct err *err)
{
	int (*fn)(void *ctx, struct err *err);

	memcpy(&fn, (const char *)config->ops + op, sizeof(fn));
	if (!fn)
		return err_set(err, -ENOSYS, "this machine cannot do that");
	return fn(config->ctx, err);
}

static const struct command *find(const char *name)
{
	for (const struct command *c = commands; c < commands + ARRAY_LEN(commands); c++)
		if (!strcmp(c->name, name))
			return c;
	return NULL;
}

static bool is_member(const char *name, const struct command *c)
{
	if (!strcmp(name, "command") || !strcmp(name, "id"))
		return true;
	for (unsigned i = 0; c && i < ARRAY_LEN(c->members); i++)
		if (c->members[i] && !strcmp(name, c->members[i]))
			return true;
	return false;
}

static int check_members(json_t *request, const struct command *c, struct err *err)
{
	const char *name;
	json_t *value;

	json_object_foreach(request, name, value)
	{
		if (!is_member(name, c))
			return err_set(err, -EINVAL, "a request has no member %.60s", name);
	}
	value = json_object_get(request, "id");
	if (value && !json_is_string(value) && !json_is_number(value))
		return err_set(err, -EINVAL, "id is neither a string nor a number");
	return 0;
}

static int obey(struct control_conn *conn, json_t *request, json_t *result, struct err *err)
{
	const char *name = json_string_value(json_object_get(request, "command"));

	if (!json_is_object(request) || !name)
		return err_set(err, -EINVAL, "a request is an object with a command");
	const struct command *c = find(name);

	if (check_members(request, c, err))
		return err->code;
	if (!c)
		return err_set(err, -ENOENT, "no command %.60s; \"help\" lists them", name);
	return c->run ? c->run(conn, request, result, err)
		      : run_op(&conn->control->config, c->op, err);
}

static const struct {
	int code;
	const char *name;
} codes[] = {
	{ -EINVAL, "bad-request" },
	{ -ENOENT, "no-command" },
	{ -EALREADY, "already" },
	{ -ESHUTDOWN, "ending" },
	{ -ENOTTY, "no-console" },
	{ -ENOSYS, "not-here" },
	{ -ENODEV, "not-here" },
	{ -EBUSY, "busy" },
	{ -ENOSPC, "no-room" },
};

static const char *code_name(int code)
{
	for (unsigned i = 0; i < ARRAY_LEN(codes); i++)
		if (codes[i].code == code)
			return codes[i].name;
	return "failed";
}

json_t *control_answer(struct control_conn *conn, const char *line, size_t len)
{
	json_error_t where;
	json_t *request = json_loadb(line, len, JSON_REJECT_DUPLICATES, &where);
	json_t *id = json_object_get(request, "id"), *result = json_object(), *answer;
	struct err err = { 0 };

	if (!request)
		err_set(&err, -EINVAL, "no JSON: %s", where.text);
	else
		(void)!obey(conn, request, result, &err);
	answer = err.code ? json_pack("{s:{s:s,s:s}}", "error", "code", code_name(err.code), "text",
				    err.text)
			  : json_pack("{s:O}", "result", result);
	/* A name that was cut within a character, for one, is no text. */
	if (!answer)
		answer = json_pack("{s:{s:s,s:s}}", "error", "code", "failed", "text",
			"the request was refused");
	if (answer && id && !json_is_object(id) && !json_is_array(id))
		json_object_set(answer, "id", id);
	json_decref(result);
	json_decref(request);
	return answer;
}
