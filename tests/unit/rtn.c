/* Round to nearest: cases by hand, known answers at every width, the error's
 * bound, degenerate groups, and the same bytes at any number of threads. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kinds.h"
#include "quantized.h"
#include "tap.h"

static struct tc_rng rng;
static struct tc_err err;

static int
run(const struct tc_quant_options *o, const float *w, size_t rows, size_t cols, struct tc_quantized *q)
{
	struct tc_tensor t = dense(w, rows, cols);

	err = (struct tc_err){0};
	return tc_quantizer_run(tc_quantizer_find("rtn"), o, &(struct tc_quant_input){ .w = &t }, q, NULL, &err);
}

/* ---- by hand ---- */

/* What should come out of 4 x 8 weights in groups of 4: codes, 8 scales and 8
 * zeros (minima for TC_ZERO_MIN). */
struct hand {
	const char *name;
	struct tc_quant_options o;
	uint8_t codes[32];
	float scale[8], zero[8];
};

static const float hand_w[32] = {
	3, -1, 0.5f, 1.4f,       7, 3.4f, -6.6f, 0,
	2, -1.1f, -0.9f, 0.9f,   0, 0, 0, 0,
	1, 2.1f, 3, 4,           -6, -2.9f, -4.6f, -1,
	0.25f, 0, 0, -0.2f,      14, -13, 5, -3,
};

static const struct hand hands[] = {
	/* s = max|w| / 7, code 8 is 0; the last group has three ties */
	{ "4 bits, symmetric, odd levels", OPTIONS(4, 4, TC_ZERO_NONE, TC_LEVELS_ODD, TC_F32),
	  { 15, 6, 9, 11,   15, 11, 1, 8,
	    15, 4, 5, 11,   8, 8, 8, 8,
	    10, 12, 13, 15, 1, 5, 3, 7,
	    15, 8, 8, 2,    15, 2, 10, 6 },
	  { 3.0f / 7, 1, 2.0f / 7, 0, 4.0f / 7, 6.0f / 7, 0.25f / 7, 2 }, {0} },
	/* s = 2 max|w| / 3, codes 0..3 for -2..1 */
	{ "2 bits, symmetric, all levels", OPTIONS(2, 4, TC_ZERO_NONE, TC_LEVELS_FULL, TC_F32),
	  { 3, 2, 2, 3,   3, 3, 1, 2,
	    3, 1, 1, 3,   2, 2, 2, 2,
	    2, 3, 3, 3,   0, 1, 1, 2,
	    3, 2, 2, 1,   3, 1, 3, 2 },
	  { 2, 14.0f / 3, 4.0f / 3, 0, 8.0f / 3, 4, 0.5f / 3, 28.0f / 3 }, {0} },
	/* s = mean|w|, codes are signs */
	{ "1 bit, symmetric", OPTIONS(1, 4, TC_ZERO_NONE, TC_LEVELS_ODD, TC_F32),
	  { 1, 0, 1, 1,   1, 1, 0, 1,
	    1, 0, 0, 1,   1, 1, 1, 1,
	    1, 1, 1, 1,   0, 0, 0, 0,
	    1, 1, 1, 0,   1, 0, 1, 0 },
	  { 1.475f, 4.25f, 1.225f, 0, 2.525f, 3.625f, 0.1125f, 8.75f }, {0} },
	/* s = max|w|, codes are signs */
	{ "1 bit, symmetric, all levels", OPTIONS(1, 4, TC_ZERO_NONE, TC_LEVELS_FULL, TC_F32),
	  { 1, 0, 1, 1,   1, 1, 0, 1,
	    1, 0, 0, 1,   1, 1, 1, 1,
	    1, 1, 1, 1,   0, 0, 0, 0,
	    1, 1, 1, 0,   1, 0, 1, 0 },
	  { 3, 7, 2, 0, 4, 6, 0.25f, 14 }, {0} },
	/* s = max|w|, codes 1 2 3 for -1 0 1 */
	{ "ternary: 2 bits, symmetric, odd levels", OPTIONS(2, 4, TC_ZERO_NONE, TC_LEVELS_ODD, TC_F32),
	  { 3, 2, 2, 2,   3, 2, 1, 2,
	    3, 1, 2, 2,   2, 2, 2, 2,
	    2, 3, 3, 3,   1, 2, 1, 2,
	    3, 2, 2, 1,   3, 1, 2, 2 },
	  { 3, 7, 2, 0, 4, 6, 0.25f, 14 }, {0} },
	/* s = (max - min) / 3 with 0 between them; z = round(-min / s) */
	{ "2 bits, asymmetric", OPTIONS(2, 4, TC_ZERO_INT, TC_LEVELS_ODD, TC_F32),
	  { 3, 0, 1, 2,   3, 2, 0, 1,
	    3, 0, 0, 2,   0, 0, 0, 0,
	    1, 2, 2, 3,   0, 2, 1, 3,
	    3, 1, 1, 0,   3, 0, 2, 1 },
	  { 4.0f / 3, 13.6f / 3, 3.1f / 3, 0, 4.0f / 3, 2, 0.15f, 9 }, { 1, 1, 1, 0, 0, 3, 1, 1 } },
	/* s = (max - min) / 3 */
	{ "2 bits, float minimum", OPTIONS(2, 4, TC_ZERO_MIN, TC_LEVELS_ODD, TC_F32),
	  { 3, 0, 1, 2,   3, 2, 0, 1,
	    3, 0, 0, 2,   0, 0, 0, 0,
	    0, 1, 2, 3,   0, 2, 1, 3,
	    3, 1, 1, 0,   3, 0, 2, 1 },
	  { 4.0f / 3, 13.6f / 3, 3.1f / 3, 0, 1, 5.0f / 3, 0.15f, 9 }, { -1, -6.6f, -1.1f, 0, 1, -6, -0.2f, -13 } },
};

static void
test_hand(const struct hand *h)
{
	struct tc_quantized q;
	uint8_t codes[8], zeros[8];
	int right = 1, scales = 1, zero = 1;

	if (!ok(run(&h->o, hand_w, 4, 8, &q) == 0, "%s: runs", h->name))
		return;
	for (size_t r = 0; r < 4; r++) {
		tc_unpack((const uint8_t *)q.t.part[0].data + r * tc_packed_bytes(8, h->o.bits), 8, h->o.bits, codes);
		for (size_t c = 0; c < 8; c++)
			if (codes[c] != h->codes[r * 8 + c]) {
				printf("# row %zu column %zu: %d, not %d\n", r, c, codes[c], h->codes[r * 8 + c]);
				right = 0;
			}
	}
	for (size_t g = 0; g < 8; g++)
		scales &= fabsf(scale_at(&q, 1, g) - h->scale[g]) <= 1e-6f * h->scale[g];
	if (h->o.zero == TC_ZERO_INT)
		tc_unpack(q.t.part[2].data, 8, h->o.bits, zeros);
	for (size_t g = 0; g < 8; g++)
		if (h->o.zero == TC_ZERO_INT)
			zero &= (float)zeros[g] == h->zero[g];
		else if (h->o.zero == TC_ZERO_MIN)
			zero &= scale_at(&q, 2, g) == h->zero[g];
	ok(right, "%s: the codes of 4 x 8 weights", h->name);
	ok(scales, "%s: the scales", h->name);
	ok(zero, "%s: the zeros", h->name);
	tc_quantized_free(&q);
}

/* ---- known answers ---- */

/* Weights are made from codes, a scale of 2^-5 and an offset below half a
 * step; the codes at both ends of the range are there, exactly. */
static void
test_known(int bits, enum tc_zero zero, enum tc_levels levels, enum tc_dtype scale)
{
	enum { ROWS = 4, COLS = 24, GROUP = 8 };
	int top = (1 << bits) - 1, half = 1 << (bits - 1), low = zero == TC_ZERO_NONE && levels == TC_LEVELS_ODD;
	struct tc_quant_options o = OPTIONS(bits, GROUP, zero, levels, scale);
	uint8_t codes[ROWS * COLS], got[COLS];
	float w[ROWS * COLS], back[COLS];
	struct tc_quantized q;
	int right = 1, values = 1;

	for (size_t i = 0; i < ROWS * COLS; i++) {
		int end = i % GROUP < 2, z = zero == TC_ZERO_NONE ? half : zero == TC_ZERO_INT ? (int)(i / GROUP) % (top + 1) : 0;
		float min = zero == TC_ZERO_MIN ? -3 + (float)(i / GROUP) : 0, off = end ? 0 : 0.8f * ((float)tc_rng_unit(&rng) - 0.5f);

		codes[i] = (uint8_t)(i % GROUP == 0 ? low : i % GROUP == 1 ? top : low + (int)tc_rng_below(&rng, (uint64_t)(top - low + 1)));
		/* The ends are not overstepped; with all levels the range is symmetric
		 * about a half, and its lower end stands half a step away. */
		if ((codes[i] == low && off < 0) || (codes[i] == top && off > 0))
			off = -off;
		w[i] = ((float)(codes[i] - z) + off) * 0x1p-5f + min;
		if (zero == TC_ZERO_NONE && levels == TC_LEVELS_FULL && codes[i] == low)
			w[i] = -((float)half - 0.5f) * 0x1p-5f;
	}
	if (!ok(run(&o, w, ROWS, COLS, &q) == 0, "%d bits, zero %s: runs", bits, tc_zero_names[zero]))
		return;
	for (size_t r = 0; r < ROWS; r++) {
		tc_unpack((const uint8_t *)q.t.part[0].data + r * tc_packed_bytes(COLS, bits), COLS, bits, got);
		tc_tensor_read_rows(&q.t, r, 1, back);
		for (size_t c = 0; c < COLS; c++) {
			right &= got[c] == codes[r * COLS + c];
			values &= fabsf(back[c] - w[r * COLS + c]) <= 0x1p-6f;
		}
	}
	for (size_t g = 0; g < ROWS * COLS / GROUP; g++)
		values &= scale_at(&q, 1, g) == 0x1p-5f;
	ok(right, "%d bits, zero %s, %s levels, %s scales: the codes that the weights were made from", bits, tc_zero_names[zero],
	    levels == TC_LEVELS_ODD ? "odd" : "all", tc_dtypes[scale].name);
	ok(values, "%d bits: their scale, and weights within half a step", bits);
	tc_quantized_free(&q);
}

/* Of one group: scale, zero (the code of 0, or the minimum) by their definition. */
static void
define_grid(const float *w, size_t n, int bits, enum tc_zero zero, double *scale, double *at)
{
	double low = (double)w[0], high = low, top = (1 << bits) - 1, half = 1 << (bits - 1);

	for (size_t i = 0; i < n; i++) {
		low = fmin(low, (double)w[i]);
		high = fmax(high, (double)w[i]);
	}
	if (zero == TC_ZERO_INT) {
		low = fmin(low, 0);
		high = fmax(high, 0);
	}
	*scale = zero == TC_ZERO_NONE ? fmax(high, -low) / (half - 1) : (high - low) / top;
	*at = zero == TC_ZERO_NONE ? half : zero == TC_ZERO_INT ? nearbyint(-low / *scale) : low;
}

/* Groups of any width: their grids and codes by definition, the row's last one
 * shorter. */
static void
test_groups(int bits, uint64_t group, enum tc_zero zero)
{
	enum { ROWS = 3, COLS = 300 };
	struct tc_quant_options o = OPTIONS(bits, group, zero, TC_LEVELS_ODD, TC_F32);
	size_t groups = (COLS + group - 1) / group;
	float w[ROWS * COLS];
	uint8_t codes[COLS], zeros[ROWS * COLS];
	struct tc_quantized q;
	int right = 1;

	for (size_t i = 0; i < ROWS * COLS; i++)
		w[i] = (float)(tc_rng_unit(&rng) - 0.4) * (i % 13 == 0 ? 3 : 1);
	if (!ok(run(&o, w, ROWS, COLS, &q) == 0, "%d bits, groups of %d: runs", bits, (int)group))
		return;
	if (zero == TC_ZERO_INT)
		tc_unpack(q.t.part[2].data, ROWS * groups, bits, zeros);
	for (size_t r = 0; r < ROWS; r++) {
		tc_unpack((const uint8_t *)q.t.part[0].data + r * tc_packed_bytes(COLS, bits), COLS, bits, codes);
		for (size_t c = 0; c < COLS; c++) {
			size_t g = r * groups + c / group, first = c / group * group, n = COLS - first < group ? COLS - first : group;
			double s, z, x, got = (double)scale_at(&q, 1, g);

			define_grid(w + r * COLS + first, n, bits, zero, &s, &z);
			x = zero == TC_ZERO_MIN ? ((double)w[r * COLS + c] - z) / s : (double)w[r * COLS + c] / s + z;
			x = fmin(fmax(x, zero == TC_ZERO_NONE), (1 << bits) - 1);
			right &= fabs(got - s) <= 1e-6 * s && fabs((double)codes[c] - x) <= 0.5 + 1e-4;
			right &= zero == TC_ZERO_MIN ? (double)scale_at(&q, 2, g) == z : zero != TC_ZERO_INT || zeros[g] == z;
		}
	}
	ok(right, "%d bits, groups of %d, zero %s: grids and codes by definition", bits, (int)group, tc_zero_names[zero]);
	tc_quantized_free(&q);
}

/* ---- properties ---- */

/* The largest error allowed: half a step, and what rounding the scale (and the
 * minimum) to f16 takes from a weight at the end of the range. */
static int
within(const struct tc_quant_options *o, const struct tc_quantized *q, const float *w, size_t rows, size_t cols)
{
	size_t groups = tc_format_row_groups(&q->t.format, cols), width = groups == 1 ? cols : o->group;
	float *back = malloc(cols * sizeof(*back));
	int right = 1;

	for (size_t r = 0; r < rows; r++) {
		tc_tensor_read_rows(&q->t, r, 1, back);
		for (size_t c = 0; c < cols; c++) {
			double s = (double)scale_at(q, 1, o->group == TC_GROUP_TENSOR ? 0 : r * groups + c / width);
			double steps = (double)(1 << o->bits), rounding = o->scale == TC_F16 ? 0x1p-10 : 0x1p-20;

			right &= fabs((double)back[c] - (double)w[r * cols + c]) <= s / 2 + rounding * (s * steps + fabs((double)w[r * cols + c])) + 1e-9;
		}
	}
	free(back);
	return right;
}

static void
test_error(int bits)
{
	enum { ROWS = 7, COLS = 50 };
	static const uint64_t groups[] = { 1, 7, 16, 50, TC_GROUP_ROW, TC_GROUP_TENSOR };
	float w[ROWS * COLS];
	int right = 1, sized = 1;

	for (size_t i = 0; i < ROWS * COLS; i++)
		w[i] = (float)(tc_rng_unit(&rng) - 0.4) * (i % 13 == 0 ? 3 : 1);
	for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++)
		for (int zero = 0; zero < TC_ZEROS; zero++)
			for (int levels = 0; levels < 2; levels++)
				for (int f16 = 0; f16 < 2; f16++) {
					struct tc_quant_options o = OPTIONS(bits, groups[g], (enum tc_zero)zero, (enum tc_levels)levels, f16 ? TC_F16 : TC_F32);
					struct tc_quantized q;
					struct tc_tensor t;

					if (run(&o, w, ROWS, COLS, &q) < 0) {
						right = 0;
						continue;
					}
					/* Of one bit a symmetric grid has no level near 0. */
					right &= (bits == 1 && zero == TC_ZERO_NONE) || within(&o, &q, w, ROWS, COLS);
					t = q.t;
					sized &= tc_tensor_layout(&t, &err) == 0 && t.nparts == q.t.nparts && tc_tensor_bytes(&t) == tc_tensor_bytes(&q.t);
					for (int i = 0; i < t.nparts; i++)
						sized &= t.part[i].size_bytes == q.t.part[i].size_bytes && q.t.part[i].data;
					tc_quantized_free(&q);
				}
	ok(right, "%d bits: every weight is within half a step, on every grid, in every group", bits);
	ok(sized, "%d bits: the parts are as large as the layout says", bits);
}

static void
test_zeros(void)
{
	float w[16] = {0}, back[16];
	int right = 1;

	for (int bits = 1; bits <= 8; bits++)
		for (int zero = 0; zero < TC_ZEROS; zero++)
			for (int levels = 0; levels < 2; levels++) {
				struct tc_quant_options o = OPTIONS(bits, 4, (enum tc_zero)zero, (enum tc_levels)levels, TC_F16);
				struct tc_quantized q;

				right &= run(&o, w, 2, 8, &q) == 0;
				tc_tensor_read_rows(&q.t, 0, 2, back);
				for (int i = 0; i < 16; i++)
					right &= back[i] == 0;
				tc_quantized_free(&q);
			}
	ok(right, "zeros are zeros on every grid");
	for (int i = 0; i < 16; i++)
		w[i] = 1e-12f * (float)(i - 8);
	right = 1;
	for (int zero = 0; zero < TC_ZEROS; zero++) {
		struct tc_quant_options o = OPTIONS(4, 4, (enum tc_zero)zero, TC_LEVELS_ODD, TC_F16);
		struct tc_quantized q;

		right &= run(&o, w, 2, 8, &q) == 0;
		tc_tensor_read_rows(&q.t, 0, 2, back);
		for (int i = 0; i < 16; i++)
			right &= fabsf(back[i]) <= 1e-11f;
		tc_quantized_free(&q);
	}
	ok(right, "weights too small for f16 scales become 0, nothing else");
	for (int i = 0; i < 16; i++)
		w[i] = -2.5f;
	right = 1;
	for (int zero = 0; zero < TC_ZEROS; zero++) {
		struct tc_quant_options o = OPTIONS(3, 4, (enum tc_zero)zero, TC_LEVELS_ODD, TC_F32);
		struct tc_quantized q;

		right &= run(&o, w, 2, 8, &q) == 0;
		tc_tensor_read_rows(&q.t, 0, 2, back);
		for (int i = 0; i < 16; i++)
			right &= fabsf(back[i] + 2.5f) <= 1e-6f;
		tc_quantized_free(&q);
	}
	ok(right, "a constant group keeps its value on every grid");
}

static void
test_overflow(void)
{
	float w[16] = {0};

	for (int zero = 0; zero < TC_ZEROS; zero++)
		for (int tensor = 0; tensor < 2; tensor++) {
			struct tc_quant_options o = OPTIONS(2, tensor ? TC_GROUP_TENSOR : 4, (enum tc_zero)zero, TC_LEVELS_ODD, TC_F16);
			struct tc_quantized q;

			w[13] = 1e6f;
			ok(run(&o, w, 2, 8, &q) == -1 && err.code == TC_DATA && strstr(err.msg, "w: row") && !q.owned,
			    "zero %s: a scale beyond f16 is refused: %s", tc_zero_names[zero], err.msg);
			o.scale = TC_F32;
			ok(run(&o, w, 2, 8, &q) == 0, "zero %s: f32 holds it", tc_zero_names[zero]);
			tc_quantized_free(&q);
		}
}

static void
test_threads(void)
{
	enum { ROWS = 97, COLS = 70 };
	static float w[ROWS * COLS];
	struct tc_tensor t = dense(w, ROWS, COLS);
	struct tc_quant_input in = { .w = &t };
	struct tc_pool *pool;
	int same = 1;

	for (size_t i = 0; i < ROWS * COLS; i++)
		w[i] = (float)(tc_rng_unit(&rng) - 0.5);
	if (!ok(tc_pool_open(&pool, 3, &err) == 0, "three threads"))
		return;
	for (int zero = 0; zero < TC_ZEROS; zero++)
		for (int g = 0; g < 3; g++) {
			static const uint64_t groups[] = { 16, TC_GROUP_ROW, TC_GROUP_TENSOR };
			struct tc_quant_options o = OPTIONS(3, groups[g], (enum tc_zero)zero, TC_LEVELS_ODD, TC_F16);
			struct tc_quantized a, b;

			same &= tc_quantizer_run(tc_quantizer_find("rtn"), &o, &in, &a, NULL, &err) == 0 && tc_quantizer_run(tc_quantizer_find("rtn"), &o, &in, &b, pool, &err) == 0;
			for (int i = 0; i < a.t.nparts; i++)
				same &= !memcmp(a.t.part[i].data, b.t.part[i].data, a.t.part[i].size_bytes);
			tc_quantized_free(&a);
			tc_quantized_free(&b);
		}
	tc_pool_close(pool);
	ok(same, "1 and 3 threads give the same bytes");
}

static void
test_all(void)
{
	for (size_t i = 0; i < sizeof(hands) / sizeof(hands[0]); i++)
		test_hand(&hands[i]);
	for (int bits = 1; bits <= 8; bits++) {
		enum tc_dtype scale = bits % 2 ? TC_F32 : TC_F16;

		if (bits > 1) {
			test_known(bits, TC_ZERO_NONE, TC_LEVELS_ODD, scale);
			test_known(bits, TC_ZERO_NONE, TC_LEVELS_FULL, scale);
		}
		test_known(bits, TC_ZERO_INT, TC_LEVELS_ODD, scale);
		test_known(bits, TC_ZERO_MIN, TC_LEVELS_ODD, scale);
		test_error(bits);
	}
	for (int bits = 2; bits <= 4; bits++)
		for (int zero = 0; zero < TC_ZEROS; zero++)
			for (uint64_t group = 8; group <= 128; group *= group == 32 ? 4 : 2)
				test_groups(bits, group, (enum tc_zero)zero);
	test_zeros();
	test_overflow();
	test_threads();
}

int
main(void)
{
	const struct tc_kernels *list[8];
	size_t n = kinds_to_test(list, 8);

	for (size_t k = 0; k < n; k++) {
		if (!ok(tc_kernels_select(list[k]->name, &err) == 0, "with the kernels of %s", list[k]->name))
			return done_testing();
		tc_rng_seed(&rng, 4);
		test_all();
	}
	ok(tc_quantizer_find("rtn") && tc_quantizer_find("rtn")->fitter == tc_rtn_fitter && !tc_quantizer_find("rt"),
	    "the table has rtn");
	return done_testing();
}
