/* tc-super: finds super weights and super activations.  See tc-super(1).
 *
 * The model is run over and over, each time with other weights zeroed, so every
 * record is held (in the mapping it lies in, where there is one). */
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "cli/cli.h"
#include "cli/draw.h"
#include "cli/spill.h"
#include "cli/super_search.h"
#include "cli/super_table.h"
#include "metric/nll.h"
#include "metric/paired.h"
#include "metric/windows.h"
#include "model/forward.h"

#define DEFAULT_SEQLEN 512
#define DEFAULT_WINDOW 512
#define DEFAULT_MAX_TOKENS 8192
#define DEFAULT_DRAWS 3
#define OUTLIER_SHARE 1e-6      /* 7000 of Llama-7B's weights */
#define SAME_MAGNITUDE 0.1
#define BOOTSTRAP_SEED 0

struct args {
	struct tc_common common;
	double ratio, above;
	const char *known, *eval;
	bool verify;
	int64_t rounds, window, max_tokens, draws, outliers;
};

#define FIELD(f) offsetof(struct args, f)
static const struct tc_option options[] = {
	{ .name = "ratio", .type = TC_OPT_REAL, .offset = FIELD(ratio), .arg = "R", .min = 1, .max = 1e9,
	  .help = "a spike is R times the median of the tokens' largest magnitudes (default 50)" },
	{ .name = "above", .type = TC_OPT_REAL, .offset = FIELD(above), .arg = "X", .min = 0, .max = 1e9,
	  .help = "a spike is what has a magnitude above X, whatever the others have" },
	{ .name = "rounds", .type = TC_OPT_COUNT, .offset = FIELD(rounds), .arg = "N", .min = 1, .max = 100,
	  .help = "search at most N times, what was found before zeroed (default 10)" },
	{ .name = "known", .type = TC_OPT_TEXT, .offset = FIELD(known), .arg = "NAME",
	  .help = "do not search: look at the published super weights of the model NAME" },
	{ .name = "verify", .type = TC_OPT_FLAG, .offset = FIELD(verify),
	  .help = "measure what zeroing them costs, and zeroing others" },
	{ .name = "eval", .type = TC_OPT_TEXT, .offset = FIELD(eval), .arg = "FILE", .role = TC_OPT_FREE,
	  .help = "with --verify: the text that is scored" },
	{ .name = "window", .type = TC_OPT_COUNT, .offset = FIELD(window), .arg = "N", .min = 2, .max = 1 << 24,
	  .help = "with --verify: tokens of a window (default 512, or the model's positions if fewer)" },
	{ .name = "max-tokens", .type = TC_OPT_COUNT, .offset = FIELD(max_tokens), .arg = "N", .min = 2, .max = 1LL << 40,
	  .help = "with --verify: use the first N tokens of the text (default 8192)" },
	{ .name = "draws", .type = TC_OPT_COUNT, .offset = FIELD(draws), .arg = "N", .min = 0, .max = 1000,
	  .help = "with --verify: zero random weights of the same magnitude N times (default 3)" },
	{ .name = "outliers", .type = TC_OPT_COUNT, .offset = FIELD(outliers), .arg = "N", .min = 0, .max = 1 << 24,
	  .help = "with --verify: zero the N largest others instead (default one in a million)" },
	{ .type = TC_OPT_END }
};

static const struct tc_stage stage = {
	.name = "tc-super",
	.summary = "find super weights and super activations",
	.operands = "[MODEL]",
	.operands_max = 1,
	.options = options,
	.common = TC_COMMON_ALWAYS | TC_COMMON_OUTPUT | TC_COMMON_TEXT | TC_COMMON_SAMPLE | TC_COMMON_SEED |
	    TC_COMMON_COMPUTE | TC_COMMON_JSON,
	.common_offset = offsetof(struct args, common),
};

struct work {
	const struct args *a;
	struct tc_cli *cli;
	struct tc_source *source;
	struct tc_tokenizer *tokenizer;
	struct tc_ids text, eval;
	struct tc_draw draw;
	struct tc_hold hold;               /* every record */
	struct tc_rerun model;
	struct tc_super super;
	bool complete;                     /* the last round found nothing */
	struct tc_windows windows;
	struct tc_predictions predictions;
	double *nll, *base, *mean;         /* of each prediction; of each window */
	struct tc_super_effect *effect;
	size_t neffects;
	double tolerance;                  /* of the magnitudes of random weights */
};

/* ---- the search ---- */

static struct tc_super_search
search_of(struct work *w)
{
	return (struct tc_super_search){ w->cli, &w->super, &w->draw };
}

static int
search(struct work *w)
{
	const struct tc_super_search s = search_of(w);
	size_t rounds = w->a->known ? 1 : (size_t)w->a->rounds;

	if (tc_super_search_rounds(&s, rounds, &w->complete) < 0)
		return -1;
	w->complete |= w->a->known != NULL;
	if (!w->complete)
		tc_cli_say(w->cli, "the search stopped at --rounds %zu: the last one still found some", rounds);
	return 0;
}

static int
follow(struct work *w)
{
	static const struct tc_spots nothing;
	const struct tc_super_search s = search_of(w);

	if (tc_super_search_run(&s, "with them", tc_super_follow_with, &nothing) < 0)
		return -1;
	return tc_super_search_run(&s, "without them", tc_super_follow_without, &w->super.zeroed);
}

/* ---- ablation ---- */

/* What a run of the model is for. */
struct purpose {
	struct work *w;
	const char *what;
};

static int
see_block(void *ctx, size_t block, struct tc_err *err)
{
	const struct purpose *p = ctx;

	(void)err;
	tc_cli_progress(p->w->cli, "%s: block %zu of %zu", p->what, block + 1, p->w->super.layers);
	return 0;
}

/* Of a text; token ids are scored as they were run. */
static int
cut_windows(struct work *w, const uint32_t **ids)
{
	const struct args *a = w->a;
	struct tc_err *err = &w->cli->err;
	size_t positions = w->model.forward.config.positions, tokens;
	size_t window = a->window == TC_UNSET ? tc_min(DEFAULT_WINDOW, positions) : (size_t)a->window;

	if (a->common.ids && !a->eval) {
		*ids = w->draw.ids;
		return tc_windows_lines(&w->windows, w->draw.nseq, w->draw.length, positions, 0, err);
	}
	if (window > positions)
		return tc_fail(err, TC_USAGE, "--window %zu: the model has %zu positions", window, positions);
	if (tc_cli_text(w->cli, w->tokenizer, a->eval, "text/eval.txt", TC_TEXT_RUNNING, &w->eval) < 0)
		return -1;
	*ids = w->eval.ids;
	tokens = tc_min(w->eval.n, a->max_tokens == TC_UNSET ? DEFAULT_MAX_TOKENS : (size_t)a->max_tokens);
	return tc_windows_fixed(&w->windows, tokens, window, window, 0, err);
}

static int
prepare_predictions(struct work *w)
{
	const uint32_t *ids = NULL;

	if (cut_windows(w, &ids) < 0)
		return -1;
	if (w->windows.scored == 0)
		return tc_fail(&w->cli->err, TC_DATA, "the text has %zu tokens: too short for a window", w->windows.dropped);
	return tc_predictions_make(&w->predictions, &w->windows, ids, NULL, &w->cli->err);
}

/* Means of the windows' NLL with some weights zeroed. */
static int
score(struct work *w, const char *what, const struct tc_spots *zeroed, double *mean)
{
	const struct tc_predictions *p = &w->predictions;
	struct tc_nll nll = { .n = p->n, .row = p->row, .target = p->target, .nll = w->nll };
	struct tc_exec_options o = {0};
	struct tc_err *err = &w->cli->err;
	struct tc_final final;

	if (tc_rerun_begin(&w->model, NULL, NULL, err) < 0 ||
	    tc_cli_forward_tokens(w->cli, &w->model.forward, p->nseq, p->length, p->ids, o, 1) < 0 ||
	    tc_rerun_end(&w->model, &(struct tc_rerun_change){ .zeroed = zeroed }, see_block, &(struct purpose){ w, what }, err) < 0)
		return -1;
	final = tc_forward_final(&w->model.forward);
	if (tc_nll_run(&nll, &final, NULL, w->cli->pool, err) < 0)
		return -1;
	return tc_predictions_means(p, w->nll, mean, err);
}

/* Completes a row that says what is zeroed, and adds it. */
static int
try_without(struct work *w, struct tc_super_effect e, const struct tc_spots *zeroed)
{
	const struct tc_predictions *p = &w->predictions;

	if (score(w, e.zeroed, zeroed, w->mean) < 0)
		return -1;
	e.weights = zeroed->n;
	e.least = INFINITY;
	for (size_t i = 0; i < zeroed->n; i++) {
		e.least = fmin(e.least, fabs((double)zeroed->at[i].value));
		e.most = fmax(e.most, fabs((double)zeroed->at[i].value));
	}
	e.nll = tc_mean_of(p->nseq, w->mean, p->weight).mean;
	for (size_t i = 0; i < p->nseq; i++)
		w->mean[i] -= w->base[i];
	e.delta = tc_mean_of(p->nseq, w->mean, p->weight).mean;
	if (tc_bootstrap(p->nseq, w->mean, p->weight, BOOTSTRAP_SEED, &e.low, &e.high, &w->cli->err) < 0)
		return -1;
	w->effect[w->neffects++] = e;
	return 0;
}

static struct tc_super_effect
effect_of(const char *zeroed)
{
	return (struct tc_super_effect){ .zeroed = zeroed, .block = SIZE_MAX, .row = SIZE_MAX, .column = SIZE_MAX };
}

static int
try_each(struct work *w)
{
	for (size_t i = 0; i < w->super.n; i++) {
		const struct tc_super_weight *s = &w->super.weight[i];
		struct tc_super_effect e = { .zeroed = "one", .block = s->block, .row = s->row, .column = s->column };

		if (try_without(w, e, &(struct tc_spots){ &w->super.zeroed.at[i], 1, 1 }) < 0)
			return -1;
	}
	return 0;
}

static int
try_random(struct work *w)
{
	struct tc_super_effect e = effect_of("random");
	struct tc_rng rng;

	tc_rng_seed(&rng, w->a->common.seed == TC_UNSET ? 0 : (uint64_t)w->a->common.seed);
	w->tolerance = SAME_MAGNITUDE;
	for (e.draw = 1; e.draw <= (size_t)w->a->draws; e.draw++) {
		struct tc_spots others = {0};
		double tolerance = SAME_MAGNITUDE;
		int r = tc_spots_random(&others, w->model.tensor, &w->super.zeroed, &tolerance, &rng, &w->cli->err);

		if (r == 0)
			r = try_without(w, e, &others);
		w->tolerance = fmax(w->tolerance, tolerance);
		tc_spots_free(&others);
		if (r < 0)
			return -1;
	}
	if (w->tolerance > SAME_MAGNITUDE)
		tc_cli_say(w->cli, "too few weights of the same magnitude: random ones are within %.0f%% of it", 100 * w->tolerance);
	return 0;
}

static int
try_outliers(struct work *w)
{
	double share = OUTLIER_SHARE * (double)w->source->header.parameters;
	size_t n = w->a->outliers == TC_UNSET ? tc_max(w->super.n, (size_t)share) : (size_t)w->a->outliers;
	struct tc_spots others = {0};
	int r = tc_spots_largest(&others, w->hold.n, w->model.tensor, &w->super.zeroed, n, &w->cli->err);

	if (r == 0 && others.n > 0)
		r = try_without(w, effect_of("outliers"), &others);
	tc_spots_free(&others);
	return r;
}

static int
verify(struct work *w)
{
	static const struct tc_spots nothing;
	struct tc_err *err = &w->cli->err;

	if (prepare_predictions(w) < 0)
		return -1;
	w->effect = tc_alloc(w->super.n + (size_t)w->a->draws + 2, sizeof(*w->effect), err);
	w->nll = tc_alloc(w->predictions.n, sizeof(*w->nll), err);
	w->base = tc_alloc(w->predictions.nseq, sizeof(*w->base), err);
	w->mean = tc_alloc(w->predictions.nseq, sizeof(*w->mean), err);
	if (!w->effect || !w->nll || !w->base || !w->mean || score(w, "base", &nothing, w->base) < 0)
		return -1;
	if (try_each(w) < 0 || try_without(w, effect_of("all"), &w->super.zeroed) < 0 || try_random(w) < 0)
		return -1;
	return try_outliers(w);
}

/* ---- what is printed ---- */

static struct tc_rows
blocks(const struct work *w)
{
	return (struct tc_rows){ w->super.block, w->super.layers, sizeof(*w->super.block) };
}

static struct tc_rows
weights(const struct work *w)
{
	return (struct tc_rows){ w->super.weight, w->super.n, sizeof(*w->super.weight) };
}

static struct tc_rows
steps(const struct work *w, size_t weight)
{
	return (struct tc_rows){ w->super.step + weight * w->super.layers, w->super.layers, sizeof(*w->super.step) };
}

static struct tc_rows
effects(const struct work *w)
{
	return (struct tc_rows){ w->effect, w->neffects, sizeof(*w->effect) };
}

static double
base_nll(const struct work *w)
{
	return tc_mean_of(w->predictions.nseq, w->base, w->predictions.weight).mean;
}

static json_t *
weights_json(const struct work *w)
{
	struct tc_rows rows = weights(w);
	json_t *list = tc_columns_json(tc_super_weight_columns, &rows);

	for (size_t i = 0; list && i < w->super.n; i++) {
		struct tc_rows after = steps(w, i);

		if (json_object_set_new(json_array_get(list, i), "after", tc_columns_json(tc_super_step_columns, &after)) < 0) {
			json_decref(list);
			list = NULL;
		}
	}
	return list;
}

static json_t *
verify_json(const struct work *w)
{
	struct tc_rows rows = effects(w);

	if (!w->effect)
		return json_null();
	return json_pack("{s:I,s:I,s:f,s:f,s:o}", "windows", (json_int_t)w->windows.n, "tokens_scored",
	    (json_int_t)w->windows.scored, "nll", base_nll(w), "tolerance", w->tolerance, "effects",
	    tc_columns_json(tc_super_effect_columns, &rows));
}

static int
print_json(const struct work *w)
{
	const struct tc_super_rule *rule = &w->super.rule;
	bool relative = isnan(rule->above);
	struct tc_rows rows = blocks(w);
	json_t *o = json_pack("{s:s,s:f,s:I,s:I,s:I,s:b,s:o,s:o,s:o}", "rule", relative ? "ratio" : "above",
	    "threshold", relative ? rule->ratio : rule->above, "sequences", (json_int_t)w->draw.nseq,
	    "tokens", (json_int_t)w->draw.ntokens, "rounds", (json_int_t)w->super.rounds, "complete", w->complete,
	    "blocks", tc_columns_json(tc_super_block_columns, &rows), "weights", weights_json(w), "verify", verify_json(w));

	return tc_cli_print_json_new(w->cli, o);
}

/* The weight whose output stands out most. */
static size_t
strongest(const struct work *w)
{
	size_t best = 0;

	for (size_t i = 1; i < w->super.n; i++)
		if (w->super.weight[i].out_ratio > w->super.weight[best].out_ratio)
			best = i;
	return best;
}

static void
print_weights(const struct work *w)
{
	const struct tc_super_weight *best = &w->super.weight[strongest(w)];
	struct tc_rows rows = weights(w), after = steps(w, strongest(w));

	printf("\n%s\n", w->a->known ? "published super weights" : "super weights");
	tc_columns_text(tc_super_weight_columns, &rows);
	printf("\nthe residual stream after each block: channel %zu of token %zu, sequence %zu\n", best->row, best->position,
	    best->sequence);
	tc_columns_text(tc_super_step_columns, &after);
}

static int
print_text(const struct work *w)
{
	struct tc_rows rows = blocks(w), tried = effects(w);

	printf("down projections, %zu sequences, %zu tokens\n", w->draw.nseq, w->draw.ntokens);
	tc_columns_text(tc_super_block_columns, &rows);
	if (w->super.n > 0)
		print_weights(w);
	else
		printf("\nno super weights\n");
	if (w->effect) {
		printf("\nnll %.5f, %zu predictions in %zu windows\n", base_nll(w), w->windows.scored, w->windows.n);
		tc_columns_text(tc_super_effect_columns, &tried);
	}
	return 0;
}

static int
write_list(const struct work *w)
{
	struct tc_err *err = &w->cli->err;
	struct tc_buf text = {0};
	char line[128] = "# block\trow\tcolumn\tvalue\n";
	int r = tc_buf_append(&text, line, strlen(line), err);

	for (size_t i = 0; r == 0 && i < w->super.n; i++) {
		const struct tc_super_weight *s = &w->super.weight[i];

		snprintf(line, sizeof(line), "%zu\t%zu\t%zu\t%.9g\n", s->block, s->row, s->column, s->value);
		r = tc_buf_append(&text, line, strlen(line), err);
	}
	if (r == 0 && tc_write_all(tc_output_fd(w->cli->output), text.p, text.n, err) < 0)
		r = tc_err_at(err, "%s", w->a->common.output);
	tc_buf_free(&text);
	return r;
}

/* ---- all of it ---- */

static int
check_args(struct args *a, struct tc_err *err)
{
	const struct { const char *name; bool given; } verifying[] = {
		{ "eval", a->eval }, { "window", a->window != TC_UNSET }, { "max-tokens", a->max_tokens != TC_UNSET },
		{ "draws", a->draws != TC_UNSET }, { "outliers", a->outliers != TC_UNSET },
	};

	for (size_t i = 0; i < sizeof(verifying) / sizeof(verifying[0]); i++)
		if (verifying[i].given && !a->verify)
			return tc_fail(err, TC_USAGE, "--%s goes with --verify", verifying[i].name);
	if (a->common.ids && !a->eval && (a->window != TC_UNSET || a->max_tokens != TC_UNSET))
		return tc_fail(err, TC_USAGE, "--window and --max-tokens go with a text: give --eval");
	if (!isnan(a->ratio) && !isnan(a->above))
		return tc_fail(err, TC_USAGE, "--ratio and --above exclude each other");
	if (a->known && a->rounds != TC_UNSET)
		return tc_fail(err, TC_USAGE, "--known and --rounds exclude each other");
	if (a->common.output && strcmp(a->common.output, "-") == 0)
		return tc_fail(err, TC_USAGE, "-o -: the list goes to a file");
	if (isnan(a->ratio))
		a->ratio = TC_SUPER_RATIO;
	if (a->rounds == TC_UNSET)
		a->rounds = TC_SUPER_ROUNDS;
	if (a->draws == TC_UNSET)
		a->draws = DEFAULT_DRAWS;
	return 0;
}

static int
hold_all(struct work *w)
{
	struct tc_err *err = &w->cli->err;
	struct tc_record r;
	int got;

	while ((got = tc_source_next(w->source, &r, err)) > 0)
		if (tc_cli_take_tokenizer(w->cli, &r, &w->tokenizer) < 0 || tc_hold_add(&w->hold, &r, w->source->mapped, err) < 0)
			return -1;
	return got;
}

static int
name_known(struct work *w)
{
	struct tc_err *err = &w->cli->err;
	struct tc_spots known = {0};
	char path[PATH_MAX];
	int r = tc_cli_share(w->cli, "super-weights.tsv", path, sizeof(path));

	if (r == 0)
		r = tc_spots_read(&known, path, w->a->known, err);
	if (r == 0 && known.n == 0)
		r = tc_fail(err, TC_USAGE, "--known %s: is not in %s", w->a->known, path);
	if (r == 0 && tc_super_name(&w->super, &known, err) < 0)
		r = tc_err_at(err, "--known %s", w->a->known);
	tc_spots_free(&known);
	return r;
}

static int
prepare(struct work *w)
{
	struct tc_super_rule rule = { w->a->ratio, w->a->above };
	struct tc_err *err = &w->cli->err;

	if (tc_rerun_open(&w->model, &w->source->header, &w->hold, w->cli->pool, err) < 0 ||
	    tc_cli_tokens(w->cli, w->tokenizer, "text/calib.txt", TC_TEXT_RUNNING, &w->text) < 0 ||
	    tc_cli_draw(w->cli, &w->text, w->model.forward.config.positions, TC_SUPER_SAMPLES, DEFAULT_SEQLEN, &w->draw) < 0 ||
	    tc_super_open(&w->super, &w->model, &rule, w->draw.ntokens, err) < 0 || (w->a->known && name_known(w) < 0))
		return -1;
	w->super.first = w->draw.first;
	return 0;
}

/* After everything is printed. */
static int
check_known(const struct work *w)
{
	size_t n = 0;

	for (size_t i = 0; w->a->known && i < w->super.n; i++)
		n += !w->super.weight[i].spike;
	return n == 0 ? 0 : tc_fail(&w->cli->err, TC_CHECK, "%zu of %zu published super weights have no spikes here", n, w->super.n);
}

static int
run(struct work *w, struct args *a)
{
	struct tc_cli *cli = w->cli;

	if (check_args(a, &cli->err) < 0 ||
	    (a->common.output && tc_output_open(&cli->output, a->common.output, &cli->err) < 0) ||
	    tc_cli_model_kept(cli, 0, &w->source) < 0 || hold_all(w) < 0 || prepare(w) < 0 || search(w) < 0)
		return -1;
	if (w->super.n > 0 && (follow(w) < 0 || (a->verify && verify(w) < 0)))
		return -1;
	if ((a->common.output && write_list(w) < 0) || (a->common.json ? print_json(w) : print_text(w)) < 0)
		return -1;
	return check_known(w);
}

int
main(int argc, char **argv)
{
	struct args a = { .common = tc_common_defaults, .ratio = NAN, .above = NAN, .rounds = TC_UNSET, .window = TC_UNSET,
		.max_tokens = TC_UNSET, .draws = TC_UNSET, .outliers = TC_UNSET };
	struct tc_cli cli;
	struct work w = { .a = &a, .cli = &cli };

	tc_cli_begin(&cli, &stage, &a, argc, argv);
	(void)!run(&w, &a);
	free(w.effect);
	free(w.nll);
	free(w.base);
	free(w.mean);
	tc_predictions_free(&w.predictions);
	tc_windows_free(&w.windows);
	tc_super_close(&w.super);
	tc_rerun_close(&w.model);
	tc_hold_clear(&w.hold);
	tc_tokenizer_free(w.tokenizer);
	tc_ids_free(&w.text);
	tc_ids_free(&w.eval);
	tc_draw_free(&w.draw);
	tc_source_close(w.source);
	return tc_cli_end(&cli);
}
