/* The CPUID feature policy (x86/cpuid_policy.c), for the model builder and for tests. */
#pragma once
#include "base/types.h"

enum policy_action {
	POLICY_HIDE,	  /* reads as 0; bits without any row are hidden too */
	POLICY_PASS,	  /* as the host */
	POLICY_FORCE,	  /* reads as 1 */
	POLICY_FORCE_AMD, /* reads as 1 with AMD's vendor, else 0 */
	POLICY_FORCE_INTEL,
	POLICY_PASS_AMD, /* as the host with AMD's vendor, else 0 */
};

enum policy_reg { REG_EAX, REG_EBX, REG_ECX, REG_EDX };

struct policy_row {
	u32 leaf, subleaf;
	enum policy_reg reg;
	enum policy_action action;
	u32 bits;
	const char *what, *why;
};

/* Features that are pointless or undefined without an XSAVE component: cleared with it. */
struct policy_needs {
	u64 xcr0;
	u32 leaf, subleaf;
	enum policy_reg reg;
	u32 bits;
};

extern const struct policy_row x86_policy[];
extern const unsigned x86_policy_count;
extern const struct policy_needs x86_policy_needs[];
extern const unsigned x86_policy_needs_count;
