/* coder.h - weights rounded on grids one input after another, each group's grid
 * chosen when its first input comes, or before.
 *
 *   tc_coder_open(&c, o, in, pool, &err);
 *   tc_coder_begin(&c, &rows, &slab);          for each slab
 *   tc_coder_settle(&c, &rows, &slab, i, e);   for each input, in order
 *   tc_coder_end(&c, &rows, &slab);
 *   tc_coder_finish(&c, &q, &err);
 *   tc_coder_close(&c);                        also after a failure
 *
 * Slabs may be given by several threads. */
#ifndef TC_METHOD_CODER_H
#define TC_METHOD_CODER_H

#include "method/compensate.h"
#include "method/groups.h"

struct tc_coder {
	struct tc_fitter fitter;
	const struct tc_quant_input *in;
	struct tc_packing p;
	bool is_static;          /* grids of the weights as they came */
	bool keeps_zeros;        /* 0 is a number of every grid */
};

/* A slab's, room for them being the caller's. */
struct tc_coder_rows {
	struct tc_grid *grid;    /* [groups][nr] */
	uint8_t *codes;          /* [nr][cols] */
	float *row;              /* [cols] */
	struct tc_group_room left; /* for a row; w NULL: grids are for zeros, too */
};

/* Rounds on the grids of o->grid.  in->factor is known, in outlives c.  TC_USAGE
 * where a group is more than a row. */
int tc_coder_open(struct tc_coder *c, const struct tc_quant_options *o, const struct tc_quant_input *in, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
/* Where inputs are to be up to date; step: as in struct tc_stops. */
struct tc_stops tc_coder_stops(const struct tc_coder *c, size_t step);
void tc_coder_begin(const struct tc_coder *c, const struct tc_coder_rows *rows, const struct tc_slab *s);
/* As tc_settle says; what is to be 0 is 0, whatever its grid has. */
void tc_coder_settle(const struct tc_coder *c, const struct tc_coder_rows *rows, const struct tc_slab *s, size_t i, float *e);
void tc_coder_end(struct tc_coder *c, const struct tc_coder_rows *rows, const struct tc_slab *s);
int tc_coder_finish(struct tc_coder *c, struct tc_quantized *q, struct tc_err *err) TC_MUST_CHECK;
void tc_coder_close(struct tc_coder *c);

#endif
