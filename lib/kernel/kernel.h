/* kernel.h - the inner loops, one table of functions per CPU kind.
 *
 * Every kind's file (generic.c, avx2.c, avx512.c) includes body.h with its
 * own vector type and is compiled with its own flags; dispatch.c chooses at
 * run time.  On one kind, an output element is computed by the same
 * operations in the same order however many rows are asked for, so one token
 * or 512 give the same bits; between kinds the bits differ by rounding. */
#ifndef TC_KERNEL_KERNEL_H
#define TC_KERNEL_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* What panels hold. */
enum tc_panel { TC_PANEL_F32, TC_PANEL_F16, TC_PANEL_BF16, TC_PANELS };
extern const size_t tc_panel_bytes[TC_PANELS]; /* of an element */

#define TC_NR_MAX 64 /* no kind has wider panels */

struct tc_kernels {
	const char *name;
	size_t nr;   /* outputs a panel holds; a multiple of 4, at most TC_NR_MAX */

	/* y[r][j] = sum over i of x[r][i] * panel[i][j], j < n <= nr, in f32, i
	 * ascending, one fused (generic: one rounded) multiply-add at a time,
	 * started from 0 or, with accumulate, from what y holds.
	 * x[r][i] is x[r * row_stride + i * k_stride]; panel is [k][nr]; y has
	 * ldy floats a row. */
	void (*gemm[TC_PANELS])(size_t rows, size_t n, size_t k, const float *x, size_t row_stride,
	    size_t k_stride, const void *panel, float *y, size_t ldy, int accumulate);

	/* y = x / sqrt(mean(x^2) + eps) * w, n elements. */
	void (*rms_norm)(size_t n, const float *x, const float *w, float eps, float *y);
	/* y = (x - mean) / sqrt(variance + eps) * w + b, n elements. */
	void (*layer_norm)(size_t n, const float *x, const float *w, const float *b, float eps, float *y);
	/* y = silu(gate) * up, silu(x) = x / (1 + exp(-x)); up NULL: silu(gate).
	 * y may be gate.  gelu_tanh_mul: x / (1 + exp(-2 z)),
	 * z = sqrt(2/pi) (x + 0.044715 x^3), which is 0.5 x (1 + tanh z). */
	void (*silu_mul)(size_t n, const float *gate, const float *up, float *y);
	void (*gelu_tanh_mul)(size_t n, const float *gate, const float *up, float *y);
	/* y = cap tanh(y / cap); absolute error at most 3e-7 cap. */
	void (*soft_cap)(size_t n, float cap, float *y);
	/* One step of an online softmax over n more scores (n a multiple of nr;
	 * -INFINITY for masked ones): s becomes exp(s - *max) with the new
	 * maximum, *max and *sum are brought up to date; returns the factor
	 * exp(old max - new max) that earlier terms must be multiplied by. */
	float (*softmax_step)(size_t n, float *s, float *max, float *sum);
	/* Rotates the pairs (x[i], x[i + n/2]) by the angle whose cosine and
	 * sine are given, n/2 of each. */
	void (*rope)(size_t n, float *x, const float *cos, const float *sin);
	void (*add)(size_t n, const float *x, float *y);       /* y += x */
	void (*scale)(size_t n, float a, float *y);            /* y *= a */
	/* y = exp(x); relative error at most 2e-7 for -87.3 <= x <= 88.3, below
	 * that 0, above that exp(88.3). */
	void (*exp)(size_t n, const float *x, float *y);
};

/* Chooses the kind: NULL the best that the machine can run, else by name
 * (TC_CPU); a name that is not known or that the machine lacks is
 * TC_USAGE.  Call once, before threads start. */
int tc_kernels_select(const char *name, struct tc_err *err) TC_MUST_CHECK;

/* The chosen table. */
const struct tc_kernels *tc_kernels(void);
const char *tc_kernels_name(void);

/* All kinds that this machine can run, worst first; for tests. */
size_t tc_kernels_list(const struct tc_kernels *list[], size_t max);

extern const struct tc_kernels tc_kernels_generic, tc_kernels_avx2, tc_kernels_avx512;

#endif
