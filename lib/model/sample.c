#include "model/sample.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/math.h"
#include "base/mem.h"

struct tc_choice {
	float logit;
	uint32_t id;
	double p;
	bool penalized;   /* indexed by id while penalties are applied */
};

int
tc_sampler_open(struct tc_sampler *s, const struct tc_sampling *o, uint64_t seed, size_t vocab, struct tc_err *err)
{
	*s = (struct tc_sampler){ .o = *o, .vocab = vocab };
	tc_rng_seed(&s->rng, seed);
	s->choice = tc_alloc(vocab, sizeof(*s->choice), err);
	return s->choice ? 0 : -1;
}

void
tc_sampler_close(struct tc_sampler *s)
{
	free(s->choice);
	s->choice = NULL;
}

static void
penalize(struct tc_sampler *s, float *logits, const uint32_t *seen, size_t nseen)
{
	float penalty = (float)s->o.repeat_penalty;

	for (size_t i = 0; i < s->vocab; i++)
		s->choice[i].penalized = false;
	for (size_t i = 0; i < nseen; i++) {
		float *z = &logits[seen[i]];

		if (s->choice[seen[i]].penalized)
			continue;
		s->choice[seen[i]].penalized = true;
		*z = *z > 0 ? *z / penalty : *z * penalty;
	}
}

static uint32_t
argmax(const float *z, size_t n)
{
	size_t best = 0;

	for (size_t i = 1; i < n; i++)
		if (z[i] > z[best])
			best = i;
	return (uint32_t)best;
}

static int
descending(const void *a, const void *b)
{
	const struct tc_choice *x = a, *y = b;

	if (x->logit != y->logit)
		return x->logit < y->logit ? 1 : -1;
	return (x->id > y->id) - (x->id < y->id);
}

/* Probabilities of the first n choices (sorted), relative to the first. */
static double
weigh(struct tc_choice *c, size_t n, double temperature)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += c[i].p = tc_exp(((double)c[i].logit - (double)c[0].logit) / temperature);
	return sum;
}

uint32_t
tc_sample(struct tc_sampler *s, float *logits, const uint32_t *seen, size_t nseen)
{
	struct tc_choice *c = s->choice;
	size_t n = s->vocab, kept = 0;
	double sum, mass = 0, at;

	if (s->o.repeat_penalty != 1)
		penalize(s, logits, seen, nseen);
	if (s->o.temperature == 0)
		return argmax(logits, s->vocab);
	for (size_t i = 0; i < s->vocab; i++)
		c[i] = (struct tc_choice){ .logit = logits[i], .id = (uint32_t)i };
	qsort(c, n, sizeof(*c), descending);
	if (s->o.top_k > 0)
		n = tc_min(n, s->o.top_k);
	sum = weigh(c, n, s->o.temperature);
	while (kept < n && (kept == 0 || mass < s->o.top_p * sum))
		mass += c[kept++].p;
	at = tc_rng_unit(&s->rng) * mass;
	for (size_t i = 0; i < kept; i++) {
		at -= c[i].p;
		if (at < 0)
			return c[i].id;
	}
	return c[kept - 1].id;
}
