/* Every kernel of every CPU kind that this machine runs: against naive double
 * arithmetic at every tail length, the same bits however many rows or
 * elements are asked for, and nothing written outside. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kernel/kernel.h"
#include "kernel/tiles.h"
#include "kinds.h"
#include "matmul.h"
#include "tap.h"
#include "tensor/tensor.h"

#define GUARD 12345.678f
#define EXP_BOUND 2e-7    /* as kernel.h states */
#define EXP_LOW (-87.3f)
#define EXP_HIGH 88.3f

enum { ROWS = 27, LENGTHS = 70 };

static struct tc_rng rng;
static struct tc_err err;

static float
between(double low, double high)
{
	return (float)(low + (high - low) * tc_rng_unit(&rng));
}

static void
fill(float *p, size_t n, double low, double high)
{
	for (size_t i = 0; i < n; i++)
		p[i] = between(low, high);
}

static void
guard(float *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = GUARD;
}

static int
guarded(const float *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != GUARD)
			return 0;
	return 1;
}

static int
same_bits(const float *a, const float *b, size_t n)
{
	return memcmp(a, b, n * sizeof(*a)) == 0;
}

/* ---- gemm ---- */

/* One product of ROWS rows with a whole panel. */
struct gemm {
	const struct tc_kernels *kern;
	size_t k, row_stride, k_stride;
	int accumulate;
	float *x;
	float *panel;
	float start[ROWS * TC_NR_MAX];   /* what y held */
	float want[ROWS * TC_NR_MAX];    /* computed row by row */
};

/* Gaps in x hold NaN: whoever reads one gives himself away. */
static void
gemm_make(struct gemm *g)
{
	size_t n = (ROWS - 1) * g->row_stride + (g->k ? (g->k - 1) * g->k_stride : 0) + 1;
	size_t nr = g->kern->nr;

	g->x = malloc(n * sizeof(*g->x));
	g->panel = malloc(g->k * nr * sizeof(*g->panel) + 1);
	for (size_t i = 0; i < n; i++)
		g->x[i] = NAN;
	for (size_t r = 0; r < ROWS; r++)
		for (size_t i = 0; i < g->k; i++)
			g->x[r * g->row_stride + i * g->k_stride] = between(-1, 1);
	fill(g->panel, g->k * nr, -1, 1);
	fill(g->start, ROWS * nr, -1, 1);
}

/* One row at a time; returns whether that is right. */
static int
gemm_rows_one_by_one(struct gemm *g)
{
	size_t nr = g->kern->nr;
	int right = 1;

	memcpy(g->want, g->start, sizeof(g->want));
	for (size_t r = 0; r < ROWS; r++) {
		const float *x = g->x + r * g->row_stride;

		g->kern->gemm(1, nr, g->k, x, g->row_stride, g->k_stride, g->panel, g->want + r * nr, nr, g->accumulate, NULL);
		for (size_t j = 0; j < nr; j++) {
			double sum = g->accumulate ? (double)g->start[r * nr + j] : 0, size = fabs(sum);

			for (size_t i = 0; i < g->k; i++) {
				double term = (double)x[i * g->k_stride] * (double)g->panel[i * nr + j];

				sum += term;
				size += fabs(term);
			}
			right &= fabs((double)g->want[r * nr + j] - sum) <= (double)(g->k + 2) * 0x1p-24 * size;
		}
	}
	return right;
}

/* rows x n of it in a y with room around; returns whether the bits are those
 * of the rows one by one and all else is untouched. */
static int
gemm_part(const struct gemm *g, size_t rows, size_t n)
{
	static float y[(ROWS + 2) * (TC_NR_MAX + 5)];
	size_t nr = g->kern->nr, ldy = nr + 5;
	int right = 1;

	guard(y, (ROWS + 2) * ldy);
	for (size_t r = 0; r < rows; r++)
		memcpy(y + (r + 1) * ldy, g->start + r * nr, n * sizeof(*y));
	g->kern->gemm(rows, n, g->k, g->x, g->row_stride, g->k_stride, g->panel, y + ldy, ldy, g->accumulate, rows % 2 ? g->panel : NULL);
	right &= guarded(y, ldy) && guarded(y + (rows + 1) * ldy, (ROWS + 1 - rows) * ldy);
	for (size_t r = 0; r < rows; r++)
		right &= same_bits(y + (r + 1) * ldy, g->want + r * nr, n) && guarded(y + (r + 1) * ldy + n, ldy - n);
	return right;
}

static void
test_gemm(const struct tc_kernels *kern)
{
	static const size_t ks[] = { 0, 1, 2, 3, 17, 64, 130 };
	int right = 1, same = 1;

	for (size_t i = 0; i < sizeof(ks) / sizeof(ks[0]); i++)
		for (int variant = 0; variant < 4; variant++) {
			struct gemm g = { .kern = kern, .k = ks[i], .accumulate = variant & 1 };

			/* Rows with a gap; or transposed, the rows side by side. */
			g.row_stride = variant & 2 ? 1 : g.k + 3;
			g.k_stride = variant & 2 ? ROWS + 2 : 1;
			gemm_make(&g);
			right &= gemm_rows_one_by_one(&g);
			for (size_t rows = 0; rows <= ROWS; rows++)
				for (size_t n = 1; n <= kern->nr; n++)
					same &= gemm_part(&g, rows, n);
			free(g.x);
			free(g.panel);
		}
	ok(right, "%s: gemm is the product to rounding", kern->name);
	ok(same, "%s: gemm: any rows and outputs have the bits of one row alone, nothing else is written", kern->name);
}

/* Products of more rows and panels than a kind takes at once: those of each
 * row alone. */
static void
test_many(const struct tc_kernels *kern, const char *form, struct tc_matrix m)
{
	enum { MANY_ROWS = 270, OUT_MOST = 1100 };
	const size_t IN = m.in, OUT = m.out;
	size_t panels = (OUT + kern->nr - 1) / kern->nr, scales;
	float *x = calloc(MANY_ROWS * IN, sizeof(*x)), *y = malloc(MANY_ROWS * OUT * sizeof(*y)), *s, *sums, one[OUT_MOST];
	int8_t *z;
	char *p;
	int same = 1;

	m.groups = m.group ? (IN + m.group - 1) / m.group : 1;
	m.panel_bytes = (m.type == TC_PANEL_CODES ? m.groups * tc_group_words(&m) * 4 : IN * tc_panel_bytes[m.type]) * kern->nr;
	m.panel_bytes = (m.panel_bytes + 63) / 64 * 64;
	scales = panels * m.groups * kern->nr;
	m.panels = p = aligned_alloc(64, panels * m.panel_bytes);
	m.scale = s = malloc(scales * sizeof(*s));
	m.zero = z = malloc(scales);
	sums = malloc(MANY_ROWS * m.groups * sizeof(*sums));
	for (size_t i = 0; i < scales; i++)
		z[i] = (int8_t)((int)tc_rng_below(&rng, 16) - 8);
	fill(x, MANY_ROWS * IN, -1, 1);
	if (m.bf16)
		kern->round_bf16(MANY_ROWS * IN, x, x);
	fill(s, scales, 1, 2);
	for (size_t i = 0; i < panels * m.panel_bytes / 4; i++)
		if (m.type == TC_PANEL_F32)
			((float *)p)[i] = between(-1, 1);
		else                       /* two finite numbers of bf16, or codes */
			((uint32_t *)p)[i] = ((uint32_t)tc_rng_below(&rng, UINT32_MAX) & 0xbfffbfff) | (m.bf16 ? 0x24002400 : 0);
	if (tc_matrix_wants_sums(&m))
		kern->group_sums(MANY_ROWS, IN, m.group, x, IN, sums);
	kern->matmul(&m, 0, panels, MANY_ROWS, x, IN, sums, y, OUT);
	for (size_t r = 0; r < MANY_ROWS; r++) {
		kern->matmul(&m, 0, panels, 1, x + r * IN, IN, sums + r * m.groups, one, OUT);
		same &= same_bits(one, y + r * OUT, OUT);
	}
	ok(same, "%s: matmul of %s: %d rows, %zu inputs and %zu outputs have the bits of every row alone", kern->name, form,
	    MANY_ROWS, IN, OUT);
	free(z);
	free(sums);
	free(x);
	free(y);
	free(s);
	free(p);
}

/* ---- bf16 ---- */

/* Every bf16 number, what lies between two of them, and what is no number. */
static void
test_round_bf16(const struct tc_kernels *kern)
{
	enum { STEP = 0x3ff1, MOST = 70 };
	float x[MOST + 1], y[MOST + 1];
	uint32_t bits = 0;
	int right = 1, ends = 1;

	for (size_t n = 1; bits < UINT32_MAX - MOST * STEP; n = n % MOST + 1) {
		for (size_t i = 0; i < n; i++, bits += STEP)
			memcpy(&x[i], &bits, sizeof(bits));
		guard(y, MOST + 1);
		kern->round_bf16(n, x, y);
		for (size_t i = 0; i < n; i++) {
			float want = tc_f32_from_bf16(tc_bf16_from_f32(x[i]));

			want = fabsf(want) < TC_BF16_LEAST ? 0 : want;
			right &= same_bits(&y[i], &want, 1);
		}
		ends &= guarded(y + n, MOST + 1 - n);
	}
	ok(right, "%s: rounding to bf16 is that of a number alone, and 0 below 2^-56", kern->name);
	ok(ends, "%s: rounding to bf16 at all lengths, nothing else is written", kern->name);
}

/* 0, or 1 to 2 times a power of two from the least to 2^8, as bf16. */
static uint16_t
any_bf16(void)
{
	uint32_t exponent = 127 - 56 + (uint32_t)tc_rng_below(&rng, 56 + 8);

	if (tc_rng_below(&rng, 8) == 0)
		return 0;
	return (uint16_t)(tc_rng_below(&rng, 2) << 15 | exponent << 7 | tc_rng_below(&rng, 128));
}

/* Products of bf16 numbers, which a kind may make with instructions of their
 * own, are the chain of multiply-adds that they are said to be. */
static void
test_bf16(const struct tc_kernels *kern)
{
	enum { IN_MOST = 43, OUT_MOST = 2 * TC_NR_MAX, ROWS_MOST = 15 };
	uint16_t panels[IN_MOST * OUT_MOST] __attribute__((aligned(64)));
	float x[ROWS_MOST][IN_MOST], y[ROWS_MOST][OUT_MOST], plain[ROWS_MOST][OUT_MOST];
	int fused = strcmp(kern->name, "generic") != 0, tiles = !strcmp(kern->name, "amx"), right = 1, same = 1;

	for (size_t in = 1; in <= IN_MOST; in++) {
		struct tc_matrix m = { .in = in, .out = kern->nr + 5, .type = TC_PANEL_BF16, .panels = panels, .groups = 1, .bf16 = true,
			.panel_bytes = in * kern->nr * sizeof(*panels) };
		size_t rows = 1 + in % ROWS_MOST;

		for (size_t i = 0; i < in * kern->nr * 2; i++)
			panels[i] = any_bf16();
		for (size_t r = 0; r < rows; r++)
			for (size_t i = 0; i < in; i++)
				x[r][i] = tc_f32_from_bf16(any_bf16());
		kern->matmul(&m, 0, 2, rows, x[0], IN_MOST, NULL, y[0], OUT_MOST);
		m.bf16 = false;
		kern->matmul(&m, 0, 2, rows, x[0], IN_MOST, NULL, plain[0], OUT_MOST);
		for (size_t r = 0; r < rows; r++)
			for (size_t j = 0; j < m.out; j++) {
				const uint16_t *w = panels + j / kern->nr * in * kern->nr + j % kern->nr;
				float sum = 0;

				for (size_t i = 0; i < in; i++) {
					float number = tc_f32_from_bf16(w[i * kern->nr]);

					sum = fused ? fmaf(x[r][i], number, sum) : sum + x[r][i] * number;
				}
				right &= tiles || same_bits(&sum, &y[r][j], 1);
				same &= same_bits(&plain[r][j], &y[r][j], 1);
			}
	}
	ok(right, "%s: products of bf16 numbers%s", kern->name, tiles ? "" : " are a chain of multiply-adds, bit by bit");
	ok(same, "%s: products of bf16 numbers have the bits of those numbers as floats", kern->name);
}

/* What is not finite must not get lost in a product, nor reach another row. */
static void
test_infinite(const struct tc_kernels *kern, int bits)
{
	enum { BAD_ROWS = 9, IN = 48, AT = 20 };
	static const uint32_t bad[BAD_ROWS] = { 0x7f800000, 0, 0xff800000, 0x7fc00000, 0xffc00000, 0, 0x7fffffff, 0xffffffff, 0x7f800001 };
	uint16_t panel[IN * TC_NR_MAX] __attribute__((aligned(64)));
	struct tc_matrix m = { .in = IN, .out = kern->nr, .type = TC_PANEL_BF16, .panels = panel, .groups = 1 };
	float x[BAD_ROWS][IN], y[BAD_ROWS][TC_NR_MAX], scale[2 * TC_NR_MAX];
	int right = 1;

	for (size_t i = 0; i < IN * kern->nr; i++)
		panel[i] = tc_bf16_from_f32(1);
	for (size_t i = 0; i < 2 * kern->nr; i++)
		scale[i] = 1;
	if (bits) {   /* whatever codes the same memory holds */
		m.type = TC_PANEL_CODES;
		m.bits = bits;
		m.group = 32;
		m.groups = 2;
		m.scale = scale;
	}
	fill(x[0], BAD_ROWS * IN, 0, 1);
	for (size_t r = 0; r < BAD_ROWS; r++)
		if (bad[r])
			memcpy(&x[r][AT], &bad[r], sizeof(bad[r]));
	kern->matmul(&m, 0, 1, BAD_ROWS, x[0], IN, NULL, y[0], TC_NR_MAX);
	for (size_t r = 0; r < BAD_ROWS; r++)
		for (size_t j = 0; j < kern->nr; j++)
			right &= !isfinite(y[r][j]) == (bad[r] != 0);
	ok(right, "%s: matmul of infinite inputs and of NaN is not finite, that of other rows is (%d bits)", kern->name, bits);
}

/* Every finite 16-bit number, times one. */
static void
test_widening(const struct tc_kernels *kern, enum tc_panel type, const char *type_name)
{
	float (*convert)(uint16_t) = type == TC_PANEL_F16 ? tc_f32_from_f16 : tc_f32_from_bf16;
	float one = 1, y[TC_NR_MAX];
	uint16_t panel[TC_NR_MAX] __attribute__((aligned(64)));
	struct tc_matrix m = { .in = 1, .out = kern->nr, .type = type, .panels = panel, .groups = 1 };
	int right = 1, tiles = !strcmp(kern->name, "amx");

	for (uint32_t h = 0; h < 0x10000; h += (uint32_t)kern->nr) {
		for (size_t j = 0; j < kern->nr; j++)
			panel[j] = isfinite(convert((uint16_t)(h + j))) ? (uint16_t)(h + j) : 0;
		kern->matmul(&m, 0, 1, 1, &one, 1, NULL, y, kern->nr);
		for (size_t j = 0; j < kern->nr; j++)
			right &= y[j] == (tiles && fabsf(convert(panel[j])) < FLT_MIN ? 0 : convert(panel[j]));
	}
	ok(right, "%s: every finite %s%s is widened exactly", kern->name, type_name, tiles ? " of at least 2^-126" : "");
}

/* ---- element by element ---- */

static void
test_exp(const struct tc_kernels *kern)
{
	enum { STEPS = 1 << 20, PIECE = 1 << 10 };
	static const float low[] = { -INFINITY, -FLT_MAX, -1e6f, -100, -87.31f };
	static const float high[] = { INFINITY, FLT_MAX, 1e6f, 100, EXP_HIGH };
	float x[PIECE], y[PIECE], top = EXP_HIGH, at_top, zero = 0, one;
	double most = 0;
	int right = 1;

	for (size_t s = 0; s < STEPS; s += PIECE) {
		for (size_t i = 0; i < PIECE; i++)
			x[i] = EXP_LOW + (EXP_HIGH - EXP_LOW) * (float)((double)(s + i) / (STEPS - 1));
		kern->exp(PIECE, x, y);
		for (size_t i = 0; i < PIECE; i++)
			most = fmax(most, fabs((double)y[i] / exp((double)x[i]) - 1));
	}
	ok(most <= EXP_BOUND, "%s: exp from %g to %g: relative error at most %g (%.3g)", kern->name, (double)EXP_LOW,
	    (double)EXP_HIGH, EXP_BOUND, most);
	kern->exp(1, &zero, &one);
	ok(one == 1, "%s: exp(0) is 1", kern->name);
	kern->exp(5, low, y);
	for (size_t i = 0; i < 5; i++)
		right &= y[i] == 0;
	ok(right, "%s: exp of very negative numbers and of -infinity is 0", kern->name);
	kern->exp(1, &top, &at_top);
	kern->exp(5, high, y);
	right = isfinite(at_top);
	for (size_t i = 0; i < 5; i++)
		right &= y[i] == at_top;
	ok(right, "%s: exp of large numbers is that of %g, finite", kern->name, (double)EXP_HIGH);
}

/* f of n elements at every n: each element as if it were alone, and nothing
 * after the n-th. */
static void
test_lengths(const struct tc_kernels *kern)
{
	float x[LENGTHS], w[LENGTHS], e[LENGTHS], s[LENGTHS], y[LENGTHS + 8];
	int exps = 1, silus = 1, in_place = 1, right = 1, adds = 1, scales = 1;

	fill(x, LENGTHS, -30, 30);
	fill(w, LENGTHS, -2, 2);
	for (size_t i = 0; i < LENGTHS; i++) {
		double gate = x[i], want = gate / (1 + exp(-gate)) * (double)w[i];

		kern->exp(1, x + i, e + i);
		kern->silu_mul(1, x + i, w + i, s + i);
		right &= fabs((double)s[i] - want) <= 6e-7 * fabs(want);
	}
	for (size_t n = 0; n <= LENGTHS; n++) {
		guard(y, LENGTHS + 8);
		kern->exp(n, x, y);
		exps &= same_bits(y, e, n) && guarded(y + n, LENGTHS + 8 - n);
		guard(y, LENGTHS + 8);
		kern->silu_mul(n, x, w, y);
		silus &= same_bits(y, s, n) && guarded(y + n, LENGTHS + 8 - n);
		guard(y, LENGTHS + 8);
		memcpy(y, x, n * sizeof(*y));
		kern->silu_mul(n, y, w, y);
		in_place &= same_bits(y, s, n) && guarded(y + n, LENGTHS + 8 - n);
		guard(y, LENGTHS + 8);
		memcpy(y, w, n * sizeof(*y));
		kern->add(n, x, y);
		for (size_t i = 0; i < n; i++)
			adds &= y[i] == w[i] + x[i];
		adds &= guarded(y + n, LENGTHS + 8 - n);
		memcpy(y, w, n * sizeof(*y));
		kern->scale(n, 1.7f, y);
		for (size_t i = 0; i < n; i++)
			scales &= y[i] == 1.7f * w[i];
		scales &= guarded(y + n, LENGTHS + 8 - n);
	}
	ok(exps, "%s: exp at all lengths", kern->name);
	ok(right, "%s: silu_mul is right to 6e-7", kern->name);
	ok(silus, "%s: silu_mul at all lengths", kern->name);
	ok(in_place, "%s: silu_mul in place", kern->name);
	ok(adds, "%s: add at all lengths", kern->name);
	ok(scales, "%s: scale at all lengths", kern->name);
}

static void
test_silu_ends(const struct tc_kernels *kern)
{
	const float gate[3] = { -1000, 1000, 0 }, up[3] = { 3, 3, 3 };
	float y[3];

	kern->silu_mul(3, gate, up, y);
	ok(fabsf(y[0]) < 1e-30f && y[1] == 3000 && y[2] == 0, "%s: silu_mul of large numbers and of 0", kern->name);
}

static void
test_rms_norm(const struct tc_kernels *kern)
{
	float x[LENGTHS], w[LENGTHS], y[LENGTHS + 8];
	int right = 1, zeros = 1, inside = 1;

	fill(x, LENGTHS, -3, 3);
	fill(w, LENGTHS, -2, 2);
	for (size_t n = 1; n <= LENGTHS; n++) {
		double sum = 0, want;

		for (size_t i = 0; i < n; i++)
			sum += (double)x[i] * (double)x[i];
		guard(y, LENGTHS + 8);
		kern->rms_norm(n, x, w, 1e-5f, y);
		for (size_t i = 0; i < n; i++) {
			want = (double)x[i] / sqrt(sum / (double)n + (double)1e-5f) * (double)w[i];
			right &= fabs((double)y[i] - want) <= (double)(n + 8) * 0x1p-24 * fabs(want);
		}
		inside &= guarded(y + n, LENGTHS + 8 - n);
		memset(y, 0, n * sizeof(*y));
		kern->rms_norm(n, y, w, 1e-5f, y);
		for (size_t i = 0; i < n; i++)
			zeros &= y[i] == 0;
	}
	ok(right, "%s: rms_norm at all lengths", kern->name);
	ok(inside, "%s: rms_norm writes nothing else", kern->name);
	ok(zeros, "%s: rms_norm of zeros is zeros, in place too", kern->name);
}

static void
test_rope(const struct tc_kernels *kern)
{
	float x[2 * LENGTHS], c[LENGTHS], s[LENGTHS], y[2 * LENGTHS + 8];
	int right = 1;

	fill(x, 2 * LENGTHS, -1, 1);
	for (size_t i = 0; i < LENGTHS; i++) {
		c[i] = cosf((float)i);
		s[i] = sinf((float)i);
	}
	for (size_t half = 1; half <= LENGTHS; half++) {
		guard(y, 2 * LENGTHS + 8);
		memcpy(y, x, 2 * half * sizeof(*y));
		kern->rope(2 * half, y, c, s);
		for (size_t i = 0; i < half; i++) {
			double a = x[i], b = x[half + i], co = c[i], si = s[i];

			right &= fabs((double)y[i] - (a * co - b * si)) <= 0x1p-22 &&
			    fabs((double)y[half + i] - (b * co + a * si)) <= 0x1p-22;
		}
		right &= guarded(y + 2 * half, 2 * LENGTHS + 8 - 2 * half);
	}
	ok(right, "%s: rope at all lengths", kern->name);
}

/* ---- softmax ---- */

/* A run of steps over n scores each, checked against exponentials in double
 * of the same f32 differences; ups: maxima that grow from step to step. */
static int
softmax_run(const struct tc_kernels *kern, size_t n, int ups)
{
	enum { STEPS = 6 };
	float s[8 * TC_NR_MAX], was[8 * TC_NR_MAX], max = -INFINITY, sum = 0, want_max = -INFINITY, old, f;
	double all[STEPS * 8 * TC_NR_MAX], total = 0;
	size_t seen = 0;
	int right = 1;

	for (int step = 0; step < STEPS; step++) {
		old = max;
		for (size_t i = 0; i < n; i++) {
			s[i] = was[i] = tc_rng_below(&rng, 4) == 0 ? -INFINITY : between(-8, 8) + (float)(ups * step);
			all[seen++] = (double)s[i];
			want_max = s[i] > want_max ? s[i] : want_max;
		}
		f = kern->softmax_step(n, s, &max, &sum);
		right &= max == want_max;
		right &= old == -INFINITY ? f == 0 || max == -INFINITY : fabs((double)f - exp((double)(old - max))) <= EXP_BOUND;
		for (size_t i = 0; i < n; i++) {
			double want = exp((double)(was[i] - max));

			right &= was[i] == -INFINITY ? s[i] == 0 : fabs((double)s[i] - want) <= EXP_BOUND * want;
		}
	}
	for (size_t i = 0; i < seen; i++)
		total += exp(all[i] - (double)max);
	return right && fabs((double)sum - total) <= 3e-6 * total;
}

static void
test_softmax(const struct tc_kernels *kern)
{
	size_t nr = kern->nr;
	float s[2 * TC_NR_MAX], max = -INFINITY, sum = 0, one_max, one_sum;
	int right = 1, masked = 1;

	for (size_t n = nr; n <= 8 * nr; n += nr)
		for (int ups = -3; ups <= 3; ups += 3)
			right &= softmax_run(kern, n, ups);
	ok(right, "%s: softmax_step in several steps is one softmax", kern->name);

	for (size_t i = 0; i < 2 * nr; i++)
		s[i] = -INFINITY;
	masked &= kern->softmax_step(2 * nr, s, &max, &sum) == 1 && max == -INFINITY && sum == 0;
	for (size_t i = 0; i < 2 * nr; i++)
		masked &= s[i] == 0;
	s[1] = 2;
	kern->softmax_step(nr, s, &max, &sum);
	one_max = max;
	one_sum = sum;
	for (size_t i = 0; i < 2 * nr; i++)
		s[i] = -INFINITY;
	masked &= kern->softmax_step(2 * nr, s, &max, &sum) == 1 && max == one_max && sum == one_sum && max == 2;
	for (size_t i = 0; i < 2 * nr; i++)
		masked &= s[i] == 0;
	ok(masked, "%s: softmax_step of masked scores changes nothing, first or later", kern->name);
}

/* ---- the table ---- */

static int
listed(const struct tc_kernels *list[], size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i]->name, name) == 0)
			return 1;
	return 0;
}

static void
test_select(const struct tc_kernels *list[], size_t n)
{
	ok(listed(list, n, "amx") == (listed(list, n, "avx512") && tc_tiles_permitted()),
	    "amx is among the kinds where there are tiles: its products of whole numbers are right");
	ok(n >= 1 && !strcmp(list[0]->name, "generic"), "every machine runs the generic kind");
	ok(tc_kernels_list(list, 1) == 1, "the list keeps to its length");
	for (size_t i = 0; i < n; i++) {
		ok(tc_kernels_select(list[i]->name, &err) == 0 && tc_kernels() == list[i] &&
		    !strcmp(tc_kernels_name(), list[i]->name), "%s is chosen by its name", list[i]->name);
		ok(list[i]->nr % 4 == 0 && list[i]->nr <= TC_NR_MAX, "%s: panels of %zu", list[i]->name, list[i]->nr);
	}
	ok(tc_kernels_select(NULL, &err) == 0 && tc_kernels() == list[n - 1], "the best one is the default");
	ok(tc_kernels_select("sse9", &err) == -1 && err.code == TC_USAGE && strstr(err.msg, "sse9"), "%s", err.msg);
	ok(tc_kernels_select("", &err) == -1 && err.code == TC_USAGE, "an empty name is none");
}

/* Mean and variance in double; the values lie away from 0, so that a mean that
 * is not subtracted first would show. */
static void
test_layer_norm(const struct tc_kernels *kern)
{
	float x[LENGTHS], w[LENGTHS], b[LENGTHS], y[LENGTHS + 8];
	int right = 1, inside = 1, in_place = 1;

	fill(x, LENGTHS, 1, 7);
	fill(w, LENGTHS, -2, 2);
	fill(b, LENGTHS, -1, 1);
	for (size_t n = 1; n <= LENGTHS; n++) {
		double mean = 0, var = 0;
		float z[LENGTHS];

		for (size_t i = 0; i < n; i++)
			mean += (double)x[i] / (double)n;
		for (size_t i = 0; i < n; i++)
			var += ((double)x[i] - mean) * ((double)x[i] - mean) / (double)n;
		guard(y, LENGTHS + 8);
		kern->layer_norm(n, x, w, b, 1e-5f, y);
		for (size_t i = 0; i < n; i++) {
			double want = ((double)x[i] - mean) / sqrt(var + (double)1e-5f) * (double)w[i] + (double)b[i];

			right &= fabs((double)y[i] - want) <= 2e-5;
		}
		inside &= guarded(y + n, LENGTHS + 8 - n);
		memcpy(z, x, n * sizeof(*z));
		kern->layer_norm(n, z, w, b, 1e-5f, z);
		in_place &= same_bits(z, y, n);
	}
	ok(right, "%s: layer_norm at all lengths", kern->name);
	ok(inside, "%s: layer_norm writes nothing else", kern->name);
	ok(in_place, "%s: layer_norm in place", kern->name);
}

/* GELU, with and without the product, and the soft cap: against double, alone
 * and at every length. */
static void
test_gelu_and_cap(const struct tc_kernels *kern)
{
	float x[LENGTHS], w[LENGTHS], g[LENGTHS], c[LENGTHS], y[LENGTHS + 8];
	int gelu = 1, bare = 1, cap = 1, lengths = 1;

	fill(x, LENGTHS, -12, 12);
	fill(w, LENGTHS, -2, 2);
	for (size_t i = 0; i < LENGTHS; i++) {
		double v = x[i], z = 0.7978845608028654 * (v + 0.044715 * v * v * v), want = 0.5 * v * (1 + tanh(z)), silu;
		float one;

		kern->gelu_tanh_mul(1, x + i, w + i, g + i);
		gelu &= fabs((double)g[i] - want * (double)w[i]) <= 2e-6 * (fabs(want * (double)w[i]) + 1e-3);
		kern->gelu_tanh_mul(1, x + i, NULL, &one);
		bare &= fabs((double)one - want) <= 2e-6 * (fabs(want) + 1e-3);
		silu = v / (1 + exp(-v));
		kern->silu_mul(1, x + i, NULL, &one);
		bare &= fabs((double)one - silu) <= 6e-7 * fabs(silu);
		c[i] = x[i];
		kern->soft_cap(1, 5, c + i);
		cap &= fabs((double)c[i] - 5 * tanh(v / 5)) <= 3e-7 * 5;
	}
	for (size_t n = 0; n <= LENGTHS; n++) {
		guard(y, LENGTHS + 8);
		kern->gelu_tanh_mul(n, x, w, y);
		lengths &= same_bits(y, g, n) && guarded(y + n, LENGTHS + 8 - n);
		guard(y, LENGTHS + 8);
		memcpy(y, x, n * sizeof(*y));
		kern->soft_cap(n, 5, y);
		lengths &= same_bits(y, c, n) && guarded(y + n, LENGTHS + 8 - n);
	}
	ok(gelu, "%s: gelu_tanh_mul", kern->name);
	ok(bare, "%s: gelu and silu without a product", kern->name);
	ok(cap, "%s: soft_cap is right to 3e-7 of the cap", kern->name);
	ok(lengths, "%s: gelu_tanh_mul and soft_cap at all lengths", kern->name);
}

static void
test_add_squares(const struct tc_kernels *kern)
{
	float x[LENGTHS];
	double y[LENGTHS + 1], want;
	int right = 1;

	fill(x, LENGTHS, -3, 3);
	for (size_t n = 0; n <= LENGTHS; n++) {
		for (size_t i = 0; i <= LENGTHS; i++)
			y[i] = 1 + (double)i;
		kern->add_squares(n, x, y);
		for (size_t i = 0; i <= LENGTHS; i++) {
			want = 1 + (double)i + (i < n ? (double)x[i] * (double)x[i] : 0);
			right &= y[i] == want;
		}
	}
	ok(right, "%s: squares are summed in double, n of them", kern->name);
}

static void
test_range(const struct tc_kernels *kern)
{
	float x[LENGTHS], zeros[LENGTHS], low, high;
	int right = 1, positive = 1;

	fill(x, LENGTHS, -3, 3);
	for (size_t i = 0; i < LENGTHS; i++)
		zeros[i] = -0.0f;
	for (size_t n = 1; n <= LENGTHS; n++)
		for (size_t begin = 0; begin + n <= LENGTHS; begin++) {
			float least = INFINITY, most = -INFINITY;

			for (size_t i = begin; i < begin + n; i++) {
				least = fminf(least, x[i]);
				most = fmaxf(most, x[i]);
			}
			kern->range(n, x + begin, &low, &high);
			right &= low == least && high == most;
			kern->range(n, zeros + begin, &low, &high);
			positive &= !signbit(low) && !signbit(high);
		}
	ok(right, "%s: range is that of n numbers", kern->name);
	ok(positive, "%s: its zeros are positive", kern->name);
}

static void
test_round_codes(const struct tc_kernels *kern)
{
	static const struct tc_rounding grids[] = {
		{ 0, 0.25f, 8, 1, 15 }, { -1.3f, 0.37f, 0, 0, 15 }, { 0, -0.5f, 2, 0, 3 }, { 0, 0.01f, 128, 0, 255 }, { 0, 1e-30f, 3, 0, 7 },
	};
	float x[LENGTHS];
	enum { FENCE = 0xa5 };
	uint8_t codes[LENGTHS + 1];
	int right = 1, inside = 1;

	fill(x, LENGTHS, -3, 3);
	for (size_t i = 0; i < LENGTHS; i += 3)
		x[i] = nearbyintf(8 * x[i]) / 8;   /* ties */
	x[0] = 1e30f;
	x[1] = -1e30f;
	for (size_t g = 0; g < sizeof(grids) / sizeof(grids[0]); g++)
		for (size_t n = 0; n <= LENGTHS; n++) {
			const struct tc_rounding *r = &grids[g];

			memset(codes, FENCE, sizeof(codes));
			kern->round_codes(n, x, r, codes);
			for (size_t i = 0; i < n; i++) {
				float q = (x[i] - r->min) / r->scale;

				right &= codes[i] == (uint8_t)fminf(fmaxf(nearbyintf(q) + r->zero, r->low), r->high);
			}
			inside &= codes[n] == FENCE;
		}
	ok(right, "%s: codes are the nearest, of halves the even ones", kern->name);
	ok(inside, "%s: n of them", kern->name);
}

/* Few different numbers, so that some are equal. */
static void
test_least(const struct tc_kernels *kern)
{
	enum { ROWS_MAX = 40 };
	float y[ROWS_MAX * TC_NR_MAX], least[TC_NR_MAX];
	int32_t row[TC_NR_MAX];
	size_t nr = kern->nr;
	int right = 1;

	for (size_t n = 1; n <= ROWS_MAX; n++) {
		fill(y, n * nr, -9, 9);
		for (size_t i = 0; i < n * nr; i++)
			y[i] = nearbyintf(y[i]);
		kern->least(n, y, least, row);
		for (size_t v = 0; v < nr; v++) {
			size_t first = 0;

			for (size_t k = 1; k < n; k++)
				first = y[k * nr + v] < y[first * nr + v] ? k : first;
			right &= (size_t)row[v] == first && least[v] == y[first * nr + v];
		}
	}
	ok(right, "%s: the least of columns, and the first row that has it", kern->name);
}

/* Multiply-adds are counted, and more of them when more are asked for. */
static void
test_peak(const struct tc_kernels *kern)
{
	ok(kern->peak(1000) == 1000 * kern->peak(1) && kern->peak(1) >= 2 * (double)kern->nr, "%s: peak counts operations",
	    kern->name);
}

int
main(void)
{
	const struct tc_kernels *list[8];
	size_t n = tc_kernels_list(list, 8);

	tc_rng_seed(&rng, 2);
	test_select(list, n);
	n = kinds_to_test(list, 8);
	for (size_t i = 0; i < n; i++) {
		test_gemm(list[i]);
		test_matmul(list[i], 1);
		test_many(list[i], "bf16", (struct tc_matrix){ .type = TC_PANEL_BF16, .in = 333, .out = 1100 });
		test_many(list[i], "f32", (struct tc_matrix){ .type = TC_PANEL_F32, .in = 333, .out = 1100 });
		test_many(list[i], "4 bits, groups of 160",
		    (struct tc_matrix){ .type = TC_PANEL_CODES, .bits = 4, .group = 160, .in = 333, .out = 1100 });
		for (int bits = 2; bits <= 8; bits *= 2)
			test_many(list[i], bits == 2 ? "2 bits, zeros" : bits == 4 ? "4 bits, zeros" : "8 bits, zeros",
			    (struct tc_matrix){ .type = TC_PANEL_CODES, .bits = bits, .group = 64, .shift = TC_SHIFT_ZERO, .in = 2064, .out = 100 });
		test_round_bf16(list[i]);
		test_bf16(list[i]);
		test_many(list[i], "bf16 by bf16", (struct tc_matrix){ .type = TC_PANEL_BF16, .bf16 = true, .in = 333, .out = 1100 });
		test_many(list[i], "bf16 by bf16", (struct tc_matrix){ .type = TC_PANEL_BF16, .bf16 = true, .in = 3401, .out = 100 });
		test_infinite(list[i], 0);
		for (int bits = 2; bits <= 8; bits *= 2)
			test_infinite(list[i], bits);
		test_group_sums(list[i]);
		test_widening(list[i], TC_PANEL_F16, "f16");
		test_widening(list[i], TC_PANEL_BF16, "bf16");
		test_exp(list[i]);
		test_lengths(list[i]);
		test_silu_ends(list[i]);
		test_rms_norm(list[i]);
		test_layer_norm(list[i]);
		test_gelu_and_cap(list[i]);
		test_rope(list[i]);
		test_softmax(list[i]);
		test_add_squares(list[i]);
		test_range(list[i]);
		test_round_codes(list[i]);
		test_least(list[i]);
		test_peak(list[i]);
	}
	return done_testing();
}
