#include "method/grid.h"

#include <math.h>
#include <string.h>

#include "kernel/kernel.h"

static bool
is_sign(const struct tc_quant_options *o)
{
	return o->zero == TC_ZERO_NONE && o->bits == 1;
}

struct tc_range
tc_range_of(const struct tc_quant_options *o, const float *w, size_t n)
{
	struct tc_range r = {0};

	tc_kernels()->range(n, w, &r.low, &r.high);
	for (size_t i = 0; is_sign(o) && i < n; i++)
		r.sum_abs += fabsf(w[i]);
	return r;
}

float
tc_grid_stored(const struct tc_quant_options *o, float scale)
{
	return o->scale == TC_F16 ? tc_f32_from_f16(tc_f16_from_f32(scale)) : scale;
}

float
tc_grid_stored_min(const struct tc_quant_options *o, float min)
{
	return o->scale == TC_F32 ? min : tc_f32_from_f16(tc_f16_from_f32(min));
}

static float
scale_of(float range, int steps)
{
	return range * (1.0f / (float)steps);
}

static float
magnitude(const struct tc_range *r)
{
	return fmaxf(fabsf(r->low), fabsf(r->high));
}

static struct tc_grid
symmetric_grid(const struct tc_quant_options *o, const struct tc_range *r, size_t n)
{
	int top = 1 << (o->bits - 1);
	struct tc_grid g = { .zero = top, .low = 0, .high = 2 * top - 1, .kind = is_sign(o) ? TC_GRID_SIGN : TC_GRID_SHIFTED };

	if (is_sign(o))
		g.scale = o->levels == TC_LEVELS_FULL ? magnitude(r) : r->sum_abs / (float)n;
	else if (o->levels == TC_LEVELS_FULL)
		g.scale = scale_of(2 * magnitude(r), 2 * top - 1);
	else {
		g.scale = scale_of(magnitude(r), top - 1);
		g.low = 1;
	}
	g.scale = tc_grid_stored(o, g.scale);
	return g;
}

/* Nearest integer, halves to even, for |x| < 2^22, without a call. */
static inline float
nearest(float x)
{
	return x + 0x1.8p23f - 0x1.8p23f;
}

static inline float
within(float x, float low, float high)
{
	x = x > low ? x : low;
	return x < high ? x : high;
}

static struct tc_grid
asymmetric_grid(const struct tc_quant_options *o, const struct tc_range *r)
{
	int top = (1 << o->bits) - 1;
	float low = r->low < 0 ? r->low : 0, high = r->high > 0 ? r->high : 0;
	struct tc_grid g = { .high = top };

	g.scale = tc_grid_stored(o, scale_of(high - low, top));
	if (g.scale > 0)
		g.zero = (int)within(nearest(-low / g.scale), 0, (float)top);
	return g;
}

static struct tc_grid
minimum_grid(const struct tc_quant_options *o, const struct tc_range *r)
{
	struct tc_grid g = { .high = (1 << o->bits) - 1, .kind = TC_GRID_MIN };

	g.min = tc_grid_stored_min(o, r->low);
	g.scale = tc_grid_stored(o, scale_of(r->high - r->low, g.high));
	return g;
}

struct tc_grid
tc_grid_of(const struct tc_quant_options *o, const struct tc_range *r, size_t n)
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

struct tc_grid
tc_grid_table(const struct tc_quant_options *o, const struct tc_range *r, const float *table)
{
	return (struct tc_grid){ .scale = tc_grid_stored(o, magnitude(r)), .high = (1 << o->bits) - 1,
		.kind = TC_GRID_TABLE, .table = table };
}

bool
tc_grid_has_zero(const struct tc_quant_options *o, const float *table)
{
	for (int i = 0; table && i < 1 << o->bits; i++)
		if (table[i] == 0)
			return true;
	return !table && (o->zero == TC_ZERO_INT || (o->zero == TC_ZERO_NONE && o->bits > 1));
}

static uint8_t
table_code(const struct tc_grid *g, float x)
{
	int low = 0, high = g->high;

	/* table[low] <= x < table[high], but at the ends */
	while (high - low > 1) {
		int middle = (low + high) / 2;

		if (g->table[middle] <= x)
			low = middle;
		else
			high = middle;
	}
	return (uint8_t)(x - g->table[low] <= g->table[high] - x ? low : high);
}

/* The nearest one; the scale is not 0. */
static inline uint8_t
code(const struct tc_grid *g, float w)
{
	switch (g->kind) {
	case TC_GRID_SIGN:
		return w >= 0;
	case TC_GRID_TABLE:
		return table_code(g, w / g->scale);
	case TC_GRID_MIN:
		w -= g->min;
		break;
	case TC_GRID_SHIFTED:
		break;
	}
	return (uint8_t)within(nearest(w / g->scale) + (float)g->zero, (float)g->low, (float)g->high);
}

/* Of nothing but zeros, or where the scale is too small for its type. */
static uint8_t
code_of_zero(const struct tc_grid *g)
{
	return g->kind == TC_GRID_TABLE ? table_code(g, 0) : (uint8_t)g->zero;
}

void
tc_grid_round(const struct tc_grid *g, const float *w, size_t n, uint8_t *restrict codes)
{
	const struct tc_rounding r = { g->min, g->scale, (float)g->zero, (float)g->low, (float)g->high };

	if (g->scale == 0)
		memset(codes, code_of_zero(g), n);
	else if (g->kind == TC_GRID_SHIFTED || g->kind == TC_GRID_MIN)
		tc_kernels()->round_codes(n, w, &r, codes);
	else
		for (size_t i = 0; i < n; i++)
			codes[i] = code(g, w[i]);
}

void
tc_grid_values(const struct tc_grid *grid, const uint8_t *codes, size_t n, float *restrict w)
{
	const struct tc_grid own = *grid, *g = &own;

	switch (g->kind) {
	case TC_GRID_SIGN:
		for (size_t i = 0; i < n; i++)
			w[i] = g->scale * (float)(2 * codes[i] - 1);
		return;
	case TC_GRID_MIN:
		for (size_t i = 0; i < n; i++)
			w[i] = g->scale * (float)codes[i] + g->min;
		return;
	case TC_GRID_TABLE:
		for (size_t i = 0; i < n; i++)
			w[i] = g->scale * g->table[codes[i]];
		return;
	case TC_GRID_SHIFTED:
		for (size_t i = 0; i < n; i++)
			w[i] = g->scale * (float)(codes[i] - g->zero);
		return;
	}
}

float
tc_grid_nearest(const struct tc_grid *g, float w, uint8_t *q)
{
	float to = 0;

	*q = g->scale == 0 ? code_of_zero(g) : code(g, w);
	tc_grid_values(g, q, 1, &to);
	return to;
}
