/* Round to nearest: every weight becomes the nearest level of its group's
 * grid, without data and without regard for other weights.
 *
 *   symmetric, odd levels   s = max|w| / (2^(b-1) - 1),  q = round(w / s)
 *   symmetric, all levels   s = 2 max|w| / (2^b - 1),    q = round(w / s)
 *   symmetric, 1 bit        s = mean|w| (the least-squares scale of a sign;
 *                           all levels: max|w|),         q = sign(w)
 *   asymmetric              s = (max - min) / (2^b - 1), z = round(-min / s)
 *                           with min <= 0 <= max,        q = round(w / s) + z
 *   float minimum           the same s with any min,     q = round((w - min) / s)
 *
 * in f32, halves to even, with the scale (and minimum) rounded to its stored
 * type first, so that what is rounded to is what will be read.  The scale is
 * the range times the rounded reciprocal of the number of steps, as the
 * published figures were computed: bf16 weights often lie exactly half-way
 * between two levels, and the last bit of the scale decides where they go
 * (0.2% of the perplexity at 3 bits). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "method/quantizer.h"

/* A group's grid as it will be read back. */
struct grid {
	float scale, min;
	int zero;   /* the code of 0, for symmetric and asymmetric grids */
	int low, high;
};

struct range {
	float low, high, sum_abs;
};

static struct range
range_of(const float *w, size_t n)
{
	struct range r = { w[0], w[0], 0 };

	for (size_t i = 0; i < n; i++) {
		r.low = w[i] < r.low ? w[i] : r.low;
		r.high = w[i] > r.high ? w[i] : r.high;
		r.sum_abs += fabsf(w[i]);
	}
	return r;
}

static float
stored(enum tc_dtype dtype, float x)
{
	return dtype == TC_F16 ? tc_f32_from_f16(tc_f16_from_f32(x)) : x;
}

static float
scale_of(float range, int steps)
{
	return range * (1.0f / (float)steps);
}

static struct grid
symmetric_grid(const struct tc_quant_options *o, const struct range *r, size_t n)
{
	int top = 1 << (o->bits - 1);
	float max = fmaxf(fabsf(r->low), fabsf(r->high));
	struct grid g = { .zero = top, .low = 0, .high = 2 * top - 1 };

	if (o->bits == 1)
		g.scale = o->levels == TC_LEVELS_FULL ? max : r->sum_abs / (float)n;
	else if (o->levels == TC_LEVELS_FULL)
		g.scale = scale_of(2 * max, 2 * top - 1);
	else {
		g.scale = scale_of(max, top - 1);
		g.low = 1;
	}
	g.scale = stored(o->scale, g.scale);
	return g;
}

static struct grid
asymmetric_grid(const struct tc_quant_options *o, const struct range *r)
{
	int top = (1 << o->bits) - 1;
	float low = fminf(r->low, 0), high = fmaxf(r->high, 0);
	struct grid g = { .high = top };

	g.scale = stored(o->scale, scale_of(high - low, top));
	if (g.scale > 0)
		g.zero = (int)fminf(fmaxf(nearbyintf(-low / g.scale), 0), (float)top);
	return g;
}

static struct grid
minimum_grid(const struct tc_quant_options *o, const struct range *r)
{
	struct grid g = { .high = (1 << o->bits) - 1 };

	g.min = stored(o->scale, r->low);
	g.scale = stored(o->scale, scale_of(r->high - r->low, g.high));
	return g;
}

static struct grid
grid_of(const struct tc_quant_options *o, const struct range *r, size_t n)
{
	switch (o->zero) {
	case TC_ZERO_INT:
		return asymmetric_grid(o, r);
	case TC_ZERO_MIN:
		return minimum_grid(o, r);
	default:
		return symmetric_grid(o, r, n);
	}
}

/* Nearest integer, halves to even, for |x| < 2^22, without a call. */
static inline float
nearest(float x)
{
	return x + 0x1.8p23f - 0x1.8p23f;
}

static inline uint8_t
code(float q, const struct grid *g)
{
	q = q > (float)g->low ? q : (float)g->low;
	return (uint8_t)(int)(q < (float)g->high ? q : (float)g->high);
}

static void
round_group(const struct tc_quant_options *o, const struct grid *g, const float *w, size_t n, uint8_t *codes)
{
	/* Nothing but zeros, or too small for the scale's type. */
	if (g->scale == 0) {
		memset(codes, g->zero, n);
		return;
	}
	if (o->zero == TC_ZERO_NONE && o->bits == 1) {
		for (size_t i = 0; i < n; i++)
			codes[i] = w[i] >= 0;
		return;
	}
	if (o->zero == TC_ZERO_MIN) {
		for (size_t i = 0; i < n; i++)
			codes[i] = code(nearest((w[i] - g->min) / g->scale), g);
		return;
	}
	for (size_t i = 0; i < n; i++)
		codes[i] = code(nearest(w[i] / g->scale) + (float)g->zero, g);
}

struct job {
	const struct tc_quant_options *o;
	const struct tc_tensor *w;
	size_t rows, cols, groups;  /* groups of a row */
	uint8_t *codes;             /* packed */
	void *scales;
	void *mins;                 /* TC_ZERO_MIN */
	uint8_t *zeros;             /* TC_ZERO_INT: one byte a group, packed later */
	float *row;                 /* [threads][cols] */
	uint8_t *row_codes;         /* [threads][cols] */
	const struct grid *whole;   /* one grid for the tensor, or NULL */
	unsigned char *overflow;    /* [rows] */
};

static void
put(enum tc_dtype dtype, void *dst, size_t i, float x)
{
	if (dtype == TC_F16)
		((uint16_t *)dst)[i] = tc_f16_from_f32(x);
	else
		((float *)dst)[i] = x;
}

static void
put_grid(const struct job *j, size_t group, const struct grid *g)
{
	put(j->o->scale, j->scales, group, g->scale);
	if (j->mins)
		put(j->o->scale, j->mins, group, g->min);
	if (j->zeros)
		j->zeros[group] = (uint8_t)g->zero;
}

static void
quantize_row(void *ctx, size_t r, int worker)
{
	struct job *j = ctx;
	float *w = j->row + (size_t)worker * j->cols;
	uint8_t *codes = j->row_codes + (size_t)worker * j->cols;
	size_t width = j->groups == 1 ? j->cols : j->o->group;

	tc_tensor_read_rows(j->w, r, 1, w);
	for (size_t k = 0; k < j->groups; k++) {
		size_t c = k * width, n = tc_min(width, j->cols - c);
		struct range range;
		struct grid g;

		if (j->whole) {
			g = *j->whole;
		} else {
			range = range_of(w + c, n);
			g = grid_of(j->o, &range, n);
			put_grid(j, r * j->groups + k, &g);
		}
		j->overflow[r] |= !isfinite(g.scale) || !isfinite(g.min);
		round_group(j->o, &g, w + c, n, codes + c);
	}
	tc_pack(codes, j->cols, j->o->bits, j->codes + r * tc_packed_bytes(j->cols, j->o->bits));
}

/* The range of the whole tensor: row by row, in order. */
static struct grid
tensor_grid(const struct job *j)
{
	struct range all = {0};

	for (size_t r = 0; r < j->rows; r++) {
		struct range one;

		tc_tensor_read_rows(j->w, r, 1, j->row);
		one = range_of(j->row, j->cols);
		all.low = r == 0 || one.low < all.low ? one.low : all.low;
		all.high = r == 0 || one.high > all.high ? one.high : all.high;
		all.sum_abs += one.sum_abs;
	}
	return grid_of(j->o, &all, j->rows * j->cols);
}

/* Lays the tensor out in one piece of memory. */
static int
allocate(const struct tc_quant_options *o, const struct tc_tensor *w, struct tc_quantized *q, struct tc_err *err)
{
	size_t total = 0;
	char *p;

	q->t = *w;
	q->t.format = (struct tc_format){ .encoding = TC_UNIFORM, .dtype = o->scale, .bits = o->bits,
		.group = o->group != TC_GROUP_TENSOR && o->group >= tc_tensor_cols(w) ? TC_GROUP_ROW : o->group,
		.zero = o->zero };
	if (tc_tensor_layout(&q->t, err) < 0)
		return -1;
	for (int i = 0; i < q->t.nparts; i++)
		total += tc_round_up(q->t.part[i].size_bytes, TC_ALIGN);
	q->owned = p = tc_zalloc(total, 1, err);
	if (!p)
		return -1;
	for (int i = 0; i < q->t.nparts; i++) {
		q->t.part[i].data = p;
		p += tc_round_up(q->t.part[i].size_bytes, TC_ALIGN);
	}
	return 0;
}

int
tc_rtn_run(const struct tc_quant_options *o, const struct tc_tensor *w, struct tc_quantized *q,
    struct tc_pool *pool, struct tc_err *err)
{
	size_t threads = (size_t)tc_pool_threads(pool), ngroups;
	struct job j = { .o = o, .w = w, .rows = tc_tensor_rows(w), .cols = tc_tensor_cols(w) };
	struct grid whole;
	int r = -1;

	*q = (struct tc_quantized){0};
	if (allocate(o, w, q, err) < 0)
		goto out;
	j.groups = tc_format_row_groups(&q->t.format, j.cols);
	ngroups = q->t.format.group == TC_GROUP_TENSOR ? 1 : j.rows * j.groups;
	j.codes = (uint8_t *)q->t.part[0].data;
	j.scales = (void *)q->t.part[1].data;
	j.mins = o->zero == TC_ZERO_MIN ? (void *)q->t.part[2].data : NULL;
	j.row = tc_alloc(threads, j.cols * sizeof(float), err);
	j.row_codes = tc_alloc(threads, j.cols, err);
	j.overflow = tc_zalloc(j.rows, 1, err);
	if (o->zero == TC_ZERO_INT)
		j.zeros = tc_alloc(ngroups, 1, err);
	if (!j.row || !j.row_codes || !j.overflow || (o->zero == TC_ZERO_INT && !j.zeros))
		goto out;
	if (q->t.format.group == TC_GROUP_TENSOR) {
		whole = tensor_grid(&j);
		j.whole = &whole;
		put_grid(&j, 0, &whole);
	}
	tc_pool_run(pool, j.rows, quantize_row, &j);
	for (size_t i = 0; i < j.rows; i++)
		if (j.overflow[i]) {
			tc_fail(err, TC_DATA, "%s: row %zu: its scale does not fit %s", w->name, i,
			    o->scale == TC_F16 ? "f16: use --scale f32" : "f32");
			goto out;
		}
	if (j.zeros)
		tc_pack(j.zeros, ngroups, o->bits, (uint8_t *)q->t.part[2].data);
	r = 0;
out:
	free(j.row);
	free(j.row_codes);
	free(j.overflow);
	free(j.zeros);
	if (r < 0)
		tc_quantized_free(q);
	return r;
}
