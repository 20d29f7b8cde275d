/*
 * Whether this host has the memory that a machine may come to take. Guests' memory is taken as they
 * touch it, so a host can promise more than it has, and find out when a guest dies of it. So what a
 * new machine is to have must be there now, beside what the machines that run have been promised
 * and not yet touched; unless the user says otherwise (--overcommit).
 *
 * Of two machines that start at once, one is first: the promise is written down under store_alone()
 * (store.h), and counts as long as its machine has its lock. Machines without names take what they
 * find, and are not counted before they have it.
 */
#pragma once
#include "store/store.h"

/* m NULL: it has no name. -ENOMEM with err. */
NODISCARD int admission_ask(
	const struct store_machine *m, u64 memory, bool overcommit, struct err *err);
