#include "method/rerun.h"

#include <stdlib.h>

int
tc_rerun_open(struct tc_rerun *m, const struct tc_header *h, const struct tc_hold *hold, struct tc_pool *pool,
    struct tc_err *err)
{
	*m = (struct tc_rerun){ .header = h, .hold = hold, .pool = pool };
	m->tensor = tc_zalloc(hold->n, sizeof(*m->tensor), err);
	if (!m->tensor)
		return -1;
	for (size_t i = 0; i < hold->n; i++) {
		const struct tc_tensor *t = &hold->item[i].r.u.tensor;

		if (hold->item[i].r.kind == TC_KIND_TENSOR && tc_role_is_linear(t->role) && !t->bias)
			m->tensor[i] = t;
	}
	return tc_rerun_begin(m, NULL, NULL, err);
}

static void
close_forward(struct tc_rerun *m)
{
	if (m->open)
		tc_forward_close(&m->forward);
	m->open = false;
}

void
tc_rerun_close(struct tc_rerun *m)
{
	close_forward(m);
	free(m->tensor);
	*m = (struct tc_rerun){0};
}

int
tc_rerun_begin(struct tc_rerun *m, tc_exec_hook *hook, void *ctx, struct tc_err *err)
{
	close_forward(m);
	if (tc_forward_open(&m->forward, m->header, m->pool, err) < 0)
		return -1;
	m->open = true;
	m->forward.hook = hook;
	m->forward.hook_ctx = ctx;
	return 0;
}

static int
zero(const struct tc_rerun *m, size_t tensor, const struct tc_spots *zeroed, struct tc_kept *kept, struct tc_err *err)
{
	const struct tc_tensor *t = m->tensor[tensor];
	size_t *at = tc_alloc(zeroed->n, sizeof(*at), err), n = 0;
	int r = at ? 0 : -1;

	for (size_t i = 0; at && i < zeroed->n; i++)
		if (zeroed->at[i].tensor == tensor)
			at[n++] = zeroed->at[i].row * tc_tensor_cols(t) + zeroed->at[i].column;
	if (n > 0)
		r = tc_kept_zeroed(kept, t, n, at, err);
	free(at);
	return r;
}

/* Whether the hidden states that are given were made with t. */
static bool
is_before(const struct tc_rerun *m, const struct tc_tensor *t, const struct tc_rerun_change *c)
{
	if (!c->hidden || t->role == TC_ROLE_HEAD)
		return false;
	if (t->role == TC_ROLE_FINAL_NORM)
		return c->from > m->forward.config.layers;
	return !tc_role_is_of_block(t->role) || (size_t)t->block < c->from;
}

static int
take(struct tc_rerun *m, size_t i, const struct tc_rerun_change *c, struct tc_err *err)
{
	struct tc_record r = m->hold->item[i].r;
	struct tc_kept kept = {0};
	int done;

	if ((r.kind != TC_KIND_TENSOR && r.kind != TC_KIND_REF) || (r.kind == TC_KIND_TENSOR && is_before(m, &r.u.tensor, c)))
		return 0;
	if (c->replaced && c->replaced[i])
		r.u.tensor = *c->replaced[i];
	else if (c->zeroed && m->tensor[i] && zero(m, i, c->zeroed, &kept, err) < 0)
		return -1;
	if (kept.there)
		r.u.tensor = kept.t;
	/* What is held or replaces it stays, and what is zeroed is of a block, which
	 * keeps no tensor. */
	done = tc_forward_take(&m->forward, &r, true, err);
	tc_kept_free(&kept);
	return done;
}

static int
resume(struct tc_rerun *m, const struct tc_rerun_change *c, struct tc_err *err)
{
	size_t embed = tc_rerun_place(m->hold, TC_ROLE_EMBED, -1);

	if (embed == m->hold->n)
		return tc_fail(err, TC_DATA, "the embedding is missing");
	return tc_forward_resume(&m->forward, c->from, c->hidden, &m->hold->item[embed].r.u.tensor, err);
}

int
tc_rerun_end(struct tc_rerun *m, const struct tc_rerun_change *change, tc_rerun_block *block, void *ctx, struct tc_err *err)
{
	if (change->hidden && resume(m, change, err) < 0)
		return -1;
	for (size_t i = 0; i < m->hold->n; i++) {
		int done = take(m, i, change, err);

		if (done < 0 || (done > 0 && block && block(ctx, m->forward.blocks_done - 1, err) < 0))
			return -1;
	}
	return tc_forward_finish(&m->forward, err);
}

size_t
tc_rerun_place(const struct tc_hold *hold, enum tc_role role, int block)
{
	size_t i = 0;

	for (; i < hold->n; i++) {
		const struct tc_tensor *t = &hold->item[i].r.u.tensor;

		if (hold->item[i].r.kind == TC_KIND_TENSOR && t->role == role && !t->bias && t->block == block)
			break;
	}
	return i;
}

size_t
tc_rerun_down(const struct tc_rerun *m, size_t block)
{
	return tc_rerun_place(m->hold, TC_ROLE_DOWN, (int)block);
}
