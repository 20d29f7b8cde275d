/*
 * SMBIOS tables (DSP0134 3.0): who made the machine and what memory and processors it has. Both
 * entry points are given: the 64-bit one and the older one, which more guests look for.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"
#include "memory/memory.h"
#include "x86/topology.h"

/* Legacy systems search 0xf0000-0xfffff on 16-byte boundaries (5.2.1). */
#define SMBIOS_BASE 0xf0000ull
#define SMBIOS_SIZE 0x1000u

/* Where in the image the older entry point is, and the structures: firmware that places them itself
 * takes the two apart. */
#define SMBIOS_ANCHOR	  0x20u
#define SMBIOS_ANCHOR_LEN 31u
#define SMBIOS_STRUCTURES 0x40u

struct smbios_config {
	struct x86_topology topology; /* a few sockets: each has its structure */
	u8 uuid[16];		      /* as it is shown, first byte first; all zero: none */
	const char *version;	      /* of Strata; NULL: none given */
};

struct smbios_image {
	u8 data[SMBIOS_SIZE]; /* both entry points, then the structures */
	u32 len;
};

/* Memory is described as the slots of m have it. */
void smbios_build(
	struct smbios_image *image, const struct smbios_config *config, const struct memory *m);
NODISCARD int smbios_load(const struct smbios_image *image, struct memory *m, struct err *err);
