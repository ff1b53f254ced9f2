/* Speculative decoding: greedy, the model's own text whatever guesses; sampled,
 * the model's own distribution, by chi-squared. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "kernel/kernel.h"
#include "model/open.h"
#include "model/speculate.h"
#include "tap.h"

#define PROMPT 24
#define TEXT 90        /* a text is so long, with its prompt */
#define K_MOST 8

static struct tc_err err;

static bool
load(struct tc_model *m, struct tc_source **s, const char *name)
{
	struct tc_record r;
	int got = -1;

	if (tc_model_open(s, fixture(name, ""), &err) < 0 || tc_model_begin(m, &(*s)->header, NULL, &err) < 0)
		return false;
	while ((got = tc_source_next(*s, &r, &err)) > 0)
		if ((r.kind == TC_KIND_TENSOR || r.kind == TC_KIND_REF) && tc_model_take(m, &r, (*s)->mapped, &err) < 0)
			return false;
	return got == 0 && tc_model_finish(m, &err) == 0;
}

/* A model that writes. */
struct writer {
	const struct tc_model *m;
	struct tc_decode decode;
	struct tc_sequence s;
	struct tc_sampler sampler;
	double *p;
};

static bool
writer_open(struct writer *w, const struct tc_model *m, const struct tc_sampling *o, uint64_t seed)
{
	*w = (struct writer){ .m = m, .p = calloc(m->config.vocab, sizeof(double)) };
	return tc_sequence_open(&w->s, m, TEXT, &err) == 0 && tc_decode_open(&w->decode, m, TEXT, TEXT, &err) == 0 &&
	    tc_sampler_open(&w->sampler, o, seed, m->config.vocab, &err) == 0;
}

static void
writer_close(struct writer *w)
{
	if (w->decode.m)
		tc_decode_close(&w->decode);
	tc_sequence_close(&w->s);
	tc_sampler_close(&w->sampler);
	free(w->p);
}

static struct tc_speculation
speculation(struct writer *w, struct tc_draft *const *draft, size_t n, size_t k)
{
	return (struct tc_speculation){ .decode = &w->decode, .s = &w->s, .sampler = &w->sampler, .draft = draft, .ndrafts = n,
	    .k = k, .p = w->p };
}

static bool
write_text(struct tc_speculation *p, uint32_t *ids, size_t from)
{
	size_t n = from;

	if (tc_speculate_begin(p, ids, &n, &err) < 0)
		return false;
	while (n < TEXT)
		if (tc_speculate(p, ids, &n, TEXT - n, &err) < 0)
			return false;
	return n == TEXT;
}

/* Prompts that the fixtures' models may well loop on: a few ids over and over,
 * or none twice. */
static void
make_prompt(uint32_t *ids, size_t which, size_t vocab)
{
	for (size_t i = 0; i < PROMPT; i++)
		ids[i] = (uint32_t)((which * 97 + (which % 2 ? i : i % (2 + which)) * 13) % vocab);
}

enum { DRAFTS_MOST = 2, PROMPTS = 6 };

/* Every K, fixed and adaptive, with and without a penalty. */
static void
check_greedy(const char *what, const struct tc_model *m, const struct tc_model *guesser, bool looks_up, bool sure)
{
	for (int penalized = 0; penalized < 2; penalized++) {
		struct tc_sampling o = { .top_p = 1, .repeat_penalty = penalized ? 1.3 : 1 };
		struct tc_draft by_model = {0}, lookup, *draft[DRAFTS_MOST];
		struct writer w;
		bool good = writer_open(&w, m, &o, 0), all = true;
		size_t n = 0;

		tc_draft_lookup(&lookup);
		if (looks_up)
			draft[n++] = &lookup;
		if (guesser) {
			good = good && tc_draft_open(&by_model, guesser, m->config.vocab, &o, TEXT, &err) == 0;
			draft[n++] = &by_model;
		}
		for (size_t which = 0; good && which < PROMPTS; which++) {
			struct tc_speculation alone = speculation(&w, NULL, 0, 0);
			uint32_t want[TEXT];

			make_prompt(want, which, m->config.vocab);
			good = write_text(&alone, want, PROMPT);
			for (size_t k = 1; good && k <= 2 * K_MOST; k++) {
				struct tc_speculation p = speculation(&w, draft, n, (k + 1) / 2);
				uint32_t ids[TEXT];

				p.adaptive = k % 2;
				by_model.least = k % 4 == 3 ? 0.01 : 0;
				make_prompt(ids, which, m->config.vocab);
				good = write_text(&p, ids, PROMPT) && memcmp(ids, want, sizeof(want)) == 0 &&
				    p.passes + p.accepted == TEXT - PROMPT - 1;
				all = all && p.accepted == p.proposed;
			}
		}
		ok(good, "%s%s: the text is the model's own, at every K", what, penalized ? ", with a penalty" : "");
		if (sure)
			ok(all, "%s%s: every guess is taken", what, penalized ? ", with a penalty" : "");
		tc_draft_close(&by_model);
		writer_close(&w);
	}
}

/* ---- distributions ---- */

/* How far counts are from what p says: a standard normal deviate (Wilson and
 * Hilferty, 1931); bins that expect less than 5 are one. */
static double
deviate(size_t n, const double *p, const double *count, double trials)
{
	double chi = 0, rest = 0, expected = 0, freedom = -1, d;

	for (size_t i = 0; i < n; i++) {
		if (p[i] * trials < 5) {
			rest += count[i];
			expected += p[i] * trials;
			continue;
		}
		chi += (count[i] - p[i] * trials) * (count[i] - p[i] * trials) / (p[i] * trials);
		freedom++;
	}
	if (expected > 0) {
		chi += (rest - expected) * (rest - expected) / expected;
		freedom++;
	}
	d = 2 / (9 * freedom);
	return (cbrt(chi / freedom) - (1 - d)) / sqrt(d);
}

#define TRIALS 30000
#define DEVIATE_MOST 4.0

/* p[vocab] after ids[0..n), by the model alone. */
static bool
distribution(struct writer *w, uint32_t *ids, size_t n, double *p)
{
	struct tc_append a = { .s = &w->s, .ids = ids, .count = n };

	tc_sequence_crop(&w->s, 0);
	if (tc_decode_run(&w->decode, &a, 1, &err) < 0)
		return false;
	tc_sample_probabilities(&w->sampler, a.logits, ids, n, p);
	return true;
}

/* The first two tokens after a text, speculated many times. */
static void
check_distribution(const char *what, const struct tc_model *m, const struct tc_sampling *o, const struct tc_model *guesser,
    const struct tc_sampling *by)
{
	size_t vocab = m->config.vocab, n = PROMPT, top = 0;
	double *p = calloc(4 * vocab, sizeof(*p)), *second = p + vocab, *count = second + vocab, *after = count + vocab, trials = 0;
	struct tc_draft draft = {0}, *const drafts[] = { &draft };
	uint32_t ids[TEXT];
	struct writer w;
	bool good = writer_open(&w, m, o, 1);
	struct tc_speculation s = speculation(&w, drafts, 1, 2);

	make_prompt(ids, 2, vocab);
	good = good && distribution(&w, ids, n, p);
	for (size_t i = 0; i < vocab; i++)
		top = p[i] > p[top] ? i : top;
	ids[n] = (uint32_t)top;
	good = good && distribution(&w, ids, n + 1, second);
	if (guesser)
		good = good && tc_draft_open(&draft, guesser, vocab, by, TEXT, &err) == 0;
	else
		tc_draft_lookup(&draft);
	for (int i = 0; good && i < TRIALS; i++) {
		size_t end = n;

		tc_sequence_crop(&w.s, n - 1);
		while (good && end < n + 2)
			good = tc_speculate(&s, ids, &end, n + 3 - end, &err) == 0;
		count[ids[n]]++;
		if (ids[n] == top) {
			after[ids[n + 1]]++;
			trials++;
		}
	}
	ok(good && s.proposed > 0 && s.accepted > 0 && s.accepted < s.proposed, "%s: some guesses are taken and some are not (%zu of %zu)",
	    what, s.accepted, s.proposed);
	ok(good && deviate(vocab, p, count, TRIALS) < DEVIATE_MOST, "%s: the first token has the model's distribution (%.2f)", what,
	    deviate(vocab, p, count, TRIALS));
	ok(good && trials > 1000 && deviate(vocab, second, after, trials) < DEVIATE_MOST,
	    "%s: and so has the second after %zu (%.2f)", what, top, deviate(vocab, second, after, trials));
	if (guesser) {
		/* The test sees the difference that rejection makes. */
		struct writer other;

		good = writer_open(&other, guesser, by, 3) && distribution(&other, ids, n, second);
		memset(count, 0, vocab * sizeof(*count));
		for (int i = 0; good && i < TRIALS; i++)
			count[tc_sample_from(&other.sampler, second)]++;
		ok(good && deviate(vocab, p, count, TRIALS) > 2 * DEVIATE_MOST, "%s: the draft's own is another (%.2f)", what,
		    deviate(vocab, p, count, TRIALS));
		writer_close(&other);
	}
	tc_draft_close(&draft);
	writer_close(&w);
	free(p);
}

/* What tc_sample() draws is what tc_sample_probabilities() says. */
static void
check_sampler(const char *what, const struct tc_sampling *o, size_t most)
{
	enum { VOCAB = 50 };
	float logits[VOCAB], z[VOCAB];
	double p[VOCAB], count[VOCAB] = {0}, sum = 0;
	const uint32_t seen[] = { 3, 7, 3 };
	struct tc_sampler s;
	size_t kept = 0;

	if (tc_sampler_open(&s, o, 5, VOCAB, &err) < 0)
		return;
	for (size_t i = 0; i < VOCAB; i++)
		logits[i] = 3 * sinf((float)i * 1.7f);
	memcpy(z, logits, sizeof(z));
	tc_sample_probabilities(&s, z, seen, 3, p);
	for (int i = 0; i < TRIALS; i++) {
		memcpy(z, logits, sizeof(z));
		count[tc_sample(&s, z, seen, 3)]++;
	}
	for (size_t i = 0; i < VOCAB; i++) {
		sum += p[i];
		kept += p[i] > 0;
	}
	ok(fabs(sum - 1) < 1e-12 && (most ? kept == most : kept < VOCAB), "%s: probabilities of %zu tokens", what, kept);
	ok(kept == 1 || deviate(VOCAB, p, count, TRIALS) < DEVIATE_MOST, "%s: draws by them (%.2f)", what,
	    kept == 1 ? 0 : deviate(VOCAB, p, count, TRIALS));
	tc_sampler_close(&s);
}

int
main(void)
{
	struct tc_source *source[3] = { NULL, NULL, NULL };
	struct tc_model qwen = {0}, llama = {0}, again = {0};
	const struct tc_sampling cool = { .temperature = 0.5, .top_p = 1, .repeat_penalty = 1 };
	const struct tc_sampling warm = { .temperature = 1, .top_p = 1, .repeat_penalty = 1 };
	const struct tc_sampling hot = { .temperature = 3, .top_p = 1, .repeat_penalty = 1 };
	const struct tc_sampling cut = { .temperature = 2, .top_k = 40, .top_p = 0.9, .repeat_penalty = 1.1 };

	if (tc_kernels_select(NULL, &err) < 0 || !load(&qwen, &source[0], "tiny/qwen2") || !load(&llama, &source[1], "tiny/llama") ||
	    !load(&again, &source[2], "tiny/qwen2")) {
		ok(false, "the fixtures: %s", err.msg);
		return done_testing();
	}
	check_greedy("another model", &qwen, &llama, false, false);
	check_greedy("the model itself", &qwen, &again, false, true);
	check_greedy("lookup", &qwen, NULL, true, false);
	check_greedy("lookup, then another model", &llama, &qwen, true, false);
	check_distribution("another model", &qwen, &hot, &llama, &hot);
	check_distribution("the model, warmer", &qwen, &cool, &again, &warm);
	check_distribution("the model, top-k, top-p and penalty", &qwen, &cut, &again, &warm);
	check_distribution("lookup", &qwen, &hot, NULL, NULL);
	check_sampler("everything", &(struct tc_sampling){ 1, 0, 1, 1 }, 50);
	check_sampler("top-k", &(struct tc_sampling){ 1.5, 7, 1, 1 }, 7);
	check_sampler("top-p", &(struct tc_sampling){ 0.8, 0, 0.7, 1 }, 0);
	check_sampler("top-k and top-p", &(struct tc_sampling){ 2, 20, 0.5, 1.5 }, 0);
	check_sampler("top-k 1", &(struct tc_sampling){ 2, 1, 0.5, 1 }, 1);
	check_sampler("greedy", &(struct tc_sampling){ 0, 0, 1, 1.2 }, 1);
	tc_model_free(&qwen);
	tc_model_free(&llama);
	tc_model_free(&again);
	for (int i = 0; i < 3; i++)
		tc_source_close(source[i]);
	return done_testing();
}
