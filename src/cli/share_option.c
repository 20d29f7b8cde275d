/* The folder ends at the last colon, so its name may hold colons, and commas. */
#include "cli/share_option.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int parse(const char *text, struct machine_share_config *s, struct err *err)
{
	const char *colon = strrchr(text, ':');

	if (!colon || colon == text || !colon[1] || colon[1] == ',')
		return err_set(err, -EINVAL,
			"a folder and the tag that the guest mounts it by are wanted: FOLDER:TAG");
	const char *comma = strchr(colon, ',');
	size_t len = comma ? (size_t)(comma - colon) - 1 : strlen(colon + 1);

	if (comma && strcmp(comma, ",readonly"))
		return err_set(err, -EINVAL, "no option %.40s; there is readonly", comma + 1);
	if (len > MACHINE_TAG_MAX)
		return err_set(err, -EINVAL, "the tag is longer than %u bytes", MACHINE_TAG_MAX);
	s->folder = strndup(text, (size_t)(colon - text));
	s->tag = strndup(colon + 1, len);
	s->readonly = comma;
	return s->folder && s->tag ? 0 : err_set(err, -ENOMEM, "no memory");
}

int share_option_parse(const struct option_list *texts,
	struct machine_share_config shares[MACHINE_SHARES_MAX], struct err *err)
{
	if (texts->count > MACHINE_SHARES_MAX)
		return err_set(err, -EINVAL, "--share: at most %d folders", MACHINE_SHARES_MAX);
	for (unsigned i = 0; i < texts->count; i++) {
		if (parse(texts->items[i], &shares[i], err))
			return err_wrap(err, "--share %.64s", texts->items[i]);
		for (unsigned j = 0; j < i; j++)
			if (!strcmp(shares[i].tag, shares[j].tag))
				return err_set(err, -EINVAL,
					"--share: two folders have the tag %.36s", shares[i].tag);
	}
	return 0;
}

void share_option_free(struct machine_share_config shares[MACHINE_SHARES_MAX])
{
	for (unsigned i = 0; i < MACHINE_SHARES_MAX; i++) {
		free((void *)(uintptr_t)shares[i].folder);
		free((void *)(uintptr_t)shares[i].tag);
	}
}
