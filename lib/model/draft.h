/* draft.h - guesses of what a text goes on with, cheaper than the model whose
 * text it is. */
#ifndef TC_MODEL_DRAFT_H
#define TC_MODEL_DRAFT_H

#include "model/decode.h"
#include "model/sample.h"

#define TC_GUESSES_MAX 64

struct tc_guesses {
	uint32_t id[TC_GUESSES_MAX];
	size_t n;
	const double *p;   /* [n][vocab]: what each was drawn from; NULL: each is certain */
};

/* A smaller model, or the text itself. */
struct tc_draft {
	const struct tc_model *model;   /* NULL: looks the text up */
	/* Of a model: guesses end before one less likely than this.  0: never. */
	double least;
	/* its own: */
	struct tc_decode decode;
	struct tc_sequence s;
	struct tc_sampler sampler;
	uint32_t *run;      /* [capacity]: the ids that s has */
	size_t vocab;       /* the other's; the sampler has what both have */
	double *p;          /* [TC_GUESSES_MAX][vocab], when sampling */
	float *work;        /* [vocab] */
};

/* A draft by a model, for texts of up to `capacity` tokens of a vocabulary of
 * `vocab`: that of the model, but for ids beyond the tokens that there are.  It draws
 * as `o` says. */
int tc_draft_open(struct tc_draft *d, const struct tc_model *model, size_t vocab, const struct tc_sampling *o, size_t capacity, struct tc_err *err) TC_MUST_CHECK;
/* A draft by what followed the text's last tokens earlier in it: prompt lookup
 * (Saxena, 2023).  It needs no closing. */
void tc_draft_lookup(struct tc_draft *d);
void tc_draft_close(struct tc_draft *d);
/* Begins another text, that of a prompt of so many tokens, drawing from this seed on. */
void tc_draft_begin(struct tc_draft *d, size_t prompt, uint64_t seed);

/* Up to k <= TC_GUESSES_MAX tokens after ids[0..n), n > 0, for which ids has room.
 * Any text may follow any other; what they share at the beginning is not run
 * again.  g->p is the draft's until it guesses again. */
int tc_draft_guess(struct tc_draft *d, uint32_t *ids, size_t n, size_t k, struct tc_guesses *g, struct tc_err *err) TC_MUST_CHECK;

#endif
