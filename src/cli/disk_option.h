/* --disk FILE[,NAME=VALUE...] */
#pragma once
#include "cli/options.h"
#include "machine/machine.h"

/* The text stays borrowed by nobody: what is kept is copied, for disk_option_free(). -EINVAL with
 * err: usage. */
NODISCARD int disk_option_parse(
	const struct option_list *texts, struct machine_disk_config *disks, struct err *err);
/* --cdrom FILE: a disk more for each; *count of them were there before. */
NODISCARD int disk_option_cdroms(const struct option_list *files, struct machine_disk_config *disks,
	unsigned *count, struct err *err);
void disk_option_free(struct machine_disk_config *disks);
void disk_option_help(FILE *to);
