/*
 * NS16550A UART (National Semiconductor PC16550D, June 1995). COM1 unless the machine moves the
 * window; lines[0] is INTRPT.
 *
 * The line is as fast as the backend. Transmitting: bytes go from the FIFO to the backend at
 * once; what it does not take stays in the FIFO, THRE stays 0, and a timer tries again, so a slow
 * backend holds the guest up and nothing is lost. Receiving: input() takes what fits in the FIFO,
 * so there are no overruns; whoever gave more is told through console_ops.room when there is space.
 *
 * The PC's gate of INTRPT by MCR's OUT2 is left out: small kernels do without setting it, and those
 * that know it always set it.
 *
 * Interrupts (table 3 of the data sheet), highest first: line status, data available, character
 * timeout, transmitter empty, modem status. All are conditions computed from the registers, except
 * two that are remembered: `timeout`, and `thre_due`, which reading IIR or writing THR withdraws.
 */
#include "base/bits.h"
#include "base/log.h"
#include "device/legacy/legacy.h"
#include <errno.h>

enum { UART_DATA, UART_IER, UART_IIR_FCR, UART_LCR, UART_MCR, UART_LSR, UART_MSR, UART_SCR };

#define IER_RDA	 BIT(0)
#define IER_THRE BIT(1)
#define IER_LINE BIT(2)
#define IER_MSR	 BIT(3)
#define IER_ALL	 0x0fu

#define IIR_MSR	    0x00u
#define IIR_NONE    0x01u
#define IIR_THRE    0x02u
#define IIR_RDA	    0x04u
#define IIR_LINE    0x06u
#define IIR_TIMEOUT 0x0cu
#define IIR_FIFO    0xc0u

#define FCR_ENABLE   BIT(0)
#define FCR_CLEAR_RX BIT(1)
#define FCR_CLEAR_TX BIT(2)

#define LCR_STOP2  BIT(2)
#define LCR_PARITY BIT(3)
#define LCR_DLAB   BIT(7)

#define MCR_DTR	 BIT(0)
#define MCR_RTS	 BIT(1)
#define MCR_OUT1 BIT(2)
#define MCR_OUT2 BIT(3)
#define MCR_LOOP BIT(4)
#define MCR_ALL	 0x1fu

#define LSR_DR	 BIT(0)
#define LSR_OE	 BIT(1)
#define LSR_THRE BIT(5)
#define LSR_TEMT BIT(6)

#define MSR_DELTAS 0x0fu
#define MSR_TERI   BIT(2)
#define MSR_CTS	   BIT(4)
#define MSR_DSR	   BIT(5)
#define MSR_RI	   BIT(6)
#define MSR_DCD	   BIT(7)

#define UART_FIFO     16u
#define UART_CLOCK    1843200u
#define UART_RETRY_NS 1000000u
#define UART_9600     12u
#define TIMEOUT_CHARS 4u

struct fifo {
	u8 bytes[UART_FIFO];
	u8 len;
};

struct uart {
	struct device dev;
	struct clock_timer timeout_timer, retry_timer;
	struct fifo rx, tx;
	u64 timeout_at; /* guest ns of the character timeout; ~0: none coming */
	u16 divisor;
	u8 ier, fcr, lcr, mcr, scr;
	u8 overrun; /* LSR_OE or 0 */
	u8 msr;
	bool thre_due, timeout;
	bool starved; /* input() took less than it was given */
};

static struct uart *uart_of(struct device *d) { return container_of(d, struct uart, dev); }

static unsigned fifo_size(const struct uart *u) { return u->fcr & FCR_ENABLE ? UART_FIFO : 1; }
static bool is_loop(const struct uart *u) { return u->mcr & MCR_LOOP; }

static void fifo_drop(struct fifo *f, size_t n)
{
	memmove(f->bytes, f->bytes + n, f->len - n);
	f->len = (u8)(f->len - n);
}

/* ---- interrupts ---- */

static unsigned trigger(const struct uart *u)
{
	static const u8 levels[] = { 1, 4, 8, 14 };

	return u->fcr & FCR_ENABLE ? levels[u->fcr >> 6] : 1;
}

/* What IIR's low bits show. */
static u8 cause(const struct uart *u)
{
	if (u->ier & IER_LINE && u->overrun)
		return IIR_LINE;
	if (u->ier & IER_RDA && u->rx.len >= trigger(u))
		return IIR_RDA;
	if (u->ier & IER_RDA && u->timeout)
		return IIR_TIMEOUT;
	if (u->ier & IER_THRE && u->thre_due)
		return IIR_THRE;
	if (u->ier & IER_MSR && u->msr & MSR_DELTAS)
		return IIR_MSR;
	return IIR_NONE;
}

static void update(struct uart *u) { irq_set(&u->dev.env.lines[0], cause(u) != IIR_NONE); }

/* Start bit, data, parity and stop bits at 16 clocks each. */
static u64 char_ns(const struct uart *u)
{
	unsigned bits =
		1 + 5 + (u->lcr & 3) + !!(u->lcr & LCR_PARITY) + (u->lcr & LCR_STOP2 ? 2 : 1);

	return clock_ns((u64)bits * 16 * (u->divisor ? u->divisor : 1), UART_CLOCK);
}

/* Any movement of the receive FIFO restarts the character timeout (data sheet, 8.4.1). */
static void restart_timeout(struct uart *u)
{
	u->timeout = false;
	u->timeout_at = ~0ull;
	if (u->fcr & FCR_ENABLE && u->rx.len) {
		u->timeout_at = clock_now(u->dev.env.clock) + TIMEOUT_CHARS * char_ns(u);
		timer_arm(u->dev.env.clock, &u->timeout_timer, u->timeout_at);
	} else {
		timer_cancel(u->dev.env.clock, &u->timeout_timer);
	}
}

static void timeout_fire(void *ctx)
{
	struct uart *u = ctx;

	u->timeout_at = ~0ull;
	u->timeout = u->rx.len > 0;
	update(u);
}

/* ---- receiving ---- */

static size_t room(const struct uart *u)
{
	return u->rx.len < fifo_size(u) ? fifo_size(u) - u->rx.len : 0;
}

static void receive(struct uart *u, const u8 *data, size_t len)
{
	memcpy(u->rx.bytes + u->rx.len, data, len);
	u->rx.len = (u8)(u->rx.len + len);
	restart_timeout(u);
	update(u);
}

static size_t uart_input(struct device *d, const u8 *data, size_t len)
{
	struct uart *u = uart_of(d);
	size_t n = is_loop(u) ? 0 : min_u64(len, room(u));

	if (n < len)
		u->starved = true;
	if (n)
		receive(u, data, n);
	return n;
}

/* Tells a backend that was refused; it may call uart_input() from here. */
static void offer_room(struct uart *u)
{
	const struct console_ops *console = u->dev.env.console;

	if (!u->starved || is_loop(u) || !room(u))
		return;
	u->starved = false;
	if (console && console->room)
		console->room(u->dev.env.console_ctx);
}

/* ---- transmitting ---- */

static void drain(struct uart *u)
{
	const struct console_ops *console = u->dev.env.console;
	size_t taken = u->tx.len;

	if (!u->tx.len)
		return;
	if (console)
		taken = min_u64(
			console->write(u->dev.env.console_ctx, u->tx.bytes, u->tx.len), taken);
	fifo_drop(&u->tx, taken);
	if (u->tx.len)
		timer_arm(u->dev.env.clock, &u->retry_timer,
			clock_now(u->dev.env.clock) + UART_RETRY_NS);
	else
		u->thre_due = true;
	update(u);
}

static void retry_fire(void *ctx) { drain(ctx); }

static void loop_back(struct uart *u, u8 byte)
{
	u->thre_due = true;
	if (room(u)) {
		receive(u, &byte, 1);
		return;
	}
	u->overrun = LSR_OE;
	update(u);
}

static void transmit(struct uart *u, u8 byte)
{
	/* The line must fall before it rises again: the interrupt controller wants an edge. */
	u->thre_due = false;
	update(u);
	if (is_loop(u)) {
		loop_back(u, byte);
		return;
	}
	if (u->tx.len >= fifo_size(u)) {
		guest_err(u->dev.name, "byte 0x%02x written while the transmitter is full", byte);
		return;
	}
	u->tx.bytes[u->tx.len++] = byte;
	drain(u);
}

/* ---- modem lines ---- */

/* A null modem whose other end is always ready; in loopback the UART's own outputs. */
static u8 modem_inputs(const struct uart *u)
{
	static const struct {
		u8 out, in;
	} wires[] = {
		{ MCR_RTS, MSR_CTS },
		{ MCR_DTR, MSR_DSR },
		{ MCR_OUT1, MSR_RI },
		{ MCR_OUT2, MSR_DCD },
	};
	u8 in = 0;

	if (!is_loop(u))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	for (unsigned i = 0; i < ARRAY_LEN(wires); i++)
		if (u->mcr & wires[i].out)
			in |= wires[i].in;
	return in;
}

/* Deltas stand four bits below their inputs; RI's tells only of the trailing edge. */
static void update_modem(struct uart *u)
{
	u8 in = modem_inputs(u);
	u8 deltas = (u8)((in ^ u->msr) >> 4);

	if (in & MSR_RI)
		deltas &= (u8)~MSR_TERI;
	u->msr = in | (u->msr & MSR_DELTAS) | deltas;
}

/* ---- reads ---- */

static u8 read_data(struct uart *u)
{
	u8 v = u->rx.bytes[0];

	if (!u->rx.len)
		return 0;
	fifo_drop(&u->rx, 1);
	restart_timeout(u);
	update(u);
	offer_room(u);
	return v;
}

static u8 read_iir(struct uart *u)
{
	u8 v = cause(u);

	if (v == IIR_THRE)
		u->thre_due = false;
	return v | (u->fcr & FCR_ENABLE ? IIR_FIFO : 0);
}

static u8 read_lsr(struct uart *u)
{
	u8 v = u->overrun;

	if (u->rx.len)
		v |= LSR_DR;
	if (!u->tx.len)
		v |= LSR_THRE | LSR_TEMT;
	u->overrun = 0;
	return v;
}

static u8 read_msr(struct uart *u)
{
	u8 v = u->msr;

	u->msr &= (u8)~MSR_DELTAS;
	return v;
}

static u8 read_register(struct uart *u, u64 offset)
{
	bool dlab = u->lcr & LCR_DLAB;

	switch (offset) {
	case UART_DATA: return dlab ? (u8)u->divisor : read_data(u);
	case UART_IER: return dlab ? (u8)(u->divisor >> 8) : u->ier;
	case UART_IIR_FCR: return read_iir(u);
	case UART_LCR: return u->lcr;
	case UART_MCR: return u->mcr;
	case UART_LSR: return read_lsr(u);
	case UART_MSR: return read_msr(u);
	default: return u->scr;
	}
}

static u64 uart_read(struct device *d, unsigned window, u64 offset, unsigned size)
{
	struct uart *u = uart_of(d);
	u8 v = read_register(u, offset);

	update(u);
	return v;
}

/* ---- writes ---- */

/* Enabling the interrupt while the transmitter is empty raises it (data sheet, 8.6). */
static void write_ier(struct uart *u, u8 v)
{
	if (v & ~u->ier & IER_THRE && !u->tx.len)
		u->thre_due = true;
	u->ier = v & IER_ALL;
}

/* Turning the FIFOs on or off empties them; without the enable bit no other bit is taken. */
static void write_fcr(struct uart *u, u8 v)
{
	bool toggled = (v ^ u->fcr) & FCR_ENABLE;

	if (!(v & FCR_ENABLE))
		v = 0;
	u->fcr = v & 0xc1u;
	if (toggled || v & FCR_CLEAR_RX) {
		u->rx.len = 0;
		restart_timeout(u);
	}
	if (toggled || v & FCR_CLEAR_TX) {
		u->thre_due |= u->tx.len > 0;
		u->tx.len = 0;
		timer_cancel(u->dev.env.clock, &u->retry_timer);
	}
	offer_room(u);
}

static void write_mcr(struct uart *u, u8 v)
{
	u->mcr = v & MCR_ALL;
	update_modem(u);
	offer_room(u);
}

static void write_divisor(struct uart *u, unsigned shift, u8 v)
{
	u->divisor = (u16)((u->divisor & ~(0xffu << shift)) | (unsigned)v << shift);
}

static void uart_write(struct device *d, unsigned window, u64 offset, unsigned size, u64 value)
{
	struct uart *u = uart_of(d);
	u8 v = (u8)value;

	if (u->lcr & LCR_DLAB && offset <= UART_IER) {
		write_divisor(u, 8 * (unsigned)offset, v);
		return;
	}
	switch (offset) {
	case UART_DATA: transmit(u, v); break;
	case UART_IER: write_ier(u, v); break;
	case UART_IIR_FCR: write_fcr(u, v); break;
	case UART_LCR: u->lcr = v; break;
	case UART_MCR: write_mcr(u, v); break;
	case UART_SCR: u->scr = v; break;
	default: break; /* LSR and MSR are for factory tests only */
	}
	update(u);
}

/* ---- reset, init, tables ---- */

static void uart_reset(struct device *d)
{
	struct uart *u = uart_of(d);

	u->rx.len = u->tx.len = 0;
	u->divisor = UART_9600;
	u->ier = u->fcr = u->lcr = u->mcr = u->scr = u->overrun = 0;
	u->thre_due = false;
	u->msr = modem_inputs(u);
	timer_cancel(d->env.clock, &u->retry_timer);
	restart_timeout(u);
	update(u);
	offer_room(u);
}

static int uart_init(struct device *d, struct err *err)
{
	struct uart *u = uart_of(d);

	if (!d->env.clock)
		return err_set(err, -EINVAL, "no clock");
	timer_init(&u->timeout_timer, timeout_fire, u);
	timer_init(&u->retry_timer, retry_fire, u);
	return 0;
}

static void uart_fini(struct device *d)
{
	timer_cancel(d->env.clock, &uart_of(d)->timeout_timer);
	timer_cancel(d->env.clock, &uart_of(d)->retry_timer);
}

/* The backend may be another one than when the state was saved: it is told about room anew. */
static void uart_loaded(struct device *d)
{
	struct uart *u = uart_of(d);

	timer_cancel(d->env.clock, &u->timeout_timer);
	if (u->timeout_at != ~0ull)
		timer_arm(d->env.clock, &u->timeout_timer, u->timeout_at);
	timer_cancel(d->env.clock, &u->retry_timer);
	if (u->tx.len)
		timer_arm(d->env.clock, &u->retry_timer, clock_now(d->env.clock) + UART_RETRY_NS);
	update(u);
	u->starved = true;
	offer_room(u);
}

static const struct field fifo_state[] = {
	FIELD_BLOB(struct fifo, bytes),
	FIELD_MAX(struct fifo, len, UART_FIFO),
	FIELD_END,
};

static const struct field uart_state[] = {
	FIELD_SUB(struct uart, rx, struct fifo, fifo_state),
	FIELD_SUB(struct uart, tx, struct fifo, fifo_state),
	FIELD(struct uart, timeout_at),
	FIELD(struct uart, divisor),
	FIELD_MAX(struct uart, ier, IER_ALL),
	FIELD(struct uart, fcr),
	FIELD(struct uart, lcr),
	FIELD_MAX(struct uart, mcr, MCR_ALL),
	FIELD(struct uart, scr),
	FIELD_MAX(struct uart, overrun, LSR_OE),
	FIELD(struct uart, msr),
	FIELD(struct uart, thre_due),
	FIELD(struct uart, timeout),
	FIELD_END,
};

const struct device_class uart_class = {
	.name = "uart",
	.doc = "NS16550A serial port",
	.size = sizeof(struct uart),
	.width = 1,
	.init = uart_init,
	.reset = uart_reset,
	.fini = uart_fini,
	.read = uart_read,
	.write = uart_write,
	.input = uart_input,
	.loaded = uart_loaded,
	.windows = { { BUS_PORT, 0x3f8, 8 } },
	.state = uart_state,
};
