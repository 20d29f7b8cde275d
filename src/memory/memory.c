/* See memory.h for the model. The slot list is short and sorted; lookups that matter are cached by
 * the engines' TLBs, so a linear scan is the clearest thing that is fast enough. */
#include "memory/memory.h"
#include "base/bits.h"
#include "base/must.h"
#include "os/fd.h"
#include <errno.h>
#include <linux/membarrier.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

void memory_init(struct memory *m)
{
	*m = (struct memory){ 0 };
	pthread_mutex_init(&m->claim_lock, NULL);
	syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
}

void memory_fini(struct memory *m)
{
	for (unsigned i = 0; i < m->region_count; i++) {
		struct memory_region *r = &m->regions[i];

		munmap(r->host, r->size);
		free((void *)r->flags);
		free(r->claims);
		close(r->fd);
	}
	pthread_mutex_destroy(&m->claim_lock);
	*m = (struct memory){ 0 };
}

struct memory_region *memory_add_region(
	struct memory *m, const char *name, u64 size, bool rom, struct err *err)
{
	struct memory_region *r = &m->regions[m->region_count];

	must(m->region_count < MEMORY_REGIONS_MAX, "more than %d regions", MEMORY_REGIONS_MAX);
	must(size && !(size & PAGE_MASK), "region %s: size %llu", name, (unsigned long long)size);

	int fd = memfd_create(name, MFD_CLOEXEC);
	if (fd < 0) {
		err_set(err, -errno, "guest memory %s: memfd_create: %s", name, strerror(errno));
		return NULL;
	}
	if (ftruncate(fd, (off_t)size) < 0) {
		err_set(err, -errno, "guest memory %s: %llu MiB: %s", name,
			(unsigned long long)(size / MiB), strerror(errno));
		goto close_fd;
	}
	u8 *host = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (host == MAP_FAILED) {
		err_set(err, -errno,
			"guest memory %s: cannot map %llu MiB: %s; ask for less with --memory",
			name, (unsigned long long)(size / MiB), strerror(errno));
		goto close_fd;
	}
	_Atomic u8 *flags = calloc(size >> PAGE_SHIFT, 1);
	u8 *claims = calloc(size >> PAGE_SHIFT, 1);
	if (!flags || !claims) {
		free((void *)flags);
		free(claims);
		err_set(err, -ENOMEM, "guest memory %s: no memory for page flags", name);
		goto unmap;
	}
	*r = (struct memory_region){
		.host = host, .flags = flags, .claims = claims, .size = size, .fd = fd, .rom = rom
	};
	snprintf(r->name, sizeof(r->name), "%s", name);
	m->region_count++;
	return r;

unmap:
	munmap(host, size);
close_fd:
	close(fd);
	return NULL;
}

int memory_add_slot(struct memory *m, struct memory_region *r, gpa_t base, u64 offset, u64 size,
	struct err *err)
{
	must(m->slot_count < MEMORY_SLOTS_MAX, "more than %d slots", MEMORY_SLOTS_MAX);
	if ((base.v | offset | size) & PAGE_MASK || !size || !range_ok(offset, size, r->size) ||
		!range_ok(base.v, size, BIT64(52)))
		return err_set(err, -EINVAL, "guest memory %s: bad placement at 0x%llx", r->name,
			(unsigned long long)base.v);

	unsigned at = 0;
	for (; at < m->slot_count && m->slots[at].base < base.v; at++)
		;
	bool hits_below = at > 0 && m->slots[at - 1].base + m->slots[at - 1].size > base.v;
	bool hits_above = at < m->slot_count && base.v + size > m->slots[at].base;
	if (hits_below || hits_above)
		return err_set(err, -EEXIST, "guest memory %s: overlaps at 0x%llx", r->name,
			(unsigned long long)base.v);

	memmove(&m->slots[at + 1], &m->slots[at], (m->slot_count - at) * sizeof(m->slots[0]));
	m->slots[at] =
		(struct memory_slot){ .base = base.v, .size = size, .offset = offset, .region = r };
	m->slot_count++;
	return 0;
}

int memory_show(struct memory *m, struct memory_region *r, gpa_t base, struct err *err)
{
	must(r->device, "region %s stays where it is", r->name);
	for (unsigned i = 0; i < m->slot_count; i++)
		if (m->slots[i].region == r) {
			m->slot_count--;
			memmove(&m->slots[i], &m->slots[i + 1],
				(m->slot_count - i) * sizeof(m->slots[0]));
			break;
		}
	return base.v ? memory_add_slot(m, r, base, 0, r->size, err) : 0;
}

void memory_watch(struct memory *m, const struct memory_watcher *w)
{
	must(m->watcher_count < MEMORY_WATCHERS_MAX, "more than %d watchers", MEMORY_WATCHERS_MAX);
	m->watchers[m->watcher_count++] = *w;
}

void memory_unwatch(struct memory *m, void *ctx)
{
	for (unsigned i = 0; i < m->watcher_count; i++)
		if (m->watchers[i].ctx == ctx)
			m->watchers[i--] = m->watchers[--m->watcher_count];
}

static const struct memory_slot *find_slot(const struct memory *m, u64 at)
{
	for (unsigned i = 0; i < m->slot_count; i++)
		if (at - m->slots[i].base < m->slots[i].size)
			return &m->slots[i];
	return NULL;
}

struct memory_page memory_page(const struct memory *m, gpa_t at)
{
	const struct memory_slot *s = find_slot(m, at.v);

	if (!s)
		return (struct memory_page){ 0 };
	u64 off = align_down(s->offset + (at.v - s->base), PAGE_SIZE);
	return (struct memory_page){
		.host = s->region->host + off,
		.flags = &s->region->flags[off >> PAGE_SHIFT],
		.rom = s->region->rom,
		.device = s->region->device,
	};
}

u8 *memory_host(const struct memory *m, gpa_t at, u64 len)
{
	const struct memory_slot *s = find_slot(m, at.v);

	if (!s || !range_ok(at.v - s->base, len, s->size))
		return NULL;
	return s->region->host + s->offset + (at.v - s->base);
}

/* The part of [at, at+len) that starts at `at` and lies in one slot; 0 when `at` is in none. */
static u64 piece(const struct memory *m, u64 at, u64 len, const struct memory_slot **s)
{
	*s = find_slot(m, at);
	return *s ? min_u64(len, (*s)->base + (*s)->size - at) : 0;
}

static bool all_ram(const struct memory *m, u64 at, u64 len, bool for_write)
{
	const struct memory_slot *s;
	u64 end;

	if (!add_ok(at, len, &end))
		return false;
	while (len) {
		u64 n = piece(m, at, len, &s);

		if (!n || (for_write && s->region->rom))
			return false;
		at += n;
		len -= n;
	}
	return true;
}

bool memory_read(const struct memory *m, gpa_t at, void *buf, u64 len)
{
	const struct memory_slot *s;

	if (!all_ram(m, at.v, len, false))
		return false;
	for (u64 done = 0, n; done < len; done += n) {
		n = piece(m, at.v + done, len - done, &s);
		memcpy((u8 *)buf + done, s->region->host + s->offset + (at.v + done - s->base), n);
	}
	return true;
}

/* buf NULL: fill with byte. */
static bool put(struct memory *m, u64 at, const void *buf, u8 byte, u64 len, bool into_rom)
{
	const struct memory_slot *s;

	if (!all_ram(m, at, len, !into_rom))
		return false;
	for (u64 done = 0, n; done < len; done += n) {
		n = piece(m, at + done, len - done, &s);
		u8 *to = s->region->host + s->offset + (at + done - s->base);
		if (buf)
			memcpy(to, (const u8 *)buf + done, n);
		else
			memset(to, byte, n);
		memory_written(m, gpa(at + done), n);
	}
	return true;
}

bool memory_write(struct memory *m, gpa_t at, const void *buf, u64 len)
{
	return put(m, at.v, buf, 0, len, false);
}
bool memory_load(struct memory *m, gpa_t at, const void *buf, u64 len)
{
	return put(m, at.v, buf, 0, len, true);
}
bool memory_fill(struct memory *m, gpa_t at, u8 byte, u64 len)
{
	return put(m, at.v, NULL, byte, len, false);
}

void memory_written(struct memory *m, gpa_t at, u64 len)
{
	while (len) {
		u64 n = min_u64(len, PAGE_SIZE - (at.v & PAGE_MASK));
		struct memory_page p = memory_page(m, at);

		if (p.flags) {
			u8 was = atomic_fetch_or_explicit(p.flags, MEM_DIRTY, memory_order_acq_rel);
			if (was & MEM_CODE)
				for (unsigned i = 0; i < m->watcher_count; i++)
					m->watchers[i].code_written(m->watchers[i].ctx, at, n);
		}
		at.v += n;
		len -= n;
	}
}

bool memory_discard(struct memory *m, gpa_t at, u64 len)
{
	const struct memory_slot *s;
	u64 end, from = align_up(at.v, PAGE_SIZE);

	if (!add_ok(at.v, len, &end) || from < at.v || !all_ram(m, at.v, len, true))
		return false;
	end = align_down(end, PAGE_SIZE);
	for (u64 n; from < end; from += n) {
		n = piece(m, from, end - from, &s);
		if (madvise(s->region->host + s->offset + (from - s->base), n, MADV_REMOVE))
			return false;
		memory_written(m, gpa(from), n);
	}
	return true;
}

u64 memory_held(const struct memory *m)
{
	u64 sum = 0;
	struct stat st;

	for (unsigned i = 0; i < m->region_count; i++)
		if (!fd_stat(m->regions[i].fd, &st))
			sum += (u64)st.st_blocks * 512;
	return sum;
}

u64 memory_ram_size(const struct memory *m)
{
	u64 sum = 0;

	for (unsigned i = 0; i < m->region_count; i++)
		if (!m->regions[i].rom && !m->regions[i].device)
			sum += m->regions[i].size;
	return sum;
}

u64 memory_ram_top(const struct memory *m)
{
	u64 top = 0;

	for (unsigned i = 0; i < m->slot_count; i++)
		if (!m->slots[i].region->rom && !m->slots[i].region->device)
			top = m->slots[i].base + m->slots[i].size;
	return top;
}

/* ---- claims ---- */

/* The claim counter and flags of a page; false when it is not RAM or ROM. */
static bool page_claims(
	const struct memory *m, gpa_t page, u8 **claims, _Atomic u8 **flags, u8 **host)
{
	const struct memory_slot *s = find_slot(m, page.v);

	if (!s || s->region->device)
		return false;
	u64 off = align_down(s->offset + (page.v - s->base), PAGE_SIZE);
	*claims = &s->region->claims[off >> PAGE_SHIFT];
	*flags = &s->region->flags[off >> PAGE_SHIFT];
	*host = s->region->host + off;
	return true;
}

/*
 * The flag first, then a barrier on every running thread: a store made before it is in memory now
 * and will be decoded, a store made after it finds the flag. Watchers drop what lets stores skip
 * the look.
 */
static void announce(struct memory *m, const u8 *host_page, bool quiet)
{
	if (m->watcher_count > 1)
		syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
	for (unsigned i = 0; quiet && i < m->watcher_count; i++)
		if (m->watchers[i].code_claimed)
			m->watchers[i].code_claimed(m->watchers[i].ctx, host_page);
}

void memory_claim_code(struct memory *m, gpa_t page)
{
	_Atomic u8 *flags;
	u8 *claims, *host;

	if (!page_claims(m, page, &claims, &flags, &host))
		return;
	pthread_mutex_lock(&m->claim_lock);
	(*claims)++;
	bool quiet = atomic_fetch_or(flags, MEM_CODE) & MEM_QUIET;
	pthread_mutex_unlock(&m->claim_lock);
	/* Also when others had claimed it: they may still be announcing. Until then the flag stays.
	 */
	announce(m, host, quiet);
	if (quiet)
		atomic_fetch_and(flags, (u8)~MEM_QUIET);
}

void memory_release_code(struct memory *m, gpa_t page)
{
	_Atomic u8 *flags;
	u8 *claims, *host;

	if (!page_claims(m, page, &claims, &flags, &host))
		return;
	pthread_mutex_lock(&m->claim_lock);
	must(*claims, "page 0x%llx released more often than claimed", (unsigned long long)page.v);
	if (!--(*claims))
		atomic_fetch_and(flags, (u8)~MEM_CODE);
	pthread_mutex_unlock(&m->claim_lock);
}
