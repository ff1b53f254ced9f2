/* plan_check.h - whether a model is what a plan says. */
#ifndef TC_CLI_PLAN_CHECK_H
#define TC_CLI_PLAN_CHECK_H

#include "cli/plan.h"

/* Why t, which is of a model that plan is of, is not as planned, in words; "" when
 * it is.  What is quantized is known by bits, grids and group, what is pruned by its
 * zeros. */
int tc_plan_differs(const struct tc_plan *plan, const struct tc_tensor *t, char why[128], struct tc_err *err) TC_MUST_CHECK;

#endif
