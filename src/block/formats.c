#include "block/format.h"
#include <string.h>

/* In order of probing; raw, which everything is, comes last. */
const struct block_format *const formats[] = { &qcow2_format, &vdi_format, &vhdx_format,
	&vmdk_format, &raw_format };
const unsigned formats_count = ARRAY_LEN(formats);

const struct block_format *formats_find(const char *name)
{
	for (unsigned i = 0; i < formats_count; i++)
		if (!strcmp(formats[i]->name, name))
			return formats[i];
	return NULL;
}

const struct block_format *formats_probe(const u8 *head)
{
	for (unsigned i = 0; i < formats_count; i++)
		if (formats[i]->probe(head))
			return formats[i];
	return &raw_format;
}
