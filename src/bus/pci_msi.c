/*
 * Messages (PCI 3.0 6.8). A message that is masked, or that a function without the right to be
 * master has, stays pending and is sent when that ends. Pending bits are forgotten when the
 * capability they belong to is switched off.
 */
#include "base/bits.h"
#include "base/must.h"
#include "bus/pci_priv.h"

/* MSI, 6.8.1: the form with 64-bit addresses and masks */
#define MSI_CONTROL 2u
#define MSI_ADDRESS 4u
#define MSI_UPPER   8u
#define MSI_DATA    12u
#define MSI_MASK    16u
#define MSI_PENDING 20u
#define MSI_LEN	    24u

#define MSI_ENABLE     BIT(0)
#define MSI_ALLOWED(c) ((unsigned)bits(c, 3, 1)) /* log2 of the vectors asked for */
#define MSI_ENABLED(c) ((unsigned)bits(c, 6, 4)) /* of those given */
#define MSI_WIDE       BIT(7)
#define MSI_MASKABLE   BIT(8)

/* MSI-X, 6.8.2 */
#define MSIX_CONTROL 2u
#define MSIX_TABLE   4u
#define MSIX_PBA     8u
#define MSIX_LEN     12u

#define MSIX_MASKED BIT(14)
#define MSIX_ENABLE BIT(15)

enum { ENTRY_ADDRESS, ENTRY_UPPER, ENTRY_DATA, ENTRY_CONTROL };
#define ENTRY_MASKED BIT(0)
#define ENTRY_SIZE   16u

void pci_add_msi(struct pci_function *fn, unsigned vectors)
{
	unsigned at = pci_add_capability(fn, PCI_CAP_MSI, MSI_LEN);
	unsigned log2 = 0;

	while (1u << log2 < vectors)
		log2++;
	must(log2 <= 5, "%s: %u MSI vectors", fn->name, vectors);
	fn->msi = at;
	fn->msi_vectors = 1u << log2;
	put_le16(fn->config + at + MSI_CONTROL, (u16)(log2 << 1 | MSI_WIDE | MSI_MASKABLE));
	put_le16(fn->writable + at + MSI_CONTROL, MSI_ENABLE | 7u << 4);
	put_le32(fn->writable + at + MSI_ADDRESS, ~3u);
	put_le32(fn->writable + at + MSI_UPPER, ~0u);
	put_le16(fn->writable + at + MSI_DATA, 0xffff);
	put_le32(fn->writable + at + MSI_MASK, (u32)(BIT64(fn->msi_vectors) - 1));
}

void pci_add_msix(struct pci_function *fn, unsigned vectors, unsigned bar, u32 table, u32 pba)
{
	unsigned at = pci_add_capability(fn, PCI_CAP_MSIX, MSIX_LEN);

	must(vectors && vectors <= PCI_MSIX_MAX && fn->bars[bar].kind > PCI_BAR_IO &&
			range_ok(table, vectors * ENTRY_SIZE, fn->bars[bar].size) &&
			range_ok(pba, 8, fn->bars[bar].size) && !((table | pba) & 7),
		"%s: %u MSI-X vectors at 0x%x, 0x%x", fn->name, vectors, table, pba);
	fn->msix = at;
	fn->msix_vectors = vectors;
	fn->msix_bar = bar;
	fn->msix_table = table;
	fn->msix_pba = pba;
	put_le16(fn->config + at + MSIX_CONTROL, (u16)(vectors - 1));
	put_le16(fn->writable + at + MSIX_CONTROL, MSIX_MASKED | MSIX_ENABLE);
	put_le32(fn->config + at + MSIX_TABLE, table | bar);
	put_le32(fn->config + at + MSIX_PBA, pba | bar);
}

void pci_mask_entries(struct pci_function *fn)
{
	memset(fn->entries, 0, sizeof(fn->entries));
	for (unsigned i = 0; i < PCI_MSIX_MAX; i++)
		fn->entries[i][ENTRY_CONTROL] = ENTRY_MASKED;
}

static u16 control(const struct pci_function *fn, unsigned capability)
{
	return capability ? get_le16(fn->config + capability + MSI_CONTROL) : 0;
}

bool pci_has_msix(const struct pci_function *fn) { return control(fn, fn->msix) & MSIX_ENABLE; }

static bool has_msi(const struct pci_function *fn) { return control(fn, fn->msi) & MSI_ENABLE; }

bool pci_has_messages(const struct pci_function *fn) { return pci_has_msix(fn) || has_msi(fn); }

/* ---- sending ---- */

static bool may_send(const struct pci_function *fn, unsigned vector)
{
	if (pci_has_msix(fn))
		return !(control(fn, fn->msix) & MSIX_MASKED) &&
		       !(fn->entries[vector][ENTRY_CONTROL] & ENTRY_MASKED);
	return !(get_le32(fn->config + fn->msi + MSI_MASK) & BIT(vector));
}

static void send(struct pci_function *fn, unsigned vector)
{
	const u8 *msi = fn->config + fn->msi;
	const u32 *e = fn->entries[vector];

	fn->pending &= ~BIT(vector);
	if (pci_has_msix(fn))
		msi_send(
			&fn->bus->msi, e[ENTRY_ADDRESS] | (u64)e[ENTRY_UPPER] << 32, e[ENTRY_DATA]);
	else
		msi_send(&fn->bus->msi, get_le64(msi + MSI_ADDRESS),
			get_le16(msi + MSI_DATA) | vector);
}

void pci_flush_messages(struct pci_function *fn)
{
	if (!pci_has_messages(fn))
		fn->pending = 0;
	for (unsigned v = 0; fn->bus && pci_is_master(fn) && v < PCI_MSIX_MAX; v++)
		if (fn->pending & BIT(v) && may_send(fn, v))
			send(fn, v);
	if (fn->msi)
		put_le32(fn->config + fn->msi + MSI_PENDING, has_msi(fn) ? fn->pending : 0);
}

/* 6.8.1.3: with fewer vectors than were asked for, several causes share one. */
static unsigned given(const struct pci_function *fn)
{
	unsigned log2 = MSI_ENABLED(control(fn, fn->msi));

	return (unsigned)min_u64(1u << log2, fn->msi_vectors);
}

void pci_notify(struct pci_function *fn, unsigned vector)
{
	if (!pci_has_messages(fn))
		return;
	if (!pci_has_msix(fn))
		vector %= given(fn);
	else if (vector >= fn->msix_vectors)
		return;
	fn->pending |= BIT(vector);
	pci_flush_messages(fn);
}

/* ---- the MSI-X table and its pending bits, in a BAR ---- */

static bool in_table(const struct pci_function *fn, unsigned bar, u64 offset)
{
	return fn->msix && bar == fn->msix_bar && offset >= fn->msix_table &&
	       offset - fn->msix_table < fn->msix_vectors * ENTRY_SIZE;
}

static bool in_pba(const struct pci_function *fn, unsigned bar, u64 offset)
{
	return fn->msix && bar == fn->msix_bar && offset >= fn->msix_pba &&
	       offset - fn->msix_pba < 8;
}

/* 6.8.2: only aligned dwords and quadwords are defined. */
static bool defined(u64 offset, unsigned size)
{
	return (size == 4 || size == 8) && !(offset & (size - 1));
}

bool pci_msix_read(struct pci_function *fn, unsigned bar, u64 offset, unsigned size, u64 *value)
{
	bool table = in_table(fn, bar, offset);

	if (!table && !in_pba(fn, bar, offset))
		return false;
	*value = 0;
	if (!defined(offset, size))
		return true;
	if (table) {
		u64 dword = (offset - fn->msix_table) / 4;

		memcpy(value, &fn->entries[dword / 4][dword % 4], size);
	} else if (offset == fn->msix_pba) {
		*value = fn->pending;
	}
	return true;
}

bool pci_msix_write(struct pci_function *fn, unsigned bar, u64 offset, unsigned size, u64 value)
{
	static const u32 writable[4] = { ~3u, ~0u, ~0u, ENTRY_MASKED };

	if (!in_table(fn, bar, offset))
		return in_pba(fn, bar, offset); /* read-only */
	if (!defined(offset, size))
		return true;
	for (unsigned i = 0; i < size / 4; i++) {
		u64 dword = (offset - fn->msix_table) / 4 + i;

		fn->entries[dword / 4][dword % 4] = (u32)(value >> 32 * i) & writable[dword % 4];
	}
	pci_flush_messages(fn);
	return true;
}
