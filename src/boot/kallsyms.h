/* The table of symbols inside a Linux kernel, found in the kernel's bytes. */
#pragma once
#include "boot/symbols.h"

/* Adds what the image holds; nothing, when it holds no such table. -ENOMEM, -E2BIG. */
NODISCARD int kallsyms_read(struct symbols *s, const u8 *image, u64 size);
