#include "model/generate.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* A text in flight. */
struct slot {
	struct tc_generated *text;  /* NULL: free */
	size_t i;                   /* its number */
	struct tc_sequence s;
	struct tc_sampler sampler;
};

struct flight {
	const struct tc_generate *g;
	struct tc_generated *text;
	size_t n, next;             /* texts, the first that has not begun */
	struct tc_decode decode;
	struct slot *slot;          /* [g->batch], those in flight first, as they began */
	struct tc_append *append;   /* [g->batch] */
	size_t flying;
};

static void
slot_close(struct slot *s)
{
	tc_sampler_close(&s->sampler);
	tc_sequence_close(&s->s);
	*s = (struct slot){0};
}

static int
begin(struct flight *f, struct tc_err *err)
{
	struct tc_generated *t = &f->text[f->next];
	struct slot *s = &f->slot[f->flying++];

	*s = (struct slot){ .text = t, .i = f->next++ };
	t->began = tc_now();
	t->ids = tc_alloc(t->nprompt + t->most, sizeof(*t->ids), err);
	if (!t->ids)
		return -1;
	memcpy(t->ids, t->prompt, t->nprompt * sizeof(*t->ids));
	t->n = t->nprompt;
	if (tc_sequence_open(&s->s, f->g->model, t->nprompt + t->most, err) < 0 ||
	    tc_sampler_open(&s->sampler, &f->g->sampling, t->seed, f->g->model->config.vocab, err) < 0)
		return -1;
	s->s.length = t->nprompt; /* not how much may be generated */
	return 0;
}

static void
sample(void *ctx, size_t k, int worker)
{
	struct flight *f = ctx;
	struct tc_generated *t = f->slot[k].text;

	(void)worker;
	t->ids[t->n] = tc_sample(&f->slot[k].sampler, f->append[k].logits, t->ids, t->n);
	t->n++;
}

/* A token more for every text in flight. */
static int
pass(struct flight *f, struct tc_err *err)
{
	for (size_t k = 0; k < f->flying; k++) {
		struct slot *s = &f->slot[k];

		if (!f->g->cache)
			tc_sequence_crop(&s->s, 0);
		f->append[k] = (struct tc_append){ .s = &s->s, .ids = s->text->ids + s->s.n, .count = s->text->n - s->s.n };
	}
	if (tc_decode_run(&f->decode, f->append, f->flying, err) < 0)
		return -1;
	tc_pool_run(f->g->model->pool, f->flying, sample, f);
	return 0;
}

/* Shows the new tokens and lets go of the texts that have ended. */
static int
settle(struct flight *f)
{
	size_t left = 0;

	for (size_t k = 0; k < f->flying; k++) {
		struct slot *s = &f->slot[k];
		int go_on = f->g->more(f->g->ctx, s->i);

		if (go_on < 0)
			return -1;
		if (go_on && s->text->n < s->text->nprompt + s->text->most) {
			if (left < k) {
				f->slot[left] = *s;
				*s = (struct slot){0};
			}
			left++;
		} else {
			s->text->ended = tc_now();
			slot_close(s);
		}
	}
	f->flying = left;
	return 0;
}

static int
check(const struct tc_generate *g, const struct tc_generated *text, size_t n, size_t *positions, struct tc_err *err)
{
	size_t most = g->model->config.positions;

	for (size_t i = 0; i < n; i++) {
		if (text[i].nprompt >= most || text[i].most > most - text[i].nprompt)
			return tc_fail(err, TC_DATA, "prompt %zu has %zu tokens, the model %zu positions", i + 1, text[i].nprompt, most);
		*positions = tc_max(*positions, text[i].nprompt + text[i].most);
	}
	return 0;
}

int
tc_generate(const struct tc_generate *g, struct tc_generated *text, size_t n, struct tc_err *err)
{
	struct flight f = { .g = g, .text = text, .n = n };
	size_t batch = tc_min(g->batch, n), positions = 1;
	int r = -1;

	if (check(g, text, n, &positions, err) < 0)
		return -1;
	f.slot = tc_zalloc(batch, sizeof(*f.slot), err);
	f.append = tc_zalloc(batch, sizeof(*f.append), err);
	if (!f.slot || !f.append || tc_decode_open(&f.decode, g->model, positions, TC_DECODE_ROWS, err) < 0)
		goto out;
	while (f.flying > 0 || f.next < n) {
		while (f.flying < batch && f.next < n)
			if (begin(&f, err) < 0)
				goto out;
		if (pass(&f, err) < 0 || settle(&f) < 0)
			goto out;
	}
	r = 0;
out:
	for (size_t k = 0; f.slot && k < batch; k++)
		slot_close(&f.slot[k]);
	if (f.decode.m)
		tc_decode_close(&f.decode);
	free(f.slot);
	free(f.append);
	return r;
}

/* Logits of so many positions are there at once. */
#define FOLLOW_ROWS 64

/* Appends ids[s->n .. upto-1], of which each predicts the next; of
 * those that begin the text, its prompt, only the last counts. */
static int
follow_some(struct tc_decode *d, struct tc_sequence *s, struct tc_sampler *sampler, const uint32_t *ids, size_t upto, size_t *same,
    struct tc_err *err)
{
	size_t from = s->n, first = from > 0 ? from : upto - 1, vocab = d->m->config.vocab;
	struct tc_append a = { .s = s, .ids = ids + from, .count = upto - from, .all = from > 0 };

	if (tc_decode_run(d, &a, 1, err) < 0)
		return -1;
	for (size_t i = first; i < upto; i++)
		*same += tc_sample(sampler, a.logits + (i - first) * vocab, ids, i + 1) == ids[i + 1];
	return 0;
}

int
tc_generate_follow(const struct tc_model *m, double repeat_penalty, const uint32_t *ids, size_t nprompt, size_t n, size_t *same,
    struct tc_err *err)
{
	const struct tc_sampling greedy = { .top_p = 1, .repeat_penalty = repeat_penalty };
	/* Rows with one scale change each other: as they would be generated. */
	size_t rows = m->compute && m->compute->batch ? 1 : FOLLOW_ROWS;
	struct tc_sequence s = {0};
	struct tc_decode d = {0};
	struct tc_sampler sampler = {0};
	int r = -1;

	*same = 0;
	if (tc_sequence_open(&s, m, n, err) < 0 || tc_decode_open(&d, m, n, TC_DECODE_ROWS, err) < 0 ||
	    tc_sampler_open(&sampler, &greedy, 0, m->config.vocab, err) < 0)
		goto out;
	s.length = nprompt;
	while (s.n < n - 1)
		if (follow_some(&d, &s, &sampler, ids, s.n > 0 ? tc_min(s.n + rows, n - 1) : nprompt, same, err) < 0)
			goto out;
	r = 0;
out:
	tc_sampler_close(&sampler);
	if (d.m)
		tc_decode_close(&d);
	tc_sequence_close(&s);
	return r;
}
