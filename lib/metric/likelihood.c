#include "metric/likelihood.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "token/utf8.h"

#define SHOTS_APART "\n\n"

/* A choice after its context: tokens begin .. begin+n-1 of the item's. */
struct whole {
	size_t begin, n, scored;      /* the last `scored` are the choice's */
	size_t row;                   /* of the first, among all rows */
};

/* What is known while items become sequences; buffers are reused. */
struct maker {
	struct tc_likelihood *l;
	const struct tc_likelihood_options *o;
	struct tc_buf context;        /* with examples: text, or ids */
	struct tc_buf tokens;         /* of the item's choices, one after another */
	struct whole whole[TC_CHOICES_MAX];
	size_t nwhole;
	struct tc_buf ids, length, row, target, scored, bytes; /* the result, growing */
};

static int
append_ids(struct tc_buf *b, const json_t *list, struct tc_err *err)
{
	const json_t *v;
	size_t i;

	json_array_foreach(list, i, v) {
		uint32_t id = (uint32_t)json_integer_value(v);

		if (tc_buf_append(b, &id, sizeof(id), err) < 0)
			return -1;
	}
	return 0;
}

/* A context or choice. */
static int
append(struct tc_buf *b, const json_t *v, struct tc_err *err)
{
	if (json_is_array(v))
		return append_ids(b, v, err);
	return tc_buf_append(b, json_string_value(v), json_string_length(v), err);
}

/* ---- examples ---- */

static int
append_example(struct maker *m, const struct tc_item *e, struct tc_err *err)
{
	if (append(&m->context, e->context, err) < 0 ||
	    append(&m->context, json_array_get(e->choices, e->answer), err) < 0)
		return -1;
	return e->ids ? 0 : tc_buf_append(&m->context, SHOTS_APART, strlen(SHOTS_APART), err);
}

static int
append_examples(struct maker *m, const struct tc_item *item, struct tc_err *err)
{
	const struct tc_items *from = m->o->examples;
	size_t n = 0;
	bool any = m->o->shots > 0 && tc_items_of_task(from, item->task) == 0;

	for (size_t i = 0; n < m->o->shots && i < from->n; i++) {
		const struct tc_item *e = &from->item[i];

		if (e->ids != item->ids || tc_item_same(e, item) || !(any || strcmp(e->task, item->task) == 0))
			continue;
		if (append_example(m, e, err) < 0)
			return -1;
		n++;
	}
	if (n < m->o->shots)
		return tc_fail(err, TC_DATA, "%zu examples before it were asked for, there are %zu", m->o->shots, n);
	return 0;
}

/* ---- tokens ---- */

/* The whole's tokens, after a BOS if there is one; ncontext of them are the context's. */
static int
add_whole(struct maker *m, const uint32_t *ids, size_t n, size_t ncontext, struct tc_err *err)
{
	const uint32_t *bos = m->o->bos;
	struct whole *w = &m->whole[m->nwhole++];
	size_t most = m->o->positions + 1;

	*w = (struct whole){ .begin = m->tokens.n / sizeof(*ids), .n = n + (bos != NULL),
		.scored = n > ncontext ? n - ncontext : 1 };
	if (w->n < w->scored + 1)
		return tc_fail(err, TC_DATA, "has nothing before it: the context is empty, and the tokenizer has no BOS");
	for (size_t k = 0; k < n; k++)
		if (ids[k] >= m->o->vocab)
			return tc_fail(err, TC_DATA, "token %zu: id %u is outside the vocabulary of %zu", k, ids[k], m->o->vocab);
	if (w->scored > m->o->positions)
		return tc_fail(err, TC_DATA, "its %zu tokens are more than the model's %zu positions", w->scored, m->o->positions);
	if (bos && tc_buf_append(&m->tokens, bos, sizeof(*bos), err) < 0)
		return -1;
	if (tc_buf_append(&m->tokens, ids, n * sizeof(*ids), err) < 0)
		return -1;
	if (w->n > most) {
		m->l->cut_choices++;
		m->l->cut_tokens += w->n - most;
		w->begin += w->n - most;
		w->n = most;
	}
	return 0;
}

/* What choice k feeds to the model, all but its last token, is how choice j's
 * begins, and j comes first. */
static bool
covers(const struct maker *m, size_t j, size_t k)
{
	const struct whole *a = &m->whole[j], *b = &m->whole[k];
	const uint32_t *ids = (const uint32_t *)m->tokens.p;

	if (a->n < b->n || (a->n == b->n && j >= k))
		return false;
	return memcmp(ids + a->begin, ids + b->begin, (b->n - 1) * sizeof(*ids)) == 0;
}

static int
feed(struct maker *m, struct whole *w, struct tc_err *err)
{
	struct tc_predictions *p = &m->l->predictions;
	const uint32_t *ids = (const uint32_t *)m->tokens.p + w->begin;
	size_t length = w->n - 1;

	w->row = p->ntokens;
	p->nseq++;
	p->ntokens += length;
	if (tc_buf_append(&m->ids, ids, length * sizeof(*ids), err) < 0)
		return -1;
	return tc_buf_append(&m->length, &length, sizeof(length), err);
}

static int
predict(struct maker *m, const struct whole *w, struct tc_err *err)
{
	const uint32_t *ids = (const uint32_t *)m->tokens.p + w->begin;

	for (size_t k = w->n - w->scored; k < w->n; k++) {
		size_t row = w->row + k - 1;

		if (tc_buf_append(&m->row, &row, sizeof(row), err) < 0 ||
		    tc_buf_append(&m->target, &ids[k], sizeof(ids[k]), err) < 0)
			return -1;
	}
	m->l->predictions.n += w->scored;
	return tc_buf_append(&m->scored, &w->scored, sizeof(w->scored), err);
}

/* The item's choices become sequences; what is part of another's is not fed twice. */
static int
add_sequences(struct maker *m, struct tc_err *err)
{
	size_t by[TC_CHOICES_MAX];

	for (size_t k = 0; k < m->nwhole; k++) {
		by[k] = k;
		for (size_t j = 0; j < m->nwhole; j++)
			if (covers(m, j, k) && (by[k] == k || m->whole[j].n > m->whole[by[k]].n))
				by[k] = j; /* the longest: nothing covers that */
		if (by[k] == k && feed(m, &m->whole[k], err) < 0)
			return -1;
	}
	for (size_t k = 0; k < m->nwhole; k++) {
		m->whole[k].row = m->whole[by[k]].row;
		if (predict(m, &m->whole[k], err) < 0)
			return -1;
	}
	return 0;
}

static int
add_choice_ids(struct maker *m, const json_t *choice, struct tc_err *err)
{
	size_t ncontext = m->context.n, n;
	uint32_t *all;
	int r = append_ids(&m->context, choice, err);

	n = m->context.n / sizeof(*all);
	m->context.n = ncontext;
	if (r < 0)
		return -1;
	return add_whole(m, (const uint32_t *)m->context.p, n, ncontext / sizeof(*all), err);
}

/* The context, without the white space at its end, has ncontext tokens. */
static int
add_choice_text(struct maker *m, const json_t *choice, size_t ncontext, struct tc_err *err)
{
	size_t had = m->context.n, n;
	uint32_t *ids = NULL;
	int r = append(&m->context, choice, err);

	if (r == 0)
		r = tc_tokenizer_encode(m->o->tokenizer, (const char *)m->context.p, m->context.n, false, &ids, &n, err);
	if (r == 0)
		r = add_whole(m, ids, n, ncontext, err);
	m->context.n = had;
	free(ids);
	return r;
}

static int
count_context(struct maker *m, size_t *n, struct tc_err *err)
{
	const struct tc_buf *c = &m->context;
	size_t bytes = c->n > 0 ? c->n - tc_utf8_spaces_at_end(c->p, c->n) : 0;
	uint32_t *ids;

	if (tc_tokenizer_encode(m->o->tokenizer, bytes > 0 ? (const char *)c->p : "", bytes, false, &ids, n, err) < 0)
		return -1;
	free(ids);
	return 0;
}

static double
bytes_of(const json_t *choice)
{
	size_t n, spaces;

	if (json_is_array(choice))
		return 1;
	n = json_string_length(choice);
	spaces = tc_utf8_spaces_at_start((const unsigned char *)json_string_value(choice), n);
	return (double)(spaces < n ? n - spaces : n);
}

static int
add_item(struct maker *m, const struct tc_item *item, struct tc_err *err)
{
	const json_t *choice;
	size_t i, ncontext = 0;

	if (!item->ids && !m->o->tokenizer)
		return tc_fail(err, TC_DATA, "the model has no tokenizer.json: items must be token ids");
	m->context.n = m->tokens.n = 0;
	m->nwhole = 0;
	if (append_examples(m, item, err) < 0 || append(&m->context, item->context, err) < 0)
		return -1;
	if (!item->ids && count_context(m, &ncontext, err) < 0)
		return -1;
	json_array_foreach(item->choices, i, choice) {
		double bytes = bytes_of(choice);

		if ((item->ids ? add_choice_ids(m, choice, err) : add_choice_text(m, choice, ncontext, err)) < 0)
			return tc_err_at(err, "choice %zu", i);
		if (tc_buf_append(&m->bytes, &bytes, sizeof(bytes), err) < 0)
			return -1;
	}
	return add_sequences(m, err);
}

/* The buffers become l's arrays. */
static void
hand_over(struct maker *m)
{
	struct tc_predictions *p = &m->l->predictions;

	p->ids = (uint32_t *)m->ids.p;
	p->length = (size_t *)m->length.p;
	p->row = (size_t *)m->row.p;
	p->target = (uint32_t *)m->target.p;
	m->l->scored = (size_t *)m->scored.p;
	m->l->bytes = (double *)m->bytes.p;
	tc_buf_free(&m->context);
	tc_buf_free(&m->tokens);
}

int
tc_likelihood_make(struct tc_likelihood *l, const struct tc_items *items, const struct tc_likelihood_options *o,
    struct tc_err *err)
{
	struct maker m = { .l = l, .o = o };
	int r = 0;

	*l = (struct tc_likelihood){ .nitems = items->n };
	l->first = tc_alloc(items->n + 1, sizeof(*l->first), err);
	if (!l->first)
		return -1;
	l->first[0] = 0;
	for (size_t i = 0; r == 0 && i < items->n; i++) {
		r = add_item(&m, &items->item[i], err);
		if (r < 0)
			tc_err_at(err, "task %s, item %zu", items->item[i].task, i);
		l->first[i + 1] = l->first[i] + m.nwhole;
	}
	hand_over(&m);
	return r;
}

void
tc_likelihood_free(struct tc_likelihood *l)
{
	tc_predictions_free(&l->predictions);
	free(l->first);
	free(l->scored);
	free(l->bytes);
	*l = (struct tc_likelihood){0};
}

/* ---- what the model says ---- */

int
tc_likely_sum(struct tc_likely *y, const struct tc_likelihood *l, const struct tc_nll *nll, struct tc_err *err)
{
	size_t n = l->first[l->nitems], at = 0;

	*y = (struct tc_likely){0};
	y->log_p = tc_alloc(n, sizeof(*y->log_p), err);
	y->greedy = tc_alloc(n, sizeof(*y->greedy), err);
	if (!y->log_p || !y->greedy)
		return -1;
	for (size_t k = 0; k < n; k++) {
		size_t end = at + l->scored[k];

		y->log_p[k] = 0;
		y->greedy[k] = 1;
		for (; at < end; at++) {
			if (!isfinite(nll->nll[at]))
				return tc_fail(err, TC_DATA, "choice %zu: a likelihood is not finite: the model overflows", k);
			y->log_p[k] -= nll->nll[at];
			y->greedy[k] &= nll->greedy[at];
		}
	}
	return 0;
}

void
tc_likely_free(struct tc_likely *y)
{
	free(y->log_p);
	free(y->greedy);
	*y = (struct tc_likely){0};
}

static double
score(const struct tc_likely *y, const struct tc_likelihood *l, size_t choice, enum tc_choice_norm norm)
{
	if (norm == TC_NORM_TOKENS)
		return y->log_p[choice] / (double)l->scored[choice];
	return norm == TC_NORM_BYTES ? y->log_p[choice] / l->bytes[choice] : y->log_p[choice];
}

struct tc_verdict
tc_likely_verdict(const struct tc_likely *y, const struct tc_likelihood *l, size_t i, size_t answer, enum tc_choice_norm norm)
{
	size_t first = l->first[i], n = l->first[i + 1] - first;
	struct tc_verdict v = {0};
	double best = -INFINITY, wrong = -INFINITY;

	for (size_t k = 0; k < n; k++) {
		double x = score(y, l, first + k, norm);

		if (x > best) {
			best = x;
			v.chosen = k;
		}
		if (k != answer && x > wrong)
			wrong = x;
	}
	v.margin = score(y, l, first + answer, norm) - wrong;
	return v;
}
