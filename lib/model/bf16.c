#include "model/bf16.h"

#include "model/linear.h"
#include "tensor/factors.h"

static bool
is_exact(const struct tc_tensor *w)
{
	bool numbers = w->format.encoding == TC_DENSE && w->format.dtype == TC_BF16 && w->residual.bits == 0;

	return numbers || w->format.encoding == TC_NONE || tc_linear_has_codes(w);
}

bool
tc_bf16_has(const struct tc_tensor *w)
{
	struct tc_tensor factor;

	if (w->rank > 0) {
		tc_factor_view(w, TC_SIDE_U, &factor);
		return is_exact(w) && is_exact(&factor);
	}
	return is_exact(w);
}
