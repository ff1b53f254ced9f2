/* tc-gen: generates text with a model stream.  See tc-gen(1). */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "cli/cli.h"
#include "cli/compute.h"
#include "cli/figures.h"
#include "cli/prompts.h"
#include "cli/result.h"
#include "metric/collapse.h"
#include "model/generate.h"

#define DEFAULT_BATCH 16

struct args {
	struct tc_common common;
	struct tc_list stop;
	int64_t batch;
	const char *base;
	bool no_cache, metrics;
};

#define FIELD(f) offsetof(struct args, f)
static const struct tc_option options[] = {
	{ .name = "stop", .type = TC_OPT_LIST, .offset = FIELD(stop), .arg = "TEXT",
	  .help = "end when this text appears; may be given several times" },
	{ .name = "batch", .type = TC_OPT_COUNT, .offset = FIELD(batch), .arg = "N", .role = TC_OPT_FREE, .min = 1, .max = 4096,
	  .help = "generate from N prompts at once (default 16)" },
	{ .name = "no-cache", .type = TC_OPT_FLAG, .offset = FIELD(no_cache), .role = TC_OPT_FREE,
	  .help = "compute all of a text for every token: slow, the same tokens" },
	{ .name = "base", .type = TC_OPT_TEXT, .offset = FIELD(base), .arg = "MODEL", .role = TC_OPT_FREE,
	  .help = "compare with the texts that this model writes, greedily" },
	{ .name = "metrics", .type = TC_OPT_FLAG, .offset = FIELD(metrics), .role = TC_OPT_FREE,
	  .help = "print a table of figures after the texts" },
	{ .type = TC_OPT_END }
};

static const struct tc_stage stage = {
	.name = "tc-gen",
	.summary = "generate text with a model stream",
	.operands = "[MODEL]",
	.operands_max = 1,
	.options = options,
	.common = TC_COMMON_ALWAYS | TC_COMMON_PROMPT | TC_COMMON_JSON | TC_COMMON_RESULT | TC_COMMON_SEED | TC_COMMON_COMPUTE_ANY,
	.common_offset = offsetof(struct args, common),
};

/* What comes of a prompt: a text that grows. */
struct output {
	struct tc_buf text;  /* bytes of what was generated */
	struct tc_buf whole; /* the same when all has come, mended UTF-8 */
	size_t printed;
	bool begun, ended;   /* its prompt is printed; nothing more will come */
	double seconds;
	struct tc_figures figures;
};

/* What a model makes of the prompts. */
struct texts {
	struct gen *g;
	struct tc_talk talk;
	struct tc_generated *generated; /* [prompts.n] */
	struct output *output;          /* [prompts.n] */
};

struct gen {
	const struct args *a;
	struct tc_cli *cli;
	struct tc_compute how, *compute; /* of the model's products; NULL: f32, as the base's are */
	struct tc_prompts prompts;
	struct texts model, base;
	size_t shown;              /* prompts whose output is printed whole */
	double began;
};

static int
load(struct gen *g)
{
	if (tc_cli_compute(g->cli, &g->how, &g->compute) < 0 || tc_cli_model(g->cli, 0, &g->model.talk.source) < 0 ||
	    tc_talk_load(&g->model.talk, g->cli, g->compute) < 0)
		return -1;
	return tc_cli_compute_say(g->cli, g->compute);
}

static int
load_base(struct gen *g)
{
	if (tc_cli_model_path(g->cli, g->a->base, &g->base.talk.source) < 0 || tc_talk_load(&g->base.talk, g->cli, NULL) < 0)
		return -1;
	return tc_talk_same_tokens(&g->model.talk, &g->base.talk, &g->cli->err);
}

/* ---- text as it comes ---- */

/* Cuts the text at the first stop string in it. */
static bool
stopped(const struct gen *g, struct output *o)
{
	bool hit = false;

	for (int i = 0; i < g->a->stop.n; i++) {
		const char *s = g->a->stop.item[i];
		unsigned char *at = memmem(o->text.p, o->text.n, s, strlen(s));

		if (at) {
			o->text.n = (size_t)(at - o->text.p);
			hit = true;
		}
	}
	return hit;
}

/* The end of the text that could be the beginning of a stop string. */
static size_t
held_back(const struct gen *g, const struct output *o)
{
	size_t most = 0;

	for (int i = 0; i < g->a->stop.n; i++) {
		const char *s = g->a->stop.item[i];

		for (size_t k = tc_min(strlen(s), o->text.n); k > most; k--)
			if (memcmp(o->text.p + o->text.n - k, s, k) == 0)
				most = k;
	}
	return most;
}

/* What comes before an output: a text to continue, or, where there are several
 * conversations, the question.  The answer to one does not repeat it. */
static void
print_head(struct gen *g, size_t i)
{
	const struct tc_prompt *p = &g->prompts.prompt[i];

	if (!g->model.output[i].begun && p->text) {
		if (!p->chat)
			fputs(p->text, stdout);
		else if (g->prompts.n > 1)
			printf("%s> %s\n", i > 0 ? "\n" : "", p->text);
	}
	g->model.output[i].begun = true;
}

/* Whole characters as they come. */
static void
print_part(struct gen *g, size_t i)
{
	struct output *o = &g->model.output[i];
	size_t end = o->text.n - held_back(g, o), good;

	print_head(g, i);
	if (end > o->printed) {
		if (!tc_utf8_check((const char *)o->text.p + o->printed, end - o->printed, &good))
			end = o->printed + good;
		fwrite(o->text.p + o->printed, 1, end - o->printed, stdout);
		o->printed = end;
	}
	fflush(stdout);
}

/* Whatever is left, mended. */
static int
print_rest(struct gen *g, size_t i)
{
	struct output *o = &g->model.output[i];
	struct tc_buf mended = {0};
	int r = 0;

	print_head(g, i);
	if (o->text.n > o->printed)
		r = tc_utf8_lossy(o->text.p + o->printed, o->text.n - o->printed, &mended, &g->cli->err);
	if (r == 0) {
		fwrite(mended.p, 1, mended.n, stdout);
		putchar('\n');
	}
	tc_buf_free(&mended);
	return r;
}

/* ---- figures ---- */

/* The ids that came, without the prompt's. */
static const uint32_t *
new_ids(const struct texts *t, size_t i, size_t *n)
{
	const struct tc_generated *d = &t->generated[i];

	*n = d->n - d->nprompt;
	return d->ids + d->nprompt;
}

static int
compare_with_base(struct gen *g, size_t i)
{
	const struct tc_generated *b = &g->base.generated[i];
	double *value = g->model.output[i].figures.value;
	size_t nours, ntheirs, first, same;
	const uint32_t *ours = new_ids(&g->model, i, &nours), *theirs = new_ids(&g->base, i, &ntheirs);

	tc_agreement(ours, nours, theirs, ntheirs, &first, &value[TC_FIGURE_SHARE_EQUAL]);
	value[TC_FIGURE_FIRST_DIVERGENCE] = (double)first;
	if (tc_generate_follow(&g->model.talk.model, g->a->common.repeat_penalty, b->ids, b->nprompt, b->n, &same, &g->cli->err) < 0)
		return -1;
	value[TC_FIGURE_TEACHER_FORCED] = (double)same / (double)ntheirs;
	return 0;
}

static int
measure(struct gen *g, size_t i)
{
	struct output *o = &g->model.output[i];
	bool text = g->model.talk.tokenizer;
	size_t n;
	const uint32_t *ids = new_ids(&g->model, i, &n);

	if (tc_utf8_lossy(o->text.p, o->text.n, &o->whole, &g->cli->err) < 0 ||
	    tc_figures_measure(&o->figures, ids, n, text ? &o->whole : NULL, g->prompts.prompt[i].text, &g->cli->err) < 0)
		return -1;
	o->figures.value[TC_FIGURE_ENDED] = tc_talk_ends(&g->model.talk, ids[n - 1]);
	return 0;
}

/* All texts as one. */
static int
measure_joined(const struct gen *g, struct tc_figures *f)
{
	struct tc_err *err = &g->cli->err;
	struct tc_buf ids = {0}, text = {0};
	int r = 0;

	for (size_t i = 0; r == 0 && i < g->prompts.n; i++) {
		const struct tc_buf *whole = &g->model.output[i].whole;
		size_t n;
		const uint32_t *one = new_ids(&g->model, i, &n);

		r = tc_buf_append(&ids, one, n * sizeof(*one), err);
		if (r == 0 && i > 0)
			r = tc_buf_append(&text, " ", 1, err);
		if (r == 0)
			r = tc_buf_append(&text, whole->p, whole->n, err);
	}
	if (r == 0)
		r = tc_figures_repetition(f, (const uint32_t *)ids.p, ids.n / sizeof(uint32_t),
		    g->model.talk.tokenizer ? &text : NULL, err);
	tc_buf_free(&ids);
	tc_buf_free(&text);
	return r;
}

static json_t *
overall(const struct gen *g)
{
	struct tc_figures joined, *f = tc_alloc(g->prompts.n, sizeof(*f), &g->cli->err);
	json_t *o = NULL;

	for (size_t i = 0; f && i < g->prompts.n; i++)
		f[i] = g->model.output[i].figures;
	if (f && measure_joined(g, &joined) == 0)
		o = tc_figures_overall(f, g->prompts.n, &joined, &g->cli->err);
	free(f);
	return o;
}

static json_t *
ids_json(const struct texts *t, size_t i)
{
	size_t n;
	const uint32_t *ids = new_ids(t, i, &n);
	json_t *a = json_array();

	for (size_t k = 0; a && k < n; k++)
		json_array_append_new(a, json_integer(ids[k]));
	return a;
}

static int
print_object(struct gen *g, size_t i)
{
	const struct tc_prompt *p = &g->prompts.prompt[i];
	const struct output *o = &g->model.output[i];
	const struct tc_generated *t = &g->model.generated[i];
	json_t *j;

	j = json_pack("{s:o,s:o,s:o,s:o,s:f}",
	    "prompt", p->text ? json_string(p->text) : json_null(),
	    "text", g->model.talk.tokenizer ? json_stringn(o->whole.n ? (const char *)o->whole.p : "", o->whole.n) : json_null(),
	    "ids", ids_json(&g->model, i),
	    "metrics", tc_figures_json(&o->figures),
	    "tokens_per_second", (double)(t->n - t->nprompt) / o->seconds);
	if (!j || tc_cli_compute_json(g->cli, g->compute, j) < 0) {
		json_decref(j);
		return tc_fail(&g->cli->err, TC_INTERNAL, "the output is not text");
	}
	return tc_cli_print_json_new(g->cli, j);
}

/* ---- result ---- */

static int
prompts_sha256(const struct gen *g, char hex[TC_SHA256_HEX])
{
	struct tc_sha256 h = {0};

	if (tc_sha256_begin(&h, &g->cli->err) < 0)
		return -1;
	for (size_t i = 0; i < g->prompts.n; i++) {
		uint32_t n = (uint32_t)g->prompts.prompt[i].n;

		tc_sha256_add(&h, &n, sizeof(n));
		tc_sha256_add(&h, g->prompts.prompt[i].ids, n * sizeof(uint32_t));
	}
	tc_sha256_end(&h, hex);
	return 0;
}

static json_t *
outputs_json(const struct gen *g)
{
	json_t *a = json_array();

	for (size_t i = 0; a && i < g->prompts.n; i++)
		if (json_array_append_new(a, json_pack("{s:o,s:o}", "ids", ids_json(&g->model, i),
		    "metrics", tc_figures_json(&g->model.output[i].figures))) < 0) {
			json_decref(a);
			return NULL;
		}
	return a;
}

static json_t *
base_json(const struct gen *g)
{
	char input[17];

	snprintf(input, sizeof(input), "%016" PRIx64, g->base.talk.source->hash);
	return json_pack("{s:s,s:s}", "arch", g->base.talk.model.config.arch, "input", input);
}

static json_t *
measured_json(const struct gen *g, json_t *figures)
{
	char prompts[TC_SHA256_HEX];
	json_t *o;

	if (prompts_sha256(g, prompts) < 0)
		return NULL;
	o = json_pack("{s:s,s:I,s:s,s:{s:s},s:O,s:o}", "options", g->cli->options, "prompts", (json_int_t)g->prompts.n,
	    "prompts_sha256", prompts, "model", "arch", g->model.talk.model.config.arch, "overall", figures,
	    "outputs", outputs_json(g));
	if (o && tc_cli_compute_json(g->cli, g->compute, o) == 0 && (!g->a->base || json_object_set_new(o, "base", base_json(g)) == 0))
		return o;
	json_decref(o);
	tc_fail_nomem(&g->cli->err, 0);
	return NULL;
}

static int
write_result(struct gen *g, json_t *figures)
{
	double seconds = tc_now() - g->began;
	size_t tokens = 0;
	json_t *measured = measured_json(g, figures), *run;
	int r;

	if (!measured)
		return -1;
	for (size_t i = 0; i < g->prompts.n; i++)
		tokens += g->model.generated[i].n - g->model.generated[i].nprompt;
	run = json_pack("{s:f,s:I,s:f,s:I}", "seconds", seconds, "tokens", (json_int_t)tokens, "tokens_per_second",
	    (double)tokens / seconds, "peak_rss_bytes", (json_int_t)tc_peak_rss_bytes());
	r = run ? tc_result_write(g->cli, g->a->common.result, g->model.talk.source, measured, run) : tc_fail_nomem(&g->cli->err, 0);
	json_decref(measured);
	json_decref(run);
	return r;
}

/* What is said of all texts. */
static int
report(struct gen *g)
{
	json_t *figures;
	int r = 0;

	if (!g->a->metrics && !g->a->common.result)
		return 0;
	figures = overall(g);
	if (!figures)
		return -1;
	if (g->a->common.result)
		r = write_result(g, figures);
	if (r == 0 && g->a->metrics) {
		putchar('\n');
		tc_figures_print(figures);
	}
	json_decref(figures);
	return r;
}

/* ---- generation ---- */

/* Text i has come whole. */
static int
finish(struct gen *g, size_t i)
{
	const struct args *a = g->a;
	bool json = a->common.json;

	if ((json || a->metrics || a->common.result) && (measure(g, i) < 0 || (a->base && compare_with_base(g, i) < 0)))
		return -1;
	return json ? print_object(g, i) : print_rest(g, i);
}

/* Prints, in the order of the prompts, whatever can be. */
static int
print_ready(struct gen *g)
{
	for (; g->shown < g->prompts.n && g->model.output[g->shown].ended; g->shown++)
		if (finish(g, g->shown) < 0)
			return -1;
	if (g->shown < g->prompts.n && !g->a->common.json)
		print_part(g, g->shown);
	return 0;
}

/* Prompt i has a token more. */
static int
take_token(void *ctx, size_t i)
{
	struct texts *x = ctx;
	struct gen *g = x->g;
	const struct tc_generated *t = &x->generated[i];
	struct output *o = &x->output[i];
	uint32_t id = t->ids[t->n - 1];

	o->ended = t->n == t->nprompt + t->most || tc_talk_ends(&x->talk, id);
	if (!tc_talk_ends(&x->talk, id) && x->talk.tokenizer) {
		if (tc_tokenizer_decode(x->talk.tokenizer, &id, 1, g->prompts.prompt[i].chat, &o->text, &g->cli->err) < 0)
			return -1;
		o->ended |= stopped(g, o);
	}
	o->seconds = tc_now() - t->began;
	if (x == &g->model && i == g->shown && print_ready(g) < 0)
		return -1;
	return !o->ended;
}

static int
generate(struct texts *x, const struct tc_sampling *sampling, const struct tc_compute *compute)
{
	struct gen *g = x->g;
	const struct tc_common *o = &g->a->common;
	uint64_t seed = o->seed == TC_UNSET ? 0 : (uint64_t)o->seed;
	size_t positions = x->talk.model.config.positions, n = g->prompts.n;
	/* Rows with one scale change each other: one text at a time. */
	struct tc_generate how = { .model = &x->talk.model, .sampling = *sampling,
		.batch = compute && compute->batch ? 1 : (size_t)g->a->batch, .cache = !g->a->no_cache, .more = take_token, .ctx = x };

	x->generated = tc_zalloc(n, sizeof(*x->generated), &g->cli->err);
	x->output = tc_zalloc(n, sizeof(*x->output), &g->cli->err);
	if (!x->generated || !x->output)
		return -1;
	for (size_t i = 0; i < n; i++) {
		const struct tc_prompt *p = &g->prompts.prompt[i];

		x->generated[i] = (struct tc_generated){ .prompt = p->ids, .nprompt = p->n, .seed = seed + i,
			.most = tc_min((size_t)o->tokens, positions - tc_min(p->n, positions)) };
	}
	return tc_generate(&how, x->generated, n, &g->cli->err);
}

static int
check_options(const struct gen *g)
{
	const struct args *a = g->a;
	struct tc_err *err = &g->cli->err;

	for (int i = 0; i < a->stop.n; i++)
		if (!*a->stop.item[i])
			return tc_fail(err, TC_USAGE, "--stop: an empty text is everywhere");
	if (a->metrics && a->common.json)
		return tc_fail(err, TC_USAGE, "--metrics and --json exclude each other: --json has the figures of each text, --result FILE those of all");
	if (a->base && !a->metrics && !a->common.json && !a->common.result)
		return tc_fail(err, TC_USAGE, "--base goes with --json, --metrics or --result");
	return a->common.result ? tc_result_check(a->common.result, err) : 0;
}

static int
run(struct gen *g)
{
	struct tc_sampling sampling = tc_cli_sampling(&g->a->common), greedy = sampling;

	greedy.temperature = 0;
	if (check_options(g) < 0 || load(g) < 0 || tc_prompts_read(&g->prompts, g->cli, &g->model.talk) < 0)
		return -1;
	if (!g->a->common.json && !g->model.talk.tokenizer)
		return tc_fail(&g->cli->err, TC_DATA, "the model has no tokenizer.json: use --json");
	if (g->a->base && (load_base(g) < 0 || generate(&g->base, &greedy, NULL) < 0))
		return tc_err_at(&g->cli->err, "--base");
	g->began = tc_now();
	return generate(&g->model, &sampling, g->compute) < 0 || report(g) < 0 ? -1 : 0;
}

static void
texts_free(struct texts *x)
{
	for (size_t i = 0; x->generated && x->output && i < x->g->prompts.n; i++) {
		free(x->generated[i].ids);
		tc_buf_free(&x->output[i].text);
		tc_buf_free(&x->output[i].whole);
	}
	free(x->generated);
	free(x->output);
	tc_talk_close(&x->talk);
}

int
main(int argc, char **argv)
{
	struct args a = { .common = tc_common_defaults, .batch = DEFAULT_BATCH };
	struct tc_cli cli;
	struct gen g = { .a = &a, .cli = &cli, .model.g = &g, .base.g = &g };

	tc_cli_begin(&cli, &stage, &a, argc, argv);
	(void)!run(&g);
	texts_free(&g.model);
	texts_free(&g.base);
	tc_prompts_free(&g.prompts);
	return tc_cli_end(&cli);
}
