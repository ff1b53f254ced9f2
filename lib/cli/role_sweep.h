/* role_sweep.h - tc-alloc --role-sweep: what it costs to change one role's tensors,
 * or one block's, the rest untouched. */
#ifndef TC_CLI_ROLE_SWEEP_H
#define TC_CLI_ROLE_SWEEP_H

#include "cli/candidates.h"
#include "cli/columns.h"
#include "cli/cli.h"
#include "cli/stats_file.h"
#include "method/trial.h"

struct tc_role_sweep {
	struct tc_cli *cli;
	const struct tc_candidates *all;  /* with weights */
	const struct tc_hold *hold;
	const struct tc_stats_file *stats;
	struct tc_trial *trial;
	const struct tc_quant_options *common;
	uint64_t parameters;              /* of the model */
};

struct tc_role_sweep_row {
	const char *what, *choice;        /* name; text */
	size_t tensors, weights;
	int64_t saved;                    /* bytes; below 0: more */
	double delta, delta_error, kld, kld_error; /* of NLL; of the KL divergence to the model as it was */
	double per_bit;                   /* kld by each bit a weight of the whole model that is saved; NAN: none */
	char name[32], text[TC_CHOICE_CHARS]; /* a role, or "block 3" */
};
extern const struct tc_column tc_role_sweep_columns[];

/* Appends the choice's rows to rows[*n], the dearest bit first, those that save
 * none last; c is not skip.  There is room for
 * TC_ROLES + layers. */
int tc_role_sweep_run(const struct tc_role_sweep *s, const struct tc_choice *c, size_t layers, struct tc_role_sweep_row *rows, size_t *n) TC_MUST_CHECK;

#endif
