/* question.h - an item being made by a rule: what the files of rules share. */
#ifndef TC_METRIC_QUESTION_H
#define TC_METRIC_QUESTION_H

#include "metric/rules.h"

#define TC_QUESTION_CHOICES 4
#define TC_NO_GROUP SIZE_MAX

struct tc_question {
	const struct tc_rule *rule;
	struct tc_buf context;
	const char *before;                        /* put in front of each choice */
	struct tc_word choice[TC_QUESTION_CHOICES]; /* the first is right; the bytes are the rule's */
	size_t nchoices, asked;                    /* choices so far; items before this one */
	size_t group;                              /* a paragraph, or TC_NO_GROUP */
};

/* Appends to the context. */
int tc_question_say(struct tc_question *q, struct tc_err *err, const char *fmt, ...) TC_PRINTF(3, 4) TC_MUST_CHECK;
/* Appends the text from the first to the last word, both included. */
int tc_question_quote(struct tc_question *q, const struct tc_word *first, const struct tc_word *last, struct tc_err *err) TC_MUST_CHECK;
/* Adds a choice unless it is there; false when it was. */
bool tc_question_offer(struct tc_question *q, struct tc_word w);
/* The item, its choices in an order that is drawn; q is ready for the next. */
int tc_question_ask(struct tc_question *q, struct tc_rng *rng, struct tc_items *items, struct tc_err *err) TC_MUST_CHECK;

/* x[0..n) in an order that is drawn, of which the first k are needed. */
void tc_draw(size_t *x, size_t n, size_t k, struct tc_rng *rng);

typedef int tc_rule_fn(const struct tc_rule *r, const struct tc_words *w, size_t n, struct tc_rng *rng, struct tc_items *items, struct tc_err *err);
tc_rule_fn tc_rule_cloze, tc_rule_continuation, tc_rule_copying, tc_rule_induction, tc_rule_closing, tc_rule_sums,
    tc_rule_comparison, tc_rule_transitivity;

#endif
