/* compensate.h - what GPTQ and SparseGPT have in common: the inputs of a layer are
 * settled one after another, and the error of each is made up for by those that
 * come after it.
 *
 * Rows do not know of each other.  A slab of nr of them is held by inputs,
 * [cols][nr], so that a step, w_k -= e_j R_jk for all k > j, is a product of the
 * kernels; the sum of an element's steps is one chain, j ascending, whatever
 * the blocks. */
#ifndef TC_METHOD_COMPENSATE_H
#define TC_METHOD_COMPENSATE_H

#include <stdbool.h>
#include <stddef.h>

#include "solve/factor.h"
#include "tensor/tensor.h"

/* Some rows in the making, the inputs in the factor's order. */
struct tc_slab {
	size_t row0, rows;     /* at most nr */
	float *w;              /* [cols][nr]; those of no row 0 */
	bool *zero;            /* [cols][nr]: weights that are to be 0 */
};

/* How many slabs so many rows are. */
size_t tc_slabs(size_t rows);

/* Where inputs are looked at together, before any of them is settled, and must be
 * up to date then. */
struct tc_stops {
	size_t width;          /* the inputs that are; 0: each alone */
	size_t step;           /* where width is wide: those of these, which divide it; else 1 */
};
/* Where the inputs that are settled together end, which begin at i and are about
 * `most`, of cols. */
size_t tc_stops_end(const struct tc_stops *s, size_t i, size_t most, size_t cols);

/* Reads rows row0 .. row0+rows-1 of w; those of dead inputs are 0.  row: room for one.
 * zero[] is set where a weight is 0, dead ones too, if zeros are to stay. */
void tc_slab_read(struct tc_slab *s, const struct tc_factor *f, const struct tc_tensor *w, bool zeros_stay, float *row);

/* Says what the weights w[i][..] of input i have become: for each of the slab's rows
 * its error e = (what it is now - w) / R_ii; e[nr] is 0 before. */
typedef void tc_settle(void *ctx, const struct tc_slab *s, size_t i, float *e);

/* Inputs b .. end-1 are settled, and all behind them brought up to date.  e: room
 * for [end - b][nr]. */
void tc_slab_settle(const struct tc_slab *s, const struct tc_factor *f, const struct tc_stops *stops, size_t b, size_t end, float *e, tc_settle *settle, void *ctx);

#endif
