/* groups.h - the loop of all quantizers that choose each group's grid by itself
 * and round to nearest on it. */
#ifndef TC_METHOD_GROUPS_H
#define TC_METHOD_GROUPS_H

#include "method/packing.h"

/* A group's weights; weight i is met by input i % period, whose sum of squares
 * over the calibration tokens is squares[i % period] (NULL: not known). */
struct tc_group {
	const float *w;
	size_t n, period;
	const double *squares;
};
/* ctx is what tc_groups_run() was given. */
typedef struct tc_grid tc_fit(const struct tc_quant_options *o, const struct tc_group *g, const void *ctx);

/* Round to nearest's: the whole range. */
tc_fit tc_fit_range;

/* table: NULL, or a codebook [2^bits] that the fitted grids have. */
int tc_groups_run(const struct tc_quant_options *o, const struct tc_quant_input *in, tc_fit *fit, const void *ctx, const float *table, struct tc_quantized *q, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
/* The same with tc_grid_table()'s grids. */
int tc_groups_table(const struct tc_quant_options *o, const struct tc_quant_input *in, const float *table, struct tc_quantized *q, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;

#endif
