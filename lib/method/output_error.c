/* H is symmetric, so of a row d
 *
 *   d H d^T = sum_j d_j (H_jj d_j + sum_{k > j} 2 H_kj d_k)
 *
 * and half of H is enough: panel p holds the columns j of p nr .. (p + 1) nr - 1
 * from row p nr on, [n - p nr][nr], 0 above the diagonal and doubled below. */
#include "method/output_error.h"

#include <stdlib.h>

#include "kernel/kernel.h"

enum { ROWS = 64 };   /* of d that a panel is multiplied by at once */

/* Rows in all panels before p. */
static size_t
rows_before(const struct tc_output_error *e, size_t p)
{
	return p * e->n - tc_kernels()->nr * (p * (p - 1) / 2);
}

static const float *
panel(const struct tc_output_error *e, size_t p)
{
	return e->panels + rows_before(e, p) * tc_kernels()->nr;
}

static void
fill(struct tc_output_error *e, const float *packed)
{
	size_t nr = tc_kernels()->nr;
	float *to = e->panels;

	for (size_t c = 0; c < e->n; c += nr)
		for (size_t row = c; row < e->n; row++, to += nr)
			for (size_t j = 0; j < nr; j++) {
				size_t column = c + j;

				to[j] = column > row ? 0 : (column < row ? 2 : 1) * packed[row * (row + 1) / 2 + column];
			}
}

int
tc_output_error_open(struct tc_output_error *e, const struct tc_quant_input *in, struct tc_err *err)
{
	size_t nr = tc_kernels()->nr;

	*e = (struct tc_output_error){ .n = tc_tensor_cols(in->w), .squares = in->squares };
	if (!in->hessian && !in->squares)
		return tc_fail(err, TC_DATA, "%s: nothing is known of its inputs (tc-calib, or --sequential)", in->w->name);
	if (!in->hessian)
		return 0;
	e->panels = tc_alloc(rows_before(e, (e->n + nr - 1) / nr), nr * sizeof(*e->panels), err);
	if (!e->panels)
		return -1;
	fill(e, in->hessian);
	return 0;
}

/* Of inputs c0 .. c1-1 with those behind them, before end; all c are of panel p. */
static void
add_panel(const struct tc_output_error *e, size_t p, size_t c0, size_t c1, size_t end, size_t rows, const float *d, size_t ldd,
    double *sum)
{
	size_t nr = tc_kernels()->nr;
	float y[ROWS * TC_NR_MAX] __attribute__((aligned(TC_ALIGN)));

	tc_kernels()->gemm(rows, nr, end - c0, d + c0, ldd, 1, panel(e, p) + (c0 - p * nr) * nr, y, nr, 0, NULL);
	for (size_t r = 0; r < rows; r++)
		for (size_t c = c0; c < c1; c++)
			sum[r] += (double)y[r * nr + c - p * nr] * (double)d[r * ldd + c];
}

static void
add_squares(const struct tc_output_error *e, size_t first, size_t end, const float *d, double *sum)
{
	for (size_t c = first; c < end; c++)
		*sum += e->squares[c] * ((double)d[c] * (double)d[c]);
}

void
tc_output_error_add(const struct tc_output_error *e, size_t first, size_t end, size_t rows, const float *d, size_t ldd, double *sum)
{
	size_t nr = tc_kernels()->nr;

	for (size_t r = 0; r < rows && !e->panels; r++)
		add_squares(e, first, end, d + r * ldd, &sum[r]);
	for (size_t p = first / nr; e->panels && p * nr < end; p++)
		for (size_t r = 0; r < rows; r += ROWS)
			add_panel(e, p, tc_max(first, p * nr), tc_min(end, (p + 1) * nr), end, tc_min(ROWS, rows - r), d + r * ldd, ldd, sum + r);
}

void
tc_output_error_close(struct tc_output_error *e)
{
	free(e->panels);
	*e = (struct tc_output_error){0};
}
