/* speed_table.h - the rows that tc-bench prints: their cells, their columns. */
#ifndef TC_CLI_SPEED_TABLE_H
#define TC_CLI_SPEED_TABLE_H

#include "cli/columns.h"
#include "metric/speed.h"

/* One figure or set of them; reals that do not apply are NAN. */
struct tc_speed_row {
	const char *what, *kind;     /* kind: of the kernels */
	const char *compute;         /* of a model's matrix products, else NULL */
	bool available;              /* false: this machine cannot run the kind */
	size_t threads, tokens, runs;
	double first, p50, p90, p99; /* seconds */
	double tokens_per_second;
	double flops_per_second, peak_share;
	double bytes_per_second, read_share;
};

struct tc_speed_table {
	struct tc_speed_row *row;  /* free(3) it */
	size_t n;
};

/* A row of which nothing is known but what it is; valid until the next.  NULL
 * and *err: no memory.  what and kind are not copied. */
struct tc_speed_row *tc_speed_table_add(struct tc_speed_table *t, const char *what, const char *kind, size_t threads, size_t tokens, struct tc_err *err) TC_MUST_CHECK;

/* Runs, times, and how fast so many operations a run were. */
void tc_speed_row_set(struct tc_speed_row *r, const struct tc_speed *s, double flops);

/* All cells, for JSON and CSV; for text those of rows about a model, and of
 * rows about attention. */
extern const struct tc_column tc_speed_columns[], tc_speed_model_text[], tc_speed_attention_text[];

#endif
