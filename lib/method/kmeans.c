#include "method/kmeans.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kernel/kernel.h"

enum {
	STRIPS = 32,        /* of panels: sums that make up that of all points */
	ITERATIONS = 25,
	SEED = 1
};
#define ENOUGH 1e-4         /* share of the error that an iteration must take away */

/* Of a strip's points: */
struct strip {
	double *sum;        /* [centres][2 dim]: of a and a x, by their centre */
	double error;       /* less that of centres at 0 */
	double near;        /* sum of distances to the nearest centre drawn so far */
	size_t far;         /* the one that lies farthest from its centre, and how far */
	float far_distance;
};

struct job {
	const struct tc_points *p;
	size_t n, nr, panels;
	float *center;      /* [n][dim] */
	float *terms;       /* [n][2 dim] */
	size_t drawn;       /* centres so far */
	float *zero;        /* [panels][nr]: distance to a centre at 0 */
	float *near;        /* [panels][nr]: to the nearest one drawn so far */
	float *scores;      /* [threads][n][nr] */
	double *sums;
	struct strip strip[STRIPS];
};

size_t
tc_panel_floats(size_t dim)
{
	return 2 * dim * tc_kernels()->nr;
}

float *
tc_point_at(float *panels, size_t dim, size_t i)
{
	size_t nr = tc_kernels()->nr;

	return panels + i / nr * tc_panel_floats(dim) + i % nr;
}

int
tc_points_add(struct tc_points *p, size_t n, struct tc_err *err)
{
	size_t nr = tc_kernels()->nr, bytes;

	if (tc_mul_over((p->n + n + nr - 1) / nr, tc_panel_floats(p->dim) * sizeof(float), &bytes))
		return tc_fail_nomem(err, SIZE_MAX);
	bytes -= p->panels.n;
	if (n == 0)
		return 0;
	if (tc_buf_reserve(&p->panels, bytes, err) < 0)
		return -1;
	memset(p->panels.p + p->panels.n, 0, bytes);
	p->panels.n += bytes;
	p->n += n;
	return 0;
}

void
tc_points_free(struct tc_points *p)
{
	tc_buf_free(&p->panels);
	p->n = 0;
}

static float *
panel_at(const struct job *j, size_t panel)
{
	return (float *)(void *)j->p->panels.p + panel * tc_panel_floats(j->p->dim);
}

/* ---- nearest ---- */

void
tc_kmeans_terms(const float *center, size_t n, size_t dim, float *terms)
{
	for (size_t k = 0; k < n; k++)
		for (size_t i = 0; i < dim; i++) {
			float c = center[k * dim + i];

			terms[2 * k * dim + i] = c * c;
			terms[(2 * k + 1) * dim + i] = -2 * c;
		}
}

static void
distances(const float *terms, size_t n, size_t dim, const float *panel, float *scores)
{
	size_t nr = tc_kernels()->nr;

	tc_kernels()->gemm(n, nr, 2 * dim, terms, 2 * dim, 1, panel, scores, nr, 0, NULL);
}

void
tc_kmeans_nearest(const float *terms, size_t n, size_t dim, const float *panel, float *scores, uint8_t *code, float *least)
{
	size_t nr = tc_kernels()->nr;
	int32_t row[TC_NR_MAX];

	distances(terms, n, dim, panel, scores);
	tc_kernels()->least(n, scores, least, row);
	for (size_t i = 0; i < nr; i++)
		code[i] = (uint8_t)row[i];
}

void
tc_kmeans_subtract(const float *center, size_t dim, const uint8_t *code, float *panel)
{
	size_t nr = tc_kernels()->nr;

	for (size_t i = 0; i < dim; i++)
		for (size_t v = 0; v < nr; v++)
			panel[(dim + i) * nr + v] -= panel[i * nr + v] * center[code[v] * dim + i];
}

/* ---- the first centres ---- */

static void
strip_panels(const struct job *j, size_t s, size_t *from, size_t *to)
{
	*from = j->panels * s / STRIPS;
	*to = j->panels * (s + 1) / STRIPS;
}

/* How far the points lie from 0. */
static void
measure_strip(void *ctx, size_t s, int worker)
{
	struct job *j = ctx;
	size_t dim = j->p->dim, nr = j->nr, p, end;

	(void)worker;
	j->strip[s].near = 0;
	for (strip_panels(j, s, &p, &end); p < end; p++) {
		const float *panel = panel_at(j, p);

		for (size_t v = 0; v < nr; v++) {
			float sum = 0;

			for (size_t i = 0; i < dim; i++) {
				float a = panel[i * nr + v], ax = panel[(dim + i) * nr + v];

				sum += a > 0 ? ax * (ax / a) : 0;
			}
			j->zero[p * nr + v] = sum;
			j->strip[s].near += (double)sum;
		}
	}
}

/* The centre drawn last may be nearer than those before. */
static void
approach_strip(void *ctx, size_t s, int worker)
{
	struct job *j = ctx;
	size_t dim = j->p->dim, nr = j->nr, p, end;
	float score[TC_NR_MAX];

	(void)worker;
	j->strip[s].near = 0;
	for (strip_panels(j, s, &p, &end); p < end; p++) {
		float *near = j->near + p * nr;

		distances(j->terms, 1, dim, panel_at(j, p), score);
		for (size_t v = 0; v < nr; v++) {
			float distance = j->zero[p * nr + v] + score[v];

			distance = distance > 0 ? distance : 0;
			near[v] = j->drawn > 1 && near[v] < distance ? near[v] : distance;
			j->strip[s].near += (double)near[v];
		}
	}
}

static void
move_to_point(struct job *j, size_t k, size_t point)
{
	size_t dim = j->p->dim, nr = j->nr;
	const float *at = tc_point_at((float *)(void *)j->p->panels.p, dim, point);

	for (size_t i = 0; i < dim; i++)
		j->center[k * dim + i] = at[i * nr] > 0 ? at[(dim + i) * nr] / at[i * nr] : 0;
}

/* A point, each as likely as it is far; false when none is. */
static bool
draw(struct job *j, struct tc_rng *rng, const float *far, size_t *point)
{
	size_t from = 0, to = 0;
	double total = 0, at;
	bool found = false;

	for (size_t s = 0; s < STRIPS; s++)
		total += j->strip[s].near;
	at = tc_rng_unit(rng) * total;
	for (size_t s = 0; s < STRIPS; s++)
		if (j->strip[s].near > 0) {
			strip_panels(j, s, &from, &to);
			if (at < j->strip[s].near)
				break;
			at -= j->strip[s].near;
		}
	for (size_t i = from * j->nr; i < to * j->nr && !(found && at < 0); i++)
		if (far[i] > 0) {
			*point = i;
			found = true;
			at -= (double)far[i];
		}
	return found;
}

static void
start(struct job *j, struct tc_pool *pool)
{
	struct tc_rng rng;
	size_t point;

	tc_rng_seed(&rng, SEED);
	memset(j->center, 0, j->n * j->p->dim * sizeof(*j->center));
	tc_pool_run(pool, STRIPS, measure_strip, j);
	while (j->drawn < j->n && draw(j, &rng, j->drawn ? j->near : j->zero, &point)) {
		move_to_point(j, j->drawn, point);
		tc_kmeans_terms(j->center + j->drawn++ * j->p->dim, 1, j->p->dim, j->terms);
		tc_pool_run(pool, STRIPS, approach_strip, j);
	}
}

/* ---- iterations ---- */

static void
add_points(const struct job *j, struct strip *s, const float *panel, const uint8_t *code)
{
	size_t width = 2 * j->p->dim;

	for (size_t v = 0; v < j->nr; v++) {
		double *sum = s->sum + code[v] * width;

		for (size_t i = 0; i < width; i++)
			sum[i] += (double)panel[i * j->nr + v];
	}
}

static void
assign_strip(void *ctx, size_t s, int worker)
{
	struct job *j = ctx;
	struct strip *strip = &j->strip[s];
	size_t nr = j->nr, p, end;
	float least[TC_NR_MAX], *scores = j->scores + (size_t)worker * j->n * nr;
	uint8_t code[TC_NR_MAX];

	memset(strip->sum, 0, j->n * 2 * j->p->dim * sizeof(*strip->sum));
	strip->error = 0;
	strip->far_distance = 0;
	for (strip_panels(j, s, &p, &end); p < end; p++) {
		tc_kmeans_nearest(j->terms, j->n, j->p->dim, panel_at(j, p), scores, code, least);
		add_points(j, strip, panel_at(j, p), code);
		for (size_t v = 0; v < nr; v++) {
			float distance = j->zero[p * nr + v] + least[v];

			strip->error += (double)least[v];
			if (distance > strip->far_distance) {
				strip->far_distance = distance;
				strip->far = p * nr + v;
			}
		}
	}
}

/* The farthest point of the strips, once. */
static bool
take_farthest(struct job *j, size_t *point)
{
	struct strip *far = &j->strip[0];

	for (size_t s = 1; s < STRIPS; s++)
		if (j->strip[s].far_distance > far->far_distance)
			far = &j->strip[s];
	*point = far->far;
	if (!(far->far_distance > 0))
		return false;
	far->far_distance = 0;
	return true;
}

/* Every centre becomes the mean of its points; one without any, the point that
 * lies farthest from its own. */
static void
move_centers(struct job *j)
{
	size_t dim = j->p->dim, width = 2 * dim, point;

	for (size_t s = 1; s < STRIPS; s++)
		for (size_t i = 0; i < j->n * width; i++)
			j->strip[0].sum[i] += j->strip[s].sum[i];
	for (size_t k = 0; k < j->n; k++) {
		const double *sum = j->strip[0].sum + k * width;
		double weight = 0;

		for (size_t i = 0; i < dim; i++) {
			weight += sum[i];
			if (sum[i] > 0)
				j->center[k * dim + i] = (float)(sum[dim + i] / sum[i]);
		}
		if (!(weight > 0) && take_farthest(j, &point))
			move_to_point(j, k, point);
	}
}

static void
iterate(struct job *j, struct tc_pool *pool)
{
	double zero = 0, last = INFINITY;

	for (size_t i = 0; i < j->panels * j->nr; i++)
		zero += (double)j->zero[i];
	for (int i = 0; i < ITERATIONS; i++) {
		double error = zero;

		tc_kmeans_terms(j->center, j->n, j->p->dim, j->terms);
		tc_pool_run(pool, STRIPS, assign_strip, j);
		for (size_t s = 0; s < STRIPS; s++)
			error += j->strip[s].error;
		if (!(error < last * (1 - ENOUGH)))
			return;
		last = error;
		move_centers(j);
	}
}

int
tc_kmeans_run(const struct tc_points *p, size_t n, float *center, struct tc_pool *pool, struct tc_err *err)
{
	struct job j = { .p = p, .n = n, .nr = tc_kernels()->nr, .center = center };
	size_t width = 2 * p->dim, points;
	int r = -1;

	j.panels = (p->n + j.nr - 1) / j.nr;
	points = j.panels * j.nr;
	j.terms = tc_alloc(n * width, sizeof(*j.terms), err);
	j.zero = tc_alloc(points, sizeof(*j.zero), err);
	j.near = tc_alloc(points, sizeof(*j.near), err);
	j.scores = tc_alloc((size_t)tc_pool_threads(pool), n * j.nr * sizeof(*j.scores), err);
	j.sums = tc_alloc(STRIPS, n * width * sizeof(*j.sums), err);
	if (j.terms && j.zero && j.near && j.scores && j.sums) {
		for (size_t s = 0; s < STRIPS; s++)
			j.strip[s].sum = j.sums + s * n * width;
		start(&j, pool);
		iterate(&j, pool);
		r = 0;
	}
	free(j.terms);
	free(j.zero);
	free(j.near);
	free(j.scores);
	free(j.sums);
	return r;
}
