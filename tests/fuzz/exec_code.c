/* See exec_code.h. Every row is the start of an instruction; `tail` input bytes follow it. */
#include "exec_code.h"
#include <string.h>

struct opening {
	const char *bytes;
	u8 len, tail;
};

#define ROW(bytes, tail)                       \
	{                                      \
		bytes, sizeof(bytes) - 1, tail \
	}

#define MSR(index) ROW("\xb9" index "\xb8\x01\x80\x01\x00\x31\xd2\x0f\x30\x0f\x32", 0)

static const struct opening openings[] = {
	/* descriptor tables, control and debug registers, MSRs */
	ROW("\x0f\x00", 3),
	ROW("\x0f\x01", 3),
	ROW("\x0f\x20", 1),
	ROW("\x0f\x21", 1),
	ROW("\x0f\x22", 1),
	ROW("\x0f\x23", 1),
	ROW("\x0f\x06", 0),
	ROW("\x0f\xa2", 0),
	ROW("\x0f\x31", 0),
	ROW("\x0f\x30", 0),
	ROW("\x0f\x32", 0),
	ROW("\xb9", 4),
	ROW("\x66\xb9", 2),
	ROW("\x0f\x01\xd1", 0),
	ROW("\x0f\x01\xd0", 0),
	ROW("\x0f\x01\xf8", 0),
	ROW("\x66\x0f\x38\x82", 3),
	ROW("\x0f\x02", 3),
	ROW("\x0f\x03", 3),
	/* MSRs that exist: mov ecx, index; mov eax, a page of data; xor edx, edx; wrmsr; rdmsr */
	MSR("\x10\x00\x00\x00"),
	MSR("\x1b\x00\x00\x00"),
	MSR("\x3b\x00\x00\x00"),
	MSR("\x48\x00\x00\x00"),
	MSR("\x74\x01\x00\x00"),
	MSR("\x76\x01\x00\x00"),
	MSR("\xa0\x01\x00\x00"),
	MSR("\x00\x02\x00\x00"),
	MSR("\x03\x02\x00\x00"),
	MSR("\x50\x02\x00\x00"),
	MSR("\x77\x02\x00\x00"),
	MSR("\xff\x02\x00\x00"),
	MSR("\xa0\x0d\x00\x00"),
	MSR("\x08\x08\x00\x00"),
	MSR("\x11\x00\x00\x00"),
	MSR("\x12\x00\x00\x00"),
	MSR("\x00\x4d\x56\x4b"),
	MSR("\x01\x4d\x56\x4b"),
	MSR("\x02\x4d\x56\x4b"),
	MSR("\x03\x4d\x56\x4b"),
	MSR("\x04\x4d\x56\x4b"),
	MSR("\x05\x4d\x56\x4b"),
	MSR("\x80\x00\x00\xc0"),
	MSR("\x82\x00\x00\xc0"),
	MSR("\x84\x00\x00\xc0"),
	MSR("\x00\x01\x00\xc0"),
	MSR("\x03\x01\x00\xc0"),
	ROW("\x0f\x20\xe0\x35\x00\x00\x02\x00\x0f\x22\xe0",
		0), /* CR4.PCIDE, or whatever bit 17 is there */
	ROW("\x31\xc9\xb8\xe7\x00\x00\x00\x31\xd2\x0f\x01\xd1", 0), /* xsetbv */
	ROW("\xb8\xff\xff\xff\xff\xba\xff\xff\xff\xff", 0),
	/* paging on; long mode allowed; CPUID's leaf of XSAVE sizes; CR8; SMAP's and the bases'
	   instructions */
	ROW("\x0f\x20\xc0\x0d\x00\x00\x00\x80\x0f\x22\xc0", 0),
	ROW("\x0f\x20\xe0\x0c\x20\x0f\x22\xe0", 0),
	ROW("\xb9\x80\x00\x00\xc0\xb8\x01\x09\x00\x00\x31\xd2\x0f\x30", 0),
	ROW("\x0f\x20\xd8\x0f\x22\xd8", 0),
	ROW("\xb8\x0d\x00\x00\x00\x31\xc9\x0f\xa2", 0),
	ROW("\xb8\x0d\x00\x00\x00\xb9\x01\x00\x00\x00\x0f\xa2", 0),
	ROW("\x44\x0f\x20\xc0", 0),
	ROW("\x44\x0f\x22\xc0", 0),
	ROW("\x0f\x01\xca", 0),
	ROW("\x0f\x01\xcb", 0),
	ROW("\x0f\x01\xf9", 0),
	ROW("\xf3\x0f\xc7\xf8", 0),
	ROW("\xf3\x48\x0f\xae", 1),
	ROW("\xf3\x0f\xae", 1),
	/* control transfers */
	ROW("\x9a", 6),
	ROW("\xea", 6),
	ROW("\xff", 3),
	ROW("\xcf", 0),
	ROW("\x48\xcf", 0),
	ROW("\xcb", 0),
	ROW("\xca", 2),
	ROW("\xcd", 1),
	ROW("\xcc", 0),
	ROW("\xce", 0),
	ROW("\xf1", 0),
	ROW("\x0f\x05", 0),
	ROW("\x0f\x07", 0),
	ROW("\x48\x0f\x07", 0),
	ROW("\x0f\x34", 0),
	ROW("\x0f\x35", 0),
	ROW("\xe8", 2),
	ROW("\xc3", 0),
	ROW("\xeb\x02", 2),
	ROW("\x74", 1),
	ROW("\xe2\x80", 0),
	ROW("\xe3", 1),
	ROW("\xc8", 3),
	ROW("\xc9", 0),
	ROW("\x0f\x0b", 0),
	/* far targets that exist: the call gate, the task gate, the other TSS, 16-bit code */
	ROW("\x9a\x00\x00\x00\x00\x70\x00", 0),
	ROW("\x9a\x00\x00\x00\x00\x80\x00", 0),
	ROW("\xea\x00\x00\x00\x00\x68\x00", 0),
	ROW("\x9a\x00\x00\x00\x00\x38\x00", 0),
	/* IRET to virtual-8086 mode: nine doublewords are read */
	ROW("\x6a\x00\x6a\x00\x6a\x00\x6a\x00\x6a\x00\x68\x00\xfe\x00\x00\x68\x02\x02\x02\x00\x68"
	    "\x00\x10\x00\x00",
		0),
	ROW("\x68\x02\x02\x02\x00\x68\x00\x10\x00\x00\x6a\x00\xcf", 0),
	/* flags and segments */
	ROW("\xfa", 0),
	ROW("\xfb", 0),
	ROW("\x9c", 0),
	ROW("\x9d", 0),
	ROW("\x8e", 1),
	ROW("\x8c", 1),
	ROW("\x1f", 0),
	ROW("\x07", 0),
	ROW("\x17", 0),
	ROW("\x16", 0),
	ROW("\x0f\xb2", 3),
	ROW("\xc5", 3),
	ROW("\xc4", 3),
	ROW("\x66\x6a\x40\x66\x17", 0),
	ROW("\x6a", 1),
	ROW("\x68\x02\x01\x00\x00\x9d", 0),
	ROW("\xf4", 0),
	/* strings and ports */
	ROW("\xf3\xa4", 0),
	ROW("\xf3\x48\xa5", 0),
	ROW("\xf3\xaa", 0),
	ROW("\xf3\x66\xab", 0),
	ROW("\xf3\xa6", 0),
	ROW("\xf2\xae", 0),
	ROW("\xf3\x6c", 0),
	ROW("\xf3\x6f", 0),
	ROW("\xf3\xac", 0),
	ROW("\x67\xf3\xa5", 0),
	ROW("\xec", 0),
	ROW("\xef", 0),
	ROW("\xe5", 1),
	ROW("\xe6", 1),
	ROW("\xfc", 0),
	ROW("\xfd", 0),
	/* pointers back into memory, and stores beside the code */
	ROW("\xbf\x00\x80\x01\x00", 0),
	ROW("\xbe\x00\x70\x01\x00", 0),
	ROW("\xbb\xf8\xef\x00\x00", 0),
	ROW("\xb9\x10\x00\x00\x00", 0),
	ROW("\xbc\x00\xfe\x00\x00", 0),
	ROW("\xbd\xfd\x8f\x01\x00", 0),
	ROW("\xc6\x05\x00\x00\x00\x00", 1),
	ROW("\x48\x8d\x35", 2),
	ROW("\x88\x05\x02\x00\x00\x00", 2),
	ROW("\x48\xb8\x00\x00\x00\x00\x00\x80\xff\xff", 0),
	ROW("\xa3", 4),
	ROW("\xa2", 4),
	ROW("\x0f\x0d", 2),
	/* locked and atomic */
	ROW("\xf0\x0f\xb1", 2),
	ROW("\xf0\x0f\xc1", 2),
	ROW("\xf0\x83", 3),
	ROW("\x0f\xc7", 2),
	ROW("\x48\x0f\xc7", 2),
	ROW("\x87", 2),
	ROW("\xf0\x0f\xba", 3),
	ROW("\x0f\xab", 2),
	ROW("\x66\x0f\xb3", 2),
	ROW("\xbf\x00\x80\x01\x00\x48\x0f\xc7\x0f", 0),
	/* arithmetic with two-byte opcodes and groups */
	ROW("\x0f", 3),
	ROW("\x48\x0f", 3),
	ROW("\x66\x0f", 3),
	ROW("\xf3\x0f", 3),
	ROW("\xf2\x0f", 3),
	ROW("\xf6", 2),
	ROW("\xf7", 2),
	ROW("\x48\xf7", 2),
	ROW("\xc1", 3),
	ROW("\xd3", 2),
	ROW("\x0f\xa4", 3),
	ROW("\x0f\xad", 3),
	ROW("\x69", 4),
	ROW("\x62", 3),
	ROW("\xd4", 1),
	ROW("\xd5", 1),
	ROW("\x27", 0),
	ROW("\x63", 2),
	ROW("\xd7", 0),
	ROW("\x0f\xc8", 0),
	ROW("\xf3\x0f\xb8", 2),
	ROW("\x66\x0f\x38\xf6", 2),
	ROW("\x0f\x38\xf0", 2),
	/* x87, MMX, SSE, AVX, AVX-512, their state */
	ROW("\xd8", 2),
	ROW("\xd9", 2),
	ROW("\xda", 2),
	ROW("\xdb", 2),
	ROW("\xdc", 2),
	ROW("\xdd", 2),
	ROW("\xde", 2),
	ROW("\xdf", 2),
	ROW("\x9b", 0),
	ROW("\xdb\xe3", 0),
	ROW("\x0f\xae", 3),
	ROW("\x48\x0f\xae", 3),
	ROW("\x0f\x77", 0),
	ROW("\x66\x0f\x38", 3),
	ROW("\x66\x0f\x3a", 4),
	ROW("\x0f\xc7", 3),
	ROW("\x48\x0f\xc7", 3),
	ROW("\x0f\x38", 3),
	ROW("\xc5\xf8", 3),
	ROW("\xc5\xfd", 3),
	ROW("\xc4\xe2\x7d", 3),
	ROW("\xc4\xe3\x7d", 4),
	ROW("\xc4\xe1\xf9", 3),
	ROW("\xc4\xe2\x79", 4),
	ROW("\xc4\xe2\xf8", 3),
	ROW("\xc5\xfa", 3),
	ROW("\xc5\xfb", 3),
	ROW("\x62\xf1", 5),
	ROW("\x62\xf2", 5),
	ROW("\x62\xf3", 6),
	ROW("\x62\xf1\x7c\x48", 3),
	ROW("\x62\xf1\xfd\x49", 3),
	ROW("\x62\xf2\x7d\x4a", 3),
	ROW("\x62\xf2\xfd\xc9", 3),
	ROW("\x62\xf3\x7d\x48", 4),
	ROW("\xc4\xe2\x7d\x90", 3),
	ROW("\x62\xf2\x7d\x49\x90", 4),
	ROW("\x62\xf2\x7d\x49\xa0", 4),
	ROW("\x62\xf2\xfd\x4a\xa2", 4),
	ROW("\x62\xf2\x7d\x49\x8a\x07", 0),
	ROW("\x62\xf2\xfd\x4b\x63\x06", 0),
	ROW("\x62\xf2\x7d\x4a\x88\x07", 0),
	ROW("\xc5\xfc\x77", 0),
	ROW("\x66\x0f\xf7", 1),
	ROW("\x0f\xf7", 1),
	ROW("\xc5\xf9\xf7", 1),
	ROW("\x0f\xae\xf0", 0),
	ROW("\x0f\x0e", 0),
	ROW("\x0f\x0f", 3),
	/* nothing but prefixes */
	ROW("\x66\x66\x67\xf0\xf2\xf3\x2e", 2),
	ROW("\x26\x36\x64\x65", 2),
	ROW("\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66\x66", 1),
};

unsigned exec_code(struct exec_input *in, u8 *code, unsigned max)
{
	unsigned n = 0;

	while (in->at < in->end && n + 32 < max) {
		u8 what = exec_take(in);
		unsigned raw = 1 + (what >> 2 & 7);

		if (what & 3) {
			const struct opening *o =
				&openings[(exec_take(in) << 6 | what >> 2) %
					  (sizeof(openings) / sizeof(openings[0]))];

			memcpy(code + n, o->bytes, o->len);
			n += o->len;
			raw = o->tail;
		}
		while (raw--)
			code[n++] = exec_take(in);
	}
	return n;
}
