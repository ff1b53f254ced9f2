#include "model/draft.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernel/kernel.h"

/* The longest and the shortest ending that is looked for. */
enum { ENDING_MAX = 4, ENDING_MIN = 2 };

int
tc_draft_open(struct tc_draft *d, const struct tc_model *model, size_t vocab, const struct tc_sampling *o, size_t capacity,
    struct tc_err *err)
{
	*d = (struct tc_draft){ .model = model, .vocab = vocab };
	d->run = tc_alloc(capacity, sizeof(*d->run), err);
	d->work = tc_alloc(vocab, sizeof(*d->work), err);
	if (!d->run || !d->work || tc_sequence_open(&d->s, model, capacity, err) < 0 ||
	    tc_decode_open(&d->decode, model, capacity, capacity, err) < 0 ||
	    tc_sampler_open(&d->sampler, o, 0, tc_min(vocab, model->config.vocab), err) < 0 ||
	    (o->temperature > 0 && !(d->p = tc_zalloc(TC_GUESSES_MAX, vocab * sizeof(*d->p), err)))) {
		tc_draft_close(d);
		return -1;
	}
	return 0;
}

void
tc_draft_lookup(struct tc_draft *d)
{
	*d = (struct tc_draft){0};
}

void
tc_draft_close(struct tc_draft *d)
{
	if (d->decode.m)
		tc_decode_close(&d->decode);
	tc_sequence_close(&d->s);
	tc_sampler_close(&d->sampler);
	free(d->run);
	free(d->p);
	free(d->work);
	*d = (struct tc_draft){0};
}

void
tc_draft_begin(struct tc_draft *d, size_t prompt, uint64_t seed)
{
	tc_rng_seed(&d->sampler.rng, seed);
	d->s.length = prompt; /* not how much may come */
	if (d->model)
		tc_sequence_crop(&d->s, 0);
}

/* Where in ids[0..n) the text goes on after an earlier place that ends like it:
 * of the longest such endings the last; n: nowhere. */
static size_t
find_ending(const uint32_t *ids, size_t n)
{
	size_t best = n, most = ENDING_MIN - 1;

	for (size_t end = n - 1; end > most && most < ENDING_MAX; end--) {
		size_t same = 0;

		while (same < tc_min(end, ENDING_MAX) && ids[end - 1 - same] == ids[n - 1 - same])
			same++;
		if (same > most) {
			most = same;
			best = end;
		}
	}
	return best;
}

/* What is guessed may be taken from the guesses: a loop goes on. */
static void
look_up(uint32_t *ids, size_t n, size_t k, struct tc_guesses *g)
{
	size_t from = find_ending(ids, n);

	for (; from < n && g->n < k; g->n++)
		g->id[g->n] = from + g->n < n ? ids[from + g->n] : g->id[from + g->n - n];
}

/* The probability of the most likely token. */
static double
top_probability(struct tc_draft *d, const float *logits)
{
	size_t vocab = d->sampler.vocab;
	float top = logits[tc_argmax(logits, vocab)];
	double sum[8] = {0};

	for (size_t i = 0; i < vocab; i++)
		d->work[i] = logits[i] - top;
	tc_kernels()->exp(vocab, d->work, d->work);
	for (size_t i = 0; i < vocab; i++)
		sum[i % 8] += (double)d->work[i];
	return 1 / (((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7])));
}

/* Runs what the sequence does not have of ids[0..n). */
static int
catch_up(struct tc_draft *d, const uint32_t *ids, size_t n, struct tc_append *a, struct tc_err *err)
{
	size_t same = 0;

	/* The last is run even if it has been: its logits are gone. */
	while (same < tc_min(d->s.n, n - 1) && d->run[same] == ids[same])
		same++;
	tc_sequence_crop(&d->s, same);
	memcpy(d->run + same, ids + same, (n - same) * sizeof(*ids));
	*a = (struct tc_append){ .s = &d->s, .ids = d->run + same, .count = n - same };
	return tc_decode_run(&d->decode, a, 1, err);
}

static int
guess(struct tc_draft *d, uint32_t *ids, size_t n, size_t k, struct tc_guesses *g, struct tc_err *err)
{
	struct tc_append a;

	for (size_t i = 0; i < n; i++)
		if (ids[i] >= d->model->config.vocab) /* no token of the text, and none that it knows */
			return 0;
	for (; g->n < k; g->n++) {
		if (catch_up(d, ids, n + g->n, &a, err) < 0)
			return -1;
		if (d->least > 0 && top_probability(d, a.logits) < d->least)
			break;
		if (d->p) {
			tc_sample_probabilities(&d->sampler, a.logits, ids, n + g->n, d->p + g->n * d->vocab);
			g->id[g->n] = tc_sample_from(&d->sampler, d->p + g->n * d->vocab);
		} else {
			g->id[g->n] = tc_sample(&d->sampler, a.logits, ids, n + g->n);
		}
		ids[n + g->n] = g->id[g->n];
	}
	g->p = d->p;
	return 0;
}

int
tc_draft_guess(struct tc_draft *d, uint32_t *ids, size_t n, size_t k, struct tc_guesses *g, struct tc_err *err)
{
	assert(n > 0 && k <= TC_GUESSES_MAX);
	*g = (struct tc_guesses){0};
	if (d->model)
		return guess(d, ids, n, k, g, err);
	look_up(ids, n, k, g);
	return 0;
}
