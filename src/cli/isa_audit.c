/*
 * strata isa-audit: Popek and Goldberg's condition, instruction by instruction, and what each
 * engine does where it does not hold. The facts are x86/sensitivity.c's; tests/diff/audit.c
 * executes them.
 */
#include "base/bits.h"
#include "cli/json.h"
#include "cli/verbs.h"
#include "x86/sensitivity.h"
#include "x86/state.h"
#include <stdio.h>

struct values {
	bool json;
};

static const char *fault_name(const struct x86_sensitive *i)
{
	return i->vector == X86_GP ? "#GP" : i->vector == X86_UD ? "#UD" : "none";
}

static const char *translate_way(const struct x86_sensitive *i)
{
	return i->traits & X86_TRAIT_INLINE ? "inline" : "handed over";
}

static const char *kvm_way(const struct x86_sensitive *i)
{
	return i->traits & X86_TRAIT_EXIT ? "exit" : "hardware";
}

/* ---- as text ---- */

static void show_row(const struct x86_sensitive *i)
{
	printf("  %-13s  %-5s  %-2s  %-7s  %-4s  %-11s  %-8s  %-22s  %s%s\n", i->name,
		fault_name(i), x86_sensitivity_violates(i) ? "PG" : "",
		i->traits & X86_TRAIT_CLASSIC ? "classic" : "",
		i->traits & X86_TRAIT_UMIP ? "#GP" : "", translate_way(i), kvm_way(i), i->source,
		i->why, i->traits & X86_TRAIT_ABSENT ? " (not in the guest's model)" : "");
}

static void show_class(enum x86_sensitivity class)
{
	printf("%s%s\n", x86_sensitivity_name(class),
		class == X86_PRIVILEGED ? ": faults without privileges, so it can be emulated"
					: " and not privileged: violates the condition");
	printf("  %-13s  %-5s  %-2s  %-7s  %-4s  %-11s  %-8s  %-22s  %s\n", "instruction", "CPL 3",
		"", "", "UMIP", "translate", "kvm", "interpret (src/)", "why");
	for (unsigned i = 0; i < x86_sensitives_count; i++)
		if (x86_sensitivity_of(&x86_sensitives[i]) == class)
			show_row(&x86_sensitives[i]);
	printf("\n");
}

static void show_text(void)
{
	unsigned violators = 0, classic = 0;

	for (unsigned c = 0; c < X86_SENSITIVITIES; c++)
		show_class((enum x86_sensitivity)c);
	for (unsigned i = 0; i < x86_sensitives_count; i++) {
		violators += x86_sensitivity_violates(&x86_sensitives[i]);
		classic += !!(x86_sensitives[i].traits & X86_TRAIT_CLASSIC);
	}
	printf("translate: inline, translated code does it to the guest's state; handed over, the"
	       " interpreter's function does.\n");
	printf("kvm: hardware keeps the guest's own state; exit, it can leave the guest and the "
	       "host"
	       " emulates.\n");
	printf("innocuous: everything else. The interpreter executes it, the translator copies or"
	       " re-emits it, hardware runs it.\n\n");
	printf("%u instructions, %u violate the Popek-Goldberg condition (PG), %u of them known "
	       "since"
	       " Robin and Irvine (classic).\n",
		x86_sensitives_count, violators, classic);
}

/* ---- as JSON ---- */

static void put_text(const char *key, const char *value)
{
	printf("\"%s\":", key);
	json_print(stdout, value);
	putchar(',');
}

static void put_bool(const char *key, bool value, const char *after)
{
	printf("\"%s\":%s%s", key, value ? "true" : "false", after);
}

static void show_json_row(const struct x86_sensitive *i)
{
	putchar('{');
	put_text("name", i->name);
	printf("\"code\":\"");
	for (unsigned n = 0; n < i->length; n++)
		printf("%02x", i->code[n]);
	printf("\",");
	put_text("class", x86_sensitivity_name(x86_sensitivity_of(i)));
	put_bool("control", i->traits & X86_TRAIT_CONTROL, ",");
	put_bool("behaviour", i->traits & X86_TRAIT_BEHAVIOUR, ",");
	put_text("fault_at_cpl3", fault_name(i));
	put_bool("violates", x86_sensitivity_violates(i), ",");
	put_bool("classic", i->traits & X86_TRAIT_CLASSIC, ",");
	put_bool("umip", i->traits & X86_TRAIT_UMIP, ",");
	put_bool("in_model", !(i->traits & X86_TRAIT_ABSENT), ",");
	put_text("interpret", i->source);
	put_text("translate", translate_way(i));
	put_text("kvm", kvm_way(i));
	printf("\"why\":");
	json_print(stdout, i->why);
	putchar('}');
}

static void show_json(void)
{
	printf("{\"instructions\":[");
	for (unsigned i = 0; i < x86_sensitives_count; i++) {
		if (i)
			putchar(',');
		show_json_row(&x86_sensitives[i]);
	}
	printf("]}\n");
}

static int run(const void *values)
{
	const struct values *v = values;

	if (v->json)
		show_json();
	else
		show_text();
	return CLI_OK;
}

static const struct option_row options[] = {
	{ "json", NULL, "as one JSON object", OPTION_SWITCH, offsetof(struct values, json) },
	{ 0 },
};

const struct verb verbs_isa_audit = {
	.name = "isa-audit",
	.doc = "list the x86 instructions that matter for virtualization, and how each engine "
	       "handles them",
	.options = options,
	.size = sizeof(struct values),
	.run = run,
};
