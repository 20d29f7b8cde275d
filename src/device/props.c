/*
 * Properties: what a person may configure of a device, by the class's props[] table. A string
 * property is a char * that the device owns and that is NULL until set.
 */
#include "base/bits.h"
#include "device/device.h"
#include <errno.h>
#include <stdlib.h>

static void *prop_at(struct device *d, const struct prop *p) { return (u8 *)d + p->offset; }

static void store(struct device *d, const struct prop *p, u64 value)
{
	if (p->kind == PROP_BOOL)
		*(bool *)prop_at(d, p) = value != 0;
	else
		*(u64 *)prop_at(d, p) = value;
}

void device_props_init(struct device *d)
{
	for (const struct prop *p = d->class->props; p && p->name; p++)
		if (p->kind != PROP_STRING)
			store(d, p, p->init);
}

void device_props_fini(struct device *d)
{
	for (const struct prop *p = d->class->props; p && p->name; p++)
		if (p->kind == PROP_STRING)
			free(*(char **)prop_at(d, p));
}

static bool parse_size(const char *text, u64 *value)
{
	static const char suffixes[] = "KMGT";
	const char *suffix;
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*value = strtoull(text, &end, 0);
	if (errno)
		return false;
	if (!*end)
		return true;
	suffix = strchr(suffixes, *end & ~0x20);
	return suffix && *suffix && !end[1] &&
	       mul_ok(*value, 1ull << (10 * (suffix - suffixes + 1)), value);
}

static int set_number(struct device *d, const struct prop *p, const char *text, struct err *err)
{
	u64 value;

	if (!parse_size(text, &value))
		return err_set(err, -EINVAL, "%s: %s=%s is not a number", d->name, p->name, text);
	if (value < p->min || value > p->max)
		return err_set(err, -ERANGE, "%s: %s=%s is outside %llu..%llu", d->name, p->name,
			text, (unsigned long long)p->min, (unsigned long long)p->max);
	store(d, p, value);
	return 0;
}

static int set_bool(struct device *d, const struct prop *p, const char *text, struct err *err)
{
	static const char *const words[][2] = { { "off", "on" }, { "no", "yes" }, { "0", "1" } };

	for (unsigned i = 0; i < ARRAY_LEN(words); i++) {
		for (unsigned value = 0; value < 2; value++) {
			if (!strcmp(text, words[i][value])) {
				store(d, p, value);
				return 0;
			}
		}
	}
	return err_set(err, -EINVAL, "%s: %s=%s is neither on nor off", d->name, p->name, text);
}

static int set_string(struct device *d, const struct prop *p, const char *text, struct err *err)
{
	char **at = prop_at(d, p);
	char *copy = strdup(text);

	if (!copy)
		return err_set(err, -ENOMEM, "%s: no memory", d->name);
	free(*at);
	*at = copy;
	return 0;
}

int device_set(struct device *d, const char *prop, const char *value, struct err *err)
{
	static int (*const setters[])(
		struct device *, const struct prop *, const char *, struct err *) = {
		[PROP_U64] = set_number,
		[PROP_BOOL] = set_bool,
		[PROP_STRING] = set_string,
	};

	for (const struct prop *p = d->class->props; p && p->name; p++) {
		int rc;

		if (strcmp(p->name, prop))
			continue;
		rc = setters[p->kind](d, p, value, err);
		if (!rc && d->class->reset)
			d->class->reset(d);
		return rc;
	}
	return err_set(err, -ENOENT, "%s: no property %s", d->name, prop);
}
