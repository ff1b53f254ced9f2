/* packing.h - a quantized tensor in the making.
 *
 *   tc_packing_open(&p, o, w, encoding, &err);
 *   tc_packing_grid(&p, tc_packing_group(&p, row, k), &grid);   any order
 *   tc_packing_row(&p, row, codes);
 *   tc_packing_finish(&p, &q, &err);                or tc_packing_free(&p)
 *
 * Rows and groups may be given by several threads. */
#ifndef TC_METHOD_PACKING_H
#define TC_METHOD_PACKING_H

#include "method/grid.h"

struct tc_packing {
	const struct tc_quant_options *o;
	struct tc_quantized q;
	size_t rows, cols;
	size_t groups, width;  /* of a row, and inputs that a group has */
	uint8_t *zeros;        /* TC_ZERO_INT: one byte a group */
	unsigned char *bad;    /* [groups in all]: a scale that its type cannot hold */
};

/* The format that o asks for, of a tensor with so many inputs. */
struct tc_format tc_packing_format(const struct tc_quant_options *o, enum tc_encoding encoding, size_t cols);
/* Parts like those of w with o's format. */
int tc_packing_open(struct tc_packing *p, const struct tc_quant_options *o, const struct tc_tensor *w, enum tc_encoding encoding, struct tc_err *err) TC_MUST_CHECK;
/* Where the grid of a row's k-th group goes, of tc_packing_groups(). */
size_t tc_packing_group(const struct tc_packing *p, size_t row, size_t k);
size_t tc_packing_groups(const struct tc_packing *p);
void tc_packing_grid(struct tc_packing *p, size_t group, const struct tc_grid *g);
/* Scales of 8 bits: all groups' grids at once, whose scales become what is
 * stored: Dettmers, Pagnoni, Holtzman and Zettlemoyer (2023), "QLoRA", double
 * quantization; here from the least to the largest of TC_SCALE_BLOCK. */
void tc_packing_grids(struct tc_packing *p, struct tc_grid *grid);
/* TC_LEVELS: a group's, [2^bits], ascending; rounded as they are stored. */
void tc_packing_levels(struct tc_packing *p, size_t group, float *level);
void tc_packing_row(struct tc_packing *p, size_t row, const uint8_t *codes);
/* TC_CODEBOOK: the numbers, [2^bits]. */
void tc_packing_table(struct tc_packing *p, const float *table);
/* TC_DATA when a scale was not finite. */
int tc_packing_check(const struct tc_packing *p, struct tc_err *err) TC_MUST_CHECK;
/* The same; *q owns the parts then. */
int tc_packing_finish(struct tc_packing *p, struct tc_quantized *q, struct tc_err *err) TC_MUST_CHECK;
void tc_packing_free(struct tc_packing *p);

/* *q with an input op more: its input is multiplied by by[cols], numbers that f16
 * holds, and what q has multiplies the result.  On failure q is as it was. */
int tc_quantized_scale_input(struct tc_quantized *q, const float *by, struct tc_err *err) TC_MUST_CHECK;

#endif
