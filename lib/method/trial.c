#include "method/trial.h"

#include <stdlib.h>
#include <string.h>

static size_t
state_floats(const struct tc_trial *p)
{
	return p->text.ntokens * p->model.forward.config.width;
}

static size_t
layers(const struct tc_trial *p)
{
	return p->model.forward.config.layers;
}

/* ---- the model as it is ---- */

static int
take_text(struct tc_trial *p, const struct tc_trial_options *o, struct tc_err *err)
{
	struct tc_windows windows;
	size_t longest = 0;
	int r;

	for (size_t i = 0; i < o->nseq; i++)
		longest = tc_max(longest, o->length[i]);
	r = tc_windows_lines(&windows, o->nseq, o->length, longest, 0, err);
	if (r == 0 && windows.scored == 0)
		r = tc_fail(err, TC_DATA, "no token to predict in %zu sequences", o->nseq);
	if (r == 0)
		r = tc_predictions_make(&p->text, &windows, o->ids, NULL, err);
	tc_windows_free(&windows);
	return r;
}

/* Every how many blocks' states are kept. */
static int
alloc_states(struct tc_trial *p, size_t keep_bytes, struct tc_err *err)
{
	size_t each, most;

	if (tc_exec_hidden_bytes(&p->model.forward.config, p->text.ntokens, false, &each, err) < 0)
		return -1;
	most = tc_min(keep_bytes / each, layers(p));
	if (most > 0)
		p->every = (layers(p) + most - 1) / most;
	p->states = p->every ? layers(p) / p->every : 0;
	p->state = tc_alloc(p->states, each, err);
	p->final = tc_alloc(1, each, err);
	return p->state && p->final ? 0 : -1;
}

static int
keep_state(void *ctx, size_t block, struct tc_err *err)
{
	struct tc_trial *p = ctx;
	size_t next = block + 1, n = state_floats(p);

	(void)err;
	if (p->every && next % p->every == 0)
		memcpy(p->state + (next / p->every - 1) * n, p->model.forward.exec.hidden, n * sizeof(*p->state));
	return 0;
}

static int
run(struct tc_trial *p, const struct tc_rerun_change *change, tc_rerun_block *block, struct tc_err *err)
{
	const struct tc_exec_options o = { .spill.fd = -1, .spill.above_bytes = UINT64_MAX };

	if (tc_rerun_begin(&p->model, NULL, NULL, err) < 0 ||
	    tc_forward_tokens(&p->model.forward, p->text.nseq, p->text.length, p->text.ids, &o, err) < 0)
		return -1;
	return tc_rerun_end(&p->model, change, block, p, err);
}

static int
run_base(struct tc_trial *p, struct tc_err *err)
{
	const struct tc_rerun_change none = {0};
	const struct tc_hold *hold = p->model.hold;
	struct tc_final final;

	if (run(p, &none, keep_state, err) < 0)
		return -1;
	memcpy(p->final, p->model.forward.exec.hidden, state_floats(p) * sizeof(*p->final));
	p->head = &hold->item[tc_rerun_place(hold, p->model.forward.config.tied ? TC_ROLE_EMBED : TC_ROLE_HEAD, -1)].r.u.tensor;
	final = tc_forward_final(&p->model.forward);
	if (tc_nll_run(&p->nll, &final, NULL, p->model.pool, err) < 0)
		return -1;
	return tc_predictions_means(&p->text, p->nll.nll, p->base_mean, err);
}

int
tc_trial_open(struct tc_trial *p, const struct tc_header *h, const struct tc_hold *hold, const struct tc_trial_options *o,
    struct tc_pool *pool, struct tc_err *err)
{
	*p = (struct tc_trial){0};
	if (tc_rerun_open(&p->model, h, hold, pool, err) < 0 || take_text(p, o, err) < 0 ||
	    alloc_states(p, o->keep_bytes, err) < 0 || tc_nll_alloc(&p->nll, &p->text, true, err) < 0)
		return -1;
	p->mean = tc_alloc(p->text.nseq, sizeof(*p->mean), err);
	p->base_mean = tc_alloc(p->text.nseq, sizeof(*p->base_mean), err);
	return p->mean && p->base_mean ? run_base(p, err) : -1;
}

void
tc_trial_close(struct tc_trial *p)
{
	tc_rerun_close(&p->model);
	tc_predictions_free(&p->text);
	tc_nll_free(&p->nll);
	free(p->mean);
	free(p->base_mean);
	free(p->state);
	free(p->final);
	*p = (struct tc_trial){0};
}

/* ---- with other tensors ---- */

/* What a tensor is used by first, as tc_forward_resume() counts; 0: the
 * embedding. */
static size_t
place_of(const struct tc_trial *p, const struct tc_tensor *t)
{
	if (tc_role_is_of_block(t->role))
		return (size_t)t->block;
	if (t->role == TC_ROLE_FINAL_NORM)
		return layers(p);
	return t->role == TC_ROLE_HEAD ? layers(p) + 1 : 0;
}

/* The latest of the states kept that what is replaced has no part in. */
static struct tc_rerun_change
change_of(const struct tc_trial *p, const struct tc_tensor *const *replaced)
{
	struct tc_rerun_change c = { .replaced = replaced, .from = layers(p) + 1, .hidden = p->final };

	for (size_t i = 0; replaced && i < p->model.hold->n; i++)
		if (replaced[i])
			c.from = tc_min(c.from, place_of(p, &p->model.hold->item[i].r.u.tensor));
	if (c.from > layers(p))
		return c;
	c.from = p->every ? c.from / p->every * p->every : 0;
	c.hidden = c.from > 0 ? p->state + (c.from / p->every - 1) * state_floats(p) : NULL;
	return c;
}

static int
summarize(struct tc_trial *p, struct tc_trial_result *r, struct tc_err *err)
{
	const struct tc_predictions *text = &p->text;

	if (tc_predictions_means(text, p->nll.kld, p->mean, err) < 0)
		return -1;
	r->kld = tc_mean_of(text->nseq, p->mean, text->weight);
	if (tc_predictions_means(text, p->nll.nll, p->mean, err) < 0)
		return -1;
	r->nll = tc_mean_of(text->nseq, p->mean, text->weight);
	for (size_t i = 0; i < text->nseq; i++)
		p->mean[i] -= p->base_mean[i];
	r->delta = tc_mean_of(text->nseq, p->mean, text->weight);
	return 0;
}

int
tc_trial_run(struct tc_trial *p, const struct tc_tensor *const *replaced, struct tc_trial_result *r, struct tc_err *err)
{
	const struct tc_rerun_change change = change_of(p, replaced);
	struct tc_final model, base;

	if (run(p, &change, NULL, err) < 0)
		return -1;
	model = base = tc_forward_final(&p->model.forward);
	base.hidden = p->final;
	base.head = p->head;
	if (tc_nll_run(&p->nll, &model, &base, p->model.pool, err) < 0)
		return -1;
	return summarize(p, r, err);
}
