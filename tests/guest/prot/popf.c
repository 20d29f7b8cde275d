/* The same in 32-bit code. */
#include "../long/popf.c"
