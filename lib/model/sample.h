/* sample.h - from logits to the next token. */
#ifndef TC_MODEL_SAMPLE_H
#define TC_MODEL_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/rng.h"

struct tc_sampling {
	double temperature;     /* 0: greedy */
	size_t top_k;           /* 0: all */
	double top_p;           /* 1: all */
	double repeat_penalty;  /* 1: none */
};

struct tc_sampler {
	struct tc_sampling o;
	struct tc_rng rng;
	size_t vocab;
	struct tc_choice *choice;    /* [vocab], scratch */
};

int tc_sampler_open(struct tc_sampler *s, const struct tc_sampling *o, uint64_t seed, size_t vocab, struct tc_err *err) TC_MUST_CHECK;
void tc_sampler_close(struct tc_sampler *s);

/* The next token (ties: the lowest id).  The order is that of transformers:
 * repetition penalty over the ids seen (Keskar et al., 2019: positive logits
 * divided, negative ones multiplied, each id once), temperature, top-k, top-p
 * (the smallest set whose probability reaches p).  logits are changed. */
uint32_t tc_sample(struct tc_sampler *s, float *logits, const uint32_t *seen, size_t nseen);

/* The probabilities p[vocab] with which it would return each; greedy: 1 for one
 * of them. */
void tc_sample_probabilities(struct tc_sampler *s, float *logits, const uint32_t *seen, size_t nseen, double *p);
/* Draws by weights p[vocab], not all 0. */
uint32_t tc_sample_from(struct tc_sampler *s, const double *p);

/* The index of the largest of n > 0 numbers, none NaN, the first of equals. */
uint32_t tc_argmax(const float *z, size_t n);

#endif
