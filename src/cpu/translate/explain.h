/* strata explain: what the translator makes of guest code. */
struct op;
#include "cpu/explain.h"
#include "cpu/vcpu.h"

struct op;
struct tinsn;
struct tblock;

/* struct cpu_engine.explain */
int translate_explain(struct vcpu *v, u64 from, u64 end, unsigned count,
	const struct explain_sink *to, struct err *err);

/* Is there a reason of its own not to run it on the host? */
bool explain_sensitive(const struct op *op);
/* Fills out->why (explain_why.c). in, op: NULL when the instruction is in no block. */
void explain_why(struct explain_insn *out, const struct tinsn *in, const struct op *op);
