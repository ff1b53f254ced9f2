/* tc-fisher: squared gradients of a model's weights on calibration text.  See
 * tc-fisher(1).
 *
 * The weights are needed twice, forwards and backwards, so every record is held
 * (in the mapping it lies in, where there is one) until the statistics are
 * known. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/columns.h"
#include "cli/draw.h"
#include "cli/spill.h"
#include "kernel/kernel.h"
#include "metric/paired.h"
#include "stats/fisher.h"
#include "stream/hold.h"

#define TAG "fisher"
#define DEFAULT_SAMPLES 32
#define DEFAULT_SEQLEN 512
#define DEFAULT_GROUP 128

struct args {
	struct tc_common common;
	const char *per, *rank;
	int64_t group;
	bool stats_only;
};

#define FIELD(f) offsetof(struct args, f)
static const struct tc_option options[] = {
	{ .name = "per", .type = TC_OPT_NAME, .offset = FIELD(per), .arg = "WHAT", .names = "weight|row|column|group|tensor",
	  .help = "what a sum is kept for: weight, row, column, group or tensor (default weight)" },
	{ .name = "group", .type = TC_OPT_COUNT, .offset = FIELD(group), .arg = "N", .min = 1, .max = 1 << 30,
	  .help = "inputs of a group, with --per group (default 128)" },
	{ .name = "rank", .type = TC_OPT_NAME, .offset = FIELD(rank), .arg = "BY", .names = "tensor|role|depth",
	  .role = TC_OPT_FREE, .help = "print a ranking by tensor, role or depth; no stream but with -o" },
	{ .name = "stats-only", .type = TC_OPT_FLAG, .offset = FIELD(stats_only),
	  .help = "write statistics and tokens, no weights" },
	{ .type = TC_OPT_END }
};

static const struct tc_stage stage = {
	.name = "tc-fisher",
	.summary = "add squared gradients to a model stream",
	.operands = "[MODEL]",
	.operands_max = 1,
	.options = options,
	.common = TC_COMMON_ALWAYS | TC_COMMON_OUTPUT | TC_COMMON_TEXT | TC_COMMON_SAMPLE | TC_COMMON_SEED |
	    TC_COMMON_COMPUTE | TC_COMMON_JSON,
	.common_offset = offsetof(struct args, common),
};

static const struct per {
	const char *name;
	enum tc_stat_kind kind;
} pers[] = {
	{ "weight", TC_STAT_FISHER_WEIGHT },
	{ "row", TC_STAT_FISHER_ROW },
	{ "column", TC_STAT_FISHER_COLUMN },
	{ "group", TC_STAT_FISHER_GROUP },
	{ "tensor", TC_STAT_FISHER },
};

struct work {
	const struct args *a;
	struct tc_cli *cli;
	struct tc_source *source;
	struct tc_tokenizer *tokenizer;
	struct tc_ids text;
	struct tc_draw draw;
	struct tc_forward forward;
	bool forward_open, started;
	struct tc_hold hold;               /* every record */
	size_t params, params_done;
	const struct tc_tensor **tensor;   /* [params], into hold */
	size_t *place;                     /* [hold.n]: of a tensor among the parameters */
	struct tc_loss loss;
	double *value;
	struct tc_fisher fisher;
	enum tc_stat_kind kind;            /* --per */
};

/* ---- forwards ---- */

static int
check_lengths(const struct work *w, struct tc_err *err)
{
	const struct tc_draw *d = &w->draw;
	bool equal = true;

	for (size_t i = 0; i < d->nseq; i++) {
		if (d->length[i] < 2)
			return tc_fail(err, TC_DATA, "sequence %llu has one token: nothing is predicted",
			    (unsigned long long)(d->first + i));
		equal = equal && d->length[i] == d->length[0];
	}
	if (!equal)
		tc_cli_say(w->cli, "sequences of unequal length: squared gradients of a mean are smaller for long ones");
	return 0;
}

static void
say_finished(void *ctx, size_t param)
{
	struct work *w = ctx;

	w->params_done++;
	tc_cli_progress(w->cli, "backward: %s, %zu of %zu tensors", w->tensor[param]->name, w->params_done, w->params);
}

static int
open_fisher(struct work *w, struct tc_err *err)
{
	struct tc_fisher_options o = { .kind = w->kind, .group = w->a->group == TC_UNSET ? DEFAULT_GROUP : (uint64_t)w->a->group,
		.first = w->draw.first, .finished = say_finished, .ctx = w };
	struct tc_spill_options spill;
	int r;

	if (tc_fisher_open(&w->fisher, &w->forward, &o, err) < 0 ||
	    tc_cli_spill(w->cli, tc_fisher_bytes(&w->fisher), 2, &spill) < 0)
		return -1;
	r = tc_fisher_alloc(&w->fisher, &spill, err);
	tc_cli_spill_close(&spill);
	return r;
}

/* All files have come, the tensors begin. */
static int
start(struct work *w)
{
	struct tc_exec_options o = { .with_gradient = true };
	struct tc_err *err = &w->cli->err;
	size_t size_bytes;

	if (tc_cli_tokens(w->cli, w->tokenizer, "text/calib.txt", TC_TEXT_RUNNING, &w->text) < 0 ||
	    tc_cli_draw(w->cli, &w->text, w->forward.config.positions, DEFAULT_SAMPLES, DEFAULT_SEQLEN, &w->draw) < 0)
		return -1;
	if (check_lengths(w, err) < 0)
		return -1;
	w->started = true;
	/* Half of the memory is for the statistics. */
	if (tc_cli_forward_tokens(w->cli, &w->forward, w->draw.nseq, w->draw.length, w->draw.ids, o, 2) < 0)
		return -1;
	size_bytes = tc_gradient_bytes(&w->forward.config, w->forward.exec.start, w->draw.nseq);
	if (size_bytes > tc_cli_free_bytes())
		tc_cli_say(w->cli, "the gradient of a batch takes about %zu MB, more than is free: shorter sequences take less",
		    size_bytes / 1000000);
	return open_fisher(w, err);
}

/* Statistics and tokens of an earlier run are replaced. */
static bool
replaced(const struct tc_record *r)
{
	return (r->kind == TC_KIND_TOKENS && strcmp(r->u.tokens.tag, TAG) == 0) ||
	    (r->kind == TC_KIND_STAT && strcmp(r->u.stat.tag, TAG) == 0);
}

static int
take(struct work *w, const struct tc_record *r)
{
	struct tc_err *err = &w->cli->err;

	if (replaced(r))
		return 0;
	if (tc_cli_take_tokenizer(w->cli, r, &w->tokenizer) < 0 || tc_hold_add(&w->hold, r, w->source->mapped, err) < 0)
		return -1;
	if (r->kind == TC_KIND_TENSOR && !w->started && start(w) < 0)
		return -1;
	if (r->kind != TC_KIND_TENSOR && r->kind != TC_KIND_REF)
		return 0;
	if (!w->started)
		return tc_fail(err, TC_DATA, "the head comes before any tensor");
	/* What is held stays. */
	if (tc_forward_take(&w->forward, &w->hold.item[w->hold.n - 1].r, true, err) < 0)
		return -1;
	tc_cli_progress(w->cli, "forward: block %zu of %zu", w->forward.blocks_done, w->forward.config.layers);
	return 0;
}

/* ---- backwards ---- */

/* The held tensors in the order of the model's description. */
static int
find_tensors(struct work *w, struct tc_err *err)
{
	w->params = tc_config_tensors(&w->forward.config);
	w->tensor = tc_zalloc(w->params, sizeof(*w->tensor), err);
	w->place = tc_alloc(w->hold.n, sizeof(*w->place), err);
	if (!w->tensor || !w->place)
		return -1;
	for (size_t i = 0; i < w->hold.n; i++) {
		const struct tc_tensor *t = &w->hold.item[i].r.u.tensor;

		if (w->hold.item[i].r.kind != TC_KIND_TENSOR)
			continue;
		w->place[i] = tc_config_place(&w->forward.config, t);
		w->tensor[w->place[i]] = t;
	}
	return 0;
}

static int
backwards(struct work *w)
{
	struct tc_final final = tc_forward_final(&w->forward);
	struct tc_gradient_visitor visitor;
	struct tc_err *err = &w->cli->err;

	if (find_tensors(w, err) < 0 ||
	    tc_loss_next_tokens(&w->loss, w->draw.nseq, w->forward.exec.start, w->draw.ids, err) < 0)
		return -1;
	w->loss.model = &final;
	w->value = tc_alloc(w->loss.n, sizeof(*w->value), err);
	if (!w->value)
		return -1;
	visitor = tc_fisher_visitor(&w->fisher);
	return tc_gradient_run(&w->forward, w->tensor, &w->loss, w->value, &visitor, err);
}

static double
mean_nll(const struct work *w)
{
	double sum = 0;

	for (size_t i = 0; i < w->loss.n; i++)
		sum += w->value[i];
	return sum / (double)w->loss.n;
}

/* ---- the stream ---- */

static int
put_stats(struct work *w, size_t param)
{
	struct tc_err *err = &w->cli->err;
	const enum tc_stat_kind kinds[] = { TC_STAT_FISHER, w->kind };

	for (size_t k = 0; k < (w->kind == TC_STAT_FISHER ? 1 : 2); k++) {
		struct tc_record r;
		int got = tc_fisher_record(&w->fisher, param, kinds[k], w->source->header.nsteps, &r, err);

		if (got > 0)
			got = tc_writer_put(w->cli->writer, &r, err);
		tc_fisher_record_free(&r);
		if (got < 0)
			return -1;
	}
	return 0;
}

static int
put(struct work *w, size_t i, bool *tokens)
{
	const struct tc_record *r = &w->hold.item[i].r;

	if (r->kind == TC_KIND_TENSOR && !*tokens) {
		*tokens = true;
		if (tc_cli_draw_put(w->cli, &w->draw, TAG, &w->text) < 0)
			return -1;
	}
	if (r->kind == TC_KIND_TENSOR && put_stats(w, w->place[i]) < 0)
		return -1;
	if (w->a->stats_only && (r->kind == TC_KIND_TENSOR || r->kind == TC_KIND_REF || r->kind == TC_KIND_FILE))
		return 0;
	return tc_writer_put(w->cli->writer, r, &w->cli->err);
}

static int
write_stream(struct work *w)
{
	bool tokens = false;

	for (size_t i = 0; i < w->hold.n; i++)
		if (put(w, i, &tokens) < 0)
			return -1;
	return tc_cli_stream_end(w->cli, w->source);
}

/* ---- the ranking ---- */

struct ranked {
	char *name;
	size_t weights;
	double mean, error, share; /* of a squared gradient; of all squares */
	double *sums;              /* [nseq] */
};

#define AT(f) .offset = offsetof(struct ranked, f)
static const struct tc_column columns[] = {
	{ "name", TC_CELL_TEXT, AT(name) },
	{ "weights", TC_CELL_COUNT, AT(weights) },
	{ "mean", TC_CELL_REAL, AT(mean), .digits = 4 },
	{ "stderr", TC_CELL_REAL, AT(error), .digits = 1 },
	{ "share", TC_CELL_REAL, AT(share), 0.01, 2, "%" },
	{ 0 }
};

/* "q", "q bias"; "block 3"; a tensor's own name. */
static void
name_of(const struct work *w, const struct tc_tensor *t, char name[TC_NAME_MAX])
{
	if (strcmp(w->a->rank, "tensor") == 0)
		snprintf(name, TC_NAME_MAX, "%s", t->name);
	else if (strcmp(w->a->rank, "depth") == 0)
		snprintf(name, TC_NAME_MAX, "block %d", t->block);
	else
		snprintf(name, TC_NAME_MAX, "%s%s", tc_role_names[t->role], t->bias ? " bias" : "");
}

static int
by_mean(const void *x, const void *y)
{
	const struct ranked *a = x, *b = y;

	if (a->mean != b->mean)
		return (a->mean < b->mean) - (a->mean > b->mean);
	return strcmp(a->name, b->name);
}

static int
add_ranked(const struct work *w, struct ranked *rows, size_t *n, size_t param, struct tc_err *err)
{
	const struct tc_tensor *t = w->tensor[param];
	char name[TC_NAME_MAX];
	size_t i = 0;

	name_of(w, t, name);
	while (i < *n && strcmp(rows[i].name, name) != 0)
		i++;
	if (i == *n) {
		rows[i].name = tc_strndup(name, strlen(name), err);
		rows[i].sums = tc_zalloc(w->draw.nseq, sizeof(double), err);
		++*n;
		if (!rows[i].name || !rows[i].sums)
			return -1;
	}
	rows[i].weights += tc_tensor_elements(t);
	for (size_t s = 0; s < w->draw.nseq; s++)
		rows[i].sums[s] += w->fisher.sums[param * w->draw.nseq + s];
	return 0;
}

/* Means over sequences, with their errors, the largest first. */
static int
rank(const struct work *w, struct ranked *rows, size_t n, struct tc_err *err)
{
	double *ones = tc_alloc(w->draw.nseq, sizeof(*ones), err), all = 0;

	if (!ones)
		return -1;
	for (size_t s = 0; s < w->draw.nseq; s++)
		ones[s] = 1;
	for (size_t i = 0; i < n; i++) {
		struct tc_mean m = tc_mean_of(w->draw.nseq, rows[i].sums, ones);

		rows[i].mean = m.mean / (double)rows[i].weights;
		rows[i].error = w->draw.nseq > 1 ? m.stderr_ / (double)rows[i].weights : NAN;
		all += m.mean;
	}
	for (size_t i = 0; i < n; i++)
		rows[i].share = rows[i].mean * (double)rows[i].weights / all;
	free(ones);
	qsort(rows, n, sizeof(*rows), by_mean);
	return 0;
}

static int
print_ranking(struct work *w, const struct tc_rows *rows)
{
	json_t *o;

	if (!w->cli->common->json) {
		tc_columns_text(columns, rows);
		return 0;
	}
	o = json_pack("{s:s,s:I,s:I,s:f,s:o}", "by", w->a->rank, "sequences", (json_int_t)w->draw.nseq, "tokens",
	    (json_int_t)w->draw.ntokens, "nll", mean_nll(w), "ranking", tc_columns_json(columns, rows));
	return tc_cli_print_json_new(w->cli, o);
}

static int
show_ranking(struct work *w)
{
	struct tc_err *err = &w->cli->err;
	struct ranked *rows = tc_zalloc(w->params, sizeof(*rows), err);
	size_t n = 0;
	int r = rows ? 0 : -1;

	for (size_t i = 0; r == 0 && i < w->params; i++)
		if (strcmp(w->a->rank, "depth") != 0 || w->tensor[i]->block >= 0)
			r = add_ranked(w, rows, &n, i, err);
	if (r == 0)
		r = rank(w, rows, n, err);
	if (r == 0)
		r = print_ranking(w, &(struct tc_rows){ rows, n, sizeof(*rows) });
	for (size_t i = 0; i < n; i++) {
		free(rows[i].name);
		free(rows[i].sums);
	}
	free(rows);
	return r;
}

/* ---- all of it ---- */

static bool
streams(const struct args *a)
{
	return !a->rank || a->common.output;
}

static int
check_args(struct work *w)
{
	const struct args *a = w->a;
	struct tc_err *err = &w->cli->err;

	for (size_t i = 0; i < sizeof(pers) / sizeof(pers[0]); i++)
		if (strcmp(pers[i].name, a->per) == 0)
			w->kind = pers[i].kind;
	if (a->group != TC_UNSET && w->kind != TC_STAT_FISHER_GROUP)
		return tc_fail(err, TC_USAGE, "--group goes with --per group");
	if (a->common.json && !a->rank)
		return tc_fail(err, TC_USAGE, "--json goes with --rank");
	if (a->rank && a->common.output && strcmp(a->common.output, "-") == 0)
		return tc_fail(err, TC_USAGE, "--rank and the stream cannot both be on standard output");
	if (a->stats_only && !streams(a))
		return tc_fail(err, TC_USAGE, "--stats-only goes with a stream, which --rank writes with -o only");
	/* A ranking alone asks for no more. */
	if (!streams(a))
		w->kind = TC_STAT_FISHER;
	return 0;
}

static int
run(struct work *w)
{
	struct tc_err *err = &w->cli->err;
	struct tc_record r;
	int got;

	if (check_args(w) < 0 || tc_cli_model_kept(w->cli, 0, &w->source) < 0 ||
	    tc_forward_open(&w->forward, &w->source->header, w->cli->pool, err) < 0)
		return -1;
	w->forward_open = true;
	if (streams(w->a) && tc_cli_stream_out(w->cli, w->source, tc_kernels_name()) < 0)
		return -1;
	while ((got = tc_source_next(w->source, &r, err)) > 0)
		if (take(w, &r) < 0)
			return -1;
	if (got < 0)
		return -1;
	if (!w->started)
		return tc_fail(err, TC_DATA, "the stream has no weights");
	if (tc_forward_finish(&w->forward, err) < 0 || backwards(w) < 0 || (streams(w->a) && write_stream(w) < 0))
		return -1;
	tc_cli_say(w->cli, "%zu sequences, %zu tokens, NLL %.4f", w->draw.nseq, w->draw.ntokens, mean_nll(w));
	return w->a->rank ? show_ranking(w) : 0;
}

int
main(int argc, char **argv)
{
	struct args a = { .common = tc_common_defaults, .per = pers[0].name, .group = TC_UNSET };
	struct tc_cli cli;
	struct work w = { .a = &a, .cli = &cli };

	tc_cli_begin(&cli, &stage, &a, argc, argv);
	(void)!run(&w);
	tc_fisher_close(&w.fisher);
	tc_loss_free(&w.loss);
	free(w.value);
	free(w.tensor);
	free(w.place);
	if (w.forward_open)
		tc_forward_close(&w.forward);
	tc_hold_clear(&w.hold);
	tc_tokenizer_free(w.tokenizer);
	tc_ids_free(&w.text);
	tc_draw_free(&w.draw);
	tc_source_close(w.source);
	return tc_cli_end(&cli);
}
