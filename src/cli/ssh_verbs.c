/*
 * strata ssh, exec: into a machine by its forward to port 22 (clone.h), with strata's own key, and
 * by the key that its seed gave it (seed.h). The program is ssh(1): streams, terminal and exit
 * status are its.
 *
 * A machine that has just begun is waited for: until somebody there says "SSH-". libslirp connects
 * before the guest does, so that a connection proves nothing; what came before the guest's network
 * was there waits in libslirp, and all of it comes to the guest at once when it is. So it is asked
 * first whether the guest has an address ("network" of the control socket's status); the guest may
 * have one that nobody sees, and now and then somebody knocks all the same. Who knocks says who he
 * is, as RFC 4253 4.2 allows before the other one does: a server takes what ends without that for
 * an error.
 */
#include "base/bits.h"
#include "base/scope.h"
#include "cli/clone.h"
#include "cli/machines.h"
#include "cli/net_option.h"
#include "cli/seed.h"
#include "os/child.h"
#include "os/fd.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ATTEMPTS  3u		 /* under way at the same time, at most */
#define EACH_NS	  1000000000ull	 /* between two */
#define BLIND_NS  20000000000ull /* likewise, to a guest that seems to have no address */
#define AGAIN_NS  100000000ull	 /* when it has refused */
#define LIFE_NS	  10000000000ull /* how long an answer may take */
#define LOOK_MS	  1000
#define POLL_MS	  50
#define WORDS_MAX 1024u

struct values {
	const char *name, *user;
	struct option_rest command;
	u64 timeout_ns;
};

/* ---- waiting for it ---- */

struct attempt {
	int fd;
	u64 since;
	bool introduced;
};

struct knock {
	const struct store_machine *machine;
	struct sockaddr_in to;
	u64 began, next;
	bool network;
	struct attempt attempts[ATTEMPTS];
};

static void give_up(struct attempt *a)
{
	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
}

static void begin(struct knock *k, struct attempt *a, u64 now)
{
	*a = (struct attempt){ socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), now,
		false };
	if (a->fd >= 0 && connect(a->fd, (const struct sockaddr *)&k->to, sizeof(k->to)) &&
		errno != EINPROGRESS)
		give_up(a);
	k->next = now + (k->network ? EACH_NS : BLIND_NS);
}

static bool has_network(const struct store_machine *m)
{
	struct control_client c;
	struct err err = { 0 };
	json_t *status = NULL;
	bool yes = false;

	if (client_open(&c, m->folder, LOOK_MS, &err))
		return false;
	if (!client_ask(&c, "status", -1, LOOK_MS, &status, &err))
		yes = json_is_true(json_object_get(status, "network"));
	json_decref(status);
	client_close(&c);
	return yes;
}

static void knock(struct knock *k, u64 now)
{
	struct attempt *room = NULL;

	if (!k->network && has_network(k->machine)) {
		k->network = true;
		k->next = now;
	}
	for (unsigned i = 0; i < ATTEMPTS; i++) {
		struct attempt *a = &k->attempts[i];

		if (a->fd >= 0 && now - a->since > LIFE_NS)
			give_up(a);
		if (a->fd < 0)
			room = a;
	}
	if (room && now >= k->next)
		begin(k, room, now);
}

/* Connected: false if it is over with it. */
static bool introduce(struct attempt *a)
{
	static const char name[] = "SSH-2.0-strata\r\n";

	a->introduced = true;
	return send(a->fd, name, strlen(name), MSG_NOSIGNAL) == (ssize_t)strlen(name);
}

/* Whether one of them has been answered. */
static bool listen_once(struct knock *k)
{
	struct pollfd p[ATTEMPTS];
	char said[4];

	for (unsigned i = 0; i < ATTEMPTS; i++)
		p[i] = (struct pollfd){ .fd = k->attempts[i].fd,
			.events = k->attempts[i].introduced ? POLLIN : POLLOUT };
	if (poll(p, ATTEMPTS, POLL_MS) <= 0)
		return false;
	for (unsigned i = 0; i < ATTEMPTS; i++) {
		if (p[i].fd < 0 || !p[i].revents)
			continue;
		if (p[i].revents == POLLOUT && introduce(&k->attempts[i]))
			continue;
		if (recv(p[i].fd, said, sizeof(said), 0) == sizeof(said) &&
			!memcmp(said, "SSH-", sizeof(said)))
			return true;
		give_up(&k->attempts[i]);
		k->next = min_u64(k->next, fd_monotonic_ns() + AGAIN_NS);
	}
	return false;
}

static int gone(const struct store_machine *m, struct err *err)
{
	return err_set(
		err, -ESRCH, "%s has ended; `strata logs %s` shows what it said", m->name, m->name);
}

static int wait_for(
	const struct store_machine *m, const struct net_forward *f, u64 timeout_ns, struct err *err)
{
	u64 now = fd_monotonic_ns();
	struct knock k = {
		.machine = m,
		.next = now + BLIND_NS,
		.to = { .sin_family = AF_INET,
			.sin_port = htons(f->host_port),
			.sin_addr = { htonl(f->host ? f->host : INADDR_LOOPBACK) } },
		.began = now,
	};
	struct store_outcome o;
	bool answered = false;

	for (unsigned i = 0; i < ATTEMPTS; i++)
		k.attempts[i].fd = -1;
	while (!answered && now - k.began < timeout_ns && store_state(m, &o) == STORE_RUNNING) {
		knock(&k, now);
		answered = listen_once(&k);
		now = fd_monotonic_ns();
	}
	for (unsigned i = 0; i < ATTEMPTS; i++)
		give_up(&k.attempts[i]);
	if (answered)
		return 0;
	if (store_state(m, &o) != STORE_RUNNING)
		return gone(m, err);
	return err_set(err, -ETIMEDOUT,
		"%s does not answer at port %u after %.0f s; `strata console %s` shows what it "
		"does",
		m->name, f->host_port, (double)timeout_ns / 1e9, m->name);
}

/* ---- how it is reached ---- */

struct way {
	struct net_forward forward;
	char *user; /* NULL: root */
};

static int find_way(const struct store_machine *m, struct way *w, struct err *err)
{
	struct store_config config = { 0 };
	struct net_option o;
	bool wanted;

	if (store_read_config(m, &config, err))
		return err->code;
	const char *user = store_config_get(&config, "user");
	int rc = net_option_parse(store_config_get(&config, "net"), &o, &wanted, err);
	const struct net_forward *f = rc ? NULL : net_option_ssh(&o);

	if (!rc && !f)
		rc = err_set(err, -ENOENT,
			"%s has no way in by ssh: its --net has no forward=tcp:PORT:22, as "
			"machines made from an image have",
			m->name);
	*w = (struct way){ 0 };
	if (f)
		w->forward = *f;
	if (user)
		w->user = strdup(user);
	net_option_free(&o);
	store_config_free(&config);
	return rc;
}

/* One word for the guest's shell. NULL: no memory. */
static char *quoted(const char *word)
{
	char *text = malloc(4 * strlen(word) + 3), *to = text;

	if (!text)
		return NULL;
	*to++ = '\'';
	for (; *word; word++)
		if (*word == '\'')
			to = stpcpy(to, "'\\''");
		else
			*to++ = *word;
	*to++ = '\'';
	*to = '\0';
	return text;
}

static int become_ssh(const struct store_machine *m, const struct way *w, const struct values *v,
	bool exact, struct err *err)
{
	char folder[1100], key[1100], known[1200], identity[1200], alias[100], port[8], at[32];
	struct in_addr host = { htonl(w->forward.host ? w->forward.host : INADDR_LOOPBACK) };
	const char *argv[WORDS_MAX + 32];
	unsigned n = 0;
	bool terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);

	if (store_path(m->name, folder, sizeof(folder), err) ||
		store_state_path(key, sizeof(key), SEED_KEY, err))
		return err->code;
	/* Quotes: ssh splits these values at blanks. */
	snprintf(known, sizeof(known), "UserKnownHostsFile=\"%s/" SEED_KNOWN_HOSTS "\"", folder);
	snprintf(identity, sizeof(identity), "IdentityFile=\"%s\"", key);
	snprintf(alias, sizeof(alias), "HostKeyAlias=%s", m->name);
	snprintf(port, sizeof(port), "%u", w->forward.host_port);
	inet_ntop(AF_INET, &host, at, sizeof(at));
	const char *const fixed[] = { "ssh", "-F", "none", "-o", identity, "-o",
		"IdentitiesOnly=yes", "-o", known, "-o", "GlobalKnownHostsFile=/dev/null", "-o",
		alias, "-o", "CheckHostIP=no", "-o", "StrictHostKeyChecking=accept-new", "-o",
		"LogLevel=ERROR", "-o", "BatchMode=yes", "-p", port, "-l",
		v->user	  ? v->user
		: w->user ? w->user
			  : "root" };

	for (; n < ARRAY_LEN(fixed); n++)
		argv[n] = fixed[n];
	if (exact) {
		argv[n++] = terminal ? "-t" : "-T";
		argv[n++] = "-e";
		argv[n++] = "none";
	}
	argv[n++] = at;
	if (v->command.count > WORDS_MAX)
		return err_set(err, -E2BIG, "more than %u words", WORDS_MAX);
	if (v->command.count)
		argv[n++] = "--";
	for (unsigned i = 0; i < v->command.count; i++) {
		argv[n] = exact ? quoted(v->command.items[i]) : v->command.items[i];
		if (!argv[n++])
			return err_set(err, -ENOMEM, "no memory");
	}
	argv[n] = NULL;
	execvp(argv[0], (char *const *)(uintptr_t)argv);
	return errno == ENOENT ? child_missing(argv[0], "openssh-client", err)
			       : err_set(err, -errno, "ssh: %s", strerror(errno));
}

static int go(const struct values *v, const char *verb, bool exact)
{
	struct err err = { 0 };
	struct store_machine m;
	struct store_outcome o;
	struct way w = { 0 };

	if (store_open(&m, v->name, &err))
		return machines_failed(verb, &err);
	if (store_state(&m, &o) != STORE_RUNNING)
		err_set(&err, -ESRCH, "%s does not run; `strata start %s` starts it", v->name,
			v->name);
	else if (!find_way(&m, &w, &err) && !wait_for(&m, &w.forward, v->timeout_ns, &err))
		(void)!become_ssh(&m, &w, v, exact, &err); /* comes back only without ssh */
	free(w.user);
	store_close(&m);
	return machines_failed(verb, &err);
}

static int ssh(const void *values) { return go(values, "ssh", false); }
static int exec(const void *values) { return go(values, "exec", true); }

static void defaults(void *values) { ((struct values *)values)->timeout_ns = 120 * 1000000000ull; }

#define AT(member) offsetof(struct values, member)
#define COMMON                                                                                     \
	{ "NAME", NULL, "the machine's", OPTION_OPERAND, AT(name), .required = true },             \
		{ "user", "NAME", "log in as that user (default: as the machine says, else root)", \
			OPTION_TEXT, AT(user) },                                                   \
	{                                                                                          \
		"timeout", "SECONDS", "how long a machine that boots is waited for (default 120)", \
			OPTION_SECONDS, AT(timeout_ns)                                             \
	}

static const struct option_row ssh_options[] = {
	COMMON,
	{ "COMMAND", NULL, "what the guest's shell is to do, instead of a session", OPTION_REST,
		AT(command) },
	{ 0 },
};

const struct verb verbs_ssh = {
	.name = "ssh",
	.doc = "log in to a machine that was made from an image",
	.options = ssh_options,
	.size = sizeof(struct values),
	.defaults = defaults,
	.run = ssh,
};

static const struct option_row exec_options[] = {
	COMMON,
	{ "COMMAND", NULL, "a program in the guest and its words, which no shell changes",
		OPTION_REST, AT(command), .required = true },
	{ 0 },
};

const struct verb verbs_exec = {
	.name = "exec",
	.doc = "run a program in a machine that was made from an image: its streams and its exit "
	       "status",
	.options = exec_options,
	.size = sizeof(struct values),
	.defaults = defaults,
	.run = exec,
};
