/*
 * Who uses an image: open-file-description locks on single bytes, the same bytes that QEMU and its
 * tools lock, so that the two refuse each other. A writer admits no other writer and no reader;
 * readers admit readers. The lock lives as long as the descriptor, whatever happens to the process.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"

/* -EBUSY with a message that names the holder where /proc shows it. A file system without such
 * locks is no error. */
NODISCARD int lock_take(int fd, const char *path, bool writing, struct err *err);
