/* Product quantization: a code stands for several neighbouring weights of a row,
 * as the nearest of 2^bits vectors (and a second code for the nearest to what the
 * first left over): Jegou, Douze and Schmid, "Product quantization for nearest
 * neighbor search", 2011; of weights, with inputs' norms, as in Stock et al., "And
 * the bit goes down: revisiting the quantization of neural networks", 2020.
 *
 * Vectors are learned by k-means from x = w / s, with s the root mean square of a
 * weight's group, so that
 *
 *   sum over weights of a_j s^2 (x - c)^2
 *
 * is small, a_j the sum of squares of input j over the calibration tokens, or 1. */
#include "method/pq.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kernel/kernel.h"
#include "method/packing.h"

enum {
	OWN_POINTS = 1 << 16,     /* that a tensor's own codebook is learned from */
	SHARED_POINTS = 1 << 13,  /* that each tensor adds to another */
	SEED = 2
};
#define LEAST_IMPORTANCE 1e-6 /* of an input, over the mean: one that was always 0 */

/* A tensor as vectors. */
struct matrix {
	const struct tc_quant_options *o;
	const struct tc_tensor *w;
	size_t rows, cols, dim, vectors; /* of a row */
	struct tc_packing p;
	float *scale;            /* [groups of all rows], as stored */
	float *importance;       /* [cols], of mean 1 */
	float share;             /* 1 / the root mean square of its scales */
	double *squares;         /* [rows]: sums */
	float *row;              /* [threads][cols] */
	/* for codes: */
	float *terms;            /* [stages][entries][2 dim] */
	float *center;           /* [stages][entries][dim] */
	float *panels;           /* [threads][floats]: a row's vectors, */
	float *scores;           /* [threads][entries][nr], */
	uint8_t *codes;          /* [threads][vectors, rounded up to nr] */
};

static size_t
entries(const struct tc_quant_options *o)
{
	return (size_t)1 << o->bits;
}

/* ---- scales ---- */

static double
sum_squares(const float *w, size_t n)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += (double)w[i] * (double)w[i];
	return sum;
}

/* sum: of the squares of n weights. */
static void
set_scale(struct matrix *m, size_t group, double sum, size_t n)
{
	float scale = tc_grid_stored(m->o, (float)sqrt(sum / (double)n));

	m->scale[group] = scale;
	tc_packing_grid(&m->p, group, &(struct tc_grid){ .scale = scale });
}

static void
square_row(void *ctx, size_t r, int worker)
{
	struct matrix *m = ctx;
	float *w = m->row + (size_t)worker * m->cols;

	tc_tensor_read_rows(m->w, r, 1, w);
	m->squares[r] = sum_squares(w, m->cols);
	if (m->o->group == TC_GROUP_TENSOR)
		return;
	m->squares[r] = 0;
	for (size_t k = 0; k < m->p.groups; k++) {
		size_t c = k * m->p.width, n = tc_min(m->p.width, m->cols - c), g = tc_packing_group(&m->p, r, k);

		set_scale(m, g, sum_squares(w + c, n), n);
		m->squares[r] += (double)m->scale[g] * (double)m->scale[g] * (double)n;
	}
}

static void
set_scales(struct matrix *m, struct tc_pool *pool)
{
	double sum = 0;

	tc_pool_run(pool, m->rows, square_row, m);
	for (size_t r = 0; r < m->rows; r++)
		sum += m->squares[r];
	if (m->o->group == TC_GROUP_TENSOR) {
		set_scale(m, 0, sum, m->rows * m->cols);
		m->share = 1 / m->scale[0];
	} else {
		m->share = (float)(1 / sqrt(sum / (double)(m->rows * m->cols)));
	}
}

static void
set_importance(struct matrix *m, const double *squares)
{
	double mean = 0;

	for (size_t c = 0; squares && c < m->cols; c++)
		mean += squares[c] / (double)m->cols;
	for (size_t c = 0; c < m->cols; c++)
		m->importance[c] = mean > 0 ? (float)fmax(squares[c] / mean, LEAST_IMPORTANCE) : 1;
}

static void
matrix_close(struct matrix *m)
{
	tc_packing_free(&m->p);
	free(m->scale);
	free(m->importance);
	free(m->squares);
	free(m->row);
	free(m->terms);
	free(m->center);
	free(m->panels);
	free(m->scores);
	free(m->codes);
}

/* With a codebook of its own, or book's. */
static int
matrix_open(struct matrix *m, const struct tc_quant_options *o, const struct tc_quant_input *in,
    const struct tc_pq_book *book, struct tc_pool *pool, struct tc_err *err)
{
	struct tc_tensor like = *in->w;

	*m = (struct matrix){ .o = o, .w = in->w, .rows = tc_tensor_rows(in->w), .cols = tc_tensor_cols(in->w),
		.dim = (size_t)o->vector };
	m->vectors = (m->cols + m->dim - 1) / m->dim;
	memcpy(like.book_of, book ? book->owner : "", book ? sizeof(like.book_of) : 1);
	like.book = book ? book->number : NULL;
	if (tc_packing_open(&m->p, o, &like, TC_PRODUCT, err) < 0)
		return -1;
	m->scale = tc_alloc(tc_packing_groups(&m->p), sizeof(*m->scale), err);
	m->importance = tc_alloc(m->cols, sizeof(*m->importance), err);
	m->squares = tc_alloc(m->rows, sizeof(*m->squares), err);
	m->row = tc_alloc((size_t)tc_pool_threads(pool), m->cols * sizeof(*m->row), err);
	if (!m->scale || !m->importance || !m->squares || !m->row)
		return -1;
	set_importance(m, in->squares);
	set_scales(m, pool);
	return tc_packing_check(&m->p, err);
}

/* ---- vectors ---- */

/* Vector v of row r, whose weights are w, in struct tc_points' form. */
static void
put_vector(const struct matrix *m, size_t r, size_t v, const float *w, float *at)
{
	size_t nr = tc_kernels()->nr;

	for (size_t i = 0; i < m->dim; i++) {
		size_t c = v * m->dim + i;
		float s = c < m->cols ? m->scale[tc_packing_group(&m->p, r, c / m->p.width)] : 0, a = 0, x = 0;

		if (s > 0) {
			a = m->importance[c] * (s * m->share) * (s * m->share);
			x = w[c] / s;
		}
		at[i * nr] = a;
		at[(m->dim + i) * nr] = a * x;
	}
}

/* At most `most` vectors, one of each of as many equal parts: a fixed step might
 * always meet the same inputs. */
static int
gather(const struct matrix *m, size_t most, struct tc_points *p, struct tc_err *err)
{
	size_t all = m->rows * m->vectors, n = tc_min(all, most), first = p->n, row = SIZE_MAX;
	struct tc_rng rng;

	p->dim = m->dim;
	if (tc_points_add(p, n, err) < 0)
		return -1;
	tc_rng_seed(&rng, SEED);
	for (size_t i = 0; i < n; i++) {
		size_t from = all / n * i + tc_min(i, all % n);
		size_t at = from + tc_rng_below(&rng, all / n + (i < all % n));

		if (at / m->vectors != row) {
			row = at / m->vectors;
			tc_tensor_read_rows(m->w, row, 1, m->row);
		}
		put_vector(m, row, at % m->vectors, m->row, tc_point_at((float *)(void *)p->panels.p, m->dim, first + i));
	}
	return 0;
}

int
tc_pq_gather(struct tc_pq_book *b, const struct tc_quant_options *o, const struct tc_quant_input *in,
    struct tc_pool *pool, struct tc_err *err)
{
	struct matrix m;
	int r = matrix_open(&m, o, in, NULL, pool, err);

	if (r == 0)
		r = gather(&m, SHARED_POINTS, &b->points, err);
	matrix_close(&m);
	return r;
}

/* ---- codebooks ---- */

struct rest {
	struct tc_points *p;
	size_t n;
	const float *center, *terms;
	float *scores;           /* [threads][n][nr] */
};

static void
leave_panel(void *ctx, size_t i, int worker)
{
	struct rest *j = ctx;
	size_t dim = j->p->dim, nr = tc_kernels()->nr;
	float *panel = tc_point_at((float *)(void *)j->p->panels.p, dim, i * nr), least[TC_NR_MAX];
	uint8_t code[TC_NR_MAX];

	tc_kmeans_nearest(j->terms, j->n, dim, panel, j->scores + (size_t)worker * j->n * nr, code, least);
	tc_kmeans_subtract(j->center, dim, code, panel);
}

/* Of every point what the nearest centre leaves over. */
static int
leave_rest(struct tc_points *p, const float *center, size_t n, struct tc_pool *pool, struct tc_err *err)
{
	size_t nr = tc_kernels()->nr;
	float *terms = tc_alloc(n, 2 * p->dim * sizeof(*terms), err);
	struct rest j = { p, n, center, terms, tc_alloc((size_t)tc_pool_threads(pool), n * nr * sizeof(float), err) };
	bool there = terms && j.scores;

	if (there) {
		tc_kmeans_terms(center, n, p->dim, terms);
		tc_pool_run(pool, (p->n + nr - 1) / nr, leave_panel, &j);
	}
	free(terms);
	free(j.scores);
	return there ? 0 : -1;
}

int
tc_pq_learn(struct tc_pq_book *b, const struct tc_quant_options *o, struct tc_pool *pool, struct tc_err *err)
{
	size_t n = entries(o), numbers = n * (size_t)o->vector;
	float *center = tc_alloc(numbers, sizeof(*center), err);
	int r = -1;

	b->number = tc_alloc((size_t)o->stages, numbers * sizeof(*b->number), err);
	if (center && b->number)
		r = 0;
	for (int stage = 0; r == 0 && stage < o->stages; stage++) {
		uint16_t *number = b->number + (size_t)stage * numbers;

		r = tc_kmeans_run(&b->points, n, center, pool, err);
		for (size_t i = 0; r == 0 && i < numbers; i++) {
			number[i] = tc_f16_from_f32(center[i]);
			center[i] = tc_f32_from_f16(number[i]);
		}
		if (r == 0 && stage + 1 < o->stages)
			r = leave_rest(&b->points, center, n, pool, err);
	}
	free(center);
	tc_points_free(&b->points);
	return r;
}

void
tc_pq_book_free(struct tc_pq_book *b)
{
	tc_points_free(&b->points);
	free(b->number);
	*b = (struct tc_pq_book){0};
}

/* ---- codes ---- */

static size_t
row_floats(const struct matrix *m)
{
	size_t nr = tc_kernels()->nr;

	return (m->vectors + nr - 1) / nr * tc_panel_floats(m->dim);
}

static void
encode_row(void *ctx, size_t r, int worker)
{
	struct matrix *m = ctx;
	size_t nr = tc_kernels()->nr, n = entries(m->o), packed = tc_packed_bytes(m->vectors, m->o->bits);
	float *w = m->row + (size_t)worker * m->cols, *panels = m->panels + (size_t)worker * row_floats(m);
	float *scores = m->scores + (size_t)worker * n * nr, least[TC_NR_MAX];
	uint8_t *codes = m->codes + (size_t)worker * tc_round_up(m->vectors, nr);
	uint8_t *dst = (uint8_t *)m->p.q.t.part[0].data + r * packed * (size_t)m->o->stages;

	tc_tensor_read_rows(m->w, r, 1, w);
	for (size_t v = 0; v < m->vectors; v++)
		put_vector(m, r, v, w, tc_point_at(panels, m->dim, v));
	for (size_t stage = 0; stage < (size_t)m->o->stages; stage++, dst += packed) {
		for (size_t v = 0; v < m->vectors; v += nr) {
			float *panel = tc_point_at(panels, m->dim, v);

			tc_kmeans_nearest(m->terms + stage * n * 2 * m->dim, n, m->dim, panel, scores, codes + v, least);
			tc_kmeans_subtract(m->center + stage * n * m->dim, m->dim, codes + v, panel);
		}
		tc_pack(codes, m->vectors, m->o->bits, dst);
	}
}

static int
encode(struct matrix *m, const struct tc_pq_book *b, struct tc_pool *pool, struct tc_err *err)
{
	size_t threads = (size_t)tc_pool_threads(pool), nr = tc_kernels()->nr;
	size_t vectors = (size_t)m->o->stages * entries(m->o);

	m->terms = tc_alloc(vectors, 2 * m->dim * sizeof(*m->terms), err);
	m->center = tc_alloc(vectors, m->dim * sizeof(*m->center), err);
	m->panels = tc_zalloc(threads, row_floats(m) * sizeof(*m->panels), err);
	m->scores = tc_alloc(threads, entries(m->o) * nr * sizeof(*m->scores), err);
	m->codes = tc_alloc(threads, tc_round_up(m->vectors, nr), err);
	if (!m->terms || !m->center || !m->panels || !m->scores || !m->codes)
		return -1;
	tc_f32_from(TC_F16, b->number, vectors * m->dim, m->center);
	tc_kmeans_terms(m->center, vectors, m->dim, m->terms);
	tc_pool_run(pool, m->rows, encode_row, m);
	return 0;
}

int
tc_pq_run(const struct tc_quant_options *o, const struct tc_quant_input *in, struct tc_quantized *q,
    struct tc_pool *pool, struct tc_err *err)
{
	struct tc_pq_book own = {0}, *book = in->book ? in->book : &own;
	bool carries = !book->owner[0];
	struct matrix m;
	int r = matrix_open(&m, o, in, carries ? NULL : book, pool, err);

	*q = (struct tc_quantized){0};
	if (r == 0 && !in->book && ((r = gather(&m, OWN_POINTS, &own.points, err)) == 0))
		r = tc_pq_learn(&own, o, pool, err);
	if (r == 0)
		r = encode(&m, book, pool, err);
	if (r == 0 && carries) {
		memcpy((void *)m.p.q.t.part[2].data, book->number, m.p.q.t.part[2].size_bytes);
		memcpy(book->owner, in->w->name, sizeof(book->owner));
	}
	if (r == 0)
		r = tc_packing_finish(&m.p, q, err);
	matrix_close(&m);
	tc_pq_book_free(&own);
	return r;
}
