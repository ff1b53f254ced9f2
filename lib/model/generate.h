/* generate.h - many texts at once.  Every pass of the model takes a token of
 * each text in flight; where one ends the next begins, its prompt in the same
 * pass as the others' tokens.  A text does not depend on what runs beside it
 * (unless int8 has one scale for rows that go together, see decode.h). */
#ifndef TC_MODEL_GENERATE_H
#define TC_MODEL_GENERATE_H

#include "model/decode.h"
#include "model/sample.h"

struct tc_generated {
	/* What is wanted */
	const uint32_t *prompt;
	size_t nprompt;        /* > 0 */
	size_t most;           /* tokens at most, > 0 */
	uint64_t seed;
	/* What came of it */
	uint32_t *ids;         /* the prompt, then what was generated; free(3) */
	size_t n;              /* of ids */
	double began, ended;   /* clock.h's seconds */
};

struct tc_generate {
	const struct tc_model *model;
	struct tc_sampling sampling;
	size_t batch;          /* texts in flight at most, > 0 */
	bool cache;            /* false: all of a text goes through the model for every token
	                        * (slow; the same tokens) */
	/* Called when text i has a token more, the last of its ids; in one pass in
	 * the order in which they began.  1: go on, 0: that was its last, -1: error.
	 * most ends it too. */
	int (*more)(void *ctx, size_t i);
	void *ctx;
};

/* Texts begin in order and end as they do.  TC_DATA: a prompt that leaves no
 * position for a token, before anything is done. */
int tc_generate(const struct tc_generate *g, struct tc_generated *text, size_t n, struct tc_err *err) TC_MUST_CHECK;

/* Of the tokens ids[nprompt .. n-1], how many the model would take greedily,
 * under the repetition penalty, each after those that are before it.  n is more
 * than nprompt > 0 and at most the model's positions. */
int tc_generate_follow(const struct tc_model *m, double repeat_penalty, const uint32_t *ids, size_t nprompt, size_t n,
    size_t *same, struct tc_err *err) TC_MUST_CHECK;

#endif
