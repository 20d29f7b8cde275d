/* See config.h. libyaml's events: a mapping of scalars and sequences of scalars, and no more. */
#include "store/config.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

int store_config_add(
	struct store_config *c, const char *name, const char *value, unsigned line, struct err *err)
{
	struct store_item item = { strdup(name), strdup(value), line };

	if (c->count == STORE_CONFIG_ITEMS || !item.name || !item.value) {
		free(item.name);
		free(item.value);
		return c->count == STORE_CONFIG_ITEMS
			       ? err_set(err, -E2BIG, "more than %u values", STORE_CONFIG_ITEMS)
			       : err_set(err, -ENOMEM, "no memory for the configuration");
	}
	c->items[c->count++] = item;
	return 0;
}

const char *store_config_get(const struct store_config *c, const char *name)
{
	for (unsigned i = 0; i < c->count; i++)
		if (!strcmp(c->items[i].name, name))
			return c->items[i].value;
	return NULL;
}

void store_config_drop(struct store_config *c, const char *name)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < c->count; i++) {
		if (strcmp(c->items[i].name, name)) {
			c->items[kept++] = c->items[i];
			continue;
		}
		free(c->items[i].name);
		free(c->items[i].value);
	}
	c->count = kept;
}

int store_config_set(struct store_config *c, const char *name, const char *value, struct err *err)
{
	store_config_drop(c, name);
	return store_config_add(c, name, value, 0, err);
}

void store_config_free(struct store_config *c)
{
	while (c->count) {
		free(c->items[--c->count].name);
		free(c->items[c->count].value);
	}
}

/* ---- parsing ---- */

enum place { BEFORE, NAME, VALUE, LIST, AFTER };

struct parse {
	struct store_config *config;
	enum place place;
	char *name; /* whose value is next */
};

static unsigned line_of(const yaml_event_t *e) { return (unsigned)e->start_mark.line + 1; }

static int set_name(struct parse *p, const char *name, unsigned line, struct err *err)
{
	if (store_config_get(p->config, name))
		return err_set(err, -EINVAL, "line %u: %.60s is there twice", line, name);
	p->name = strdup(name);
	p->place = VALUE;
	return p->name ? 0 : err_set(err, -ENOMEM, "no memory for the configuration");
}

static int scalar(struct parse *p, const yaml_event_t *e, struct err *err)
{
	const char *text = (const char *)e->data.scalar.value;
	unsigned line = line_of(e);

	if (strlen(text) != e->data.scalar.length)
		return err_set(err, -EINVAL, "line %u: a value has a zero byte", line);
	switch (p->place) {
	case NAME: return set_name(p, text, line, err);
	case VALUE:
	case LIST:
		if (store_config_add(p->config, p->name, text, line, err))
			return err_wrap(err, "line %u", line);
		if (p->place == VALUE) {
			free(p->name);
			p->name = NULL;
			p->place = NAME;
		}
		return 0;
	case BEFORE:
	case AFTER: break;
	}
	return err_set(err, -EINVAL, "line %u: expected \"name: value\"", line);
}

static int mapping_start(struct parse *p, const yaml_event_t *e, struct err *err)
{
	if (p->place != BEFORE)
		return err_set(
			err, -EINVAL, "line %u: a value is text or a list of texts", line_of(e));
	p->place = NAME;
	return 0;
}

static int list_start(struct parse *p, const yaml_event_t *e, struct err *err)
{
	if (p->place != VALUE)
		return err_set(err, -EINVAL, "line %u: a list is the value of a name", line_of(e));
	p->place = LIST;
	return 0;
}

/* An end that has no beginning does not come: libyaml sees to the balance. */
static int one_event(struct parse *p, const yaml_event_t *e, struct err *err)
{
	switch (e->type) {
	case YAML_SCALAR_EVENT: return scalar(p, e, err);
	case YAML_MAPPING_START_EVENT: return mapping_start(p, e, err);
	case YAML_SEQUENCE_START_EVENT: return list_start(p, e, err);
	case YAML_MAPPING_END_EVENT: p->place = AFTER; return 0;
	case YAML_SEQUENCE_END_EVENT:
		free(p->name);
		p->name = NULL;
		p->place = NAME;
		return 0;
	case YAML_ALIAS_EVENT: return err_set(err, -EINVAL, "line %u: no aliases here", line_of(e));
	case YAML_DOCUMENT_START_EVENT:
		return p->place == BEFORE ? 0
					  : err_set(err, -EINVAL, "line %u: more than one document",
						    line_of(e));
	case YAML_NO_EVENT:
	case YAML_STREAM_START_EVENT:
	case YAML_STREAM_END_EVENT:
	case YAML_DOCUMENT_END_EVENT: return 0;
	}
	return 0;
}

static int all_events(struct parse *p, yaml_parser_t *parser, struct err *err)
{
	yaml_event_type_t type = YAML_NO_EVENT;
	yaml_event_t e;
	int rc = 0;

	while (!rc && type != YAML_STREAM_END_EVENT) {
		if (!yaml_parser_parse(parser, &e))
			return err_set(err, -EINVAL, "line %zu: no YAML: %s",
				parser->problem_mark.line + 1,
				parser->problem ? parser->problem : "it cannot be read");
		type = e.type;
		rc = one_event(p, &e, err);
		yaml_event_delete(&e);
	}
	return rc;
}

int store_config_parse(struct store_config *c, const char *text, size_t len, struct err *err)
{
	struct parse p = { .config = c };
	yaml_parser_t parser;
	int rc;

	*c = (struct store_config){ 0 };
	if (len > STORE_CONFIG_MAX)
		return err_set(err, -E2BIG, "line 1: more than %u bytes", STORE_CONFIG_MAX);
	if (!yaml_parser_initialize(&parser))
		return err_set(err, -ENOMEM, "no memory for the configuration");
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
	rc = all_events(&p, &parser, err);
	yaml_parser_delete(&parser);
	free(p.name);
	if (rc)
		store_config_free(c);
	return rc;
}

/* ---- writing ---- */

static int write_text(void *to, unsigned char *text, size_t len)
{
	return fwrite(text, 1, len, to) == len;
}

static bool emit_scalar(yaml_emitter_t *out, const char *text)
{
	yaml_event_t e;

	return yaml_scalar_event_initialize(&e, NULL, NULL, (const yaml_char_t *)text,
		       (int)strlen(text), 1, 1, YAML_ANY_SCALAR_STYLE) &&
	       yaml_emitter_emit(out, &e);
}

/* How many values the name at i has. */
static unsigned run_of(const struct store_config *c, unsigned i)
{
	unsigned n = 1;

	while (i + n < c->count && !strcmp(c->items[i].name, c->items[i + n].name))
		n++;
	return n;
}

static bool emit_items(const struct store_config *c, yaml_emitter_t *out)
{
	yaml_event_t e;

	for (unsigned i = 0, n; i < c->count; i += n) {
		n = run_of(c, i);
		if (!emit_scalar(out, c->items[i].name))
			return false;
		if (n > 1 && !(yaml_sequence_start_event_initialize(
				       &e, NULL, NULL, 1, YAML_BLOCK_SEQUENCE_STYLE) &&
				     yaml_emitter_emit(out, &e)))
			return false;
		for (unsigned k = 0; k < n; k++)
			if (!emit_scalar(out, c->items[i + k].value))
				return false;
		if (n > 1 &&
			!(yaml_sequence_end_event_initialize(&e) && yaml_emitter_emit(out, &e)))
			return false;
	}
	return true;
}

static bool emit(const struct store_config *c, yaml_emitter_t *out)
{
	yaml_event_t e;

	return yaml_stream_start_event_initialize(&e, YAML_UTF8_ENCODING) &&
	       yaml_emitter_emit(out, &e) &&
	       yaml_document_start_event_initialize(&e, NULL, NULL, NULL, 1) &&
	       yaml_emitter_emit(out, &e) &&
	       yaml_mapping_start_event_initialize(&e, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE) &&
	       yaml_emitter_emit(out, &e) && emit_items(c, out) &&
	       yaml_mapping_end_event_initialize(&e) && yaml_emitter_emit(out, &e) &&
	       yaml_document_end_event_initialize(&e, 1) && yaml_emitter_emit(out, &e) &&
	       yaml_stream_end_event_initialize(&e) && yaml_emitter_emit(out, &e);
}

int store_config_write(const struct store_config *c, FILE *to, struct err *err)
{
	yaml_emitter_t out;

	if (!yaml_emitter_initialize(&out))
		return err_set(err, -ENOMEM, "no memory for the configuration");
	yaml_emitter_set_output(&out, write_text, to);
	yaml_emitter_set_width(&out, -1);
	yaml_emitter_set_unicode(&out, 1);
	bool good = emit(c, &out);

	yaml_emitter_delete(&out);
	return good ? 0
		    : err_set(err, -EIO,
			      "the configuration cannot be written: a text that is no UTF-8?");
}
