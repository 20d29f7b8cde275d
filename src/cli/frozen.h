/*
 * Disks of saved machines. As long as the machine itself is restored, in its folder, its disk is
 * what it was. For another machine to go on from the same state, the disk must stay as it was: it
 * becomes an image, saved-NAME-ID, on which both machines' disks stand; ID says which saving it
 * was. As any image it is never written to again, and stays until nobody stands on it.
 *
 * The steps are in an order in which nothing is lost: the disk gets its second name, as the
 * image's; the image gets its own; then the machine's disk is replaced by an empty one that stands
 * on it.
 */
#pragma once
#include "base/err.h"
#include "store/images.h"
#include "store/store.h"

#define FROZEN_PATH_MAX 1200

/* The path of the image's disk, when there is one. */
bool frozen_find(const char *machine, u64 id, char path[FROZEN_PATH_MAX]);
/* Makes it, of the disk of that machine, whose lock is taken. */
NODISCARD int frozen_make(
	const struct store_machine *m, u64 id, char path[FROZEN_PATH_MAX], struct err *err);
/* Whether nobody has written to the machine's disk since that was done. */
bool frozen_untouched(const struct store_machine *m, u64 id);
