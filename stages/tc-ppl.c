/* tc-ppl: perplexity of a model stream, alone or against a base model.  See
 * tc-ppl(1). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "cli/cli.h"
#include "cli/compute.h"
#include "cli/result.h"
#include "cli/scored.h"
#include "cli/spill.h"
#include "cli/tokens.h"
#include "kernel/kernel.h"
#include "metric/nll.h"
#include "metric/overlap.h"
#include "metric/paired.h"
#include "metric/windows.h"

#define DEFAULT_WINDOW 1024
#define BOOTSTRAP_SEED 0

/* A protocol that people know by name. */
struct preset {
	const char *name;
	size_t window;        /* 0: the default */
	size_t stride;        /* 0: the window */
	int score_half;       /* score from the window's middle */
	int sliding;          /* score what no earlier window held, the last window short */
	int bos_each;         /* every window's first token becomes the BOS, if there is one */
	enum tc_text_as as;
};

static const struct preset presets[] = {
	{ .name = "windows" },
	{ .name = "hf-sliding", .window = 1024, .stride = 512, .sliding = 1 },
	{ .name = "gptq", .as = TC_TEXT_JOINED },
	{ .name = "llama.cpp", .window = 512, .score_half = 1, .bos_each = 1 },
	{ .name = "lines", .window = 512, .as = TC_TEXT_LINES },
};

struct args {
	struct tc_common common;
	int64_t window, stride, score_from, max_tokens;
	const char *preset, *base, *kv;
};

#define FIELD(f) offsetof(struct args, f)
static const struct tc_option options[] = {
	{ .name = "preset", .type = TC_OPT_NAME, .offset = FIELD(preset), .arg = "NAME",
	  .names = "windows|hf-sliding|gptq|llama.cpp|lines", .help = "a protocol by name (default windows)" },
	{ .name = "window", .type = TC_OPT_COUNT, .offset = FIELD(window), .arg = "N", .min = 2, .max = 1 << 24,
	  .help = "tokens of a window (default 1024, or the model's positions if fewer)" },
	{ .name = "stride", .type = TC_OPT_COUNT, .offset = FIELD(stride), .arg = "N", .min = 1, .max = 1 << 24,
	  .help = "tokens from one window to the next (default: the window)" },
	{ .name = "score-from", .type = TC_OPT_COUNT, .offset = FIELD(score_from), .arg = "K", .min = 0, .max = 1 << 24,
	  .help = "score the predictions made at positions K and later of a window (default 0)" },
	{ .name = "max-tokens", .type = TC_OPT_COUNT, .offset = FIELD(max_tokens), .arg = "N", .min = 2, .max = 1LL << 40,
	  .help = "use the first N tokens of the text (default: all)" },
	{ .name = "kv", .type = TC_OPT_NAME, .offset = FIELD(kv), .arg = "FORMAT", .names = TC_KV_NAMES,
	  .help = "how the model's attention holds keys and values (default f32)" },
	{ .name = "base", .type = TC_OPT_TEXT, .offset = FIELD(base), .arg = "MODEL", .role = TC_OPT_FREE,
	  .help = "compare with this model: paired difference, KL divergence, same-top rate" },
	{ .type = TC_OPT_END }
};

static const struct tc_stage stage = {
	.name = "tc-ppl",
	.summary = "perplexity of a model stream",
	.operands = "[MODEL]",
	.operands_max = 1,
	.options = options,
	.common = TC_COMMON_ALWAYS | TC_COMMON_TEXT | TC_COMMON_INT8 | TC_COMMON_MEMORY | TC_COMMON_JSON | TC_COMMON_RESULT,
	.common_offset = offsetof(struct args, common),
};

struct protocol {
	const struct preset *preset;
	size_t window, stride, score_from;
	bool bos;     /* a BOS was put in front */
	struct tc_kv_options kv;
};

struct ppl {
	const struct args *a;
	struct tc_cli *cli;
	struct protocol protocol;
	struct tc_int8 how, *int8;    /* of the model's products; NULL: f32, as the base's are */
	struct tc_scored model, base;
	struct tc_ids text;
	struct tc_windows windows;
	struct tc_predictions predictions;
	struct tc_nll nll;
	/* per window */
	double *mean, *base_mean, *diff;
	double began;                 /* when the tokens were ready */
};

static size_t
count_or(int64_t given, size_t otherwise)
{
	return given == TC_UNSET ? otherwise : (size_t)given;
}

static int
choose_protocol(struct ppl *p, struct tc_err *err)
{
	const struct args *a = p->a;
	struct protocol *o = &p->protocol;
	size_t positions = p->model.forward.config.positions;

	if (a->kv && tc_kv_parse(&o->kv, a->kv, err) < 0)
		return -1;
	for (size_t i = 0; i < sizeof(presets) / sizeof(presets[0]); i++)
		if (strcmp(presets[i].name, a->preset) == 0)
			o->preset = &presets[i];
	o->window = count_or(a->window, tc_min(o->preset->window ? o->preset->window : DEFAULT_WINDOW, positions));
	if (o->window > positions)
		return tc_fail(err, TC_USAGE, "--window %zu: the model has %zu positions", o->window, positions);
	o->stride = count_or(a->stride, o->preset->stride ? tc_min(o->preset->stride, o->window) : o->window);
	if (o->stride > o->window)
		return tc_fail(err, TC_USAGE, "--stride %zu: larger than the window of %zu", o->stride, o->window);
	o->score_from = count_or(a->score_from, o->preset->score_half ? o->window / 2 : 0);
	if (o->score_from + 2 > o->window)
		return tc_fail(err, TC_USAGE, "--score-from %zu: nothing of a window of %zu would be scored", o->score_from,
		    o->window);
	if ((o->preset->sliding || o->preset->as == TC_TEXT_LINES) && a->score_from != TC_UNSET)
		return tc_fail(err, TC_USAGE, "--score-from: the preset %s says what is scored", o->preset->name);
	if (o->preset->as == TC_TEXT_LINES && a->stride != TC_UNSET)
		return tc_fail(err, TC_USAGE, "--stride: the preset lines has none");
	return 0;
}

static int
cut_windows(struct ppl *p, struct tc_err *err)
{
	const struct protocol *o = &p->protocol;
	size_t tokens = p->text.n;
	/* One sequence of ids is a running text, unless it is shorter than a window. */
	bool apart = p->text.nseq > 1 || o->preset->as == TC_TEXT_LINES || (p->text.nseq == 1 && p->text.n <= o->window);
	int r;

	if (apart && p->a->max_tokens != TC_UNSET)
		return tc_fail(err, TC_USAGE, "--max-tokens goes with a running text");
	if (apart && (o->preset->sliding || p->a->stride != TC_UNSET))
		return tc_fail(err, TC_USAGE, "sequences that stand apart are not slid over (--stride, %s)", o->preset->name);
	if (p->a->max_tokens != TC_UNSET)
		tokens = tc_min(tokens, (size_t)p->a->max_tokens);
	if (apart)
		r = tc_windows_lines(&p->windows, p->text.nseq, p->text.length, o->window, o->score_from, err);
	else if (o->preset->sliding)
		r = tc_windows_sliding(&p->windows, tokens, o->window, o->stride, err);
	else
		r = tc_windows_fixed(&p->windows, tokens, o->window, o->stride, o->score_from, err);
	if (r == 0 && p->windows.scored == 0)
		return tc_fail(err, TC_DATA, "the text has %zu tokens: too short for a window of %zu", tokens, o->window);
	return r;
}

static int
lay_out(struct ppl *p, struct tc_err *err)
{
	uint32_t bos;
	bool replace = p->protocol.preset->bos_each && p->model.tokenizer && tc_tokenizer_bos(p->model.tokenizer, &bos);

	return tc_predictions_make(&p->predictions, &p->windows, p->text.ids, replace ? &bos : NULL, err);
}

static int
prepare_text(struct ppl *p)
{
	struct tc_err *err = &p->cli->err;
	uint32_t bos;

	if (choose_protocol(p, err) < 0 ||
	    tc_cli_tokens(p->cli, p->model.tokenizer, "text/eval.txt", p->protocol.preset->as, &p->text) < 0)
		return -1;
	p->protocol.bos = p->model.tokenizer && !p->a->common.ids && tc_tokenizer_bos(p->model.tokenizer, &bos);
	if (cut_windows(p, err) < 0 || lay_out(p, err) < 0)
		return -1;
	p->began = tc_now();
	return 0;
}

/* A model's files have come, its tensors begin. */
static int
start(void *ctx, struct tc_scored *m)
{
	struct ppl *p = ctx;
	const struct tc_predictions *t = &p->predictions;
	struct tc_exec_options o = {0};

	if ((m == &p->model ? prepare_text(p) : tc_scored_same_tokens(&p->model, m, &p->cli->err)) < 0)
		return -1;
	if (m == &p->model)
		o.kv = p->protocol.kv;
	/* Two models' states are there at once. */
	return tc_cli_forward_tokens(p->cli, &m->forward, t->nseq, t->length, t->ids, o, p->a->base ? 2 : 1);
}

/* Takes all tokens through the model whose source is open. */
static int
run_model(struct ppl *p, struct tc_scored *m)
{
	const struct tc_scored_how how = { .name = m == &p->base ? "base" : "model", .int8 = m == &p->model ? p->int8 : NULL,
		.hashed = p->a->common.result != NULL, .start = start, .ctx = p };

	return tc_scored_run(p->cli, m, &how);
}

static int
score(struct ppl *p)
{
	struct tc_err *err = &p->cli->err;
	struct tc_final m = tc_forward_final(&p->model.forward), b = {0};

	if (p->base.open)
		b = tc_forward_final(&p->base.forward);
	if (tc_nll_alloc(&p->nll, &p->predictions, p->base.open, err) < 0)
		return -1;
	return tc_nll_run(&p->nll, &m, p->base.open ? &b : NULL, p->cli->pool, err);
}

/* Means of each window. */
static int
sum_windows(struct ppl *p)
{
	struct tc_err *err = &p->cli->err;
	size_t n = p->windows.n;

	p->mean = tc_alloc(n, sizeof(double), err);
	p->base_mean = tc_zalloc(n, sizeof(double), err);
	p->diff = tc_zalloc(n, sizeof(double), err);
	if (!p->mean || !p->base_mean || !p->diff || tc_predictions_means(&p->predictions, p->nll.nll, p->mean, err) < 0)
		return -1;
	if (p->base.open && tc_predictions_means(&p->predictions, p->nll.base_nll, p->base_mean, err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		p->diff[i] = p->mean[i] - p->base_mean[i];
	return 0;
}

static json_t *
protocol_json(const struct ppl *p)
{
	const struct protocol *o = &p->protocol;
	json_t *j = json_pack("{s:s,s:I,s:I,s:I,s:b}", "preset", o->preset->name, "window", (json_int_t)o->window,
	    "stride", (json_int_t)o->stride, "score_from", (json_int_t)o->score_from, "bos", o->bos);

	if (j && (!p->a->kv || json_object_set_new(j, "kv", json_string(p->a->kv)) == 0) &&
	    tc_cli_compute_json(p->cli, p->int8, j) == 0)
		return j;
	json_decref(j);
	return NULL;
}

static int
add_base(const struct ppl *p, json_t *o, struct tc_err *err)
{
	struct tc_mean base = tc_mean_of(p->windows.n, p->base_mean, p->predictions.weight);
	struct tc_mean diff = tc_mean_of(p->windows.n, p->diff, p->predictions.weight);
	double low, high, kld = 0, same = 0, n = (double)p->nll.n;

	if (tc_bootstrap(p->windows.n, p->diff, p->predictions.weight, BOOTSTRAP_SEED, &low, &high, err) < 0)
		return -1;
	for (size_t i = 0; i < p->nll.n; i++) {
		kld += p->nll.kld[i];
		same += p->nll.same_top[i];
	}
	json_object_set_new(o, "base_ppl", json_real(tc_exp(base.mean)));
	json_object_set_new(o, "ppl_ratio", json_real(tc_exp(diff.mean)));
	json_object_set_new(o, "delta", json_real(diff.mean));
	json_object_set_new(o, "delta_low", json_real(low));
	json_object_set_new(o, "delta_high", json_real(high));
	json_object_set_new(o, "delta_stderr", json_real(diff.stderr_));
	json_object_set_new(o, "kld", json_real(kld / n));
	json_object_set_new(o, "same_top", json_real(same / n));
	return 0;
}

/* The figures that are functions of the inputs. */
static json_t *
figures(const struct ppl *p, struct tc_err *err)
{
	struct tc_mean m = tc_mean_of(p->windows.n, p->mean, p->predictions.weight);
	double ppl = tc_exp(m.mean);
	json_t *o = json_pack("{s:f,s:f,s:f,s:f,s:I,s:I,s:I,s:o}",
	    "ppl", ppl, "nll", m.mean, "stderr", m.stderr_, "ppl_stderr", ppl * m.stderr_,
	    "tokens_scored", (json_int_t)p->windows.scored, "tokens_dropped", (json_int_t)p->windows.dropped,
	    "windows", (json_int_t)p->windows.n, "protocol", protocol_json(p));

	if (!o) {
		if (isfinite(ppl))
			tc_fail_nomem(err, 0);
		else
			tc_fail(err, TC_DATA, "nll %g: the perplexity is beyond all bounds", m.mean);
		return NULL;
	}
	if (tc_scored_size_json(&p->model, o, err) < 0) {
		json_decref(o);
		return NULL;
	}
	if (p->int8 && json_object_set_new(o, "int8_layers", json_pack("{s:I,s:I}", "int8", (json_int_t)p->how.layers,
	    "f32", (json_int_t)p->how.others)) < 0) {
		json_decref(o);
		tc_fail_nomem(err, 0);
		return NULL;
	}
	if (p->base.open && add_base(p, o, err) < 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

static void
add_run(const struct ppl *p, json_t *o)
{
	double seconds = tc_now() - p->began, tokens = (double)p->predictions.ntokens;

	json_object_set_new(o, "seconds", json_real(seconds));
	json_object_set_new(o, "tokens_per_second", json_real(tokens / seconds));
	json_object_set_new(o, "peak_rss_bytes", json_integer((json_int_t)tc_peak_rss_bytes()));
}

static json_t *
list_of(const double *x, size_t n)
{
	json_t *a = json_array();

	for (size_t i = 0; a && i < n; i++)
		json_array_append_new(a, json_real(x[i]));
	return a;
}

static int
write_result(const struct ppl *p, const json_t *figures)
{
	json_t *measured = json_deep_copy(figures), *run = json_object();
	double overlap;
	int r = -1;

	if (!measured || !run) {
		tc_fail_nomem(&p->cli->err, 0);
		goto out;
	}
	json_object_set_new(measured, "windows_nll", list_of(p->mean, p->windows.n));
	json_object_set_new(measured, "windows_scored", list_of(p->predictions.weight, p->windows.n));
	json_object_set_new(measured, "model", tc_scored_json(&p->model));
	json_object_set_new(measured, "tokenizer_sha256", json_string(p->model.tokenizer_sha256));
	json_object_set_new(measured, "text_sha256", json_string(p->text.sha256));
	json_object_set_new(measured, "options", json_string(p->cli->options));
	if (p->model.calib) {
		if (tc_overlap(p->model.calib, p->model.ncalib, p->text.ids, p->text.n, &overlap, &p->cli->err) < 0)
			goto out;
		json_object_set_new(measured, "calib_text_sha256", json_string(p->model.calib_sha256));
		json_object_set_new(measured, "calib_overlap_13gram", json_real(overlap));
	}
	if (p->base.open) {
		json_object_set_new(measured, "base", tc_scored_json(&p->base));
		json_object_set_new(measured, "windows_delta", list_of(p->diff, p->windows.n));
		json_object_set_new(measured, "bootstrap_seed", json_integer(BOOTSTRAP_SEED));
	}
	add_run(p, run);
	r = tc_result_write(p->cli, p->a->common.result, p->model.source, measured, run);
out:
	json_decref(measured);
	json_decref(run);
	return r;
}

static void
print_text(const struct ppl *p, const json_t *o)
{
#define REAL(k) json_real_value(json_object_get(o, k))
	printf("perplexity %.4f +- %.4f  (nll %.5f +- %.5f, %zu predictions in %zu windows of %zu, %zu tokens dropped)\n",
	    REAL("ppl"), REAL("ppl_stderr"), REAL("nll"), REAL("stderr"), p->windows.scored, p->windows.n,
	    p->protocol.window, p->windows.dropped);
	tc_scored_size_print(&p->model);
	if (p->base.open)
		printf("against base %.4f: nll %+.5f [%+.5f, %+.5f] 95%%, ratio %.4f, KL %.5f, same top %.2f%%\n",
		    REAL("base_ppl"), REAL("delta"), REAL("delta_low"), REAL("delta_high"), REAL("ppl_ratio"),
		    REAL("kld"), 100 * REAL("same_top"));
#undef REAL
}

static int
report(struct ppl *p)
{
	json_t *o = figures(p, &p->cli->err);
	int r = -1;

	if (!o)
		return -1;
	if (p->a->common.result && write_result(p, o) < 0)
		goto out;
	if (p->a->common.json) {
		add_run(p, o);
		r = tc_cli_print_json(p->cli, o);
	} else {
		print_text(p, o);
		r = 0;
	}
out:
	json_decref(o);
	return r;
}

static int
run(struct ppl *p)
{
	struct tc_cli *cli = p->cli;

	if (tc_cli_int8(cli, &p->how, &p->int8) < 0)
		return -1;
	if (p->a->common.result && tc_result_check(p->a->common.result, &cli->err) < 0)
		return -1;
	if (tc_cli_model(cli, 0, &p->model.source) < 0 || run_model(p, &p->model) < 0)
		return -1;
	if (p->a->base && (tc_cli_model_path(cli, p->a->base, &p->base.source) < 0 || run_model(p, &p->base) < 0))
		return tc_err_at(&cli->err, "--base");
	if (score(p) < 0 || sum_windows(p) < 0)
		return -1;
	return report(p);
}

int
main(int argc, char **argv)
{
	struct args a = { .common = tc_common_defaults, .preset = "windows", .window = TC_UNSET, .stride = TC_UNSET,
		.score_from = TC_UNSET, .max_tokens = TC_UNSET };
	struct tc_cli cli;
	struct ppl p = { .a = &a, .cli = &cli };

	tc_cli_begin(&cli, &stage, &a, argc, argv);
	(void)!run(&p);
	tc_scored_free(&p.model);
	tc_scored_free(&p.base);
	tc_ids_free(&p.text);
	tc_windows_free(&p.windows);
	tc_predictions_free(&p.predictions);
	tc_nll_free(&p.nll);
	free(p.mean);
	free(p.base_mean);
	free(p.diff);
	return tc_cli_end(&cli);
}
