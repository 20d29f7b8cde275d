#include "machine/engines.h"
#include "cpu/interpret/interpret.h"
#include "cpu/kvm/kvm.h"
#include "cpu/translate/translate.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Fastest first: "auto" takes the first that works well here. */
const struct cpu_engine *const engines[] = {
	&kvm_engine,
	&translate_engine,
	&interpret_engine,
};
const unsigned engines_count = ARRAY_LEN(engines);

const struct cpu_engine *engines_named(const char *name)
{
	for (unsigned i = 0; i < engines_count; i++)
		if (!strcmp(engines[i]->name, name))
			return engines[i];
	return NULL;
}

const struct cpu_engine *engines_auto(struct err *err)
{
	char all[sizeof(err->text)] = "";
	size_t used = 0;

	for (unsigned i = 0; i < engines_count; i++) {
		struct err why = { 0 };

		if (!engines[i]->probe(&why))
			return engines[i];
		int n = snprintf(all + used, sizeof(all) - used, "%s%s: %s", used ? "; " : "",
			engines[i]->name, why.text);
		if (n > 0 && (size_t)n < sizeof(all) - used)
			used += (size_t)n;
	}
	err_set(err, -ENOTSUP, "no engine runs here: %s", all);
	return NULL;
}
