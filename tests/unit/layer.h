/* layer.h - a layer, what it was calibrated on, and what a quantizer made of it. */
#ifndef TC_TESTS_LAYER_H
#define TC_TESTS_LAYER_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "quantized.h"

enum { ROWS = 45, COLS = 100, TOKENS = 300 };

static struct tc_rng rng;
static struct tc_err err;

static inline double
gauss(void)
{
	double x = 0;

	for (int i = 0; i < 12; i++)
		x += tc_rng_unit(&rng);
	return x - 6;
}

struct layer {
	float w[ROWS * COLS];
	double h[COLS * COLS], magnitudes[COLS];
	float packed[COLS * (COLS + 1) / 2];
	struct tc_tensor t;
};

/* The triangle is that of h. */
static inline void
pack(struct layer *l)
{
	for (size_t i = 0; i < COLS; i++)
		for (size_t j = 0; j <= i; j++)
			l->packed[i * (i + 1) / 2 + j] = (float)l->h[i * COLS + j];
}

/* Inputs that go together, `tokens` of them; input `dead` is always 0. */
static inline void
make(struct layer *l, size_t tokens, int dead)
{
	double mix[COLS], x[COLS];

	memset(l, 0, sizeof(*l));
	for (size_t i = 0; i < ROWS * COLS; i++)
		l->w[i] = (float)gauss();
	for (size_t i = 0; i < COLS; i++)
		mix[i] = 0.2 + 2 * tc_rng_unit(&rng);
	for (size_t t = 0; t < tokens; t++) {
		double common = gauss(), before = 0;

		for (size_t i = 0; i < COLS; i++) {
			before = x[i] = (int)i == dead ? 0 : mix[i] * (gauss() + common + 0.5 * before);
			if ((int)i == dead)
				before = 0;
		}
		for (size_t i = 0; i < COLS; i++) {
			l->magnitudes[i] += fabs(x[i]);
			for (size_t j = 0; j < COLS; j++)
				l->h[i * COLS + j] += x[i] * x[j];
		}
	}
	pack(l);
	l->t = dense(l->w, ROWS, COLS);
}

static inline void
numbers(const struct tc_quantized *q, float *w)
{
	tc_tensor_read_rows(&q->t, 0, ROWS, w);
}

/* The layer's output error, summed over tokens: trace of D H D^T. */
static inline double
output_error(const struct layer *l, const float *q)
{
	double sum = 0;

	for (size_t r = 0; r < ROWS; r++)
		for (size_t i = 0; i < COLS; i++) {
			double d = 0;

			for (size_t j = 0; j < COLS; j++)
				d += l->h[i * COLS + j] * ((double)q[r * COLS + j] - (double)l->w[r * COLS + j]);
			sum += d * ((double)q[r * COLS + i] - (double)l->w[r * COLS + i]);
		}
	return sum;
}

static inline bool
same(const struct tc_quantized *a, const struct tc_quantized *b)
{
	bool same = a->t.nparts == b->t.nparts && a->t.nparts > 0;

	for (int i = 0; same && i < a->t.nparts; i++)
		same = a->t.part[i].size_bytes == b->t.part[i].size_bytes &&
		    !memcmp(a->t.part[i].data, b->t.part[i].data, a->t.part[i].size_bytes);
	return same;
}

#endif
