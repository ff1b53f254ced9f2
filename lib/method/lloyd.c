/* A codebook learned for each tensor: 2^bits levels for weights in units of
 * their group's largest magnitude, placed by Lloyd's algorithm so that
 *
 *   sum_i a_i (w_i - s_i c(i))^2
 *
 * is small, with s_i the scale of weight i's group, c(i) the nearest level, and
 * a_i the importance: the weight's squared gradient, or else the sum of squares
 * of its input over the calibration tokens, or else 1.  Lloyd, "Least squares
 * quantization in PCM", 1982; weighted by the diagonal Fisher as in Kim et al.,
 * "SqueezeLLM: Dense-and-Sparse Quantization", 2023, whose codebooks are of a
 * row and without scales.
 *
 * In x = w / s the sum is one of a s^2 (x - c)^2.  A fine histogram stands for
 * the weights: levels are means of its cells' exact sums, only the borders
 * between levels are rounded to cells.  Levels start as quantiles of the cube
 * root of the density, the best there are for many levels (Panter and Dite,
 * "Quantization distortion in pulse-count modulation", 1951). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "method/groups.h"

enum {
	CELLS = 1 << 14,
	COARSE = 1 << 8,       /* cells of the density that levels start from */
	STRIPS = 16,           /* of rows: histograms whose sum is that of the tensor */
	ITERATIONS = 50,
	LEVELS_MAX = 1 << 8
};

struct histogram {
	double weight[CELLS];  /* a s^2 */
	double moment[CELLS];  /* a s^2 x */
};

enum importance { BY_FISHER, BY_SQUARES, ALIKE };

struct job {
	const struct tc_quant_options *o;
	const struct tc_quant_input *in;
	enum importance importance;
	size_t rows, cols;
	size_t groups, width;        /* of a row */
	struct tc_grid whole;        /* TC_GROUP_TENSOR: the one group's */
	struct histogram *strip;     /* [STRIPS] */
	float *row;                  /* [threads][cols] */
};

static size_t
cell_of(float x)
{
	float cell = (x + 1) * (CELLS / 2);

	return cell >= CELLS ? CELLS - 1 : cell > 0 ? (size_t)cell : 0;
}

static double
importance(const struct job *j, size_t r, size_t c)
{
	switch (j->importance) {
	case BY_FISHER:
		return (double)j->in->fisher[r * j->cols + c];
	case BY_SQUARES:
		return j->in->squares[c];
	default:
		return 1;
	}
}

static void
add_group(const struct job *j, size_t r, size_t c, const float *w, size_t n, struct histogram *h)
{
	struct tc_range range = tc_range_of(j->o, w, n);
	float scale = j->o->group == TC_GROUP_TENSOR ? j->whole.scale : tc_grid_table(j->o, &range, NULL).scale;
	double squared = (double)scale * (double)scale;
	bool pruned = tc_quant_is_pruned(j->in);

	if (!(scale > 0) || !isfinite(scale))
		return;
	for (size_t i = 0; i < n; i++) {
		float x = w[i] / scale;
		double weight = pruned && x == 0 ? 0 : squared * importance(j, r, c + i);
		size_t cell = cell_of(x);

		h->weight[cell] += weight;
		h->moment[cell] += weight * (double)x;
	}
}

static void
add_strip(void *ctx, size_t s, int worker)
{
	struct job *j = ctx;
	float *w = j->row + (size_t)worker * j->cols;

	for (size_t r = j->rows * s / STRIPS; r < j->rows * (s + 1) / STRIPS; r++) {
		tc_tensor_read_rows(j->in->w, r, 1, w);
		for (size_t k = 0; k < j->groups; k++) {
			size_t c = k * j->width;

			add_group(j, r, c, w + c, tc_min(j->width, j->cols - c), &j->strip[s]);
		}
	}
}

/* Fills strip[0]; false when no weight is of any importance. */
static bool
fill_histogram(struct job *j, enum importance by, struct tc_pool *pool)
{
	struct histogram *h = j->strip;
	double total = 0;

	j->importance = by;
	memset(h, 0, STRIPS * sizeof(*h));
	tc_pool_run(pool, STRIPS, add_strip, j);
	for (size_t i = 0; i < CELLS; i++) {
		for (size_t s = 1; s < STRIPS; s++) {
			h->weight[i] += h[s].weight[i];
			h->moment[i] += h[s].moment[i];
		}
		total += h->weight[i];
	}
	return total > 0;
}

static void
start_levels(const struct histogram *h, double *level, int n)
{
	double density[COARSE] = {0}, total = 0, before = 0;
	size_t cell = 0;

	for (size_t i = 0; i < CELLS; i++)
		density[i / (CELLS / COARSE)] += h->weight[i];
	for (size_t i = 0; i < COARSE; i++) {
		density[i] = density[i] > 0 ? tc_pow(density[i], 1.0 / 3) : 0;
		total += density[i];
	}
	for (int k = 0; k < n; k++) {
		double at = total * (k + 0.5) / n;

		while (cell < COARSE - 1 && before + density[cell] < at)
			before += density[cell++];
		level[k] = 2 * ((double)cell + (at - before) / density[cell]) / COARSE - 1;
	}
}

/* Every level becomes the mean of the weights nearer to it than to others;
 * false when none moves. */
static bool
move_levels(const struct histogram *h, double *level, int n)
{
	bool moved = false;
	size_t cell = 0;

	for (int k = 0; k < n; k++) {
		size_t end = k == n - 1 ? CELLS : cell_of((float)((level[k] + level[k + 1]) / 2));
		double weight = 0, moment = 0;

		for (; cell < end; cell++) {
			weight += h->weight[cell];
			moment += h->moment[cell];
		}
		if (weight > 0 && moment / weight != level[k]) {
			level[k] = moment / weight;
			moved = true;
		}
	}
	return moved;
}

static int
by_size(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

/* table: [2^bits], ascending. */
static void
learn(struct job *j, float *table, struct tc_pool *pool)
{
	const struct tc_quant_input *in = j->in;
	double level[LEVELS_MAX];
	int n = 1 << j->o->bits;

	for (int k = 0; k < n; k++)   /* of nothing but zeros */
		level[k] = (2 * k + 1.0) / n - 1;
	if ((in->fisher && fill_histogram(j, BY_FISHER, pool)) || (in->squares && fill_histogram(j, BY_SQUARES, pool)) ||
	    fill_histogram(j, ALIKE, pool)) {
		start_levels(j->strip, level, n);
		for (int i = 0; i < ITERATIONS && move_levels(j->strip, level, n); i++)
			;
	}
	for (int k = 0; k < n; k++)
		table[k] = (float)level[k];
	qsort(table, (size_t)n, sizeof(*table), by_size);   /* of a single cell's, some may have passed others */
}

static struct tc_grid
whole_grid(const struct job *j, float *row)
{
	struct tc_range all = {0};

	for (size_t r = 0; r < j->rows; r++) {
		struct tc_range range;

		tc_tensor_read_rows(j->in->w, r, 1, row);
		range = tc_range_of(j->o, row, j->cols);
		all.low = fminf(all.low, range.low);
		all.high = fmaxf(all.high, range.high);
	}
	return tc_grid_table(j->o, &all, NULL);
}

static int
learn_levels(const struct tc_quant_options *o, const struct tc_quant_input *in, float *table, struct tc_pool *pool, struct tc_err *err)
{
	struct job j = { .o = o, .in = in, .rows = tc_tensor_rows(in->w), .cols = tc_tensor_cols(in->w) };
	int r = -1;

	j.groups = tc_format_row_groups(&(struct tc_format){ .group = o->group }, j.cols);
	j.width = j.groups == 1 ? j.cols : o->group;
	j.strip = tc_alloc(STRIPS, sizeof(*j.strip), err);
	j.row = tc_alloc((size_t)tc_pool_threads(pool), j.cols * sizeof(*j.row), err);
	if (j.strip && j.row) {
		if (o->group == TC_GROUP_TENSOR)
			j.whole = whole_grid(&j, j.row);
		learn(&j, table, pool);
		r = 0;
	}
	free(j.strip);
	free(j.row);
	return r;
}

int
tc_lloyd_fitter(struct tc_fitter *f, const struct tc_quant_input *in, struct tc_pool *pool, struct tc_err *err)
{
	float *table = tc_alloc((size_t)1 << f->o.bits, sizeof(*table), err);

	if (!table)
		return -1;
	f->fit = tc_fit_table;
	f->table = f->own = table;
	return learn_levels(&f->o, in, table, pool, err);
}
