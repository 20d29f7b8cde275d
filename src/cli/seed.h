/*
 * A machine's seed: a small disk labelled cidata, from which a system that was not made for it
 * takes its name, users and keys (NoCloud, cloud-init's documentation, "Datasources"). It has two
 * files:
 *
 *   meta-data   instance-id and local-hostname
 *   user-data   "#cloud-config", YAML: hostname, users with ssh_authorized_keys, and the machine's
 *               own key, so that who connects knows it from the first time on
 *
 * Systems with cloud-init read it, and so does strata-seed.service in the images that strata
 * builds (system.sh), which takes lines as they are written here, and no other YAML.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"

#define SEED_DISK	 "seed.img"
#define SEED_KNOWN_HOSTS "known_hosts"
#define SEED_KEY	 "id_ed25519" /* strata's own, in the state folder; .pub its public half */

struct seed {
	const char *name; /* the machine's */
	const char *user; /* besides root; NULL: nobody */
};

/* Makes SEED_DISK and SEED_KNOWN_HOSTS in the folder at `path`, and strata's own key if there is
 * none: whoever calls is alone (store_alone()). */
NODISCARD int seed_make(int folder, const char *path, const struct seed *s, struct err *err);
