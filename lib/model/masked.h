/* masked.h - numbers of which a linear layer holds, and reads, only those that are
 * stored. */
#ifndef TC_MODEL_MASKED_H
#define TC_MODEL_MASKED_H

#include "model/linear.h"

/* Panels by masks (struct tc_matrix: place) from rows l->row0 .. of w, numbers of 16
 * bits with a mask; l->m has its sizes and type.  The kernels take masks. */
int tc_masked_prepare(struct tc_linear *l, const struct tc_tensor *w, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;

#endif
