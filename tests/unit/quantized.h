/* quantized.h - weights for a quantizer, and what it made of them. */
#ifndef TC_TESTS_QUANTIZED_H
#define TC_TESTS_QUANTIZED_H

#include <stdlib.h>

#include "method/quantizer.h"

/* An initializer of struct tc_quant_options. */
#define OPTIONS(b, g, z, l, s) { .bits = (b), .group = (g), .zero = (z), .levels = (l), .scale = (s) }

/* A tensor whose data are w's. */
static inline struct tc_tensor
dense(const float *w, size_t rows, size_t cols)
{
	struct tc_tensor t = { .name = "w", .ndim = 2, .shape = { rows, cols }, .format = { .dtype = TC_F32 } };
	struct tc_err err;

	if (tc_tensor_layout(&t, &err) < 0)
		exit(1);
	t.part[0].data = w;
	return t;
}

/* Number i of the scales (part 1) or minima (part 2). */
static inline float
scale_at(const struct tc_quantized *q, int part, size_t i)
{
	const void *p = q->t.part[part].data;

	return q->t.format.dtype == TC_F16 ? tc_f32_from_f16(((const uint16_t *)p)[i]) : ((const float *)p)[i];
}

#endif
