/* Round to nearest: every weight becomes the nearest level of its group's
 * grid (tc_grid_of()), without data and without regard for other weights. */
#include "method/groups.h"

int
tc_rtn_run(const struct tc_quant_options *o, const struct tc_quant_input *in, struct tc_quantized *q,
    struct tc_pool *pool, struct tc_err *err)
{
	return tc_groups_run(o, in, tc_fit_range, NULL, NULL, q, pool, err);
}
