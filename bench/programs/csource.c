/* csource N: writes a C program of N functions, always the same for the same N, for the compiler to
 * compile. Each function takes one of a few shapes, with constants that differ, so that no two are
 * alike. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static uint32_t random_state = 1;

static unsigned pick(unsigned below)
{
	random_state = random_state * 1664525 + 1013904223;
	return (random_state >> 8) % below;
}

static void loops(int i)
{
	printf("static int f%d(int *v, int n)\n{\n\tint s = %u;\n", i, pick(1000));
	printf("\tfor (int i = 0; i < n; i++)\n\t\tfor (int j = i; j < n; j += %u)\n", 1 + pick(7));
	printf("\t\t\tif (v[j] > v[i] + %u)\n\t\t\t\ts += v[j] * %u;\n\t\t\telse\n\t\t\t\tv[i] ^= "
	       "s >> %u;\n",
		pick(99), pick(99), 1 + pick(15));
	puts("\treturn s;\n}");
}

static void switches(int i)
{
	printf("static int f%d(int *v, int n)\n{\n\tint s = n;\n\tfor (int i = 0; i < n; "
	       "i++)\n\t\tswitch (v[i] %% 16) {\n",
		i);
	for (unsigned label = 0; label < 12; label++)
		printf("\t\tcase %u: s = s %c %u + v[%u]; break;\n", label, "+-*^|&"[pick(6)],
			1 + pick(999), pick(8));
	puts("\t\tdefault: s--;\n\t\t}\n\treturn s;\n}");
}

static void lists(int i)
{
	printf("struct l%d { struct l%d *next; int key; char name[%u]; };\n", i, i, 8 + pick(24));
	printf("static int f%d(int *v, int n)\n{\n\tstruct l%d nodes[%u], *head = 0;\n\tint s = "
	       "0;\n",
		i, i, 8 + pick(8));
	printf("\tfor (int i = 0; i < 8; i++) {\n\t\tnodes[i].key = v[i %% n] * %u;\n",
		1 + pick(50));
	puts("\t\tnodes[i].name[0] = (char)i;\n\t\tnodes[i].next = head;\n\t\thead = "
	     "&nodes[i];\n\t}");
	puts("\tfor (; head; head = head->next)\n\t\ts += head->key + head->name[0];\n\treturn "
	     "s;\n}");
}

static void floats(int i)
{
	printf("static int f%d(int *v, int n)\n{\n\tdouble x = %u.5, y = 1;\n", i, pick(100));
	printf("\tfor (int i = 0; i < n; i++) {\n\t\tx = x * %u.25 + v[i];\n\t\ty += x / (y + "
	       "%u);\n\t}\n",
		pick(9), 1 + pick(9));
	puts("\treturn (int)(x + y);\n}");
}

int main(int argc, char **argv)
{
	static void (*const shapes[])(int) = { loops, switches, lists, floats };
	const int n = argc > 1 ? atoi(argv[1]) : 1;

	for (int i = 0; i < n; i++)
		shapes[pick(4)](i);
	puts("int (*const functions[])(int *, int) = {");
	for (int i = 0; i < n; i++)
		printf("\tf%d,\n", i);
	puts("};");
	return 0;
}
