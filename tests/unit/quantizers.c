/* The quantizers that choose levels: cases by hand, errors against round to
 * nearest and against each other, NormalFloat's construction and half-quadratic
 * quantization in double, degenerate groups, nearest codes, and the same bytes
 * at any number of threads. */
#include <math.h>
#include <string.h>

#include "gauss.h"
#include "kernel/kernel.h"
#include "quantized.h"
#include "tap.h"

enum { ROWS = 11, COLS = 150 };

static const uint64_t groups[] = { 1, 7, 32, 100, TC_GROUP_ROW, TC_GROUP_TENSOR };
enum { GROUPS = sizeof(groups) / sizeof(groups[0]) };

static struct tc_rng rng;
static struct tc_err err;

/* Normally distributed weights, now and then a large one. */
static void
make_weights(float *w, size_t n, double large)
{
	for (size_t i = 0; i < n; i++)
		w[i] = (float)(gauss(&rng) * (i % 61 == 17 ? large : 1));
}

static int
run_on(const char *method, const struct tc_quant_options *o, const struct tc_quant_input *in, struct tc_pool *pool,
    struct tc_quantized *q)
{
	err = (struct tc_err){0};
	*q = (struct tc_quantized){0};
	return tc_quantizer_run(tc_quantizer_find(method), o, in, q, pool, &err);
}

static int
run(const char *method, const struct tc_quant_options *o, const float *w, size_t rows, size_t cols,
    const double *squares, struct tc_quantized *q)
{
	struct tc_tensor t = dense(w, rows, cols);

	return run_on(method, o, &(struct tc_quant_input){ .w = &t, .squares = squares }, NULL, q);
}

static uint8_t
code_at(const struct tc_quantized *q, size_t row, size_t col)
{
	int bits = q->t.format.bits;

	return tc_packed_at((const uint8_t *)q->t.part[0].data + row * tc_packed_bytes(tc_tensor_cols(&q->t), bits), col, bits);
}

static size_t
group_at(const struct tc_quantized *q, size_t row, size_t col)
{
	const struct tc_format *f = &q->t.format;
	size_t n = tc_format_row_groups(f, tc_tensor_cols(&q->t));

	return f->group == TC_GROUP_TENSOR ? 0 : row * n + (n == 1 ? 0 : col / f->group);
}

/* What a code of a group stands for, by tensor.h. */
static double
value(const struct tc_quantized *q, size_t group, int code)
{
	const struct tc_format *f = &q->t.format;
	double s = (double)scale_at(q, 1, group);

	if (f->encoding == TC_CODEBOOK)
		return s * (double)((const float *)q->t.part[2].data)[code];
	if (f->zero == TC_ZERO_MIN)
		return s * code + (double)scale_at(q, 2, group);
	if (f->zero == TC_ZERO_INT)
		return s * (code - tc_packed_at(q->t.part[2].data, group, f->bits));
	return f->bits == 1 ? s * (2 * code - 1) : s * (code - (1 << (f->bits - 1)));
}

static size_t
groups_of(const struct tc_quantized *q)
{
	return group_at(q, tc_tensor_rows(&q->t) - 1, tc_tensor_cols(&q->t) - 1) + 1;
}

/* Of every group the sum of a |w - v|^p: [groups], to be freed. */
static double *
group_errors(const struct tc_quantized *q, const float *w, const double *a, double p)
{
	size_t cols = tc_tensor_cols(&q->t);
	double *sum = calloc(groups_of(q), sizeof(*sum));

	for (size_t i = 0; i < tc_tensor_elements(&q->t); i++) {
		size_t g = group_at(q, i / cols, i % cols);
		double r = fabs((double)w[i] - value(q, g, code_at(q, i / cols, i % cols)));

		sum[g] += (a ? a[i % cols] : 1) * (p == 2 ? r * r : pow(r, p));
	}
	return sum;
}

static double
error(const struct tc_quantized *q, const float *w, const double *a, double p)
{
	double *of = group_errors(q, w, a, p), sum = 0;

	for (size_t g = 0; g < groups_of(q); g++)
		sum += of[g];
	free(of);
	return sum;
}

/* ---- every method ---- */

/* Reads back to what the parts say, and no other code is nearer. */
static int
is_nearest(const struct tc_quantized *q, const float *w, int low)
{
	size_t rows = tc_tensor_rows(&q->t), cols = tc_tensor_cols(&q->t);
	float *back = malloc(rows * cols * sizeof(*back));
	int right = 1;

	tc_tensor_read_rows(&q->t, 0, rows, back);
	for (size_t i = 0; i < rows * cols; i++) {
		size_t g = group_at(q, i / cols, i % cols);
		double is = value(q, g, code_at(q, i / cols, i % cols)), last = value(q, g, (1 << q->t.format.bits) - 1);
		double slack = 1e-6 * (fabs(value(q, g, 0)) + fabs(last));   /* f32's rounding */

		right &= isfinite(back[i]) && fabs((double)back[i] - is) <= slack;
		for (int code = low; code < 1 << q->t.format.bits; code++)
			right &= fabs((double)w[i] - is) <= fabs((double)w[i] - value(q, g, code)) + slack;
	}
	free(back);
	return right;
}

/* The same weights, in every group; the parts are as large as the layout says. */
static void
test_nearest(const struct tc_quantizer *m)
{
	static float w[ROWS * COLS];
	int right = 1, sized = 1;

	make_weights(w, ROWS * COLS, 4);
	for (int bits = m->bits_min; bits <= m->bits_max; bits++)
		for (int i = 0; i < GROUPS * TC_ZEROS * 4; i++) {
			enum tc_levels levels = i / GROUPS / TC_ZEROS % 2 ? TC_LEVELS_FULL : TC_LEVELS_ODD;
			struct tc_quant_options o = OPTIONS(bits, groups[i % GROUPS], (enum tc_zero)(i / GROUPS % TC_ZEROS), levels,
			    i / GROUPS / TC_ZEROS / 2 ? TC_F16 : TC_F32);
			struct tc_quantized q;
			struct tc_tensor t;

			if (m->zeros ? !(m->zeros >> o.zero & 1) : o.zero != TC_ZERO_NONE)
				continue;
			if (run(m->name, &o, w, ROWS, COLS, NULL, &q) < 0) {
				right = 0;
				continue;
			}
			right &= is_nearest(&q, w, m->zeros && o.zero == TC_ZERO_NONE && o.levels == TC_LEVELS_ODD && bits > 1);
			t = q.t;
			sized &= tc_tensor_layout(&t, &err) == 0 && t.nparts == q.t.nparts && t.format.bits == bits &&
			    t.format.encoding == (m->zeros ? TC_UNIFORM : TC_CODEBOOK);
			for (int part = 0; part < t.nparts; part++)
				sized &= t.part[part].size_bytes == q.t.part[part].size_bytes;
			tc_quantized_free(&q);
		}
	ok(right, "%s: codes are the nearest ones and read back finite, in every group", m->name);
	ok(sized, "%s: the parts are as large as the layout says", m->name);
}

static struct tc_quant_options
plain(const struct tc_quantizer *m, uint64_t group, enum tc_dtype scale)
{
	return (struct tc_quant_options)OPTIONS(m->bits_min > 3 ? m->bits_min : 3, group, TC_ZERO_MIN, TC_LEVELS_ODD, scale);
}

static void
test_degenerate(const struct tc_quantizer *m)
{
	struct tc_quant_options o = plain(m, 4, TC_F16);
	float w[32] = {0}, back[32];
	struct tc_quantized q;
	int right;

	right = run(m->name, &o, w, 2, 16, NULL, &q) == 0;
	tc_tensor_read_rows(&q.t, 0, 2, back);
	for (int i = 0; i < 32; i++)
		right &= back[i] == 0;
	tc_quantized_free(&q);
	ok(right, "%s: zeros are zeros", m->name);

	for (int i = 0; i < 32; i++)
		w[i] = i < 16 ? -2.5f : 0.75f;
	right = 1;
	for (int g = 0; g < 2; g++) {
		o.group = g ? TC_GROUP_ROW : 4;
		right &= run(m->name, &o, w, 2, 16, NULL, &q) == 0;
		tc_tensor_read_rows(&q.t, 0, 2, back);
		for (int i = 0; i < 32; i++)
			right &= back[i] == w[i];
		tc_quantized_free(&q);
	}
	ok(right, "%s: constant groups keep their value", m->name);

	o = plain(m, 16, TC_F16);
	w[5] = 1e6f;
	ok(run(m->name, &o, w, 2, 16, NULL, &q) == -1 && err.code == TC_DATA && strstr(err.msg, "w: row 0") && !q.owned,
	    "%s: a scale beyond f16 is refused: %s", m->name, err.msg);
	o.scale = TC_F32;
	right = run(m->name, &o, w, 2, 16, NULL, &q) == 0;
	tc_tensor_read_rows(&q.t, 0, 2, back);
	ok(right && fabsf(back[5] - 1e6f) <= 1e5f && back[16] == w[16], "%s: with f32 an outlier of a million is kept, near enough", m->name);
	tc_quantized_free(&q);
}

static void
test_threads(const struct tc_quantizer *m, struct tc_pool *pool)
{
	static float w[ROWS * COLS], fisher[ROWS * COLS];
	struct tc_tensor t = dense(w, ROWS, COLS);
	struct tc_quant_input in = { .w = &t, .fisher = fisher };
	int same = 1;

	make_weights(w, ROWS * COLS, 4);
	for (size_t i = 0; i < ROWS * COLS; i++)
		fisher[i] = (float)(gauss(&rng) * gauss(&rng));
	for (int g = 0; g < GROUPS; g++) {
		struct tc_quant_options o = plain(m, groups[g], TC_F16);
		struct tc_quantized a, b;

		if (run_on(m->name, &o, &in, NULL, &a) < 0 || run_on(m->name, &o, &in, pool, &b) < 0) {
			same = 0;
			continue;
		}
		for (int i = 0; i < a.t.nparts; i++)
			same &= !memcmp(a.t.part[i].data, b.t.part[i].data, a.t.part[i].size_bytes);
		tc_quantized_free(&a);
		tc_quantized_free(&b);
	}
	ok(same, "%s: 1 and 3 threads give the same bytes", m->name);
}

/* ---- rtn, ranges searched for ---- */

/* As the authors' code of GPTQ does it, of one group: the least sum of |r|^2.4. */
static double
least_error(const float *w, size_t n, int bits, enum tc_zero zero)
{
	double low = 0, high = 0, least = INFINITY;
	int top = (1 << bits) - 1;

	for (size_t i = 0; i < n; i++) {
		low = fmin(low, (double)w[i]);
		high = fmax(high, (double)w[i]);
	}
	if (zero == TC_ZERO_NONE)
		low = -(high = fmax(high, -low));
	for (int k = 0; k < 80; k++) {
		double p = 1 - k / 100.0, s = p * (high - low) / top, sum = 0;
		double z = zero == TC_ZERO_NONE ? 1 << (bits - 1) : nearbyint(-p * low / s);

		for (size_t i = 0; i < n; i++)
			sum += pow(fabs(s * (fmin(fmax(nearbyint((double)w[i] / s) + z, 0), top) - z) - (double)w[i]), 2.4);
		least = fmin(least, sum);
	}
	return least;
}

static void
test_mse(int bits, enum tc_zero zero)
{
	static float w[ROWS * COLS];
	struct tc_quant_options o = OPTIONS(bits, 25, zero, TC_LEVELS_FULL, TC_F32);
	struct tc_quantized mse, rtn;
	double *ours, *theirs, far = 0;
	int right = 1;

	make_weights(w, ROWS * COLS, 3);
	if (!ok(run("rtn", &o, w, ROWS, COLS, NULL, &rtn) == 0 && (o.mse = true) && run("rtn", &o, w, ROWS, COLS, NULL, &mse) == 0,
	    "rtn, mse: %d bits, zero %s: runs", bits, tc_zero_names[zero]))
		return;
	ours = group_errors(&mse, w, NULL, 2.4);
	theirs = group_errors(&rtn, w, NULL, 2.4);
	for (size_t g = 0; g < groups_of(&mse); g++) {
		right &= ours[g] <= theirs[g] * (1 + 1e-6);
		if (zero != TC_ZERO_MIN)
			far = fmax(far, fabs(ours[g] / least_error(w + g * 25, 25, bits, zero) - 1));
	}
	free(ours);
	free(theirs);
	ok(right, "rtn, mse: %d bits, zero %s: no group is worse, all %.2f of the error", bits, tc_zero_names[zero],
	    error(&mse, w, NULL, 2.4) / error(&rtn, w, NULL, 2.4));
	ok(far < 1e-4, "rtn, mse: %d bits, zero %s: the authors' least error within %.1e", bits, tc_zero_names[zero], far);
	tc_quantized_free(&mse);
	tc_quantized_free(&rtn);
}

/* ---- opt ---- */

/* One group of 4: the best scale, minimum or zero point. */
struct hand {
	const char *name;
	struct tc_quant_options o;
	float w[4];
	double squares[4];
	double scale, zero;
};

static const struct hand hands[] = {
	{ "1 bit: the mean magnitude", { .bits = 1, .levels = TC_LEVELS_FULL, .scale = TC_F32 },
	  { 1, -2, 3, -4 }, { 1, 1, 1, 1 }, 2.5, 0 },
	{ "1 bit, weighted", { .bits = 1, .scale = TC_F32 },
	  { 1, -2, 3, -4 }, { 5, 1, 1, 1 }, 14.0 / 8, 0 },
	{ "symmetric: all in one level", { .bits = 2, .scale = TC_F32 },
	  { 1, 1, 1, 1.5f }, { 1, 1, 1, 1 }, 1.125, 0 },
	{ "all levels: the odd one is needed above 0", { .bits = 2, .levels = TC_LEVELS_FULL, .scale = TC_F32 },
	  { 2, 1, 0, -1 }, { 1, 1, 1, 1 }, -1, 0 },
	{ "asymmetric", { .bits = 2, .zero = TC_ZERO_INT, .scale = TC_F32 },
	  { -1, 0, 1, 2.2f }, { 1, 1, 1, 1 }, 6.4 / 6, 1 },
	{ "asymmetric, weighted", { .bits = 2, .zero = TC_ZERO_INT, .scale = TC_F32 },
	  { -1, 0, 1, 2.2f }, { 1, 1, 1, 100 }, 442.0 / 402, 1 },
	{ "float minimum: a line through the weights", { .bits = 2, .zero = TC_ZERO_MIN, .scale = TC_F32 },
	  { 0, 1, 2, 3.3f }, { 1, 1, 1, 1 }, 1.09, -0.06 },
	{ "inputs that are always 0 count for nothing", { .bits = 1, .scale = TC_F32 },
	  { 1, -2, 3, 40 }, { 1, 1, 1, 0 }, 2, 0 },
	{ "when all are, they count alike", { .bits = 1, .scale = TC_F32 },
	  { 1, -2, 3, -4 }, { 0, 0, 0, 0 }, 2.5, 0 },
};

static void
test_hand(const struct hand *h)
{
	struct tc_quantized q;
	double zero = 0;

	if (!ok(run("opt", &h->o, h->w, 1, 4, h->squares, &q) == 0, "opt: %s: runs", h->name))
		return;
	if (h->o.zero == TC_ZERO_INT)
		zero = tc_packed_at(q.t.part[2].data, 0, h->o.bits);
	else if (h->o.zero == TC_ZERO_MIN)
		zero = (double)scale_at(&q, 2, 0);
	ok(fabs((double)scale_at(&q, 1, 0) - h->scale) <= 1e-6 && fabs(zero - h->zero) <= 1e-6, "opt: %s: scale %g, zero %g",
	    h->name, (double)scale_at(&q, 1, 0), zero);
	tc_quantized_free(&q);
}

/* Squared gradients count before squares of inputs, which count where all of a
 * group's gradients are 0. */
static void
test_opt_fisher(void)
{
	static const float w[12] = { 1, -2, 3, -4, 1, -2, 3, 40, 1, -2, 3, -4 };
	static const float fisher[12] = { 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0 };
	static const double squares[4] = { 1, 1, 1, 5 };
	struct tc_quant_options o = OPTIONS(1, TC_GROUP_ROW, TC_ZERO_NONE, TC_LEVELS_ODD, TC_F32);
	struct tc_tensor t = dense(w, 3, 4);
	struct tc_quant_input in = { .w = &t, .squares = squares, .fisher = fisher };
	struct tc_quantized q;

	ok(run_on("opt", &o, &in, NULL, &q) == 0 && fabsf(scale_at(&q, 1, 0) - 14.0f / 8) < 1e-6f &&
	    fabsf(scale_at(&q, 1, 1) - 2) < 1e-6f && fabsf(scale_at(&q, 1, 2) - 26.0f / 8) < 1e-6f,
	    "opt: by squared gradients, row by row");
	tc_quantized_free(&q);
	o.group = TC_GROUP_TENSOR;
	ok(run_on("opt", &o, &in, NULL, &q) == 0 && fabsf(scale_at(&q, 1, 0) - 20.0f / 11) < 1e-6f, "opt: and of the whole tensor");
	tc_quantized_free(&q);
}

static int
by_magnitude(const void *a, const void *b)
{
	float x = fabsf(*(const float *)a), y = fabsf(*(const float *)b);

	return (x < y) - (x > y);
}

/* The least squared error of s times -1, 0 or 1: the k largest magnitudes' mean is
 * their best s, for some k. */
static double
ternary_error(const float *w, size_t n)
{
	double sum = 0, squares = 0, best = 0;
	float by_size[COLS];

	memcpy(by_size, w, n * sizeof(*w));
	qsort(by_size, n, sizeof(*w), by_magnitude);
	for (size_t k = 0; k < n; k++) {
		sum += fabs((double)by_size[k]);
		squares += (double)w[k] * (double)w[k];
		best = fmax(best, sum * sum / (double)(k + 1));
	}
	return squares - best;
}

static void
test_ternary(void)
{
	static float w[ROWS * COLS];
	struct tc_quant_options o = OPTIONS(2, 50, TC_ZERO_NONE, TC_LEVELS_ODD, TC_F32);
	struct tc_quantized q;
	double *ours, all = 0, least = 0, worst = 0;
	int three = 1;

	make_weights(w, ROWS * COLS, 3);
	if (!ok(run("opt", &o, w, ROWS, COLS, NULL, &q) == 0, "opt: ternary: runs"))
		return;
	for (size_t i = 0; i < ROWS * COLS; i++)
		three &= code_at(&q, i / COLS, i % COLS) >= 1;
	ours = group_errors(&q, w, NULL, 2);
	for (size_t g = 0; g < groups_of(&q); g++) {
		double of = ternary_error(w + g * 50, 50);

		all += ours[g];
		least += of;
		worst = fmax(worst, ours[g] / of);
	}
	free(ours);
	ok(three, "opt: ternary: three of four codes are used");
	ok(all < 1.001 * least && worst < 1.02, "opt: ternary: %.4f of the least squared error there is, at worst %.3f", all / least, worst);
	tc_quantized_free(&q);
}

/* No group is worse than round to nearest's; how much better all are. */
static double
gain(const struct tc_quant_options *o, const float *w, const double *squares, int *right)
{
	struct tc_quantized opt, rtn;
	double before = 0, after = 0, *a, *b;

	if (run("opt", o, w, ROWS, COLS, squares, &opt) < 0 || run("rtn", o, w, ROWS, COLS, squares, &rtn) < 0) {
		*right = 0;
		return 0;
	}
	a = group_errors(&opt, w, squares, 2);
	b = group_errors(&rtn, w, squares, 2);
	for (size_t g = 0; g < groups_of(&opt); g++) {
		*right &= a[g] <= b[g] * (1 + 1e-6) + 1e-9;
		before += b[g];
		after += a[g];
	}
	free(a);
	free(b);
	tc_quantized_free(&opt);
	tc_quantized_free(&rtn);
	return before / after;
}

static void
test_opt(int bits, enum tc_zero zero, enum tc_levels levels)
{
	static float w[ROWS * COLS];
	double squares[COLS], gained = 0;
	int right = 1;

	make_weights(w, ROWS * COLS, bits % 2 ? 10 : 1);
	for (size_t i = 0; i < COLS; i++)
		squares[i] = i % 13 == 5 ? 0 : exp(2 * gauss(&rng));
	for (int g = 0; g < GROUPS; g++)
		for (int f16 = 0; f16 < 2; f16++) {
			struct tc_quant_options o = OPTIONS(bits, groups[g], zero, levels, f16 ? TC_F16 : TC_F32);

			gain(&o, w, NULL, &right);
			gained = gain(&o, w, squares, &right);
		}
	ok(right, "opt: %d bits, zero %s, %s levels: no group is worse than rtn's, weighted or not (whole tensor: %.2f times better)",
	    bits, tc_zero_names[zero], levels == TC_LEVELS_ODD ? "odd" : "all", gained);
}

/* ---- NormalFloat ---- */

/* The normal distribution's quantile function, by bisection. */
static double
quantile(double p)
{
	double low = -10, high = 10;

	for (int i = 0; i < 100; i++) {
		double x = (low + high) / 2;

		if (erfc(-x / sqrt(2)) / 2 < p)
			low = x;
		else
			high = x;
	}
	return low;
}

static void
test_normal(const char *method, int bits, double tolerance)
{
	float w[2] = { 1, -0.01f };
	struct tc_quant_options o = { .bits = bits, .group = TC_GROUP_ROW, .scale = TC_F32 };
	int half = 1 << (bits - 1), right = 1;
	double d = 1 - (1.0 / (4 * half) + 1.0 / (4 * half - 2)) / 2;
	struct tc_quantized q;
	const float *table;

	if (!ok(run(method, &o, w, 1, 2, NULL, &q) == 0 && q.t.format.bits == bits, "%s: runs", method))
		return;
	table = q.t.part[2].data;
	for (int i = 0; i < half; i++)
		right &= fabs((double)table[2 * half - 1 - i] - quantile(d - i * (d - 0.5) / half) / quantile(d)) <= tolerance;
	for (int i = 0; i < half - 1; i++)
		right &= fabs((double)table[i] + quantile(d - i * (d - 0.5) / (half - 1)) / quantile(d)) <= tolerance;
	right &= table[half - 1] == 0;
	ok(right, "%s: its levels are quantiles of the normal distribution, within %g", method, tolerance);
	tc_quantized_free(&q);
}

static void
test_nf4(void)
{
	/* The third lies half-way between two levels' neighbours, the fourth just
	 * above the middle of 0 and 0.0796. */
	static const float w[8] = { 2, -2, 0.5f, 0.0797f, -0.0909f, 0.33f, -1.2f, 0 };
	static const uint8_t codes[8] = { 15, 0, 10, 8, 7, 9, 2, 7 };
	struct tc_quant_options o = { .group = 8, .scale = TC_F16 };
	struct tc_quantized q;
	int right;

	right = run("nf4", &o, w, 1, 8, NULL, &q) == 0 && scale_at(&q, 1, 0) == 2;
	for (size_t i = 0; i < 8; i++)
		right &= code_at(&q, 0, i) == codes[i];
	ok(right, "nf4: the codes of 8 weights, whatever bits are asked for");
	tc_quantized_free(&q);
}

/* ---- lloyd ---- */

static int
has_levels(const struct tc_quantized *q, const double *level, int n)
{
	const float *table = q->t.part[2].data;
	int right = 1;

	for (int i = 0; i < n; i++)
		right &= fabs((double)table[i] - level[i]) <= 1e-6;
	if (!right)
		printf("# levels %g %g %g %g\n", (double)table[0], (double)table[1], (double)table[2], (double)table[3]);
	return right;
}

static void
test_lloyd_hand(void)
{
	/* In units of their group's largest: -1 0.25 0.75 1, and two that share a
	 * level. */
	static const float w[8] = { -4, 1, 3, 4, 1, 0.25f, 0.7f, -1 };
	static const float fisher[8] = { 1, 1, 1, 1, 1, 1, 48, 1 };
	static const double squares[4] = { 1, 1, 3, 1 };
	struct tc_quant_options o = { .bits = 2, .group = TC_GROUP_ROW, .scale = TC_F32 };
	struct tc_tensor t = dense(w, 2, 4);
	struct tc_quantized q;

	ok(run("lloyd", &o, w, 2, 4, NULL, &q) == 0 && has_levels(&q, (double[]){ -1, 0.25, (16 * 0.75 + 0.7) / 17, 1 }, 4),
	    "lloyd: the levels of 2 x 4 weights, by their scales' squares");
	tc_quantized_free(&q);
	ok(run("lloyd", &o, w, 2, 4, squares, &q) == 0 && has_levels(&q, (double[]){ -1, 0.25, (16 * 0.75 + 0.7) / 17, 1 }, 4),
	    "lloyd: the same when an input's importance is the same for what shares a level");
	tc_quantized_free(&q);
	ok(run_on("lloyd", &o, &(struct tc_quant_input){ .w = &t, .squares = squares, .fisher = fisher }, NULL, &q) == 0 &&
	    has_levels(&q, (double[]){ -1, 0.25, (16 * 0.75 + 48 * 0.7) / 64, 1 }, 4), "lloyd: by squared gradients");
	tc_quantized_free(&q);
}

/* At the same scales and of as many levels, learned ones are better than the
 * normal distribution's; those for some importance are better by it. */
static void
test_lloyd(const char *normal, int bits)
{
	enum { N = 200 };
	static float w[N * N], fisher[N * N];
	static double squares[N];
	struct tc_quant_options o = { .bits = bits, .group = 50, .scale = TC_F16 };
	struct tc_tensor t = dense(w, N, N);
	struct tc_quant_input in = { .w = &t, .squares = squares, .fisher = fisher };
	struct tc_quantized nf, learned, weighted;
	double a, b, c, by, without;

	make_weights(w, N * N, 1);
	for (size_t i = 0; i < N; i++)
		squares[i] = exp(3 * gauss(&rng));
	for (size_t i = 0; i < N * N; i++)
		fisher[i] = 0;
	if (!ok(run(normal, &o, w, N, N, NULL, &nf) == 0 && run("lloyd", &o, w, N, N, NULL, &learned) == 0 &&
	    run_on("lloyd", &o, &in, NULL, &weighted) == 0, "lloyd: %d bits: runs", bits))
		return;
	a = error(&nf, w, NULL, 2);
	b = error(&learned, w, NULL, 2);
	c = error(&weighted, w, NULL, 2);
	by = error(&weighted, w, squares, 2);
	without = error(&learned, w, squares, 2);
	ok(b < a && tc_tensor_bytes(&nf.t) == tc_tensor_bytes(&learned.t), "lloyd: %d bits: error %.4f, %s's %.4f", bits, b / (N * N), normal, a / (N * N));
	ok(by < without && c > b, "lloyd: %d bits: squares are heeded where gradients are all 0 (%.4f, without them %.4f)", bits, by, without);
	tc_quantized_free(&nf);
	tc_quantized_free(&learned);
	tc_quantized_free(&weighted);
}

/* ---- hqq ---- */

/* The paper's iteration on one group, in double, with a real zero point;
 * returns the minimum. */
static double
half_quadratic(const float *w, size_t n, int top, double scale, double min)
{
	double z = -min / scale, best = z, least = INFINITY, beta = 10;

	for (int round = 0; round < 20; round++, beta *= 1.01) {
		double sum = 0, magnitude = 0;

		for (size_t i = 0; i < n; i++) {
			double q = fmin(fmax(nearbyint((double)w[i] / scale + z), 0), top), r = (double)w[i] - scale * (q - z);
			double e = copysign(fmax(fabs(r) - pow(fabs(r), 0.7 - 1) / beta, 0), r);

			sum += q - ((double)w[i] - e) / scale;
			magnitude += fabs(r);
		}
		if (magnitude >= least)
			break;
		least = magnitude;
		best = z;
		z = sum / (double)n;
	}
	return -scale * best;
}

static void
test_hqq(int bits)
{
	static float w[ROWS * COLS];
	struct tc_quant_options o = OPTIONS(bits, 25, TC_ZERO_MIN, TC_LEVELS_ODD, TC_F32);
	struct tc_quantized hqq, rtn;
	double far = 0, a, b, *ours, *theirs;
	int right = 1;

	make_weights(w, ROWS * COLS, 1);
	if (!ok(run("hqq", &o, w, ROWS, COLS, NULL, &hqq) == 0 && run("rtn", &o, w, ROWS, COLS, NULL, &rtn) == 0, "hqq: %d bits: runs", bits))
		return;
	ours = group_errors(&hqq, w, NULL, 1);
	theirs = group_errors(&rtn, w, NULL, 1);
	for (size_t g = 0; g < groups_of(&hqq); g++) {
		double s = (double)scale_at(&rtn, 1, g), m = half_quadratic(w + g * 25, 25, (1 << bits) - 1, s, (double)scale_at(&rtn, 2, g));

		right &= (double)scale_at(&hqq, 1, g) == s && ours[g] <= theirs[g] * (1 + 1e-6);
		far = fmax(far, fabs((double)scale_at(&hqq, 2, g) - m) / s);
	}
	free(ours);
	free(theirs);
	a = error(&hqq, w, NULL, 0.7);
	b = error(&rtn, w, NULL, 0.7);
	ok(right, "hqq: %d bits: the scales are rtn's, no group is worse by the sum of magnitudes", bits);
	ok(far < 1e-3, "hqq: %d bits: the minima are the paper's, within %.1e of a step", bits, far);
	ok(a < b, "hqq: %d bits: sum of |r|^0.7 %.2f, rtn's %.2f", bits, a, b);
	tc_quantized_free(&hqq);
	tc_quantized_free(&rtn);
}

/* Scales of 8 bits: each is next to what it would be, and weights are rounded on
 * the grid that is stored. */
static void
test_fine(const struct tc_quantizer *m, struct tc_pool *pool)
{
	enum { ROWS = 40, COLS = 160, GROUP = 16, GROUPS = ROWS * COLS / GROUP };
	struct tc_quant_options o = OPTIONS(m->bits_max < 4 ? m->bits_max : 4, GROUP, TC_ZERO_INT, TC_LEVELS_ODD, TC_F32), fine = o;
	float *w = malloc(ROWS * COLS * sizeof(*w)), a[COLS], b[COLS];
	struct tc_tensor t = dense(w, ROWS, COLS);
	struct tc_quantized q[3];
	double worst = 0, error[2] = { 0, 0 };
	bool same;

	for (size_t i = 0; i < ROWS * COLS; i++)
		w[i] = (float)((tc_rng_unit(&rng) + tc_rng_unit(&rng) - 1) * (1 + (double)(i / COLS % 5)));
	fine.scale = TC_U8;
	if (!ok(tc_quantizer_run(m, &o, &(struct tc_quant_input){ .w = &t }, &q[0], NULL, &err) == 0 &&
	    tc_quantizer_run(m, &fine, &(struct tc_quant_input){ .w = &t }, &q[1], NULL, &err) == 0 &&
	    tc_quantizer_run(m, &fine, &(struct tc_quant_input){ .w = &t }, &q[2], pool, &err) == 0, "%s: scales of 8 bits", m->name))
		return;
	for (size_t i = 0; i < GROUPS; i++) {
		const float *step = (const float *)tc_tensor_part(&q[1].t, "scale_steps")->data + i / TC_SCALE_BLOCK * 2;

		worst = fmax(worst, fabs((double)tc_tensor_scale(&q[1].t, i) - (double)tc_tensor_scale(&q[0].t, i)) / (double)step[1]);
	}
	ok(worst <= 0.5001, "... are the nearest of 256 (%.3f steps)", worst);
	for (size_t r = 0; r < ROWS; r++) {
		tc_tensor_read_rows(&q[0].t, r, 1, a);
		tc_tensor_read_rows(&q[1].t, r, 1, b);
		for (size_t c = 0; c < COLS; c++) {
			error[0] += ((double)a[c] - (double)w[r * COLS + c]) * ((double)a[c] - (double)w[r * COLS + c]);
			error[1] += ((double)b[c] - (double)w[r * COLS + c]) * ((double)b[c] - (double)w[r * COLS + c]);
		}
	}
	ok(error[1] < 1.05 * error[0], "... cost little (%.3f of the error)", error[1] / error[0]);
	same = memcmp(q[1].owned, q[2].owned, tc_tensor_bytes(&q[1].t)) == 0;
	ok(same, "... and are the same with three threads");
	for (int i = 0; i < 3; i++)
		tc_quantized_free(&q[i]);
	free(w);
}

int
main(void)
{
	struct tc_pool *pool;

	if (!ok(tc_kernels_select(NULL, &err) == 0, "the best kernels"))
		return done_testing();
	tc_rng_seed(&rng, 5);
	if (!ok(tc_pool_open(&pool, 3, &err) == 0, "three threads"))
		return done_testing();
	for (const struct tc_quantizer *m = tc_quantizers; m->name; m++)
		if (m->needs == TC_NEEDS_NOTHING) {
			test_nearest(m);
			test_degenerate(m);
			test_threads(m, pool);
		}
	for (size_t i = 0; i < sizeof(hands) / sizeof(hands[0]); i++)
		test_hand(&hands[i]);
	test_opt_fisher();
	test_ternary();
	for (int bits = 1; bits <= 8; bits++) {
		test_opt(bits, TC_ZERO_NONE, TC_LEVELS_ODD);
		test_opt(bits, TC_ZERO_NONE, TC_LEVELS_FULL);
		test_opt(bits, TC_ZERO_INT, TC_LEVELS_ODD);
		test_opt(bits, TC_ZERO_MIN, TC_LEVELS_ODD);
	}
	for (int bits = 2; bits <= 4; bits++)
		for (int zero = 0; zero < TC_ZEROS; zero++)
			test_mse(bits, (enum tc_zero)zero);
	test_normal("nf4", 4, 3e-7);   /* published constants: f32 quantiles */
	test_normal("nf3", 3, 3e-8);   /* half a unit of f32's last place */
	test_nf4();
	test_lloyd_hand();
	test_lloyd("nf3", 3);
	test_lloyd("nf4", 4);
	for (int bits = 2; bits <= 5; bits++)
		test_hqq(bits);
	for (const struct tc_quantizer *m = tc_quantizers; m->name; m++)
		if (m->fitter)
			test_fine(m, pool);
	tc_pool_close(pool);
	return done_testing();
}
