/*
 * Trials as one line of text, complete in themselves: later changes of the generator do not change
 * them.
 *
 *     64 at=0x210 code=0fafc8 rip... name=value ... zmm3=HEX mem=SEED patch=AT:HEX
 *     64 at=0x40 count=9 entry=0xf20 text=4889c8*3000*c3 name=value ... mem=SEED
 *
 * The second is a routine, with *N* for N bytes of INT3 and +N+ for NOPs; it starts at `entry` in
 * TEXT.
 *
 * Everything left out is zero, except what defaults() sets. Registers of more than 8 bytes are
 * hexadecimal bytes in memory order.
 */
#include "diff.h"
#include <stdlib.h>

struct field {
	const char *name;
	size_t offset;
	unsigned size;
	unsigned count, stride; /* count 0: a single one */
};

#define R(member)    offsetof(struct trial, in.member)
#define SIZE(member) ((unsigned)sizeof(((struct trial *)0)->in.member))
#define ONE(name, member)                           \
	{                                           \
		name, R(member), SIZE(member), 0, 0 \
	}
#define GPR(name, n)                     \
	{                                \
		name, R(gpr[n]), 8, 0, 0 \
	}

static const struct field fields[] = {
	GPR("rax", RAX),
	GPR("rcx", RCX),
	GPR("rdx", RDX),
	GPR("rbx", RBX),
	GPR("rsp", RSP),
	GPR("rbp", RBP),
	GPR("rsi", RSI),
	GPR("rdi", RDI),
	GPR("r8", R8),
	GPR("r9", R9),
	GPR("r10", R10),
	GPR("r11", R11),
	GPR("r12", R12),
	GPR("r13", R13),
	GPR("r14", R14),
	GPR("r15", R15),
	ONE("rflags", rflags),
	ONE("fsbase", fs_base),
	ONE("gsbase", gs_base),
	ONE("fcw", fpu.fcw),
	ONE("fsw", fpu.fsw),
	ONE("ftw", fpu.ftw),
	ONE("fop", fpu.fop),
	ONE("fip", fpu.fip),
	ONE("fdp", fpu.fdp),
	ONE("mxcsr", fpu.mxcsr),
	{ "st", R(fpu.st), 10, 8, 16 },
	{ "zmm", R(fpu.zmm), 64, 32, 64 },
	{ "k", R(fpu.k), 8, 8, 8 },
};

static void defaults(struct trial *t)
{
	*t = (struct trial){ .bits = 64, .at = 512, .count = 1 };
	t->in.rflags = FLAG_ONE | FLAG_IF;
	t->in.gpr[RSP] = DATA_AT + DATA_RW / 2;
	t->in.fpu.fcw = 0x37f;
	t->in.fpu.mxcsr = MXCSR_RESET;
}

static bool same(const struct trial *a, const struct trial *b, size_t offset, unsigned size)
{
	return !memcmp((const u8 *)a + offset, (const u8 *)b + offset, size);
}

static void write_bytes(FILE *to, const u8 *p, unsigned len)
{
	for (unsigned i = 0; i < len; i++)
		fprintf(to, "%02x", p[i]);
}

/* What a routine mostly consists of, by the marks around the length of a run. */
static const struct {
	char mark;
	u8 byte;
} runs[] = { { '*', 0xcc }, { '+', 0x90 } };

static unsigned run_length(const u8 *p, unsigned len, u8 byte)
{
	unsigned n = 0;

	while (n < len && p[n] == byte)
		n++;
	return n;
}

static void write_text(FILE *to, const u8 *p, unsigned len)
{
	for (unsigned i = 0, n; i < len; i += n) {
		n = 0;
		for (unsigned k = 0; k < ARRAY_LEN(runs) && !n; k++) {
			n = run_length(p + i, len - i, runs[k].byte);
			if (n > 3)
				fprintf(to, "%c%u%c", runs[k].mark, n, runs[k].mark);
			else
				n = 0;
		}
		if (!n)
			write_bytes(to, p + i, n = 1);
	}
}

static void write_value(FILE *to, const u8 *p, unsigned size)
{
	u64 v = 0;

	if (size > 8) {
		write_bytes(to, p, size);
		return;
	}
	memcpy(&v, p, size);
	fprintf(to, "0x%llx", (unsigned long long)v);
}

void case_write(const struct trial *t, FILE *to)
{
	struct trial base;

	defaults(&base);
	fprintf(to, "%u at=0x%x count=%u ", t->bits, t->at, t->count);
	if (t->text) {
		fprintf(to, "entry=0x%x text=", (unsigned)(t->in.rip - TEXT_AT));
		write_text(to, t->code, t->len);
	} else {
		fprintf(to, "code=");
		write_bytes(to, t->code, t->len);
	}
	for (unsigned i = 0; i < ARRAY_LEN(fields); i++) {
		const struct field *f = &fields[i];

		for (unsigned n = 0; n < (f->count ? f->count : 1); n++) {
			size_t offset = f->offset + n * f->stride;

			if (same(t, &base, offset, f->size))
				continue;
			fprintf(to, " %s", f->name);
			if (f->count)
				fprintf(to, "%u", n);
			fprintf(to, "=");
			write_value(to, (const u8 *)t + offset, f->size);
		}
	}
	fprintf(to, " mem=0x%llx", (unsigned long long)t->memory_seed);
	for (unsigned i = 0; i < PATCHES_MAX; i++) {
		if (!t->patch[i].len)
			continue;
		fprintf(to, " patch=0x%x:", t->patch[i].at);
		write_bytes(to, t->patch[i].bytes, t->patch[i].len);
	}
	fprintf(to, "\n");
}

/* ---- reading ---- */

static int read_bytes(const char *text, u8 *out, unsigned max)
{
	unsigned n = 0, v, used;

	for (; sscanf(text, "%2x%n", &v, &used) == 1 && used == 2; text += 2) {
		if (n == max)
			return -1;
		out[n++] = (u8)v;
	}
	return *text ? -1 : (int)n;
}

/* A run at the start of the text: bytes of it, 0 when there is none or it is too long. */
static unsigned read_run(const char **text, u8 *out, unsigned max)
{
	for (unsigned k = 0; k < ARRAY_LEN(runs); k++) {
		char *end;

		if (**text != runs[k].mark)
			continue;
		unsigned long n = strtoul(*text + 1, &end, 10);
		if (*end != runs[k].mark || n > max)
			return 0;
		memset(out, runs[k].byte, n);
		*text = end + 1;
		return (unsigned)n;
	}
	return 0;
}

static int read_text(const char *text, u8 *out, unsigned max)
{
	unsigned n = 0, v, run;
	int used;

	while (*text) {
		run = read_run(&text, out + n, max - n);
		n += run;
		if (run)
			continue;
		if (n == max || sscanf(text, "%2x%n", &v, &used) != 1 || used != 2)
			return -1;
		out[n++] = (u8)v;
		text += 2;
	}
	return (int)n;
}

static bool read_patch(const char *value, struct trial *t)
{
	char *colon;
	unsigned long at = strtoul(value, &colon, 0);

	for (unsigned i = 0; i < PATCHES_MAX; i++) {
		if (t->patch[i].len)
			continue;
		if (*colon != ':' || at > DATA_SIZE - PATCH_MAX)
			return false;
		int n = read_bytes(colon + 1, t->patch[i].bytes, PATCH_MAX);
		t->patch[i].at = (u16)at;
		t->patch[i].len = (u8)(n > 0 ? n : 0);
		return n > 0;
	}
	return false;
}

static bool read_field(const char *name, const char *value, struct trial *t)
{
	for (unsigned i = 0; i < ARRAY_LEN(fields); i++) {
		const struct field *f = &fields[i];
		size_t len = strlen(f->name);
		char *end = (char *)name + len;

		if (strncmp(name, f->name, len))
			continue;
		unsigned long n = f->count ? strtoul(name + len, &end, 10) : 0;
		if (*end || (f->count && (end == name + len || n >= f->count)))
			continue;
		u8 *to = (u8 *)t + f->offset + n * f->stride;
		if (f->size > 8)
			return read_bytes(value, to, f->size) == (int)f->size;
		u64 v = strtoull(value, &end, 0);
		memcpy(to, &v, f->size);
		return !*end;
	}
	return false;
}

static bool read_setting(const char *name, const char *value, struct trial *t)
{
	if (!strcmp(name, "at")) {
		unsigned long at = strtoul(value, NULL, 0);

		t->at = (u16)at;
		return at < TEXT_SIZE;
	}
	if (!strcmp(name, "entry")) {
		t->in.rip = TEXT_AT + strtoul(value, NULL, 0);
		return true;
	}
	if (!strcmp(name, "count"))
		return (t->count = (u16)strtoul(value, NULL, 0)) > 0;
	if (!strcmp(name, "mem")) {
		t->memory_seed = strtoull(value, NULL, 0);
		return true;
	}
	if (!strcmp(name, "code")) {
		int n = read_bytes(value, t->code, CODE_MAX);

		t->len = (u16)(n > 0 ? n : 0);
		return n > 0;
	}
	if (!strcmp(name, "text")) {
		int n = read_text(value, t->code, TEXT_SIZE);

		t->text = true;
		t->len = (u16)(n > 0 ? n : 0);
		return n > 0;
	}
	return strcmp(name, "patch") ? read_field(name, value, t) : read_patch(value, t);
}

bool case_read(const char *line, struct trial *t)
{
	char *copy = strdup(line), *save = NULL;
	char *word = copy ? strtok_r(copy, " \t\r\n", &save) : NULL;
	bool ok = word && (!strcmp(word, "64") || !strcmp(word, "32"));

	defaults(t);
	if (ok)
		t->bits = (u8)atoi(word);
	while (ok && (word = strtok_r(NULL, " \t\r\n", &save))) {
		char *eq = strchr(word, '=');

		ok = eq != NULL;
		if (ok) {
			*eq = 0;
			ok = read_setting(word, eq + 1, t);
		}
	}
	free(copy);
	if (!t->text)
		t->in.rip = CODE_AT + t->at;
	return ok && t->len && t->at + t->len <= trial_room(t);
}
