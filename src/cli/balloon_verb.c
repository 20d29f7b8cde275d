/* strata balloon: how much of its memory a machine is to give back, and has given back. */
#include "cli/life.h"
#include "cli/machines.h"
#include <errno.h>

#define UNSET UINT64_MAX

struct balloon_values {
	const char *name;
	const char *size;
};

static unsigned long long mib(const json_t *result, const char *name)
{
	return (unsigned long long)json_integer_value(json_object_get(result, name)) >> 20;
}

static void print(const json_t *result)
{
	printf("asked for %llu MiB, in the balloon %llu MiB; given back in all %llu MiB\n",
		mib(result, "target"), mib(result, "actual"), mib(result, "given"));
	if (json_object_get(result, "total"))
		printf("the guest has %llu MiB, of which %llu MiB are free and %llu MiB "
		       "available\n",
			mib(result, "total"), mib(result, "free"), mib(result, "available"));
}

static json_t *make_request(u64 target)
{
	return target == UNSET
		       ? json_pack("{s:s}", "command", "balloon")
		       : json_pack("{s:s,s:I}", "command", "balloon", "target", (json_int_t)target);
}

static int talk(struct control_client *c, const void *target, struct err *err)
{
	json_t *result = NULL;

	if (!client_request(
		    c, make_request(*(const u64 *)target), -1, MACHINES_ASK_MS, &result, err))
		print(result);
	json_decref(result);
	return err->code;
}

static int balloon(const void *values)
{
	const struct balloon_values *v = values;
	struct err err = { 0 };
	u64 target = UNSET;

	if (v->size && (options_size(v->size, &target) || target > INT64_MAX)) {
		err_set(&err, -EINVAL, "%.40s is no size: a number, with K, M, G or T", v->size);
		return machines_failed("balloon", &err);
	}
	return machines_talk("balloon", v->name, talk, &target);
}

static const struct option_row balloon_options[] = {
	{ "NAME", NULL, "the machine's", OPTION_OPERAND, offsetof(struct balloon_values, name),
		.required = true },
	{ "SIZE", NULL, "what it is to give back, with K, M, G or T; without it, only look",
		OPTION_OPERAND, offsetof(struct balloon_values, size) },
	{ 0 },
};

const struct verb verbs_balloon = {
	.name = "balloon",
	.doc = "ask a machine for memory, and tell what it has given back",
	.options = balloon_options,
	.size = sizeof(struct balloon_values),
	.run = balloon,
};
