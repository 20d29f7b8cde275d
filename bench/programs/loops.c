/* Loops: the inner loops of everyday programs, each a function that the compiler knows nothing
 * about. They are what superblocks and loops of the translator are for. A unit is one pass over
 * 4096 elements.
 */
#include "bench.h"
#include <stdint.h>
#include <string.h>

enum { N = 4096, BUCKETS = 256, NOTHING = N };

struct node {
	struct node *next;
	uint64_t value;
};

struct data {
	uint64_t numbers[N], sums[N];
	uint32_t keys[N], slots[2 * N], counts[BUCKETS], table[BUCKETS];
	char text[N + 1], copy[N + 1];
	struct node nodes[N];
};

static struct data data;

/* A loop's answer is used, and its arguments are unknown when it is compiled. */
#define LOOP static __attribute__((noinline, noclone, optimize("no-tree-vectorize"))) uint64_t

LOOP sum(struct data *d)
{
	uint64_t total = 0;

	for (int i = 0; i < N; i++)
		total += d->numbers[i];
	return total;
}

/* Two streams in, one out. */
LOOP prefix(struct data *d)
{
	const uint64_t *from = d->numbers;
	uint64_t *to = d->sums, total = 0;

	for (int i = 0; i < N; i++) {
		total += from[i];
		to[i] = total ^ to[i];
	}
	return total;
}

/* Branches that nobody can predict, most of them not taken. */
LOOP largest(struct data *d)
{
	uint64_t best = 0, at = 0;

	for (uint64_t i = 0; i < N; i++)
		if (d->numbers[i] > best) {
			best = d->numbers[i];
			at = i;
			__asm__("" : "+r"(at)); /* a branch, not a conditional move */
		}
	return at;
}

LOOP list(struct data *d)
{
	uint64_t total = 0;

	for (const struct node *n = d->nodes; n; n = n->next)
		total += n->value;
	return total;
}

LOOP histogram(struct data *d)
{
	for (int i = 0; i < N; i++)
		d->counts[(unsigned char)d->text[i]]++;
	return d->counts[' '];
}

LOOP crc(struct data *d)
{
	uint32_t value = ~0u;

	for (int i = 0; i < N; i++)
		value = d->table[(unsigned char)(value ^ (uint32_t)d->text[i])] ^ value >> 8;
	return value;
}

/* Open addressing: the slots hold the place of a key. */
LOOP lookup(struct data *d)
{
	uint64_t found = 0;

	for (int i = 0; i < N; i++) {
		const uint32_t key = d->keys[i];
		uint32_t slot = key * 2654435761u >> 19;

		while (d->slots[slot] != NOTHING && d->keys[d->slots[slot]] != key)
			slot = (slot + 1) % (2 * N);
		found += d->slots[slot];
	}
	return found;
}

/* Words and lines, as wc counts them. */
LOOP words(struct data *d)
{
	uint64_t words = 0, lines = 0;
	int inside = 0;

	for (const char *p = d->text; *p; p++) {
		if (*p == '\n')
			lines++;
		if (*p == ' ' || *p == '\n' || *p == '\t') {
			inside = 0;
		} else if (!inside) {
			inside = 1;
			words++;
		}
	}
	return words << 32 | lines;
}

/* Copies, in lower case. */
LOOP lower(struct data *d)
{
	const char *from = d->text;
	char *to = d->copy;

	for (; *from; from++, to++)
		*to = (char)(*from >= 'A' && *from <= 'Z' ? *from + 32 : *from);
	return (uint64_t)(to - d->copy);
}

/* The sieve of Eratosthenes, once for each factor up to 32. */
LOOP sieve(struct data *d)
{
	uint64_t primes = 0;

	memset(d->copy, 1, N);
	for (uint32_t i = 2; i < N; i++) {
		if (!d->copy[i])
			continue;
		primes++;
		for (uint32_t k = i * i; k < N; k += i)
			d->copy[k] = 0;
	}
	return primes;
}

static const struct {
	const char *name;
	uint64_t (*run)(struct data *d);
} loops[] = {
	{ "sum", sum },
	{ "prefix", prefix },
	{ "largest", largest },
	{ "list", list },
	{ "histogram", histogram },
	{ "crc", crc },
	{ "lookup", lookup },
	{ "words", words },
	{ "lower", lower },
	{ "sieve", sieve },
};

static void prepare(struct data *d)
{
	uint64_t random = 1;

	memset(d->slots, 0xff, sizeof(d->slots));
	for (uint32_t i = 0; i < 2 * N; i++)
		d->slots[i] = NOTHING;
	for (uint32_t i = 0; i < N; i++) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		d->numbers[i] = random >> 20;
		d->keys[i] = (uint32_t)(random >> 32);
		d->text[i] = " \nABCabcdefghij"[(random >> 40) % 15];
		d->nodes[i] = (struct node){ i + 1 < N ? &d->nodes[i + 1] : NULL, random };
		uint32_t slot = d->keys[i] * 2654435761u >> 19;

		while (d->slots[slot] != NOTHING)
			slot = (slot + 1) % (2 * N);
		d->slots[slot] = i;
	}
	for (uint32_t i = 0; i < BUCKETS; i++) {
		uint32_t value = i;

		for (int bit = 0; bit < 8; bit++)
			value = value >> 1 ^ (value & 1 ? 0xedb88320u : 0);
		d->table[i] = value;
	}
}

int main(int argc, char **argv)
{
	const long n = units(argc, argv);
	unsigned which = 0;
	uint64_t answers = 0;

	while (which < sizeof(loops) / sizeof(loops[0]) &&
		(argc < 3 || strcmp(loops[which].name, argv[2])))
		which++;
	if (which == sizeof(loops) / sizeof(loops[0])) {
		fprintf(stderr, "usage: %s UNITS sum|prefix|...\n", argv[0]);
		return 2;
	}
	prepare(&data);
	const double started = now();

	for (long unit = 0; unit < n; unit++)
		answers += loops[which].run(&data);
	KEEP(answers);
	report(n, started);
	return 0;
}
