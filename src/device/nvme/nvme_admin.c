/* Commands of the admin queue (NVMe 1.4 chapter 5), by table; each ends in its handler. */
#include "device/nvme/nvme_priv.h"

enum {
	DELETE_SQ = 0x00,
	CREATE_SQ = 0x01,
	GET_LOG = 0x02,
	DELETE_CQ = 0x04,
	CREATE_CQ = 0x05,
	IDENTIFY = 0x06,
	ABORT = 0x08,
	SET_FEATURES = 0x09,
	GET_FEATURES = 0x0a,
	ASYNC_EVENT = 0x0c
};

/* dword 10 and 11 of the commands that make queues, 5.3 and 5.4 */
#define QUEUE_ID(dw10)	 ((u16)(dw10))
#define QUEUE_SIZE(dw10) (bits(dw10, 31, 16) + 1)
#define CONTIGUOUS(dw11) ((dw11)&BIT(0))
#define INTERRUPTS(dw11) ((dw11)&BIT(1))
#define UPPER(dw11)	 ((u16)((dw11) >> 16))
#define NOT_ABORTED	 1u /* 5.1 */

typedef enum nvme_status admin_fn(struct nvme *n, const struct nvme_command *c, u32 *result);

static bool valid_id(const struct nvme *n, unsigned id) { return id && id <= n->queues; }

static enum nvme_status check_queue(const struct nvme_command *c)
{
	u64 size = QUEUE_SIZE(c->dw[0]);

	if (size < 2 || size > NVME_ENTRIES_MAX)
		return NVME_INVALID_QUEUE_SIZE;
	if (!CONTIGUOUS(c->dw[1]))
		return NVME_INVALID_FIELD;
	return c->prp1 & PAGE_MASK ? NVME_INVALID_PRP_OFFSET : NVME_OK;
}

static enum nvme_status create_cq(struct nvme *n, const struct nvme_command *c, u32 *result)
{
	unsigned id = QUEUE_ID(c->dw[0]);
	enum nvme_status status = check_queue(c);

	if (!valid_id(n, id) || n->cq[id].open)
		return NVME_INVALID_QUEUE;
	if (UPPER(c->dw[1]) >= NVME_PAIRS)
		return NVME_INVALID_VECTOR;
	if (!status)
		n->cq[id] = (struct nvme_cq){ .base = c->prp1,
			.size = (u16)QUEUE_SIZE(c->dw[0]),
			.vector = UPPER(c->dw[1]),
			.interrupts = INTERRUPTS(c->dw[1]),
			.open = true,
			.phase = true };
	return status;
}

static enum nvme_status create_sq(struct nvme *n, const struct nvme_command *c, u32 *result)
{
	unsigned id = QUEUE_ID(c->dw[0]), cq = UPPER(c->dw[1]);
	enum nvme_status status = check_queue(c);

	if (!valid_id(n, cq) || !n->cq[cq].open)
		return NVME_INVALID_CQ;
	if (!valid_id(n, id) || n->sq[id].open)
		return NVME_INVALID_QUEUE;
	if (!status)
		n->sq[id] = (struct nvme_sq){ .base = c->prp1,
			.size = (u16)QUEUE_SIZE(c->dw[0]),
			.cq = (u16)cq,
			.open = true };
	return status;
}

/* 5.6: the queue's commands have ended when this one does. */
static enum nvme_status delete_sq(struct nvme *n, const struct nvme_command *c, u32 *result)
{
	unsigned id = QUEUE_ID(c->dw[0]);

	if (!valid_id(n, id) || !n->sq[id].open)
		return NVME_INVALID_QUEUE;
	n->dev.env.disk->drain(n->dev.env.disk_ctx);
	n->sq[id] = (struct nvme_sq){ 0 };
	return NVME_OK;
}

static enum nvme_status delete_cq(struct nvme *n, const struct nvme_command *c, u32 *result)
{
	unsigned id = QUEUE_ID(c->dw[0]);

	if (!valid_id(n, id) || !n->cq[id].open)
		return NVME_INVALID_QUEUE;
	for (unsigned i = 1; i < NVME_PAIRS; i++)
		if (n->sq[i].open && n->sq[i].cq == id)
			return NVME_INVALID_QUEUE_DELETION;
	n->cq[id] = (struct nvme_cq){ 0 };
	return NVME_OK;
}

/* What has been taken is at the disk, which cannot be told to forget it (5.1 allows that). */
static enum nvme_status abort_command(struct nvme *n, const struct nvme_command *c, u32 *result)
{
	*result = NOT_ABORTED;
	return NVME_OK;
}

static const struct row {
	u8 op;
	admin_fn *fn;
} rows[] = {
	{ DELETE_SQ, delete_sq },
	{ CREATE_SQ, create_sq },
	{ GET_LOG, nvme_get_log },
	{ DELETE_CQ, delete_cq },
	{ CREATE_CQ, create_cq },
	{ IDENTIFY, nvme_identify },
	{ ABORT, abort_command },
	{ SET_FEATURES, nvme_set_features },
	{ GET_FEATURES, nvme_get_features },
	{ ASYNC_EVENT, nvme_hold_event },
};

void nvme_admin_effects(u32 effects[256])
{
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
		effects[rows[i].op] = BIT(0);
}

void nvme_admin(struct nvme *n, const struct nvme_command *c)
{
	enum nvme_status status = NVME_INVALID_OPCODE;
	u32 result = 0;

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].op == c->op)
			status = c->flags & 3 ? NVME_INVALID_FIELD : rows[i].fn(n, c, &result);
	if (status == NVME_LATER)
		return;
	if (status)
		nvme_log_error(
			n, &(struct nvme_error){
				   .sq = 0, .id = c->id, .status = (u16)status, .nsid = c->nsid });
	nvme_complete(n, 0, c->id, status, result);
}
