/* Products of whole numbers: what every CPU kind does is what kernel.h says, bit
 * by bit, at every length, any number of rows and panels, and nothing is
 * written outside. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "kernel/kernel.h"
#include "kinds.h"
#include "tap.h"
#include "tensor/tensor.h"

enum { ROWS = 29, OUT = 150, IN_MOST = 600, HELD = 5 };
#define GUARD 12345.678f

static struct tc_rng rng;

static float
between(double low, double high)
{
	return (float)(low + (high - low) * tc_rng_unit(&rng));
}

/* ---- inputs ---- */

/* The whole number that n inputs, one of them not 0, became. */
static int
the_only(const struct tc_kernels *kern, const void *q, size_t n)
{
	int sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += kern->int8_bytes == 1 ? ((const int8_t *)q)[i] : ((const int16_t *)q)[i];
	return sum;
}

static void
test_inputs(const struct tc_kernels *kern)
{
	enum { MOST = 150, PAD = TC_INT8_PAD };
	static const float odd[] = { 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 126.5f, -126.5f, 0.4999999f, 127, -127 };
	float x[MOST], one[MOST] = {0};
	unsigned char q[(MOST / PAD + 2) * PAD * 2];
	int right = 1, ends = 1, max = 1, squares = 1, ties = 1, bad = 1;

	for (size_t i = 0; i < MOST; i++)
		x[i] = between(-1, 1);
	for (size_t n = 1; n <= MOST; n++) {
		float most = between(0.2, 1), want = 0, inverse = 100;
		double sum = 0;
		int32_t total = 0, got;
		size_t size = tc_round_up(n, PAD) * kern->int8_bytes;

		for (size_t i = 0; i < n; i++) {
			sum += (double)x[i] * (double)x[i];
			if (fabsf(x[i]) > most)
				continue;
			want = fmaxf(want, fabsf(x[i]));
			total += (int32_t)rintf(x[i] * inverse);
		}
		max &= kern->largest(n, x, most) == want;
		squares &= fabs(kern->even_squares(n, x) - sum) <= 1e-14 * sum && kern->even_squares(n, x) ==
		    tc_kernels_generic.even_squares(n, x);
		memset(q, 0x55, sizeof(q));
		kern->quantize(n, x, inverse, most, q);
		kern->int8_sums(1, n, n, q, 0, &got);
		right &= got == total && the_only(kern, q, size / kern->int8_bytes) == total;
		for (size_t i = size; i < sizeof(q); i++)
			ends &= q[i] == 0x55;
	}
	ok(max, "%s: the largest magnitude at all lengths, those above a bound left out", kern->name);
	ok(squares, "%s: sums of squares have the generic kind's bits", kern->name);
	ok(right, "%s: inputs become whole numbers, and zeros to the end of the row", kern->name);
	ok(ends, "%s: nothing is written beyond the row", kern->name);
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		one[i] = odd[i];
		kern->quantize(MOST, one, 1, 127, q);
		ties &= the_only(kern, q, MOST) == (int)rintf(odd[i]);
		one[i] = 0;
	}
	ok(ties, "%s: to the nearest whole number, ties to even", kern->name);
	for (size_t n = 1; n <= 40; n++)
		for (size_t i = 0; i < n; i++) {
			float was = x[i];

			x[i] = i % 2 ? NAN : -NAN;
			bad &= isnan(kern->largest(n, x, INFINITY)) && isnan(kern->largest(n, x, NAN));
			x[i] = i % 2 ? INFINITY : -INFINITY;
			bad &= isinf(kern->largest(n, x, INFINITY)) && isfinite(kern->largest(n, x, 10));
			x[i] = was;
		}
	ok(bad, "%s: the largest of what is not finite is not", kern->name);
}

/* ---- products ---- */

struct product {
	const struct tc_kernels *kern;
	struct tc_matrix m;
	int number[OUT][IN_MOST];        /* c - z */
	float scale[OUT][IN_MOST];
	int q[ROWS][IN_MOST];
	float t[ROWS], want[ROWS][OUT];
	struct tc_held_out held[HELD];
	void *panels, *scales, *zeros, *rows;
	int32_t *sums;
	size_t ldq_bytes;
};

static void
make_matrix(struct product *p)
{
	struct tc_matrix *m = &p->m;
	size_t nr = p->kern->nr, panels = (m->out + nr - 1) / nr, n;

	m->type = TC_PANEL_CODES;
	m->bits = 8;
	m->groups = (m->in + m->group - 1) / m->group;
	m->panel_bytes = m->groups * tc_group_words(m) * nr * sizeof(uint32_t);
	m->panels = p->panels = aligned_alloc(64, tc_round_up(panels * m->panel_bytes, 64));
	memset(p->panels, 0, panels * m->panel_bytes);
	n = panels * m->groups * nr;
	m->scale = p->scales = calloc(n, sizeof(float));
	m->zero = p->zeros = calloc(n, 1);
	for (size_t j = 0; j < m->out; j++)
		for (size_t g = 0; g < m->groups; g++) {
			size_t at = (j / nr * m->groups + g) * nr + j % nr;
			float s = between(0.001, 0.01);
			int z = m->shift == TC_SHIFT_ZERO ? (int)tc_rng_below(&rng, 256) - 128 : 0;

			if (m->half) {
				((uint16_t *)p->scales)[at] = tc_f16_from_f32(s);
				s = tc_f32_from_f16(((uint16_t *)p->scales)[at]);
			} else {
				((float *)p->scales)[at] = s;
			}
			((int8_t *)p->zeros)[at] = (int8_t)z;
			p->scale[j][g] = s;
			for (size_t i = g * m->group; i < m->in && i < (g + 1) * m->group; i++) {
				size_t k = i - g * m->group;
				unsigned u = i % 7 == 0 ? 0 : i % 7 == 1 ? 255 : (unsigned)tc_rng_below(&rng, 256);
				char *panel = (char *)p->panels + j / nr * m->panel_bytes;

				((uint32_t *)panel)[(g * tc_group_words(m) + k / 4) * nr + j % nr] |= u << (k % 4 * 8);
				p->number[j][i] = (int)u - 128 - z;
			}
		}
}

static void
make_rows(struct product *p)
{
	size_t in = p->m.in;
	float x[IN_MOST];

	p->ldq_bytes = tc_round_up(in, TC_INT8_PAD) * p->kern->int8_bytes + 64;
	p->rows = aligned_alloc(64, ROWS * p->ldq_bytes);
	p->sums = malloc(ROWS * p->m.groups * sizeof(*p->sums));
	memset(p->rows, 0x55, ROWS * p->ldq_bytes);
	for (size_t r = 0; r < ROWS; r++) {
		for (size_t i = 0; i < in; i++) {
			p->q[r][i] = r == 0 ? (i % 2 ? TC_INT8_MAX : -TC_INT8_MAX) : r == 1 ? TC_INT8_MAX :
			    (int)tc_rng_below(&rng, 2 * TC_INT8_MAX + 1) - TC_INT8_MAX;
			x[i] = (float)p->q[r][i];
		}
		p->t[r] = between(0.01, 1);
		p->kern->quantize(in, x, 1, TC_INT8_MAX, (char *)p->rows + r * p->ldq_bytes);
	}
	p->kern->int8_sums(ROWS, in, p->m.group, p->rows, p->ldq_bytes, p->sums);
	for (size_t i = 0; i < HELD; i++)
		p->held[i] = (struct tc_held_out){ (uint32_t)tc_rng_below(&rng, in), between(-50, 50) };
}

/* As kernel.h says it. */
static void
want(struct product *p)
{
	const struct tc_matrix *m = &p->m;

	for (size_t r = 0; r < ROWS; r++)
		for (size_t j = 0; j < m->out; j++) {
			float y = 0;

			for (size_t g = 0; g < m->groups; g++) {
				int64_t sum = 0;
				float product;

				for (size_t i = g * m->group; i < m->in && i < (g + 1) * m->group; i++)
					sum += p->number[j][i] * p->q[r][i];
				product = (float)sum * p->scale[j][g];
				y += product;
			}
			p->want[r][j] = y * p->t[r];
		}
}

/* Whether rows row0 .. row0+rows-1 and npanels panels from panel0 on are right,
 * and nothing else is written. */
static int
part_is_right(const struct product *p, size_t row0, size_t rows, size_t panel0, size_t npanels)
{
	static float y[(ROWS + 2) * (OUT + 5)];
	const float mark = GUARD;
	const struct tc_matrix *m = &p->m;
	size_t nr = p->kern->nr, ldy = m->out + 5, end = (panel0 + npanels) * nr;

	for (size_t i = 0; i < (ROWS + 2) * ldy; i++)
		y[i] = mark;
	p->kern->matmul_int8(m, panel0, npanels, rows, (char *)p->rows + row0 * p->ldq_bytes, p->ldq_bytes,
	    p->sums + row0 * m->groups, p->t + row0, y + ldy, ldy);
	for (size_t r = 0; r < ROWS + 2; r++)
		for (size_t j = 0; j < ldy; j++) {
			int inside = r >= 1 && r <= rows && j >= panel0 * nr && j < end && j < m->out;
			float right = inside ? p->want[row0 + r - 1][j] : mark;

			if (memcmp(&y[r * ldy + j], &right, sizeof(right)) != 0)
				return 0;
		}
	return 1;
}

static int
held_is_right(const struct product *p, size_t panel0, size_t npanels)
{
	float y[OUT + 5];
	const struct tc_matrix *m = &p->m;
	size_t nr = p->kern->nr, end = (panel0 + npanels) * nr;

	for (size_t j = 0; j < m->out + 5; j++)
		y[j] = j < m->out ? p->want[2][j] : GUARD;
	p->kern->add_held(m, panel0, npanels, HELD, p->held, y);
	for (size_t j = 0; j < m->out + 5; j++) {
		float right = j < m->out ? p->want[2][j] : GUARD;

		for (size_t h = 0; j >= panel0 * nr && j < end && j < m->out && h < HELD; h++) {
			size_t i = p->held[h].input;
			float w = p->scale[j][i / m->group] * (float)p->number[j][i], product = w * p->held[h].x;

			right += product;
		}
		if (memcmp(&y[j], &right, sizeof(right)) != 0)
			return 0;
	}
	return 1;
}

static void
test_products(const struct tc_kernels *kern, size_t group, int shift)
{
	static const size_t ins[] = { 33, 34, 35, 36, 64, 100, 130, 255, 256, 387, IN_MOST };
	int right = 1, parts = 1, held = 1;

	for (size_t k = 0; k < sizeof(ins) / sizeof(ins[0]); k++) {
		struct product *p = calloc(1, sizeof(*p));
		size_t panels;

		p->kern = kern;
		p->m = (struct tc_matrix){ .in = ins[k], .out = k % 2 ? kern->nr + 3 : OUT, .group = tc_min(group, ins[k]),
			.half = (int)(k % 2), .shift = shift };
		panels = (p->m.out + kern->nr - 1) / kern->nr;
		make_matrix(p);
		make_rows(p);
		want(p);
		for (size_t rows = 0; rows <= ROWS; rows++) {
			right &= part_is_right(p, 0, rows, 0, panels);
			parts &= part_is_right(p, ROWS - rows, rows, rows % panels, 1);
		}
		for (size_t i = 0; i < panels; i++) {
			parts &= part_is_right(p, 1, 1, i, panels - i) && part_is_right(p, 2, 3, 0, i + 1) && part_is_right(p, 3, 9, i, 1);
			held &= held_is_right(p, i, panels - i) && held_is_right(p, 0, i + 1);
		}
		free(p->panels);
		free(p->scales);
		free(p->zeros);
		free(p->rows);
		free(p->sums);
		free(p);
	}
	ok(right, "%s: products of whole numbers, groups of %zu, %s: exact sums, and scales in their order", kern->name, group,
	    shift == TC_SHIFT_ZERO ? "zeros" : "symmetric");
	ok(parts, "%s: any rows and panels of them, and nothing else is written", kern->name);
	ok(held, "%s: and what is held out is added", kern->name);
}

/* Sums as large as there can be. */
static void
test_largest(const struct tc_kernels *kern)
{
	enum { IN = TC_INT8_GROUP_MAX, WIDEST = TC_NR_MAX };
	struct tc_matrix m = { .in = IN, .out = kern->nr, .type = TC_PANEL_CODES, .bits = 8, .group = IN, .groups = 1,
		.panel_bytes = IN * kern->nr, .shift = TC_SHIFT_ZERO };
	unsigned char *panel = aligned_alloc(64, IN * kern->nr);
	void *q = aligned_alloc(64, IN * kern->int8_bytes);
	float *x = malloc(IN * sizeof(*x)), scale[WIDEST], y[WIDEST], t = 1;
	int8_t zero[WIDEST];
	int32_t sum;
	int right = 1;

	for (int sign = -1; sign <= 1; sign += 2)
		for (int low = 0; low <= 1; low++) {
			memset(panel, low ? 0 : 255, IN * kern->nr);
			for (size_t i = 0; i < IN; i++)
				x[i] = (float)(sign * TC_INT8_MAX);
			for (size_t j = 0; j < kern->nr; j++) {
				scale[j] = 1;
				zero[j] = low ? 127 : -128;
			}
			m.panels = panel;
			m.scale = scale;
			m.zero = zero;
			kern->quantize(IN, x, 1, TC_INT8_MAX, q);
			kern->int8_sums(1, IN, IN, q, 0, &sum);
			kern->matmul_int8(&m, 0, 1, 1, q, 0, &sum, &t, y, kern->nr);
			for (size_t j = 0; j < kern->nr; j++)
				right &= y[j] == (float)((low ? -255 : 255) * sign * TC_INT8_MAX) * IN;
		}
	ok(right, "%s: the largest sums that there can be", kern->name);
	free(panel);
	free(q);
	free(x);
}

int
main(void)
{
	static const size_t groups[] = { 32, 36, 64, 128, IN_MOST };
	const struct tc_kernels *list[8];
	size_t n = kinds_to_test(list, 8);

	tc_rng_seed(&rng, 7);
	for (size_t i = 0; i < n; i++) {
		test_inputs(list[i]);
		for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++) {
			test_products(list[i], groups[g], TC_SHIFT_NONE);
			test_products(list[i], groups[g], TC_SHIFT_ZERO);
		}
		test_largest(list[i]);
	}
	return done_testing();
}
