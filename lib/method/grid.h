/* grid.h - the numbers that a group's codes stand for, as they will be read
 * back: scale and minimum have been rounded to their stored type. */
#ifndef TC_METHOD_GRID_H
#define TC_METHOD_GRID_H

#include "method/quantizer.h"

struct tc_grid {
	float scale, min;
	int zero;            /* symmetric and asymmetric grids: the code of 0 */
	int low, high;       /* codes there are */
	enum tc_grid_kind {
		TC_GRID_SHIFTED, /* s (q - zero) */
		TC_GRID_SIGN,    /* s (2 q - 1) */
		TC_GRID_MIN,     /* s q + min */
		TC_GRID_TABLE    /* s table[q], table ascending */
	} kind;
	const float *table;  /* [high + 1] */
};

struct tc_range {
	float low, high;
	float sum_abs;       /* only for a grid of signs, 1 bit symmetric */
};
struct tc_range tc_range_of(const struct tc_quant_options *o, const float *w, size_t n);

/* Round to nearest's grid over a range of n weights:
 *
 *   symmetric, odd levels   s = max|w| / (2^(b-1) - 1)
 *   symmetric, all levels   s = 2 max|w| / (2^b - 1)
 *   symmetric, 1 bit        s = mean|w|, the least-squares scale of a sign (all
 *                           levels: max|w|)
 *   asymmetric              s = (max - min) / (2^b - 1), z = round(-min / s) with
 *                           min <= 0 <= max
 *   float minimum           the same s with any min
 *
 * The scale is the range times the rounded reciprocal of the number of steps, as
 * the published figures were computed: bf16 weights often lie exactly half-way
 * between two levels, and the last bit of the scale decides where they go (0.2%
 * of the perplexity at 3 bits). */
struct tc_grid tc_grid_of(const struct tc_quant_options *o, const struct tc_range *r, size_t n);
/* A codebook's, whose numbers are in units of the group's largest magnitude:
 * s = max|w|. */
struct tc_grid tc_grid_table(const struct tc_quant_options *o, const struct tc_range *r, const float *table);
/* Whether 0 is among the numbers of every such grid, with the table (NULL: none). */
bool tc_grid_has_zero(const struct tc_quant_options *o, const float *table);

/* A scale and a minimum, rounded to their type.  Of scales of 8 bits, which
 * are made of many groups' together, the number itself. */
float tc_grid_stored(const struct tc_quant_options *o, float scale);
float tc_grid_stored_min(const struct tc_quant_options *o, float min);

/* The nearest codes, ties to even ones (table: to the lower). */
void tc_grid_round(const struct tc_grid *g, const float *w, size_t n, uint8_t *codes);
/* What they stand for. */
void tc_grid_values(const struct tc_grid *g, const uint8_t *codes, size_t n, float *w);
/* w becomes its nearest number, code *q. */
float tc_grid_nearest(const struct tc_grid *g, float w, uint8_t *q);

#endif
