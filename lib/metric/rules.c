#include "metric/rules.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "metric/question.h"

const struct tc_rule tc_rules[] = {
	{ "cloze", tc_rule_cloze, 0 },
	{ "continuation", tc_rule_continuation, 0 },
	{ "copying", tc_rule_copying, 0 },
	{ "induction", tc_rule_induction, 0 },
	{ "closing", tc_rule_closing, 0 },
	{ "addition", tc_rule_sums, '+' },
	{ "subtraction", tc_rule_sums, '-' },
	{ "multiplication", tc_rule_sums, '*' },
	{ "comparison", tc_rule_comparison, 0 },
	{ "transitivity", tc_rule_transitivity, 0 },
	{ 0 }
};

const struct tc_rule *
tc_rule_named(const char *name, size_t n)
{
	for (const struct tc_rule *r = tc_rules; r->name; r++)
		if (strlen(r->name) == n && memcmp(r->name, name, n) == 0)
			return r;
	return NULL;
}

int
tc_rule_make(const struct tc_rule *r, const struct tc_words *w, size_t n, uint64_t seed, struct tc_items *items,
    struct tc_err *err)
{
	size_t had = items->n;
	struct tc_rng rng;

	tc_rng_seed(&rng, seed ^ XXH3_64bits(r->name, strlen(r->name)));
	if (r->make(r, w, n, &rng, items, err) < 0)
		return -1;
	if (items->n == had)
		return tc_fail(err, TC_DATA, "the text is too short for the task %s", r->name);
	return 0;
}

/* ---- a question ---- */

int
tc_question_say(struct tc_question *q, struct tc_err *err, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(text))
		return tc_fail(err, TC_INTERNAL, "%s: a sentence is too long", q->rule->name);
	return tc_buf_append(&q->context, text, (size_t)n, err);
}

int
tc_question_quote(struct tc_question *q, const struct tc_word *first, const struct tc_word *last, struct tc_err *err)
{
	return tc_buf_append(&q->context, first->p, (size_t)(last->p - first->p) + last->n, err);
}

bool
tc_question_offer(struct tc_question *q, struct tc_word w)
{
	for (size_t i = 0; i < q->nchoices; i++)
		if (q->choice[i].n == w.n && memcmp(q->choice[i].p, w.p, w.n) == 0)
			return false;
	q->choice[q->nchoices++] = w;
	return true;
}

static json_t *
choice_json(const char *before, const struct tc_word *w, struct tc_err *err)
{
	struct tc_buf text = {0};
	json_t *s = NULL;

	if (tc_buf_append(&text, before, strlen(before), err) == 0 && tc_buf_append(&text, w->p, w->n, err) == 0)
		s = json_stringn((const char *)text.p, text.n);
	tc_buf_free(&text);
	return s;
}

static json_t *
question_json(const struct tc_question *q, const size_t *order, struct tc_err *err)
{
	json_t *o = json_object(), *choices = json_array();
	size_t answer = 0;
	int r = 0;

	for (size_t i = 0; i < q->nchoices; i++) {
		if (order[i] == 0)
			answer = i;
		r |= json_array_append_new(choices, choice_json(q->before, &q->choice[order[i]], err));
	}
	r |= json_object_set_new(o, "id", json_sprintf("%zu", q->asked));
	if (q->group != TC_NO_GROUP)
		r |= json_object_set_new(o, "group", json_sprintf("p%zu", q->group));
	r |= json_object_set_new(o, "context", json_stringn((const char *)q->context.p, q->context.n));
	r |= json_object_set_new(o, "choices", choices);
	r |= json_object_set_new(o, "answer", json_integer((json_int_t)answer));
	if (r == 0)
		return o;
	json_decref(o);
	tc_fail_nomem(err, 0);
	return NULL;
}

int
tc_question_ask(struct tc_question *q, struct tc_rng *rng, struct tc_items *items, struct tc_err *err)
{
	size_t order[TC_QUESTION_CHOICES];
	json_t *o;
	int r;

	for (size_t i = 0; i < q->nchoices; i++)
		order[i] = i;
	tc_draw(order, q->nchoices, q->nchoices, rng);
	o = question_json(q, order, err);
	if (!o)
		return -1;
	r = tc_items_add(items, o, q->rule->name, err);
	json_decref(o);
	q->asked++;
	q->context.n = 0;
	q->nchoices = 0;
	return r;
}

void
tc_draw(size_t *x, size_t n, size_t k, struct tc_rng *rng)
{
	for (size_t i = 0; i < k; i++) {
		size_t j = i + tc_rng_below(rng, n - i), t = x[i];

		x[i] = x[j];
		x[j] = t;
	}
}
