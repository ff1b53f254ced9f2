/* groups.h - grids chosen group by group: what such quantizers differ in, and the
 * loop of those that round to nearest on them. */
#ifndef TC_METHOD_GROUPS_H
#define TC_METHOD_GROUPS_H

#include "method/packing.h"

/* A group's weights; weight i is met by input i % period, whose sum of squares
 * over the calibration tokens is squares[i % period], and its squared gradient
 * fisher[i] (NULL: not known). */
struct tc_group {
	const float *w;
	size_t n, period;
	const double *squares;
	const float *fisher;
};
/* n weights of a row, from column c on, whose numbers are w; what is known of
 * them is in's. */
struct tc_group tc_group_of(const struct tc_quant_input *in, size_t row, size_t c, const float *w, size_t n);

/* Those of g's weights that are not 0, one after another; of none a weight of 0.  A
 * pruned tensor's grids are for what is left.  room: for g->n of each. */
struct tc_group_room {
	float *w, *fisher;
	double *squares;
};
struct tc_group tc_group_left(const struct tc_group *g, const struct tc_group_room *room);

/* A quantizer's way to choose grids, for one tensor.  Several threads may use
 * it. */
struct tc_fitter {
	struct tc_quant_options o;   /* as what is stored has them */
	struct tc_grid (*fit)(const struct tc_fitter *f, const struct tc_group *g);
	const float *table;          /* NULL, or the codebook [2^bits] of all its grids */
	void *own;                   /* its memory, for free(3), or NULL */
};

/* The quantizer is one that has a fitter; in outlives f. */
int tc_fitter_make(struct tc_fitter *f, const struct tc_quantizer *by, const struct tc_quant_options *o, const struct tc_quant_input *in, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
void tc_fitter_free(struct tc_fitter *f);

/* A fit: tc_grid_table()'s grids. */
struct tc_grid tc_fit_table(const struct tc_fitter *f, const struct tc_group *g);

int tc_groups_run(const struct tc_fitter *f, const struct tc_quant_input *in, struct tc_quantized *q, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;

#endif
