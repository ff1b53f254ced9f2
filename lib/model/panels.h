/* panels.h - rows as the panels that gemm() multiplies by. */
#ifndef TC_MODEL_PANELS_H
#define TC_MODEL_PANELS_H

#include <string.h>

#include "base/mem.h"
#include "kernel/kernel.h"

/* Columns 0 .. dim-1 of x[rows][ldx] become rows row0 .. row0+rows-1 of
 * dst[ceil(dim / nr)][total][nr], whose last panel is filled up with zeros. */
static inline void
tc_panels_put(float *dst, size_t total, size_t row0, size_t rows, size_t dim, const float *x, size_t ldx)
{
	size_t nr = tc_kernels()->nr;

	for (size_t j = 0; j < dim; j += nr) {
		size_t n = tc_min(nr, dim - j);
		float *to = dst + (j / nr * total + row0) * nr;

		for (size_t r = 0; r < rows; r++, to += nr) {
			memcpy(to, x + r * ldx + j, n * sizeof(*to));
			memset(to + n, 0, (nr - n) * sizeof(*to));
		}
	}
}

#endif
