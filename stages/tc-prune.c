/* tc-prune: makes weights of a model stream 0.  See tc-prune(1). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/errors_file.h"
#include "cli/group.h"
#include "cli/plan.h"
#include "cli/select.h"
#include "cli/shrink.h"
#include "cli/spill.h"
#include "cli/stats_file.h"
#include "kernel/kernel.h"
#include "method/measures.h"
#include "method/owl.h"
#include "method/pruner.h"
#include "method/sequential.h"
#include "model/config.h"
#include "stream/hold.h"

#define DEFAULT_METHOD "magnitude"
#define DEFAULT_SPARSITY 0.5
#define DEFAULT_DAMP 0.01
#define DEFAULT_OWL_M 5
#define DEFAULT_OWL_LAMBDA 0.08
enum { DEFAULT_GROUP = 128 };

struct nm {
	int n, m;      /* m 0: not given */
};

struct args {
	struct tc_common common;
	const char *method, *per, *layers, *order, *embed, *head, *structured;
	double sparsity, damp, owl_m, owl_lambda;
	struct nm nm;
	bool sequential;
	int64_t bits;
	uint64_t group;
	bool sym, asym;
	const char *errors;
	struct tc_stats_file stats;
	struct tc_plan_option alloc;
	/* derived */
	struct tc_structured_options shrink; /* --structured */
	const char *beside;            /* the first option given of those that a plan takes the place of, or NULL */
	const struct tc_pruner *pruner;
	struct tc_prune_options prune;
	struct tc_quant_options quant; /* of weights that stay, with --bits; how Hessians are factored */
	bool tied;
	struct tc_hold hold;           /* every record, where they are looked at first */
	struct tc_measures measures;
	struct tc_lowest lowest;       /* --per model */
	double *sparsity_of;           /* --layers owl: by block */
	bool looking;
	bool told_stale;
	struct tc_pruned pruned;       /* of the tensor in hand */
	struct tc_kept out;
	struct tc_cli *cli;
	size_t done, forms[TC_MASKS];
	double weights, zeros;
	struct tc_errors_file errors_file;
};

static int
parse_nm(const char *value, void *field, struct tc_err *err)
{
	struct nm *nm = field;
	int end = 0;

	if (sscanf(value, "%2d:%2d%n", &nm->n, &nm->m, &end) != 2 || value[end] || strspn(value, "0123456789:") != (size_t)end ||
	    nm->n < 1 || nm->n >= nm->m || nm->m > TC_NM_MAX)
		return tc_fail(err, TC_USAGE, "%s: must be N:M, N at least 1 and less than M, which is at most %d", value, TC_NM_MAX);
	return 0;
}

static void
print_nm(const void *field, char *buf, size_t size)
{
	const struct nm *nm = field;

	buf[0] = '\0';
	if (nm->m > 0)
		snprintf(buf, size, "%d:%d", nm->n, nm->m);
}

#define FIELD(f) offsetof(struct args, f)
static const struct tc_option options[] = {
	{ .name = "method", .type = TC_OPT_NAME, .offset = FIELD(method), .arg = "NAME", .names = "magnitude|wanda|sparsegpt",
	  .help = "which weights become 0 (default magnitude, the smallest)" },
	{ .name = "sparsity", .type = TC_OPT_REAL, .offset = FIELD(sparsity), .arg = "S", .min = 0, .max = 1,
	  .help = "share of the weights that become 0, 0 to 1 (default 0.5)" },
	{ .name = "nm", .type = TC_OPT_CALL, .offset = FIELD(nm), .arg = "N:M", .parse = parse_nm, .print = print_nm,
	  .help = "in its place: N of every M inputs of a row, 2:4 or 4:8" },
	{ .name = "structured", .type = TC_OPT_NAME, .offset = FIELD(structured), .arg = "WHAT", .names = "heads|neurons|blocks",
	  .help = "take that share of these away instead: shapes shrink" },
	{ .name = "per", .type = TC_OPT_NAME, .offset = FIELD(per), .arg = "WHAT", .names = "tensor|row|model",
	  .help = "among which weights the lowest are looked for (default tensor; wanda row)" },
	{ .name = "layers", .type = TC_OPT_NAME, .offset = FIELD(layers), .arg = "HOW", .names = "uniform|owl",
	  .help = "sparsity of blocks: all alike, or less where outliers are (default uniform)" },
	{ .name = "owl-m", .type = TC_OPT_REAL, .offset = FIELD(owl_m), .arg = "M", .min = 1, .max = 1000,
	  .help = "owl: an outlier is above M times the mean (default 5)" },
	{ .name = "owl-lambda", .type = TC_OPT_REAL, .offset = FIELD(owl_lambda), .arg = "L", .min = 0, .max = 0.5,
	  .help = "owl: sparsities span 2 L (default 0.08)" },
	{ .name = "embed", .type = TC_OPT_NAME, .offset = FIELD(embed), .arg = "WHAT", .names = "skip|same",
	  .help = "the embedding (and the head tied to it): skip or same (default skip)" },
	{ .name = "head", .type = TC_OPT_NAME, .offset = FIELD(head), .arg = "WHAT", .names = "skip|same",
	  .help = "an untied head: skip or same (default skip)" },
	{ .name = "sequential", .type = TC_OPT_FLAG, .offset = FIELD(sequential),
	  .help = "measure each block on what the pruned ones before it give" },
	{ .name = "order", .type = TC_OPT_NAME, .offset = FIELD(order), .arg = "HOW", .names = "block|layer",
	  .help = "with --sequential: measure a block whole, or each layer on those before (default block)" },
	{ .name = "damp", .type = TC_OPT_REAL, .offset = FIELD(damp), .arg = "D", .min = 0, .max = 1,
	  .help = "sparsegpt, structured: share of its mean added to the Hessian's diagonal (default 0.01)" },
	{ .name = "bits", .type = TC_OPT_COUNT, .offset = FIELD(bits), .arg = "B", .min = 1, .max = 8,
	  .help = "sparsegpt: quantize what stays in the same pass, 1 to 8 bits" },
	{ .name = "group", .type = TC_OPT_CALL, .offset = FIELD(group), .arg = "G", .parse = tc_group_parse, .print = tc_group_print,
	  .help = "with --bits: inputs that share a scale, a number or row (default 128)" },
	{ .name = "sym", .type = TC_OPT_FLAG, .offset = FIELD(sym),
	  .help = "with --bits: levels around zero, no zero point" },
	{ .name = "asym", .type = TC_OPT_FLAG, .offset = FIELD(asym),
	  .help = "with --bits: an integer zero point per group (default)" },
	{ .name = "errors", .type = TC_OPT_TEXT, .offset = FIELD(errors), .arg = "FILE", .role = TC_OPT_FREE,
	  .help = "write what error each tensor is left with, as JSON" },
	{ .name = "alloc", .type = TC_OPT_CALL, .offset = FIELD(alloc), .arg = "PLAN", .parse = tc_plan_option_parse,
	  .print = tc_plan_option_print, .help = "obey this plan of tc-alloc (default the stream's, if it carries one)" },
	{ .name = "stats", .type = TC_OPT_CALL, .offset = FIELD(stats), .arg = "FILE", .parse = tc_stats_file_parse, .print = tc_stats_file_print,
	  .help = "a stream whose statistics stand in for those of MODEL" },
	{ .name = "memory", .type = TC_OPT_SIZE, .offset = FIELD(common.memory), .arg = "SIZE", .role = TC_OPT_FREE,
	  .min = 1 << 20, .max = 0x1p62, .help = "most bytes of hidden states in memory, K M G T may follow" },
	{ .type = TC_OPT_END }
};

static const struct tc_stage stage = {
	.name = "tc-prune",
	.summary = "prune the weights of a model stream",
	.operands = "[MODEL]",
	.operands_max = 1,
	.options = options,
	.common = TC_COMMON_ALWAYS | TC_COMMON_OUTPUT | TC_COMMON_SELECT | TC_COMMON_STRIP,
	.common_offset = offsetof(struct args, common),
};

/* ---- what was asked for ---- */

static bool
is_owl(const struct args *a)
{
	return strcmp(a->layers, "owl") == 0;
}

static int
derive_scope(struct args *a, struct tc_err *err)
{
	static const char *const names[] = { [TC_PRUNE_TENSOR] = "tensor", [TC_PRUNE_ROW] = "row", [TC_PRUNE_MODEL] = "model" };

	if (a->nm.m > 0 && (!isnan(a->sparsity) || a->per || is_owl(a)))
		return tc_fail(err, TC_USAGE, "--nm says how many of which weights: not with --sparsity, --per or --layers owl");
	if (a->per && a->pruner->run)
		return tc_fail(err, TC_USAGE, "--per: %s looks at 128 inputs of all rows at a time", a->pruner->name);
	if (a->nm.m > 0)
		return 0;
	if (isnan(a->sparsity))
		a->sparsity = DEFAULT_SPARSITY;
	if (!a->per && !a->pruner->run)
		a->per = names[a->pruner->per];
	for (int i = 0; a->per && i <= TC_PRUNE_MODEL; i++)
		if (strcmp(a->per, names[i]) == 0)
			a->prune.per = (enum tc_prune_per)i;
	if (a->prune.per == TC_PRUNE_MODEL && (a->pruner->needs || is_owl(a)))
		return tc_fail(err, TC_USAGE, "--per model is for the weights' magnitudes, without --layers owl");
	return 0;
}

static int
derive_owl(struct args *a, struct tc_err *err)
{
	if (!is_owl(a) && (!isnan(a->owl_m) || !isnan(a->owl_lambda)))
		return tc_fail(err, TC_USAGE, "--owl-m and --owl-lambda go with --layers owl");
	if (is_owl(a) && isnan(a->owl_m))
		a->owl_m = DEFAULT_OWL_M;
	if (is_owl(a) && isnan(a->owl_lambda))
		a->owl_lambda = DEFAULT_OWL_LAMBDA;
	return 0;
}

/* What GPTQ would do: all levels, scales in f16. */
static int
derive_quant(struct args *a, struct tc_err *err)
{
	bool compensates = a->pruner->needs == TC_PRUNE_NEEDS_HESSIAN, given = a->group != TC_GROUP_UNSET || a->sym || a->asym;

	if (!compensates && (!isnan(a->damp) || a->bits != TC_UNSET))
		return tc_fail(err, TC_USAGE, "--damp and --bits go with --method sparsegpt");
	if (given && a->bits == TC_UNSET)
		return tc_fail(err, TC_USAGE, "--group, --sym and --asym go with --bits");
	if (a->sym && a->asym)
		return tc_fail(err, TC_USAGE, "--sym and --asym exclude each other");
	a->quant = (struct tc_quant_options){ .damping = isnan(a->damp) ? DEFAULT_DAMP : a->damp };
	if (a->bits == TC_UNSET)
		return 0;
	if (a->group == TC_GROUP_UNSET)
		a->group = DEFAULT_GROUP;
	if (a->group == TC_GROUP_TENSOR)
		return tc_fail(err, TC_USAGE, "sparsegpt goes row by row: --group tensor is not for it");
	if (a->nm.m > 0 && a->group != TC_GROUP_ROW && a->group % (uint64_t)a->nm.m)
		return tc_fail(err, TC_USAGE, "--group must be a multiple of --nm's %d", a->nm.m);
	a->quant.bits = (int)a->bits;
	a->quant.group = a->group;
	a->quant.zero = a->sym ? TC_ZERO_NONE : TC_ZERO_INT;
	a->quant.levels = TC_LEVELS_FULL;
	a->quant.scale = TC_F16;
	a->prune.quant = &a->quant;
	return 0;
}

/* Whether it was said which weights become 0, and what becomes of others. */
static bool
is_told_weights(const struct args *a)
{
	return a->method || a->nm.m > 0 || a->per || is_owl(a) || !isnan(a->owl_m) || !isnan(a->owl_lambda) || a->bits != TC_UNSET ||
	    a->group != TC_GROUP_UNSET || a->sym || a->asym || a->errors || a->embed || a->head || a->alloc.path ||
	    a->common.include.n > 0 || a->common.exclude.n > 0;
}

static int
derive_structured(struct args *a, struct tc_err *err)
{
	static const char *const names[] = { [TC_STRUCTURE_HEADS] = "heads", [TC_STRUCTURE_NEURONS] = "neurons", [TC_STRUCTURE_BLOCKS] = "blocks" };
	struct tc_structured_options *o = &a->shrink;

	if (is_told_weights(a))
		return tc_fail(err, TC_USAGE, "--structured takes all weights of a part away: beside it only --sparsity, --sequential, --order, "
		    "--damp and --stats say what is done");
	for (int i = 0; i <= TC_STRUCTURE_BLOCKS; i++)
		if (strcmp(a->structured, names[i]) == 0)
			o->what = (enum tc_structure)i;
	if (o->what == TC_STRUCTURE_BLOCKS && (a->sequential || !isnan(a->damp) || a->stats.path))
		return tc_fail(err, TC_USAGE, "--structured blocks looks at what goes through them: not with --sequential, --damp or --stats");
	if (a->sequential && a->stats.path)
		return tc_fail(err, TC_USAGE, "--structured: --sequential measures in place of --stats");
	a->layers = NULL;
	if (isnan(a->sparsity))
		a->sparsity = DEFAULT_SPARSITY;
	o->sparsity = a->sparsity;
	o->damping = isnan(a->damp) ? DEFAULT_DAMP : a->damp;
	o->sequential = a->sequential;
	return tc_options_canonical(&stage, a, a->cli->options, sizeof(a->cli->options), err);
}

/* A plan says what these would. */
static int
check_beside_plan(const struct args *a, struct tc_err *err)
{
	return a->beside ? tc_fail(err, TC_USAGE, "--%s beside a plan, which says that for each tensor", a->beside) : 0;
}

static void
derive_beside(struct args *a)
{
	a->beside = !isnan(a->sparsity) ? "sparsity" : a->nm.m > 0 ? "nm" : a->embed ? "embed" : a->head ? "head" :
	    is_owl(a) ? "layers" : a->per && strcmp(a->per, "model") == 0 ? "per model" : NULL;
	a->embed = a->embed ? a->embed : "skip";
	a->head = a->head ? a->head : "skip";
}

static int
derive(struct args *a, struct tc_err *err)
{
	if (a->order && !a->sequential)
		return tc_fail(err, TC_USAGE, "--order goes with --sequential");
	if (a->structured)
		return derive_structured(a, err);
	derive_beside(a);
	if (a->alloc.known && check_beside_plan(a, err) < 0)
		return -1;
	if (!a->method)
		a->method = DEFAULT_METHOD;
	a->pruner = tc_pruner_find(a->method);
	if (a->sequential && a->pruner->needs == TC_PRUNE_NEEDS_NOTHING)
		return tc_fail(err, TC_USAGE, "--sequential measures, and %s needs no measures", a->pruner->name);
	if (derive_scope(a, err) < 0 || derive_owl(a, err) < 0 || derive_quant(a, err) < 0)
		return -1;
	a->prune.sparsity = a->sparsity;
	a->prune.n = a->nm.n;
	a->prune.m = a->nm.m;
	a->prune.model = &a->lowest;
	return tc_options_canonical(&stage, a, a->cli->options, sizeof(a->cli->options), err);
}

/* And from the stream, which may carry a plan. */
static int
derive_rest(struct args *a, struct tc_source *source, struct tc_source **from, struct tc_err *err)
{
	if (tc_plan_open(&a->alloc, a->cli, source, from) < 0)
		return -1;
	if (!a->alloc.known)
		return 0;
	a->sparsity = NAN;
	a->embed = a->head = NULL;
	return check_beside_plan(a, err) < 0 ? -1 : tc_options_canonical(&stage, a, a->cli->options, sizeof(a->cli->options), err);
}

/* ---- what is done ---- */

/* What the plan says of it, 0: nothing. */
static double
planned(const struct args *a, const struct tc_tensor *t)
{
	const struct tc_plan_row *row = tc_plan_find(&a->alloc.plan, t->name);

	return row ? row->choice.sparsity : 0;
}

static bool
chosen(const struct args *a, const struct tc_tensor *t)
{
	const char *edge = t->role == TC_ROLE_EMBED ? a->embed : t->role == TC_ROLE_HEAD ? a->head : NULL;

	if (a->alloc.known)
		return planned(a, t) > 0 && tc_select_matches(&a->common.include, &a->common.exclude, t->name);
	if (t->bias || t->ndim != 2 || (!edge && !tc_role_is_linear(t->role)) || (edge && strcmp(edge, "same") != 0))
		return false;
	return tc_select_matches(&a->common.include, &a->common.exclude, t->name);
}

/* An embedding that is no head is looked up, not multiplied: nothing is known of
 * its inputs, which are all alike.  tc-alloc knows nothing of them at all. */
static const struct tc_pruner *
pruner_of(const struct args *a, const struct tc_tensor *t)
{
	return t->role == TC_ROLE_EMBED && (!a->tied || a->alloc.known) ? tc_pruner_find("magnitude") : a->pruner;
}

/* The statistics that stand in for the stream's, or the stream's own that it was
 * looked at for; NULL: those that come with it. */
static const struct tc_hold *
statistics(const struct args *a)
{
	return a->stats.path ? &a->stats.hold : a->hold.n > 0 ? &a->hold : NULL;
}

/* --sequential measures blocks as they are pruned: what is looked at before, or
 * is in none, must be known already. */
static int
check_known(const struct args *a, const struct tc_quant_input *in, enum tc_prune_needs needs, struct tc_err *err)
{
	bool hessian = needs == TC_PRUNE_NEEDS_HESSIAN;

	if (!a->sequential || !needs || (!a->looking && in->w->block >= 0) || (hessian ? in->hessian != NULL : in->squares != NULL))
		return 0;
	return tc_fail(err, TC_DATA, "%s: its inputs' %s not known, and --sequential measures %s (tc-calib %s)", in->w->name,
	    hessian ? "Hessian is" : "squares are", a->looking ? "too late" : "blocks only",
	    hessian ? "--hessian" : "without --tokens-only");
}

/* What is known of t's inputs. */
static int
measure(struct args *a, const struct tc_tensor *t, enum tc_prune_needs needs, struct tc_quant_input *in, struct tc_err *err)
{
	int site = t->role == TC_ROLE_EMBED ? TC_SITE_HEAD_IN : tc_role_site(t->role);
	bool stale;

	if (t->role == TC_ROLE_EMBED && !a->tied)
		return 0;
	if (statistics(a) && (!a->sequential || a->looking || t->block < 0) &&
	    tc_measures_feed(&a->measures, statistics(a), t->block, true, err) < 0)
		return -1;
	if (tc_measures_site(&a->measures, (enum tc_site)site, needs == TC_PRUNE_NEEDS_HESSIAN ? &a->quant : NULL, in, &stale, err) < 0)
		return -1;
	if (stale && !a->told_stale)
		tc_cli_say(a->cli, "%s: its statistics were measured before weights upstream changed (--sequential measures anew)", t->name);
	a->told_stale |= stale;
	return check_known(a, in, needs, err);
}

/* t is to be pruned. */
static int
prepare(struct args *a, const struct tc_tensor *t, struct tc_quant_input *in, struct tc_err *err)
{
	const struct tc_pruner *p = pruner_of(a, t);

	*in = (struct tc_quant_input){ .w = t };
	if (tc_tensor_check_finite(t, err) < 0)
		return -1;
	return p->needs || a->errors || is_owl(a) ? measure(a, t, p->needs, in, err) : 0;
}

static int
add_errors(struct args *a, const struct tc_pruner *p, const struct tc_quant_input *in, struct tc_err *err)
{
	const struct tc_tensor *t = &a->out.t;
	struct tc_errors_row row = { .name = t->name, .method = p->name, .parameters = tc_tensor_elements(t) };
	struct tc_errors e;
	char group[24];

	if (a->prune.quant && p->run) {
		tc_group_print(&t->format.group, group, sizeof(group));
		row.bits = (size_t)t->format.bits;
		row.group = group;
	}
	return tc_errors_measure(&e, in, t, a->cli->pool, err) < 0 ? -1 : tc_errors_file_add(&a->errors_file, &row, &e, err);
}

/* The result, in a->out: what is not kept of t is 0. */
static int
apply(struct args *a, const struct tc_tensor *t, struct tc_err *err)
{
	size_t words = tc_tensor_rows(t) * tc_mask_words(tc_tensor_cols(t)), kept = 0;

	tc_kept_free(&a->out);
	if (tc_mask_apply(&a->out, t, a->pruned.keep, err) < 0)
		return -1;
	for (size_t i = 0; i < words; i++)
		kept += (size_t)__builtin_popcountll(a->pruned.keep[i]);
	a->weights += (double)tc_tensor_elements(t);
	a->zeros += (double)(tc_tensor_elements(t) - kept);
	a->forms[a->out.t.mask]++;
	return 0;
}

/* One tensor in, one tensor out; everything else passes through. */
static int
prune_tensor(void *ctx, const struct tc_tensor *t, struct tc_tensor *out, struct tc_err *err)
{
	struct args *a = ctx;
	const struct tc_pruner *p = pruner_of(a, t);
	struct tc_prune_options o = a->prune;
	struct tc_quant_input in;

	tc_pruned_free(&a->pruned);
	if (!chosen(a, t))
		return 0;
	if (p != a->pruner && o.quant)
		return tc_fail(err, TC_DATA, "%s: is no head, and not rounded with --bits: leave it, or prune it alone", t->name);
	if (a->alloc.known)
		o.sparsity = planned(a, t);
	else if (a->sparsity_of && t->block >= 0)
		o.sparsity = a->sparsity_of[t->block];
	if (prepare(a, t, &in, err) < 0 || tc_pruner_run(p, &o, &in, &a->pruned, a->cli->pool, err) < 0 ||
	    apply(a, a->pruned.weights.there ? &a->pruned.weights.t : t, err) < 0 ||
	    (a->errors && add_errors(a, p, &in, err) < 0))
		return -1;
	*out = a->out.t;
	a->done++;
	tc_cli_progress(a->cli, "%s", t->name);
	return 1;
}

static int
notice(void *ctx, const struct tc_record *r, struct tc_err *err)
{
	struct args *a = ctx;

	if (r->kind != TC_KIND_STAT || tc_stat_is_of_tensor(r->u.stat.kind) || (statistics(a) && !a->sequential))
		return 0;
	return tc_measures_take(&a->measures, r, err);
}

/* ---- what has to be known of all of the model before any of it is pruned ---- */

static bool
looks_first(const struct args *a)
{
	return a->prune.per == TC_PRUNE_MODEL || is_owl(a) ||
	    (a->embed && strcmp(a->embed, "same") == 0 && a->pruner->needs && !a->stats.path);
}

/* Something is done with the scores of each tensor that is to be pruned. */
typedef int look_at(struct args *a, const struct tc_tensor *t, const struct tc_pruner_scores *s, void *ctx, struct tc_err *err);

static int
look(struct args *a, const struct tc_pruner *by, look_at *fn, void *ctx, struct tc_err *err)
{
	for (size_t i = 0; i < a->hold.n; i++) {
		const struct tc_tensor *t = &a->hold.item[i].r.u.tensor;
		struct tc_pruner_scores s;
		struct tc_quant_input in = { .w = t };
		int r;

		if (a->hold.item[i].r.kind != TC_KIND_TENSOR || !chosen(a, t) || (by->needs && t->block < 0))
			continue;
		if (tc_tensor_check_finite(t, err) < 0 || (by->needs && measure(a, t, by->needs, &in, err) < 0) ||
		    tc_pruner_scores_open(&s, by, &in, err) < 0)
			return -1;
		tc_cli_progress(a->cli, "%s: scores", t->name);
		r = fn(a, t, &s, ctx, err);
		tc_pruner_scores_close(&s);
		if (r < 0)
			return -1;
	}
	return 0;
}

static int
count_weights(struct args *a, const struct tc_tensor *t, const struct tc_pruner_scores *s, void *ctx, struct tc_err *err)
{
	uint64_t *n = ctx;

	(void)a, (void)s, (void)err;
	*n += tc_tensor_elements(t);
	return 0;
}

static int
count_scores(struct args *a, const struct tc_tensor *t, const struct tc_pruner_scores *s, void *ctx, struct tc_err *err)
{
	(void)t, (void)ctx;
	return tc_lowest_count(&a->lowest, &s->s, err);
}

static int
look_for_lowest(struct args *a, struct tc_err *err)
{
	uint64_t n = 0;

	if (look(a, a->pruner, count_weights, &n, err) < 0 ||
	    tc_lowest_open(&a->lowest, tc_prune_count(a->sparsity, n), a->cli->pool, err) < 0)
		return -1;
	for (int turn = 0; turn < TC_LOWEST_TURNS; turn++) {
		if (look(a, a->pruner, count_scores, NULL, err) < 0)
			return -1;
		tc_lowest_turn(&a->lowest);
	}
	return 0;
}

struct outliers {
	struct tc_owl owl;
	int turn;
};

static int
add_outliers(struct args *a, const struct tc_tensor *t, const struct tc_pruner_scores *s, void *ctx, struct tc_err *err)
{
	struct outliers *o = ctx;

	return tc_owl_add(&o->owl, o->turn, (size_t)t->block, &s->s, a->cli->pool, err);
}

static int
check_sparsities(const struct args *a, size_t blocks, struct tc_err *err)
{
	for (size_t i = 0; i < blocks; i++)
		if (!(a->sparsity_of[i] >= 0 && a->sparsity_of[i] <= 1))
			return tc_fail(err, TC_DATA, "--layers owl: block %zu would have a sparsity of %.3f: --owl-lambda makes that less", i,
			    a->sparsity_of[i]);
	return 0;
}

static int
look_for_outliers(struct args *a, const struct tc_header *h, struct tc_err *err)
{
	struct tc_config c;
	struct outliers o = {0};
	int r;

	if (tc_config_parse(&c, h->config, h->config_bytes, err) < 0)
		return -1;
	a->sparsity_of = tc_alloc(c.layers, sizeof(*a->sparsity_of), err);
	r = a->sparsity_of ? tc_owl_open(&o.owl, c.layers, a->owl_m, err) : -1;
	for (; r == 0 && o.turn < TC_OWL_TURNS; o.turn++)
		r = look(a, tc_pruner_find("wanda"), add_outliers, &o, err);
	if (r == 0) {
		tc_owl_sparsities(&o.owl, a->sparsity, a->owl_lambda, a->sparsity_of);
		r = check_sparsities(a, c.layers, err);
	}
	tc_owl_close(&o.owl);
	return r;
}

static int
look_first(struct args *a, struct tc_source *source, struct tc_err *err)
{
	int got = tc_pass_hold(&a->hold, source, err);

	a->looking = true;
	if (got == 0 && a->prune.per == TC_PRUNE_MODEL)
		got = look_for_lowest(a, err);
	if (got == 0 && is_owl(a))
		got = look_for_outliers(a, &source->header, err);
	a->looking = false;
	tc_measures_clear(&a->measures);
	return got;
}

/* ---- the whole stream ---- */

static bool
by_layer(const struct args *a)
{
	return a->order && strcmp(a->order, "layer") == 0;
}

static int
pass(struct args *a, struct tc_source *source, struct tc_ledger *ledger)
{
	struct tc_pass p = { .tensor = prune_tensor, .notice = notice, .ctx = a, .strip = a->common.strip };
	struct tc_sequential s = {
		.pool = a->cli->pool,
		.hessian = a->pruner->needs == TC_PRUNE_NEEDS_HESSIAN,
		.by_layer = by_layer(a),
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
	char errors[64] = "", forms[128] = "";

	if (a->errors)
		snprintf(errors, sizeof(errors), "; mean relative error of weights %.4g", tc_errors_file_mean(&a->errors_file));
	for (int m = 0; m < TC_MASKS; m++)
		if (a->forms[m] > 0)
			snprintf(forms + strlen(forms), sizeof(forms) - strlen(forms), "%s%s %zu", forms[0] ? ", " : "; masks: ", tc_mask_names[m],
			    a->forms[m]);
	tc_cli_say(a->cli, "%s: %zu tensors, %.2f%% of their weights 0%s; whole model %.3f bits per weight (%.2f MB), linear layers %.3f; "
	    "embedding: %s, %.1f%% of the bytes%s", a->method, a->done, a->weights > 0 ? 100 * a->zeros / a->weights : 0, forms,
	    tc_ledger_bits_model(l), (double)l->model_bytes / 1e6, tc_ledger_bits_linear(l), a->alloc.known ? "planned" : a->embed,
	    l->model_bytes ? 100.0 * (double)l->embed_bytes / (double)l->model_bytes : 0, errors);
	tc_plan_say(&a->alloc, a->cli, l->model_bytes, false);
}

static int
shrink(struct tc_cli *cli, struct args *a, struct tc_source *source)
{
	int made_up;

	a->shrink.stats = a->stats.path ? &a->stats.hold : NULL;
	made_up = tc_cli_shrink(cli, source, &a->shrink, by_layer(a), a->common.strip);
	if (made_up == 0 && !isnan(a->damp))
		tc_cli_say(cli, "--damp did nothing: no Hessian is known (tc-calib --hessian, or --sequential)");
	return made_up < 0 ? -1 : 0;
}

static int
run(struct tc_cli *cli, struct args *a, struct tc_source *source)
{
	struct tc_ledger ledger;
	struct tc_held_source held;
	struct tc_source *from;

	a->tied = source->header.tied;
	if (tc_select_check(&a->common.include, &a->common.exclude, &source->header, &cli->err) < 0 ||
	    (!a->structured && derive_rest(a, source, &from, &cli->err) < 0) || tc_stats_file_open(&a->stats, cli, a, &source->header) < 0 ||
	    (a->errors && tc_errors_file_open(&a->errors_file, a->errors, &cli->err) < 0))
		return -1;
	if (a->structured)
		return shrink(cli, a, source);
	if (looks_first(a)) {
		if (look_first(a, from, &cli->err) < 0)
			return -1;
		tc_hold_source(&a->hold, source, &held);
		from = &held.s;
	}
	if (tc_cli_stream_out(cli, source, a->pruner->needs ? tc_kernels_name() : "") < 0 ||
	    pass(a, from, &ledger) < 0 ||
	    (a->errors && tc_errors_file_commit(&a->errors_file, &cli->err) < 0) ||
	    tc_cli_stream_end(cli, source) < 0)
		return -1;
	if (a->done == 0 && a->common.include.n > 0)
		tc_cli_say(cli, "--include names nothing that is pruned");
	report(a, &ledger);
	return 0;
}

static int
open_model(struct tc_cli *cli, const struct args *a, struct tc_source **source)
{
	return a->structured || looks_first(a) ? tc_cli_model_kept(cli, 0, source) : tc_cli_model(cli, 0, source);
}

int
main(int argc, char **argv)
{
	struct args a = { .common = tc_common_defaults, .layers = "uniform",
		.sparsity = NAN, .damp = NAN, .owl_m = NAN, .owl_lambda = NAN, .bits = TC_UNSET, .group = TC_GROUP_UNSET };
	struct tc_source *source = NULL;
	struct tc_cli cli;

	tc_cli_begin(&cli, &stage, &a, argc, argv);
	a.cli = &cli;
	if (derive(&a, &cli.err) == 0 && open_model(&cli, &a, &source) == 0)
		(void)!run(&cli, &a, source);
	tc_errors_file_discard(&a.errors_file);
	tc_pruned_free(&a.pruned);
	tc_kept_free(&a.out);
	tc_lowest_close(&a.lowest);
	free(a.sparsity_of);
	tc_hold_clear(&a.hold);
	tc_measures_clear(&a.measures);
	tc_stats_file_close(&a.stats);
	tc_plan_close(&a.alloc);
	tc_source_close(source);
	return tc_cli_end(&cli);
}
