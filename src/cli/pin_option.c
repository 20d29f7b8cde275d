#include "cli/pin_option.h"
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

static int check(long pin, struct err *err)
{
	long count = sysconf(_SC_NPROCESSORS_CONF);
	cpu_set_t allowed;

	if (pin >= count)
		return err_set(err, -EINVAL,
			"--pin %ld: there is no such processor; this host's are 0 to %ld", pin,
			count - 1);
	if (pin >= CPU_SETSIZE || sched_getaffinity(0, sizeof(allowed), &allowed) < 0 ||
		!CPU_ISSET((size_t)pin, &allowed))
		return err_set(err, -EINVAL,
			"--pin %ld: this process may not run there; `taskset -cp $$` says where",
			pin);
	return 0;
}

int pin_option_parse(const char *text, unsigned cpus, int pins[MACHINE_CPUS_MAX], struct err *err)
{
	unsigned count = 0;
	const char *at = text;

	for (;; at++) {
		char *end;
		long pin = strtol(at, &end, 10);

		if (*at < '0' || *at > '9' || (*end && *end != ','))
			return err_set(err, -EINVAL,
				"--pin %.40s: must be numbers of the host's processors: 0,1", text);
		if (check(pin, err))
			return err->code;
		if (count < cpus)
			pins[count] = (int)pin;
		count++;
		at = end;
		if (!*at)
			break;
	}
	if (count != cpus)
		return err_set(err, -EINVAL,
			"--pin %.40s: must be one for each of the machine's processors: %u", text,
			cpus);
	return 0;
}
