/* tc-gen: generates text with a model stream.  See tc-gen(1). */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/compute.h"
#include "cli/tokens.h"
#include "metric/collapse.h"
#include "model/decode.h"
#include "model/sample.h"
#include "token/chat.h"

#define DEFAULT_PROMPT "SQLite is a C library that"
#define PROMPTS_BYTES_MAX ((size_t)64 << 20)
#define REP_N 4
#define DISTINCT_N 2

struct args {
	struct tc_common common;
	const char *prompt, *prompts, *ids, *system;
	bool chat;
	int64_t tokens, top_k;
	double temp, top_p, repeat_penalty;
	struct tc_list stop;
};

#define FIELD(f) offsetof(struct args, f)
static const struct tc_option options[] = {
	{ .name = "prompt", .type = TC_OPT_TEXT, .offset = FIELD(prompt), .arg = "TEXT",
	  .help = "what the text begins with (default \"" DEFAULT_PROMPT "\")" },
	{ .name = "prompts", .type = TC_OPT_TEXT, .offset = FIELD(prompts), .arg = "FILE", .role = TC_OPT_FREE,
	  .help = "many prompts: one a line, or JSON lines with a \"prompt\" each" },
	{ .name = "ids", .type = TC_OPT_TEXT, .offset = FIELD(ids), .arg = "FILE", .role = TC_OPT_FREE,
	  .help = "prompts as token ids: JSON, one array each" },
	{ .name = "chat", .type = TC_OPT_FLAG, .offset = FIELD(chat),
	  .help = "a prompt is a user's turn: written as the model's chat template says" },
	{ .name = "system", .type = TC_OPT_TEXT, .offset = FIELD(system), .arg = "TEXT",
	  .help = "with --chat: the system's turn (default: the template's own)" },
	{ .name = "tokens", .letter = 'n', .type = TC_OPT_COUNT, .offset = FIELD(tokens), .arg = "N", .min = 1, .max = 1 << 24,
	  .help = "tokens to generate at most (default 64)" },
	{ .name = "temp", .type = TC_OPT_REAL, .offset = FIELD(temp), .arg = "T", .min = 0, .max = 100,
	  .help = "temperature; 0 takes the most likely token (default 0)" },
	{ .name = "top-k", .type = TC_OPT_COUNT, .offset = FIELD(top_k), .arg = "K", .min = 0, .max = 1 << 24,
	  .help = "sample from the K most likely tokens; 0: all (default 0)" },
	{ .name = "top-p", .type = TC_OPT_REAL, .offset = FIELD(top_p), .arg = "P", .min = 0, .max = 1,
	  .help = "sample from the fewest tokens that have probability P together (default 1)" },
	{ .name = "repeat-penalty", .type = TC_OPT_REAL, .offset = FIELD(repeat_penalty), .arg = "R", .min = 0.01, .max = 100,
	  .help = "divide the logits of tokens seen, if positive, else multiply (default 1)" },
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
	.common = TC_COMMON_ALWAYS | TC_COMMON_JSON | TC_COMMON_SEED | TC_COMMON_COMPUTE_ANY,
	.common_offset = offsetof(struct args, common),
};

/* A prompt as ids, and as text where it came as text. */
struct prompt {
	char *text;
	uint32_t *ids;
	size_t n;
};

struct gen {
	const struct args *a;
	struct tc_cli *cli;
	struct tc_source *source;
	struct tc_tokenizer *tokenizer;
	char *template;          /* chat template, or NULL */
	struct tc_chat *chat;
	struct tc_compute how, *compute; /* of the products; NULL: f32 */
	struct tc_model model;
	bool model_begun;
	uint32_t eos[16];
	size_t neos;
	struct prompt *prompt;
	size_t nprompts;
};

/* ---- loading ---- */

static void
add_eos(struct gen *g, int64_t id)
{
	if (id >= 0 && g->neos < sizeof(g->eos) / sizeof(g->eos[0]))
		g->eos[g->neos++] = (uint32_t)id;
}

/* generation_config.json may name more end tokens than config.json. */
static int
take_generation_config(struct gen *g, const struct tc_record *r)
{
	json_error_t why;
	json_t *root, *eos;

	if (strcmp(r->u.file.name, "generation_config.json") != 0)
		return 0;
	root = json_loadb(r->part[0].data, r->part[0].size_bytes, 0, &why);
	if (!root)
		return tc_fail(&g->cli->err, TC_DATA, "generation_config.json: line %d: %s", why.line, why.text);
	eos = json_object_get(root, "eos_token_id");
	if (json_is_integer(eos))
		add_eos(g, json_integer_value(eos));
	for (size_t i = 0; i < json_array_size(eos); i++)
		if (json_is_integer(json_array_get(eos, i)))
			add_eos(g, json_integer_value(json_array_get(eos, i)));
	json_decref(root);
	return 0;
}

/* The chat template: a file of its own, or in tokenizer_config.json, there as
 * a string or as a list of named ones. */
static int
take_template(struct gen *g, const struct tc_record *r)
{
	struct tc_err *err = &g->cli->err;
	const char *text = r->part[0].data;
	size_t n = r->part[0].size_bytes, i;
	json_t *root = NULL, *t, *named;
	json_error_t why;

	if (strcmp(r->u.file.name, "chat_template.jinja") != 0) {
		if (strcmp(r->u.file.name, "tokenizer_config.json") != 0 || g->template)
			return 0;
		root = json_loadb(text, n, 0, &why);
		if (!root)
			return tc_fail(err, TC_DATA, "tokenizer_config.json: line %d: %s", why.line, why.text);
		t = json_object_get(root, "chat_template");
		json_array_foreach(t, i, named) {
			const char *name = json_string_value(json_object_get(named, "name"));

			if (name && strcmp(name, "default") == 0)
				t = json_object_get(named, "template");
		}
		text = json_string_value(t);
		n = text ? strlen(text) : 0;
	}
	if (text) {
		free(g->template);
		g->template = tc_strndup(text, n, err);
	}
	json_decref(root);
	return text && !g->template ? -1 : 0;
}

static int
load(struct gen *g)
{
	struct tc_err *err = &g->cli->err;
	struct tc_record r;
	int got;

	if (tc_cli_compute(g->cli, &g->how, &g->compute) < 0 || tc_cli_model(g->cli, 0, &g->source) < 0)
		return -1;
	g->model_begun = true;
	if (tc_model_begin(&g->model, &g->source->header, g->cli->pool, err) < 0)
		return -1;
	g->model.compute = g->compute;
	for (size_t i = 0; i < g->model.config.neos; i++)
		add_eos(g, g->model.config.eos[i]);
	while ((got = tc_source_next(g->source, &r, err)) > 0) {
		if (r.kind == TC_KIND_FILE && (tc_cli_take_tokenizer(g->cli, &r, &g->tokenizer) < 0 ||
		    take_generation_config(g, &r) < 0 || take_template(g, &r) < 0))
			return -1;
		if ((r.kind == TC_KIND_TENSOR || r.kind == TC_KIND_REF) &&
		    tc_model_take(&g->model, &r, g->source->mapped, err) < 0)
			return -1;
	}
	if (got < 0 || tc_model_finish(&g->model, err) < 0)
		return -1;
	return tc_cli_compute_say(g->cli, g->compute);
}

/* ---- prompts ---- */

/* The prompt as it is, or as a user's turn. */
static int
encode_prompt(struct gen *g, struct prompt *p)
{
	struct tc_turn turn[] = { { "system", g->a->system }, { "user", p->text } };
	size_t first = g->a->system ? 0 : 1;
	struct tc_buf b = {0};
	int r;

	if (!g->chat)
		return tc_tokenizer_encode(g->tokenizer, p->text, strlen(p->text), true, &p->ids, &p->n, &g->cli->err);
	r = tc_chat_render(g->chat, turn + first, 2 - first, &b, &g->cli->err);
	if (r == 0)
		r = tc_tokenizer_encode(g->tokenizer, (const char *)b.p, b.n, true, &p->ids, &p->n, &g->cli->err);
	tc_buf_free(&b);
	return r;
}

/* Takes the text (from malloc). */
static int
add_prompt(struct gen *g, char *text)
{
	struct tc_err *err = &g->cli->err;
	struct prompt *more = realloc(g->prompt, (g->nprompts + 1) * sizeof(*more)), *p;

	if (!text || !more) {
		free(text);
		g->prompt = more ? more : g->prompt;
		return tc_fail_nomem(err, sizeof(*more));
	}
	g->prompt = more;
	p = &g->prompt[g->nprompts++];
	*p = (struct prompt){ .text = text };
	if (!g->tokenizer)
		return tc_fail(err, TC_DATA, "the model has no tokenizer.json: give token ids with --ids FILE");
	if (encode_prompt(g, p) < 0)
		return tc_err_at(err, "prompt %zu", g->nprompts);
	if (p->n == 0)
		return tc_fail(err, TC_DATA, "prompt %zu is empty", g->nprompts);
	return 0;
}

/* A line of --prompts. */
static int
add_line(struct gen *g, const char *line, size_t n)
{
	struct tc_err *err = &g->cli->err;
	json_error_t why;
	json_t *o;
	int r;

	if (line[0] != '{')
		return add_prompt(g, strndup(line, n));
	o = json_loadb(line, n, 0, &why);
	if (!o)
		return tc_fail(err, TC_DATA, "%s: prompt %zu: %s", g->a->prompts, g->nprompts + 1, why.text);
	if (!json_is_string(json_object_get(o, "prompt"))) {
		json_decref(o);
		return tc_fail(err, TC_DATA, "%s: prompt %zu: no \"prompt\" in it", g->a->prompts, g->nprompts + 1);
	}
	r = add_prompt(g, strdup(json_string_value(json_object_get(o, "prompt"))));
	json_decref(o);
	return r;
}

static int
read_prompts(struct gen *g)
{
	struct tc_buf b = {0};
	int r = tc_read_file(g->a->prompts, &b, PROMPTS_BYTES_MAX, &g->cli->err);

	for (size_t at = 0; r == 0 && at < b.n;) {
		const char *line = (const char *)b.p + at, *end = memchr(line, '\n', b.n - at);
		size_t n = end ? (size_t)(end - line) : b.n - at;

		if (memchr(line, 0, n))
			r = tc_fail(&g->cli->err, TC_DATA, "%s: a NUL byte in prompt %zu", g->a->prompts, g->nprompts + 1);
		else if (n > 0)
			r = add_line(g, line, n);
		at += n + 1;
	}
	tc_buf_free(&b);
	if (r == 0 && g->nprompts == 0)
		return tc_fail(&g->cli->err, TC_DATA, "%s: no prompt in it", g->a->prompts);
	return r;
}

static int
take_ids(struct gen *g)
{
	struct tc_ids ids;
	size_t at = 0;
	int r = -1;

	g->cli->common->ids = g->a->ids;
	if (tc_cli_tokens(g->cli, NULL, NULL, TC_TEXT_RUNNING, &ids) < 0)
		return -1;
	g->prompt = tc_zalloc(ids.nseq, sizeof(*g->prompt), &g->cli->err);
	if (!g->prompt)
		goto out;
	for (; g->nprompts < ids.nseq; at += ids.length[g->nprompts++]) {
		struct prompt *p = &g->prompt[g->nprompts];

		p->n = ids.length[g->nprompts];
		if (p->n == 0) {
			tc_fail(&g->cli->err, TC_DATA, "%s: sequence %zu is empty", g->a->ids, g->nprompts);
			goto out;
		}
		p->ids = tc_alloc(p->n, sizeof(*p->ids), &g->cli->err);
		if (!p->ids)
			goto out;
		memcpy(p->ids, ids.ids + at, p->n * sizeof(*p->ids));
	}
	r = 0;
out:
	tc_ids_free(&ids);
	return r;
}

static int
gather_prompts(struct gen *g)
{
	const struct args *a = g->a;

	if ((a->prompt != NULL) + (a->prompts != NULL) + (a->ids != NULL) > 1)
		return tc_fail(&g->cli->err, TC_USAGE, "--prompt, --prompts and --ids exclude each other");
	if (a->system && !a->chat)
		return tc_fail(&g->cli->err, TC_USAGE, "--system goes with --chat");
	if (a->ids && a->chat)
		return tc_fail(&g->cli->err, TC_USAGE, "--ids and --chat exclude each other");
	if (a->chat && !g->template)
		return tc_fail(&g->cli->err, TC_DATA, "--chat: the model has no chat template");
	if (a->chat && tc_chat_open(&g->chat, g->template, &g->cli->err) < 0)
		return -1;
	if (a->ids)
		return take_ids(g);
	if (a->prompts)
		return read_prompts(g);
	return add_prompt(g, strdup(a->prompt ? a->prompt : DEFAULT_PROMPT));
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

static bool
is_eos(const struct gen *g, uint32_t id)
{
	for (size_t i = 0; i < g->neos; i++)
		if (g->eos[i] == id)
			return true;
	return false;
}

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
generate(struct gen *g, const struct prompt *p, uint64_t seed, struct output *o)
{
	const struct args *a = g->a;
	struct tc_err *err = &g->cli->err;
	struct tc_sampling s = { a->temp, (size_t)a->top_k, a->top_p, a->repeat_penalty };
	size_t most = tc_min((size_t)a->tokens, g->model.config.positions - tc_min(p->n, g->model.config.positions));
	struct tc_sampler sampler = {0};
	struct tc_decode d = {0};
	double t0 = tc_now();
	int r = -1;

	if (most == 0)
		return tc_fail(err, TC_DATA, "the prompt has %zu tokens, the model %zu positions", p->n, g->model.config.positions);
	*o = (struct output){ .nprompt = p->n, .n = p->n };
	o->ids = tc_alloc(p->n + most, sizeof(*o->ids), err);
	if (!o->ids || tc_decode_open(&d, &g->model, p->n + most, err) < 0 ||
	    tc_sampler_open(&sampler, &s, seed, g->model.config.vocab, err) < 0)
		goto out;
	d.length = p->n; /* not how much may be generated */
	if (tc_decode_run(&d, p->ids, p->n, err) < 0)
		goto out;
	memcpy(o->ids, p->ids, p->n * sizeof(*o->ids));
	for (size_t i = 0; i < most && !o->stopped; i++) {
		uint32_t id = tc_sample(&sampler, d.logits, o->ids, o->n);

		o->ids[o->n++] = id;
		if (is_eos(g, id))
			break;
		if (g->tokenizer && tc_tokenizer_decode(g->tokenizer, &id, 1, g->chat != NULL, &o->text, err) < 0)
			goto out;
		check_stop(g, o);
		if (show(g, o, false) < 0 || (i + 1 < most && !o->stopped && tc_decode_run(&d, &id, 1, err) < 0))
			goto out;
	}
	o->seconds = tc_now() - t0;
	r = show(g, o, true);
out:
	tc_sampler_close(&sampler);
	if (d.m)
		tc_decode_close(&d);
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
print_object(struct gen *g, const struct prompt *p, const struct output *o)
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
	    "text", g->tokenizer ? json_stringn(text.n ? (const char *)text.p : "", text.n) : json_null(),
	    "ids", ids_json(ids, n),
	    "metrics", "rep_4", 1 - rep, "distinct_2", distinct, "longest_repeat", (json_int_t)tc_longest_repeat(ids, n),
	    "ended", n > 0 && is_eos(g, ids[n - 1]),
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

static int
answer(struct gen *g, size_t i)
{
	const struct prompt *p = &g->prompt[i];
	uint64_t seed = g->a->common.seed == TC_UNSET ? 0 : (uint64_t)g->a->common.seed;
	struct output o = {0};
	int r;

	if (!g->a->common.json) {
		if (!g->tokenizer)
			return tc_fail(&g->cli->err, TC_DATA, "the model has no tokenizer.json: use --json");
		/* An answer does not repeat its question. */
		fputs(p->text && !g->chat ? p->text : "", stdout);
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
	if (load(g) < 0 || gather_prompts(g) < 0)
		return -1;
	for (size_t i = 0; i < g->nprompts; i++)
		if (answer(g, i) < 0)
			return tc_err_at(&g->cli->err, "prompt %zu", i + 1);
	return 0;
}

int
main(int argc, char **argv)
{
	struct args a = { .common = tc_common_defaults, .tokens = 64, .top_p = 1, .repeat_penalty = 1 };
	struct tc_cli cli;
	struct gen g = { .a = &a, .cli = &cli };

	tc_cli_begin(&cli, &stage, &a, argc, argv);
	(void)!run(&g);
	for (size_t i = 0; i < g.nprompts; i++) {
		free(g.prompt[i].text);
		free(g.prompt[i].ids);
	}
	free(g.prompt);
	if (g.model_begun)
		tc_model_free(&g.model);
	tc_tokenizer_free(g.tokenizer);
	tc_chat_close(g.chat);
	free(g.template);
	tc_source_close(g.source);
	return tc_cli_end(&cli);
}
