/* How far two tensors are from each other: sums by hand, ties, what is not
 * finite, threads. */
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "metric/difference.h"
#include "tap.h"

static struct tc_pool *one, *many;
static struct tc_err err;

static struct tc_tensor
dense(uint64_t rows, uint64_t cols, const float *data)
{
	struct tc_tensor t = { .name = "w", .ndim = 2, .shape = { rows, cols }, .format.dtype = TC_F32 };

	if (tc_tensor_layout(&t, &err) == 0)
		t.part[0].data = data;
	return t;
}

static void
test_by_hand(void)
{
	static const float x[6] = { 1, -2, 3, -4, 5, 0 }, y[6] = { 1, -2.5f, 3, -4, 5.5f, -0.0f };
	struct tc_tensor a = dense(2, 3, x), b = dense(2, 3, y);
	struct tc_difference d;

	ok(tc_difference_measure(&d, &a, &b, many, &err) == 0 && d.norm2 == 55 && d.diff2 == 0.5 && d.max_abs == 0.5, "sums by hand");
	ok(d.max_at == 1 && d.unequal == 2, "the first of two largest is told; 0 and -0 are equal");
	ok(tc_difference_relative(&d) == sqrt(0.5 / 55) && fabs(tc_difference_snr_db(&d) - 10 * log10(110)) < 1e-13, "relative error, SNR");
	ok(tc_difference_measure(&d, &a, &a, one, &err) == 0 && d.unequal == 0 && tc_difference_relative(&d) == 0 &&
	    tc_difference_snr_db(&d) == INFINITY, "equal");
}

static void
test_not_finite(void)
{
	float x[70] = {0}, y[70] = {0};
	struct tc_tensor a = dense(35, 2, x), b = dense(35, 2, y);
	struct tc_difference d;

	x[66] = y[66] = INFINITY;
	ok(tc_difference_measure(&d, &a, &b, many, &err) < 0 && err.code == TC_DATA && strstr(err.msg, "weight 66 of the first"),
	    "infinity on both sides: %s", err.msg);
	x[66] = y[66] = 0;
	y[3] = NAN;
	y[68] = NAN;
	ok(tc_difference_measure(&d, &a, &b, many, &err) < 0 && strstr(err.msg, "weight 3 of the second"), "NaN: %s", err.msg);
}

static void
test_threads(void)
{
	enum { ROWS = 333, COLS = 17 };
	static float x[ROWS * COLS], y[ROWS * COLS];
	struct tc_tensor a = dense(ROWS, COLS, x), b = dense(ROWS, COLS, y);
	struct tc_difference d, e;
	struct tc_rng rng;

	tc_rng_seed(&rng, 1);
	for (int i = 0; i < ROWS * COLS; i++) {
		x[i] = (float)tc_rng_unit(&rng) - 0.5f;
		y[i] = x[i] + 1e-3f * (float)tc_rng_unit(&rng);
	}
	ok(tc_difference_measure(&d, &a, &b, one, &err) == 0 && tc_difference_measure(&e, &a, &b, many, &err) == 0 &&
	    memcmp(&d, &e, sizeof(d)) == 0, "one thread and five give the same bits");
	ok(fabs(x[d.max_at] - y[d.max_at]) == d.max_abs, "the largest difference is where it is said to be");
}

int
main(void)
{
	if (tc_pool_open(&one, 1, &err) < 0 || tc_pool_open(&many, 5, &err) < 0)
		return 1;
	test_by_hand();
	test_not_finite();
	test_threads();
	tc_pool_close(one);
	tc_pool_close(many);
	return done_testing();
}
