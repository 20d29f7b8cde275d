/* See display.h. Everything but opening and closing is the display's thread. */
#include "display/display.h"
#include "base/log.h"
#include "display/display_priv.h"
#include "display/keys.h"
#include "os/fd.h"
#include "os/thread.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <rfb/rfb.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REFRESH_MS	33
#define IDLE_REFRESH_MS 100
#define IDLE_DRAWS	30 /* without a change, before it is idle */
#define SLOW_MS		20000
#define PASSWORD_MAX	8

struct display {
	struct display_source source;
	rfbScreenInfoPtr screen;
	int listener, wake;
	/* A second descriptor of each viewer's socket, by which it can be shut down while the
	 * library waits for it. */
	_Atomic int viewers[DISPLAY_CLIENTS_MAX];
	unsigned viewer_count;
	unsigned quiet; /* draws without a change */
	char password[PASSWORD_MAX + 1];
	char *passwords[2];
	pthread_t thread;
	bool started;
	_Atomic bool closing;
};

/* ---- viewers ---- */

static void viewer_gone(rfbClientPtr client)
{
	struct display *d = client->screen->screenData;
	_Atomic int *slot = client->clientData;

	if (!slot)
		return;
	close(atomic_exchange(slot, -1));
	d->viewer_count--;
}

static void keep_viewer(struct display *d, rfbClientPtr client, int fd)
{
	unsigned i = 0;

	while (atomic_load(&d->viewers[i]) >= 0)
		i++;
	atomic_store(&d->viewers[i], fd);
	client->clientData = (void *)&d->viewers[i];
	client->clientGoneHook = viewer_gone;
	d->viewer_count++;
}

static void accept_viewer(struct display *d)
{
	int fd = accept4(d->listener, NULL, NULL, SOCK_CLOEXEC);
	int second = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		return;
	if (second < 0 || d->viewer_count == DISPLAY_CLIENTS_MAX) {
		log_info("display", "no room for another viewer");
		close(fd);
		if (second >= 0)
			close(second);
		return;
	}
	rfbClientPtr client = rfbNewClient(d->screen, fd); /* fd is the library's */
	if (client)
		keep_viewer(d, client, second);
	else
		close(second);
}

static void on_key(rfbBool down, rfbKeySym keysym, rfbClientPtr client)
{
	struct display *d = client->screen->screenData;
	u16 key = keys_find(keysym);

	if (key)
		d->source.key(d->source.ctx, key, down);
}

static void on_pointer(int buttons, int x, int y, rfbClientPtr client)
{
	struct display *d = client->screen->screenData;

	d->source.pointer(d->source.ctx, x, y, (unsigned)buttons);
}

/* ---- the picture ---- */

static void mark(void *ctx, unsigned first, unsigned count)
{
	struct display *d = ctx;

	d->quiet = 0;
	if (!d->screen)
		return;
	/* Before a new size is known: all of the picture is marked then. */
	if ((int)(first + count) <= d->screen->height)
		rfbMarkRectAsModified(
			d->screen, 0, (int)first, d->screen->width, (int)(first + count));
}

static void refresh(struct display *d)
{
	struct display_picture p;

	d->quiet++;
	bool resized = d->source.draw(d->source.ctx, mark, d, &p);
	if (!resized && d->screen->frameBuffer == (const void *)p.pixels)
		return;
	rfbNewFramebuffer(d->screen, (char *)p.pixels, (int)p.width, (int)p.height, 8, 3, 4);
	rfbMarkRectAsModified(d->screen, 0, 0, (int)p.width, (int)p.height);
}

/* ---- the thread ---- */

static void wait_for_news(struct display *d)
{
	struct pollfd fds[2 + DISPLAY_CLIENTS_MAX] = {
		{ .fd = d->wake, .events = POLLIN },
		{ .fd = d->listener, .events = POLLIN },
	};
	nfds_t n = 2;
	int ms = d->quiet > IDLE_DRAWS ? IDLE_REFRESH_MS : REFRESH_MS;

	for (unsigned i = 0; i < DISPLAY_CLIENTS_MAX; i++)
		fds[n++] = (struct pollfd){ .fd = atomic_load(&d->viewers[i]), .events = POLLIN };
	poll(fds, n, d->viewer_count ? ms : -1);
	if (fds[1].revents)
		accept_viewer(d);
	/* What a viewer does is likely to show. */
	for (unsigned i = 2; i < n; i++)
		if (fds[i].revents)
			d->quiet = 0;
}

static void *display_thread(void *ctx)
{
	struct display *d = ctx;

	while (!atomic_load(&d->closing)) {
		wait_for_news(d);
		if (!d->viewer_count)
			continue;
		refresh(d);
		rfbProcessEvents(d->screen, 0);
	}
	return NULL;
}

/* ---- opening, closing ---- */

/* The library uses another one for passwords, which has to be ready before the sandbox. */
static void set_password(struct display *d, const char *password)
{
	unsigned char warm_up[16];

	snprintf(d->password, sizeof(d->password), "%s", password);
	d->passwords[0] = d->password;
	d->screen->authPasswdData = d->passwords;
	d->screen->passwordCheck = rfbCheckPasswordByList;
	rfbRandomBytes(warm_up);
	rfbEncryptBytes(warm_up, d->password);
}

/* What the library says: with --log debug only. */
static PRINTF(1, 2) void library_says(const char *format, ...)
{
	char text[200];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	text[strcspn(text, "\n")] = '\0';
	log_dbg("display", "%s", text);
}

static int open_screen(struct display *d, const struct display_config *config, struct err *err)
{
	struct display_picture p;

	d->source.draw(d->source.ctx, mark, d, &p);
	rfbLog = rfbErr = library_says;
	d->screen = rfbGetScreen(NULL, NULL, (int)p.width, (int)p.height, 8, 3, 4);
	if (!d->screen)
		return err_set(err, -ENOMEM, "no memory for a display");
	d->screen->frameBuffer = (char *)p.pixels;
	d->screen->desktopName = "Strata";
	d->screen->screenData = d;
	d->screen->alwaysShared = TRUE;
	d->screen->port = d->screen->ipv6port = 0; /* we listen */
	d->screen->cursor = NULL;
	d->screen->deferUpdateTime = 0;
	d->screen->maxClientWait = SLOW_MS;
	d->screen->kbdAddEvent = on_key;
	d->screen->ptrAddEvent = on_pointer;
	if (config->password)
		set_password(d, config->password);
	rfbInitServer(d->screen);
	return 0;
}

int display_open(struct display **out, const struct display_config *config,
	const struct display_source *source, struct err *err)
{
	struct display *d = calloc(1, sizeof(*d));

	if (!d)
		return err_set(err, -ENOMEM, "no memory for a display");
	d->source = *source;
	d->listener = d->wake = -1;
	for (unsigned i = 0; i < DISPLAY_CLIENTS_MAX; i++)
		d->viewers[i] = -1;
	d->wake = fd_event(err);
	if (d->wake < 0 || (d->listener = listen_open(&config->address, err)) < 0 ||
		open_screen(d, config, err) ||
		thread_start(&d->thread, "display", display_thread, d, err)) {
		display_close(d);
		return err->code;
	}
	d->started = true;
	*out = d;
	return 0;
}

void display_close(struct display *d)
{
	if (!d)
		return;
	atomic_store(&d->closing, true);
	for (unsigned i = 0; i < DISPLAY_CLIENTS_MAX; i++)
		if (atomic_load(&d->viewers[i]) >= 0)
			shutdown(atomic_load(&d->viewers[i]), SHUT_RDWR);
	if (d->started) {
		fd_event_set(d->wake);
		pthread_join(d->thread, NULL);
	}
	if (d->screen) {
		rfbShutdownServer(d->screen, TRUE);
		d->screen->frameBuffer = NULL; /* not the library's */
		rfbScreenCleanup(d->screen);
	}
	if (d->listener >= 0)
		close(d->listener);
	if (d->wake >= 0)
		close(d->wake);
	free(d);
}
