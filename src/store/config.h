/*
 * A machine's configuration, as a file that people write: YAML, a mapping of option names to values
 * or lists of values. What the names mean is not known here; each item carries its line, so that
 * whoever knows can name it.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"
#include <stdio.h>

#define STORE_CONFIG_MAX   65536u /* bytes of a file */
#define STORE_CONFIG_ITEMS 128u

struct store_item {
	char *name, *value;
	unsigned line; /* 0: not from a file */
};

/* Zero-initialised is empty. Items of a list have the same name. */
struct store_config {
	struct store_item items[STORE_CONFIG_ITEMS];
	unsigned count;
};

/* Copies both. -E2BIG, -ENOMEM with err. */
NODISCARD int store_config_add(struct store_config *c, const char *name, const char *value,
	unsigned line, struct err *err);
/* The first of that name; NULL: none. */
const char *store_config_get(const struct store_config *c, const char *name);
/* Takes all of that name away; and gives it that one value instead. */
void store_config_drop(struct store_config *c, const char *name);
NODISCARD int store_config_set(
	struct store_config *c, const char *name, const char *value, struct err *err);
void store_config_free(struct store_config *c);

/* The text is untrusted. Errors begin with the line. */
NODISCARD int store_config_parse(
	struct store_config *c, const char *text, size_t len, struct err *err);
NODISCARD int store_config_write(const struct store_config *c, FILE *to, struct err *err);
