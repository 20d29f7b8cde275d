/*
 * ISA bridge: function 0 of device 31 of the ICH9 (Intel 316972, chapter 13, "LPC Interface
 * Bridge"). OVMF looks here for the base of power management, and finds the devices of the ISA bus
 * by it.
 *
 * The registers that place and enable things can be written and read back, and change nothing: the
 * power management block is at 0x600, where firmware for the Q35 puts it, the interrupt wires end
 * in the I/O APIC whatever PIRQ routing says, and behind the root complex's base is nothing.
 */
#include "device/pci/lpc.h"
#include "base/bits.h"
#include <errno.h>

/* Registers (13.1): offset, bytes, value at reset, bits that can be written */
static const struct {
	u8 at, len;
	u32 reset, writable;
} registers[] = {
	{ 0x40, 4, 0x00000001, 0x0000ff80 }, /* PMBASE */
	{ 0x44, 1, 0x00, 0x87 },	     /* ACPI_CNTL */
	{ 0x48, 4, 0x00000001, 0x0000ff80 }, /* GPIOBASE */
	{ 0x4c, 1, 0x00, 0x10 },	     /* GC */
	{ 0x60, 4, 0x80808080, 0x8f8f8f8f }, /* PIRQA_ROUT to PIRQD_ROUT */
	{ 0x64, 1, 0x10, 0xff },	     /* SIRQ_CNTL */
	{ 0x68, 4, 0x80808080, 0x8f8f8f8f }, /* PIRQE_ROUT to PIRQH_ROUT */
	{ 0x80, 4, 0x00000000, 0x3f0f1377 }, /* LPC_I/O_DEC, LPC_EN */
	{ 0x84, 4, 0x00000000, 0x00fcfffd }, /* GEN1_DEC to GEN4_DEC */
	{ 0x88, 4, 0x00000000, 0x00fcfffd }, { 0x8c, 4, 0x00000000, 0x00fcfffd },
	{ 0x90, 4, 0x00000000, 0x00fcfffd }, { 0xa0, 2, 0x0000, 0x1fff }, /* GEN_PMCON_1 */
	{ 0xac, 1, 0x00, 0x00 }, { 0xf0, 4, 0x00000000, 0xffffc001 },	  /* RCBA */
};

struct lpc {
	struct device dev;
	struct pci_function fn;
};

static struct lpc *lpc_of(struct device *d) { return container_of(d, struct lpc, dev); }

static void lpc_reset(struct device *d) { pci_reset(&lpc_of(d)->fn); }
static void lpc_loaded(struct device *d) { pci_loaded(&lpc_of(d)->fn); }
static void lpc_fini(struct device *d) { pci_detach(&lpc_of(d)->fn); }

static int lpc_init(struct device *d, struct err *err)
{
	static const struct pci_identity identity = {
		.vendor = 0x8086, .device = 0x2918, .class = 0x060100, .revision = 2
	};
	struct lpc *l = lpc_of(d);

	if (!d->env.pci)
		return err_set(err, -EINVAL, "no PCI bus");
	pci_init(&l->fn, d->name, &identity, NULL, l);
	for (unsigned i = 0; i < ARRAY_LEN(registers); i++)
		for (unsigned b = 0; b < registers[i].len; b++) {
			l->fn.config[registers[i].at + b] = (u8)(registers[i].reset >> 8 * b);
			l->fn.writable[registers[i].at + b] = (u8)(registers[i].writable >> 8 * b);
		}
	return pci_attach(d->env.pci, &l->fn, LPC_SLOT, err);
}

static const struct field lpc_state[] = {
	FIELD_SUB(struct lpc, fn, struct pci_function, pci_function_fields),
	FIELD_END,
};

const struct device_class lpc_class = {
	.name = "lpc",
	.doc = "ISA bridge, as the ICH9's",
	.size = sizeof(struct lpc),
	.init = lpc_init,
	.reset = lpc_reset,
	.fini = lpc_fini,
	.loaded = lpc_loaded,
	.state = lpc_state,
};
