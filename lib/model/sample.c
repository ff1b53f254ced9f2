#include "model/sample.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "base/mem.h"
#include "kernel/kernel.h"

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

uint32_t
tc_argmax(const float *z, size_t n)
{
	float low, high;
	size_t i = 0;

	tc_kernels()->range(n, z, &low, &high);
	while (z[i] != high)
		i++;
	return (uint32_t)i;
}

static bool
before(const struct tc_choice *x, const struct tc_choice *y)
{
	return x->logit > y->logit || (x->logit == y->logit && x->id < y->id);
}

/* c[i] is put where it belongs in a heap of n, the most likely on top. */
static void
sink(struct tc_choice *c, size_t i, size_t n)
{
	struct tc_choice x = c[i];

	for (size_t k; (k = 2 * i + 1) < n; i = k) {
		if (k + 1 < n && before(&c[k + 1], &c[k]))
			k++;
		if (!before(&c[k], &x))
			break;
		c[i] = c[k];
	}
	c[i] = x;
}

/* Moves the most likely ones behind the others, the first of them last, until
 * they are k or have `mass` together; returns the first that was not. */
static size_t
take_likely(struct tc_choice *c, size_t n, size_t k, double mass)
{
	size_t left = n;

	for (size_t i = n / 2; i > 0; i--)
		sink(c, i - 1, n);
	do {
		struct tc_choice top = c[0];

		c[0] = c[--left];
		sink(c, 0, left);
		c[left] = top;
		mass -= top.p;
	} while (left > 0 && n - left < k && mass > 0);
	return left;
}

/* The choices that may be drawn: *n from the one that is returned on; their p
 * sum to *mass. */
static const struct tc_choice *
weigh(struct tc_sampler *s, float *logits, const uint32_t *seen, size_t nseen, size_t *n, double *mass)
{
	struct tc_choice *c = s->choice;
	size_t first = 0, k = s->o.top_k > 0 ? tc_min(s->o.top_k, s->vocab) : s->vocab;
	float top;

	if (s->o.repeat_penalty != 1)
		penalize(s, logits, seen, nseen);
	top = logits[tc_argmax(logits, s->vocab)];
	*mass = 0;
	for (size_t i = 0; i < s->vocab; i++) {
		c[i] = (struct tc_choice){ .logit = logits[i], .id = (uint32_t)i };
		*mass += c[i].p = tc_exp(((double)logits[i] - (double)top) / s->o.temperature);
	}
	/* What top-p counts is what top-k has left. */
	if (k < s->vocab) {
		first = take_likely(c, s->vocab, k, HUGE_VAL);
		*mass = 0;
		for (size_t i = s->vocab; i > first; i--)
			*mass += c[i - 1].p;
	}
	if (s->o.top_p < 1)
		first += take_likely(c + first, s->vocab - first, k, s->o.top_p * *mass);
	*mass = 0;
	for (size_t i = first; i < s->vocab; i++)
		*mass += c[i].p;
	*n = s->vocab - first;
	return c + first;
}

uint32_t
tc_sample(struct tc_sampler *s, float *logits, const uint32_t *seen, size_t nseen)
{
	const struct tc_choice *c;
	double mass, at;
	size_t n;

	if (s->o.temperature == 0) {
		if (s->o.repeat_penalty != 1)
			penalize(s, logits, seen, nseen);
		return tc_argmax(logits, s->vocab);
	}
	c = weigh(s, logits, seen, nseen, &n, &mass);
	at = tc_rng_unit(&s->rng) * mass;
	for (size_t i = 0; i < n; i++) {
		at -= c[i].p;
		if (at < 0)
			return c[i].id;
	}
	return c[n - 1].id;
}

void
tc_sample_probabilities(struct tc_sampler *s, float *logits, const uint32_t *seen, size_t nseen, double *p)
{
	const struct tc_choice *c;
	double mass;
	size_t n;

	memset(p, 0, s->vocab * sizeof(*p));
	if (s->o.temperature == 0) {
		p[tc_sample(s, logits, seen, nseen)] = 1;
		return;
	}
	c = weigh(s, logits, seen, nseen, &n, &mass);
	for (size_t i = 0; i < n; i++)
		p[c[i].id] = c[i].p / mass;
}

uint32_t
tc_sample_from(struct tc_sampler *s, const double *p)
{
	double sum = 0, at;
	size_t last = 0;

	for (size_t i = 0; i < s->vocab; i++)
		sum += p[i];
	at = tc_rng_unit(&s->rng) * sum;
	for (size_t i = 0; i < s->vocab; i++) {
		if (p[i] <= 0)
			continue;
		last = i;
		at -= p[i];
		if (at < 0)
			break;
	}
	return (uint32_t)last;
}
