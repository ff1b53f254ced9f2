/* tc-calib: runs calibration text through a model stream and adds activation
 * statistics to it.  See tc-calib(1).
 *
 * Weights go through as they come; those of one block are held until its
 * statistics are known, because a statistic stands before the first layer
 * that reads its site. */
#include <string.h>

#include "cli/cli.h"
#include "cli/draw.h"
#include "cli/spill.h"
#include "kernel/kernel.h"
#include "model/forward.h"
#include "stats/gather.h"
#include "stream/hold.h"

#define DEFAULT_SAMPLES 128
#define DEFAULT_SEQLEN 1024

struct args {
	struct tc_common common;
	bool hessian, tokens_only, stats_only;
};

#define FIELD(f) offsetof(struct args, f)
static const struct tc_option options[] = {
	{ .name = "hessian", .type = TC_OPT_FLAG, .offset = FIELD(hessian),
	  .help = "gather Hessians (sum of x x^T) as well" },
	{ .name = "tokens-only", .type = TC_OPT_FLAG, .offset = FIELD(tokens_only),
	  .help = "put the tokens into the stream, run nothing" },
	{ .name = "stats-only", .type = TC_OPT_FLAG, .offset = FIELD(stats_only),
	  .help = "write statistics and tokens, no weights" },
	{ .type = TC_OPT_END }
};

static const struct tc_stage stage = {
	.name = "tc-calib",
	.summary = "add activation statistics to a model stream",
	.operands = "[MODEL]",
	.operands_max = 1,
	.options = options,
	.common = TC_COMMON_ALWAYS | TC_COMMON_OUTPUT | TC_COMMON_TEXT | TC_COMMON_SAMPLE | TC_COMMON_SEED |
	    TC_COMMON_COMPUTE,
	.common_offset = offsetof(struct args, common),
};

struct calib {
	const struct args *a;
	struct tc_cli *cli;
	struct tc_source *source;
	struct tc_tokenizer *tokenizer;
	struct tc_ids text;
	struct tc_draw draw;
	struct tc_forward forward;
	bool forward_open;
	struct tc_gather gather;
	struct tc_hold hold;        /* of the block in flight */
	bool started;               /* the tokens are written */
};

/* All files have come, the tensors begin. */
static int
start(struct calib *c)
{
	struct tc_exec_options o = { .with_hooks = true };

	if (tc_cli_tokens(c->cli, c->tokenizer, "text/calib.txt", TC_TEXT_RUNNING, &c->text) < 0 ||
	    tc_cli_draw(c->cli, &c->text, c->forward.config.positions, DEFAULT_SAMPLES, DEFAULT_SEQLEN, &c->draw) < 0 ||
	    tc_cli_draw_put(c->cli, &c->draw, "calib", &c->text) < 0)
		return -1;
	c->started = true;
	if (c->a->tokens_only)
		return 0;
	c->gather = (struct tc_gather){ .pool = c->cli->pool, .first = c->draw.first,
		.kind = { [TC_STAT_SQ] = true, [TC_STAT_ABS] = true, [TC_STAT_MAX] = true, [TC_STAT_HESSIAN] = c->a->hessian } };
	c->forward.hook = tc_gather_hook;
	c->forward.hook_ctx = &c->gather;
	return tc_cli_forward_tokens(c->cli, &c->forward, c->draw.nseq, c->draw.length, c->draw.ids, o, 1);
}

static int
write_stats(struct calib *c, enum tc_site site, int block)
{
	struct tc_err *err = &c->cli->err;

	for (int k = 0; k < TC_STAT_SITE_KINDS; k++) {
		struct tc_record r;
		int got = tc_gather_record(&c->gather, site, (enum tc_stat_kind)k, block, c->source->header.nsteps, &r, err);

		if (got > 0) {
			got = tc_writer_put(c->cli->writer, &r, err);
			tc_gather_record_free(&r);
		}
		if (got < 0)
			return -1;
	}
	return 0;
}

/* Writes a record of the block in flight, the statistics of its site first. */
static int
write_held(struct calib *c, const struct tc_record *r, unsigned *sites_written)
{
	int site = r->kind == TC_KIND_TENSOR ? tc_role_site(r->u.tensor.role) : -1;

	if (site >= 0 && !(*sites_written & 1u << site)) {
		*sites_written |= 1u << site;
		if (write_stats(c, (enum tc_site)site, r->u.tensor.block) < 0)
			return -1;
	}
	if (c->a->stats_only && r->kind == TC_KIND_TENSOR)
		return 0;
	return tc_writer_put(c->cli->writer, r, &c->cli->err);
}

static int
write_block(struct calib *c)
{
	unsigned written = 0;

	if (c->gather.err.code) {
		c->cli->err = c->gather.err;
		return -1;
	}
	for (size_t i = 0; i < c->hold.n; i++)
		if (write_held(c, &c->hold.item[i].r, &written) < 0)
			return -1;
	tc_hold_clear(&c->hold);
	tc_gather_clear(&c->gather);
	tc_cli_progress(c->cli, "block %zu of %zu", c->forward.blocks_done, c->forward.config.layers);
	return 0;
}

/* The head's inputs are the normalised final states. */
static void
gather_head_in(struct calib *c)
{
	const struct tc_exec *e = &c->forward.exec;
	size_t width = c->forward.config.width;

	for (size_t s = 0; s < e->nseq; s++)
		tc_gather_hook(&c->gather, TC_SITE_HEAD_IN, s, e->hidden + e->start[s] * width, e->start[s + 1] - e->start[s], width);
}

static int
put_or_drop(struct calib *c, const struct tc_record *r)
{
	if (c->a->stats_only && (r->kind == TC_KIND_TENSOR || r->kind == TC_KIND_REF || r->kind == TC_KIND_FILE))
		return 0;
	return tc_writer_put(c->cli->writer, r, &c->cli->err);
}

static int
take_head(struct calib *c, const struct tc_record *r)
{
	gather_head_in(c);
	if (c->gather.err.code) {
		c->cli->err = c->gather.err;
		return -1;
	}
	if (write_stats(c, TC_SITE_HEAD_IN, -1) < 0)
		return -1;
	tc_gather_clear(&c->gather);
	return put_or_drop(c, r);
}

static bool
is_head(const struct tc_record *r)
{
	return r->kind == TC_KIND_REF || (r->kind == TC_KIND_TENSOR && r->u.tensor.role == TC_ROLE_HEAD);
}

/* Our own statistics and tokens replace those of an earlier calibration. */
static bool
replaced(const struct calib *c, const struct tc_record *r)
{
	if (r->kind == TC_KIND_TOKENS)
		return strcmp(r->u.tokens.tag, "calib") == 0;
	return r->kind == TC_KIND_STAT && !c->a->tokens_only && !tc_stat_is_of_tensor(r->u.stat.kind) &&
	    strcmp(r->u.stat.tag, "calib") == 0 && (r->u.stat.kind != TC_STAT_HESSIAN || c->a->hessian);
}

static int
take(struct calib *c, const struct tc_record *r)
{
	struct tc_err *err = &c->cli->err;
	int done;

	if (replaced(c, r))
		return 0;
	if (tc_cli_take_tokenizer(c->cli, r, &c->tokenizer) < 0)
		return -1;
	if (r->kind == TC_KIND_TENSOR && !c->started && start(c) < 0)
		return -1;
	if (c->a->tokens_only || !c->started)
		return put_or_drop(c, r);
	if (r->kind != TC_KIND_TENSOR && r->kind != TC_KIND_REF) {
		if (c->forward.block.index >= 0)
			return tc_hold_add(&c->hold, r, c->source->mapped, err);
		return put_or_drop(c, r);
	}
	done = tc_forward_take(&c->forward, r, c->source->mapped, err);
	if (done < 0)
		return -1;
	if (is_head(r))
		return take_head(c, r);
	if (r->u.tensor.block < 0)
		return put_or_drop(c, r);
	if (tc_hold_add(&c->hold, r, c->source->mapped, err) < 0)
		return -1;
	return done ? write_block(c) : 0;
}

static int
run(struct tc_cli *cli, const struct args *a, struct calib *c)
{
	struct tc_record r;
	int got;

	if (a->tokens_only && (a->stats_only || a->hessian))
		return tc_fail(&cli->err, TC_USAGE, "--tokens-only excludes --stats-only and --hessian");
	if (tc_cli_model(cli, 0, &c->source) < 0 ||
	    tc_forward_open(&c->forward, &c->source->header, cli->pool, &cli->err) < 0)
		return -1;
	c->forward_open = true;
	if (tc_cli_stream_out(cli, c->source, a->tokens_only ? "" : tc_kernels_name()) < 0)
		return -1;
	while ((got = tc_source_next(c->source, &r, &cli->err)) > 0)
		if (take(c, &r) < 0)
			return -1;
	if (got < 0 || (!a->tokens_only && tc_forward_finish(&c->forward, &cli->err) < 0))
		return -1;
	if (!c->started)
		return tc_fail(&cli->err, TC_DATA, "the stream has no weights");
	return tc_cli_stream_end(cli, c->source);
}

int
main(int argc, char **argv)
{
	struct args a = { .common = tc_common_defaults };
	struct tc_cli cli;
	struct calib c = { .a = &a, .cli = &cli };

	tc_cli_begin(&cli, &stage, &a, argc, argv);
	(void)!run(&cli, &a, &c);
	if (c.forward_open)
		tc_forward_close(&c.forward);
	tc_gather_clear(&c.gather);
	tc_hold_clear(&c.hold);
	tc_tokenizer_free(c.tokenizer);
	tc_ids_free(&c.text);
	tc_draw_free(&c.draw);
	tc_source_close(c.source);
	return tc_cli_end(&cli);
}
