/* What quantization leaves: against plain loops in double, and the same bits
 * with any number of threads. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kernel/kernel.h"
#include "kinds.h"
#include "method/errors.h"
#include "quantized.h"
#include "tap.h"

enum { ROWS_MOST = 150, COLS_MOST = 131 };

static struct tc_err err;

struct layer {
	size_t rows, cols;
	float w[ROWS_MOST * COLS_MOST], q[ROWS_MOST * COLS_MOST];
	double squares[COLS_MOST];
	float hessian[COLS_MOST * (COLS_MOST + 1) / 2];
};

/* The Hessian is that of a few inputs, so that it is one. */
static void
make(struct layer *l, size_t rows, size_t cols)
{
	struct tc_rng rng;
	float x[COLS_MOST];

	memset(l, 0, sizeof(*l));
	tc_rng_seed(&rng, rows * 1000 + cols);
	l->rows = rows;
	l->cols = cols;
	for (size_t i = 0; i < rows * cols; i++) {
		l->w[i] = (float)(tc_rng_unit(&rng) - 0.4);
		l->q[i] = l->w[i] + (float)(0.1 * (tc_rng_unit(&rng) - 0.5));
	}
	for (int t = 0; t < 40; t++) {
		for (size_t i = 0; i < cols; i++)
			x[i] = (float)(tc_rng_unit(&rng) - 0.3);
		for (size_t i = 0; i < cols; i++)
			for (size_t j = 0; j <= i; j++)
				l->hessian[i * (i + 1) / 2 + j] += x[i] * x[j];
	}
	for (size_t i = 0; i < cols; i++)
		l->squares[i] = (double)l->hessian[i * (i + 1) / 2 + i];
}

static double
at(const struct layer *l, size_t i, size_t j)
{
	return (double)(i >= j ? l->hessian[i * (i + 1) / 2 + j] : l->hessian[j * (j + 1) / 2 + i]);
}

/* tr(X H X^T). */
static double
plain_hessian(const struct layer *l, const double *x)
{
	double sum = 0;

	for (size_t r = 0; r < l->rows; r++)
		for (size_t i = 0; i < l->cols; i++)
			for (size_t j = 0; j < l->cols; j++)
				sum += x[r * l->cols + i] * at(l, i, j) * x[r * l->cols + j];
	return sum;
}

static double
plain_squares(const struct layer *l, const double *x)
{
	double sum = 0;

	for (size_t i = 0; i < l->rows * l->cols; i++)
		sum += l->squares[i % l->cols] * x[i] * x[i];
	return sum;
}

static bool
near(double got, double want, double relative)
{
	return fabs(got - want) <= relative * fabs(want);
}

static int
measure(const struct layer *l, bool squares, bool hessian, struct tc_pool *pool, struct tc_errors *e)
{
	struct tc_tensor w = dense(l->w, l->rows, l->cols), q = dense(l->q, l->rows, l->cols);
	struct tc_quant_input in = { .w = &w, .squares = squares ? l->squares : NULL, .hessian = hessian ? l->hessian : NULL };

	return tc_errors_measure(e, &in, &q, pool, &err);
}

static void
test_against_plain(const char *kind, size_t rows, size_t cols, struct tc_pool *pool)
{
	static double d[ROWS_MOST * COLS_MOST], w[ROWS_MOST * COLS_MOST];
	static struct layer l;
	struct tc_errors e, again;
	double error2 = 0, norm2 = 0, worst = 0;

	make(&l, rows, cols);
	for (size_t i = 0; i < rows * cols; i++) {
		w[i] = (double)l.w[i];
		d[i] = w[i] - (double)l.q[i];
		error2 += d[i] * d[i];
		norm2 += w[i] * w[i];
		worst = fmax(worst, fabs(d[i]));
	}
	if (!ok(measure(&l, true, true, NULL, &e) == 0 && measure(&l, true, true, pool, &again) == 0, "%s: %zu x %zu", kind, rows, cols))
		return;
	ok(near(tc_errors_of_weights(&e), error2 / norm2, 1e-12) && e.weight.max_abs == worst, "%s: of the weights", kind);
	ok(near(e.squares.error2, plain_squares(&l, d), 1e-6) && near(e.squares.norm2, plain_squares(&l, w), 1e-6),
	    "%s: of the output by squares", kind);
	ok(near(e.hessian.error2, plain_hessian(&l, d), 1e-4) && near(e.hessian.norm2, plain_hessian(&l, w), 1e-4),
	    "%s: of the output by the Hessian", kind);
	ok(near(tc_errors_of_output(&e.hessian), plain_hessian(&l, d) / plain_hessian(&l, w), 1e-4), "%s: its ratio", kind);
	ok(memcmp(&e.hessian, &again.hessian, sizeof(e.hessian)) == 0 && memcmp(&e.squares, &again.squares, sizeof(e.squares)) == 0,
	    "%s: the same bits with 3 threads", kind);
}

static void
test_what_is_known(void)
{
	static struct layer l;
	struct tc_errors e;

	make(&l, 5, 40);
	ok(measure(&l, false, false, NULL, &e) == 0 && isfinite(tc_errors_of_weights(&e)) &&
	    isnan(tc_errors_of_output(&e.squares)) && isnan(tc_errors_of_output(&e.hessian)), "nothing was measured");
	ok(measure(&l, true, false, NULL, &e) == 0 && isfinite(tc_errors_of_output(&e.squares)) &&
	    isnan(tc_errors_of_output(&e.hessian)), "squares alone");
	memset(l.w, 0, sizeof(l.w));
	memset(l.q, 0, sizeof(l.q));
	ok(measure(&l, true, true, NULL, &e) == 0 && isnan(tc_errors_of_weights(&e)) && isnan(tc_errors_of_output(&e.hessian)),
	    "weights of 0 have no relative error");
	l.q[7] = INFINITY;
	ok(measure(&l, false, false, NULL, &e) < 0 && err.code == TC_DATA, "an infinite weight is refused");
}

int
main(void)
{
	static const size_t shapes[][2] = { { 1, 1 }, { 3, 20 }, { 64, 32 }, { 65, 33 }, { 150, 131 } };
	const struct tc_kernels *list[TC_KERNEL_KINDS_MAX];
	size_t n = kinds_to_test(list, TC_KERNEL_KINDS_MAX);
	struct tc_pool *pool;

	if (tc_pool_open(&pool, 3, &err) < 0)
		return 1;
	for (size_t k = 0; k < n; k++) {
		if (tc_kernels_select(list[k]->name, &err) < 0)
			return 1;
		for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++)
			test_against_plain(list[k]->name, shapes[s][0], shapes[s][1], pool);
	}
	test_what_is_known();
	tc_pool_close(pool);
	return done_testing();
}
