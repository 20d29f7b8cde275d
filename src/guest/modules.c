#include "guest/modules.h"

static char plain(char c) { return c == '-' ? '_' : c; }

static bool same(struct text a, struct text b)
{
	bool equal = a.len == b.len;

	for (size_t i = 0; equal && i < a.len; i++)
		equal = plain(a.at[i]) == plain(b.at[i]);
	return equal;
}

/* Up to a character, which is taken off as well. */
static struct text cut(struct text *from, char end)
{
	struct text head = { from->at, 0 };

	while (head.len < from->len && from->at[head.len] != end)
		head.len++;
	size_t taken = head.len < from->len ? head.len + 1 : head.len;

	from->at += taken;
	from->len -= taken;
	return head;
}

/* "kernel/drivers/net/virtio_net.ko" is called virtio_net. */
static struct text name_of(struct text file)
{
	struct text rest = file, part = { 0 };

	while (rest.len)
		part = cut(&rest, '/');
	return cut(&part, '.');
}

bool modules_find(struct text dep, struct text name, struct text *line)
{
	while (dep.len) {
		struct text all = cut(&dep, '\n'), rest = all;

		if (!same(name_of(cut(&rest, ':')), name))
			continue;
		*line = all;
		return true;
	}
	return false;
}

bool modules_next(struct text *line, struct text *file)
{
	while (line->len && (line->at[line->len - 1] == ' ' || line->at[line->len - 1] == ':'))
		line->len--;
	size_t begin = line->len;

	while (begin && line->at[begin - 1] != ' ')
		begin--;
	*file = (struct text){ line->at + begin, line->len - begin };
	line->len = begin;
	return file->len;
}

/* A '*' is tried with one character more each time that what comes behind it does not fit. */
static bool fits(struct text pattern, struct text name)
{
	size_t p = 0, n = 0, star = pattern.len, from = 0;

	while (n < name.len) {
		if (p < pattern.len && pattern.at[p] == '*') {
			star = p++;
			from = n;
		} else if (p < pattern.len && plain(pattern.at[p]) == plain(name.at[n])) {
			p++;
			n++;
		} else if (star < pattern.len) {
			p = star + 1;
			n = ++from;
		} else {
			return false;
		}
	}
	while (p < pattern.len && pattern.at[p] == '*')
		p++;
	return p == pattern.len;
}

bool modules_alias(struct text *aliases, struct text name, struct text *module)
{
	while (aliases->len) {
		struct text line = cut(aliases, '\n'), word = cut(&line, ' ');

		if (!same(word, (struct text){ "alias", 5 }) || !fits(cut(&line, ' '), name))
			continue;
		*module = line;
		return true;
	}
	return false;
}
