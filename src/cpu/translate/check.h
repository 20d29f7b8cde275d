/*
 * --translate check: whatever translated code can reach through the tables that stand between it
 * and memory is looked at while the guest runs, and must be memory that the guest has.
 *
 * Those tables are the shared TLB (cpu/mmu.h), the fast TLB, what is kept of address spaces that do
 * not run (retain.c), and both windows. Of each entry, at any moment outside of translated code:
 *
 *   frames   it leads to a page of a region of guest memory that some slot shows;
 *   stores   if it lets stores through without a look at the page's flags, then the page is not
 *            ROM, is dirty, and nobody has claimed code from it;
 *
 * and, when it is made, what may change later only by a flush:
 *
 *   rights   the guest's page tables, walked anew, lead there, and grant what it allows, to who may
 *            use it;
 *
 * and after a flush:
 *
 *   flushes  nothing is left of what the architecture wants gone, but for what the guest's tables
 *            grant at that moment.
 *
 * and where code relies on what it has found out before (emit.h, Facts):
 *
 *   facts    a value that is believed to lie in a region does, or close by.
 *
 * The windows are mappings of the host, for which the host's kernel is asked: /proc/self/maps must
 * list what we believe we have shown, with those rights, and nothing else in our part of the
 * address space.
 *
 * An entry whose page table entry has changed since is not wrong: a processor may keep it until the
 * guest flushes it (SDM 3A 4.10.2). That is why rights are compared when it is made.
 *
 * Threads: the vcpu's. Other threads claim pages at any time; a claim that has not come through yet
 * is no finding (tcache_claimed()).
 */
#pragma once
#include "base/err.h"
#include "base/types.h"
#include "x86/cpu.h"

#define CHECK_TEXT 256u

struct translator;
struct check; /* what --translate check needs; struct translator.check is NULL without it */

NODISCARD int check_open(struct translator *t, struct err *err);
void check_close(struct translator *t);

/* Nothing without the switch. A finding ends the process with its text: it is a bug of ours. */
void check_filled(struct translator *t, u64 at, bool write);
/* By the window that the state at hand uses: the owner's in user mode, or the kernel's. */
void check_shown(struct translator *t, u64 at, const u8 *host, u64 pages, bool store);
void check_left(struct translator *t); /* code was left */
void check_flushed(struct translator *t, enum x86_flush kind, u64 at);

/* For tests, and what the three above use: "" or what is wrong, in to[CHECK_TEXT]. */
bool check_all(struct translator *t, char *to);
bool check_entry(struct translator *t, u64 at, bool write, char *to);
