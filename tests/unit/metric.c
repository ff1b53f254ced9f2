/* Windows against naive enumeration, means and intervals by hand, likelihoods
 * and divergences against a double softmax, overlap by hand. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kernel/kernel.h"
#include "metric/nll.h"
#include "metric/overlap.h"
#include "metric/paired.h"
#include "metric/windows.h"
#include "tap.h"

static struct tc_rng rng;
static struct tc_err err;

/* ---- windows ---- */

enum { TOKENS_MOST = 40 };

/* Marks what w scores; -1 when a token is scored twice or lies outside. */
static int
mark(const struct tc_window *w, size_t tokens, int *scored)
{
	for (size_t p = w->first; p + 1 < w->length; p++)
		if (w->begin + p + 1 >= tokens || scored[w->begin + p + 1]++)
			return -1;
	return 0;
}

/* Windows of fixed length: a prediction counts once, from score_from on. */
static int
fixed_is_right(size_t tokens, size_t window, size_t stride, size_t from)
{
	int want[TOKENS_MOST] = {0}, got[TOKENS_MOST] = {0}, held[TOKENS_MOST] = {0}, right = 1;
	size_t n = 0, scored = 0, dropped = 0;
	struct tc_windows ws;

	if (tc_windows_fixed(&ws, tokens, window, stride, from, &err) < 0)
		return 0;
	for (size_t b = 0; b + window <= tokens; b += stride, n++) {
		right &= n < ws.n && ws.w[n].begin == b && ws.w[n].length == window;
		for (size_t p = 0; p < window; p++) {
			held[b + p] = 1;
			if (p >= from && p + 1 < window)
				want[b + p + 1] = 1;
		}
	}
	right &= n == ws.n;
	for (size_t i = 0; i < ws.n && right; i++)
		right &= mark(&ws.w[i], tokens, got) == 0;
	for (size_t t = 0; t < tokens; t++) {
		scored += (size_t)want[t];
		dropped += !held[t];
	}
	right &= !memcmp(want, got, sizeof(want)) && ws.scored == scored && ws.dropped == dropped;
	tc_windows_free(&ws);
	return right;
}

/* The loop of Hugging Face's page, with its labels and its shift. */
static int
sliding_is_right(size_t tokens, size_t window, size_t stride)
{
	size_t prev = 0, n = 0, scored = 0;
	struct tc_windows ws;
	int right = 1;

	if (tc_windows_sliding(&ws, tokens, window, stride, &err) < 0)
		return 0;
	for (size_t b = 0; b < tokens; b += stride, n++) {
		size_t end = b + window < tokens ? b + window : tokens, target = end - prev;
		size_t labels = target < end - b ? target : end - b - 1; /* the first token has no prediction */

		right &= n < ws.n && ws.w[n].begin == b && ws.w[n].length == end - b && tc_window_scored(&ws.w[n]) == labels;
		scored += labels;
		prev = end;
		if (end == tokens) {
			n++;
			break;
		}
	}
	right &= n == ws.n && ws.scored == scored && ws.dropped == 0;
	tc_windows_free(&ws);
	return right;
}

static void
test_windows(void)
{
	struct tc_windows ws;
	int fixed = 1, sliding = 1;

	for (size_t tokens = 0; tokens <= TOKENS_MOST; tokens++)
		for (size_t window = 2; window <= 12; window++)
			for (size_t stride = 1; stride <= window; stride++) {
				for (size_t from = 0; from < window; from++)
					fixed &= fixed_is_right(tokens, window, stride, from);
				sliding &= sliding_is_right(tokens, window, stride);
			}
	ok(fixed, "fixed windows of every length, stride and first position up to %d tokens", TOKENS_MOST);
	ok(sliding, "sliding windows as Hugging Face's loop has them");
	ok(tc_windows_fixed(&ws, 393977, 512, 512, 256, &err) == 0 && ws.n == 769 && ws.scored == 196095 && ws.dropped == 393977 - 769 * 512,
	    "393977 tokens, window 512, second half: 196095 scored");
	tc_windows_free(&ws);
	ok(tc_windows_sliding(&ws, 60000, 1024, 512, &err) == 0 && ws.scored == 59999 && ws.n == 117,
	    "60000 tokens, sliding 1024 by 512: 59999 scored in 117 windows");
	tc_windows_free(&ws);
	ok(!ws.w && !ws.n && !ws.scored, "tc_windows_free leaves nothing");
}

static void
test_lines(void)
{
	static const size_t length[] = { 3, 0, 1, 10, 2, 8 };
	static const struct tc_window want[] = { { 0, 3, 0 }, { 4, 8, 0 }, { 14, 2, 0 }, { 16, 8, 0 } };
	struct tc_windows ws;
	int right;

	right = tc_windows_lines(&ws, 6, length, 8, 0, &err) == 0 && ws.n == 4;
	for (size_t i = 0; right && i < 4; i++)
		right &= ws.w[i].begin == want[i].begin && ws.w[i].length == want[i].length && ws.w[i].first == 0;
	ok(right, "lines: one window each, cut at 8, short ones left out");
	ok(ws.scored == 2 + 7 + 1 + 7 && ws.dropped == 1 + 2, "lines: 17 scored, 3 dropped");
	tc_windows_free(&ws);
	ok(tc_windows_lines(&ws, 0, length, 8, 0, &err) == 0 && ws.n == 0, "no lines, no windows");
	tc_windows_free(&ws);
}

static void
test_predictions(void)
{
	static const uint32_t ids[] = { 10, 11, 12, 13, 14, 15, 16 }, bos = 9;
	double value[] = { 1, 2, 3, 4, 8 }, mean[2];
	struct tc_predictions p;
	struct tc_windows ws;
	size_t at = 0;
	int right;

	/* 0..3, of which three are predicted, and 3..6, of which 4 and more are. */
	right = tc_windows_fixed(&ws, 7, 4, 3, 0, &err) == 0 && ws.n == 2 && tc_predictions_make(&p, &ws, ids, &bos, &err) == 0;
	ok(right && p.nseq == 2 && p.ntokens == 8 && p.n == ws.scored && p.ids[0] == bos && p.ids[1] == 11 && p.ids[4] == bos,
	    "windows one after another, the first token replaced");
	for (size_t i = 0; right && i < 2; i++)
		for (size_t k = 0; k < tc_window_scored(&ws.w[i]); k++, at++)
			right &= p.row[at] == 4 * i + ws.w[i].first + k && p.target[at] == ids[ws.w[i].begin + ws.w[i].first + k + 1];
	ok(right && at == p.n, "rows and their targets");
	ws.w[1].first++;
	ws.scored--;
	tc_predictions_free(&p);
	right = tc_predictions_make(&p, &ws, ids, NULL, &err) == 0 && p.n == 5 && p.ids[0] == 10 && p.weight[1] == 2;
	ok(right && tc_predictions_means(&p, value, mean, &err) == 0 && mean[0] == 2 && mean[1] == 6, "means of windows");
	value[4] = NAN;
	ok(tc_predictions_means(&p, value, mean, &err) < 0 && err.code == TC_DATA && strstr(err.msg, "window 1"), "not of NaN");
	tc_predictions_free(&p);
	tc_windows_free(&ws);
}

/* ---- means ---- */

static void
test_mean(void)
{
	static const double x[] = { 1, 2, 6, 100 }, w[] = { 1, 2, 1, 0 }, even[] = { 1, 1, 1, 1 };
	struct tc_mean m = tc_mean_of(4, x, w);

	/* sum w x = 11, sum w = 4; deviations -1.75, -0.75, 3.25, weighted
	 * -1.75, -1.5, 3.25: squares 15.875; times 3 / 2, root, over 4 */
	ok(m.mean == 2.75 && fabs(m.stderr_ - sqrt(1.5 * 15.875) / 4) < 1e-15, "a weighted mean and its error by hand");
	m = tc_mean_of(3, x, even);
	ok(m.mean == 3 && fabs(m.stderr_ - sqrt(7.0 / 3)) < 1e-15, "equal weights: the usual standard error");
	m = tc_mean_of(1, x, even);
	ok(m.mean == 1 && m.stderr_ == 0, "one window has no error");
	m = tc_mean_of(2, x + 2, w + 2);
	ok(m.mean == 6 && m.stderr_ == 0, "windows of weight 0 do not count");
	m = tc_mean_of(0, x, even);
	ok(m.mean == 0 && m.stderr_ == 0, "nothing has mean 0");
}

static void
test_bootstrap(void)
{
	enum { N = 40, RUNS = 60 };
	double x[N], w[N], low, high, low2, high2, width = 0;
	int covered = 0, ordered = 1;

	for (int r = 0; r < RUNS; r++) {
		struct tc_mean m;

		for (int i = 0; i < N; i++) {
			x[i] = 5;
			for (int k = 0; k < 12; k++)
				x[i] += tc_rng_unit(&rng) - 0.5;
			w[i] = 1 + tc_rng_unit(&rng);
		}
		if (!tc_bootstrap(N, x, w, 42, &low, &high, &err)) {
			m = tc_mean_of(N, x, w);
			ordered &= low < m.mean && m.mean < high;
			covered += low <= 5 && 5 <= high;
			width += (high - low) / (2 * 1.96 * m.stderr_) / RUNS;
		}
	}
	ok(ordered, "the interval holds the mean");
	ok(covered >= 52 && covered < RUNS, "the 95%% interval holds the truth in %d of %d runs", covered, RUNS);
	ok(width > 0.9 && width < 1.05, "and is as wide as the error says (%.3f)", width);
	ok(tc_bootstrap(N, x, w, 42, &low2, &high2, &err) == 0 && low2 == low && high2 == high, "the same seed gives the same interval");
	ok(tc_bootstrap(N, x, w, 43, &low2, &high2, &err) == 0 && (low2 != low || high2 != high), "another seed another");
	for (int i = 0; i < N; i++)
		x[i] = 3;
	ok(tc_bootstrap(N, x, w, 1, &low, &high, &err) == 0 && fabs(low - 3) < 1e-12 && fabs(high - 3) < 1e-12, "equal windows have no width");
}

/* ---- likelihoods ---- */

enum { WIDTH = 40, ROWS = 230, PREDICTIONS = 180, VOCAB_MOST = 1100 };

struct side {
	float hidden[ROWS * WIDTH];
	float w[VOCAB_MOST * WIDTH];
	uint16_t half[VOCAB_MOST * WIDTH];
	struct tc_tensor head;
	double logits[VOCAB_MOST];   /* of one row */
};
static struct side sides[2];

/* Logits up to about 20 either way. */
static void
make_side(struct side *s, size_t vocab, enum tc_dtype dtype)
{
	for (size_t i = 0; i < ROWS * WIDTH; i++)
		s->hidden[i] = (float)(2 * tc_rng_unit(&rng) - 1) * 3;
	for (size_t i = 0; i < vocab * WIDTH; i++) {
		s->w[i] = (float)(2 * tc_rng_unit(&rng) - 1);
		s->half[i] = dtype == TC_F16 ? tc_f16_from_f32(s->w[i]) : tc_bf16_from_f32(s->w[i]);
	}
	s->head = (struct tc_tensor){ .name = "head", .ndim = 2, .shape = { vocab, WIDTH }, .format = { .dtype = dtype } };
	if (tc_tensor_layout(&s->head, &err) < 0)
		exit(1);
	s->head.part[0].data = dtype == TC_F32 ? (const void *)s->w : s->half;
}

/* Fills s->logits; returns log sum exp, *top the most likely token. */
static double
softmax(struct side *s, size_t row, size_t vocab, uint32_t *top)
{
	float w[WIDTH];
	double sum = 0;

	*top = 0;
	for (size_t j = 0; j < vocab; j++) {
		tc_tensor_read_rows(&s->head, j, 1, w);
		s->logits[j] = 0;
		for (size_t i = 0; i < WIDTH; i++)
			s->logits[j] += (double)s->hidden[row * WIDTH + i] * (double)w[i];
		if (s->logits[j] > s->logits[*top])
			*top = (uint32_t)j;
	}
	for (size_t j = 0; j < vocab; j++)
		sum += exp(s->logits[j] - s->logits[*top]);
	return s->logits[*top] + log(sum);
}

struct results {
	double nll[PREDICTIONS], base_nll[PREDICTIONS], kld[PREDICTIONS];
	unsigned char same_top[PREDICTIONS], greedy[PREDICTIONS];
};
static size_t rows[PREDICTIONS];
static uint32_t targets[PREDICTIONS];

static int
run(struct results *r, const struct side *base, struct tc_pool *pool)
{
	struct tc_nll a = { PREDICTIONS, rows, targets, r->nll, r->base_nll, r->kld, r->same_top, r->greedy };
	struct tc_final m = { sides[0].hidden, &sides[0].head, 0, NULL }, b = { 0 };

	if (base)
		b = (struct tc_final){ base->hidden, &base->head, 0, NULL };
	err = (struct tc_err){0};
	return tc_nll_run(&a, &m, base ? &b : NULL, pool, &err);
}

/* Rows in runs longer than a tile, with gaps, and one twice. */
static void
choose_predictions(size_t vocab)
{
	for (size_t i = 0; i < PREDICTIONS; i++) {
		rows[i] = i < 120 ? i : i < 150 ? i + 40 : i + 45;
		targets[i] = i == 0 ? 0 : i == 1 ? (uint32_t)vocab - 1 : (uint32_t)tc_rng_below(&rng, vocab);
	}
	rows[PREDICTIONS - 1] = rows[PREDICTIONS - 2];
}

static void
test_nll(const char *kind, size_t vocab, enum tc_dtype dtype, struct tc_pool *pool)
{
	static struct results r, again, alone;
	double most = 0, most_base = 0, most_kld = 0;
	int tops = 1, agree = 0, greedy = 1, hits = 0;

	make_side(&sides[0], vocab, dtype);
	make_side(&sides[1], vocab, TC_F32);
	/* Half of the rows are nearly those of the other model. */
	for (size_t i = 0; i < ROWS * WIDTH / 2; i++)
		sides[1].hidden[i] = sides[0].hidden[i] * 1.01f;
	for (size_t i = 0; i < vocab * WIDTH / 2; i++)
		sides[1].w[i] = sides[0].w[i];
	choose_predictions(vocab);
	for (size_t i = 10; i < 20; i++)
		softmax(&sides[0], rows[i], vocab, &targets[i]);
	memset(&r, 0x55, sizeof(r));
	memcpy(&again, &r, sizeof(r));
	memcpy(&alone, &r, sizeof(r));
	if (!ok(run(&r, &sides[1], pool) == 0 && run(&again, &sides[1], NULL) == 0 && run(&alone, NULL, pool) == 0,
	    "%s, vocabulary %zu, %s: runs", kind, vocab, tc_dtypes[dtype].name))
		return;
	for (size_t i = 0; i < PREDICTIONS; i++) {
		uint32_t top, base_top;
		double z = softmax(&sides[0], rows[i], vocab, &top), zb = softmax(&sides[1], rows[i], vocab, &base_top), kld = 0;

		for (size_t j = 0; j < vocab; j++) {
			double log_p = sides[1].logits[j] - zb;

			kld += exp(log_p) * (log_p - (sides[0].logits[j] - z));
		}
		most = fmax(most, fabs(r.nll[i] - (z - sides[0].logits[targets[i]])));
		most_base = fmax(most_base, fabs(r.base_nll[i] - (zb - sides[1].logits[targets[i]])));
		most_kld = fmax(most_kld, fabs(r.kld[i] - kld) / (1 + kld));
		tops &= r.same_top[i] == (top == base_top);
		agree += r.same_top[i];
		greedy &= r.greedy[i] == (top == targets[i]);
		hits += r.greedy[i];
	}
	ok(most <= 2e-5 && most_base <= 2e-5, "%s, vocabulary %zu, %s: nll is right to 2e-5 (%.2g, base %.2g)", kind, vocab,
	    tc_dtypes[dtype].name, most, most_base);
	ok(most_kld <= 1e-5, "%s, vocabulary %zu: the divergence d is right to 1e-5 (1 + d) (%.2g of that)", kind, vocab, most_kld / 1e-5);
	ok(tops && agree > 0 && agree <= PREDICTIONS, "%s, vocabulary %zu: the same most likely token %d times", kind, vocab, agree);
	ok(greedy && hits >= 10 && !memcmp(r.greedy, alone.greedy, sizeof(r.greedy)), "%s, vocabulary %zu: the target is it %d times", kind, vocab, hits);
	ok(!memcmp(&r, &again, sizeof(r)), "%s: the same at 1 and %d threads", kind, tc_pool_threads(pool));
	ok(!memcmp(r.nll, alone.nll, sizeof(r.nll)) && alone.same_top[0] == 0x55, "%s: the same without a base, which then is left alone", kind);
}

/* A model against itself; ties go to the lower id. */
static void
test_nll_itself(const char *kind)
{
	static struct results r;
	double most = 0;
	int same = 1, ties = 1;

	make_side(&sides[0], 600, TC_F32);
	choose_predictions(600);
	if (!ok(run(&r, &sides[0], NULL) == 0, "%s: a model against itself", kind))
		return;
	for (size_t i = 0; i < PREDICTIONS; i++) {
		most = fmax(most, fabs(r.kld[i]));
		same &= r.same_top[i] == 1 && r.nll[i] == r.base_nll[i];
	}
	ok(most == 0 && same, "%s: no divergence, and every top the same", kind);

	/* Equal rows of the head everywhere: all tokens tie, in model and base. */
	sides[1] = sides[0];
	sides[1].head.part[0].data = sides[1].w;
	for (size_t j = 0; j < 600; j++)
		memcpy(sides[1].w + j * WIDTH, sides[0].w, WIDTH * sizeof(float));
	memcpy(sides[0].w, sides[1].w, sizeof(sides[0].w));
	for (size_t i = 0; i < WIDTH; i++)   /* the model prefers token 0 or shuns it */
		sides[0].w[i] *= 1.5f;
	if (!ok(run(&r, &sides[1], NULL) == 0, "%s: a head of equal rows", kind))
		return;
	for (size_t i = 0; i < PREDICTIONS; i++) {
		double z = 0;

		for (size_t j = 0; j < WIDTH; j++)
			z += (double)sides[0].hidden[rows[i] * WIDTH + j] * (double)sides[1].w[j];
		ties &= r.same_top[i] == (z > 0) && fabs(r.base_nll[i] - log(600)) < 1e-5;
	}
	ok(ties, "%s: of equal logits the lowest id is the top", kind);
}

static void
test_nll_refusals(void)
{
	static struct results r;

	make_side(&sides[0], 20, TC_F32);
	make_side(&sides[1], 21, TC_F32);
	choose_predictions(20);
	ok(run(&r, &sides[1], NULL) == -1 && err.code == TC_DATA && strstr(err.msg, "20") && strstr(err.msg, "21"), "%s", err.msg);
}

/* ---- overlap ---- */

static int
overlaps(const uint32_t *calib, size_t ncalib, const uint32_t *eval, size_t neval, double want)
{
	double share = -1;

	return tc_overlap(calib, ncalib, eval, neval, &share, &err) == 0 && share == want;
}

static void
test_overlap(void)
{
	uint32_t a[100], b[100];

	for (uint32_t i = 0; i < 100; i++) {
		a[i] = i;
		b[i] = i + 1000;
	}
	ok(overlaps(a, 100, a, 100, 1), "a text overlaps with itself");
	ok(overlaps(a, 100, b, 100, 0), "others do not");
	ok(overlaps(a, 12, a, 100, 0) && overlaps(a, 100, a, 12, 0) && overlaps(a, 13, a, 13, 1), "13 tokens are needed");
	memcpy(b + 50, a + 20, 13 * sizeof(*b));
	ok(overlaps(a, 100, b, 100, 1.0 / 88), "one run of 13 of 88");
	memcpy(b + 50, a + 20, 20 * sizeof(*b));
	ok(overlaps(a, 100, b, 100, 8.0 / 88), "a run of 20 is eight");
	b[56] = 7777;
	ok(overlaps(a, 100, b, 100, 1.0 / 88), "a change inside leaves one");
	memset(a, 0, sizeof(a));
	ok(overlaps(a, 100, a, 30, 1), "the same token over and over");
}

int
main(void)
{
	const struct tc_kernels *list[8];
	size_t n = tc_kernels_list(list, 8);
	struct tc_pool *pool;

	tc_rng_seed(&rng, 6);
	test_windows();
	test_lines();
	test_predictions();
	test_mean();
	test_bootstrap();
	test_overlap();
	if (!ok(tc_pool_open(&pool, 3, &err) == 0, "three threads"))
		return done_testing();
	for (size_t i = 0; i < n; i++) {
		if (!ok(tc_kernels_select(list[i]->name, &err) == 0, "%s", list[i]->name))
			continue;
		test_nll(list[i]->name, 7, TC_F32, pool);
		test_nll(list[i]->name, 512, TC_BF16, pool);
		test_nll(list[i]->name, 513, TC_F16, pool);
		test_nll(list[i]->name, VOCAB_MOST, TC_F32, pool);
		test_nll_itself(list[i]->name);
	}
	test_nll_refusals();
	tc_pool_close(pool);
	return done_testing();
}
