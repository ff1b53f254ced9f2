/* K-means and the codebooks of vectors it learns: planted centres, nearest codes
 * against all others in double, weights heeded, errors that fall with bits and
 * stages, codebooks shared, and the same bytes at any number of threads; on every
 * kind of CPU. */
#include <math.h>
#include <string.h>

#include "gauss.h"
#include "kinds.h"
#include "method/pq.h"
#include "quantized.h"

enum { ROWS = 70, COLS = 83, OPTIONS_TRIED = 7 };

static struct tc_rng rng;
static struct tc_err err;
static struct tc_pool *three;

/* ---- k-means ---- */

static struct tc_points
points(size_t n, size_t dim)
{
	struct tc_points p = { .dim = dim };

	if (tc_points_add(&p, n, &err) < 0)
		exit(1);
	return p;
}

static void
put(struct tc_points *p, size_t i, size_t j, double a, double x)
{
	float *at = tc_point_at((float *)(void *)p->panels.p, p->dim, i);
	size_t nr = tc_kernels()->nr;

	at[j * nr] = (float)a;
	at[(p->dim + j) * nr] = (float)a * (float)x;
}

static double
distance(const struct tc_points *p, size_t i, const float *center)
{
	const float *at = tc_point_at((float *)(void *)p->panels.p, p->dim, i);
	size_t nr = tc_kernels()->nr;
	double sum = 0;

	for (size_t j = 0; j < p->dim; j++) {
		double a = (double)at[j * nr], x = a > 0 ? (double)at[(p->dim + j) * nr] / a : 0;

		sum += a * (x - (double)center[j]) * (x - (double)center[j]);
	}
	return sum;
}

static double
nearest(const struct tc_points *p, size_t i, const float *center, size_t n)
{
	double least = INFINITY;

	for (size_t k = 0; k < n; k++)
		least = fmin(least, distance(p, i, center + k * p->dim));
	return least;
}

static void
test_planted(const char *kind)
{
	enum { CENTRES = 8, DIM = 5, POINTS = 700 };
	struct tc_points p = points(POINTS, DIM);
	double planted[CENTRES][DIM];
	float center[CENTRES * DIM];
	int right = 1;

	for (int k = 0; k < CENTRES; k++)
		for (int j = 0; j < DIM; j++)
			planted[k][j] = 10 * gauss(&rng);
	for (size_t i = 0; i < POINTS; i++)
		for (size_t j = 0; j < DIM; j++)
			put(&p, i, j, 0.5 + tc_rng_unit(&rng), planted[i % CENTRES][j] + 0.01 * gauss(&rng));
	right = tc_kmeans_run(&p, CENTRES, center, NULL, &err) == 0;
	for (int k = 0; k < CENTRES; k++) {
		double least = INFINITY;

		for (int c = 0; c < CENTRES; c++) {
			double sum = 0;

			for (int j = 0; j < DIM; j++)
				sum += pow((double)center[c * DIM + j] - planted[k][j], 2);
			least = fmin(least, sum);
		}
		right &= least < 1e-3 * DIM;
	}
	ok(right, "%s: k-means finds the centres that points lie around", kind);
	tc_points_free(&p);
}

static void
test_nearest(const char *kind)
{
	enum { CENTRES = 100, DIM = 7, POINTS = 90 };
	struct tc_points p = points(POINTS, DIM);
	static float center[CENTRES * DIM], terms[2 * CENTRES * DIM], scores[CENTRES * TC_NR_MAX];
	size_t nr = tc_kernels()->nr;
	int right = 1, measured = 1, less = 1;

	for (size_t i = 0; i < CENTRES * DIM; i++)
		center[i] = (float)gauss(&rng);
	memcpy(center + (CENTRES - 1) * DIM, center, DIM * sizeof(*center));   /* equal to the first */
	for (size_t i = 0; i < POINTS; i++)
		for (size_t j = 0; j < DIM; j++)
			put(&p, i, j, i % 5 == j ? 0 : 2 * tc_rng_unit(&rng), gauss(&rng));
	tc_kmeans_terms(center, CENTRES, DIM, terms);
	for (size_t i0 = 0; i0 < POINTS; i0 += nr) {
		float *panel = tc_point_at((float *)(void *)p.panels.p, DIM, i0), least[TC_NR_MAX];
		float zero[DIM] = {0};
		uint8_t code[TC_NR_MAX];
		double was[TC_NR_MAX];

		tc_kmeans_nearest(terms, CENTRES, DIM, panel, scores, code, least);
		for (size_t v = 0; v < nr && i0 + v < POINTS; v++) {
			was[v] = distance(&p, i0 + v, center + code[v] * DIM);
			right &= was[v] <= nearest(&p, i0 + v, center, CENTRES) + 1e-4 && code[v] < CENTRES - 1;
			measured &= fabs((double)least[v] + distance(&p, i0 + v, zero) - was[v]) < 1e-4;
		}
		tc_kmeans_subtract(center, DIM, code, panel);
		for (size_t v = 0; v < nr && i0 + v < POINTS; v++)
			less &= fabs(distance(&p, i0 + v, zero) - was[v]) < 1e-4;
	}
	ok(right, "%s: no other centre is nearer, and of equals the first is taken", kind);
	ok(measured, "%s: distances are right", kind);
	ok(less, "%s: what is left over lies as far from 0 as the point did from its centre", kind);
	tc_points_free(&p);
}

/* Fewer different points than centres, and none but zeros. */
static void
test_few(const char *kind)
{
	enum { CENTRES = 16, DIM = 3, POINTS = 40, DIFFERENT = 5 };
	struct tc_points p = points(POINTS, DIM), zeros = points(POINTS, DIM), none = points(0, DIM);
	float center[CENTRES * DIM];
	int right;

	for (size_t i = 0; i < POINTS; i++)
		for (size_t j = 0; j < DIM; j++) {
			put(&p, i, j, 1, (double)((i % DIFFERENT) * (j + 1)));
			put(&zeros, i, j, i % 2, 0);
		}
	right = tc_kmeans_run(&p, CENTRES, center, NULL, &err) == 0;
	for (size_t i = 0; i < POINTS; i++)
		right &= nearest(&p, i, center, CENTRES) < 1e-6;
	ok(right, "%s: where there are centres enough, every point is one", kind);
	right = tc_kmeans_run(&zeros, CENTRES, center, NULL, &err) == 0;
	for (size_t i = 0; i < CENTRES * DIM; i++)
		right &= center[i] == 0;
	right &= tc_kmeans_run(&none, CENTRES, center, NULL, &err) == 0;
	for (size_t i = 0; i < CENTRES * DIM; i++)
		right &= center[i] == 0;
	ok(right, "%s: zeros have centres of 0, and so have no points", kind);
	tc_points_free(&p);
	tc_points_free(&zeros);
	tc_points_free(&none);
}

/* Points of no weight, however far, draw no centre. */
static void
test_weightless(const char *kind)
{
	enum { CENTRES = 4, DIM = 2, POINTS = 64 };
	struct tc_points p = points(POINTS, DIM);
	float center[CENTRES * DIM];
	int right;

	for (size_t i = 0; i < POINTS; i++)
		for (size_t j = 0; j < DIM; j++)
			put(&p, i, j, i % 2 ? 1e-30 : 1, i % 2 ? 1e6 : (double)(i / 2 % CENTRES) + 10 * (double)j);
	right = tc_kmeans_run(&p, CENTRES, center, NULL, &err) == 0;
	for (size_t i = 0; i < POINTS; i += 2)
		right &= nearest(&p, i, center, CENTRES) < 1e-6;
	ok(right, "%s: points count by their weights", kind);
	tc_points_free(&p);
}

/* ---- tensors ---- */

static float weight[ROWS * COLS];

static void
make_weights(float *w)
{
	for (size_t i = 0; i < ROWS * COLS; i++)
		w[i] = (float)(gauss(&rng) * (1 + (double)(i / COLS % 4)));
}

static struct tc_quant_options
options(int bits, int vector, int stages, uint64_t group)
{
	return (struct tc_quant_options){ .bits = bits, .group = group, .scale = TC_F16, .vector = vector, .stages = stages };
}

static int
run_on(const struct tc_quant_options *o, const struct tc_quant_input *in, struct tc_pool *pool, struct tc_quantized *q)
{
	err = (struct tc_err){0};
	return tc_pq_run(o, in, q, pool, &err);
}

static int
run(const struct tc_quant_options *o, const float *w, const double *squares, struct tc_quantized *q)
{
	struct tc_tensor t = dense(w, ROWS, COLS);

	return run_on(o, &(struct tc_quant_input){ .w = &t, .squares = squares }, NULL, q);
}

static double
error(const struct tc_quantized *q, const float *w, const double *squares)
{
	static float back[ROWS * COLS];
	double sum = 0;

	tc_tensor_read_rows(&q->t, 0, ROWS, back);
	for (size_t i = 0; i < ROWS * COLS; i++) {
		double r = (double)back[i] - (double)w[i];

		sum += r * r * (squares ? squares[i % COLS] : 1);
	}
	return sum;
}

static double
scale_of(const struct tc_quantized *q, size_t row, size_t col)
{
	const struct tc_format *f = &q->t.format;
	size_t n = tc_format_row_groups(f, COLS), k = n == 1 ? 0 : col / f->group;

	return (double)tc_tensor_scale(&q->t, f->group == TC_GROUP_TENSOR ? 0 : row * n + k);
}

static double
importance(const double *squares, size_t col)
{
	double mean = 0;

	for (size_t c = 0; squares && c < COLS; c++)
		mean += squares[c] / COLS;
	return squares ? fmax(squares[col] / mean, 1e-6) : 1;
}

/* What an entry of a stage is off the vector in rest[]. */
static double
entry_error(const struct tc_quantized *q, size_t row, size_t col, int stage, size_t entry, const double *squares, const double *rest)
{
	const struct tc_format *f = &q->t.format;
	const uint16_t *number = tc_tensor_book(&q->t) + (((size_t)stage << f->bits) + entry) * (size_t)f->vector;
	double sum = 0;

	for (size_t i = 0; i < (size_t)f->vector && col + i < COLS; i++) {
		double s = scale_of(q, row, col + i), r = rest[i] - s * (double)tc_f32_from_f16(number[i]);

		sum += importance(squares, col + i) * r * r;
	}
	return sum;
}

/* Each stage's codes are the nearest to what those before leave over. */
static bool
is_nearest(const struct tc_quantized *q, const float *w, const double *squares)
{
	const struct tc_format *f = &q->t.format;
	size_t d = (size_t)f->vector, vectors = (COLS + d - 1) / d, packed = tc_packed_bytes(vectors, f->bits);
	const uint8_t *codes = q->t.part[0].data;
	bool right = q->t.part[0].size_bytes == ROWS * packed * (size_t)f->stages;

	for (size_t row = 0; right && row < ROWS; row++)
		for (size_t v = 0; v < vectors; v++) {
			double rest[TC_VECTOR_MAX] = {0};

			for (size_t i = 0; i < d && v * d + i < COLS; i++)
				rest[i] = (double)w[row * COLS + v * d + i];
			for (int stage = 0; stage < f->stages; stage++) {
				const uint8_t *of_stage = codes + (row * (size_t)f->stages + (size_t)stage) * packed;
				size_t code = tc_packed_at(of_stage, v, f->bits);
				const uint16_t *number = tc_tensor_book(&q->t) + (((size_t)stage << f->bits) + code) * d;
				double is = entry_error(q, row, v * d, stage, code, squares, rest);

				for (size_t k = 0; k < (size_t)1 << f->bits; k++)
					right &= is <= entry_error(q, row, v * d, stage, k, squares, rest) + 1e-4;
				for (size_t i = 0; i < d && v * d + i < COLS; i++)
					rest[i] -= scale_of(q, row, v * d + i) * (double)tc_f32_from_f16(number[i]);
			}
		}
	return right;
}

static void
test_codes(const char *kind)
{
	const struct tc_quant_options tried[OPTIONS_TRIED] = {
		options(8, 8, 1, TC_GROUP_TENSOR), options(4, 16, 2, TC_GROUP_ROW), options(5, 2, 2, 32), options(3, 4, 1, 10),
		options(2, 7, 2, 1), options(6, 16, 1, 200), options(7, 3, 1, 5),
	};
	double squares[COLS];

	for (size_t c = 0; c < COLS; c++)
		squares[c] = c == 4 ? 0 : exp(gauss(&rng));
	for (int i = 0; i < OPTIONS_TRIED; i++) {
		const struct tc_quant_options *o = &tried[i];
		const double *by = i % 2 ? squares : NULL;
		struct tc_tensor t = dense(weight, ROWS, COLS);
		struct tc_quant_input in = { .w = &t, .squares = by };
		struct tc_quantized q, other;
		bool right, same;

		if (!ok(run(o, weight, by, &q) == 0, "%s: %d bits, %d x %d: runs", kind, o->bits, o->stages, o->vector))
			continue;
		right = q.t.format.encoding == TC_PRODUCT && q.t.format.vector == o->vector && q.t.format.stages == o->stages &&
		    q.t.nparts == 3 && tc_tensor_check_finite(&q.t, &err) == 0;
		ok(right && is_nearest(&q, weight, by), "%s: %d bits, %d x %d: codes are the nearest", kind, o->bits, o->stages, o->vector);
		same = run_on(o, &in, three, &other) == 0;
		for (int p = 0; same && p < q.t.nparts; p++)
			same = !memcmp(q.t.part[p].data, other.t.part[p].data, q.t.part[p].size_bytes);
		ok(same, "%s: 1 and 3 threads give the same bytes", kind);
		tc_quantized_free(&q);
		tc_quantized_free(&other);
	}
}

static double
error_with(struct tc_quant_options o, const double *squares, const double *counted)
{
	struct tc_quantized q;
	double is;

	if (run(&o, weight, squares, &q) < 0)
		return INFINITY;
	is = error(&q, weight, counted);
	tc_quantized_free(&q);
	return is;
}

static void
test_errors(const char *kind)
{
	double squares[COLS], was = INFINITY, one, two, with, without;
	bool falls = true;

	for (int bits = 2; bits <= 8; bits++) {
		double is = error_with(options(bits, 4, 1, TC_GROUP_ROW), NULL, NULL);

		falls &= is < was;
		was = is;
	}
	ok(falls, "%s: more bits, less error", kind);
	one = error_with(options(6, 8, 1, TC_GROUP_TENSOR), NULL, NULL);
	two = error_with(options(6, 8, 2, TC_GROUP_TENSOR), NULL, NULL);
	ok(two < 0.8 * one, "%s: a second stage takes error away: %.1f, one stage %.1f", kind, two, one);
	ok(error_with(options(6, 4, 1, TC_GROUP_TENSOR), NULL, NULL) < one, "%s: shorter vectors, less error", kind);
	for (size_t c = 0; c < COLS; c++)
		squares[c] = exp(2 * gauss(&rng));
	with = error_with(options(4, 4, 1, TC_GROUP_ROW), squares, squares);
	without = error_with(options(4, 4, 1, TC_GROUP_ROW), NULL, squares);
	ok(with < 0.9 * without, "%s: inputs' squares are heeded: %.1f, without %.1f", kind, with, without);
}

static void
test_degenerate(const char *kind)
{
	struct tc_quant_options o = options(3, 8, 2, 16);
	static float w[ROWS * COLS];
	struct tc_quantized q;

	memset(w, 0, sizeof(w));
	ok(run(&o, w, NULL, &q) == 0 && error(&q, w, NULL) == 0, "%s: zeros are zeros", kind);
	tc_quantized_free(&q);
	for (size_t i = 0; i < ROWS * COLS; i++)
		w[i] = i / COLS % 2 ? -2.5f : 0.75f;
	ok(run(&o, w, NULL, &q) == 0 && error(&q, w, NULL) == 0, "%s: rows of one value keep it", kind);
	tc_quantized_free(&q);
	w[COLS + 3] = 1e6f;
	ok(run(&o, w, NULL, &q) == -1 && err.code == TC_DATA && strstr(err.msg, "w: row 1: its scale does not fit f16") && !q.owned,
	    "%s: a scale beyond f16 is refused: %s", kind, err.msg);
	o.scale = TC_F32;
	ok(run(&o, w, NULL, &q) == 0 && error(&q, w, NULL) < 1e9, "%s: with f32 it fits", kind);
	tc_quantized_free(&q);
}

static void
test_shared(const char *kind)
{
	struct tc_quant_options o = options(5, 4, 2, TC_GROUP_ROW);
	struct tc_tensor t[2] = { dense(weight, ROWS, COLS), dense(weight, ROWS, COLS) };
	static float large[ROWS * COLS];
	struct tc_pq_book book = {0};
	struct tc_quantized q[2];
	bool right = true;

	for (size_t i = 0; i < ROWS * COLS; i++)
		large[i] = 1000 * weight[i];
	t[1].part[0].data = large;
	strcpy(t[1].name, "v");
	for (int i = 0; i < 2; i++)
		right &= tc_pq_gather(&book, &o, &(struct tc_quant_input){ .w = &t[i] }, three, &err) == 0;
	right &= tc_pq_learn(&book, &o, three, &err) == 0;
	for (int i = 0; i < 2; i++)
		right &= run_on(&o, &(struct tc_quant_input){ .w = &t[i], .book = &book }, NULL, &q[i]) == 0;
	if (!ok(right, "%s: a codebook of two tensors", kind))
		return;
	ok(!q[0].t.book_of[0] && tc_tensor_part(&q[0].t, "codebook"), "%s: the first carries it", kind);
	ok(strcmp(q[1].t.book_of, "w") == 0 && !tc_tensor_part(&q[1].t, "codebook") &&
	    memcmp(tc_tensor_book(&q[1].t), tc_tensor_book(&q[0].t), tc_format_book_bytes(&q[0].t.format)) == 0,
	    "%s: the second uses it", kind);
	ok(is_nearest(&q[0], weight, NULL) && error(&q[1], large, NULL) < 1.01e6 * error(&q[0], weight, NULL),
	    "%s: codes are the nearest, and scales take nothing away", kind);
	tc_quantized_free(&q[0]);
	tc_quantized_free(&q[1]);
	tc_pq_book_free(&book);
}

int
main(void)
{
	const struct tc_kernels *list[8];
	size_t n = kinds_to_test(list, 8);

	tc_rng_seed(&rng, 9);
	if (!ok(tc_pool_open(&three, 3, &err) == 0, "three threads"))
		return done_testing();
	make_weights(weight);
	for (size_t i = 0; i < n; i++) {
		const char *kind = list[i]->name;

		if (tc_kernels_select(kind, &err) < 0)
			continue;
		test_planted(kind);
		test_nearest(kind);
		test_few(kind);
		test_weightless(kind);
		test_codes(kind);
		test_errors(kind);
		test_degenerate(kind);
		test_shared(kind);
	}
	tc_pool_close(three);
	return done_testing();
}
