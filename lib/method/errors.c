#include "method/errors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/kernel.h"
#include "tensor/input_op.h"

enum { ROWS = 64 };  /* that meet a panel of the Hessian together */

/* Of D and of W. */
enum { ERROR, NORM, SUMS };

struct job {
	const struct tc_quant_input *in;
	const struct tc_tensor *q;
	size_t cols, panels;
	size_t row0, rows;       /* those in hand: */
	float *x;                /* [SUMS][rows][cols] */
	double (*row_sum)[SUMS]; /* [ROWS], by the squares */
	/* with a Hessian: */
	float *panel;            /* [threads][cols][nr] */
	float *y;                /* [threads][SUMS * ROWS][nr] */
	double (*panel_sum)[SUMS]; /* [panels], over all rows so far */
};

static float *
row_of(const struct job *j, int which, size_t r)
{
	return j->x + ((size_t)which * j->rows + r) * j->cols;
}

static void
take_row(void *ctx, size_t r, int worker)
{
	const struct job *j = ctx;
	float *d = row_of(j, ERROR, r), *w = row_of(j, NORM, r);
	double sum[SUMS] = {0};

	(void)worker;
	tc_tensor_read_rows(j->in->w, j->row0 + r, 1, w);
	tc_tensor_read_rows(j->q, j->row0 + r, 1, d);
	if (j->in->op) {
		const struct tc_input_ops ops = { 1, j->in->op, NULL };

		tc_input_ops_inverse(&ops, j->cols, w);
		tc_input_ops_inverse(&ops, j->cols, d);
	}
	for (size_t c = 0; c < j->cols; c++) {
		double s = j->in->squares ? j->in->squares[c] : 0;

		d[c] = w[c] - d[c];
		sum[ERROR] += s * (double)d[c] * (double)d[c];
		sum[NORM] += s * (double)w[c] * (double)w[c];
	}
	memcpy(j->row_sum[r], sum, sizeof(sum));
}

/* x H x^T is twice x L x^T, L being the lower triangle of H with half of the
 * diagonal.  Columns c0.. of it, from row c0 on. */
static void
lower_panel(const struct job *j, size_t c0, float *panel)
{
	size_t nr = tc_kernels()->nr;

	for (size_t i = c0; i < j->cols; i++, panel += nr) {
		const float *h = j->in->hessian + i * (i + 1) / 2 + c0;
		size_t n = tc_min(nr, i + 1 - c0);

		memcpy(panel, h, n * sizeof(*panel));
		memset(panel + n, 0, (nr - n) * sizeof(*panel));
		if (i - c0 < nr)
			panel[i - c0] /= 2;
	}
}

static void
meet_panel(void *ctx, size_t p, int worker)
{
	const struct job *j = ctx;
	size_t nr = tc_kernels()->nr, c0 = p * nr, n = tc_min(nr, j->cols - c0);
	float *panel = j->panel + (size_t)worker * j->cols * nr, *y = j->y + (size_t)worker * SUMS * ROWS * nr;

	lower_panel(j, c0, panel);
	tc_kernels()->gemm(SUMS * j->rows, n, j->cols - c0, j->x + c0, j->cols, 1, panel, y, nr, 0, NULL);
	for (int which = 0; which < SUMS; which++)
		for (size_t r = 0; r < j->rows; r++, y += nr)
			for (size_t c = 0; c < n; c++)
				j->panel_sum[p][which] += 2 * (double)y[c] * (double)row_of(j, which, r)[c0 + c];
}

static int
allocate(struct job *j, size_t threads, struct tc_err *err)
{
	size_t nr = tc_kernels()->nr;

	j->x = tc_alloc(SUMS * ROWS * j->cols, sizeof(*j->x), err);
	j->row_sum = tc_alloc(ROWS, sizeof(*j->row_sum), err);
	if (!j->x || !j->row_sum)
		return -1;
	if (!j->in->hessian)
		return 0;
	j->panel = tc_alloc(threads * nr * j->cols, sizeof(*j->panel), err);
	j->y = tc_alloc(threads * nr, SUMS * ROWS * sizeof(*j->y), err);
	j->panel_sum = tc_zalloc(j->panels, sizeof(*j->panel_sum), err);
	return j->panel && j->y && j->panel_sum ? 0 : -1;
}

static void
add(struct tc_output_error *o, size_t n, double (*sum)[SUMS])
{
	for (size_t i = 0; i < n; i++) {
		o->error2 += sum[i][ERROR];
		o->norm2 += sum[i][NORM];
	}
}

static void
measure_output(struct job *j, struct tc_errors *e, struct tc_pool *pool)
{
	size_t rows = tc_tensor_rows(j->in->w);

	for (; j->row0 < rows; j->row0 += ROWS) {
		j->rows = tc_min(ROWS, rows - j->row0);
		tc_pool_run(pool, j->rows, take_row, j);
		add(&e->squares, j->rows, j->row_sum);
		if (j->in->hessian)
			tc_pool_run(pool, j->panels, meet_panel, j);
	}
	if (j->in->hessian)
		add(&e->hessian, j->panels, j->panel_sum);
}

int
tc_errors_measure(struct tc_errors *e, const struct tc_quant_input *in, const struct tc_tensor *q, struct tc_pool *pool,
    struct tc_err *err)
{
	size_t nr = tc_kernels()->nr, cols = tc_tensor_cols(in->w);
	struct job j = { .in = in, .q = q, .cols = cols, .panels = (cols + nr - 1) / nr };
	int r;

	*e = (struct tc_errors){ .squares.known = in->squares != NULL, .hessian.known = in->hessian != NULL };
	if (tc_difference_measure(&e->weight, in->w, q, pool, err) < 0)
		return -1;
	if (!in->squares && !in->hessian)
		return 0;
	r = allocate(&j, (size_t)tc_pool_threads(pool), err);
	if (r == 0)
		measure_output(&j, e, pool);
	free(j.x);
	free(j.row_sum);
	free(j.panel);
	free(j.y);
	free(j.panel_sum);
	return r;
}

static double
ratio(double error2, double norm2)
{
	return norm2 > 0 ? error2 / norm2 : NAN;
}

double
tc_errors_of_weights(const struct tc_errors *e)
{
	return ratio(e->weight.diff2, e->weight.norm2);
}

double
tc_errors_of_output(const struct tc_output_error *o)
{
	return o->known ? ratio(o->error2, o->norm2) : NAN;
}
