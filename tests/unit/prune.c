/* Pruners: scores and choices by hand, exact counts, SparseGPT against its
 * algorithm written plainly in double, OWL's shares, and the same bytes at any
 * number of threads. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernel/kernel.h"
#include "kinds.h"
#include "layer.h"
#include "method/owl.h"
#include "method/pruner.h"
#include "tap.h"

static struct tc_pool *threads;

static bool
kept(const struct tc_pruned *p, size_t cols, size_t r, size_t c)
{
	return p->keep[r * tc_mask_words(cols) + c / 64] >> c % 64 & 1;
}

static size_t
zeros_of(const struct tc_pruned *p, size_t rows, size_t cols)
{
	size_t n = 0;

	for (size_t r = 0; r < rows; r++)
		for (size_t c = 0; c < cols; c++)
			n += !kept(p, cols, r, c);
	return n;
}

/* Rows of "1" kept and "." not. */
static bool
looks_like(const struct tc_pruned *p, size_t rows, size_t cols, const char *want)
{
	for (size_t r = 0; r < rows; r++)
		for (size_t c = 0; c < cols; c++)
			if (kept(p, cols, r, c) != (want[r * (cols + 1) + c] == '1'))
				return false;
	return true;
}

static int
run(const char *method, const struct tc_prune_options *o, const struct tc_quant_input *in, struct tc_pool *pool, struct tc_pruned *p)
{
	err = (struct tc_err){0};
	return tc_pruner_run(tc_pruner_find(method), o, in, p, pool, &err);
}

/* ---- by hand ---- */

static const float hand[4 * 8] = {
	1, -2, 3, -4, 5, -6, 7, -8,
	8, 7, 6, 5, 4, 3, 2, 1,
	.5, .5, .5, .5, .5, .5, .5, .5,
	9, -.1, 9, -.2, 9, -.3, 9, -.4,
};
/* Norms 1 1 1 1 2 2 4 4. */
static const double hand_squares[8] = { 1, 1, 1, 1, 4, 4, 16, 16 };

static void
test_by_hand(void)
{
	static const struct {
		const char *method;
		struct tc_prune_options o;
		const char *want;
	} cases[] = {
		/* 15 of 32: .1 .2 .3 .4, eight of .5, 1 1 2; the next is a 2 as well. */
		{ "magnitude", { .sparsity = 15.5 / 32 }, "..111111 111111.. ........ 1.1.1.1." },
		{ "magnitude", { .sparsity = 0.5, .per = TC_PRUNE_ROW }, "....1111 1111.... ....1111 1.1.1.1." },
		{ "magnitude", { .n = 2, .m = 4 }, "..11..11 11..11.. ..11..11 1.1.1.1." },
		{ "magnitude", { .n = 1, .m = 2 }, ".1.1.1.1 1.1.1.1. .1.1.1.1 1.1.1.1." },
		{ "magnitude", { .n = 6, .m = 8 }, "......11 11...... ......11 ....1.1." },
		/* Scores 1 2 3 4 10 12 28 32; 8 7 6 5 8 6 8 4; .5 .5 .5 .5 1 1 2 2;
		 * 9 .1 9 .2 18 .6 36 1.6. */
		{ "wanda", { .sparsity = 0.5, .per = TC_PRUNE_ROW }, "....1111 11..1.1. ....1111 1.1.1.1." },
		{ "wanda", { .sparsity = 0.3, .per = TC_PRUNE_ROW }, "..111111 111.111. ..111111 1.1.1111" },
		{ "wanda", { .n = 2, .m = 4 }, "..11..11 11..1.1. ..11..11 1.1.1.1." },
		{ "wanda", { .sparsity = 0.5 }, "....1111 11111111 ........ 1.1.1.1." },
	};
	struct tc_tensor t = dense(hand, 4, 8);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct tc_pruned p;
		char got[36];

		if (!ok(run(cases[i].method, &cases[i].o, &(struct tc_quant_input){ .w = &t, .squares = hand_squares }, NULL, &p) == 0,
		    "%s by hand, case %zu", cases[i].method, i))
			continue;
		for (size_t r = 0; r < 4; r++)
			for (size_t c = 0; c < 9; c++)
				got[r * 9 + c] = c == 8 ? ' ' : kept(&p, 8, r, c) ? '1' : '.';
		got[35] = '\0';
		ok(looks_like(&p, 4, 8, cases[i].want), "case %zu: %s, want %s", i, got, cases[i].want);
		tc_pruned_free(&p);
	}
}

/* ---- counts ---- */

/* Few different numbers, so that many are equal. */
static void
fill(float *w, size_t n, int levels)
{
	for (size_t i = 0; i < n; i++)
		w[i] = (float)((int)tc_rng_below(&rng, (uint64_t)(2 * levels + 1)) - levels) / 8;
}

static void
test_counts(void)
{
	static const size_t shapes[][2] = { { 1, 1 }, { 3, 63 }, { 5, 64 }, { 7, 65 }, { 45, 100 }, { 2, 1000 }, { 64, 3 } };
	static const double shares[] = { 0, 0.01, 0.29, 0.32, 0.5, 0.7, 0.999, 1 };
	static float w[45 * 100];
	double squares[1000];

	for (size_t c = 0; c < 1000; c++)
		squares[c] = 1 + (double)(c % 3);
	for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
		size_t rows = shapes[s][0], cols = shapes[s][1];
		struct tc_tensor t = dense(w, rows, cols);
		bool exact = true, per_row = true, at_least = true, alike = true;

		fill(w, rows * cols, 20);
		for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++)
			for (int per = TC_PRUNE_TENSOR; per <= TC_PRUNE_ROW; per++)
				for (int wanda = 0; wanda < 2; wanda++) {
					const struct tc_prune_options o = { .sparsity = shares[i], .per = (enum tc_prune_per)per };
					const struct tc_quant_input in = { .w = &t, .squares = squares };
					size_t all = tc_prune_count(shares[i], rows * cols), each = tc_prune_count(shares[i], cols);
					struct tc_pruned a, b;

					if (run(wanda ? "wanda" : "magnitude", &o, &in, NULL, &a) < 0 ||
					    run(wanda ? "wanda" : "magnitude", &o, &in, threads, &b) < 0) {
						exact = false;
						continue;
					}
					alike &= !memcmp(a.keep, b.keep, rows * tc_mask_words(cols) * sizeof(*a.keep));
					if (per == TC_PRUNE_ROW)
						for (size_t r = 0; r < rows; r++) {
							struct tc_pruned row = { .keep = a.keep + r * tc_mask_words(cols) };

							per_row &= zeros_of(&row, 1, cols) == each;
						}
					else if (wanda)
						exact &= zeros_of(&a, rows, cols) == all;
					else
						at_least &= zeros_of(&a, rows, cols) >= all && (all > 0 || zeros_of(&a, rows, cols) == 0);
					tc_pruned_free(&a);
					tc_pruned_free(&b);
				}
		ok(exact && per_row, "%zu x %zu: exact counts, all and each row, of many equal scores", rows, cols);
		ok(at_least, "%zu x %zu: magnitude takes what equals the next as well", rows, cols);
		ok(alike, "%zu x %zu: the same with 3 threads", rows, cols);
	}
}

/* Of equal ones the first go. */
static void
test_ties(void)
{
	static float w[6 * 70];
	struct tc_tensor t = dense(w, 6, 70);
	double squares[70];
	struct tc_pruned p;
	bool first = true;

	for (size_t i = 0; i < 6 * 70; i++)
		w[i] = i % 2 ? -1 : 1;
	for (size_t c = 0; c < 70; c++)
		squares[c] = 2;
	for (int per = TC_PRUNE_TENSOR; per <= TC_PRUNE_ROW; per++) {
		if (run("wanda", &(struct tc_prune_options){ .sparsity = 0.35, .per = (enum tc_prune_per)per },
		    &(struct tc_quant_input){ .w = &t, .squares = squares }, threads, &p) < 0)
			first = false;
		for (size_t r = 0; first && r < 6; r++)
			for (size_t c = 0; c < 70; c++)
				first &= kept(&p, 70, r, c) == (per == TC_PRUNE_ROW ? c >= 24 : r * 70 + c >= 147);
		tc_pruned_free(&p);
	}
	ok(first, "of equal scores the first go, all and each row");
}

/* Each m's n lowest, at every position. */
static void
test_groups(void)
{
	enum { COUNT = 96 };
	static float w[5 * COUNT];

	for (size_t m = 2; m <= TC_NM_MAX; m++)
		for (size_t n = 1; n < m; n++) {
			size_t cols = COUNT / m * m;
			struct tc_tensor t = dense(w, 5, cols);
			struct tc_pruned p;
			bool good = true;

			for (size_t i = 0; i < 5 * cols; i++)
				w[i] = (float)gauss();
			if (run("magnitude", &(struct tc_prune_options){ .n = (int)n, .m = (int)m }, &(struct tc_quant_input){ .w = &t }, threads, &p) < 0) {
				ok(false, "%zu:%zu: %s", n, m, err.msg);
				continue;
			}
			for (size_t r = 0; r < 5; r++)
				for (size_t c = 0; c < cols; c += m) {
					size_t zeros = 0;
					float most = 0, least = INFINITY;

					for (size_t i = c; i < c + m; i++) {
						float a = fabsf(w[r * cols + i]);

						zeros += !kept(&p, cols, r, i);
						if (kept(&p, cols, r, i))
							least = fminf(least, a);
						else
							most = fmaxf(most, a);
					}
					good &= zeros == n && most <= least;
				}
			ok(good, "%zu of every %zu", n, m);
			tc_pruned_free(&p);
		}
	ok(run("magnitude", &(struct tc_prune_options){ .n = 2, .m = 4 }, &(struct tc_quant_input){ .w = &(struct tc_tensor){ .name = "w",
	    .ndim = 2, .shape = { 2, 6 } } }, NULL, &(struct tc_pruned){0}) < 0 && err.code == TC_DATA, "6 inputs are no multiple of 4: %s", err.msg);
}

/* The lowest of several matrices. */
static void
test_model(void)
{
	static float w[3][4 * 33];
	struct tc_tensor t[3];
	struct tc_lowest l;
	size_t zeros = 0;
	float most = 0, least = INFINITY;
	bool good = tc_lowest_open(&l, 150, threads, &err) == 0;

	for (size_t i = 0; i < 3; i++) {
		for (size_t k = 0; k < 4 * 33; k++)
			w[i][k] = (float)gauss() * (float)(i + 1);
		t[i] = dense(w[i], 4, 33);
	}
	for (int turn = 0; good && turn < TC_LOWEST_TURNS; turn++) {
		for (size_t i = 0; i < 3; i++) {
			struct tc_pruner_scores s;

			good &= tc_pruner_scores_open(&s, tc_pruner_find("magnitude"), &(struct tc_quant_input){ .w = &t[i] }, &err) == 0 &&
			    tc_lowest_count(&l, &s.s, &err) == 0;
			tc_pruner_scores_close(&s);
		}
		tc_lowest_turn(&l);
	}
	for (size_t i = 0; good && i < 3; i++) {
		struct tc_pruned p;

		good = run("magnitude", &(struct tc_prune_options){ .per = TC_PRUNE_MODEL, .model = &l }, &(struct tc_quant_input){ .w = &t[i] },
		    threads, &p) == 0;
		for (size_t k = 0; good && k < 4 * 33; k++) {
			bool stays = kept(&p, 33, k / 33, k % 33);

			zeros += !stays;
			if (stays)
				least = fminf(least, fabsf(w[i][k]));
			else
				most = fmaxf(most, fabsf(w[i][k]));
		}
		tc_pruned_free(&p);
	}
	ok(good && zeros == 150 && most < least, "of three matrices the lowest 150: %zu, up to %g, from %g on", zeros, (double)most, (double)least);
	tc_lowest_close(&l);
}

/* ---- sparsegpt ---- */

static int
sparsegpt(const struct tc_prune_options *o, const struct layer *l, struct tc_pool *pool, struct tc_pruned *p)
{
	struct tc_quant_input in = { .w = &l->t };
	struct tc_factor f;
	int r;

	*p = (struct tc_pruned){0};
	if (tc_factor_make(&f, l->packed, COLS, 0.01, false, &err) < 0)
		return -1;
	in.factor = &f;
	r = run("sparsegpt", o, &in, pool, p);
	tc_factor_free(&f);
	return r;
}

/* What has become of the weights. */
static void
result(const struct tc_pruned *p, float *w)
{
	tc_tensor_read_rows(&p->weights.t, 0, ROWS, w);
	for (size_t i = 0; i < ROWS * COLS; i++)
		if (!kept(p, COLS, i / COLS, i % COLS))
			w[i] = 0;
}

static int
by_value(const void *x, const void *y)
{
	double a = *(const double *)x, b = *(const double *)y;

	return (a > b) - (a < b);
}

/* The authors' loop: one block, for it has at least as many inputs; the inverse
 * of what is left of the Hessian is kept up to date, in O(n^3), and no
 * factor of it is. */
static void
plain_sparsegpt(const struct layer *l, const struct tc_prune_options *o, double *w)
{
	static double inv[COLS][2 * COLS], at[COLS][COLS], score[ROWS * COLS], sorted[ROWS * COLS];
	static bool zero[ROWS * COLS];
	double mean = 0, bound = -1;

	for (size_t i = 0; i < COLS; i++)
		mean += l->h[i * COLS + i] / COLS;
	for (size_t i = 0; i < COLS; i++)
		for (size_t j = 0; j < COLS; j++) {
			inv[i][j] = l->h[i * COLS + j] + (i == j ? 0.01 * mean : 0);
			inv[i][COLS + j] = i == j;
		}
	for (size_t k = 0; k < COLS; k++) {
		double pivot = inv[k][k];

		for (size_t j = 0; j < 2 * COLS; j++)
			inv[k][j] /= pivot;
		for (size_t i = 0; i < COLS; i++) {
			double f = inv[i][k];

			for (size_t j = 0; i != k && j < 2 * COLS; j++)
				inv[i][j] -= f * inv[k][j];
		}
	}
	/* at[k] is row k of the inverse of the Hessian of inputs k.. alone. */
	for (size_t k = 0; k < COLS; k++) {
		for (size_t j = 0; j < COLS; j++)
			at[k][j] = inv[k][COLS + j];
		for (size_t i = k + 1; i < COLS; i++) {
			double f = inv[i][COLS + k] / at[k][k];

			for (size_t j = 0; j < COLS; j++)
				inv[i][COLS + j] -= f * at[k][j];
		}
	}
	for (size_t i = 0; i < ROWS * COLS; i++) {
		w[i] = (double)l->w[i];
		sorted[i] = score[i] = w[i] * w[i] / at[i % COLS][i % COLS];
	}
	if (o->m == 0) {
		size_t k = tc_prune_count(o->sparsity, ROWS * COLS);

		qsort(sorted, ROWS * COLS, sizeof(*sorted), by_value);
		bound = k > 0 ? sorted[k - 1] : -1;
	}
	for (size_t r = 0; r < ROWS; r++)
		for (size_t k = 0; k < COLS; k++) {
			size_t m = (size_t)o->m;
			double *row = w + r * COLS, e;

			if (o->m > 0 && k % m == 0)
				for (size_t i = k; i < k + m; i++) {
					size_t below = 0;

					for (size_t j = k; j < k + m; j++)
						below += row[j] * row[j] / at[j][j] < row[i] * row[i] / at[i][i];
					zero[r * COLS + i] = below < (size_t)o->n;
				}
			else if (o->m == 0)
				zero[r * COLS + k] = score[r * COLS + k] <= bound;
			if (!zero[r * COLS + k])
				continue;
			e = row[k] / at[k][k];
			for (size_t j = k; j < COLS; j++)
				row[j] -= e * at[k][j];
			row[k] = 0;
		}
}

static void
test_against_plain(const char *kind)
{
	static const struct tc_prune_options cases[] = { { .sparsity = 0.5 }, { .sparsity = 0.9 }, { .n = 2, .m = 4 }, { .n = 3, .m = 5 }, { .n = 1, .m = 10 } };
	static struct layer l;
	static float got[ROWS * COLS];
	static double want[ROWS * COLS];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct tc_pruned p;
		size_t rows_alike = 0;

		make(&l, TOKENS, -1);
		if (!ok(sparsegpt(&cases[i], &l, NULL, &p) == 0, "%s: sparsegpt runs", kind))
			continue;
		result(&p, got);
		plain_sparsegpt(&l, &cases[i], want);
		for (size_t r = 0; r < ROWS; r++) {
			double most = 0;

			for (size_t c = 0; c < COLS; c++)
				most = fmax(most, fabs((double)got[r * COLS + c] - want[r * COLS + c]));
			rows_alike += most < 1e-3;
		}
		ok(rows_alike >= ROWS - 1, "%s: sparsegpt as the algorithm in double, %zu of %d rows (%g, %d:%d)", kind, rows_alike, ROWS,
		    cases[i].sparsity, cases[i].n, cases[i].m);
		ok(zeros_of(&p, ROWS, COLS) == (cases[i].m ? ROWS * COLS / (size_t)cases[i].m * (size_t)cases[i].n :
		    tc_prune_count(cases[i].sparsity, ROWS * COLS)), "%s: as many zeros as asked for", kind);
		tc_pruned_free(&p);
	}
}

/* Inputs that do not go together: w^2 H_jj decides, and nothing else changes. */
static void
test_diagonal(const char *kind)
{
	static struct layer l;
	static float w[ROWS * COLS];
	double mean = 0, squares[COLS];
	struct tc_pruned p, q;
	bool unchanged = true;

	make(&l, TOKENS, -1);
	for (size_t i = 0; i < COLS; i++)
		mean += l.h[i * COLS + i] / COLS;
	for (size_t i = 0; i < COLS; i++) {
		squares[i] = l.h[i * COLS + i] + 0.01 * mean;
		for (size_t j = 0; j < i; j++)
			l.packed[i * (i + 1) / 2 + j] = 0;
	}
	if (!ok(sparsegpt(&(struct tc_prune_options){ .sparsity = 0.6 }, &l, NULL, &p) == 0 &&
	    run("wanda", &(struct tc_prune_options){ .sparsity = 0.6 }, &(struct tc_quant_input){ .w = &l.t, .squares = squares }, NULL, &q) == 0,
	    "%s: a diagonal Hessian", kind))
		return;
	ok(!memcmp(p.keep, q.keep, ROWS * tc_mask_words(COLS) * sizeof(*p.keep)), "%s: chooses by the root of w^2 H", kind);
	result(&p, w);
	for (size_t i = 0; i < ROWS * COLS; i++)
		unchanged &= !kept(&p, COLS, i / COLS, i % COLS) || w[i] == l.w[i];
	ok(unchanged, "%s: and changes no other weight", kind);
	tc_pruned_free(&p);
	tc_pruned_free(&q);
}

/* Of output error, against the same weights zeroed and nothing made up for. */
static void
test_error(const char *kind)
{
	static const struct tc_quant_options quant = { .bits = 4, .group = 20, .zero = TC_ZERO_INT, .scale = TC_F32, .damping = 0.01 };
	static struct layer l;
	static float w[ROWS * COLS], plain[ROWS * COLS];

	make(&l, TOKENS, 7);
	for (int way = 0; way < 4; way++) {
		struct tc_prune_options o = { .sparsity = way < 2 ? 0.5 : 0, .n = way < 2 ? 0 : 2, .m = way < 2 ? 0 : 4, .quant = way % 2 ? &quant : NULL };
		struct tc_pruned p;
		bool dead = true;

		if (!ok(sparsegpt(&o, &l, NULL, &p) == 0, "%s: sparsegpt, way %d", kind, way))
			continue;
		result(&p, w);
		memcpy(plain, l.w, sizeof(plain));
		for (size_t i = 0; i < ROWS * COLS; i++)
			if (!kept(&p, COLS, i / COLS, i % COLS))
				plain[i] = 0;
		for (size_t r = 0; r < ROWS; r++)
			dead &= w[r * COLS + 7] == 0;
		ok(output_error(&l, w) < 0.5 * output_error(&l, plain), "%s: %s%s: output error %.2f of that without making up", kind,
		    o.m ? "2:4" : "50%", o.quant ? " and 4 bit" : "", output_error(&l, w) / output_error(&l, plain));
		ok(dead, "%s: an input that is always 0 has no weight", kind);
		ok(p.weights.t.format.encoding == (o.quant ? TC_UNIFORM : TC_DENSE), "%s: and its form", kind);
		tc_pruned_free(&p);
	}
}

static void
test_same_bytes(const char *kind)
{
	static const struct tc_quant_options quant = { .bits = 3, .group = 20, .zero = TC_ZERO_INT, .scale = TC_F16 };
	static struct layer l;

	make(&l, TOKENS, 3);
	for (int way = 0; way < 4; way++) {
		struct tc_prune_options o = { .sparsity = 0.4, .n = way < 2 ? 0 : 4, .m = way < 2 ? 0 : 10, .quant = way % 2 ? &quant : NULL };
		struct tc_pruned a, b;
		bool same = sparsegpt(&o, &l, NULL, &a) == 0 && sparsegpt(&o, &l, threads, &b) == 0 &&
		    a.weights.t.nparts == b.weights.t.nparts && !memcmp(a.keep, b.keep, ROWS * tc_mask_words(COLS) * sizeof(*a.keep));

		for (int i = 0; same && i < a.weights.t.nparts; i++)
			same = !memcmp(a.weights.t.part[i].data, b.weights.t.part[i].data, a.weights.t.part[i].size_bytes);
		ok(same, "%s: sparsegpt, way %d: the same with 1 and 3 threads", kind, way);
		tc_pruned_free(&a);
		tc_pruned_free(&b);
	}
}

/* Weights that came as 0 stay so, and count. */
static void
test_zeros_stay(const char *kind)
{
	static struct layer l;
	static float w[ROWS * COLS];
	struct tc_pruned p;
	size_t zeros = 0, more = 0;
	bool stay = true;

	make(&l, TOKENS, -1);
	for (size_t i = 0; i < ROWS * COLS; i++)
		if (tc_rng_below(&rng, 3) == 0) {
			l.w[i] = 0;
			zeros++;
		}
	if (!ok(sparsegpt(&(struct tc_prune_options){ .sparsity = 0.5 }, &l, NULL, &p) == 0, "%s: pruned before", kind))
		return;
	result(&p, w);
	for (size_t i = 0; i < ROWS * COLS; i++) {
		stay &= l.w[i] != 0 || w[i] == 0;
		more += w[i] == 0;
	}
	ok(stay && more == ROWS * COLS / 2, "%s: %zu zeros of before stay and count among %zu", kind, zeros, more);
	tc_pruned_free(&p);
}

/* bf16 stays bf16. */
static void
test_type(void)
{
	static struct layer l;
	static uint16_t half[ROWS * COLS];
	struct tc_pruned p, q;
	bool rounded = true;

	make(&l, TOKENS, -1);
	for (size_t i = 0; i < ROWS * COLS; i++)
		l.w[i] = tc_f32_from_bf16(half[i] = tc_bf16_from_f32(l.w[i]));
	if (!ok(sparsegpt(&(struct tc_prune_options){ .sparsity = 0.5 }, &l, NULL, &p) == 0, "f32"))
		return;
	l.t.format.dtype = TC_BF16;
	if (tc_tensor_layout(&l.t, &err) < 0)
		exit(1);
	l.t.part[0].data = half;
	if (ok(sparsegpt(&(struct tc_prune_options){ .sparsity = 0.5 }, &l, NULL, &q) == 0, "bf16")) {
		const float *f = p.weights.t.part[0].data;
		const uint16_t *h = q.weights.t.part[0].data;

		for (size_t i = 0; i < ROWS * COLS; i++)
			rounded &= h[i] == tc_bf16_from_f32(f[i]);
		ok(q.weights.t.format.dtype == TC_BF16 && rounded, "bf16 stays bf16, rounded to nearest");
		tc_pruned_free(&q);
	}
	tc_pruned_free(&p);
}

static void
test_missing(void)
{
	struct tc_tensor t = dense(hand, 4, 8);
	const struct tc_prune_options o = { .sparsity = 0.5 };
	double large[8] = { INFINITY };
	struct tc_pruned p;

	ok(run("sparsegpt", &o, &(struct tc_quant_input){ .w = &t }, NULL, &p) < 0 && err.code == TC_DATA && strstr(err.msg, "Hessian"),
	    "without a Hessian: %s", err.msg);
	ok(run("wanda", &o, &(struct tc_quant_input){ .w = &t }, NULL, &p) < 0 && err.code == TC_DATA && strstr(err.msg, "squares"),
	    "without squares: %s", err.msg);
	ok(run("wanda", &o, &(struct tc_quant_input){ .w = &t, .squares = large }, NULL, &p) < 0 && err.code == TC_DATA, "too large: %s", err.msg);
	t.nops = 1;
	t.op[0] = (struct tc_input_op){ .kind = TC_OP_HADAMARD, .block = 8 };
	ok(run("wanda", &o, &(struct tc_quant_input){ .w = &t, .squares = hand_squares }, NULL, &p) < 0 && err.code == TC_DATA &&
	    strstr(err.msg, "rotated"), "rotated: %s", err.msg);
	ok(!tc_pruner_find("nothere"), "no such pruner");
}

/* ---- owl ---- */

static void
test_owl(void)
{
	/* Scores 1 but for 0, 1 and 3 of 20 that are 30. */
	static float w[3][20];
	struct tc_owl o;
	double s[4];
	bool good = tc_owl_open(&o, 4, 5, &err) == 0;

	for (size_t b = 0; b < 3; b++)
		for (size_t i = 0; i < 20; i++)
			w[b][i] = i < (b == 2 ? 3 : b) ? -30 : 1;
	for (int turn = 0; turn < TC_OWL_TURNS; turn++)
		for (size_t b = 0; good && b < 3; b++) {
			struct tc_tensor t = dense(w[b], 4, 5);
			struct tc_pruner_scores scores;

			good = tc_pruner_scores_open(&scores, tc_pruner_find("magnitude"), &(struct tc_quant_input){ .w = &t }, &err) == 0 &&
			    tc_owl_add(&o, turn, b, &scores.s, threads, &err) == 0;
			tc_pruner_scores_close(&scores);
		}
	tc_owl_sparsities(&o, 0.5, 0.06, s);
	/* Shares 0, .05, .15, mean .2/3; 2 lambda / .15 = .8. */
	ok(good && fabs(s[0] - (0.5 + 0.8 * 0.2 / 3)) < 1e-12 && fabs(s[1] - (0.5 + 0.8 * (0.2 / 3 - 0.05))) < 1e-12 &&
	    fabs(s[2] - (0.5 + 0.8 * (0.2 / 3 - 0.15))) < 1e-12, "owl: %.4f %.4f %.4f", s[0], s[1], s[2]);
	ok(fabs(s[0] + s[1] + s[2] - 1.5) < 1e-12 && s[3] == 0.5, "their mean is the one asked for; a block without weights gets it");
	tc_owl_close(&o);
}

int
main(void)
{
	const struct tc_kernels *kinds[8];
	size_t n = kinds_to_test(kinds, 8);

	tc_rng_seed(&rng, 5);
	if (tc_pool_open(&threads, 3, &err) < 0 || tc_kernels_select(NULL, &err) < 0)
		return 1;
	test_by_hand();
	test_counts();
	test_ties();
	test_groups();
	test_model();
	test_owl();
	test_missing();
	for (size_t k = 0; k < n; k++) {
		if (tc_kernels_select(kinds[k]->name, &err) < 0)
			return 1;
		test_against_plain(kinds[k]->name);
		test_diagonal(kinds[k]->name);
		test_error(kinds[k]->name);
		test_same_bytes(kinds[k]->name);
		test_zeros_stay(kinds[k]->name);
	}
	test_type();
	tc_pool_close(threads);
	return done_testing();
}
