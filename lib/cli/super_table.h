/* super_table.h - the rows that tc-super prints. */
#ifndef TC_CLI_SUPER_TABLE_H
#define TC_CLI_SUPER_TABLE_H

#include "cli/columns.h"
#include "method/super.h"

/* What zeroing some weights costs: NLL, and its paired difference. */
struct tc_super_effect {
	const char *zeroed;              /* "one", "all", "random", "outliers" */
	size_t block, row, column;       /* of one; else SIZE_MAX */
	size_t draw;                     /* of random ones; else 0 */
	size_t weights;
	double least, most;              /* of their magnitudes */
	double nll, delta, low, high;
};

/* Of struct tc_super_block, tc_super_weight, tc_super_step, tc_super_effect. */
extern const struct tc_column tc_super_block_columns[], tc_super_weight_columns[], tc_super_step_columns[],
    tc_super_effect_columns[];

#endif
