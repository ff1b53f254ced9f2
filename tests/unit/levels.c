/* Levels of each group's own: the best there are, by trying all. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kernel/kernel.h"
#include "method/packing.h"
#include "quantized.h"
#include "tap.h"

static struct tc_rng rng;
static struct tc_err err;

static int
run(const struct tc_quant_options *o, const struct tc_quant_input *in, struct tc_quantized *q, struct tc_pool *pool)
{
	err = (struct tc_err){0};
	return tc_quantizer_run(tc_quantizer_find("lloyd"), o, in, q, pool, &err);
}

static struct tc_quant_options
options(int bits, uint64_t group, enum tc_dtype type)
{
	return (struct tc_quant_options){ .bits = bits, .group = group, .scale = type, .own_levels = true };
}

/* The least weighted error of n ascending numbers in k runs. */
static double
least(const float *x, const double *a, size_t n, size_t k)
{
	double best = INFINITY;

	if (n == 0)
		return 0;
	if (k == 0)
		return INFINITY;
	for (size_t begin = 0; begin < n; begin++) {
		double weight = 0, moment = 0, error = 0, mean;

		for (size_t i = begin; i < n; i++) {
			weight += a[i];
			moment += a[i] * (double)x[i];
		}
		mean = weight > 0 ? moment / weight : 0;
		for (size_t i = begin; i < n; i++)
			error += a[i] * ((double)x[i] - mean) * ((double)x[i] - mean);
		best = fmin(best, error + least(x, a, begin, k - 1));
	}
	return best;
}

static int
ascending(const void *a, const void *b)
{
	const float *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void
test_best(const char *name, bool squares, bool fisher)
{
	enum { ROWS = 30, COLS = 9 };
	double worst = 0;

	for (int round = 0; round < 20; round++) {
		float w[ROWS * COLS], got[ROWS * COLS], f[ROWS * COLS];
		double s[COLS];
		struct tc_tensor t = dense(w, ROWS, COLS);
		struct tc_quant_input in = { .w = &t, .squares = squares ? s : NULL, .fisher = fisher ? f : NULL };
		struct tc_quant_options o = options(1 + round % 2, TC_GROUP_ROW, TC_F32);
		struct tc_quantized q;

		for (size_t i = 0; i < ROWS * COLS; i++) {
			w[i] = (float)(tc_rng_unit(&rng) - 0.5);
			f[i] = (float)tc_rng_unit(&rng);
		}
		for (size_t r = 0; r < ROWS; r++)   /* so that importance stays with its weight */
			qsort(w + r * COLS, COLS, sizeof(*w), ascending);
		for (size_t i = 0; i < COLS; i++)
			s[i] = 0.01 + tc_rng_unit(&rng);
		if (run(&o, &in, &q, NULL) < 0)
			exit(1);
		tc_tensor_read_rows(&q.t, 0, ROWS, got);
		for (size_t r = 0; r < ROWS; r++) {
			double a[COLS], error = 0, want;

			for (size_t i = 0; i < COLS; i++) {
				double d = (double)got[r * COLS + i] - (double)w[r * COLS + i];

				a[i] = fisher ? (double)f[r * COLS + i] : squares ? s[i] : 1;
				error += a[i] * d * d;
			}
			want = least(w + r * COLS, a, COLS, (size_t)1 << o.bits);
			/* Weights near to a border may count for little and go to the
			 * nearer level, which is never worse. */
			worst = fmax(worst, error / want - 1);
		}
		tc_quantized_free(&q);
	}
	ok(worst < 1e-5, "%s: no other levels are better (%.2g)", name, worst);
}

static void
test_hand(void)
{
	static const float w[12] = { 1, 1, 1, 1, 5, 5, 5, 9,   2, -2, 2, -2 };
	struct tc_tensor t = dense(w, 1, 12);
	struct tc_quant_options o = options(1, 8, TC_F16);
	struct tc_quantized q;
	float got[12];

	if (!ok(run(&o, &(struct tc_quant_input){ .w = &t }, &q, NULL) == 0, "one row, groups of 8"))
		return;
	tc_tensor_read_rows(&q.t, 0, 1, got);
	ok(got[0] == 1 && got[4] == 6 && got[7] == 6 && got[8] == 2 && got[9] == -2, "1 and 6, -2 and 2");
	ok(q.t.format.encoding == TC_LEVELS && q.t.nparts == 2 && tc_tensor_bytes(&q.t) == 2 + 2 * 2 * 2, "codes and two f16 a group");
	tc_quantized_free(&q);
}

/* More levels than weights, all alike, and numbers that f16 does not hold. */
static void
test_edges(void)
{
	float w[3 * 5] = { 1, 2, 3, 4, 5,   7, 7, 7, 7, 7,   0, 0, 0, 0, 0 }, got[15];
	struct tc_tensor t = dense(w, 3, 5);
	struct tc_quant_options o = options(4, TC_GROUP_ROW, TC_F32);
	struct tc_quantized q;

	if (!ok(run(&o, &(struct tc_quant_input){ .w = &t }, &q, NULL) == 0, "16 levels for 5 weights"))
		return;
	tc_tensor_read_rows(&q.t, 0, 3, got);
	ok(memcmp(got, w, sizeof(w)) == 0, "are exact");
	tc_quantized_free(&q);
	w[7] = 1e6f;
	o.scale = TC_F16;
	ok(run(&o, &(struct tc_quant_input){ .w = &t }, &q, NULL) == -1 && err.code == TC_DATA && strstr(err.msg, "row 1"), "%s", err.msg);
}

static void
test_threads(void)
{
	enum { ROWS = 33, COLS = 300 };
	static float w[ROWS * COLS];
	struct tc_tensor t = dense(w, ROWS, COLS);
	struct tc_quant_options o = options(3, 128, TC_F16);
	struct tc_quantized a, b;
	struct tc_pool *pool;

	for (size_t i = 0; i < ROWS * COLS; i++)
		w[i] = (float)(tc_rng_unit(&rng) + tc_rng_unit(&rng) - 1);
	if (tc_pool_open(&pool, 3, &err) < 0 || run(&o, &(struct tc_quant_input){ .w = &t }, &a, NULL) < 0 ||
	    run(&o, &(struct tc_quant_input){ .w = &t }, &b, pool) < 0)
		exit(1);
	ok(memcmp(a.owned, b.owned, tc_tensor_bytes(&a.t)) == 0, "1 and 3 threads, the same bytes");
	tc_quantized_free(&a);
	tc_quantized_free(&b);
	tc_pool_close(pool);
}

int
main(void)
{
	if (!ok(tc_kernels_select(NULL, &err) == 0, "the best kernels"))
		return done_testing();
	tc_rng_seed(&rng, 21);
	test_hand();
	test_best("all alike", false, false);
	test_best("by squares", true, false);
	test_best("by gradients", true, true);
	test_edges();
	test_threads();
	return done_testing();
}
