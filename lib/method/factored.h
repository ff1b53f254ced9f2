/* factored.h - a tensor whose factors were quantized, each as a matrix of its own. */
#ifndef TC_METHOD_FACTORED_H
#define TC_METHOD_FACTORED_H

#include "method/quantizer.h"
#include "tensor/factors.h"

/* Has dense factors, and beside them nothing that is dense or done to its input. */
bool tc_is_factored(const struct tc_tensor *t);

/* q becomes t with the factors side[], what tc_factor_view() has of t quantized.
 * What must be done to v's input is done to q's.  TC_DATA where factors cannot be of
 * their format, or they are of two. */
int tc_factored_join(const struct tc_tensor *t, const struct tc_tensor *side[TC_SIDES], struct tc_quantized *q, struct tc_err *err) TC_MUST_CHECK;

#endif
