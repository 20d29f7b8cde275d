/* A disk's options, by table. A comma in a file's name is written twice. */
#include "cli/disk_option.h"
#include "base/bits.h"
#include "base/scope.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum kind { TEXT, CHOICE, SWITCH, NUMBER, SIZE };

#define AT(member) offsetof(struct machine_disk_config, member)

static const char *const buses[] = { "virtio", "nvme", "ahci", "ide", NULL };

static const char *const transports[] = { "pci", "mmio", NULL };

static const struct row {
	const char *name, *doc;
	enum kind kind;
	size_t offset;
	const char *const *choices;
	unsigned max;
} rows[] = {
	{ "format", "of the image: raw or qcow2; otherwise what the file looks like", TEXT,
		AT(options.format) },
	{ "bus", "where the guest finds it: virtio (default), nvme, ahci or ide", CHOICE, AT(bus),
		buses },
	{ "cache", "writeback (default), none, writethrough or unsafe", CHOICE, AT(options.cache),
		block_cache_names },
	{ "readonly", "the guest cannot write to it", SWITCH, AT(options.readonly) },
	{ "serial", "what the guest is told as its serial number, up to 20 characters", TEXT,
		AT(serial) },
	{ "queues", "request queues (default: one for each processor, with bus=nvme at least two)",
		NUMBER, AT(queues), NULL, MACHINE_DISK_QUEUES_MAX },
	{ "packed", "offer virtio's packed rings", SWITCH, AT(packed) },
	{ "iops", "requests a second that the guest gets at most", NUMBER, AT(iops), NULL,
		1000000 },
	{ "bandwidth", "bytes a second that it gets at most, with K, M or G", SIZE, AT(bandwidth) },
	{ "transport", "of bus=virtio: pci (default) or mmio, which ACPI announces", CHOICE,
		AT(transport), transports },
};

static int set_choice(const struct row *row, const char *value, unsigned *to, struct err *err)
{
	for (unsigned i = 0; row->choices[i]; i++)
		if (!strcmp(row->choices[i], value)) {
			*to = i;
			return 0;
		}
	return err_set(err, -EINVAL, "%s=%.40s: must be %s", row->name, value, row->doc);
}

static int set_switch(const struct row *row, const char *value, bool *to, struct err *err)
{
	*to = !value || !strcmp(value, "on");
	if (!value || *to || !strcmp(value, "off"))
		return 0;
	return err_set(err, -EINVAL, "%s=%.40s: must be on or off", row->name, value);
}

static int set_number(const struct row *row, const char *value, unsigned *to, struct err *err)
{
	u64 n;

	if (options_size(value, &n) || !n || n > row->max)
		return err_set(err, -EINVAL, "%s=%.40s: must be between 1 and %u", row->name, value,
			row->max);
	*to = (unsigned)n;
	return 0;
}

static int set_size(const struct row *row, const char *value, u64 *to, struct err *err)
{
	if (options_size(value, to) || !*to)
		return err_set(err, -EINVAL, "%s=%.40s: must be a number, with K, M or G, not 0",
			row->name, value);
	return 0;
}

static int set(struct machine_disk_config *d, char *item, struct err *err)
{
	char *value = strchr(item, '=');

	if (value)
		*value++ = '\0';
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		const struct row *row = &rows[i];
		void *to = (u8 *)d + row->offset;

		if (strcmp(row->name, item))
			continue;
		if (row->kind == SWITCH)
			return set_switch(row, value, to, err);
		if (!value)
			return err_set(err, -EINVAL, "%s needs a value", item);
		switch (row->kind) {
		case CHOICE: return set_choice(row, value, to, err);
		case NUMBER: return set_number(row, value, to, err);
		case SIZE: return set_size(row, value, to, err);
		case TEXT:
		case SWITCH: break;
		}
		free(*(char **)to);
		*(char **)to = strdup(value);
		return 0;
	}
	const char *near = options_nearest(item, &rows[0].name, ARRAY_LEN(rows), sizeof(rows[0]));

	return near ? err_set(err, -EINVAL, "no option %.40s; did you mean %s?", item, near)
		    : err_set(err, -EINVAL, "no option %.40s; --help lists them", item);
}

/* Cuts the next item off *at, which a single comma ends; NULL: there is none. */
static char *next_item(char **at)
{
	char *item = *at, *to = *at, *from = *at;

	if (!item)
		return NULL;
	for (; *from; *to++ = *from++)
		if (*from == ',' && *++from != ',')
			break;
	*at = *from || (from > item && from[-1] == ',') ? from : NULL;
	*to = '\0';
	return item;
}

static int parse(const char *text, struct machine_disk_config *d, struct err *err)
{
	AUTO_FREE char *copy = strdup(text);
	char *at = copy, *item = next_item(&at);

	if (!item || !*item)
		return err_set(err, -EINVAL, "a file is missing");
	d->path = strdup(item);
	while ((item = next_item(&at)))
		if (set(d, item, err))
			return err->code;
	if (d->serial && strlen(d->serial) > 20)
		return err_set(err, -EINVAL, "serial=%.40s: longer than 20 characters", d->serial);
	if (d->packed && d->bus != MACHINE_VIRTIO)
		return err_set(err, -EINVAL, "packed is for bus=virtio; leave it out");
	if (d->transport != MACHINE_TRANSPORT_PCI && d->bus != MACHINE_VIRTIO)
		return err_set(err, -EINVAL, "transport=mmio is for bus=virtio; leave it out");
	if (d->queues && (d->bus == MACHINE_AHCI || d->bus == MACHINE_IDE))
		return err_set(err, -EINVAL, "queues= is for bus=virtio and nvme; leave it out");
	return 0;
}

int disk_option_parse(
	const struct option_list *texts, struct machine_disk_config *disks, struct err *err)
{
	if (texts->count > MACHINE_DISKS_MAX)
		return err_set(err, -EINVAL, "more than %d disks", MACHINE_DISKS_MAX);
	unsigned ahci = 0, ide = 0, mmio = 0;

	for (unsigned i = 0; i < texts->count; i++) {
		if (parse(texts->items[i], &disks[i], err))
			return err_wrap(err, "--disk %.64s", texts->items[i]);
		ahci += disks[i].bus == MACHINE_AHCI;
		ide += disks[i].bus == MACHINE_IDE;
		mmio += disks[i].transport == MACHINE_TRANSPORT_MMIO;
	}
	if (mmio > MACHINE_MMIO_MAX)
		return err_set(err, -EINVAL, "more than %d disks with transport=mmio; leave it out",
			MACHINE_MMIO_MAX);
	if (ahci > MACHINE_AHCI_MAX)
		return err_set(err, -EINVAL, "more than %d disks with bus=ahci; use virtio or nvme",
			MACHINE_AHCI_MAX);
	if (ide > MACHINE_IDE_MAX)
		return err_set(err, -EINVAL, "more than %d disks with bus=ide; use virtio or nvme",
			MACHINE_IDE_MAX);
	return 0;
}

int disk_option_cdroms(const struct option_list *files, struct machine_disk_config *disks,
	unsigned *count, struct err *err)
{
	unsigned ide = 0;

	for (unsigned i = 0; i < *count; i++)
		ide += disks[i].bus == MACHINE_IDE;
	for (unsigned i = 0; i < files->count; i++) {
		if (*count == MACHINE_DISKS_MAX || ++ide > MACHINE_IDE_MAX)
			return err_set(err, -EINVAL,
				"--cdrom %.64s: no room: at most %d disks and CD-ROM drives, %d "
				"with bus=ide",
				files->items[i], MACHINE_DISKS_MAX, MACHINE_IDE_MAX);
		disks[(*count)++] = (struct machine_disk_config){
			.path = strdup(files->items[i]),
			.options = { .format = strdup("raw"), .readonly = true },
			.bus = MACHINE_IDE,
			.cdrom = true,
		};
	}
	return 0;
}

void disk_option_free(struct machine_disk_config *disks)
{
	for (unsigned i = 0; i < MACHINE_DISKS_MAX; i++) {
		free((void *)(uintptr_t)disks[i].path);
		free((void *)(uintptr_t)disks[i].options.format);
		free((void *)(uintptr_t)disks[i].serial);
	}
}

void disk_option_help(FILE *to)
{
	for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
		fprintf(to, "          %s%s  %s\n", rows[i].name, rows[i].kind == SWITCH ? "" : "=",
			rows[i].doc);
}
