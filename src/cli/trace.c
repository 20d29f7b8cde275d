#include "cli/trace.h"
#include <errno.h>
#include <string.h>

static const struct kind {
	const char *name;
	size_t offset; /* of its switch */
} kinds[] = {
	{ "exits", offsetof(struct vcpu_trace, exits) },
	{ "instructions", offsetof(struct vcpu_trace, instructions) },
	{ "interrupts", offsetof(struct vcpu_trace, interrupts) },
	{ "requests", offsetof(struct vcpu_trace, requests) },
};

static const struct kind *find(const char *name, size_t len)
{
	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++)
		if (strlen(kinds[i].name) == len && !memcmp(kinds[i].name, name, len))
			return &kinds[i];
	return NULL;
}

int trace_open(struct vcpu_trace *trace, const char *text, struct err *err)
{
	*trace = (struct vcpu_trace){ 0 };
	if (!text)
		return 0;
	const char *file = strchr(text, '=');
	if (!file || !file[1])
		return err_set(err, -EINVAL,
			"--trace %.64s: a file is missing: KIND[,KIND...]=FILE", text);

	for (const char *at = text; at <= file; at += strcspn(at, ",=") + 1) {
		size_t len = strcspn(at, ",=");
		const struct kind *k = find(at, len);

		if (!k)
			return err_set(err, -EINVAL,
				"--trace %.*s: must be exits, instructions, interrupts or requests",
				(int)(len < 64 ? len : 64), at);
		*(bool *)((char *)trace + k->offset) = true;
		if (at[len] == '=')
			break;
	}
	trace->to = fopen(file + 1, "we");
	if (!trace->to)
		return err_set(err, errno == EINVAL ? -EIO : -errno, "trace file %s: %s", file + 1,
			strerror(errno));
	return 0;
}

int trace_close(struct vcpu_trace *trace, struct err *err)
{
	FILE *to = trace->to;

	*trace = (struct vcpu_trace){ 0 };
	if (!to)
		return 0;
	bool failed = ferror(to);
	if (fclose(to) || failed)
		return err_set(err, -EIO, "the trace file is incomplete: %s", strerror(errno));
	return 0;
}
