/* tc-lowrank: factors the weights of a model stream.  See tc-lowrank(1). */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "cli/cli.h"
#include "cli/errors_file.h"
#include "cli/select.h"
#include "cli/spill.h"
#include "cli/stats_file.h"
#include "kernel/kernel.h"
#include "method/lowrank.h"
#include "method/measures.h"
#include "method/ranks.h"
#include "method/sequential.h"
#include "stream/hold.h"

#define DEFAULT_DAMP 0.01

/* The model whose weights quantization has taken something from. */
struct base {
	const char *path;
	struct tc_source *source;
	struct tc_hold hold;       /* the matrices of its linear layers */
	uint64_t hash;             /* of these */
	bool read;
};

/* What becomes of a tensor by the budget. */
struct plan {
	size_t n;
	struct tc_rank_item *item;
	char (*name)[TC_NAME_MAX];
};

struct args {
	struct tc_common common;
	int64_t rank;
	double threshold, budget;
	const char *metric, *dtype, *order, *errors;
	bool residual, sequential;
	struct base base;
	double damp;
	struct tc_stats_file stats;
	/* derived */
	struct tc_cli *cli;
	enum tc_dtype type;
	struct tc_hold hold;       /* every record, where they are looked at first */
	struct plan plan;
	bool looking;              /* at spectra */
	struct tc_measures measures;
	bool told_stale;
	struct tc_quantized out;   /* of the tensor in hand */
	size_t done, left, ranks;
	struct tc_errors_file errors_file;
};

static int
parse_base(const char *value, void *field, struct tc_err *err)
{
	struct base *b = field;

	(void)err; /* it is opened later */
	b->path = value;
	return 0;
}

/* Which weights, not where they were read. */
static void
print_base(const void *field, char *buf, size_t size)
{
	const struct base *b = field;

	buf[0] = '\0';
	if (b->read)
		snprintf(buf, size, "%016llx", (unsigned long long)b->hash);
}

#define FIELD(f) offsetof(struct args, f)
static const struct tc_option options[] = {
	{ .name = "rank", .type = TC_OPT_COUNT, .offset = FIELD(rank), .arg = "R", .min = 1, .max = 1 << 20,
	  .help = "every tensor's rank" },
	{ .name = "threshold", .type = TC_OPT_REAL, .offset = FIELD(threshold), .arg = "E", .min = 0, .max = 1,
	  .help = "the smallest rank whose relative squared error of the output is at most E" },
	{ .name = "bits-budget", .type = TC_OPT_REAL, .offset = FIELD(budget), .arg = "B", .min = 0.01, .max = 64,
	  .help = "ranks with which the linear layers take B bits per weight and err least" },
	{ .name = "metric", .type = TC_OPT_NAME, .offset = FIELD(metric), .arg = "NAME", .names = "hessian|norm|none",
	  .help = "what errors count by (default the first that is known)" },
	{ .name = "dtype", .type = TC_OPT_NAME, .offset = FIELD(dtype), .arg = "TYPE", .names = "f16|bf16|f32",
	  .help = "type of the factors (default f16)" },
	{ .name = "residual", .type = TC_OPT_FLAG, .offset = FIELD(residual),
	  .help = "factor what the weights lack of --base's, and add it" },
	{ .name = "base", .type = TC_OPT_CALL, .offset = FIELD(base), .arg = "MODEL", .parse = parse_base, .print = print_base,
	  .help = "with --residual: the model as it was" },
	{ .name = "sequential", .type = TC_OPT_FLAG, .offset = FIELD(sequential),
	  .help = "measure each block on what the factored ones before it give" },
	{ .name = "order", .type = TC_OPT_NAME, .offset = FIELD(order), .arg = "HOW", .names = "block|layer",
	  .help = "with --sequential: measure a block whole, or each layer on those before (default block)" },
	{ .name = "damp", .type = TC_OPT_REAL, .offset = FIELD(damp), .arg = "D", .min = 0, .max = 1,
	  .help = "share of its mean added to the metric's diagonal (default 0.01)" },
	{ .name = "errors", .type = TC_OPT_TEXT, .offset = FIELD(errors), .arg = "FILE", .role = TC_OPT_FREE,
	  .help = "write what error each tensor is left with, as JSON" },
	{ .name = "stats", .type = TC_OPT_CALL, .offset = FIELD(stats), .arg = "FILE", .parse = tc_stats_file_parse, .print = tc_stats_file_print,
	  .help = "a stream whose statistics stand in for those of MODEL" },
	{ .name = "memory", .type = TC_OPT_SIZE, .offset = FIELD(common.memory), .arg = "SIZE", .role = TC_OPT_FREE,
	  .min = 1 << 20, .max = 0x1p62, .help = "most bytes of hidden states in memory, K M G T may follow" },
	{ .type = TC_OPT_END }
};

static const struct tc_stage stage = {
	.name = "tc-lowrank",
	.summary = "factor the weights of a model stream",
	.operands = "[MODEL]",
	.operands_max = 1,
	.options = options,
	.common = TC_COMMON_ALWAYS | TC_COMMON_OUTPUT | TC_COMMON_SELECT | TC_COMMON_STRIP,
	.common_offset = offsetof(struct args, common),
};

static bool
has_metric(const struct args *a, const char *name)
{
	return a->metric && strcmp(a->metric, name) == 0;
}

static int
derive(struct args *a, struct tc_err *err)
{
	if ((a->rank != TC_UNSET) + !isnan(a->threshold) + !isnan(a->budget) != 1)
		return tc_fail(err, TC_USAGE, "one of --rank, --threshold and --bits-budget must be given");
	if (a->residual != (a->base.path != NULL))
		return tc_fail(err, TC_USAGE, "--residual and --base go together");
	if (a->order && !a->sequential)
		return tc_fail(err, TC_USAGE, "--order goes with --sequential");
	if (has_metric(a, "none") && (a->sequential || a->stats.path || !isnan(a->damp)))
		return tc_fail(err, TC_USAGE, "--metric none counts by nothing: not with --sequential, --stats or --damp");
	if (a->sequential && a->stats.path && isnan(a->budget))
		return tc_fail(err, TC_USAGE, "--sequential measures what --stats would say");
	a->type = (enum tc_dtype)tc_dtype_find(a->dtype, strlen(a->dtype));
	return 0;
}

static bool
chosen(const struct args *a, const struct tc_tensor *t)
{
	return !t->bias && t->ndim == 2 && tc_role_is_linear(t->role) &&
	    tc_select_matches(&a->common.include, &a->common.exclude, t->name);
}

/* ---- the base ---- */

static int
hold_base(struct base *b, struct tc_err *err)
{
	struct tc_record r;
	int got;

	b->hash = XXH3_64bits(NULL, 0);
	while ((got = tc_source_next(b->source, &r, err)) > 0) {
		const struct tc_tensor *t = &r.u.tensor;

		if (r.kind != TC_KIND_TENSOR || t->bias || !tc_role_is_linear(t->role))
			continue;
		for (int i = 0; i < t->nparts; i++)
			b->hash = XXH3_64bits_withSeed(t->part[i].data, t->part[i].size_bytes, b->hash);
		if (tc_hold_add(&b->hold, &r, b->source->mapped, err) < 0)
			return -1;
	}
	b->read = true;
	return got;
}

static int
open_base(struct tc_cli *cli, struct args *a)
{
	if (!a->base.path)
		return 0;
	if (tc_cli_model_path_kept(cli, a->base.path, &a->base.source) < 0 || hold_base(&a->base, &cli->err) < 0)
		return -1;
	return tc_options_canonical(&stage, a, cli->options, sizeof(cli->options), &cli->err);
}

/* The base's tensor of t's name. */
static const struct tc_tensor *
in_base(const struct base *b, const struct tc_tensor *t, struct tc_err *err)
{
	for (size_t i = 0; i < b->hold.n; i++) {
		const struct tc_tensor *w = &b->hold.item[i].r.u.tensor;

		if (strcmp(w->name, t->name) != 0)
			continue;
		if (w->shape[0] == t->shape[0] && w->shape[1] == t->shape[1])
			return w;
		tc_fail(err, TC_DATA, "%s: has another shape in the base", t->name);
		return NULL;
	}
	tc_fail(err, TC_DATA, "%s: is not in the base", t->name);
	return NULL;
}

/* ---- a tensor ---- */

struct work {
	struct tc_quant_input known;     /* w: what is to be stood for; its statistics */
	struct tc_lowrank_input in;
};

/* By what t's errors count. */
static int
fill_metric(struct args *a, const struct tc_tensor *t, struct work *k, struct tc_err *err)
{
	bool stale;

	if (a->stats.path && (a->looking || !a->sequential) && tc_measures_feed(&a->measures, &a->stats.hold, t->block, true, err) < 0)
		return -1;
	if (tc_measures_site(&a->measures, (enum tc_site)tc_role_site(t->role), NULL, &k->known, &stale, err) < 0)
		return -1;
	if ((has_metric(a, "hessian") && !k->known.hessian) || (has_metric(a, "norm") && !k->known.squares))
		return tc_fail(err, TC_DATA, "%s: %s (tc-calib%s%s)", t->name,
		    has_metric(a, "norm") ? "its inputs' squares are not known" : "its inputs' Hessian is not known",
		    has_metric(a, "norm") ? "" : " --hessian",
		    a->sequential ? ": --bits-budget looks before --sequential measures" : ", or --sequential");
	if (has_metric(a, "none"))
		return 0;
	k->in.squares = k->known.squares;
	k->in.hessian = has_metric(a, "norm") ? NULL : k->known.hessian;
	if (stale && !a->told_stale)
		tc_cli_say(a->cli, "%s: its statistics were measured before weights upstream changed (--sequential measures anew)",
		    t->name);
	a->told_stale |= stale;
	return 0;
}

static int
fill_work(struct args *a, const struct tc_tensor *t, struct work *k, struct tc_err *err)
{
	const struct tc_tensor *w = a->residual ? in_base(&a->base, t, err) : t;

	if (!w)
		return -1;
	if (t->rank > 0)
		return tc_fail(err, TC_DATA, "%s: has factors already", t->name);
	if (!a->residual && !tc_tensor_has_numbers(t))
		return tc_fail(err, TC_DATA, "%s: is quantized already: --residual adds to it", t->name);
	if (!a->residual && t->mask != TC_MASK_NONE)
		return tc_fail(err, TC_DATA, "%s: is pruned: factors would fill in what is not there (--residual adds to it)", t->name);
	if (tc_tensor_check_finite(w, err) < 0 || tc_tensor_check_finite(t, err) < 0)
		return -1;
	*k = (struct work){ .known.w = w, .in = { .w = w, .q = a->residual ? t : NULL,
		.damping = isnan(a->damp) ? DEFAULT_DAMP : a->damp } };
	return fill_metric(a, t, k, err);
}

/* The largest rank that takes fewer bytes than the tensor. */
static size_t
most_rank(const struct args *a, const struct tc_tensor *t)
{
	uint64_t bytes = tc_lowrank_bytes(tc_tensor_rows(t), tc_tensor_cols(t), 1, a->type);
	size_t n = tc_min(tc_tensor_rows(t), tc_tensor_cols(t));

	return a->residual ? n : (size_t)tc_min(n, (tc_tensor_bytes(t) - 1) / bytes);
}

/* NULL: there is no budget. */
static const struct tc_rank_item *
planned(const struct args *a, const struct tc_tensor *t)
{
	for (size_t i = 0; i < a->plan.n; i++)
		if (strcmp(a->plan.name[i], t->name) == 0)
			return &a->plan.item[i];
	return NULL;
}

static int
add_errors(struct args *a, const struct work *k, struct tc_err *err)
{
	const struct tc_tensor *t = &a->out.t;
	struct tc_errors_row row = { .name = t->name, .method = "lowrank", .bits = 8 * tc_dtypes[t->factor.dtype].size_bytes,
		.parameters = tc_tensor_elements(t) };
	struct tc_errors e;
	char rank[32];

	snprintf(rank, sizeof(rank), "rank %llu", (unsigned long long)t->rank);
	row.group = rank;
	return tc_errors_measure(&e, &k->known, t, a->cli->pool, err) < 0 ? -1 : tc_errors_file_add(&a->errors_file, &row, &e, err);
}

/* 1, or 0 where the tensor stays as it is. */
static int
factor(struct args *a, const struct tc_tensor *t, const struct work *k, size_t rank, struct tc_err *err)
{
	size_t most = most_rank(a, t);
	struct tc_lowrank l = {0};
	int r = 0;

	if (rank <= most)
		r = tc_lowrank_open(&l, &k->in, true, a->cli->pool, err);
	if (rank <= most && r == 0 && !isnan(a->threshold))
		rank = tc_max(tc_lowrank_rank_of(&l, a->threshold), a->residual ? 0 : 1);
	if (rank > 0 && rank <= most && r == 0 && l.lost[0] > 0)
		r = tc_lowrank_make(&l, rank, a->type, &a->out, a->cli->pool, err) < 0 ? -1 : 1;
	tc_lowrank_close(&l);
	a->left += r == 0;
	a->ranks += r > 0 ? rank : 0;
	if (r == 0)
		tc_cli_say(a->cli, rank > most ? "%s: factors of rank %zu take no fewer bytes: it stays as it is" :
		    "%s: rank %zu adds nothing: it stays as it is", t->name, rank);
	return r;
}

static size_t
asked_rank(const struct args *a, const struct tc_tensor *t)
{
	size_t n = tc_min(tc_tensor_rows(t), tc_tensor_cols(t));

	return a->rank == TC_UNSET ? 0 : tc_min((size_t)a->rank, n);
}

/* One tensor in, one tensor out; everything else passes through. */
static int
factor_tensor(void *ctx, const struct tc_tensor *in, struct tc_tensor *out, struct tc_err *err)
{
	struct args *a = ctx;
	const struct tc_rank_item *item;
	struct work k;
	int did;

	tc_quantized_free(&a->out);
	if (!chosen(a, in))
		return 0;
	item = planned(a, in);
	if (item ? item->stays || item->rank == 0 : !isnan(a->budget)) {
		a->left++;
		return 0;
	}
	if (fill_work(a, in, &k, err) < 0)
		return -1;
	did = factor(a, in, &k, item ? item->rank : asked_rank(a, in), err);
	if (did <= 0 || (a->errors && add_errors(a, &k, err) < 0))
		return did <= 0 ? did : -1;
	*out = a->out.t;
	a->done++;
	tc_cli_progress(a->cli, "%s", in->name);
	return 1;
}

/* ---- a look at all spectra ---- */

static bool
can_factor(const struct args *a, const struct tc_tensor *t)
{
	return chosen(a, t) && most_rank(a, t) > 0;
}

static int
plan_tensor(struct args *a, const struct tc_tensor *t, struct tc_err *err)
{
	struct plan *p = &a->plan;
	struct tc_rank_item *item = &p->item[p->n];
	struct tc_lowrank l;
	struct work k;
	double *error = NULL;
	int r = fill_work(a, t, &k, err);

	if (r == 0) {
		r = tc_lowrank_open(&l, &k.in, false, a->cli->pool, err);
		if (r == 0)
			error = tc_alloc(l.n + 1, sizeof(*error), err);
		for (size_t i = 0; error && i <= l.n; i++)
			error[i] = tc_lowrank_error(&l, i);
		tc_lowrank_close(&l);
	}
	if (!error)
		return -1;
	*item = (struct tc_rank_item){ .error = error, .most = most_rank(a, t), .least = a->residual ? 0 : 1,
		.bytes = tc_lowrank_bytes(tc_tensor_rows(t), tc_tensor_cols(t), 1, a->type),
		.whole = a->residual ? 0 : tc_tensor_bytes(t) };
	memcpy(p->name[p->n++], t->name, TC_NAME_MAX);
	tc_cli_progress(a->cli, "%s: its spectrum", t->name);
	return 0;
}

static int
notice(void *ctx, const struct tc_record *r, struct tc_err *err)
{
	struct args *a = ctx;

	if (r->kind != TC_KIND_STAT || tc_stat_is_of_tensor(r->u.stat.kind) || (a->stats.path && (a->looking || !a->sequential)))
		return 0;
	return tc_measures_take(&a->measures, r, err);
}

static int
read_all(struct args *a, struct tc_source *source, struct tc_err *err)
{
	if (tc_pass_hold(&a->hold, source, err) < 0)
		return -1;
	a->plan.item = tc_zalloc(a->hold.n, sizeof(*a->plan.item), err);
	a->plan.name = tc_alloc(a->hold.n, sizeof(*a->plan.name), err);
	return a->plan.item && a->plan.name ? 0 : -1;
}

static int
look(struct args *a, struct tc_source *source, struct tc_err *err)
{
	double budget = 0, fixed = 0;
	int r = read_all(a, source, err);

	a->looking = true;
	for (size_t i = 0; r == 0 && i < a->hold.n; i++) {
		const struct tc_record *rec = &a->hold.item[i].r;
		const struct tc_tensor *t = &rec->u.tensor;

		if (notice(a, rec, err) < 0)
			return -1;
		if (rec->kind != TC_KIND_TENSOR || t->bias || !tc_role_is_linear(t->role))
			continue;
		budget += a->budget / 8 * (double)tc_tensor_elements(t);
		fixed += a->residual || !can_factor(a, t) ? (double)tc_tensor_bytes(t) : 0;
		if (can_factor(a, t))
			r = plan_tensor(a, t, err);
	}
	a->looking = false;
	tc_measures_clear(&a->measures);
	if (r < 0)
		return -1;
	if (fixed > budget)
		return tc_fail(err, TC_DATA, "--bits-budget: what is not factored takes %.0f bytes, the budget is %.0f", fixed, budget);
	if (tc_ranks_choose(a->plan.item, a->plan.n, (uint64_t)(budget - fixed), err) < 0)
		return tc_err_at(err, "--bits-budget");
	return 0;
}

/* ---- all ---- */

static int
pass(struct args *a, struct tc_source *source, struct tc_ledger *ledger)
{
	struct tc_pass p = { .tensor = factor_tensor, .notice = notice, .ctx = a, .strip = a->common.strip };
	struct tc_sequential s = {
		.pool = a->cli->pool,
		.hessian = !has_metric(a, "norm"),
		.by_layer = a->order && strcmp(a->order, "layer") == 0,
		.spill = tc_cli_spill_hidden,
		.progress = tc_cli_say_block,
		.ctx = a->cli,
	};

	return a->sequential ? tc_sequential_run(source, a->cli->writer, &p, &s, ledger, &a->cli->err) :
	    tc_pass_run(source, a->cli->writer, &p, ledger, &a->cli->err);
}

static void
report(const struct args *a, const struct tc_ledger *l)
{
	char errors[64] = "";

	if (a->errors)
		snprintf(errors, sizeof(errors), "; mean relative error of weights %.4g", tc_errors_file_mean(&a->errors_file));
	tc_cli_say(a->cli, "%zu tensors factored, mean rank %.1f, %zu left as they are; whole model %.3f bits per weight (%.2f MB), "
	    "linear layers %.3f%s", a->done, a->done ? (double)a->ranks / (double)a->done : 0, a->left, tc_ledger_bits_model(l),
	    (double)l->model_bytes / 1e6, tc_ledger_bits_linear(l), errors);
}

static int
run(struct tc_cli *cli, struct args *a, struct tc_source *source)
{
	struct tc_ledger ledger;
	struct tc_held_source held;
	struct tc_source *from = source;

	if (tc_select_check(&a->common.include, &a->common.exclude, &source->header, &cli->err) < 0 || open_base(cli, a) < 0 ||
	    tc_stats_file_open(&a->stats, cli, a, &source->header) < 0 ||
	    (a->errors && tc_errors_file_open(&a->errors_file, a->errors, &cli->err) < 0))
		return -1;
	if (!isnan(a->budget)) {
		if (look(a, source, &cli->err) < 0)
			return -1;
		tc_hold_source(&a->hold, source, &held);
		from = &held.s;
	}
	if (tc_cli_stream_out(cli, source, tc_kernels_name()) < 0 || pass(a, from, &ledger) < 0 ||
	    (a->errors && tc_errors_file_commit(&a->errors_file, &cli->err) < 0) || tc_cli_stream_end(cli, source) < 0)
		return -1;
	if (a->done + a->left == 0 && a->common.include.n > 0)
		tc_cli_say(cli, "--include names nothing that is factored");
	report(a, &ledger);
	return 0;
}

static int
open_model(struct tc_cli *cli, const struct args *a, struct tc_source **source)
{
	return isnan(a->budget) ? tc_cli_model(cli, 0, source) : tc_cli_model_kept(cli, 0, source);
}

static void
free_args(struct args *a)
{
	tc_errors_file_discard(&a->errors_file);
	tc_quantized_free(&a->out);
	for (size_t i = 0; i < a->plan.n; i++)
		free((void *)a->plan.item[i].error);
	free(a->plan.item);
	free(a->plan.name);
	tc_hold_clear(&a->hold);
	tc_hold_clear(&a->base.hold);
	tc_source_close(a->base.source);
	tc_measures_clear(&a->measures);
	tc_stats_file_close(&a->stats);
}

int
main(int argc, char **argv)
{
	struct args a = { .common = tc_common_defaults, .rank = TC_UNSET, .threshold = NAN, .budget = NAN, .dtype = "f16", .damp = NAN };
	struct tc_source *source = NULL;
	struct tc_cli cli;

	tc_cli_begin(&cli, &stage, &a, argc, argv);
	a.cli = &cli;
	if (derive(&a, &cli.err) == 0 && open_model(&cli, &a, &source) == 0)
		(void)!run(&cli, &a, source);
	free_args(&a);
	tc_source_close(source);
	return tc_cli_end(&cli);
}
