/* A byte buffer that doubles. A failed append leaves it as it was. */
#include "base/bits.h"
#include "state/field.h"
#include <errno.h>
#include <stdlib.h>

#define BLOB_FIRST 256u

void blob_free(struct blob *b)
{
	free(b->data);
	*b = (struct blob){ 0 };
}

static int blob_grow(struct blob *b, size_t need)
{
	size_t cap = b->cap ? b->cap : BLOB_FIRST;
	u8 *data;

	while (cap < need)
		if (__builtin_mul_overflow(cap, 2u, &cap))
			return -ENOMEM;
	data = realloc(b->data, cap);
	if (!data)
		return -ENOMEM;
	b->data = data;
	b->cap = cap;
	return 0;
}

int blob_put(struct blob *b, const void *data, size_t len)
{
	size_t need;

	if (!len)
		return 0;
	if (__builtin_add_overflow(b->len, len, &need))
		return -ENOMEM;
	if (need > b->cap && blob_grow(b, need) < 0)
		return -ENOMEM;
	memcpy(b->data + b->len, data, len);
	b->len = need;
	return 0;
}
