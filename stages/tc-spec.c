/* tc-spec: speculative decoding.  See tc-spec(1). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/columns.h"
#include "cli/compute.h"
#include "cli/prompts.h"
#include "cli/result.h"
#include "method/quantizer.h"
#include "metric/latency.h"
#include "metric/paired.h"
#include "model/speculate.h"

#define DRAFTS_MAX 8
#define QUANT_GROUP 32

struct args {
	struct tc_common common;
	struct tc_list draft;
	int64_t k, bits, runs;
	bool adaptive;
	double least;
};

#define FIELD(f) offsetof(struct args, f)
static const struct tc_option options[] = {
	{ .name = "draft", .type = TC_OPT_LIST, .offset = FIELD(draft), .arg = "MODEL",
	  .help = "what guesses: a model, or lookup (the text), or quant (a quantized copy); several: the first that does" },
	{ .name = "guesses", .letter = 'k', .type = TC_OPT_COUNT, .offset = FIELD(k), .arg = "K", .min = 1, .max = TC_GUESSES_MAX,
	  .help = "tokens guessed at a time (default 4)" },
	{ .name = "adaptive", .type = TC_OPT_FLAG, .offset = FIELD(adaptive),
	  .help = "guess more after guesses that were all right, less after others" },
	{ .name = "draft-min-p", .type = TC_OPT_REAL, .offset = FIELD(least), .arg = "P", .min = 0, .max = 1,
	  .help = "a model's guesses end where it finds its best less likely than P (default 0)" },
	{ .name = "draft-bits", .type = TC_OPT_COUNT, .offset = FIELD(bits), .arg = "B", .min = 1, .max = 8,
	  .help = "bits of the weights of --draft quant (default 4)" },
	{ .name = "runs", .type = TC_OPT_COUNT, .offset = FIELD(runs), .arg = "N", .min = 1, .max = 1000,
	  .help = "time every prompt N times both ways, and take medians (default 1)" },
	{ .type = TC_OPT_END }
};

static const struct tc_stage stage = {
	.name = "tc-spec",
	.summary = "speculative decoding: a model's text, guessed by a cheaper one",
	.operands = "[MODEL]",
	.operands_max = 1,
	.options = options,
	.common = TC_COMMON_ALWAYS | TC_COMMON_PROMPT | TC_COMMON_JSON | TC_COMMON_RESULT | TC_COMMON_SEED | TC_COMMON_COMPUTE_ANY,
	.common_offset = offsetof(struct args, common),
};

/* What came of a prompt. */
struct answer {
	const char *prompt;
	uint32_t *ids, *alone;        /* the prompt's, then what was written, by guessing and without */
	size_t nprompt, n, nalone, tokens;
	size_t passes, proposed, accepted;
	double accept_rate, tokens_per_pass;
	bool identical;
	const char *same;             /* that in a word; NULL: tokens are drawn */
	double seconds, target_seconds, speedup;
	double tokens_per_second, target_tokens_per_second;
};

struct spec {
	const struct args *a;
	struct tc_cli *cli;
	struct tc_talk talk;
	struct tc_compute how, *compute;
	struct tc_prompts prompts;
	struct tc_sampling sampling;
	/* Drafts, as they were named; a model for each that has one. */
	struct tc_talk drafter[DRAFTS_MAX];
	struct tc_model copy;
	bool copied;
	struct tc_draft made[DRAFTS_MAX], *draft[DRAFTS_MAX];
	size_t ndrafts;
	struct tc_decode decode;
	struct tc_sequence s;
	struct tc_sampler sampler;
	double *p;                    /* [vocab] */
	struct answer *answer, total; /* [prompts.n] */
	struct tc_mean mean;          /* of the speed-ups */
};

/* ---- drafts ---- */

static bool
is_lookup(const char *draft)
{
	return strcmp(draft, "lookup") == 0;
}

static bool
is_copy(const char *draft)
{
	return strcmp(draft, "quant") == 0;
}

/* A matrix of the target on its way into the copy. */
static int
take_copy(void *ctx, const struct tc_record *r, bool mapped, struct tc_err *err)
{
	struct spec *s = ctx;
	const struct tc_quant_options o = { .bits = (int)s->a->bits, .group = QUANT_GROUP, .zero = TC_ZERO_INT,
		.levels = TC_LEVELS_ODD, .scale = TC_F16 };
	struct tc_quant_input in = { .w = &r->u.tensor };
	struct tc_quantized q = {0};
	struct tc_record copy = *r;
	int got;

	if (!s->copied && tc_model_begin(&s->copy, &s->talk.source->header, s->cli->pool, err) < 0)
		return -1;
	s->copied = true;
	if (r->kind == TC_KIND_REF || r->u.tensor.bias || !(tc_role_is_linear(r->u.tensor.role) ||
	    r->u.tensor.role == TC_ROLE_EMBED || r->u.tensor.role == TC_ROLE_HEAD))
		return tc_model_take(&s->copy, r, mapped, err);
	if (tc_quantizer_run(tc_quantizer_find("rtn"), &o, &in, &q, s->cli->pool, err) < 0)
		return -1;
	copy.u.tensor = q.t;
	got = tc_model_take(&s->copy, &copy, false, err);
	tc_quantized_free(&q);
	return got;
}

static int
load_draft(struct spec *s, const char *name, struct tc_talk *d)
{
	if (tc_cli_model_path(s->cli, name, &d->source) < 0 || tc_talk_load(d, s->cli, s->compute) < 0)
		return -1;
	return tc_talk_same_tokens(&s->talk, d, &s->cli->err);
}

static int
open_draft(struct spec *s, const char *name, size_t positions)
{
	struct tc_draft *d = &s->made[s->ndrafts];
	struct tc_talk *talk = &s->drafter[s->ndrafts];
	const struct tc_model *m = is_copy(name) ? &s->copy : &talk->model;

	s->draft[s->ndrafts++] = d;
	if (is_lookup(name)) {
		tc_draft_lookup(d);
		return 0;
	}
	if (is_copy(name) ? tc_model_finish(&s->copy, &s->cli->err) < 0 : load_draft(s, name, talk) < 0)
		return -1;
	if (positions > m->config.positions)
		return tc_fail(&s->cli->err, TC_DATA, "texts of %zu tokens: it has %zu positions", positions, m->config.positions);
	if (tc_draft_open(d, m, s->talk.model.config.vocab, &s->sampling, positions, &s->cli->err) < 0)
		return -1;
	d->least = s->a->least;
	return 0;
}

/* ---- running ---- */

static bool
is_greedy(const struct spec *s)
{
	return s->sampling.temperature == 0;
}

/* The longest that a prompt's text can become. */
static int
longest(const struct spec *s, size_t *positions)
{
	size_t most = s->talk.model.config.positions;

	*positions = 0;
	for (size_t i = 0; i < s->prompts.n; i++) {
		if (s->prompts.prompt[i].n >= most)
			return tc_fail(&s->cli->err, TC_DATA, "prompt %zu has %zu tokens, the model %zu positions", i + 1,
			    s->prompts.prompt[i].n, most);
		*positions = tc_max(*positions, s->prompts.prompt[i].n);
	}
	*positions = tc_min(*positions + (size_t)s->a->common.tokens, most);
	return 0;
}

static int
load(struct spec *s)
{
	struct tc_err *err = &s->cli->err;
	const struct tc_list *drafts = &s->a->draft;
	size_t positions;

	if (tc_cli_compute(s->cli, &s->how, &s->compute) < 0)
		return -1;
	for (int i = 0; i < drafts->n; i++)
		if (is_copy(drafts->item[i])) {
			s->talk.also = take_copy;
			s->talk.ctx = s;
		}
	if (tc_cli_model(s->cli, 0, &s->talk.source) < 0 || tc_talk_load(&s->talk, s->cli, s->compute) < 0 ||
	    tc_cli_compute_say(s->cli, s->compute) < 0 || tc_prompts_read(&s->prompts, s->cli, &s->talk) < 0 ||
	    longest(s, &positions) < 0)
		return -1;
	s->sampling = tc_cli_sampling(&s->a->common);
	for (int i = 0; i < drafts->n; i++)
		if (open_draft(s, drafts->item[i], positions) < 0)
			return tc_err_at(err, "--draft %s", drafts->item[i]);
	if (s->sampling.temperature > 0 && !(s->p = tc_alloc(s->talk.model.config.vocab, sizeof(*s->p), err)))
		return -1;
	s->answer = tc_zalloc(s->prompts.n, sizeof(*s->answer), err);
	if (!s->answer || tc_sequence_open(&s->s, &s->talk.model, positions, err) < 0 ||
	    tc_decode_open(&s->decode, &s->talk.model, positions, positions, err) < 0)
		return -1;
	return tc_sampler_open(&s->sampler, &s->sampling, 0, s->talk.model.config.vocab, err);
}

/* How many of ids[from..n) there are up to the end of the text, which is one of
 * them if the text ended. */
static bool
ended(const struct spec *s, const uint32_t *ids, size_t from, size_t *n)
{
	for (size_t i = from; i < *n; i++)
		if (tc_talk_ends(&s->talk, ids[i])) {
			*n = i + 1;
			return true;
		}
	return false;
}

/* The prompt's text once, with guesses or by the target alone. */
static int
write_text(struct spec *s, const struct tc_prompt *p, uint64_t seed, bool guess, uint32_t *ids, size_t *n,
    struct tc_speculation *by, double *seconds)
{
	size_t most = tc_min(p->n + (size_t)s->a->common.tokens, s->s.capacity), from = p->n;
	double began = tc_now();

	*by = (struct tc_speculation){ .decode = &s->decode, .s = &s->s, .sampler = &s->sampler, .draft = s->draft,
		.ndrafts = guess ? s->ndrafts : 0, .k = (size_t)s->a->k, .adaptive = s->a->adaptive, .p = s->p };
	tc_rng_seed(&s->sampler.rng, seed);
	for (size_t i = 0; i < s->ndrafts; i++)
		tc_draft_begin(s->draft[i], p->n, seed + 1);
	memcpy(ids, p->ids, p->n * sizeof(*ids));
	*n = p->n;
	if (tc_speculate_begin(by, ids, n, &s->cli->err) < 0)
		return -1;
	while (!ended(s, ids, from, n) && *n < most) {
		from = *n;
		if (tc_speculate(by, ids, n, most - *n, &s->cli->err) < 0)
			return -1;
	}
	*seconds = tc_now() - began;
	return 0;
}

static void
count(struct answer *r, const struct tc_speculation *by)
{
	r->passes = by->passes;
	r->proposed = by->proposed;
	r->accepted = by->accepted;
}

static void
work_out(struct answer *r)
{
	r->accept_rate = r->proposed > 0 ? (double)r->accepted / (double)r->proposed : NAN;
	r->tokens_per_pass = r->passes > 0 ? (double)(r->accepted + r->passes) / (double)r->passes : NAN;
	r->speedup = r->target_seconds / r->seconds;
	r->tokens_per_second = (double)r->tokens / r->seconds;
}

static int
answer(struct spec *s, size_t i)
{
	struct tc_err *err = &s->cli->err;
	const struct tc_prompt *p = &s->prompts.prompt[i];
	struct answer *r = &s->answer[i];
	uint64_t seed = s->a->common.seed == TC_UNSET ? 0 : (uint64_t)s->a->common.seed;
	size_t runs = (size_t)s->a->runs;
	double *seconds = tc_alloc(2 * runs, sizeof(*seconds), err);
	struct tc_speculation by;
	int got = seconds ? 0 : -1;

	*r = (struct answer){ .prompt = p->text, .nprompt = p->n };
	r->ids = tc_alloc(s->s.capacity, sizeof(*r->ids), err);
	r->alone = tc_alloc(s->s.capacity, sizeof(*r->alone), err);
	if (!r->ids || !r->alone)
		got = -1;
	for (size_t run = 0; got == 0 && run < runs; run++) {
		got = write_text(s, p, seed + i, false, r->alone, &r->nalone, &by, &seconds[runs + run]);
		if (got == 0)
			got = write_text(s, p, seed + i, true, r->ids, &r->n, &by, &seconds[run]);
	}
	if (got == 0) {
		r->tokens = r->n - r->nprompt;
		r->identical = r->n == r->nalone && memcmp(r->ids, r->alone, r->n * sizeof(*r->ids)) == 0;
		r->same = !is_greedy(s) ? NULL : r->identical ? "yes" : "no";
		r->seconds = tc_latency_of(seconds, runs).p50;
		r->target_seconds = tc_latency_of(seconds + runs, runs).p50;
		r->target_tokens_per_second = (double)(r->nalone - r->nprompt) / r->target_seconds;
		count(r, &by);
		work_out(r);
	}
	free(seconds);
	return got;
}

static int
sum_up(struct spec *s)
{
	struct answer *t = &s->total;
	double *speedup = tc_alloc(s->prompts.n, 2 * sizeof(*speedup), &s->cli->err), *weight;
	size_t alone = 0;

	if (!speedup)
		return -1;
	weight = speedup + s->prompts.n;
	*t = (struct answer){ .prompt = "overall", .identical = true };
	for (size_t i = 0; i < s->prompts.n; i++) {
		const struct answer *r = &s->answer[i];

		t->tokens += r->tokens;
		t->passes += r->passes;
		t->proposed += r->proposed;
		t->accepted += r->accepted;
		t->seconds += r->seconds;
		t->target_seconds += r->target_seconds;
		t->identical = t->identical && r->identical;
		alone += r->nalone - r->nprompt;
		speedup[i] = r->speedup;
		weight[i] = 1;
	}
	work_out(t);
	t->target_tokens_per_second = (double)alone / t->target_seconds;
	s->mean = tc_mean_of(s->prompts.n, speedup, weight);
	free(speedup);
	return 0;
}

/* ---- output ---- */

#define AT(f) .offset = offsetof(struct answer, f)
static const struct tc_column counted[] = {
	{ "tokens", TC_CELL_INDEX, AT(tokens) },
	{ "passes", TC_CELL_INDEX, AT(passes) },
	{ "proposed", TC_CELL_INDEX, AT(proposed) },
	{ "accepted", TC_CELL_INDEX, AT(accepted) },
	{ "accept_rate", TC_CELL_REAL, AT(accept_rate) },
	{ "tokens_per_pass", TC_CELL_REAL, AT(tokens_per_pass) },
	{ 0 }
};
static const struct tc_column timed[] = {
	{ "seconds", TC_CELL_REAL, AT(seconds) },
	{ "target_seconds", TC_CELL_REAL, AT(target_seconds) },
	{ "speedup", TC_CELL_REAL, AT(speedup) },
	{ "tokens_per_second", TC_CELL_REAL, AT(tokens_per_second) },
	{ "target_tokens_per_second", TC_CELL_REAL, AT(target_tokens_per_second) },
	{ 0 }
};
static const struct tc_column text_columns[] = {
	{ "tokens", TC_CELL_COUNT, AT(tokens) },
	{ "accepted", TC_CELL_REAL, AT(accept_rate), 0.01, 1, "%" },
	{ "tokens/pass", TC_CELL_REAL, AT(tokens_per_pass), 1, 2, NULL },
	{ "target tokens/s", TC_CELL_REAL, AT(target_tokens_per_second), 1, 0, NULL },
	{ "tokens/s", TC_CELL_REAL, AT(tokens_per_second), 1, 0, NULL },
	{ "speed-up", TC_CELL_REAL, AT(speedup), 1, 2, NULL },
	{ "identical", TC_CELL_TEXT, AT(same) },
	{ "prompt", TC_CELL_TEXT, AT(prompt) },
	{ 0 }
};

/* The columns of one answer, as an object. */
static json_t *
columns_of(const struct tc_column *columns, const struct answer *r)
{
	struct tc_rows row = { r, 1, sizeof(*r) };
	json_t *rows = tc_columns_json(columns, &row), *o = json_incref(json_array_get(rows, 0));

	json_decref(rows);
	return o;
}

/* What was written: a function of the inputs. */
static json_t *
written_json(const struct spec *s, const struct answer *r)
{
	json_t *o = columns_of(counted, r);

	if (!o || json_object_set_new(o, "identical", is_greedy(s) ? json_boolean(r->identical) : json_null()) < 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

static json_t *
answer_json(const struct spec *s, const struct answer *r)
{
	struct tc_err *err = &s->cli->err;
	json_t *o = json_object(), *figures = written_json(s, r), *ids = json_array();
	struct tc_buf text = {0}, mended = {0};
	int bad = !o || !figures || !ids;

	for (size_t i = r->nprompt; i < r->n; i++)
		bad |= json_array_append_new(ids, json_integer(r->ids[i])) < 0;
	bad |= json_object_set_new(o, "prompt", r->prompt ? json_string(r->prompt) : json_null()) < 0;
	if (s->talk.tokenizer) {
		bad |= tc_tokenizer_decode(s->talk.tokenizer, r->ids + r->nprompt, r->tokens, true, &text, err) < 0 ||
		    tc_utf8_lossy(text.p, text.n, &mended, err) < 0 ||
		    json_object_set_new(o, "text", json_stringn(mended.n ? (const char *)mended.p : "", mended.n)) < 0;
	}
	bad |= json_object_set_new(o, "ids", ids) < 0 || json_object_update(o, figures) < 0;
	json_decref(figures);
	tc_buf_free(&text);
	tc_buf_free(&mended);
	if (!bad)
		return o;
	json_decref(o);
	return NULL;
}

static int
print_json(const struct spec *s)
{
	for (size_t i = 0; i < s->prompts.n; i++) {
		json_t *o = answer_json(s, &s->answer[i]), *times = columns_of(timed, &s->answer[i]);

		if (!o || !times || json_object_update(o, times) < 0 || tc_cli_compute_json(s->cli, s->compute, o) < 0) {
			json_decref(o);
			o = NULL;
		}
		json_decref(times);
		if (tc_cli_print_json_new(s->cli, o) < 0)
			return -1;
	}
	return 0;
}

static int
write_result(const struct spec *s)
{
	json_t *measured = json_pack("{s:s,s:o,s:[]}", "options", s->cli->options, "overall",
	    written_json(s, &s->total), "prompts");
	json_t *run = json_pack("{s:o,s:f,s:f,s:[]}", "overall", columns_of(timed, &s->total), "speedup_mean", s->mean.mean,
	    "speedup_stderr", s->mean.stderr_, "prompts");
	int got = -1, bad = !measured || !run;

	for (size_t i = 0; !bad && i < s->prompts.n; i++)
		bad = json_array_append_new(json_object_get(measured, "prompts"), answer_json(s, &s->answer[i])) < 0 ||
		    json_array_append_new(json_object_get(run, "prompts"), columns_of(timed, &s->answer[i])) < 0;
	if (bad)
		(void)tc_fail_nomem(&s->cli->err, 0);
	else
		got = tc_result_write(s->cli, s->a->common.result, s->talk.source, measured, run);
	json_decref(measured);
	json_decref(run);
	return got;
}

static void
print_text(const struct spec *s)
{
	struct answer *all = s->answer;
	struct tc_rows rows = { all, s->prompts.n, sizeof(*all) };

	tc_columns_text(text_columns, &rows);
	printf("\n%zu prompts, %zu tokens: ", s->prompts.n, s->total.tokens);
	if (s->total.proposed > 0)
		printf("%.1f%% of %zu guesses accepted, ", 100 * s->total.accept_rate, s->total.proposed);
	printf("%.2f tokens a pass, %.0f tokens/s for %.0f: %.2f times as fast", s->total.tokens_per_pass,
	    s->total.tokens_per_second, s->total.target_tokens_per_second, s->total.speedup);
	if (s->prompts.n > 1)
		printf(" (a prompt %.2f +- %.2f)", s->mean.mean, s->mean.stderr_);
	printf("%s\n", !is_greedy(s) ? "" : s->total.identical ? ", identical" : ", NOT IDENTICAL");
}

/* ---- the stage ---- */

static int
check_options(const struct spec *s)
{
	const struct args *a = s->a;
	struct tc_err *err = &s->cli->err;

	if (a->draft.n == 0)
		return tc_fail(err, TC_USAGE, "--draft: nothing guesses: give a model, lookup or quant");
	if (a->draft.n > DRAFTS_MAX)
		return tc_fail(err, TC_USAGE, "--draft: at most %d", DRAFTS_MAX);
	for (int i = 0, copies = 0; i < a->draft.n; i++) {
		if (strcmp(a->draft.item[i], "-") == 0)
			return tc_fail(err, TC_USAGE, "--draft -: standard input is the model's");
		if (is_copy(a->draft.item[i]) && copies++ > 0)
			return tc_fail(err, TC_USAGE, "--draft quant: is there twice");
	}
	if (a->common.act_scale && strcmp(a->common.act_scale, "batch") == 0)
		return tc_fail(err, TC_USAGE, "--act-scale batch: what the model writes would depend on the guesses");
	return a->common.result ? tc_result_check(a->common.result, err) : 0;
}

static int
run(struct spec *s)
{
	if (check_options(s) < 0 || load(s) < 0)
		return -1;
	for (size_t i = 0; i < s->prompts.n; i++) {
		if (answer(s, i) < 0)
			return tc_err_at(&s->cli->err, "prompt %zu", i + 1);
		tc_cli_progress(s->cli, "prompt %zu of %zu", i + 1, s->prompts.n);
	}
	if (sum_up(s) < 0 || (s->a->common.result && write_result(s) < 0))
		return -1;
	if (!s->a->common.json)
		print_text(s);
	else if (print_json(s) < 0)
		return -1;
	if (is_greedy(s) && !s->total.identical)
		return tc_fail(&s->cli->err, TC_INTERNAL, "the text is not the model's own");
	return 0;
}

int
main(int argc, char **argv)
{
	struct args a = { .common = tc_common_defaults, .k = 4, .bits = 4, .runs = 1 };
	struct tc_cli cli;
	struct spec s = { .a = &a, .cli = &cli };

	tc_cli_begin(&cli, &stage, &a, argc, argv);
	(void)!run(&s);
	for (size_t i = 0; s.answer && i < s.prompts.n; i++) {
		free(s.answer[i].ids);
		free(s.answer[i].alone);
	}
	free(s.answer);
	free(s.p);
	tc_sampler_close(&s.sampler);
	if (s.decode.m)
		tc_decode_close(&s.decode);
	tc_sequence_close(&s.s);
	for (size_t i = 0; i < s.ndrafts; i++) {
		tc_draft_close(&s.made[i]);
		tc_talk_close(&s.drafter[i]);
	}
	tc_model_free(&s.copy);
	tc_prompts_free(&s.prompts);
	tc_talk_close(&s.talk);
	return tc_cli_end(&cli);
}
