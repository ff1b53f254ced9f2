#include "method/lowrank.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "solve/lapack.h"
#include "tensor/factors.h"
#include "tensor/input_op.h"

enum { ROWS = 64, TRIES = 8 };   /* rows of a product that go together */
#define FIRST_DAMPING 1e-8

/* ---- products ---- */

/* c[m][n] = a b, in tiles of rows. */
struct product {
	size_t m, n, k;
	const double *a, *b;
	bool transposed;
	double *c;
};

static void
multiply_rows(void *ctx, size_t i, int worker)
{
	const struct product *p = ctx;
	size_t row = i * ROWS;

	(void)worker;
	tc_lapack_product(tc_min(ROWS, p->m - row), p->n, p->k, p->a + row * p->k, p->k, p->b, p->transposed, p->c + row * p->n);
}

/* NULL: no memory. */
static double *
multiply(struct product p, struct tc_pool *pool, struct tc_err *err)
{
	p.c = tc_alloc(p.m * p.n, sizeof(*p.c), err);
	if (p.c)
		tc_pool_run(pool, (p.m + ROWS - 1) / ROWS, multiply_rows, &p);
	return p.c;
}

/* ---- the weights ---- */

struct reading {
	const struct tc_tensor *w, *q;
	double *d;
	float *work;   /* [threads][2][ROWS][cols] */
};

static void
read_rows(void *ctx, size_t i, int worker)
{
	const struct reading *r = ctx;
	size_t cols = tc_tensor_cols(r->w), row = i * ROWS, n = tc_min(ROWS, tc_tensor_rows(r->w) - row) * cols;
	float *w = r->work + (size_t)worker * 2 * ROWS * cols, *q = w + ROWS * cols;
	double *d = r->d + row * cols;

	tc_tensor_read_rows(r->w, row, n / cols, w);
	for (size_t j = 0; j < n; j++)
		d[j] = (double)w[j];
	if (!r->q)
		return;
	tc_tensor_read_rows(r->q, row, n / cols, q);
	for (size_t j = 0; j < n; j++)
		d[j] -= (double)q[j];
}

/* w less q, which may be NULL.  NULL: no memory. */
static double *
read_weights(const struct tc_tensor *w, const struct tc_tensor *q, struct tc_pool *pool, struct tc_err *err)
{
	size_t rows = tc_tensor_rows(w), cols = tc_tensor_cols(w);
	struct reading r = { .w = w, .q = q, .d = tc_alloc(rows * cols, sizeof(*r.d), err),
		.work = tc_alloc((size_t)tc_pool_threads(pool) * 2 * ROWS * cols, sizeof(*r.work), err) };

	if (r.d && r.work)
		tc_pool_run(pool, (rows + ROWS - 1) / ROWS, read_rows, &r);
	if (!r.work) {
		free(r.d);
		r.d = NULL;
	}
	free(r.work);
	return r.d;
}

/* ---- the metric ---- */

static double
mean_of(const struct tc_lowrank *l)
{
	const struct tc_lowrank_input *in = l->in;
	double sum = 0;

	for (size_t i = 0; i < l->cols; i++)
		sum += in->hessian ? (double)in->hessian[i * (i + 1) / 2 + i] : in->squares[i];
	return sum / (double)l->cols;
}

/* Inputs that were never anything else than 0 make it 0 all over: then all alike. */
static double
damping_of(const struct tc_lowrank *l)
{
	double mean = mean_of(l);

	return mean > 0 ? l->damping * mean : 1;
}

/* M, whole.  NULL: no memory. */
static double *
whole_metric(const struct tc_lowrank *l, struct tc_err *err)
{
	size_t n = l->cols;
	double *m = tc_alloc(n * n, sizeof(*m), err), damping = damping_of(l);

	for (size_t i = 0; m && i < n; i++) {
		for (size_t j = 0; j <= i; j++)
			m[i * n + j] = m[j * n + i] = (double)l->in->hessian[i * (i + 1) / 2 + j];
		m[i * n + i] += damping;
	}
	return m;
}

/* R = L^T, of which nothing is below the diagonal. */
static int
make_factor(struct tc_lowrank *l, struct tc_err *err)
{
	size_t n = l->cols;

	for (int tries = 0; tries < TRIES; tries++) {
		free(l->factor);
		l->factor = whole_metric(l, err);
		if (!l->factor)
			return -1;
		if (tc_lapack_cholesky(l->factor, n) == 0) {
			for (size_t i = 0; i < n; i++)
				memset(l->factor + i * n, 0, i * sizeof(*l->factor));
			return 0;
		}
		l->damping = l->damping > 0 ? 10 * l->damping : FIRST_DAMPING;
	}
	return tc_fail(err, TC_DATA, "%s: its Hessian is not positive definite, however damped", l->in->w->name);
}

/* The diagonal of L, of which none is 0. */
static int
make_diagonal(struct tc_lowrank *l, struct tc_err *err)
{
	double damping;

	l->damping = fmax(l->damping, FIRST_DAMPING);
	damping = damping_of(l);
	l->diagonal = tc_alloc(l->cols, sizeof(*l->diagonal), err);
	for (size_t i = 0; l->diagonal && i < l->cols; i++)
		l->diagonal[i] = sqrt(l->in->squares[i] + damping);
	return l->diagonal ? 0 : -1;
}

static int
make_metric(struct tc_lowrank *l, struct tc_err *err)
{
	if (l->in->hessian)
		return make_factor(l, err);
	return l->in->squares ? make_diagonal(l, err) : 0;
}

/* D L of weights d [rows][cols].  NULL: no memory. */
static double *
weigh(const struct tc_lowrank *l, const double *d, struct tc_pool *pool, struct tc_err *err)
{
	size_t cols = l->cols, n = l->rows * cols;
	double *e;

	if (l->factor)
		return multiply((struct product){ l->rows, cols, cols, d, l->factor, true, NULL }, pool, err);
	e = tc_alloc(n, sizeof(*e), err);
	for (size_t i = 0; e && i < n; i++)
		e[i] = l->diagonal ? d[i] * l->diagonal[i % cols] : d[i];
	return e;
}

/* ---- the spectrum ---- */

static double
sum_of_squares(const double *x, size_t n)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += x[i] * x[i];
	return sum;
}

static double *
transposed(const double *x, size_t rows, size_t cols, struct tc_err *err)
{
	double *t = tc_alloc(rows * cols, sizeof(*t), err);

	for (size_t r = 0; t && r < rows; r++)
		for (size_t c = 0; c < cols; c++)
			t[c * rows + r] = x[r * cols + c];
	return t;
}

/* Of e = D L the smaller of e e^T and e^T e. */
static double *
smaller_square(const struct tc_lowrank *l, const double *e, struct tc_pool *pool, struct tc_err *err)
{
	double *t, *s;

	if (l->rows <= l->cols)
		return multiply((struct product){ l->rows, l->rows, l->cols, e, e, true, NULL }, pool, err);
	t = transposed(e, l->rows, l->cols, err);
	s = t ? multiply((struct product){ l->cols, l->cols, l->rows, t, t, true, NULL }, pool, err) : NULL;
	free(t);
	return s;
}

static int
find_spectrum(struct tc_lowrank *l, const double *e, bool vectors, struct tc_pool *pool, struct tc_err *err)
{
	size_t n = l->n;

	l->value = tc_alloc(n, sizeof(*l->value), err);
	l->lost = tc_alloc(n + 1, sizeof(*l->lost), err);
	l->vector = smaller_square(l, e, pool, err);
	if (!l->value || !l->lost || !l->vector)
		return -1;
	if (tc_first_not_finite(TC_F64, l->vector, n * n) >= 0)
		return tc_fail(err, TC_DATA, "%s: its output is not finite", l->in->w->name);
	if (tc_lapack_eigen(l->vector, n, vectors, l->value, err) < 0)
		return tc_err_at(err, "%s", l->in->w->name);
	for (size_t i = 0; i < n / 2; i++) {
		double x = l->value[i];

		l->value[i] = l->value[n - 1 - i];
		l->value[n - 1 - i] = x;
	}
	l->lost[n] = 0;
	for (size_t i = n; i-- > 0;) {
		l->value[i] = fmax(l->value[i], 0);
		l->lost[i] = l->lost[i + 1] + l->value[i];
	}
	return 0;
}

/* What the output of w itself is. */
static int
find_total(struct tc_lowrank *l, struct tc_pool *pool, struct tc_err *err)
{
	double *w, *e;

	l->total = l->lost[0];
	if (!l->in->q)
		return 0;
	w = read_weights(l->in->w, NULL, pool, err);
	e = w ? weigh(l, w, pool, err) : NULL;
	if (e)
		l->total = sum_of_squares(e, l->rows * l->cols);
	free(w);
	free(e);
	return e ? 0 : -1;
}

int
tc_lowrank_open(struct tc_lowrank *l, const struct tc_lowrank_input *in, bool vectors, struct tc_pool *pool, struct tc_err *err)
{
	double *e = NULL;
	int r = -1;

	*l = (struct tc_lowrank){ .in = in, .rows = tc_tensor_rows(in->w), .cols = tc_tensor_cols(in->w), .damping = in->damping };
	l->n = tc_min(l->rows, l->cols);
	if (tc_lapack_load(err) < 0)
		return -1;
	l->d = read_weights(in->w, in->q, pool, err);
	if (l->d && make_metric(l, err) == 0)
		e = weigh(l, l->d, pool, err);
	if (e && find_spectrum(l, e, vectors, pool, err) == 0)
		r = find_total(l, pool, err);
	free(e);
	return r;
}

void
tc_lowrank_close(struct tc_lowrank *l)
{
	free(l->value);
	free(l->lost);
	free(l->d);
	free(l->vector);
	free(l->factor);
	free(l->diagonal);
	*l = (struct tc_lowrank){0};
}

double
tc_lowrank_error(const struct tc_lowrank *l, size_t rank)
{
	return l->total > 0 ? l->lost[rank] / l->total : 0;
}

size_t
tc_lowrank_rank_of(const struct tc_lowrank *l, double error)
{
	size_t rank = 0;

	while (rank < l->n && tc_lowrank_error(l, rank) > error)
		rank++;
	return rank;
}

uint64_t
tc_lowrank_bytes(size_t rows, size_t cols, size_t rank, enum tc_dtype dtype)
{
	return (uint64_t)(rows + cols) * rank * tc_dtypes[dtype].size_bytes;
}

/* ---- the factors ---- */

/* Rows of p[rank][n], the first eigenvectors, the largest first.  NULL: no memory. */
static double *
first_vectors(const struct tc_lowrank *l, size_t rank, struct tc_err *err)
{
	double *p = tc_alloc(rank * l->n, sizeof(*p), err);

	for (size_t k = 0; p && k < rank; k++)
		memcpy(p + k * l->n, l->vector + (l->n - 1 - k) * l->n, l->n * sizeof(*p));
	return p;
}

/* p's rows times L^-1. */
static void
unweigh(const struct tc_lowrank *l, double *p, size_t rank)
{
	if (l->factor)
		tc_lapack_solve_upper(l->factor, l->cols, p, rank);
	for (size_t k = 0; l->diagonal && k < rank; k++)
		for (size_t j = 0; j < l->cols; j++)
			p[k * l->cols + j] /= l->diagonal[j];
}

/* u^T [rank][rows] and v [rank][cols]. */
static int
make_factors(const struct tc_lowrank *l, size_t rank, double **u, double **v, struct tc_pool *pool, struct tc_err *err)
{
	double *p = first_vectors(l, rank, err), *weighted;

	if (!p)
		return -1;
	if (l->rows <= l->cols) {
		*u = p;
		*v = multiply((struct product){ rank, l->cols, l->rows, p, l->d, false, NULL }, pool, err);
		return *v ? 0 : -1;
	}
	*v = p;
	weighted = weigh(l, l->d, pool, err);
	if (weighted)
		*u = multiply((struct product){ rank, l->rows, l->cols, p, weighted, true, NULL }, pool, err);
	free(weighted);
	unweigh(l, p, rank);
	return *u ? 0 : -1;
}

/* A column of u and a row of v of the same length. */
static void
balance(const struct tc_lowrank *l, double *u, double *v)
{
	double a = sqrt(sum_of_squares(u, l->rows)), b = sqrt(sum_of_squares(v, l->cols)), scale;

	if (!(a > 0 && b > 0))
		return;
	scale = sqrt(b / a);
	for (size_t i = 0; i < l->rows; i++)
		u[i] *= scale;
	for (size_t i = 0; i < l->cols; i++)
		v[i] /= scale;
}

static void *
part_data(const struct tc_tensor *t, const char *name)
{
	return (void *)tc_tensor_part(t, name)->data;
}

/* Into t's parts; v as what multiplies the inputs that t's ops have been done to. */
static int
store_factors(const struct tc_lowrank *l, double *u, double *v, const struct tc_tensor *t, struct tc_err *err)
{
	struct tc_input_ops ops = tc_tensor_input_ops(t);
	char *to_u = part_data(t, "u_data"), *to_v = part_data(t, "v_data");
	enum tc_dtype dtype = t->factor.dtype;
	size_t rank = t->rank, cols = l->cols, size = tc_dtypes[dtype].size_bytes;
	float *row = tc_alloc(cols, sizeof(*row), err);

	if (!row)
		return -1;
	for (size_t k = 0; k < rank; k++) {
		balance(l, u + k * l->rows, v + k * cols);
		for (size_t i = 0; i < l->rows; i++)
			tc_f32_to(dtype, &(float){ (float)u[k * l->rows + i] }, 1, to_u + (i * rank + k) * size);
		for (size_t j = 0; j < cols; j++)
			row[j] = (float)v[k * cols + j];
		tc_input_ops_inverse(&ops, cols, row);
		tc_f32_to(dtype, row, cols, to_v + k * cols * size);
	}
	free(row);
	return 0;
}

/* in->q with room for factors, or nothing else than it. */
static int
lay_out(const struct tc_lowrank *l, size_t rank, enum tc_dtype dtype, struct tc_quantized *q, struct tc_err *err)
{
	const struct tc_tensor *from = l->in->q;
	struct tc_tensor *t = &q->t;
	size_t size, total = 0;
	char *p;

	*t = from ? *from : *l->in->w;
	if (!from && tc_tensor_make_dense(t, dtype, err) < 0)
		return -1;
	if (!from)
		t->format = (struct tc_format){ .encoding = TC_NONE };
	t->rank = rank;
	t->factor = (struct tc_format){ .encoding = TC_DENSE, .dtype = dtype };
	if (tc_tensor_layout(t, err) < 0)
		return -1;
	for (int i = 0; i < t->nparts; i++)
		total += tc_round_up(t->part[i].size_bytes, TC_ALIGN);
	q->owned = p = tc_alloc(total, 1, err);
	if (!p)
		return -1;
	for (int i = 0; i < t->nparts; i++, p += tc_round_up(size, TC_ALIGN)) {
		size = t->part[i].size_bytes;
		t->part[i].data = p;
		if (!tc_part_is_factor(t->part[i].name))
			memcpy(p, tc_tensor_part(from, t->part[i].name)->data, size);
	}
	return 0;
}

int
tc_lowrank_make(const struct tc_lowrank *l, size_t rank, enum tc_dtype dtype, struct tc_quantized *q, struct tc_pool *pool,
    struct tc_err *err)
{
	double *u = NULL, *v = NULL;
	int r = -1;

	*q = (struct tc_quantized){0};
	if (lay_out(l, rank, dtype, q, err) == 0 && make_factors(l, rank, &u, &v, pool, err) == 0)
		r = store_factors(l, u, v, &q->t, err);
	free(u);
	free(v);
	if (r == 0)
		r = tc_tensor_check_finite(&q->t, err);
	if (r < 0)
		tc_quantized_free(q);
	return r;
}
