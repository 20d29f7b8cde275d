/* --share FOLDER:TAG[,readonly], repeated */
#pragma once
#include "cli/options.h"
#include "machine/machine.h"

/* -EINVAL with err. To be freed in any case. */
NODISCARD int share_option_parse(const struct option_list *texts,
	struct machine_share_config shares[MACHINE_SHARES_MAX], struct err *err);
void share_option_free(struct machine_share_config shares[MACHINE_SHARES_MAX]);
