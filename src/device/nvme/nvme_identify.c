/* What the controller and its namespace say of themselves (NVMe 1.4 5.15). */
#include "device/nvme/nvme_priv.h"
#include <stdio.h>

/* What is asked for: dword 10, bits 7:0 */
enum { CNS_NAMESPACE = 0, CNS_CONTROLLER = 1, CNS_NAMESPACES = 2, CNS_DESCRIPTORS = 3 };

/* 5.15.2.2, the controller's; 5.15.2.1, the namespace's */
enum {
	CTRL_VENDOR = 0,
	CTRL_SUBVENDOR = 2,
	CTRL_SERIAL = 4,
	CTRL_MODEL = 24,
	CTRL_FIRMWARE = 64,
	CTRL_BURST = 72,
	CTRL_MDTS = 77,
	CTRL_VERSION = 80,
	CTRL_TYPE = 111,
	CTRL_EVENT_LIMIT = 259,
	CTRL_FIRMWARE_SLOTS = 260,
	CTRL_LOGS = 261,
	CTRL_ERROR_ENTRIES = 262,
	CTRL_WARNING_TEMPERATURE = 266,
	CTRL_CRITICAL_TEMPERATURE = 268,
	CTRL_SQ_ENTRY = 512,
	CTRL_CQ_ENTRY = 513,
	CTRL_NAMESPACES = 516,
	CTRL_COMMANDS = 520,
	CTRL_CACHE = 525,
	CTRL_NAME = 768,
	CTRL_POWER = 2048,
};
enum {
	NS_SIZE = 0,
	NS_CAPACITY = 8,
	NS_USE = 16,
	NS_FEATURES = 24,
	NS_DEALLOCATE = 33,
	NS_WRITE_GRANULE = 64, /* five fields to 72 */
	NS_ATTRIBUTES = 99,
	NS_FORMAT = 128,
};

#define SERIAL_LEN	20u
#define MODEL		"Strata NVMe disk"
#define MODEL_LEN	40u
#define FIRMWARE	"1"
#define FIRMWARE_LEN	8u
#define NAME_LEN	256u
#define IO_CONTROLLER	1u
#define SLOT_READ_ONLY	(BIT(0) | 1u << 1) /* one slot, never written */
#define LOG_EFFECTS	BIT(1)
#define LOG_OFFSETS	BIT(2)
#define COMMANDS	(BIT(2) | BIT(3))  /* dataset management, write zeroes */
#define CACHE_PRESENT	(BIT(0) | 3u << 1) /* and Flush takes the broadcast namespace */
#define POWER_MAX	2500u		   /* of 10 mW */
#define HAS_GRANULES	BIT(4)
#define WRITE_PROTECTED BIT(0)
#define BLOCK_LOG2	9u
#define PHYSICAL	(4096 / BLOCK_SECTOR)
#define DESCRIPTOR_UUID 3u
#define UUID_LEN	16u
#define ALL_NAMESPACES	0xffffffffu

/* ASCII fields are filled up with blanks (1.5). */
static void put_text(u8 *to, const char *text, size_t size)
{
	size_t len = strnlen(text, size);

	memset(to, ' ', size);
	memcpy(to, text, len);
}

void nvme_identify_firmware(u8 revision[8]) { put_text(revision, FIRMWARE, FIRMWARE_LEN); }

static const char *serial(const struct nvme *n) { return n->serial ? n->serial : n->dev.name; }

/* Made from the serial number, so that it is the same whenever the machine starts: FNV-1a twice,
 * with the marks of a UUID of version 8 (RFC 9562 5.8). */
static void make_uuid(const struct nvme *n, u8 uuid[UUID_LEN])
{
	for (unsigned half = 0; half < 2; half++) {
		u64 hash = 0xcbf29ce484222325ull + half;

		for (const char *c = serial(n); *c; c++)
			hash = (hash ^ (u8)*c) * 0x100000001b3ull;
		put_le64(uuid + 8 * half, hash);
	}
	uuid[6] = (u8)((uuid[6] & 0x0f) | 0x80);
	uuid[8] = (u8)((uuid[8] & 0x3f) | 0x80);
}

static void put_name(const struct nvme *n, u8 *to)
{
	u8 u[UUID_LEN];

	make_uuid(n, u);
	snprintf((char *)to, NAME_LEN,
		"nqn.2014-08.org.nvmexpress:uuid:%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-"
		"%02x%02x%02x%02x%02x%02x",
		u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12],
		u[13], u[14], u[15]);
}

static void make_controller(const struct nvme *n, u8 *page)
{
	memcpy(page + CTRL_VENDOR, n->pci.config + PCI_VENDOR, 2);
	memcpy(page + CTRL_SUBVENDOR, n->pci.config + PCI_SUBVENDOR, 2);
	put_text(page + CTRL_SERIAL, serial(n), SERIAL_LEN);
	put_text(page + CTRL_MODEL, MODEL, MODEL_LEN);
	nvme_identify_firmware(page + CTRL_FIRMWARE);
	page[CTRL_BURST] = 6;
	page[CTRL_MDTS] = NVME_MDTS;
	put_le32(page + CTRL_VERSION, 0x00010400);
	page[CTRL_TYPE] = IO_CONTROLLER;
	page[CTRL_EVENT_LIMIT] = NVME_EVENTS_MAX - 1;
	page[CTRL_FIRMWARE_SLOTS] = SLOT_READ_ONLY;
	page[CTRL_LOGS] = LOG_EFFECTS | LOG_OFFSETS;
	page[CTRL_ERROR_ENTRIES] = NVME_ERRORS_MAX - 1;
	put_le16(page + CTRL_WARNING_TEMPERATURE, 0x157);
	put_le16(page + CTRL_CRITICAL_TEMPERATURE, 0x175);
	page[CTRL_SQ_ENTRY] = 0x66; /* 2^6 bytes, neither less nor more */
	page[CTRL_CQ_ENTRY] = 0x44;
	put_le32(page + CTRL_NAMESPACES, 1);
	put_le16(page + CTRL_COMMANDS, COMMANDS);
	page[CTRL_CACHE] = CACHE_PRESENT;
	put_name(n, page + CTRL_NAME);
	put_le16(page + CTRL_POWER, POWER_MAX);
}

static void make_namespace(const struct nvme *n, u8 *page)
{
	struct block_info info = nvme_disk(n);
	u64 blocks = info.size / BLOCK_SECTOR;
	u16 best = (u16)(max_u64(min_u64(info.optimal / BLOCK_SECTOR, 0x8000), PHYSICAL) - 1);

	put_le64(page + NS_SIZE, blocks);
	put_le64(page + NS_CAPACITY, blocks);
	put_le64(page + NS_USE, blocks);
	page[NS_FEATURES] = HAS_GRANULES;
	/* Writes and deallocations: what is natural, and where it is aligned; then the best size.
	 */
	put_le16(page + NS_WRITE_GRANULE, PHYSICAL - 1);
	put_le16(page + NS_WRITE_GRANULE + 2, PHYSICAL - 1);
	put_le16(page + NS_WRITE_GRANULE + 4, best);
	put_le16(page + NS_WRITE_GRANULE + 6, best);
	put_le16(page + NS_WRITE_GRANULE + 8, best);
	page[NS_ATTRIBUTES] = info.readonly ? WRITE_PROTECTED : 0;
	page[NS_FORMAT + 2] = BLOCK_LOG2;
}

/* 5.15.2.3: the type, the length, two bytes reserved, the identifier. */
static void make_descriptors(const struct nvme *n, u8 *page)
{
	page[0] = DESCRIPTOR_UUID;
	page[1] = UUID_LEN;
	make_uuid(n, page + 4);
}

enum nvme_status nvme_identify(struct nvme *n, const struct nvme_command *c, u32 *result)
{
	u8 page[NVME_PAGE_DATA] = { 0 };

	switch ((u8)c->dw[0]) {
	case CNS_NAMESPACE:
		if (c->nsid != 1 && c->nsid != ALL_NAMESPACES)
			return NVME_INVALID_NAMESPACE;
		if (c->nsid == 1)
			make_namespace(n, page);
		break;
	case CNS_CONTROLLER: make_controller(n, page); break;
	case CNS_NAMESPACES: /* those above */
		if (c->nsid >= ALL_NAMESPACES - 1)
			return NVME_INVALID_NAMESPACE;
		put_le32(page, c->nsid < 1 ? 1 : 0);
		break;
	case CNS_DESCRIPTORS:
		if (c->nsid != 1)
			return NVME_INVALID_NAMESPACE;
		make_descriptors(n, page);
		break;
	default: return NVME_INVALID_FIELD;
	}
	return nvme_put_data(n, c, page, sizeof(page), sizeof(page));
}
