/* What tests of images share: files in a folder of their own, patterns, requests. */
#pragma once
#include "base/bits.h"
#include "block/block.h"
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h> /* needs the above */

/* A path in a folder that image_cleanup() removes. Eight at a time. */
const char *image_path(const char *name);
int image_cleanup(void **state);

/* Bytes that depend on where they are and on a seed. */
void image_pattern(u8 *buf, u64 len, u64 offset, u32 seed);

struct block *image_open(const char *path, const struct block_options *o);
void image_close(struct block *b);
/* The error that opening gives. */
const char *image_refused(const char *path, const struct block_options *o);

/* The exit status of a shell command; its output is in image_output. */
int image_shell(const char *fmt, ...) PRINTF(1, 2);
extern char image_output[8192];
bool image_has_tool(const char *name);
