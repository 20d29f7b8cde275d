/*
 * The local APIC, one per vcpu, and the bus that joins all of a machine's (SDM 3A chapter 10).
 *
 * To assemble one: device_new(&lapic_class), fill `wiring`, set properties id and bsp, call the
 * class's reset (which derives registers from them), lapic_bus_add(). The machine then forwards
 *   - accesses for which lapic_decodes() of the accessing vcpu's own APIC says yes to
 *     lapic_mmio_read/write: the page is private to each processor, so the class claims no window;
 *   - the 8259's output to lapic_set_lint(l, 0), on the bootstrap processor at least;
 *   - MSI writes and the I/O APIC's env.msi to lapic_bus_msi(), bus->eoi to ioapic_eoi().
 */
#pragma once
#include "device/device.h"

/* The timer's input clock before the divider; CPUID leaves 0x15 and 0x40000010 report it. */
#define LAPIC_BUS_HZ 1000000000ull

#define LAPIC_DEFAULT_BASE 0xfee00000ull
#define LAPIC_PAGE_SIZE	   0x1000ull

#define LAPIC_VERSION 0x01050014u /* 10.4.8: version 0x14, 6 LVT entries, directed EOI */

/* IA32_APIC_BASE, figure 10-26. */
#define APIC_BASE_BSP	 BIT64(8)
#define APIC_BASE_EXTD	 BIT64(10) /* x2APIC mode */
#define APIC_BASE_ENABLE BIT64(11)

/* Delivery modes, tables 10-1 and 10.6.1. */
enum apic_mode {
	APIC_FIXED,
	APIC_LOWEST,
	APIC_SMI,
	APIC_REMOTE_READ,
	APIC_NMI,
	APIC_INIT,
	APIC_SIPI,
	APIC_EXTINT,
};

enum lapic_lvt { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

/* An interrupt message on its way to some set of local APICs. */
struct apic_message {
	u32 dest;
	u8 vector;
	u8 mode;      /* enum apic_mode */
	bool logical; /* dest is a logical, not a physical destination */
	bool level;   /* level-triggered: its EOI is broadcast to the I/O APIC */
	bool wide;    /* 32-bit destination, from an x2APIC; else 8 bits with 0xff for everyone */
	const struct lapic *except; /* the sender of "all but self" */
};

/* What the APIC asks of its vcpu. NULL members are allowed; guest_tsc and tsc_hz go together. */
struct lapic_wiring {
	void *ctx;
	void (*intr)(void *ctx); /* lapic_pending() is true now */
	void (*nmi)(void *ctx);
	void (*init)(void *ctx); /* the APIC has already reset itself */
	void (*sipi)(void *ctx, u8 vector);
	int (*extint)(void *ctx);    /* INTA cycle at the 8259 pair: its vector or -1 */
	u64 (*guest_tsc)(void *ctx); /* what RDTSC would return there now */
	u64 tsc_hz;		     /* 0: no TSC-deadline mode */
};

struct lapic {
	struct device dev;
	struct lapic_wiring wiring;
	struct lapic_bus *bus;
	struct clock_timer timer;
	u64 initial_id, bsp, phys_bits; /* props */

	/* Saved state */
	u64 base; /* IA32_APIC_BASE */
	u64 irr[4], isr[4], tmr[4];
	u32 id; /* xAPIC: bits 31:24 as in the register; x2APIC: the whole id */
	u32 tpr, ldr, dfr, svr;
	u32 esr, errors; /* errors: since the last ESR write, 10.5.3 */
	u64 icr;
	u32 lvt[LVT_COUNT];
	u32 initial_count, divide;
	u64 zero_at;	  /* guest ns at which the count is next zero; 0: stopped */
	u64 tsc_deadline; /* 0: disarmed */
	bool lint[2];	  /* levels of the local pins */
	bool extint;	  /* an ExtINT message waits for its INTA cycle */
};

extern const struct device_class lapic_class;

#define LAPIC_BUS_MAX 256

struct lapic_bus {
	struct lapic *apics[LAPIC_BUS_MAX];
	unsigned count;
	unsigned turn; /* lowest priority: ties go round */
	void (*eoi)(
		void *ctx, u8 vector); /* EOI of a level interrupt, to the I/O APIC; may be NULL */
	void *eoi_ctx;
};

void lapic_bus_add(struct lapic_bus *bus, struct lapic *l);
/* Delivers to every local APIC the message addresses; false when none took it. */
bool lapic_bus_send(struct lapic_bus *bus, const struct apic_message *msg);
/* A write of `data` to the interrupt message range 0xfeexxxxx (10.11); false when it is no valid
 * message or nobody took it. */
bool lapic_bus_msi(struct lapic_bus *bus, u64 address, u32 data);

static inline bool lapic_enabled(const struct lapic *l) { return l->base & APIC_BASE_ENABLE; }
static inline bool lapic_x2apic(const struct lapic *l) { return l->base & APIC_BASE_EXTD; }

/* Is there a vector for lapic_ack() to return? */
bool lapic_pending(const struct lapic *l);
/* Takes the deliverable vector of highest priority, else the 8259's; -1 when there is neither. */
int lapic_ack(struct lapic *l);

/* CR8 is the task priority class (10.8.6.1); value < 16. */
static inline u64 lapic_cr8(const struct lapic *l) { return l->tpr >> 4; }
void lapic_set_cr8(struct lapic *l, u64 value);

/* IA32_APIC_BASE, IA32_TSC_DEADLINE, 0x800-0x8ff. false: #GP(0), or not one of these. */
bool lapic_msr_read(struct lapic *l, u32 index, u64 *value);
bool lapic_msr_write(struct lapic *l, u32 index, u64 value);

/* Does this address reach the register page? (xAPIC mode only, 10.12.2) */
static inline bool lapic_decodes(const struct lapic *l, gpa_t at)
{
	return (l->base & (APIC_BASE_ENABLE | APIC_BASE_EXTD)) == APIC_BASE_ENABLE &&
	       at.v - (l->base & ~PAGE_MASK) < LAPIC_PAGE_SIZE;
}
u64 lapic_mmio_read(struct lapic *l, u64 offset, unsigned size);
void lapic_mmio_write(struct lapic *l, u64 offset, unsigned size, u64 value);

/* The local pins: 0 is the 8259's INTR output, 1 is NMI. */
void lapic_set_lint(struct lapic *l, unsigned pin, bool level);
/* What firmware leaves for an operating system that is started without one: enabled, the 8259s'
 * INTR accepted on LINT0, NMI on LINT1 ("virtual wire mode", MP specification 3.6.2.2). */
void lapic_virtual_wire(struct lapic *l);

/*
 * The registers by their number (offset in the page / 16), the form in which a local APIC moves to
 * another keeper (an engine that has its own) and back; IA32_APIC_BASE and IA32_TSC_DEADLINE move
 * beside them as `base` and `tsc_deadline`. Given away, its timer is stopped, and all it is good
 * for is to be taken back and saved. What has no register stays: levels of pins, an ExtINT message.
 */
#define LAPIC_REGS 64u
void lapic_give(struct lapic *l, u32 reg[LAPIC_REGS]);
void lapic_take(struct lapic *l, const u32 reg[LAPIC_REGS]);

/* The guest wrote its TSC or TSC_ADJUST: an armed deadline lies elsewhere now. */
void lapic_tsc_changed(struct lapic *l);
