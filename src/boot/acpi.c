/*
 * See acpi.h. The fixed tables are packed structs filled by name; section numbers are those of
 * ACPI 6.4. Tables that point to others are written after them.
 */
#include "boot/acpi.h"
#include "base/bits.h"
#include "base/must.h"
#include <assert.h>
#include <errno.h>

/* Layouts */

#define PACKED __attribute__((packed))

struct rsdp { /* 5.2.5.3 */
	char signature[8];
	u8 checksum; /* of the first 20 bytes, as ACPI 1.0 has it */
	char oem[6];
	u8 revision;
	u32 rsdt;
	u32 length;
	u64 xsdt;
	u8 extended_checksum;
	u8 reserved[3];
} PACKED;

struct header { /* 5.2.6 */
	char signature[4];
	u32 length;
	u8 revision;
	u8 checksum;
	char oem[6], oem_table[8];
	u32 oem_revision;
	char creator[4];
	u32 creator_revision;
} PACKED;

struct gas { /* 5.2.3.2 */
	u8 space, width, offset, access;
	u64 address;
} PACKED;

enum { GAS_MEMORY = 0, GAS_IO = 1 };
enum { GAS_BYTE = 1, GAS_WORD = 2, GAS_DWORD = 3 };

struct fadt { /* 5.2.9 */
	struct header header;
	u32 facs, dsdt;
	u8 reserved0, profile;
	u16 sci_irq;
	u32 smi_command;
	u8 acpi_enable, acpi_disable, s4bios, pstate;
	u32 pm1a_event, pm1b_event, pm1a_control, pm1b_control, pm2_control, pm_timer, gpe0, gpe1;
	u8 pm1_event_len, pm1_control_len, pm2_control_len, pm_timer_len, gpe0_len, gpe1_len,
		gpe1_base;
	u8 cst;
	u16 c2_latency, c3_latency, flush_size, flush_stride;
	u8 duty_offset, duty_width, day_alarm, month_alarm, century;
	u16 boot_arch;
	u8 reserved1;
	u32 flags;
	struct gas reset;
	u8 reset_value;
	u16 arm_boot_arch;
	u8 minor;
	u64 x_facs, x_dsdt;
	struct gas x_pm1a_event, x_pm1b_event, x_pm1a_control, x_pm1b_control, x_pm2_control,
		x_pm_timer, x_gpe0, x_gpe1, sleep_control, sleep_status;
	char hypervisor[8];
} PACKED;

/* Fixed feature flags, table 5.10. PWR_BUTTON and SLP_BUTTON clear would mean fixed buttons; the
 * first we have, the second not. */
#define FADT_WBINVD	 BIT(0)
#define FADT_PROC_C1	 BIT(2)
#define FADT_NO_SLEEP	 BIT(5)
#define FADT_NO_RTC_WAKE BIT(6)
#define FADT_TMR_32BIT	 BIT(8)
#define FADT_RESET	 BIT(10)

/* Boot architecture flags, table 5.11 */
#define BOOT_LEGACY_DEVICES BIT(0)
#define BOOT_8042	    BIT(1)
#define BOOT_NO_VGA	    BIT(2)

struct facs { /* 5.2.10 */
	char signature[4];
	u32 length, hardware_signature, waking_vector, global_lock, flags;
	u64 x_waking_vector;
	u8 version, reserved0[3];
	u32 ospm_flags;
	u8 reserved1[24];
} PACKED;

struct hpet_table { /* IA-PC HPET 1.0a, 3.2.4 */
	struct header header;
	u32 id;
	struct gas base;
	u8 number;
	u16 min_tick;
	u8 flags;
} PACKED;

struct mcfg { /* PCI Firmware 3.0, 4.1.2: one segment, all buses */
	struct header header;
	u64 reserved0;
	u64 base;
	u16 segment;
	u8 first_bus, last_bus;
	u32 reserved1;
} PACKED;

struct madt { /* 5.2.12 */
	struct header header;
	u32 lapic_base, flags;
} PACKED;

struct madt_lapic { /* 5.2.12.2 */
	u8 type, length, uid, id;
	u32 flags;
} PACKED;

struct madt_ioapic { /* 5.2.12.3 */
	u8 type, length, id, reserved;
	u32 base, gsi_base;
} PACKED;

struct madt_override { /* 5.2.12.5 */
	u8 type, length, bus, irq;
	u32 gsi;
	u16 flags;
} PACKED;

struct madt_nmi { /* 5.2.12.7 */
	u8 type, length, uid;
	u16 flags;
	u8 lint;
} PACKED;

struct srat { /* 5.2.16 */
	struct header header;
	u32 one;
	u64 reserved;
} PACKED;

struct srat_cpu { /* 5.2.16.1 */
	u8 type, length, node, apic_id;
	u32 flags;
	u8 eid, node_high[3];
	u32 clock_domain;
} PACKED;

struct srat_memory { /* 5.2.16.2 */
	u8 type, length;
	u32 node;
	u16 reserved0;
	u64 base, size;
	u32 reserved1, flags;
	u64 reserved2;
} PACKED;

struct slit { /* 5.2.17; then, row by row, how far each node is from each */
	struct header header;
	u64 nodes;
} PACKED;

enum { SRAT_CPU = 0, SRAT_MEMORY = 1 };
#define SRAT_ENABLED 1u
#define SLIT_HERE    10u
#define SLIT_THERE   20u

enum { MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_OVERRIDE = 2, MADT_NMI = 4 };

#define MADT_PCAT_COMPAT 1u /* there are 8259s too */
#define MPS_AS_BUS	 0u
#define MPS_HIGH_LEVEL	 0xdu
#define ALL_PROCESSORS	 0xff

static_assert(sizeof(struct rsdp) == 36, "5.2.5.3");
static_assert(sizeof(struct header) == 36, "5.2.6");
static_assert(sizeof(struct fadt) == 276, "5.2.9");
static_assert(offsetof(struct fadt, boot_arch) == 109, "5.2.9");
static_assert(offsetof(struct fadt, reset) == 116, "5.2.9");
static_assert(offsetof(struct fadt, x_dsdt) == 140, "5.2.9");
static_assert(sizeof(struct facs) == 64, "5.2.10");
static_assert(sizeof(struct hpet_table) == 56, "HPET 1.0a 3.2.4");
static_assert(sizeof(struct srat) == 48, "5.2.16");
static_assert(sizeof(struct srat_cpu) == 16, "5.2.16.1");
static_assert(sizeof(struct srat_memory) == 40, "5.2.16.2");
static_assert(sizeof(struct mcfg) == 60, "PCI Firmware 3.0, 4.1.2");

#define LAPIC_BASE  0xfee00000u
#define IOAPIC_BASE 0xfec00000u
#define HPET_BASE   0xfed00000u

/* The image */

static u64 address(u32 offset) { return ACPI_BASE + offset; }

/* Reserves len zeroed bytes. The largest machine needs half of the area. */
static void *take(struct acpi_image *image, u32 len)
{
	u32 at = image->len;

	must(range_ok(at, len, ACPI_SIZE), "ACPI tables need %u bytes more at %u", len, at);
	image->len += len;
	return image->data + at;
}

static void append(struct acpi_image *image, const void *data, u32 len)
{
	memcpy(take(image, len), data, len);
}

static u8 checksum(const void *data, u32 len)
{
	const u8 *bytes = data;
	u8 sum = 0;

	for (u32 i = 0; i < len; i++)
		sum += bytes[i];
	return (u8)-sum;
}

static struct header header(const char *signature, u8 revision)
{
	struct header h = { .revision = revision, .oem_revision = 1, .creator_revision = 1 };

	memcpy(h.signature, signature, sizeof(h.signature));
	memcpy(h.oem, "STRATA", sizeof(h.oem));
	memcpy(h.oem_table, "STRATAPC", sizeof(h.oem_table));
	memcpy(h.creator, "STRA", sizeof(h.creator));
	return h;
}

/* Starts a table at the next boundary. */
static u32 begin(struct acpi_image *image, u32 boundary)
{
	image->len = (u32)align_up(image->len, boundary);
	return image->len;
}

/* Records the table from `start` to here; one with the standard header gets length and checksum. */
static void end(struct acpi_image *image, u32 start, bool has_header)
{
	must(image->count < ACPI_TABLES_MAX, "more than %d ACPI tables", ACPI_TABLES_MAX);
	struct acpi_table *t = &image->tables[image->count++];

	*t = (struct acpi_table){ .offset = start, .len = image->len - start };
	memcpy(t->signature, image->data + start, 4);
	if (has_header) {
		struct header *h = (struct header *)(image->data + start);

		h->length = t->len;
		h->checksum = checksum(h, t->len);
	}
}

/* Tables; each returns its offset */

static u32 add_facs(struct acpi_image *image)
{
	struct facs facs = { .signature = "FACS", .length = sizeof(facs), .version = 2 };
	u32 start = begin(image, 64);

	append(image, &facs, sizeof(facs));
	end(image, start, false);
	return start;
}

static u32 add_dsdt(struct acpi_image *image, const struct acpi_config *c)
{
	u32 start = begin(image, 16);
	struct header h = header("DSDT", 2);

	append(image, &h, sizeof(h));
	u32 len = acpi_dsdt(image->data + image->len, ACPI_SIZE - image->len, c);
	must(len, "no room for the DSDT");
	take(image, len);
	end(image, start, true);
	return start;
}

static struct gas io(u64 port, u8 bytes)
{
	u8 access = bytes == 1 ? GAS_BYTE : bytes == 2 ? GAS_WORD : GAS_DWORD;

	return (struct gas){ GAS_IO, (u8)(bytes * 8), 0, access, port };
}

/* 4.8.3. Each block is given twice, in the old form and in the extended one. */
static void fill_ports(struct fadt *f, const struct acpi_ports *p)
{
	f->smi_command = p->smi_command;
	f->acpi_enable = p->smi_command ? p->enable : 0;
	f->acpi_disable = p->smi_command ? p->disable : 0;
	f->pm1a_event = p->event;
	f->pm1_event_len = 4;
	f->x_pm1a_event = io(p->event, 4);
	f->pm1a_control = p->control;
	f->pm1_control_len = 2;
	f->x_pm1a_control = io(p->control, 2);
	f->pm_timer = p->timer;
	f->pm_timer_len = 4;
	f->x_pm_timer = io(p->timer, 4);
	if (p->gpe0) {
		f->gpe0 = p->gpe0;
		f->gpe0_len = 4;
		f->x_gpe0 = io(p->gpe0, 4);
		f->x_gpe0.access = GAS_BYTE; /* one byte of status at a time, 4.8.4.1 */
	}
	if (p->reset) {
		f->flags |= FADT_RESET;
		f->reset = io(p->reset, 1);
		f->reset_value = p->reset_value;
	}
}

static u32 add_fadt(struct acpi_image *image, const struct acpi_config *c, u32 facs, u32 dsdt)
{
	struct fadt f = {
		.header = header("FACP", 6),
		.minor = 4,
		.facs = (u32)address(facs),
		.dsdt = (u32)address(dsdt),
		.x_dsdt = address(dsdt),
		.sci_irq = c->sci_irq,
		.c2_latency = 101, /* above 100 and 1000: no such states */
		.c3_latency = 1001,
		.century = 0x32, /* in CMOS memory */
		.boot_arch = BOOT_LEGACY_DEVICES | (c->i8042 ? BOOT_8042 : 0) |
			     (c->vga ? 0 : BOOT_NO_VGA),
		.flags = FADT_WBINVD | FADT_PROC_C1 | FADT_NO_SLEEP | FADT_NO_RTC_WAKE |
			 (c->timer_32bit ? FADT_TMR_32BIT : 0),
		.hypervisor = "Strata",
	};
	u32 start = begin(image, 16);

	fill_ports(&f, &c->ports);
	append(image, &f, sizeof(f));
	end(image, start, true);
	return start;
}

static u32 add_madt(struct acpi_image *image, const struct acpi_config *c)
{
	struct madt madt = { header("APIC", 5), LAPIC_BASE, MADT_PCAT_COMPAT };
	struct madt_ioapic ioapic = { MADT_IOAPIC, sizeof(ioapic), 0, 0, IOAPIC_BASE, 0 };
	/* The 8254 is wired to pin 2, where the cascade of the 8259s leaves room. */
	struct madt_override timer = { MADT_OVERRIDE, sizeof(timer), 0, 0, 2, MPS_AS_BUS };
	struct madt_override sci = { MADT_OVERRIDE, sizeof(sci), 0, c->sci_irq, c->sci_irq,
		MPS_HIGH_LEVEL };
	struct madt_nmi nmi = { MADT_NMI, sizeof(nmi), ALL_PROCESSORS, MPS_AS_BUS, 1 };
	u32 start = begin(image, 16);

	append(image, &madt, sizeof(madt));
	for (unsigned i = 0; i < x86_topology_count(&c->topology); i++) {
		u8 id = (u8)x86_topology_apic_id(&c->topology, i);
		struct madt_lapic cpu = { MADT_LAPIC, sizeof(cpu), (u8)i, id, 1 };

		append(image, &cpu, sizeof(cpu));
	}
	append(image, &ioapic, sizeof(ioapic));
	append(image, &timer, sizeof(timer));
	append(image, &sci, sizeof(sci));
	append(image, &nmi, sizeof(nmi));
	end(image, start, true);
	return start;
}

static u32 add_hpet(struct acpi_image *image, const struct acpi_config *c)
{
	struct hpet_table hpet = {
		.header = header("HPET", 1),
		.id = c->hpet_id,
		.base = { GAS_MEMORY, 64, 0, 0, HPET_BASE },
		.min_tick = c->hpet_min_tick,
	};
	u32 start = begin(image, 16);

	append(image, &hpet, sizeof(hpet));
	end(image, start, true);
	return start;
}

static u32 add_mcfg(struct acpi_image *image, const struct acpi_config *c)
{
	struct mcfg mcfg = { .header = header("MCFG", 1), .base = c->pci->ecam, .last_bus = 255 };
	u32 start = begin(image, 16);

	append(image, &mcfg, sizeof(mcfg));
	end(image, start, true);
	return start;
}

/* A node for each socket. */
static u32 add_srat(struct acpi_image *image, const struct acpi_config *c)
{
	struct srat srat = { .header = header("SRAT", 3), .one = 1 };
	u32 start = begin(image, 16);

	append(image, &srat, sizeof(srat));
	for (unsigned i = 0; i < x86_topology_count(&c->topology); i++) {
		struct srat_cpu cpu = {
			.type = SRAT_CPU,
			.length = sizeof(cpu),
			.node = (u8)x86_topology_socket(&c->topology, i),
			.apic_id = (u8)x86_topology_apic_id(&c->topology, i),
			.flags = SRAT_ENABLED,
		};

		append(image, &cpu, sizeof(cpu));
	}
	for (unsigned i = 0; i < c->near_count; i++) {
		struct srat_memory memory = {
			.type = SRAT_MEMORY,
			.length = sizeof(memory),
			.node = c->near[i].socket,
			.base = c->near[i].base,
			.size = c->near[i].size,
			.flags = SRAT_ENABLED,
		};

		append(image, &memory, sizeof(memory));
	}
	end(image, start, true);
	return start;
}

static u32 add_slit(struct acpi_image *image, const struct acpi_config *c)
{
	unsigned nodes = c->topology.sockets;
	struct slit slit = { header("SLIT", 1), nodes };
	u32 start = begin(image, 16);

	append(image, &slit, sizeof(slit));
	for (unsigned i = 0; i < nodes * nodes; i++) {
		u8 distance = i / nodes == i % nodes ? SLIT_HERE : SLIT_THERE;

		append(image, &distance, sizeof(distance));
	}
	end(image, start, true);
	return start;
}

/* RSDT and XSDT, 5.2.7 and 5.2.8: the same list in pointers of 4 and 8 bytes. */
static u32 add_list(struct acpi_image *image, const char *signature, u32 pointer_size,
	const u32 *offsets, unsigned count)
{
	u32 start = begin(image, 16);
	struct header h = header(signature, 1);

	append(image, &h, sizeof(h));
	for (unsigned i = 0; i < count; i++) {
		u64 at = address(offsets[i]);

		append(image, &at, pointer_size);
	}
	end(image, start, true);
	return start;
}

static void fill_rsdp(struct acpi_image *image, u32 rsdt, u32 xsdt)
{
	struct rsdp *r = (struct rsdp *)image->data;

	*r = (struct rsdp){
		.revision = 2,
		.rsdt = (u32)address(rsdt),
		.length = sizeof(*r),
		.xsdt = address(xsdt),
	};
	memcpy(r->signature, "RSD PTR ", sizeof(r->signature));
	memcpy(r->oem, "STRATA", sizeof(r->oem));
	r->checksum = checksum(r, 20);
	r->extended_checksum = checksum(r, sizeof(*r));
	image->rsdp = gpa(ACPI_BASE);
}

/* Whole */

int acpi_build(struct acpi_image *image, const struct acpi_config *c, struct err *err)
{
	unsigned count = 0, cpus = x86_topology_count(&c->topology);
	u32 listed[6];

	if (!cpus || cpus > ACPI_CPUS_MAX ||
		x86_topology_apic_id(&c->topology, cpus - 1) >= ACPI_CPUS_MAX)
		return err_set(err, -EINVAL, "ACPI tables: %u processors, not 1 to %d", cpus,
			ACPI_CPUS_MAX);
	if (c->sci_irq >= 16 || c->com_ports > 2)
		return err_set(err, -EINVAL, "ACPI tables: SCI %u, %u serial ports", c->sci_irq,
			c->com_ports);

	*image = (struct acpi_image){ 0 };
	take(image, sizeof(struct rsdp));
	u32 facs = add_facs(image);
	u32 dsdt = add_dsdt(image, c);
	listed[count++] = add_fadt(image, c, facs, dsdt);
	listed[count++] = add_madt(image, c);
	if (c->hpet_id)
		listed[count++] = add_hpet(image, c);
	if (c->pci)
		listed[count++] = add_mcfg(image, c);
	if (c->near_count) {
		listed[count++] = add_srat(image, c);
		listed[count++] = add_slit(image, c);
	}
	u32 rsdt = add_list(image, "RSDT", 4, listed, count);
	u32 xsdt = add_list(image, "XSDT", 8, listed, count);
	fill_rsdp(image, rsdt, xsdt);
	return 0;
}

int acpi_load(const struct acpi_image *image, struct memory *m, struct err *err)
{
	if (!memory_load(m, gpa(ACPI_BASE), image->data, image->len))
		return err_set(err, -EFAULT, "ACPI tables: no memory at 0x%llx", ACPI_BASE);
	return 0;
}
