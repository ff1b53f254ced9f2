/* tc-gen: generates text with a model stream.  See tc-gen(1). */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/compute.h"
#include "cli/prompts.h"
#include "metric/collapse.h"
#include "model/sample.h"

#define REP_N 4
#define DISTINCT_N 2

struct args {
	struct tc_common common;
	struct tc_list stop;
};

#define FIELD(f) offsetof(struct args, f)
static const struct tc_option options[] = {
	{ .name = "stop", .type = TC_OPT_LIST, .offset = FIELD(stop), .arg = "TEXT",
	  .help = "end when this text appears; may be given several times" },
	{ .type = TC_OPT_END }
};

static const struct tc_stage stage = {
	.name = "tc-gen",
	.summary = "generate text with a model stream",
	.operands = "[MODEL]",
	.operands_max = 1,
	.options = options,
	.common = TC_COMMON_ALWAYS | TC_COMMON_PROMPT | TC_COMMON_JSON | TC_COMMON_SEED | TC_COMMON_INT8,
	.common_offset = offsetof(struct args, common),
};

struct gen {
	const struct args *a;
	struct tc_cli *cli;
	struct tc_talk talk;
	struct tc_int8 how, *int8; /* of the products; NULL: f32 */
	struct tc_prompts prompts;
};

static int
load(struct gen *g)
{
	if (tc_cli_int8(g->cli, &g->how, &g->int8) < 0 || tc_cli_model(g->cli, 0, &g->talk.source) < 0 ||
	    tc_talk_load(&g->talk, g->cli, g->int8) < 0)
		return -1;
	return tc_cli_int8_say(g->cli, g->int8);
}

/* ---- generation ---- */

/* A text that grows: what of it is printed, and where it ends. */
struct output {
	uint32_t *ids;       /* prompt, then what was generated */
	size_t nprompt, n;
	struct tc_buf text;  /* bytes of what was generated */
	size_t printed;
	bool stopped;
	double seconds;
};

/* Cuts the text at the first stop string in it. */
static void
check_stop(const struct gen *g, struct output *o)
{
	for (int i = 0; i < g->a->stop.n; i++) {
		const char *s = g->a->stop.item[i];
		unsigned char *hit = *s ? memmem(o->text.p, o->text.n, s, strlen(s)) : NULL;

		if (hit) {
			o->text.n = (size_t)(hit - o->text.p);
			o->stopped = true;
		}
	}
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

/* Whole characters as they come; at the end whatever is left, mended. */
static int
show(const struct gen *g, struct output *o, bool last)
{
	size_t end = o->text.n - (last ? 0 : held_back(g, o)), good;
	struct tc_buf mended = {0};
	int r;

	if (g->a->common.json || end <= o->printed)
		return 0;
	if (!last) {
		if (!tc_utf8_check((const char *)o->text.p + o->printed, end - o->printed, &good))
			end = o->printed + good;
		fwrite(o->text.p + o->printed, 1, end - o->printed, stdout);
		o->printed = end;
		fflush(stdout);
		return 0;
	}
	r = tc_utf8_lossy(o->text.p + o->printed, end - o->printed, &mended, &g->cli->err);
	if (r == 0)
		fwrite(mended.p, 1, mended.n, stdout);
	tc_buf_free(&mended);
	return r;
}

static int
generate(struct gen *g, const struct tc_prompt *p, uint64_t seed, struct output *o)
{
	const struct args *a = g->a;
	struct tc_err *err = &g->cli->err;
	struct tc_sampling s = tc_cli_sampling(&a->common);
	size_t most = tc_min((size_t)a->common.tokens, g->talk.model.config.positions - tc_min(p->n, g->talk.model.config.positions));
	struct tc_sampler sampler = {0};
	struct tc_sequence seq = {0};
	struct tc_decode d = {0};
	struct tc_append next = { .s = &seq, .ids = p->ids, .count = p->n };
	double t0 = tc_now();
	int r = -1;

	if (most == 0)
		return tc_fail(err, TC_DATA, "the prompt has %zu tokens, the model %zu positions", p->n, g->talk.model.config.positions);
	*o = (struct output){ .nprompt = p->n, .n = p->n };
	o->ids = tc_alloc(p->n + most, sizeof(*o->ids), err);
	if (!o->ids || tc_sequence_open(&seq, &g->talk.model, p->n + most, err) < 0 ||
	    tc_decode_open(&d, &g->talk.model, p->n + most, p->n, err) < 0 ||
	    tc_sampler_open(&sampler, &s, seed, g->talk.model.config.vocab, err) < 0)
		goto out;
	seq.length = p->n; /* not how much may be generated */
	if (tc_decode_run(&d, &next, 1, err) < 0)
		goto out;
	memcpy(o->ids, p->ids, p->n * sizeof(*o->ids));
	for (size_t i = 0; i < most && !o->stopped; i++) {
		uint32_t id = tc_sample(&sampler, next.logits, o->ids, o->n);

		o->ids[o->n++] = id;
		if (tc_talk_ends(&g->talk, id))
			break;
		if (g->talk.tokenizer && tc_tokenizer_decode(g->talk.tokenizer, &id, 1, p->chat, &o->text, err) < 0)
			goto out;
		check_stop(g, o);
		next = (struct tc_append){ .s = &seq, .ids = o->ids + o->n - 1, .count = 1 };
		if (show(g, o, false) < 0 || (i + 1 < most && !o->stopped && tc_decode_run(&d, &next, 1, err) < 0))
			goto out;
	}
	o->seconds = tc_now() - t0;
	r = show(g, o, true);
out:
	tc_sampler_close(&sampler);
	if (d.m)
		tc_decode_close(&d);
	tc_sequence_close(&seq);
	return r;
}

static void
output_free(struct output *o)
{
	free(o->ids);
	tc_buf_free(&o->text);
}

static json_t *
ids_json(const uint32_t *ids, size_t n)
{
	json_t *a = json_array();

	for (size_t i = 0; a && i < n; i++)
		json_array_append_new(a, json_integer(ids[i]));
	return a;
}

static int
print_object(struct gen *g, const struct tc_prompt *p, const struct output *o)
{
	struct tc_err *err = &g->cli->err;
	const uint32_t *ids = o->ids + o->nprompt;
	size_t n = o->n - o->nprompt;
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
	if (!j || tc_cli_compute_json(g->cli, g->int8, j) < 0) {
		tc_fail(err, TC_INTERNAL, "the output is not text");
		goto out;
	}
	r = tc_cli_print_json(g->cli, j);
out:
	json_decref(j);
	tc_buf_free(&text);
	return r;
}

static int
answer(struct gen *g, size_t i)
{
	const struct tc_prompt *p = &g->prompts.prompt[i];
	uint64_t seed = g->a->common.seed == TC_UNSET ? 0 : (uint64_t)g->a->common.seed;
	struct output o = {0};
	int r;

	if (!g->a->common.json) {
		if (!g->talk.tokenizer)
			return tc_fail(&g->cli->err, TC_DATA, "the model has no tokenizer.json: use --json");
		/* An answer does not repeat its question. */
		fputs(p->text && !p->chat ? p->text : "", stdout);
		fflush(stdout);
	}
	r = generate(g, p, seed + i, &o);
	if (r == 0 && g->a->common.json)
		r = print_object(g, p, &o);
	else if (r == 0)
		putchar('\n');
	output_free(&o);
	return r;
}

static int
run(struct gen *g)
{
	if (load(g) < 0 || tc_prompts_read(&g->prompts, g->cli, &g->talk) < 0)
		return -1;
	for (size_t i = 0; i < g->prompts.n; i++)
		if (answer(g, i) < 0)
			return tc_err_at(&g->cli->err, "prompt %zu", i + 1);
	return 0;
}

int
main(int argc, char **argv)
{
	struct args a = { .common = tc_common_defaults };
	struct tc_cli cli;
	struct gen g = { .a = &a, .cli = &cli };

	tc_cli_begin(&cli, &stage, &a, argc, argv);
	(void)!run(&g);
	tc_prompts_free(&g.prompts);
	tc_talk_close(&g.talk);
	return tc_cli_end(&cli);
}
