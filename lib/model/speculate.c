#include "model/speculate.h"

#include <assert.h>

#include "base/mem.h"

enum { K_MIN = 1 };

int
tc_speculate_begin(struct tc_speculation *p, uint32_t *ids, size_t *n, struct tc_err *err)
{
	struct tc_append a = { .s = p->s, .ids = ids, .count = *n };

	tc_sequence_crop(p->s, 0);
	p->s->length = *n; /* not how much may come */
	if (tc_decode_run(p->decode, &a, 1, err) < 0)
		return -1;
	ids[*n] = tc_sample(p->sampler, a.logits, ids, *n);
	++*n;
	return 0;
}

/* What the draft drew id from takes nothing from the model's distribution: true
 * when id stays, else another in its place. */
static bool
accept(struct tc_speculation *p, const double *q, uint32_t *id)
{
	size_t vocab = p->sampler->vocab;
	double sure = q ? q[*id] : 1, left = 0;

	if (tc_rng_unit(&p->sampler->rng) * sure < p->p[*id])
		return true;
	for (size_t i = 0; i < vocab; i++) {
		double guessed = q ? q[i] : i == *id;

		p->p[i] = p->p[i] > guessed ? p->p[i] - guessed : 0;
		left += p->p[i];
	}
	if (left == 0) /* they differ by rounding */
		return true;
	*id = tc_sample_from(p->sampler, p->p);
	return false;
}

/* The next token by the model's logits, after ids[0..n): guessed is what the
 * draft says, or NULL.  Whether that was it. */
static bool
decide(struct tc_speculation *p, float *logits, uint32_t *ids, size_t n, const uint32_t *guessed, const double *q)
{
	if (p->sampler->o.temperature == 0) {
		ids[n] = tc_sample(p->sampler, logits, ids, n);
		return guessed && ids[n] == *guessed;
	}
	tc_sample_probabilities(p->sampler, logits, ids, n, p->p);
	if (guessed) {
		ids[n] = *guessed;
		return accept(p, q, &ids[n]);
	}
	ids[n] = tc_sample_from(p->sampler, p->p);
	return false;
}

static int
gather(struct tc_speculation *p, uint32_t *ids, size_t n, size_t k, struct tc_guesses *g, struct tc_err *err)
{
	*g = (struct tc_guesses){0};
	for (size_t i = 0; i < p->ndrafts && g->n == 0 && k > 0; i++)
		if (tc_draft_guess(p->draft[i], ids, n, k, g, err) < 0)
			return tc_err_at(err, "draft");
	return 0;
}

static void
adapt(struct tc_speculation *p, size_t asked, size_t guessed, size_t kept)
{
	if (kept == asked && asked == p->k)
		p->k = tc_min(p->k + 2, TC_GUESSES_MAX);
	else if (kept < guessed && p->k > K_MIN)
		p->k--;
}

int
tc_speculate(struct tc_speculation *p, uint32_t *ids, size_t *n, size_t most, struct tc_err *err)
{
	size_t vocab = p->sampler->vocab, kept = 0, k = tc_min(p->k, most - 1);
	struct tc_guesses g;
	struct tc_append a;

	assert(most > 0 && p->s->n == *n - 1);
	if (gather(p, ids, *n, k, &g, err) < 0)
		return -1;
	for (size_t i = 0; i < g.n; i++)
		ids[*n + i] = g.id[i];
	a = (struct tc_append){ .s = p->s, .ids = ids + *n - 1, .count = g.n + 1, .all = true };
	if (tc_decode_run(p->decode, &a, 1, err) < 0)
		return -1;
	while (decide(p, a.logits + kept * vocab, ids, *n + kept, kept < g.n ? &g.id[kept] : NULL,
	    g.p ? g.p + kept * vocab : NULL))
		kept++;
	p->passes++;
	p->proposed += g.n;
	p->accepted += kept;
	if (p->adaptive && g.n > 0)
		adapt(p, k, g.n, kept);
	*n += kept + 1;
	tc_sequence_crop(p->s, *n - 1);
	return 0;
}
