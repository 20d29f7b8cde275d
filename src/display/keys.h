/*
 * Keys by name. RFB tells keys as X11 keysyms (RFC 6143 7.5.4), that is, by what is printed on them
 * with the modifiers that are held; guests want to know which key it was. The layout is that of the
 * United States, which guests assume until they are told otherwise.
 *
 * A key is its make code in PS/2 scan code set 2, as device/legacy/ps2.h has it.
 */
#pragma once
#include "base/types.h"

#define KEYS_E0	   0x100u
#define KEYS_PRINT (KEYS_E0 | 0x7c)
#define KEYS_PAUSE 0x277u

/* 0: no key has it. */
u16 keys_find(u32 keysym);
