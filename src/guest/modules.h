/*
 * Which files a module of the kernel is made of, by what depmod(8) has written beside them:
 * modules.dep ("FILE: NEEDED NEEDED...", what is needed first last) and modules.alias ("alias
 * PATTERN MODULE").
 *
 * The texts are an image's and may be anything; nothing is written.
 */
#pragma once
#include "base/types.h"

struct text {
	const char *at;
	size_t len;
};

/* The line of a module in modules.dep; '-' and '_' are the same. false: it has none, and is part of
 * the kernel or not there. */
bool modules_find(struct text dep, struct text name, struct text *line);
/* Takes a file off the line's end, so that they come in the order in which they are to be loaded.
 */
bool modules_next(struct text *line, struct text *file);
/* The next module that has the alias, which a device has ("virtio:d00000001v00001AF4") or the
 * kernel asks for ("fs-vfat"); `aliases` goes on behind it. Of patterns, '*' is known. */
bool modules_alias(struct text *aliases, struct text name, struct text *module);
