/* tc-gen: generates text with a model stream.  See tc-gen(1). */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/compute.h"
#include "cli/prompts.h"
#include "metric/collapse.h"
#include "model/generate.h"

#define DEFAULT_BATCH 16
#define REP_N 4
#define DISTINCT_N 2

struct args {
	struct tc_common common;
	struct tc_list stop;
	int64_t batch;
	bool no_cache;
};

#define FIELD(f) offsetof(struct args, f)
static const struct tc_option options[] = {
	{ .name = "stop", .type = TC_OPT_LIST, .offset = FIELD(stop), .arg = "TEXT",
	  .help = "end when this text appears; may be given several times" },
	{ .name = "batch", .type = TC_OPT_COUNT, .offset = FIELD(batch), .arg = "N", .role = TC_OPT_FREE, .min = 1, .max = 4096,
	  .help = "generate from N prompts at once (default 16)" },
	{ .name = "no-cache", .type = TC_OPT_FLAG, .offset = FIELD(no_cache), .role = TC_OPT_FREE,
	  .help = "compute all of a text for every token: slow, the same tokens" },
	{ .type = TC_OPT_END }
};

static const struct tc_stage stage = {
	.name = "tc-gen",
	.summary = "generate text with a model stream",
	.operands = "[MODEL]",
	.operands_max = 1,
	.options = options,
	.common = TC_COMMON_ALWAYS | TC_COMMON_PROMPT | TC_COMMON_JSON | TC_COMMON_SEED | TC_COMMON_COMPUTE_ANY,
	.common_offset = offsetof(struct args, common),
};

/* What comes of a prompt: a text that grows. */
struct output {
	struct tc_buf text;  /* bytes of what was generated */
	size_t printed;
	bool begun, ended;   /* its prompt is printed; nothing more will come */
	double seconds;
};

struct gen {
	const struct args *a;
	struct tc_cli *cli;
	struct tc_talk talk;
	struct tc_compute how, *compute; /* of the products; NULL: f32 */
	struct tc_prompts prompts;
	struct tc_generated *generated; /* [prompts.n] */
	struct output *output;          /* [prompts.n] */
	size_t shown;                   /* prompts whose output is printed whole */
};

static int
load(struct gen *g)
{
	if (tc_cli_compute(g->cli, &g->how, &g->compute) < 0 || tc_cli_model(g->cli, 0, &g->talk.source) < 0 ||
	    tc_talk_load(&g->talk, g->cli, g->compute) < 0)
		return -1;
	return tc_cli_compute_say(g->cli, g->compute);
}

/* ---- text as it comes ---- */

/* Cuts the text at the first stop string in it. */
static bool
stopped(const struct gen *g, struct output *o)
{
	bool hit = false;

	for (int i = 0; i < g->a->stop.n; i++) {
		const char *s = g->a->stop.item[i];
		unsigned char *at = *s ? memmem(o->text.p, o->text.n, s, strlen(s)) : NULL;

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

	if (!g->output[i].begun && p->text) {
		if (!p->chat)
			fputs(p->text, stdout);
		else if (g->prompts.n > 1)
			printf("%s> %s\n", i > 0 ? "\n" : "", p->text);
	}
	g->output[i].begun = true;
}

/* Whole characters as they come. */
static void
print_part(struct gen *g, size_t i)
{
	struct output *o = &g->output[i];
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
	struct output *o = &g->output[i];
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

static json_t *
ids_json(const uint32_t *ids, size_t n)
{
	json_t *a = json_array();

	for (size_t i = 0; a && i < n; i++)
		json_array_append_new(a, json_integer(ids[i]));
	return a;
}

static int
print_object(struct gen *g, size_t i)
{
	struct tc_err *err = &g->cli->err;
	const struct tc_prompt *p = &g->prompts.prompt[i];
	const struct output *o = &g->output[i];
	const uint32_t *ids = g->generated[i].ids + p->n;
	size_t n = g->generated[i].n - p->n;
	struct tc_buf text = {0};
	double rep, distinct;
	json_t *j = NULL;
	int r = -1;

	if (tc_utf8_lossy(o->text.p, o->text.n, &text, err) < 0 || tc_distinct(ids, n, REP_N, &rep, err) < 0 ||
	    tc_distinct(ids, n, DISTINCT_N, &distinct, err) < 0)
		goto out;
	j = json_pack("{s:o,s:o,s:o,s:{s:f,s:f,s:I,s:b},s:f}",
	    "prompt", p->text ? json_string(p->text) : json_null(),
	    "text", g->talk.tokenizer ? json_stringn(text.n ? (const char *)text.p : "", text.n) : json_null(),
	    "ids", ids_json(ids, n),
	    "metrics", "rep_4", 1 - rep, "distinct_2", distinct, "longest_repeat", (json_int_t)tc_longest_repeat(ids, n),
	    "ended", n > 0 && tc_talk_ends(&g->talk, ids[n - 1]),
	    "tokens_per_second", (double)n / o->seconds);
	if (!j || tc_cli_compute_json(g->cli, g->compute, j) < 0) {
		tc_fail(err, TC_INTERNAL, "the output is not text");
		goto out;
	}
	r = tc_cli_print_json(g->cli, j);
out:
	json_decref(j);
	tc_buf_free(&text);
	return r;
}

/* ---- generation ---- */

/* Prints, in the order of the prompts, whatever can be. */
static int
print_ready(struct gen *g)
{
	bool json = g->a->common.json;

	for (; g->shown < g->prompts.n && g->output[g->shown].ended; g->shown++)
		if ((json ? print_object(g, g->shown) : print_rest(g, g->shown)) < 0)
			return -1;
	if (g->shown < g->prompts.n && !json)
		print_part(g, g->shown);
	return 0;
}

/* Prompt i has a token more. */
static int
take_token(void *ctx, size_t i)
{
	struct gen *g = ctx;
	const struct tc_generated *t = &g->generated[i];
	struct output *o = &g->output[i];
	uint32_t id = t->ids[t->n - 1];
	int r = 0;

	o->ended = t->n == t->nprompt + t->most || tc_talk_ends(&g->talk, id);
	if (!tc_talk_ends(&g->talk, id) && g->talk.tokenizer) {
		r = tc_tokenizer_decode(g->talk.tokenizer, &id, 1, g->prompts.prompt[i].chat, &o->text, &g->cli->err);
		o->ended |= stopped(g, o);
	}
	o->seconds = tc_now() - t->began;
	if (r == 0 && i == g->shown)
		r = print_ready(g);
	return r < 0 ? -1 : !o->ended;
}

static int
generate(struct gen *g)
{
	const struct tc_common *o = &g->a->common;
	uint64_t seed = o->seed == TC_UNSET ? 0 : (uint64_t)o->seed;
	size_t positions = g->talk.model.config.positions, n = g->prompts.n;
	struct tc_generate how = { .model = &g->talk.model, .sampling = tc_cli_sampling(o), .batch = (size_t)g->a->batch,
		.cache = !g->a->no_cache, .more = take_token, .ctx = g };

	if (!o->json && !g->talk.tokenizer)
		return tc_fail(&g->cli->err, TC_DATA, "the model has no tokenizer.json: use --json");
	/* Rows with one scale change each other. */
	if (g->compute && g->compute->batch)
		how.batch = 1;
	g->generated = tc_zalloc(n, sizeof(*g->generated), &g->cli->err);
	g->output = tc_zalloc(n, sizeof(*g->output), &g->cli->err);
	if (!g->generated || !g->output)
		return -1;
	for (size_t i = 0; i < n; i++) {
		const struct tc_prompt *p = &g->prompts.prompt[i];

		g->generated[i] = (struct tc_generated){ .prompt = p->ids, .nprompt = p->n, .seed = seed + i,
			.most = tc_min((size_t)o->tokens, positions - tc_min(p->n, positions)) };
	}
	return tc_generate(&how, g->generated, n, &g->cli->err);
}

static int
run(struct gen *g)
{
	return load(g) < 0 || tc_prompts_read(&g->prompts, g->cli, &g->talk) < 0 || generate(g) < 0 ? -1 : 0;
}

static void
gen_free(struct gen *g)
{
	for (size_t i = 0; g->generated && g->output && i < g->prompts.n; i++) {
		free(g->generated[i].ids);
		tc_buf_free(&g->output[i].text);
	}
	free(g->generated);
	free(g->output);
	tc_prompts_free(&g->prompts);
	tc_talk_close(&g->talk);
}

int
main(int argc, char **argv)
{
	struct args a = { .common = tc_common_defaults, .batch = DEFAULT_BATCH };
	struct tc_cli cli;
	struct gen g = { .a = &a, .cli = &cli };

	tc_cli_begin(&cli, &stage, &a, argc, argv);
	(void)!run(&g);
	gen_free(&g);
	return tc_cli_end(&cli);
}
