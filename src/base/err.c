#include "base/err.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Names come from users and files, and may hold anything; a message is one line whatever they hold.
 */
static void one_line(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return code;
	err->code = code;
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	one_line(err->text);
	return code;
}

int err_wrap(struct err *err, const char *fmt, ...)
{
	char head[sizeof(err->text)];
	char tail[sizeof(err->text)];
	va_list ap;

	if (!err)
		return -1;
	va_start(ap, fmt);
	vsnprintf(head, sizeof(head), fmt, ap);
	va_end(ap);
	memcpy(tail, err->text, sizeof(tail));
	if (snprintf(err->text, sizeof(err->text), "%s: %s", head, tail) < 0)
		err->text[0] = 0;
	one_line(err->text);
	return err->code;
}
