#include "solve/factor.h"

#include <stdlib.h>

#include "base/mem.h"
#include "solve/damp.h"
#include "solve/lapack.h"

struct place {
	double diagonal;
	uint32_t input;
};

/* Larger ones first, of equal ones the earlier input. */
static int
by_diagonal(const void *x, const void *y)
{
	const struct place *a = x, *b = y;

	if (a->diagonal != b->diagonal)
		return (a->diagonal < b->diagonal) - (a->diagonal > b->diagonal);
	return (a->input > b->input) - (a->input < b->input);
}

static int
choose_order(struct tc_factor *f, const float *packed, bool by_size, struct tc_err *err)
{
	struct place *p = tc_alloc(f->n, sizeof(*p), err);

	if (!p)
		return -1;
	for (size_t i = 0; i < f->n; i++)
		p[i] = (struct place){ tc_packed_at(packed, i, i), (uint32_t)i };
	if (by_size)
		qsort(p, f->n, sizeof(*p), by_diagonal);
	for (size_t i = 0; i < f->n; i++) {
		f->order[i] = p[i].input;
		f->dead[i] = p[i].diagonal == 0;
	}
	free(p);
	return 0;
}

/* The upper triangle of H in order, damped: the diagonal of dead inputs is 1. */
static void
fill(const struct tc_factor *f, const float *packed, double damping, double *a)
{
	double mean = 0;

	for (size_t i = 0; i < f->n; i++)
		mean += f->dead[i] ? 1 : tc_packed_at(packed, f->order[i], f->order[i]);
	mean /= (double)f->n;
	for (size_t i = 0; i < f->n; i++) {
		for (size_t j = i; j < f->n; j++)
			a[i * f->n + j] = tc_packed_at(packed, f->order[i], f->order[j]);
		a[i * f->n + i] = (f->dead[i] ? 1 : a[i * f->n + i]) + damping * mean;
	}
}

static int
invert(double *a, size_t n)
{
	return tc_lapack_cholesky(a, n) || tc_lapack_cholesky_inverse(a, n) || tc_lapack_cholesky(a, n);
}

int
tc_factor_make(struct tc_factor *f, const float *packed, size_t n, double damping, bool by_size, struct tc_err *err)
{
	double *a = NULL;
	int tries = 0, r = -1;

	*f = (struct tc_factor){ .n = n, .damping = damping };
	f->order = tc_alloc(n, sizeof(*f->order), err);
	f->dead = tc_alloc(n, 1, err);
	f->r = tc_zalloc(n * n, sizeof(*f->r), err);
	a = tc_alloc(n * n, sizeof(*a), err);
	if (!f->order || !f->dead || !f->r || !a || tc_lapack_load(err) < 0 || choose_order(f, packed, by_size, err) < 0)
		goto out;
	for (fill(f, packed, f->damping, a); invert(a, n); fill(f, packed, f->damping, a))
		if (tc_damp_more(&f->damping, &tries, err) < 0)
			goto out;
	for (size_t i = 0; i < n; i++)
		for (size_t j = i; j < n; j++)
			f->r[i * n + j] = (float)a[i * n + j];
	r = 0;
out:
	free(a);
	if (r < 0)
		tc_factor_free(f);
	return r;
}

void
tc_factor_free(struct tc_factor *f)
{
	free(f->r);
	free(f->order);
	free(f->dead);
	*f = (struct tc_factor){0};
}
