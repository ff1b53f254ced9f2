/* matmul.h - what a CPU kind's matmul() must do, for kernel.c and amx.c:
 * products with matrices of every form against double arithmetic, the same
 * bits at any number of rows and panels, nothing written outside. */
#ifndef TC_TESTS_MATMUL_H
#define TC_TESTS_MATMUL_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kernel/kernel.h"
#include "tap.h"
#include "tensor/tensor.h"

enum { MATMUL_ROWS = 40, MATMUL_IN = 300, MATMUL_OUT = 150 };

/* A matrix as it is described, and as the kernels read it. */
struct matmul_case {
	const struct tc_kernels *kern;
	struct tc_matrix m;
	double weight[MATMUL_OUT][MATMUL_IN]; /* exact */
	double size[MATMUL_OUT][MATMUL_IN];   /* |s c| + |m|: what rounding is relative to */
	float table[256];
	void *panels, *scale, *zero;
	float x[MATMUL_ROWS * (MATMUL_IN + 3)];
	float *sums;
	float want[MATMUL_ROWS][MATMUL_OUT];  /* row by row */
	double most;                          /* error found, in units of size * 2^-24 */
};

static struct tc_rng matmul_rng;

static float
matmul_between(double low, double high)
{
	return (float)(low + (high - low) * tc_rng_unit(&matmul_rng));
}

static float
matmul_scale(const struct matmul_case *c, size_t at)
{
	return c->m.half ? tc_f32_from_f16(((uint16_t *)c->scale)[at]) : ((float *)c->scale)[at];
}

static double
matmul_shift(const struct matmul_case *c, size_t at)
{
	if (c->m.shift == TC_SHIFT_NONE)
		return 0;
	return c->m.shift == TC_SHIFT_MIN ? (double)((float *)c->zero)[at] :
	    -(double)((int8_t *)c->zero)[at] * (double)matmul_scale(c, at);
}

/* Sets number i of output j in the panels, and returns it. */
static double
matmul_set(struct matmul_case *c, size_t j, size_t i)
{
	struct tc_matrix *m = &c->m;
	size_t nr = c->kern->nr, group = m->group ? m->group : m->in;
	char *panel = (char *)c->panels + j / nr * m->panel_bytes;
	float v = matmul_between(-1, 1);
	size_t at = i * nr + j % nr, per, slot;
	unsigned q;

	switch (m->type) {
	case TC_PANEL_F32:
		return (double)(((float *)panel)[at] = v);
	case TC_PANEL_F16:
		return (double)tc_f32_from_f16(((uint16_t *)panel)[at] = tc_f16_from_f32(v));
	case TC_PANEL_BF16:
		if (m->group)  /* a code */
			v = (float)(int)(v * 128);
		return (double)tc_f32_from_bf16(((uint16_t *)panel)[at] = tc_bf16_from_f32(v));
	default:
		per = 32 / (size_t)m->bits;
		slot = i % group;
		q = (unsigned)tc_rng_below(&matmul_rng, 1u << m->bits);
		((uint32_t *)panel)[(i / group * tc_group_words(m) + slot / per) * nr + j % nr] |=
		    q << (slot % per * (size_t)m->bits);
		return m->table ? (double)m->table[q] : (double)q - (double)(1 << (m->bits - 1));
	}
}

static void
matmul_make(struct matmul_case *c)
{
	struct tc_matrix *m = &c->m;
	size_t nr = c->kern->nr, panels = (m->out + nr - 1) / nr, n;

	m->groups = m->group ? (m->in + m->group - 1) / m->group : 1;
	m->panel_bytes = m->type == TC_PANEL_CODES ? m->groups * tc_group_words(m) * nr * sizeof(uint32_t) :
	    m->in * nr * tc_panel_bytes[m->type];
	m->panel_bytes = (m->panel_bytes + 63) / 64 * 64;
	n = panels * m->groups * nr;
	m->panels = c->panels = aligned_alloc(64, panels * m->panel_bytes + 64);
	m->scale = c->scale = calloc(n, sizeof(float));
	m->zero = c->zero = calloc(n, sizeof(float));
	memset(c->panels, 0, panels * m->panel_bytes);
	for (size_t i = 0; m->table && i < 256; i++)
		c->table[i] = matmul_between(-1, 1);
	for (size_t i = 0; i < n; i++) {
		float s = matmul_between(0.5, 1.5);

		if (m->half)
			((uint16_t *)c->scale)[i] = tc_f16_from_f32(s);
		else
			((float *)c->scale)[i] = s;
		if (m->shift == TC_SHIFT_ZERO)
			((int8_t *)c->zero)[i] = (int8_t)((int)tc_rng_below(&matmul_rng, 16) - 8);
		else
			((float *)c->zero)[i] = matmul_between(-1, 1);
	}
	for (size_t j = 0; j < m->out; j++)
		for (size_t i = 0; i < m->in; i++) {
			size_t at = (j / nr * m->groups + (m->group ? i / m->group : 0)) * nr + j % nr;
			double number = matmul_set(c, j, i), s = m->group ? (double)matmul_scale(c, at) : 1;
			double shift = m->group ? matmul_shift(c, at) : 0;

			c->weight[j][i] = s * number + shift;
			c->size[j][i] = fabs(s * number) + fabs(shift);
		}
	/* Gaps in x hold NaN. */
	for (size_t i = 0; i < sizeof(c->x) / sizeof(c->x[0]); i++)
		c->x[i] = NAN;
	for (size_t r = 0; r < MATMUL_ROWS; r++)
		for (size_t i = 0; i < m->in; i++)
			c->x[r * (m->in + 3) + i] = matmul_between(-1, 1);
	for (size_t r = 0; m->bf16 && r < MATMUL_ROWS; r++)
		c->kern->round_bf16(m->in, c->x + r * (m->in + 3), c->x + r * (m->in + 3));
	c->sums = malloc(MATMUL_ROWS * m->groups * sizeof(float) + 1);
	if (tc_matrix_wants_sums(m))
		c->kern->group_sums(MATMUL_ROWS, m->in, m->group, c->x, m->in + 3, c->sums);
}

static void
matmul_free(struct matmul_case *c)
{
	free(c->panels);
	free(c->scale);
	free(c->zero);
	free(c->sums);
}

static void
matmul_one_by_one(struct matmul_case *c)
{
	const struct tc_matrix *m = &c->m;
	size_t nr = c->kern->nr;

	for (size_t r = 0; r < MATMUL_ROWS; r++) {
		const float *x = c->x + r * (m->in + 3);

		c->kern->matmul(m, 0, (m->out + nr - 1) / nr, 1, x, m->in + 3, c->sums + r * m->groups, c->want[r], m->out);
		for (size_t j = 0; j < m->out; j++) {
			double sum = 0, size = 1e-30;

			for (size_t i = 0; i < m->in; i++) {
				sum += (double)x[i] * c->weight[j][i];
				size += fabs((double)x[i]) * c->size[j][i];
			}
			c->most = fmax(c->most, fabs((double)c->want[r][j] - sum) / size * 0x1p24);
			if (isnan(c->want[r][j]))
				c->most = INFINITY;
		}
	}
}

/* Whether rows rows and npanels panels from panel0 on are the same bits. */
static int
matmul_part(const struct matmul_case *c, size_t rows, size_t panel0, size_t npanels)
{
	static float y[(MATMUL_ROWS + 2) * (MATMUL_OUT + 5)];
	const float mark = 12345.678f;
	const struct tc_matrix *m = &c->m;
	size_t nr = c->kern->nr, ldy = m->out + 5, end = (panel0 + npanels) * nr;

	for (size_t i = 0; i < (MATMUL_ROWS + 2) * ldy; i++)
		y[i] = mark;
	c->kern->matmul(m, panel0, npanels, rows, c->x, m->in + 3, c->sums, y + ldy, ldy);
	for (size_t r = 0; r < MATMUL_ROWS + 2; r++)
		for (size_t j = 0; j < ldy; j++) {
			int inside = r >= 1 && r <= rows && j >= panel0 * nr && j < end && j < m->out;
			float want = inside ? c->want[r - 1][j] : mark;

			if (memcmp(&y[r * ldy + j], &want, sizeof(want)) != 0)
				return 0;
		}
	return 1;
}

/* The form whose name is given, over all lengths; bound: of the error, in
 * units of 2^-24 of the terms' sizes, times the number of terms. */
static void
matmul_form(const struct tc_kernels *kern, const char *form, struct tc_matrix m, double bound)
{
	static const size_t ins[] = { 1, 5, 31, 33, 48, 64, 130, 288, 300 };
	double most = 0;
	int same = 1;

	for (size_t i = 0; i < sizeof(ins) / sizeof(ins[0]); i++) {
		struct matmul_case *c = calloc(1, sizeof(*c));
		size_t panels;

		c->kern = kern;
		c->m = m;
		c->m.in = ins[i];
		c->m.out = i % 2 ? kern->nr + 3 : MATMUL_OUT;
		c->m.table = m.table ? c->table : NULL;
		if (c->m.group == SIZE_MAX)
			c->m.group = c->m.in;
		panels = (c->m.out + kern->nr - 1) / kern->nr;
		matmul_make(c);
		matmul_one_by_one(c);
		most = fmax(most, c->most / (double)(c->m.in + 4));
		for (size_t rows = 0; rows <= MATMUL_ROWS; rows++) {
			same &= matmul_part(c, rows, 0, panels);
			same &= matmul_part(c, rows, rows % panels, 1);
		}
		for (size_t p = 0; p < panels; p++)
			same &= matmul_part(c, 1, p, panels - p) && matmul_part(c, 3, 0, p + 1);
		matmul_free(c);
		free(c);
	}
	ok(most <= bound, "%s: matmul of %s is the product to rounding (%.3f of the bound)", kern->name, form, most / bound);
	ok(same, "%s: matmul of %s: any rows and panels have the bits of one row alone, nothing else is written", kern->name,
	    form);
}

static inline void
test_matmul(const struct tc_kernels *kern, double bound)
{
	static const size_t groups[] = { 16, 20, 32, 33, 128, SIZE_MAX };
	static const char *const shifts[] = { "no shift", "zeros", "minimums" };
	static const float any[1];
	char form[100];

	tc_rng_seed(&matmul_rng, 5);
	matmul_form(kern, "f32", (struct tc_matrix){ .type = TC_PANEL_F32 }, bound);
	matmul_form(kern, "f16", (struct tc_matrix){ .type = TC_PANEL_F16 }, bound);
	matmul_form(kern, "bf16", (struct tc_matrix){ .type = TC_PANEL_BF16 }, bound);
	matmul_form(kern, "bf16, by bf16", (struct tc_matrix){ .type = TC_PANEL_BF16, .bf16 = true }, bound);
	matmul_form(kern, "f16, by bf16", (struct tc_matrix){ .type = TC_PANEL_F16, .bf16 = true }, bound);
	matmul_form(kern, "4 bits, groups of 64, by bf16", (struct tc_matrix){ .type = TC_PANEL_CODES, .bits = 4, .group = 64, .shift = TC_SHIFT_ZERO,
	    .bf16 = true }, bound);
	matmul_form(kern, "bf16 codes, groups of 64", (struct tc_matrix){ .type = TC_PANEL_BF16, .group = 64,
	    .shift = TC_SHIFT_ZERO }, bound);
	matmul_form(kern, "a table's f32 numbers, groups of 64", (struct tc_matrix){ .type = TC_PANEL_F32, .group = 64,
	    .half = 1 }, bound);
	for (int bits = 1; bits <= 8; bits += bits == 6 ? 2 : 1)
		for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++) {
			struct tc_matrix m = { .type = TC_PANEL_CODES, .bits = bits, .group = groups[g], .half = (int)(g % 2),
				.shift = (int)((g + (size_t)bits) % 3), .table = (g + (size_t)bits) % 5 == 0 ? any : NULL };

			if (m.table)
				m.shift = TC_SHIFT_NONE;
			snprintf(form, sizeof(form), "%d bits, groups of %zd, %s, %s scales%s", bits, (ssize_t)groups[g],
			    shifts[m.shift], m.half ? "f16" : "f32", m.table ? ", a table" : "");
			matmul_form(kern, form, m, bound);
		}
}

/* group_sums() against double, and whatever rows are asked for. */
static inline void
test_group_sums(const struct tc_kernels *kern)
{
	enum { K = 70, GROUPS = 70 };
	float x[3 * K], sums[3 * GROUPS], one[GROUPS];
	int right = 1, same = 1;

	tc_rng_seed(&matmul_rng, 6);
	for (size_t i = 0; i < 3 * K; i++)
		x[i] = matmul_between(-1, 1);
	for (size_t k = 1; k <= K; k++)
		for (size_t group = 1; group <= k; group++) {
			size_t groups = (k + group - 1) / group;

			kern->group_sums(3, k, group, x, K, sums);
			for (size_t r = 0; r < 3; r++) {
				kern->group_sums(1, k, group, x + r * K, K, one);
				same &= memcmp(one, sums + r * groups, groups * sizeof(float)) == 0;
				for (size_t g = 0; g < groups; g++) {
					double sum = 0;

					for (size_t i = g * group; i < k && i < (g + 1) * group; i++)
						sum += (double)x[r * K + i];
					right &= fabs(sum - (double)one[g]) <= (double)group * 0x1p-23;
				}
			}
		}
	ok(right, "%s: sums of groups", kern->name);
	ok(same, "%s: sums of groups have the same bits at any number of rows", kern->name);
}

#endif
