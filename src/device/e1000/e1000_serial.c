/*
 * What hangs on serial wires: a Microwire EEPROM of 64 words (5.3.1), reached bit by bit through
 * EECD or word by word through EERD, and an 88E1011 PHY through MDIC, whose link is always up at
 * 1000 Mb/s. The EEPROM holds the address and who the device is; it is write-protected.
 */
#include "device/e1000/e1000_priv.h"

/* EECD, 13.4.3 */
#define EECD_SK	     BIT(0)
#define EECD_CS	     BIT(1)
#define EECD_DI	     BIT(2)
#define EECD_DO	     BIT(3)
#define EECD_REQ     BIT(6)
#define EECD_GNT     BIT(7)
#define EECD_PRESENT BIT(8)
#define EECD_STORED  (EECD_SK | EECD_CS | EECD_DI | 3u << 4 | EECD_REQ)

/* A command: a start bit, two bits of operation, six of address */
#define COMMAND_BITS 9u
#define READ	     6u

/* EERD, 13.4.4 */
#define EERD_START BIT(0)
#define EERD_DONE  BIT(4)

/* MDIC, 13.4.5 */
#define MDIC_PHY(v)    bits(v, 25, 21)
#define MDIC_REG(v)    ((unsigned)bits(v, 20, 16))
#define MDIC_OP(v)     bits(v, 27, 26)
#define MDIC_WRITE     1u
#define MDIC_READ      2u
#define MDIC_READY     BIT(28)
#define MDIC_INTERRUPT BIT(29)
#define MDIC_ERROR     BIT(30)
#define PHY_ADDRESS    1u

/* PHY registers (IEEE 802.3 22.2.4, 88E1011) */
enum {
	PHY_CONTROL = 0,
	PHY_STATUS = 1,
	PHY_ID1 = 2,
	PHY_ID2 = 3,
	PHY_PARTNER = 5,
	PHY_EXPANSION = 6,
	PHY_1000_STATUS = 10,
	PHY_EXT_STATUS = 15,
	PHY_SPECIFIC_STATUS = 17,
	PHY_RX_ERRORS = 21
};
#define CONTROL_RESET	BIT(15)
#define CONTROL_RESTART BIT(9)

static const struct {
	u8 reg;
	u16 value;
} phy_rows[] = {
	{ PHY_CONTROL, 0x1140 }, /* negotiates, full duplex, 1000 Mb/s */
	{ PHY_STATUS, 0x796d },	 /* everything; has negotiated; link up */
	{ PHY_ID1, 0x0141 },
	{ PHY_ID2, 0x0c20 },
	{ 4, 0x0de1 }, /* advertised */
	{ PHY_PARTNER, 0xcde1 },
	{ PHY_EXPANSION, 0x0007 },
	{ 9, 0x0e00 }, /* 1000 Mb/s, full duplex */
	{ PHY_1000_STATUS, 0x3c00 },
	{ PHY_EXT_STATUS, 0x3000 },
	{ 16, 0x0360 },
	{ PHY_SPECIFIC_STATUS, 0xac08 }, /* 1000 Mb/s, full duplex, resolved, link up */
	{ 20, 0x0d60 },
	{ 24, 0x4100 },
};

static const u32 phy_readonly = BIT(PHY_STATUS) | BIT(PHY_ID1) | BIT(PHY_ID2) | BIT(PHY_PARTNER) |
				BIT(PHY_EXPANSION) | BIT(PHY_1000_STATUS) | BIT(PHY_EXT_STATUS) |
				BIT(PHY_SPECIFIC_STATUS) | BIT(PHY_RX_ERRORS);

/* 5.6: words that drivers look at; all of them add up to 0xbaba. */
static const struct {
	u8 word;
	u16 value;
} eeprom_rows[] = {
	{ 0x08, 0xffff }, /* no board number */
	{ 0x09, 0xffff },
	{ 0x0a, 0x4003 }, /* the identities below count */
	{ 0x0b, 0x001e },
	{ 0x0c, 0x8086 },
	{ 0x0d, 0x100e },
	{ 0x0e, 0x8086 },
};
#define EEPROM_SUM	0xbabau
#define EEPROM_CHECKSUM 0x3fu

void e1000_phy_reset(struct e1000 *e)
{
	memset(e->phy, 0, sizeof(e->phy));
	for (unsigned i = 0; i < ARRAY_LEN(phy_rows); i++)
		e->phy[phy_rows[i].reg] = phy_rows[i].value;
}

void e1000_serial_reset(struct e1000 *e, const u8 mac[6])
{
	u16 sum = 0;

	memset(e->eeprom, 0, sizeof(e->eeprom));
	for (unsigned i = 0; i < 3; i++)
		e->eeprom[i] = get_le16(mac + 2 * i);
	for (unsigned i = 0; i < ARRAY_LEN(eeprom_rows); i++)
		e->eeprom[eeprom_rows[i].word] = eeprom_rows[i].value;
	for (unsigned i = 0; i < EEPROM_CHECKSUM; i++)
		sum = (u16)(sum + e->eeprom[i]);
	e->eeprom[EEPROM_CHECKSUM] = (u16)(EEPROM_SUM - sum);
	e->eecd = 0;
	e->shift = e->shifted = 0;
	e1000_phy_reset(e);
}

/* ---- EEPROM ---- */

/* After a read's command one zero, then the word, and the words behind it, highest bit first. */
static bool data_out(const struct e1000 *e)
{
	unsigned at = e->shifted - COMMAND_BITS;

	if (e->shifted < COMMAND_BITS || e->shift >> 6 != READ)
		return true; /* ready */
	if (!at)
		return false;
	at--;
	return e->eeprom[((e->shift & 63) + at / 16) % E1000_WORDS] >> (15 - at % 16) & 1;
}

u32 e1000_eecd_read(const struct e1000 *e)
{
	return e->eecd | EECD_PRESENT | (e->eecd & EECD_REQ ? EECD_GNT : 0) |
	       (data_out(e) ? EECD_DO : 0);
}

void e1000_eecd_write(struct e1000 *e, u32 value)
{
	u32 rose = value & ~e->eecd;

	e->eecd = value & EECD_STORED;
	if (!(value & EECD_CS)) {
		e->shift = e->shifted = 0;
		return;
	}
	if (!(rose & EECD_SK))
		return;
	if (e->shifted < COMMAND_BITS) /* until the start bit there is nothing to count */
		e->shift = (u16)(e->shift << 1 | !!(value & EECD_DI));
	if (e->shift && e->shifted < COMMAND_BITS + 16 * E1000_WORDS)
		e->shifted++;
}

void e1000_eerd_write(struct e1000 *e, u32 value)
{
	unsigned word = (unsigned)bits(value, 15, 8);

	e->eerd = value & 0xff00;
	if (value & EERD_START)
		e->eerd |= EERD_DONE | (u32)(word < E1000_WORDS ? e->eeprom[word] : 0) << 16;
}

/* ---- PHY ---- */

static void phy_write(struct e1000 *e, unsigned reg, u16 value)
{
	if (phy_readonly & BIT(reg))
		return;
	if (reg == PHY_CONTROL && value & CONTROL_RESET) {
		e1000_phy_reset(e);
		return;
	}
	e->phy[reg] = value;
	if (reg == PHY_CONTROL && value & CONTROL_RESTART) { /* done as soon as it is asked for */
		e->phy[reg] &= (u16)~CONTROL_RESTART;
		e1000_cause(e, E1000_LSC);
	}
}

void e1000_mdic_write(struct e1000 *e, u32 value)
{
	unsigned reg = MDIC_REG(value);

	e->mdic = value & ~(MDIC_READY | MDIC_ERROR);
	if (MDIC_PHY(value) != PHY_ADDRESS)
		e->mdic |= MDIC_ERROR;
	else if (MDIC_OP(value) == MDIC_READ)
		e->mdic = (e->mdic & ~0xffffu) | e->phy[reg];
	else if (MDIC_OP(value) == MDIC_WRITE)
		phy_write(e, reg, (u16)value);
	e->mdic |= MDIC_READY;
	if (value & MDIC_INTERRUPT)
		e1000_cause(e, E1000_MDAC);
}
