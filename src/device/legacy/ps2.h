/*
 * What a PS/2 keyboard and mouse take from people, and what they share with the controller that
 * they are plugged into (i8042.h). Machine's lock held.
 *
 * A key is its make code in scan code set 2 (Microsoft, "Keyboard Scan Code Specification" 1.3a,
 * appendix A), or-ed with PS2_E0 where that begins with 0xe0. Two keys are more than that.
 */
#pragma once
#include "device/device.h"

#define PS2_E0	  0x100u
#define PS2_PRINT (PS2_E0 | 0x7c) /* Print Screen */
#define PS2_PAUSE 0x277u

/* Both commands' answers, and what a device says after its reset */
#define PS2_ACK	    0xfau
#define PS2_RESEND  0xfeu
#define PS2_ERROR   0xfcu
#define PS2_PASSED  0xaau
#define PS2_BREAK   0xf0u /* before the code of a key that was released */
#define PS2_MOTIONS 32767

/* Bits of a mouse's buttons */
enum ps2_button {
	PS2_LEFT = 1,
	PS2_RIGHT = 2,
	PS2_MIDDLE = 4,
	PS2_SIDE = 8,
	PS2_EXTRA = 16,
};

/* A code of set 2 in set 1: what the controller makes of it, too, when it translates. */
u8 ps2_translate(u8 code);

extern const struct device_class ps2_keyboard_class;
extern const struct device_class ps2_mouse_class;

/* Into the socket of a controller that lives longer. */
void ps2_keyboard_plug(struct device *d, struct device *controller);
void ps2_mouse_plug(struct device *d, struct device *controller);

/* A key goes down (again, while it is held) or up. */
void ps2_keyboard_key(struct device *d, u16 key, bool down);
/* To the right, down, and of the wheel towards the person. */
void ps2_mouse_move(struct device *d, int dx, int dy, int dz, unsigned buttons);
