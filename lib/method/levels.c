/* Levels of each row, or group of inputs of a row, of its own and without a
 * scale: 2^bits numbers such that
 *
 *   sum_i a_i (w_i - c(i))^2
 *
 * is least, with c(i) the nearest of them and a_i the weight's importance, as in
 * lloyd.c.  Kim et al. (2023), "SqueezeLLM: Dense-and-Sparse Quantization", whose
 * k-means is iterated; in one dimension the best is found by dynamic programming
 * over the sorted weights: Wang and Song (2011), "Ckmeans.1d.dp: optimal k-means
 * clustering in one dimension by dynamic programming"; each step divides and
 * conquers, since where the last cluster best begins ascends with its end. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "method/groups.h"

enum { LEVELS_MAX = 1 << 8 };

struct point {
	float x, importance;
};

/* A worker's room, for groups of at most n weights. */
struct room {
	struct point *point;       /* [n], ascending */
	double *weight, *moment;   /* [n + 1]: sums of importance, and times x, of the points before */
	double *square;            /* [n + 1]: and times x^2 */
	double *cost, *next;       /* [n]: least error of points 0 .. i in so many clusters */
	uint32_t *first;           /* [2^bits][n]: where the last cluster begins then */
};

struct job {
	const struct tc_quant_input *in;
	struct tc_packing p;
	size_t levels;
	struct room *room;         /* [threads] */
	float *row;                /* [threads][cols] */
	uint8_t *codes;            /* [threads][cols] */
};

static int
by_number(const void *a, const void *b)
{
	const struct point *p = a, *q = b;

	if (p->x != q->x)
		return p->x < q->x ? -1 : 1;
	return (p->importance > q->importance) - (p->importance < q->importance);
}

static double
importance(const struct tc_group *g, size_t i)
{
	return g->fisher ? (double)g->fisher[i] : g->squares ? g->squares[i % g->period] : 1;
}

/* Sorted, with sums; what is of no importance at all counts alike.  Returns how many
 * there are. */
static size_t
take_points(struct room *m, const struct tc_group *g, bool pruned)
{
	double total = 0;
	size_t n = 0;

	for (size_t i = 0; i < g->n; i++)
		total += importance(g, i);
	for (size_t i = 0; i < g->n; i++)
		if (!pruned || g->w[i] != 0)
			m->point[n++] = (struct point){ g->w[i], total > 0 ? (float)(importance(g, i) / total) : 1 };
	if (n == 0)
		m->point[n++] = (struct point){ 0, 1 };
	qsort(m->point, n, sizeof(*m->point), by_number);
	m->weight[0] = m->moment[0] = m->square[0] = 0;
	for (size_t i = 0; i < n; i++) {
		double x = (double)m->point[i].x, a = (double)m->point[i].importance;

		m->weight[i + 1] = m->weight[i] + a;
		m->moment[i + 1] = m->moment[i] + a * x;
		m->square[i + 1] = m->square[i] + a * x * x;
	}
	return n;
}

/* Error of points first .. last around their mean. */
static double
cluster_cost(const struct room *m, size_t first, size_t last)
{
	double weight = m->weight[last + 1] - m->weight[first], moment = m->moment[last + 1] - m->moment[first];
	double cost = m->square[last + 1] - m->square[first] - (weight > 0 ? moment * moment / weight : 0);

	return cost > 0 ? cost : 0;
}

/* m->next[low .. high], whose last clusters begin at from .. to. */
static void
divide(struct room *m, uint32_t *first, size_t low, size_t high, size_t from, size_t to)
{
	size_t middle = (low + high) / 2, best = from;
	double least = INFINITY;

	for (size_t i = from; i <= tc_min(middle, to); i++) {
		double cost = (i > 0 ? m->cost[i - 1] : 0) + cluster_cost(m, i, middle);

		if (cost < least) {
			least = cost;
			best = i;
		}
	}
	m->next[middle] = least;
	first[middle] = (uint32_t)best;
	if (middle > low)
		divide(m, first, low, middle - 1, from, best);
	if (middle < high)
		divide(m, first, middle + 1, high, best, to);
}

static float
mean_of(const struct room *m, size_t first, size_t last)
{
	double weight = m->weight[last + 1] - m->weight[first];

	return weight > 0 ? (float)((m->moment[last + 1] - m->moment[first]) / weight) : m->point[first].x;
}

/* Ascending; where there are fewer points than levels, the last is repeated. */
static void
place_levels(struct room *m, size_t n, size_t levels, float *level)
{
	size_t clusters = tc_min(levels, n), last = n - 1;

	for (size_t i = 0; i < n; i++)
		m->cost[i] = cluster_cost(m, 0, i);
	memset(m->first, 0, n * sizeof(*m->first));
	for (size_t k = 1; k < clusters; k++) {
		double *swap = m->cost;

		divide(m, m->first + k * n, 0, n - 1, 0, n - 1);
		m->cost = m->next;
		m->next = swap;
	}
	for (size_t k = clusters; k-- > 0;) {
		size_t first = m->first[k * n + last];

		level[k] = mean_of(m, first, last);
		last = first > 0 ? first - 1 : 0;
	}
	for (size_t k = clusters; k < levels; k++)
		level[k] = level[clusters - 1];
}

static void
quantize_row(void *ctx, size_t r, int worker)
{
	struct job *j = ctx;
	struct tc_packing *p = &j->p;
	float *w = j->row + (size_t)worker * p->cols, level[LEVELS_MAX];
	uint8_t *codes = j->codes + (size_t)worker * p->cols;

	tc_tensor_read_rows(j->in->w, r, 1, w);
	for (size_t k = 0; k < p->groups; k++) {
		size_t c = k * p->width, n = tc_min(p->width, p->cols - c);
		struct tc_group group = tc_group_of(j->in, r, c, w + c, n);
		struct tc_grid g = { .scale = 1, .high = (int)j->levels - 1, .kind = TC_GRID_TABLE, .table = level };

		place_levels(&j->room[worker], take_points(&j->room[worker], &group, tc_quant_is_pruned(j->in)), j->levels, level);
		tc_packing_levels(p, tc_packing_group(p, r, k), level);
		tc_grid_round(&g, w + c, n, codes + c);
	}
	tc_packing_row(p, r, codes);
}

static int
allocate(struct job *j, size_t threads, struct tc_err *err)
{
	size_t n = j->p.width;

	j->row = tc_alloc(threads, j->p.cols * sizeof(*j->row), err);
	j->codes = tc_alloc(threads, j->p.cols, err);
	j->room = tc_zalloc(threads, sizeof(*j->room), err);
	if (!j->row || !j->codes || !j->room)
		return -1;
	for (size_t t = 0; t < threads; t++) {
		struct room *m = &j->room[t];

		m->point = tc_alloc(n, sizeof(*m->point), err);
		m->weight = tc_alloc(3 * (n + 1), sizeof(*m->weight), err);
		m->cost = tc_alloc(n, sizeof(*m->cost), err);
		m->next = tc_alloc(n, sizeof(*m->next), err);
		m->first = tc_alloc(j->levels * n, sizeof(*m->first), err);
		if (!m->point || !m->weight || !m->cost || !m->next || !m->first)
			return -1;
		m->moment = m->weight + n + 1;
		m->square = m->moment + n + 1;
	}
	return 0;
}

static void
free_job(struct job *j, size_t threads)
{
	for (size_t t = 0; j->room && t < threads; t++) {
		struct room *m = &j->room[t];

		free(m->point);
		free(m->weight);
		free(m->cost);
		free(m->next);
		free(m->first);
	}
	free(j->room);
	free(j->row);
	free(j->codes);
	tc_packing_free(&j->p);
}

int
tc_levels_run(const struct tc_quant_options *o, const struct tc_quant_input *in, struct tc_quantized *q,
    struct tc_pool *pool, struct tc_err *err)
{
	size_t threads = (size_t)tc_pool_threads(pool);
	struct job j = { .in = in, .levels = (size_t)1 << o->bits };
	int r = tc_packing_open(&j.p, o, in->w, TC_LEVELS, err);

	*q = (struct tc_quantized){0};
	if (r == 0)
		r = allocate(&j, threads, err);
	if (r == 0) {
		tc_pool_run(pool, j.p.rows, quantize_row, &j);
		r = tc_packing_finish(&j.p, q, err);
	}
	free_job(&j, threads);
	return r;
}
