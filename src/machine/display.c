/*
 * The machine's display: what its VGA shows, and what people type and point at. All but starting
 * and stopping happens on the display's thread, which takes the machine's lock for as long as it
 * reads registers or hands a key over, and draws without it.
 *
 * A viewer's pointer has a place, a mouse only motion: the difference is what the guest gets, so
 * its pointer may be elsewhere, as far as it accelerates.
 */
#include "display/display.h"
#include "base/log.h"
#include "device/legacy/ps2.h"
#include "device/vga/vga.h"
#include "display/keys.h"
#include "machine/machine_priv.h"
#include <errno.h>

_Static_assert(KEYS_E0 == PS2_E0 && KEYS_PRINT == PS2_PRINT && KEYS_PAUSE == PS2_PAUSE, "keys");

static bool draw(void *ctx, void (*changed)(void *to, unsigned first, unsigned count), void *to,
	struct display_picture *picture)
{
	struct machine *m = ctx;
	struct vga_picture p;
	struct vga_look look;

	pthread_mutex_lock(&m->lock);
	vga_look(m->vga, &look);
	pthread_mutex_unlock(&m->lock);
	bool resized = vga_draw(m->screen, &look, changed, to, &p);
	*picture = (struct display_picture){ p.pixels, p.width, p.height };
	return resized;
}

static void key(void *ctx, u16 code, bool down)
{
	struct machine *m = ctx;

	pthread_mutex_lock(&m->lock);
	ps2_keyboard_key(m->keyboard, code, down);
	pthread_mutex_unlock(&m->lock);
}

static unsigned mouse_buttons(unsigned buttons)
{
	return (buttons & DISPLAY_LEFT ? PS2_LEFT : 0u) |
	       (buttons & DISPLAY_MIDDLE ? PS2_MIDDLE : 0u) |
	       (buttons & DISPLAY_RIGHT ? PS2_RIGHT : 0u);
}

static void pointer(void *ctx, int x, int y, unsigned buttons)
{
	struct machine *m = ctx;
	int dx = m->pointer_x < 0 ? 0 : x - m->pointer_x;
	int dy = m->pointer_x < 0 ? 0 : y - m->pointer_y;
	int dz = (buttons & DISPLAY_WHEEL_DOWN ? 1 : 0) - (buttons & DISPLAY_WHEEL_UP ? 1 : 0);

	m->pointer_x = x;
	m->pointer_y = y;
	pthread_mutex_lock(&m->lock);
	ps2_mouse_move(m->mouse, dx, dy, dz, mouse_buttons(buttons));
	pthread_mutex_unlock(&m->lock);
}

int display_start(struct machine *m, struct err *err)
{
	const struct display_source source = { draw, key, pointer, m };

	if (!m->config.display)
		return 0;
	m->pointer_x = -1;
	m->screen = vga_screen_new(m->video->host, m->video->size);
	if (!m->screen)
		return err_set(err, -ENOMEM, "no memory for a display");
	return display_open(&m->display, m->config.display, &source, err) ? err_wrap(err, "display")
									  : 0;
}

void display_stop(struct machine *m)
{
	display_close(m->display);
	m->display = NULL;
	vga_screen_free(m->screen);
	m->screen = NULL;
}
