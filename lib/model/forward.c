#include "model/forward.h"

#include <stdlib.h>
#include <string.h>

int
tc_forward_open(struct tc_forward *f, const struct tc_header *h, struct tc_pool *pool, struct tc_err *err)
{
	*f = (struct tc_forward){ .pool = pool, .block.index = -1 };
	return tc_config_parse(&f->config, h->config, h->config_bytes, err);
}

int
tc_forward_tokens(struct tc_forward *f, size_t nseq, const size_t *length, const uint32_t *ids,
    const struct tc_exec_options *o, struct tc_err *err)
{
	for (size_t i = 0; i < nseq; i++)
		if (length[i] > f->config.positions)
			return tc_fail(err, TC_USAGE, "windows of %zu tokens: the model has %zu positions", length[i],
			    f->config.positions);
	f->ids = ids;
	f->block.compute = f->compute;
	return tc_exec_open(&f->exec, &f->config, f->pool, nseq, length, o, err);
}

int
tc_forward_resume(struct tc_forward *f, size_t block, const float *hidden, const struct tc_tensor *embed, struct tc_err *err)
{
	const struct tc_exec *e = &f->exec;

	memcpy(e->hidden, hidden, e->start[e->nseq] * f->config.width * sizeof(*hidden));
	f->positioned = f->config.learned_positions;
	f->blocks_done = tc_min(block, f->config.layers);
	f->normed = block > f->config.layers;
	if (f->config.tied)
		return tc_kept_set(&f->embed, embed, true, err);
	f->embed.there = true;
	return 0;
}

static int
take_embed(struct tc_forward *f, const struct tc_tensor *t, bool mapped, struct tc_err *err)
{
	if (f->embed.there)
		return tc_fail(err, TC_DATA, "%s: is there twice", t->name);
	if (tc_exec_embed(&f->exec, t, f->ids, err) < 0)
		return -1;
	if (f->config.tied) {
		tc_compute_count(f->compute, t);
		return tc_kept_set(&f->embed, t, mapped, err);
	}
	f->embed.there = true;
	return 0;
}

/* The norm is applied when its last part has come. */
static int
take_final_norm(struct tc_forward *f, const struct tc_tensor *t, struct tc_err *err)
{
	if (f->blocks_done < f->config.layers)
		return tc_fail(err, TC_DATA, "%s: comes after %zu of %zu blocks", t->name, f->blocks_done, f->config.layers);
	if (f->normed)
		return tc_fail(err, TC_DATA, "%s: is there twice", t->name);
	if (tc_norm_take(&f->final_norm, &f->config, t, err) < 0)
		return -1;
	if (f->final_norm.w && (f->final_norm.b || f->config.norm != TC_NORM_LAYER)) {
		tc_exec_norm(&f->exec, &f->final_norm);
		f->normed = true;
	}
	return 0;
}

static int
take_positions(struct tc_forward *f, const struct tc_tensor *t, struct tc_err *err)
{
	if (!f->embed.there || f->blocks_done > 0 || f->block.index >= 0 || f->positioned)
		return tc_fail(err, TC_DATA, "%s: is not where it should be", t->name);
	tc_exec_positions(&f->exec, t);
	f->positioned = true;
	return 0;
}

static int
take_block_tensor(struct tc_forward *f, const struct tc_tensor *t, struct tc_err *err)
{
	if (!f->embed.there || f->positioned != f->config.learned_positions)
		return tc_fail(err, TC_DATA, "%s: comes before the embedding", t->name);
	if (f->block.index < 0 && (size_t)t->block == f->blocks_done)
		tc_block_clear(&f->block, t->block);
	if (f->block.index < 0)
		return tc_fail(err, TC_DATA, "%s: block %zu should come next", t->name, f->blocks_done);
	if (tc_block_take(&f->block, &f->config, t, f->pool, err) < 0)
		return -1;
	if (!tc_block_full(&f->block, &f->config))
		return 0;
	if (!f->waits)
		tc_forward_advance(f);
	return 1;
}

int
tc_forward_replace(struct tc_forward *f, const struct tc_tensor *const *t, size_t n, struct tc_err *err)
{
	tc_block_clear(&f->block, f->block.index);
	for (size_t i = 0; i < n; i++)
		if (tc_block_take(&f->block, &f->config, t[i], f->pool, err) < 0)
			return -1;
	return tc_block_complete(&f->block, &f->config, err);
}

void
tc_forward_advance(struct tc_forward *f)
{
	tc_exec_block(&f->exec, &f->block, f->hook, f->hook_ctx);
	tc_forward_leave(f);
}

void
tc_forward_leave(struct tc_forward *f)
{
	f->block.index = -1;
	f->blocks_done++;
}

int
tc_forward_take(struct tc_forward *f, const struct tc_record *r, bool mapped, struct tc_err *err)
{
	const struct tc_tensor *t = &r->u.tensor;

	if ((r->kind == TC_KIND_REF || t->role == TC_ROLE_HEAD) && (!f->normed || f->headed))
		return tc_fail(err, TC_DATA, "the head %s", f->headed ? "is there twice" : "comes before the final norm");
	if (r->kind == TC_KIND_REF) {
		f->headed = true;
		return 0;
	}
	if (tc_config_check(&f->config, t, err) < 0 || tc_tensor_check_finite(t, err) < 0)
		return -1;
	switch (t->role) {
	case TC_ROLE_EMBED:
		return take_embed(f, t, mapped, err);
	case TC_ROLE_POS:
		return take_positions(f, t, err);
	case TC_ROLE_FINAL_NORM:
		return take_final_norm(f, t, err);
	case TC_ROLE_HEAD:
		f->headed = true;
		tc_compute_count(f->compute, t);
		return tc_kept_set(&f->head, t, mapped, err);
	default:
		return take_block_tensor(f, t, err);
	}
}

int
tc_forward_finish(const struct tc_forward *f, struct tc_err *err)
{
	if (!f->embed.there)
		return tc_fail(err, TC_DATA, "the embedding is missing (a stream of statistics only?)");
	if (f->block.index >= 0)
		return tc_block_complete(&f->block, &f->config, err);
	if (f->blocks_done < f->config.layers)
		return tc_fail(err, TC_DATA, "block %zu of %zu is missing", f->blocks_done, f->config.layers);
	if (!f->normed)
		return tc_fail(err, TC_DATA, "the final norm is missing");
	if (!tc_forward_head(f))
		return tc_fail(err, TC_DATA, "the head is missing");
	return 0;
}

const struct tc_tensor *
tc_forward_head(const struct tc_forward *f)
{
	const struct tc_kept *k = f->config.tied ? &f->embed : &f->head;

	return k->there ? &k->t : NULL;
}

struct tc_final
tc_forward_final(const struct tc_forward *f)
{
	return (struct tc_final){ f->exec.hidden, tc_forward_head(f), f->config.final_cap, f->compute };
}

void
tc_forward_close(struct tc_forward *f)
{
	tc_exec_close(&f->exec);
	tc_block_free(&f->block);
	tc_kept_free(&f->embed);
	tc_kept_free(&f->head);
	tc_norm_free(&f->final_norm);
}
