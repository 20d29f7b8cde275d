/*
 * Features (NVMe 1.4 5.21), by table: the value at reset and the bits that may be set. Nothing is
 * kept over a reset, and what is set but has no effect here (arbitration among queues that are
 * served in turn, coalescing of interrupts, error recovery) is remembered and told back.
 */
#include "device/nvme/nvme_priv.h"

enum { FEATURE_CACHE = 0x06, FEATURE_QUEUES = 0x07, FEATURE_VECTOR = 0x09 };
enum { ROW_CACHE = 4 };

#define SAVE	      BIT(31)		/* dword 10 of Set Features */
#define SELECT(dw10)  bits(dw10, 10, 8) /* of Get Features */
#define CACHE_ENABLE  BIT(0)
#define NO_COALESCING BIT(16)
#define TEMPERATURE   0x157u /* 70 degrees Celsius, in kelvins */

static const struct row {
	u8 id;
	u32 init, writable;
} rows[] = {
	{ 0x01, 0x00000007, 0xffffff07 }, /* arbitration: no limit */
	{ 0x02, 0, 0 },			  /* power management: one state */
	{ 0x04, TEMPERATURE, 0x0000ffff }, { 0x05, 0, 0x0000ffff }, /* error recovery */
	[ROW_CACHE] = { FEATURE_CACHE, CACHE_ENABLE, CACHE_ENABLE },
	{ 0x08, 0, 0x0000ffff }, /* interrupt coalescing */
	{ 0x0a, 0, 1 },		 /* write atomicity */
	{ 0x0b, 0, 0x0000031f }, /* events wanted */
	{ 0x80, 0, 0x000000ff }, /* software progress marker */
};

_Static_assert(ARRAY_LEN(rows) == NVME_FEATURES, "NVME_FEATURES");

void nvme_reset_features(struct nvme *n)
{
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
		n->features[i] = rows[i].init;
}

bool nvme_caches_writes(const struct nvme *n) { return n->features[ROW_CACHE] & CACHE_ENABLE; }

/* 5.21.1.7: as many as there are, whatever was asked for, before any is made. */
static enum nvme_status set_queues(struct nvme *n, const struct nvme_command *c, u32 *result)
{
	for (unsigned i = 1; i < NVME_PAIRS; i++)
		if (n->sq[i].open || n->cq[i].open)
			return NVME_SEQUENCE_ERROR;
	if ((u16)c->dw[1] == 0xffff || c->dw[1] >> 16 == 0xffff)
		return NVME_INVALID_FIELD;
	*result = (u32)(n->queues - 1) * 0x10001u;
	return NVME_OK;
}

/* 5.21.1.9: of the vector in dword 11; none coalesces. */
static enum nvme_status get_vector(const struct nvme_command *c, u32 *result)
{
	if ((u16)c->dw[1] >= NVME_PAIRS)
		return NVME_INVALID_FIELD;
	*result = (u16)c->dw[1] | NO_COALESCING;
	return NVME_OK;
}

/* What the disk cannot lose is not cached: a flush that nobody asks for follows each write. */
static void cache_changed(struct nvme *n, u32 before)
{
	if (before & CACHE_ENABLE && !nvme_caches_writes(n))
		nvme_io_flush_now(n);
}

enum nvme_status nvme_set_features(struct nvme *n, const struct nvme_command *c, u32 *result)
{
	u8 id = (u8)c->dw[0];

	if (c->dw[0] & SAVE)
		return NVME_NOT_SAVEABLE;
	if (id == FEATURE_QUEUES)
		return set_queues(n, c, result);
	if (id == FEATURE_VECTOR)
		return c->dw[1] & NO_COALESCING ? NVME_OK : NVME_NOT_CHANGEABLE;
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		u32 before = n->features[i];

		if (rows[i].id != id)
			continue;
		if (c->dw[1] & ~rows[i].writable)
			return NVME_INVALID_FIELD;
		n->features[i] = c->dw[1];
		if (i == ROW_CACHE)
			cache_changed(n, before);
		return NVME_OK;
	}
	return NVME_INVALID_FIELD;
}

enum nvme_status nvme_get_features(struct nvme *n, const struct nvme_command *c, u32 *result)
{
	u8 id = (u8)c->dw[0];

	if (SELECT(c->dw[0])) /* ONCS says that it is not supported */
		return NVME_INVALID_FIELD;
	if (id == FEATURE_VECTOR)
		return get_vector(c, result);
	if (id == FEATURE_QUEUES) {
		*result = (u32)(n->queues - 1) * 0x10001u;
		return NVME_OK;
	}
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].id == id) {
			*result = n->features[i];
			return NVME_OK;
		}
	return NVME_INVALID_FIELD;
}
