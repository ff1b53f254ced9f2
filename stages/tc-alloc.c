/* tc-alloc: decides what becomes of each tensor within a budget.  See tc-alloc(1).
 *
 * Every record is held (in the mapping it lies in, where there is one): choices are
 * measured tensor by tensor, and on the whole model, before anything is written. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/math.h"
#include "cli/choice_measure.h"
#include "cli/group.h"
#include "cli/plan_check.h"
#include "cli/role_sweep.h"
#include "kernel/kernel.h"
#include "metric/ledger.h"
#include "model/attention.h"

enum { DEFAULT_SAMPLES = 8, PERCENT = 100 };
#define DEFAULT_MEMORY ((size_t)1 << 30)
#define DEFAULT_CHOICES "rtn:2,rtn:2:32,rtn:3,rtn:3:32,rtn:4,rtn:4:32,rtn:5,rtn:5:32,rtn:6,rtn:6:32,rtn:8,rtn:8:32"
#define DEFAULT_EDGES "rtn:8,rtn:6,rtn:5,rtn:4,rtn:3,skip"
#define DEFAULT_SWEEP "rtn:3,dense:0.5"
/* As enum tc_weigh. */
#define WEIGHS "kl|kl-each|fisher|none"
#define BYTES_MOST 0x1p62

enum method { UNIFORM, CLASSES, ACT_ADAPTIVE, FISHER, JOINT, KNAPSACK, GREEDY };
#define METHODS "uniform|classes|act-adaptive|fisher|joint|knapsack|greedy"

struct args {
	struct tc_common common;
	const char *method, *weigh, *sensitivity, *scale;
	double bits_per_weight, latency, bandwidth;
	int64_t bytes, ram, context, samples;
	struct tc_choices choices, embed, head, sweep;
	struct tc_list rules, errors;
	struct tc_counts class_shares, class_bits, class_sparsity;
	bool role_sweep, check, sym, fmin;
	struct tc_plan_option alloc;
	struct tc_stats_file stats;
};

#define FIELD(f) offsetof(struct args, f)
static const struct tc_option options[] = {
	{ .name = "method", .type = TC_OPT_NAME, .offset = FIELD(method), .arg = "NAME", .names = METHODS,
	  .help = "how bytes are given to tensors (default knapsack)" },
	{ .name = "bits-per-weight", .type = TC_OPT_REAL, .offset = FIELD(bits_per_weight), .arg = "B", .min = 0.01, .max = 64,
	  .help = "budget: bits a weight of the whole model, embedding and all" },
	{ .name = "bytes", .type = TC_OPT_SIZE, .offset = FIELD(bytes), .arg = "N", .min = 1, .max = BYTES_MOST,
	  .help = "budget: bytes of the whole model, K M G T may follow" },
	{ .name = "latency", .type = TC_OPT_REAL, .offset = FIELD(latency), .arg = "MS", .min = 1e-6, .max = 1e9,
	  .help = "budget: what --bandwidth reads in so many milliseconds, for a decoded token" },
	{ .name = "bandwidth", .type = TC_OPT_REAL, .offset = FIELD(bandwidth), .arg = "GB", .min = 1e-6, .max = 1e9,
	  .help = "with --latency: 1e9 bytes a second" },
	{ .name = "ram", .type = TC_OPT_SIZE, .offset = FIELD(ram), .arg = "SIZE", .min = 1, .max = BYTES_MOST,
	  .help = "budget: bytes of the model and the cache of --context tokens" },
	{ .name = "context", .type = TC_OPT_COUNT, .offset = FIELD(context), .arg = "N", .min = 1, .max = 1 << 24,
	  .help = "with --ram: tokens" },
	{ .name = "choices", .type = TC_OPT_CALL, .offset = FIELD(choices), .arg = "LIST", .parse = tc_choices_parse, .print = tc_choices_print,
	  .help = "METHOD:BITS[:GROUP[:SPARSITY]],... (default rtn, 2 to 6 and 8 bits, groups of 128 and 32)" },
	{ .name = "embed", .type = TC_OPT_CALL, .offset = FIELD(embed), .arg = "LIST", .parse = tc_choices_parse, .print = tc_choices_print,
	  .help = "choices of the embedding (default rtn, 8 6 5 4 3 bits, or skip)" },
	{ .name = "head", .type = TC_OPT_CALL, .offset = FIELD(head), .arg = "LIST", .parse = tc_choices_parse, .print = tc_choices_print,
	  .help = "choices of an untied head (default those of the embedding)" },
	{ .name = "rule", .type = TC_OPT_LIST, .offset = FIELD(rules), .arg = "WHERE=CHOICE",
	  .help = "tensors that have no choice: by role, first:N last:N block:I, or pattern; repeated" },
	{ .name = "weigh", .type = TC_OPT_NAME, .offset = FIELD(weigh), .arg = "HOW", .names = WEIGHS,
	  .help = "what makes errors of different tensors comparable (default kl, where there are tokens)" },
	{ .name = "samples", .type = TC_OPT_COUNT, .offset = FIELD(samples), .arg = "N", .min = 1, .max = 1 << 20,
	  .help = "sequences of the calibration tokens that are run (default 8)" },
	{ .name = "errors", .type = TC_OPT_LIST, .offset = FIELD(errors), .arg = "FILE", .role = TC_OPT_FREE,
	  .help = "errors that tc-quant --errors measured; repeated" },
	{ .name = "sensitivity", .type = TC_OPT_NAME, .offset = FIELD(sensitivity), .arg = "WHAT", .names = "fisher|act",
	  .help = "classes: what tensors are ranked by (default fisher)" },
	{ .name = "class-shares", .type = TC_OPT_COUNTS, .offset = FIELD(class_shares), .arg = "P,...", .min = 1, .max = PERCENT,
	  .help = "classes: percent of the parameters in each (default 15,60,25)" },
	{ .name = "class-bits", .type = TC_OPT_COUNTS, .offset = FIELD(class_bits), .arg = "B,...", .min = 1, .max = 8,
	  .help = "classes: bits of each, or none (default 6,4,3)" },
	{ .name = "class-sparsity", .type = TC_OPT_COUNTS, .offset = FIELD(class_sparsity), .arg = "P,...", .min = 0, .max = PERCENT - 1,
	  .help = "classes: percent of zeros of each (default none; joint: 15,32,50)" },
	{ .name = "sym", .type = TC_OPT_FLAG, .offset = FIELD(sym),
	  .help = "tc-quant will be given --sym" },
	{ .name = "fmin", .type = TC_OPT_FLAG, .offset = FIELD(fmin),
	  .help = "tc-quant will be given --fmin" },
	{ .name = "scale", .type = TC_OPT_NAME, .offset = FIELD(scale), .arg = "TYPE", .names = "f16|f32|u8",
	  .help = "tc-quant will be given this --scale (default f16)" },
	{ .name = "role-sweep", .type = TC_OPT_FLAG, .offset = FIELD(role_sweep), .role = TC_OPT_FREE,
	  .help = "write no plan: print what changing one role, or one block, costs" },
	{ .name = "sweep", .type = TC_OPT_CALL, .offset = FIELD(sweep), .arg = "LIST", .parse = tc_choices_parse, .print = tc_choices_print,
	  .help = "with --role-sweep: what they are changed to (default rtn:3, then dense:0.5)" },
	{ .name = "check", .type = TC_OPT_FLAG, .offset = FIELD(check), .role = TC_OPT_FREE,
	  .help = "write nothing: say where the model is not as planned, exit 1 then" },
	{ .name = "alloc", .type = TC_OPT_CALL, .offset = FIELD(alloc), .arg = "PLAN", .parse = tc_plan_option_parse, .print = tc_plan_option_print,
	  .help = "with --check: the plan (default the stream's)" },
	{ .name = "stats", .type = TC_OPT_CALL, .offset = FIELD(stats), .arg = "FILE", .parse = tc_stats_file_parse, .print = tc_stats_file_print,
	  .help = "a stream whose statistics stand in for those of MODEL" },
	{ .name = "memory", .type = TC_OPT_SIZE, .offset = FIELD(common.memory), .arg = "SIZE", .role = TC_OPT_FREE,
	  .min = 1 << 20, .max = 0x1p62, .help = "most bytes of hidden states that are kept, K M G T may follow (default 1G)" },
	{ .type = TC_OPT_END }
};

static const struct tc_stage stage = {
	.name = "tc-alloc",
	.summary = "decide what becomes of each tensor within a budget",
	.operands = "[MODEL]",
	.operands_max = 1,
	.options = options,
	.common = TC_COMMON_ALWAYS | TC_COMMON_OUTPUT | TC_COMMON_STRIP | TC_COMMON_JSON,
	.common_offset = offsetof(struct args, common),
};

struct work {
	struct args *a;
	struct tc_cli *cli;
	struct tc_source *source;
	struct tc_config config;
	enum method method;
	struct tc_quant_options common;    /* that all choices share */
	struct tc_hold hold;               /* every record */
	bool weights, tokens;              /* there are */
	struct tc_candidates all;
	struct tc_sensitivity *sensitivity; /* of each of the config's tensors */
	struct tc_choice_measure measure;
	double share[TC_ALLOC_CLASSES_MAX];
	uint64_t budget, apart;            /* of what counts; bytes of tensors that do not */
	size_t *chosen;
	struct tc_plan plan;
};

/* ---- options ---- */

static bool
ranks(const struct work *w)
{
	return w->method >= CLASSES && w->method <= JOINT;
}

static bool
has_budget(const struct args *a)
{
	return !isnan(a->bits_per_weight) || a->bytes != TC_UNSET || !isnan(a->latency) || a->ram != TC_UNSET;
}

static size_t
place_in(const char *names, const char *name)
{
	size_t place = 0;

	for (const char *at = names;; at++, place++) {
		size_t n = strcspn(at, "|");

		if (strlen(name) == n && strncmp(at, name, n) == 0)
			return place;
		at += n;
	}
}

static int
check_budget(const struct args *a, struct tc_err *err)
{
	if ((!isnan(a->bits_per_weight)) + (a->bytes != TC_UNSET) + (!isnan(a->latency)) + (a->ram != TC_UNSET) > 1)
		return tc_fail(err, TC_USAGE, "--bits-per-weight, --bytes, --latency and --ram exclude each other");
	if (isnan(a->latency) != isnan(a->bandwidth))
		return tc_fail(err, TC_USAGE, "--latency and --bandwidth go together");
	if ((a->ram == TC_UNSET) != (a->context == TC_UNSET))
		return tc_fail(err, TC_USAGE, "--ram and --context go together");
	return 0;
}

/* Modes that write no plan take none of its options. */
static int
check_no_plan(const struct args *a, struct tc_err *err)
{
	const char *mode = a->check ? "check" : "role-sweep";
	const struct { const char *name; bool given; } of_plans[] = {
		{ "choices", a->choices.n > 0 }, { "embed", a->embed.n > 0 }, { "head", a->head.n > 0 }, { "weigh", a->weigh },
		{ "errors", a->errors.n > 0 }, { "strip", a->common.strip },
	}, of_measuring[] = {
		{ "stats", a->stats.path }, { "samples", a->samples != TC_UNSET }, { "memory", a->common.memory != TC_UNSET },
		{ "sym", a->sym }, { "fmin", a->fmin }, { "scale", a->scale },
	};

	if (has_budget(a) || a->method || a->rules.n > 0)
		return tc_fail(err, TC_USAGE, "--%s makes no plan: not with --method, --rule or a budget", mode);
	if (a->common.output)
		return tc_fail(err, TC_USAGE, "--%s writes no plan: not with -o", mode);
	for (size_t i = 0; i < sizeof(of_plans) / sizeof(of_plans[0]); i++)
		if (of_plans[i].given)
			return tc_fail(err, TC_USAGE, "--%s makes no plan: not with --%s", mode, of_plans[i].name);
	for (size_t i = 0; a->check && i < sizeof(of_measuring) / sizeof(of_measuring[0]); i++)
		if (of_measuring[i].given)
			return tc_fail(err, TC_USAGE, "--check measures nothing: not with --%s", of_measuring[i].name);
	return 0;
}

static int
check_modes(const struct args *a, struct tc_err *err)
{
	if (a->role_sweep && a->check)
		return tc_fail(err, TC_USAGE, "--role-sweep and --check exclude each other");
	if ((a->role_sweep || a->check) && check_no_plan(a, err) < 0)
		return -1;
	if (a->sweep.n > 0 && !a->role_sweep)
		return tc_fail(err, TC_USAGE, "--sweep goes with --role-sweep");
	for (size_t i = 0; i < a->sweep.n; i++)
		if (tc_choice_is_skip(&a->sweep.at[i]))
			return tc_fail(err, TC_USAGE, "--sweep: skip changes nothing");
	if (a->alloc.path && !a->check)
		return tc_fail(err, TC_USAGE, "--alloc goes with --check");
	if (a->common.json && !a->role_sweep)
		return tc_fail(err, TC_USAGE, "--json goes with --role-sweep");
	if (a->common.strip && a->common.output)
		return tc_fail(err, TC_USAGE, "--strip is of the stream, and -o writes the plan alone");
	return 0;
}

/* Whether the model may be run. */
static bool
runs(const struct work *w)
{
	return w->a->role_sweep || (!ranks(w) && (w->measure.weigh <= TC_WEIGH_KL_EACH || w->measure.weigh == TC_WEIGH_UNSET));
}

static int
check_measuring(const struct work *w, struct tc_err *err)
{
	const struct args *a = w->a;

	if (ranks(w) && (a->weigh || a->errors.n > 0))
		return tc_fail(err, TC_USAGE, "--method %s ranks tensors: --weigh and --errors are not for it", a->method);
	if (a->errors.n > 0 && (w->measure.weigh == TC_WEIGH_KL_EACH || w->measure.weigh == TC_WEIGH_FISHER))
		return tc_fail(err, TC_USAGE, "--errors has relative errors: not with --weigh %s", a->weigh);
	if (!runs(w) && !a->check && (a->samples != TC_UNSET || a->common.memory != TC_UNSET))
		return tc_fail(err, TC_USAGE, "--samples and --memory are for runs of the model, which --%s %s does not want",
		    ranks(w) ? "method" : "weigh", ranks(w) ? a->method : a->weigh);
	return 0;
}

/* As tc-quant does. */
static int
check_scale(const struct args *a, struct tc_err *err)
{
	const struct { const char *name; const struct tc_choices *list; } lists[] = {
		{ "choices", &a->choices }, { "embed", &a->embed }, { "head", &a->head }, { "sweep", &a->sweep } };
	enum tc_dtype scale = (enum tc_dtype)tc_dtype_find(a->scale, strlen(a->scale));

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		for (size_t k = 0; k < lists[i].list->n; k++)
			if (tc_choice_check_scale(lists[i].list->at[k].by, scale, err) < 0)
				return tc_err_at(err, "--%s", lists[i].name);
	return tc_candidates_check_rules(&a->rules, scale, err);
}

static int
check_classes(struct work *w, struct tc_err *err)
{
	struct args *a = w->a;
	size_t n = (size_t)a->class_shares.n;
	int64_t sum = 0;

	if (n == 0 || n > TC_ALLOC_CLASSES_MAX)
		return tc_fail(err, TC_USAGE, "--class-shares: must be 1 to %d", TC_ALLOC_CLASSES_MAX);
	for (size_t i = 0; i < n; i++) {
		sum += a->class_shares.at[i];
		w->share[i] = (double)a->class_shares.at[i] / PERCENT;
	}
	if (sum != PERCENT)
		return tc_fail(err, TC_USAGE, "--class-shares: they add up to %lld, not 100", (long long)sum);
	if ((a->class_bits.n > 0 && (size_t)a->class_bits.n != n) || (a->class_sparsity.n > 0 && (size_t)a->class_sparsity.n != n))
		return tc_fail(err, TC_USAGE, "--class-shares, --class-bits and --class-sparsity: must be as many");
	if (a->class_bits.n == 0 && a->class_sparsity.n == 0)
		return tc_fail(err, TC_USAGE, "--class-bits none: give --class-sparsity then");
	for (int i = 0; i < a->class_bits.n; i++)
		if (tc_choice_check(a->choices.at[0].by ? a->choices.at[0].by : tc_quantizer_find("rtn"), (int)a->class_bits.at[i], err) < 0)
			return tc_err_at(err, "--class-bits");
	return 0;
}

static void
count_default(struct tc_counts *c, int n, int64_t x, int64_t y, int64_t z)
{
	if (c->n == TC_COUNTS_UNSET)
		*c = (struct tc_counts){ { x, y, z }, n };
}

/* What was not asked for, and is used; the provenance says it. */
static int
derive_defaults(struct work *w, struct tc_err *err)
{
	struct args *a = w->a;

	if (!a->method)
		a->method = "knapsack";
	w->method = (enum method)place_in(METHODS, a->method);
	if (a->choices.n == 0 && tc_choices_parse(DEFAULT_CHOICES, &a->choices, err) < 0)
		return -1;
	if (a->embed.n == 0 && tc_choices_parse(DEFAULT_EDGES, &a->embed, err) < 0)
		return -1;
	if (a->head.n == 0)
		a->head = a->embed;
	if (a->role_sweep && a->sweep.n == 0 && tc_choices_parse(DEFAULT_SWEEP, &a->sweep, err) < 0)
		return -1;
	if (!a->scale)
		a->scale = "f16";
	if (!ranks(w))
		return 0;
	count_default(&a->class_shares, 3, 15, 60, 25);
	count_default(&a->class_bits, 3, 6, 4, 3);
	count_default(&a->class_sparsity, w->method == JOINT ? 3 : 0, 15, 32, 50);
	if (!a->sensitivity)
		a->sensitivity = w->method == ACT_ADAPTIVE ? "act" : "fisher";
	return 0;
}

static int
derive(struct work *w)
{
	struct args *a = w->a;
	struct tc_err *err = &w->cli->err;
	bool classes = a->class_shares.n != TC_COUNTS_UNSET || a->class_bits.n != TC_COUNTS_UNSET || a->class_sparsity.n != TC_COUNTS_UNSET;
	bool sensitivity = a->sensitivity != NULL;

	if (check_budget(a, err) < 0 || check_modes(a, err) < 0)
		return -1;
	if (a->sym && a->fmin)
		return tc_fail(err, TC_USAGE, "--sym and --fmin exclude each other");
	w->measure.weigh = a->weigh ? (enum tc_weigh)place_in(WEIGHS, a->weigh) : TC_WEIGH_UNSET;
	if (derive_defaults(w, err) < 0)
		return -1;
	if (classes && !ranks(w))
		return tc_fail(err, TC_USAGE, "--class-shares, --class-bits and --class-sparsity go with methods that rank, not %s", a->method);
	if (sensitivity && w->method != CLASSES)
		return tc_fail(err, TC_USAGE, "--sensitivity goes with --method classes");
	if (check_measuring(w, err) < 0 || check_scale(a, err) < 0 || (ranks(w) && check_classes(w, err) < 0))
		return -1;
	if (runs(w) && a->samples == TC_UNSET)
		a->samples = DEFAULT_SAMPLES;
	w->measure.samples = (size_t)a->samples;
	w->measure.keep_bytes = a->common.memory == TC_UNSET ? DEFAULT_MEMORY : (size_t)a->common.memory;
	if (!a->role_sweep && !a->check && !ranks(w) && !has_budget(a))
		return tc_fail(err, TC_USAGE, "--method %s needs a budget: --bits-per-weight, --bytes, --latency or --ram", a->method);
	w->common = (struct tc_quant_options){ .zero = a->sym ? TC_ZERO_NONE : a->fmin ? TC_ZERO_MIN : TC_ZERO_INT,
		.scale = (enum tc_dtype)tc_dtype_find(a->scale, strlen(a->scale)), .damping = 0.01, .block = 128 };
	return tc_options_canonical(&stage, a, w->cli->options, sizeof(w->cli->options), err);
}

/* ---- what there is ---- */

/* What the checkpoint says of its numbers; bf16 where it does not. */
static enum tc_dtype
stated_dtype(const struct tc_header *h)
{
	static const struct { const char *name; enum tc_dtype dtype; } known[] = {
		{ "float32", TC_F32 }, { "float16", TC_F16 }, { "bfloat16", TC_BF16 },
	};
	json_t *o = json_loadb(h->config, h->config_bytes, 0, NULL), *name = json_object_get(o, "torch_dtype");
	enum tc_dtype dtype = TC_BF16;

	if (!name)
		name = json_object_get(o, "dtype");
	for (size_t i = 0; json_is_string(name) && i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(json_string_value(name), known[i].name) == 0)
			dtype = known[i].dtype;
	json_decref(o);
	return dtype;
}

static int
load(struct work *w)
{
	struct tc_err *err = &w->cli->err;
	const struct tc_header *h = &w->source->header;
	struct tc_record r;
	int got;

	if (tc_config_parse(&w->config, h->config, h->config_bytes, err) < 0)
		return -1;
	w->measure.positions = w->config.positions;
	w->measure.header = h;
	w->sensitivity = tc_alloc(tc_config_tensors(&w->config), sizeof(*w->sensitivity), err);
	if (!w->sensitivity)
		return -1;
	w->measure.sensitivity = w->sensitivity;
	tc_sensitivity_begin(w->sensitivity, tc_config_tensors(&w->config));
	if (tc_stats_file_open(&w->a->stats, w->cli, w->a, h) < 0)
		return -1;
	for (size_t i = 0; i < w->a->stats.hold.n; i++)
		if (tc_sensitivity_take(w->sensitivity, &w->config, &w->a->stats.hold.item[i].r, err) < 0)
			return -1;
	while ((got = tc_source_next(w->source, &r, err)) > 0) {
		if (r.kind == TC_KIND_STAT && !w->a->stats.path && tc_sensitivity_take(w->sensitivity, &w->config, &r, err) < 0)
			return -1;
		if (tc_hold_add(&w->hold, &r, w->source->mapped, err) < 0)
			return -1;
		w->weights |= r.kind == TC_KIND_TENSOR;
		w->tokens |= r.kind == TC_KIND_TOKENS && strcmp(r.u.tokens.tag, "calib") == 0;
	}
	return got;
}

/* The candidates' weights, if there are any: all of them then. */
static int
link_weights(struct work *w)
{
	struct tc_err *err = &w->cli->err;
	uint64_t bytes = 0;

	for (size_t i = 0; i < w->hold.n; i++) {
		const struct tc_record *r = &w->hold.item[i].r;
		struct tc_candidate *a;

		if (r->kind != TC_KIND_TENSOR)
			continue;
		a = tc_candidates_find(&w->all, &r->u.tensor);
		if (!a) {
			bytes += tc_tensor_bytes(&r->u.tensor);
			continue;
		}
		if (tc_config_check(&w->config, &r->u.tensor, err) < 0)
			return -1;
		if (!tc_tensor_has_numbers(&r->u.tensor))
			return tc_fail(err, TC_DATA, "%s: is quantized already", a->t.name);
		if (tc_tensor_check_finite(&r->u.tensor, err) < 0)
			return -1;
		a->weights = &r->u.tensor;
		a->t = r->u.tensor;
		a->held = i;
	}
	for (size_t i = 0; w->weights && i < w->all.n; i++)
		if (!w->all.at[i].weights)
			return tc_fail(err, TC_DATA, "%s is missing", w->all.at[i].t.name);
	if (w->weights)
		w->all.fixed = bytes;
	return 0;
}

/* ---- what may become of them ---- */

static struct tc_choices
class_choices(const struct args *a)
{
	struct tc_choices list = { .n = (size_t)a->class_shares.n };

	for (size_t i = 0; i < list.n; i++) {
		struct tc_choice *c = &list.at[i];

		*c = a->choices.at[0];
		c->by = a->class_bits.n == 0 ? NULL : c->by ? c->by : tc_quantizer_find("rtn");
		c->bits = a->class_bits.n == 0 ? 0 : (int)a->class_bits.at[i];
		c->sparsity = a->class_sparsity.n == 0 ? 0 : (double)a->class_sparsity.at[i] / PERCENT;
	}
	return list;
}

static int
list_choices(struct work *w)
{
	const struct args *a = w->a;
	const struct tc_choices classes = ranks(w) ? class_choices(a) : a->choices;
	struct tc_err *err = &w->cli->err;

	for (size_t i = 0; i < w->all.n; i++) {
		struct tc_candidate *c = &w->all.at[i];

		c->choices = c->kind == TC_CANDIDATE_EMBED ? a->embed : c->kind == TC_CANDIDATE_HEAD ? a->head : classes;
		/* A decoded token reads one row of an untied embedding. */
		c->counts = isnan(a->latency) || c->kind != TC_CANDIDATE_EMBED || w->config.tied;
	}
	if (tc_candidates_rule(&w->all, &w->config, &a->rules, err) < 0)
		return -1;
	return tc_candidates_cost(&w->all, &w->common, err);
}

/* ---- errors ---- */

/* Where no error is known, what rounding leaves of normal numbers: a quarter by
 * each bit. */
static void
guess(struct work *w)
{
	for (size_t i = 0; i < w->all.n; i++) {
		struct tc_candidate *a = &w->all.at[i];
		double n = (double)tc_tensor_elements(&a->t);

		for (size_t k = 0; k < a->choices.n; k++)
			if (!isfinite(a->cost[k].error))
				a->cost[k].error = n * tc_exp(-2 * tc_log(2) * 8 * (double)a->bytes[k] / n);
	}
}

static int
find_errors(struct work *w)
{
	const struct args *a = w->a;
	struct tc_err *err = &w->cli->err;

	if (tc_choice_errors_read(&a->errors, &w->all, w->measure.metric, err) < 0)
		return -1;
	if (w->measure.weigh == TC_WEIGH_UNSET)
		w->measure.weigh = w->weights && w->tokens ? TC_WEIGH_KL : TC_WEIGH_NONE;
	if (w->weights)
		return tc_choice_measure_run(&w->measure, &w->all, err);
	if (w->measure.weigh != TC_WEIGH_NONE)
		return tc_fail(err, TC_DATA, "--weigh %s: the stream has no weights", a->weigh);
	for (size_t i = 0; i < w->all.n; i++)
		for (size_t k = 0; k < w->all.at[i].choices.n; k++)
			if (w->method != UNIFORM && !isfinite(w->all.at[i].cost[k].error))
				return tc_fail(err, TC_DATA, "%s: its errors are not known: the stream has no weights (--errors, or --method uniform)",
				    w->all.at[i].t.name);
	guess(w);
	return 0;
}

/* ---- the budget ---- */

static uint64_t
whole_bytes(double x)
{
	return x < BYTES_MOST ? (uint64_t)x : (uint64_t)BYTES_MOST;
}

/* What tensors that count may have together. */
static int
set_budget(struct work *w)
{
	const struct args *a = w->a;
	uint64_t cache = a->context == TC_UNSET ? 0 : w->config.layers * tc_kv_bytes(&w->config, &(struct tc_kv_options){0}, (size_t)a->context, 1), total;

	w->budget = UINT64_MAX;
	if (!has_budget(a))
		return 0;
	if (!isnan(a->bits_per_weight))
		total = whole_bytes(a->bits_per_weight * (double)w->source->header.parameters / 8);
	else if (!isnan(a->latency))
		total = whole_bytes(a->latency * a->bandwidth * 1e6);
	else
		total = (uint64_t)(a->bytes != TC_UNSET ? a->bytes : a->ram);
	if (total < cache + w->all.fixed)
		return tc_fail(&w->cli->err, TC_USAGE, "the budget is %llu bytes; norms, biases and the cache alone take %llu",
		    (unsigned long long)total, (unsigned long long)(cache + w->all.fixed));
	w->budget = total - cache - w->all.fixed;
	return 0;
}

/* ---- the allocation ---- */

static double
rank_of(const struct work *w, const struct tc_candidate *a)
{
	const struct tc_sensitivity *s = &w->sensitivity[a->place];

	return strcmp(w->a->sensitivity, "act") == 0 ? s->act : s->fisher;
}

/* edge: of embedding and head the choice, where methods rank; theirs are not
 * compared with others. */
static int
allocate_once(struct work *w, size_t edge, struct tc_alloc_item *item)
{
	struct tc_alloc problem = { item, w->all.n, w->budget };
	struct tc_err *err = &w->cli->err;
	int r;

	for (size_t i = 0; i < w->all.n; i++) {
		const struct tc_candidate *a = &w->all.at[i];

		item[i] = (struct tc_alloc_item){ a->cost, a->choices.n, a->kind, tc_tensor_elements(&a->t), 0 };
		if (!ranks(w))
			continue;
		if (a->kind != TC_CANDIDATE_LINEAR) {
			item[i].choice += tc_min(edge, a->choices.n - 1);
			item[i].n = 1;
		} else if (item[i].n > 1) {
			item[i].rank = rank_of(w, a);
			if (!isfinite(item[i].rank))
				return tc_fail(err, TC_DATA, "%s: its %s not known (%s)", a->t.name,
				    strcmp(w->a->sensitivity, "act") == 0 ? "inputs' squares are" : "squared gradients are",
				    strcmp(w->a->sensitivity, "act") == 0 ? "tc-calib" : "tc-fisher");
		}
	}
	r = w->method == UNIFORM ? tc_alloc_uniform(&problem, w->chosen, err) :
	    w->method == GREEDY ? tc_alloc_greedy(&problem, w->chosen, err) :
	    w->method == KNAPSACK ? tc_alloc_knapsack(&problem, w->chosen, err) :
	    tc_alloc_classes(&problem, w->share, (size_t)w->a->class_shares.n, w->chosen, err);
	for (size_t i = 0; r == 0 && i < w->all.n; i++)
		w->chosen[i] += (size_t)(item[i].choice - w->all.at[i].cost);
	return r;
}

/* The edge that leaves the classes most. */
static size_t
cheapest_edge(const struct work *w, size_t edges)
{
	uint64_t least = UINT64_MAX;
	size_t best = 0;

	for (size_t edge = 0; edge < edges; edge++) {
		uint64_t bytes = 0;

		for (size_t i = 0; i < w->all.n; i++) {
			const struct tc_candidate *a = &w->all.at[i];

			if (a->kind != TC_CANDIDATE_LINEAR)
				bytes += a->cost[tc_min(edge, a->choices.n - 1)].bytes;
		}
		if (bytes < least) {
			least = bytes;
			best = edge;
		}
	}
	return best;
}

/* Methods that rank take the first choices of embedding and head that leave the
 * classes enough. */
static int
allocate(struct work *w)
{
	struct tc_err *err = &w->cli->err;
	struct tc_alloc_item *item = tc_alloc(w->all.n, sizeof(*item), err);
	size_t edges = tc_max(w->a->embed.n, w->a->head.n), edge = 0;
	int r = -1;

	w->chosen = tc_zalloc(w->all.n, sizeof(*w->chosen), err);
	if (item && w->chosen)
		do {
			*err = (struct tc_err){0};
			r = allocate_once(w, edge, item);
		} while (r < 0 && err->code == TC_USAGE && ranks(w) && ++edge < edges);
	if (r < 0 && edge == edges) {
		/* Says what the least is. */
		*err = (struct tc_err){0};
		r = allocate_once(w, cheapest_edge(w, edges), item);
	}
	free(item);
	return r;
}

static int
make_plan(struct work *w)
{
	struct tc_plan *p = &w->plan;
	double parameters = (double)w->source->header.parameters;
	uint64_t counted = 0;

	*p = (struct tc_plan){ .predicted = w->all.fixed };
	snprintf(p->method, sizeof(p->method), "%s", w->a->method);
	p->row = tc_zalloc(w->all.n, sizeof(*p->row), &w->cli->err);
	if (!p->row)
		return -1;
	for (size_t i = 0; i < w->all.n; i++) {
		const struct tc_candidate *a = &w->all.at[i];
		size_t k = w->chosen[i];
		struct tc_plan_row *row = &p->row[p->n];

		p->predicted += a->bytes[k];
		counted += a->cost[k].bytes;
		p->error += a->cost[k].error;
		*row = (struct tc_plan_row){ .choice = a->choices.at[k], .bytes = a->bytes[k], .error = ranks(w) ? NAN : a->cost[k].error };
		snprintf(row->name, sizeof(row->name), "%s", a->t.name);
		p->n += !tc_choice_is_skip(&row->choice);
	}
	if (ranks(w) || !w->weights)
		p->error = NAN;
	/* Of the whole model: what does not count has what it takes. */
	p->budget = w->budget == UINT64_MAX ? UINT64_MAX : p->predicted + (w->budget - counted);
	p->bits = 8 * (double)p->predicted / parameters;
	return 0;
}

static int
plan(struct work *w)
{
	struct tc_err *err = &w->cli->err;

	if (tc_candidates_make(&w->all, &w->config, stated_dtype(&w->source->header), err) < 0 || link_weights(w) < 0 ||
	    list_choices(w) < 0 || set_budget(w) < 0)
		return -1;
	if (!ranks(w) && find_errors(w) < 0)
		return -1;
	for (size_t i = 0; ranks(w) && i < w->all.n; i++)
		for (size_t k = 0; k < w->all.at[i].choices.n; k++)
			w->all.at[i].cost[k].error = 0;
	return allocate(w) < 0 ? -1 : make_plan(w);
}

/* ---- what is written ---- */

static int
write_plan(struct work *w, const char *text)
{
	const struct tc_output *o = w->cli->output;
	int r = tc_write_all(o ? tc_output_fd(o) : STDOUT_FILENO, text, strlen(text), &w->cli->err);

	return r < 0 ? tc_err_at(&w->cli->err, "%s", o ? w->a->common.output : "standard output") : 0;
}

static int
put_plan(struct work *w, const char *text)
{
	struct tc_record r = { .kind = TC_KIND_FILE, .nparts = 1, .part = { { "data", text, strlen(text) } } };

	snprintf(r.u.file.name, sizeof(r.u.file.name), "%s", TC_PLAN_FILE);
	return tc_writer_put(w->cli->writer, &r, &w->cli->err);
}

/* Whether the plan depends on the kernels: the model was run, or a choice made of
 * what it reads. */
static bool
used_kernels(const struct work *w)
{
	for (size_t i = 0; !ranks(w) && i < w->all.n; i++)
		for (size_t k = 0; k < w->all.at[i].choices.n; k++)
			if (w->all.at[i].choices.at[k].by && w->all.at[i].choices.at[k].by->needs != TC_NEEDS_NOTHING)
				return true;
	return w->measure.open;
}

/* The plan stands behind the other files; one that was there before goes. */
static int
write_stream(struct work *w, const char *text)
{
	bool put = false;

	if (tc_cli_stream_out(w->cli, w->source, used_kernels(w) ? tc_kernels_name() : "") < 0)
		return -1;
	for (size_t i = 0; i < w->hold.n; i++) {
		const struct tc_record *r = &w->hold.item[i].r;

		if (tc_plan_is_record(r))
			continue;
		if (!put && r->kind != TC_KIND_FILE) {
			put = true;
			if (put_plan(w, text) < 0)
				return -1;
		}
		if (w->a->common.strip && (r->kind == TC_KIND_STAT || r->kind == TC_KIND_TOKENS))
			continue;
		if (tc_writer_put(w->cli->writer, r, &w->cli->err) < 0)
			return -1;
	}
	return tc_cli_stream_end(w->cli, w->source);
}

static void
report(const struct work *w)
{
	const struct tc_plan *p = &w->plan;
	size_t pruned = 0;
	char error[48] = "";

	for (size_t i = 0; i < p->n; i++)
		pruned += p->row[i].choice.sparsity > 0;
	if (isfinite(p->error))
		snprintf(error, sizeof(error), "; predicted %s %.5g", w->measure.weigh <= TC_WEIGH_KL_EACH ? "KL" : "error", p->error);
	tc_cli_say(w->cli, "%s: %zu tensors to change; %llu bytes, %.3f bits per weight of the whole model%s", w->a->method, p->n,
	    (unsigned long long)p->predicted, p->bits, error);
	if (pruned > 0)
		tc_cli_say(w->cli, "%zu tensors are to be pruned: tc-prune before tc-quant", pruned);
}

static int
make_and_write(struct work *w)
{
	char *text = NULL;
	int r;

	if (!w->a->common.output && !w->weights)
		return tc_fail(&w->cli->err, TC_DATA, "the stream has no weights: give -o PLAN");
	if (plan(w) < 0 || tc_plan_text(&w->plan, &text, &w->cli->err) < 0)
		return -1;
	r = w->a->common.output ? write_plan(w, text) : write_stream(w, text);
	free(text);
	if (r == 0)
		report(w);
	return r;
}

/* ---- --role-sweep ---- */

static int
print_sweep(struct work *w, const struct tc_rows *rows)
{
	double nll = tc_mean_of(w->measure.trial.text.nseq, w->measure.trial.base_mean, w->measure.trial.text.weight).mean;
	json_t *o;

	if (!w->a->common.json) {
		printf("%zu sequences, %zu tokens, nll %.5f\n", w->measure.draw.nseq, w->measure.draw.ntokens, nll);
		tc_columns_text(tc_role_sweep_columns, rows);
		return 0;
	}
	o = json_pack("{s:I,s:I,s:f,s:o}", "sequences", (json_int_t)w->measure.draw.nseq, "tokens", (json_int_t)w->measure.draw.ntokens,
	    "nll", nll, "sweep", tc_columns_json(tc_role_sweep_columns, rows));
	return tc_cli_print_json_new(w->cli, o);
}

static int
role_sweep(struct work *w)
{
	const struct tc_choices *list = &w->a->sweep;
	struct tc_err *err = &w->cli->err;
	const struct tc_role_sweep s = { w->cli, &w->all, &w->hold, &w->a->stats, &w->measure.trial, &w->common,
		w->source->header.parameters };
	struct tc_role_sweep_row *rows;
	size_t n = 0;
	int r = 0;

	if (!w->weights)
		return tc_fail(err, TC_DATA, "the stream has no weights");
	if (tc_candidates_make(&w->all, &w->config, TC_BF16, err) < 0 || link_weights(w) < 0 || tc_choice_measure_open(&w->measure, err) < 0)
		return -1;
	rows = tc_alloc(list->n * (TC_ROLES + w->config.layers), sizeof(*rows), err);
	for (size_t k = 0; rows && r == 0 && k < list->n; k++)
		r = tc_role_sweep_run(&s, &list->at[k], w->config.layers, rows, &n);
	if (rows && r == 0)
		r = print_sweep(w, &(struct tc_rows){ rows, n, sizeof(*rows) });
	free(rows);
	return rows ? r : -1;
}

/* ---- --check ---- */

static int
check(struct work *w)
{
	struct tc_plan_option *o = &w->a->alloc;
	struct tc_err *err = &w->cli->err;
	struct tc_source *from;
	struct tc_ledger ledger;
	struct tc_record r;
	size_t differ = 0;
	char why[128];
	int got;

	o->compares = true;
	if (tc_plan_open(o, w->cli, w->source, &from) < 0)
		return -1;
	if (!o->known)
		return tc_fail(err, TC_DATA, "the stream carries no plan: give --alloc PLAN");
	tc_ledger_begin(&ledger, &w->source->header);
	while ((got = tc_source_next(from, &r, err)) > 0) {
		tc_ledger_add(&ledger, &r);
		if (r.kind != TC_KIND_TENSOR)
			continue;
		if (tc_plan_differs(&o->plan, &r.u.tensor, why, err) < 0)
			return -1;
		differ += why[0] != '\0';
		if (why[0])
			printf("%s: %s\n", r.u.tensor.name, why);
	}
	if (got < 0)
		return -1;
	tc_plan_say(o, w->cli, ledger.model_bytes, true);
	if (ledger.tensors == 0)
		return tc_fail(err, TC_DATA, "the stream has no weights");
	if (differ > 0)
		return tc_fail(err, TC_CHECK, "%zu tensors are not as planned", differ);
	if (ledger.model_bytes > o->plan.budget)
		return tc_fail(err, TC_CHECK, "%llu bytes, the budget is %llu", (unsigned long long)ledger.model_bytes,
		    (unsigned long long)o->plan.budget);
	return 0;
}

/* ---- all of it ---- */

static int
run(struct work *w)
{
	const struct args *a = w->a;
	struct tc_cli *cli = w->cli;

	if (derive(w) < 0)
		return -1;
	if (a->check)
		return tc_cli_model(cli, 0, &w->source) < 0 ? -1 : check(w);
	if (!a->common.output && !a->role_sweep && tc_cli_stream_check(cli) < 0)
		return -1;
	if ((a->common.output && strcmp(a->common.output, "-") != 0 && tc_output_open(&cli->output, a->common.output, &cli->err) < 0) ||
	    tc_cli_model_kept(cli, 0, &w->source) < 0 || load(w) < 0)
		return -1;
	return a->role_sweep ? role_sweep(w) : make_and_write(w);
}

int
main(int argc, char **argv)
{
	struct args a = { .common = tc_common_defaults, .bits_per_weight = NAN, .latency = NAN, .bandwidth = NAN,
		.bytes = TC_UNSET, .ram = TC_UNSET, .context = TC_UNSET, .samples = TC_UNSET,
		.class_shares.n = TC_COUNTS_UNSET, .class_bits.n = TC_COUNTS_UNSET, .class_sparsity.n = TC_COUNTS_UNSET };
	struct tc_cli cli;
	struct work w = { .a = &a, .cli = &cli };

	w.measure = (struct tc_choice_measure){ .cli = &cli, .hold = &w.hold, .stats = &a.stats, .common = &w.common };
	tc_cli_begin(&cli, &stage, &a, argc, argv);
	(void)!run(&w);
	tc_choice_measure_close(&w.measure);
	tc_plan_free(&w.plan);
	tc_plan_close(&a.alloc);
	tc_stats_file_close(&a.stats);
	tc_candidates_free(&w.all);
	free(w.chosen);
	free(w.sensitivity);
	tc_hold_clear(&w.hold);
	tc_source_close(w.source);
	return tc_cli_end(&cli);
}
