/*
 * PCI (PCI Local Bus 3.0; "3.0 6.2.1" names a section of it): one bus of up to 32 slots, one
 * function in each, and what all functions have in common.
 *
 * Configuration space is data: each byte has a value at reset, bits that software may write, and
 * bits that a written one clears. Sizing a BAR needs nothing more: its low bits cannot be written.
 * A device describes its function once:
 *
 *   pci_init()            who it is
 *   pci_add_bar(), pci_add_msix(), pci_add_msi(), pci_add_capability()
 *   pci_attach()          in a slot of the bus; what config holds then is its value at reset
 *
 * BARs that the guest enables are windows on the machine's bus, wherever it has put them. Whenever
 * an address or an enable bit changes, all BARs are taken off and put on again in order of slots,
 * so that which of two overlapping ones is seen depends on nothing but the registers. What lies on
 * another device's window is not seen; RAM hides whatever lies under it.
 *
 * Interrupts: pci_notify() sends a message when the function has MSI or MSI-X enabled; pci_intx()
 * says whether the function wants its INTA# asserted, which counts only without them. INTx wires
 * of all slots end in PCI_LINKS links, which the machine connects to its interrupt controller.
 *
 * Threads: with the machine's lock held, as everything on the bus.
 */
#pragma once
#include "base/err.h"
#include "bus/bus.h"
#include "bus/irq.h"
#include "state/field.h"

#define PCI_SLOTS	32u
#define PCI_BARS	6u
#define PCI_LINKS	8u
#define PCI_CONFIG_SIZE 256u
#define PCI_MSIX_MAX	32u
#define PCI_ANY_SLOT	0xffu

/* The header's registers, 3.0 6.1 */
enum pci_register {
	PCI_VENDOR = 0x00,
	PCI_DEVICE = 0x02,
	PCI_COMMAND = 0x04,
	PCI_STATUS = 0x06,
	PCI_REVISION = 0x08,
	PCI_CLASS = 0x09, /* three bytes */
	PCI_HEADER_TYPE = 0x0e,
	PCI_BAR0 = 0x10,
	PCI_SUBVENDOR = 0x2c,
	PCI_SUBDEVICE = 0x2e,
	PCI_CAPABILITIES = 0x34,
	PCI_LINE = 0x3c,
	PCI_PIN = 0x3d,
};

#define PCI_COMMAND_IO		 BIT(0)
#define PCI_COMMAND_MEMORY	 BIT(1)
#define PCI_COMMAND_MASTER	 BIT(2)
#define PCI_COMMAND_INTX_DISABLE BIT(10)
#define PCI_STATUS_INTX		 BIT(3)
#define PCI_STATUS_CAPABILITIES	 BIT(4)

enum pci_capability { PCI_CAP_MSI = 0x05, PCI_CAP_VENDOR = 0x09, PCI_CAP_MSIX = 0x11 };

enum pci_bar_kind { PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MEMORY, PCI_BAR_MEMORY64 };

struct pci_identity {
	u16 vendor, device, subvendor, subdevice;
	u32 class; /* base class, sub-class, interface: 0x010000 */
	u8 revision;
	bool intx; /* uses INTA# */
};

struct pci_ops {
	/* An access to a BAR, bytes of MSI-X excepted; as struct bus_handler. */
	u64 (*read)(void *ctx, unsigned bar, u64 offset, unsigned size);
	void (*write)(void *ctx, unsigned bar, u64 offset, unsigned size, u64 value);
	/* Both may be NULL. Before these configuration bytes are read; after they were written. */
	void (*config_reads)(void *ctx, unsigned at, unsigned size);
	void (*config_wrote)(void *ctx, unsigned at, unsigned size);
};

struct pci_function;

struct pci_doorbells {
	u64 first;
	u32 step;
	unsigned count; /* 0: there are none */
};

struct pci_bar {
	struct pci_function *fn;
	unsigned index;
	enum pci_bar_kind kind;
	u64 size; /* a power of two */
	u64 at;	  /* while mapped */
	bool mapped;
	struct pci_doorbells doorbells;
};

struct pci_function {
	const char *name;
	const struct pci_ops *ops;
	void *ctx;
	struct pci_bus *bus; /* NULL until attached */
	unsigned slot;
	u8 config[PCI_CONFIG_SIZE];
	u8 initial[PCI_CONFIG_SIZE];
	u8 writable[PCI_CONFIG_SIZE];
	u8 clears[PCI_CONFIG_SIZE]; /* bits that writing one clears */
	struct pci_bar bars[PCI_BARS];
	unsigned end;	      /* of the capabilities */
	unsigned last;	      /* where the list of them goes on */
	unsigned msi, msix;   /* the capability's offset; 0: none */
	unsigned msi_vectors; /* a power of two up to 32 */
	unsigned msix_vectors, msix_bar;
	u32 msix_table, msix_pba;     /* offsets in the BAR */
	u32 entries[PCI_MSIX_MAX][4]; /* 3.0 6.8.2.5: address, upper address, data, control */
	u32 pending;		      /* messages that are masked or not yet allowed */
	bool intx;
};

struct pci_bus {
	struct bus *bus;
	struct msi_sink msi;
	struct irq_line links[PCI_LINKS];
	u32 asserted[PCI_LINKS]; /* a bit for each slot */
	struct pci_function *slots[PCI_SLOTS];
	void (*moved)(void *ctx); /* BARs may have come, gone or moved; NULL: nobody asks */
	void *moved_ctx;
};

void pci_bus_init(struct pci_bus *b, struct bus *bus, struct msi_sink msi);

/* ---- describing a function ---- */

void pci_init(struct pci_function *fn, const char *name, const struct pci_identity *who,
	const struct pci_ops *ops, void *ctx);
/* A 64-bit BAR takes the next register, too. size: a power of two, 16 bytes or more. */
void pci_add_bar(struct pci_function *fn, unsigned bar, enum pci_bar_kind kind, u64 size);
/* Places in a BAR where it does not matter what is written, and how wide, and from where nothing
 * has to come back: one each `step` bytes. */
void pci_add_doorbells(struct pci_function *fn, unsigned bar, u64 first, u32 step, unsigned count);
/* len includes the two bytes of the head; its offset. The caller fills in config and writable. */
unsigned pci_add_capability(struct pci_function *fn, enum pci_capability id, unsigned len);
void pci_add_msi(struct pci_function *fn, unsigned vectors);
void pci_add_msix(struct pci_function *fn, unsigned vectors, unsigned bar, u32 table, u32 pba);
/* slot may be PCI_ANY_SLOT. -EBUSY, -ENOSPC. */
NODISCARD int pci_attach(
	struct pci_bus *b, struct pci_function *fn, unsigned slot, struct err *err);
void pci_detach(struct pci_function *fn);
void pci_reset(struct pci_function *fn);

/* What a save carries of a function, and what follows loading it: only bits that can be written
 * are taken over. */
extern const struct field pci_function_fields[];
void pci_loaded(struct pci_function *fn);

/* ---- a function at work ---- */

/* The function may read and write memory. */
bool pci_is_master(const struct pci_function *fn);
bool pci_has_messages(const struct pci_function *fn); /* MSI or MSI-X is enabled */
bool pci_has_msix(const struct pci_function *fn);
void pci_notify(struct pci_function *fn, unsigned vector);
void pci_intx(struct pci_function *fn, bool level);

/* ---- configuration accesses; bytes of one function; what is not there reads as ones ---- */

u32 pci_config_read(struct pci_bus *b, unsigned slot, unsigned at, unsigned size);
void pci_config_write(struct pci_bus *b, unsigned slot, unsigned at, unsigned size, u32 value);
void pci_remap(struct pci_bus *b);
/* Those that are mapped now. */
void pci_each_doorbell(const struct pci_bus *b, void (*fn)(void *ctx, u64 at), void *ctx);

/* The link that a slot's pin (1: INTA#) is wired to. */
static inline unsigned pci_link(unsigned slot, unsigned pin)
{
	return (slot + pin - 1) % PCI_LINKS;
}

/* ---- what firmware does ---- */

struct pci_window {
	u64 base, len;
};

/* Where BARs may lie, and where configuration space is shown; for firmware tables, too. */
struct pci_map {
	struct pci_window io, low[2], high; /* high: above 4 GiB; len 0: none */
	u64 ecam;			    /* all 256 buses */
	unsigned first_pin;		    /* global interrupt of link 0 */
};

/* Gives every BAR an address and enables it. */
void pci_assign(struct pci_bus *b, const struct pci_map *map);
