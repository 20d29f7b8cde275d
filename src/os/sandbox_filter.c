/*
 * The filter: a table of rules as a BPF program, made by libseccomp, for all threads at once.
 *
 * A call that has no row raises SIGSYS rather than killing the process outright: it is not carried
 * out either way, but so the terminal is restored (os/tty.h), and one line names the call. The
 * 32-bit and the x32 entries are not ours and kill the process: neither has a row, and their
 * numbers mean other calls.
 */
#include "os/sandbox_filter.h"
#include <errno.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The kernel's si_code for a filter's verdict; not in every C library's <signal.h>. */
#ifndef SYS_SECCOMP
#define SYS_SECCOMP 1
#endif

static struct sigaction previous;

static void say_refused(int nr)
{
	char line[80];
	int len = snprintf(line, sizeof(line),
		"strata: sandbox: system call %d has no row in its table\n", nr);

	/* Nothing can be done about a message that does not get out. */
	if (write(STDERR_FILENO, line, (size_t)len) < 0)
		return;
}

/* Passes on to the terminal's handler, which lets the signal do what it would have done. A call
 * from within the handlers cannot come back here: SIGSYS is blocked then, and the kernel ends a
 * process that blocks the signal it forces. */
static void refused(int sig, siginfo_t *info, void *context)
{
	if (info->si_code == SYS_SECCOMP)
		say_refused(info->si_syscall);
	if (!(previous.sa_flags & SA_SIGINFO) && previous.sa_handler != SIG_DFL &&
		previous.sa_handler != SIG_IGN) {
		previous.sa_handler(sig);
		return;
	}
	signal(sig, SIG_DFL);
	raise(sig);
}

static struct scmp_arg_cmp comparison(const struct sandbox_rule *r)
{
	struct scmp_arg_cmp c = { .arg = r->arg, .op = SCMP_CMP_MASKED_EQ };

	switch (r->match) {
	case MATCH_ANY: break;
	case MATCH_EQUAL:
		c.datum_a = 0xffffffffu;
		c.datum_b = r->value;
		break;
	case MATCH_CLEAR: c.datum_a = r->value; break;
	case MATCH_SELF:
		c.datum_a = 0xffffffffu;
		c.datum_b = (u32)getpid();
		break;
	}
	return c;
}

static int add_rules(scmp_filter_ctx f, const struct sandbox_rule *rules, unsigned rule_count,
	unsigned needs, unsigned *used)
{
	int rc = 0;

	for (unsigned i = 0; i < rule_count && !rc; i++) {
		const struct sandbox_rule *r = &rules[i];
		struct scmp_arg_cmp c = comparison(r);

		if (r->needs && !(r->needs & needs))
			continue;
		(*used)++;
		rc = seccomp_rule_add_array(f, r->refuse ? SCMP_ACT_ERRNO(EPERM) : SCMP_ACT_ALLOW,
			r->nr, r->match == MATCH_ANY ? 0 : 1, &c);
	}
	return rc;
}

static int set_attributes(scmp_filter_ctx f)
{
	int rc = seccomp_attr_set(f, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);

	rc = rc ?: seccomp_attr_set(f, SCMP_FLTATR_CTL_TSYNC, 1);
	/* Linux before 5.16 would otherwise turn off speculative stores in all guest code; this
	 * process has no second guest whose memory that could protect. */
	rc = rc ?: seccomp_attr_set(f, SCMP_FLTATR_CTL_SSB, 1);
	/* A binary tree: some calls are made a hundred thousand times a second. */
	return rc ?: seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2);
}

int sandbox_filter(const struct sandbox_rule *rules, unsigned rule_count, unsigned needs,
	unsigned *used, struct err *err)
{
	struct sigaction act = { .sa_sigaction = refused, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_TRAP);

	if (!f)
		return err_set(err, -ENOMEM, "no memory for the filter");
	int rc = set_attributes(f);
	rc = rc ?: add_rules(f, rules, rule_count, needs, used);
	if (!rc) {
		sigaction(SIGSYS, &act, &previous);
		rc = seccomp_load(f);
	}
	seccomp_release(f);
	if (rc)
		return err_set(err, rc, "seccomp: %s", strerror(-rc));
	return 0;
}
