/* What the files of the PCI core share. */
#pragma once
#include "bus/pci.h"

static inline u16 pci_command(const struct pci_function *fn)
{
	return (u16)(fn->config[PCI_COMMAND] | fn->config[PCI_COMMAND + 1] << 8);
}

/* pci_msi.c: registers of MSI or MSI-X, or the right to send, may have changed. */
void pci_flush_messages(struct pci_function *fn);
/* The MSI-X table and its pending bits, when the access lies in them. */
bool pci_msix_read(struct pci_function *fn, unsigned bar, u64 offset, unsigned size, u64 *value);
bool pci_msix_write(struct pci_function *fn, unsigned bar, u64 offset, unsigned size, u64 value);
void pci_mask_entries(struct pci_function *fn);

/* pci.c: the INTA# wire, from what the function wants and what its registers allow. */
void pci_drive(struct pci_function *fn);
