/* factors.h - the low-rank product that a tensor may add to its other numbers:
 * u [rows][rank] times v [rank][cols] (tensor.h: rank, factor). */
#ifndef TC_TENSOR_FACTORS_H
#define TC_TENSOR_FACTORS_H

#include "tensor/tensor.h"

enum tc_side { TC_SIDE_U, TC_SIDE_V, TC_SIDES };

/* Whether the part is one of a factor's. */
bool tc_part_is_factor(const char *name);

/* A factor of t as a tensor of its own, with t's name, role and block, and the
 * parts' data t's.  t has factors. */
void tc_factor_view(const struct tc_tensor *t, enum tc_side side, struct tc_tensor *view);

/* out[nrows][cols] += rows row0 .. of the product, as tensor.h says.  A call
 * costs unpacking v once for every 64 rows begun, rank x cols numbers, beside
 * the product itself, so that rows had better be read many at a time. */
void tc_factors_add(const struct tc_tensor *t, size_t row0, size_t nrows, float *out);

#endif
