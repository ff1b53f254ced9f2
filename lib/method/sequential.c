#include "method/sequential.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "model/forward.h"
#include "stats/gather.h"
#include "stream/hold.h"

struct run {
	const struct tc_sequential *s;
	const struct tc_pass *pass;
	struct tc_source *source;
	struct tc_writer *w;
	struct tc_ledger *ledger;
	struct tc_forward forward;
	bool started, changed;
	struct tc_gather gather;
	int first_site, end_site;          /* that it sees */
	/* the calibration tokens */
	size_t nseq;
	size_t *length;
	uint32_t *ids;
	/* the block in hand */
	struct tc_hold hold;
	struct tc_kept *kept;              /* [hold.n] what became of a tensor; there or not */
	const struct tc_tensor **tensor;   /* [hold.n] the tensors of the block as they are now */
};

static int
take_tokens(struct run *r, const struct tc_record *rec, struct tc_err *err)
{
	const struct tc_tokens *t = &rec->u.tokens;

	if (strcmp(t->tag, "calib") != 0)
		return 0;
	free(r->length);
	free(r->ids);
	r->nseq = t->nseq;
	r->length = tc_alloc(t->nseq, sizeof(*r->length), err);
	r->ids = tc_alloc(rec->part[0].size_bytes, 1, err);
	if (!r->length || !r->ids)
		return -1;
	for (size_t i = 0; i < t->nseq; i++)
		r->length[i] = t->length[i];
	memcpy(r->ids, rec->part[0].data, rec->part[0].size_bytes);
	return 0;
}

static int
start(struct run *r, struct tc_err *err)
{
	struct tc_exec_options o = { .with_hooks = true };
	size_t tokens = 0, size_bytes;
	int got;

	if (!r->ids || r->nseq == 0)
		return tc_fail(err, TC_DATA, "the stream carries no calibration tokens: tc-calib(1) puts them there");
	r->started = true;
	for (size_t i = 0; i < r->nseq; i++) {
		if (r->length[i] == 0 || r->length[i] > r->forward.config.positions)
			return tc_fail(err, TC_DATA, "a calibration sequence has %zu tokens, the model %zu positions", r->length[i],
			    r->forward.config.positions);
		tokens += r->length[i];
	}
	r->gather = (struct tc_gather){ .pool = r->s->pool, 
		.kind = { [TC_STAT_SQ] = !r->s->hessian, [TC_STAT_HESSIAN] = r->s->hessian, [TC_STAT_ABS] = r->s->magnitudes } };
	if (tc_exec_hidden_bytes(&r->forward.config, tokens, false, &size_bytes, err) < 0 ||
	    r->s->spill(r->s->ctx, size_bytes, &o.spill, err) < 0)
		return -1;
	got = tc_forward_tokens(&r->forward, r->nseq, r->length, r->ids, &o, err);
	if (o.spill.fd >= 0)
		close(o.spill.fd);
	return got;
}

static int
put(struct run *r, struct tc_record *rec, struct tc_err *err)
{
	bool extra = rec->kind == TC_KIND_STAT || rec->kind == TC_KIND_TOKENS;

	if (extra && r->pass->strip)
		return 0;
	if (r->changed && rec->kind == TC_KIND_STAT && !rec->u.stat.stale) {
		rec->u.stat.stale = true;
		rec->raw = NULL;
	}
	return tc_pass_put(r->pass, rec, r->w, r->ledger, err);
}

/* One tensor outside the blocks: what came of it is what runs. */
static int
take_edge(struct run *r, struct tc_record *rec, struct tc_err *err)
{
	struct tc_tensor out;
	int did = r->pass->tensor(r->pass->ctx, &rec->u.tensor, &out, err);

	if (did < 0)
		return -1;
	if (did > 0) {
		rec->u.tensor = out;
		rec->raw = NULL;
		r->changed = true;
	}
	if (r->forward.blocks_done < r->forward.config.layers &&
	    tc_forward_take(&r->forward, rec, did == 0 && r->source->mapped, err) < 0)
		return -1;
	return put(r, rec, err);
}

static void
gather(void *ctx, enum tc_site site, size_t seq, const float *x, size_t rows, size_t dim)
{
	struct run *r = ctx;

	if ((int)site >= r->first_site && (int)site < r->end_site)
		tc_gather_hook(&r->gather, site, seq, x, rows, dim);
}

/* The block as it is now, on what the blocks before have made. */
static int
measure(struct run *r, struct tc_err *err)
{
	tc_exec_look(&r->forward.exec, &r->forward.block, gather, r);
	if (r->gather.err.code) {
		*err = r->gather.err;
		return -1;
	}
	for (int site = r->first_site; site < r->end_site; site++)
		for (int kind = 0; kind < TC_STAT_SITE_KINDS; kind++) {
			struct tc_record rec;
			int got = tc_gather_record(&r->gather, (enum tc_site)site, (enum tc_stat_kind)kind, r->forward.block.index,
			    r->source->header.nsteps, &rec, err);

			if (got > 0) {
				got = r->pass->notice(r->pass->ctx, &rec, err);
				tc_gather_record_free(&rec);
			}
			if (got < 0)
				return -1;
		}
	tc_gather_clear(&r->gather);
	return 0;
}

/* What reads those sites; norms come with the first. */
static int
transform(struct run *r, struct tc_err *err)
{
	for (size_t i = 0; i < r->hold.n; i++) {
		const struct tc_record *rec = &r->hold.item[i].r;
		struct tc_tensor out;
		int did, site;

		if (rec->kind != TC_KIND_TENSOR)
			continue;
		site = tc_role_site(rec->u.tensor.role);
		site = site < 0 ? 0 : site;
		if (site < r->first_site || site >= r->end_site)
			continue;
		did = r->pass->tensor(r->pass->ctx, &rec->u.tensor, &out, err);
		if (did < 0 || (did > 0 && tc_kept_set(&r->kept[i], &out, false, err) < 0))
			return -1;
	}
	return 0;
}

/* The block becomes what it is by now. */
static int
replace(struct run *r, struct tc_err *err)
{
	size_t n = 0;

	for (size_t i = 0; i < r->hold.n; i++)
		if (r->hold.item[i].r.kind == TC_KIND_TENSOR)
			r->tensor[n++] = r->kept[i].there ? &r->kept[i].t : &r->hold.item[i].r.u.tensor;
	return tc_forward_replace(&r->forward, r->tensor, n, err);
}

static int
transform_block(struct run *r, struct tc_err *err)
{
	int step = r->s->by_layer ? 1 : TC_SITE_HEAD_IN;

	r->kept = tc_zalloc(r->hold.n, sizeof(*r->kept), err);
	r->tensor = tc_zalloc(r->hold.n, sizeof(*r->tensor), err);
	if (!r->kept || !r->tensor)
		return -1;
	for (r->first_site = 0; r->first_site < TC_SITE_HEAD_IN; r->first_site = r->end_site) {
		r->end_site = r->first_site + step;
		if (measure(r, err) < 0 || transform(r, err) < 0 || replace(r, err) < 0)
			return -1;
	}
	return 0;
}

static int
put_block(struct run *r, struct tc_err *err)
{
	for (size_t i = 0; i < r->hold.n; i++) {
		struct tc_record *rec = &r->hold.item[i].r;

		if (r->kept[i].there) {
			rec->u.tensor = r->kept[i].t;
			rec->raw = NULL;
			r->changed = true;
		}
		if (put(r, rec, err) < 0)
			return -1;
	}
	return 0;
}

static void
forget_block(struct run *r)
{
	for (size_t i = 0; r->kept && i < r->hold.n; i++)
		tc_kept_free(&r->kept[i]);
	free(r->kept);
	free(r->tensor);
	r->kept = NULL;
	r->tensor = NULL;
	tc_hold_clear(&r->hold);
}

static int
run_block(struct run *r, struct tc_err *err)
{
	if (transform_block(r, err) < 0)
		return -1;
	if (r->forward.blocks_done + 1 < r->forward.config.layers)
		tc_forward_advance(&r->forward);
	else
		tc_forward_leave(&r->forward);   /* nothing is measured behind the last */
	if (put_block(r, err) < 0)
		return -1;
	forget_block(r);
	if (r->s->progress)
		r->s->progress(r->s->ctx, r->forward.blocks_done, r->forward.config.layers);
	return 0;
}

static int
take(struct run *r, struct tc_record *rec, struct tc_err *err)
{
	int complete;

	if (tc_pass_check(&r->forward.config, rec, err) < 0)
		return -1;
	if (rec->kind == TC_KIND_TOKENS && take_tokens(r, rec, err) < 0)
		return -1;
	if (rec->kind == TC_KIND_STAT && tc_stat_is_of_tensor(rec->u.stat.kind) && r->pass->notice(r->pass->ctx, rec, err) < 0)
		return -1;
	if (rec->kind == TC_KIND_TENSOR && !r->started && start(r, err) < 0)
		return -1;
	if (rec->kind == TC_KIND_TENSOR && rec->u.tensor.block < 0)
		return take_edge(r, rec, err);
	if (rec->kind != TC_KIND_TENSOR && r->forward.block.index < 0)
		return put(r, rec, err);
	if (tc_hold_add(&r->hold, rec, r->source->mapped, err) < 0)
		return -1;
	if (rec->kind != TC_KIND_TENSOR)
		return 0;
	complete = tc_forward_take(&r->forward, rec, r->source->mapped, err);
	return complete > 0 ? run_block(r, err) : complete;
}

int
tc_sequential_run(struct tc_source *source, struct tc_writer *w, const struct tc_pass *pass,
    const struct tc_sequential *s, struct tc_ledger *ledger, struct tc_err *err)
{
	struct run r = { .s = s, .pass = pass, .source = source, .w = w, .ledger = ledger };
	struct tc_record rec;
	int got = tc_forward_open(&r.forward, &source->header, s->pool, err);

	r.forward.waits = true;
	tc_ledger_begin(ledger, &source->header);
	while (got >= 0 && (got = tc_source_next(source, &rec, err)) > 0)
		if (take(&r, &rec, err) < 0)
			got = -1;
	if (got == 0 && r.forward.block.index >= 0)
		got = tc_block_complete(&r.forward.block, &r.forward.config, err);
	forget_block(&r);
	tc_gather_clear(&r.gather);
	tc_forward_close(&r.forward);
	free(r.length);
	free(r.ids);
	return got;
}
