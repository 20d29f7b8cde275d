/*
 * Log pages (NVMe 1.4 5.14) and asynchronous events (5.2). The only events are errors of the
 * driver's doorbells: one is told at a time, and the next after the driver has read the error log.
 */
#include "device/nvme/nvme_priv.h"

enum { LOG_ERRORS = 1, LOG_HEALTH = 2, LOG_FIRMWARE = 3, LOG_EFFECTS = 5 };

/* dwords 10 and 11 of Get Log Page */
#define RETAIN		BIT(15)
#define DWORDS(c)	(((u64)(u16)(c)->dw[1] << 16 | (c)->dw[0] >> 16) + 1)
#define EVENT_ERROR	0u /* 5.2.1: type in bits 2:0, information in 15:8, log page in 23:16 */
#define ERROR_ENTRY	64u
#define TEMPERATURE	310u /* kelvins */
#define SPARE		100u
#define SPARE_THRESHOLD 10u

/* ---- events ---- */

enum nvme_status nvme_hold_event(struct nvme *n, const struct nvme_command *c, u32 *result)
{
	if (n->event_count == NVME_EVENTS_MAX)
		return NVME_EVENT_LIMIT;
	n->event_ids[n->event_count++] = c->id;
	/* It may wait for ever, and keeps no place for its completion. */
	n->cq[0].reserved--;
	nvme_send_events(n);
	return NVME_LATER;
}

void nvme_send_events(struct nvme *n)
{
	unsigned info = 0;

	if (!n->events_waiting || n->events_masked || !n->event_count || !nvme_ready(n) ||
		!nvme_has_room(n, 0))
		return;
	while (!(n->events_waiting & BIT(info)))
		info++;
	n->events_waiting &= (u8)~BIT(info);
	n->events_masked = true;
	n->cq[0].reserved++;
	nvme_complete(n, 0, n->event_ids[--n->event_count], NVME_OK,
		EVENT_ERROR | info << 8 | LOG_ERRORS << 16);
}

void nvme_error_event(struct nvme *n, enum nvme_error_event what)
{
	n->events_waiting |= (u8)BIT(what);
	nvme_send_events(n);
}

/* ---- what the pages say ---- */

void nvme_log_error(struct nvme *n, const struct nvme_error *e)
{
	memmove(&n->errors[1], &n->errors[0], sizeof(n->errors) - sizeof(n->errors[0]));
	n->errors[0] = *e;
	n->errors[0].count = ++n->error_count;
}

/* 5.14.1.1, the newest first */
static u64 make_errors(const struct nvme *n, u8 *page)
{
	for (unsigned i = 0; i < NVME_ERRORS_MAX; i++) {
		const struct nvme_error *e = &n->errors[i];
		u8 *at = page + i * ERROR_ENTRY;

		if (!e->count)
			continue;
		put_le64(at, e->count);
		put_le16(at + 8, e->sq);
		put_le16(at + 10, e->id);
		put_le16(at + 12, (u16)(e->status << 1));
		put_le16(at + 14, 0xffff); /* which parameter: not told */
		put_le64(at + 16, e->lba);
		put_le32(at + 24, e->nsid);
	}
	return NVME_ERRORS_MAX * ERROR_ENTRY;
}

/* 5.14.1.2; data in thousands of 512 bytes, rounded up */
static u64 make_health(const struct nvme *n, u8 *page)
{
	u64 hours = clock_now(n->dev.env.clock) / 1000000000u / 3600;

	put_le16(page + 1, TEMPERATURE);
	page[3] = SPARE;
	page[4] = SPARE_THRESHOLD;
	put_le64(page + 32, (n->blocks_read + 999) / 1000);
	put_le64(page + 48, (n->blocks_written + 999) / 1000);
	put_le64(page + 64, n->reads);
	put_le64(page + 80, n->writes);
	put_le64(page + 112, 1); /* power cycles */
	put_le64(page + 128, hours);
	put_le64(page + 160, n->media_errors);
	put_le64(page + 176, n->error_count);
	return 512;
}

static u64 make_firmware(const struct nvme *n, u8 *page)
{
	page[0] = 1; /* the slot in use */
	nvme_identify_firmware(page + 8);
	return 512;
}

static u64 make_effects(const struct nvme *n, u8 *page)
{
	u32 effects[512] = { 0 };

	nvme_admin_effects(effects);
	nvme_io_effects(effects + 256);
	memcpy(page, effects, sizeof(effects));
	return 4096;
}

static u64 make_page(const struct nvme *n, u8 which, u8 *page)
{
	switch (which) {
	case LOG_ERRORS: return make_errors(n, page);
	case LOG_HEALTH: return make_health(n, page);
	case LOG_FIRMWARE: return make_firmware(n, page);
	case LOG_EFFECTS: return make_effects(n, page);
	default: return 0;
	}
}

enum nvme_status nvme_get_log(struct nvme *n, const struct nvme_command *c, u32 *result)
{
	u8 page[NVME_PAGE_DATA] = { 0 };
	u64 size = make_page(n, (u8)c->dw[0], page), len = DWORDS(c) * 4;
	u64 offset = c->dw[2] | (u64)c->dw[3] << 32;
	enum nvme_status status;

	if (!size)
		return NVME_INVALID_LOG;
	if (offset > size || offset & 3 || len > NVME_DATA_MAX)
		return NVME_INVALID_FIELD;
	status = nvme_put_data(n, c, page + offset, size - offset, len);
	if (!status && (u8)c->dw[0] == LOG_ERRORS && !(c->dw[0] & RETAIN)) {
		n->events_masked = false;
		nvme_send_events(n);
	}
	return status;
}
