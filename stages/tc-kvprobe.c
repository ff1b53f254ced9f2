/* tc-kvprobe: what formats of the KV cache cost and give.  See tc-kvprobe(1). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "cli/cli.h"
#include "cli/columns.h"
#include "cli/result.h"
#include "cli/spill.h"
#include "cli/tokens.h"
#include "metric/cache.h"
#include "metric/latency.h"
#include "metric/nll.h"
#include "metric/paired.h"
#include "model/decode.h"
#include "model/forward.h"
#include "stream/hold.h"

#define DEFAULT_WINDOW 1024
#define DEFAULT_RUNS 5

enum {
	FORMATS_MAX = 16,
	NAME_SIZE = 32,
	PROMPTS = 3,             /* of the text, decoded after with every format */
	PROMPT_TOKENS = 512,     /* of one, or half of the model's positions */
	STEPS = 16,              /* tokens that are timed together */
	LADDER_MIN = 2 * STEPS,
};

/* --kv */
struct formats {
	size_t n;
	char name[FORMATS_MAX][NAME_SIZE];
	struct tc_kv_options o[FORMATS_MAX];
};

struct args {
	struct tc_common common;
	struct formats kv;
	struct tc_counts ladder;
	int64_t window, max_tokens, runs;
};

static int
add_format(struct formats *f, const char *name, size_t length, struct tc_err *err)
{
	char *own = f->name[f->n];

	if (f->n == FORMATS_MAX || length >= NAME_SIZE)
		return tc_fail(err, TC_USAGE, "%.*s: too long", (int)tc_min(length, 2 * NAME_SIZE), name);
	memcpy(own, name, length);
	own[length] = 0;
	for (size_t i = 0; i < f->n; i++)
		if (strcmp(f->name[i], own) == 0)
			return tc_fail(err, TC_USAGE, "%s is there twice", own);
	return tc_kv_parse(&f->o[f->n++], own, err);
}

static int
parse_formats(const char *value, void *field, struct tc_err *err)
{
	struct formats *f = field;

	f->n = 0;
	for (size_t n; ; value += n + 1) {
		n = strcspn(value, ",");
		if (add_format(f, value, n, err) < 0)
			return -1;
		if (!value[n])
			return 0;
	}
}

static void
print_formats(const void *field, char *buf, size_t size)
{
	const struct formats *f = field;
	size_t at = 0;

	for (size_t i = 0; i < f->n && at < size; i++)
		at += (size_t)snprintf(buf + at, size - at, "%s%s", i > 0 ? "," : "", f->name[i]);
}

#define FIELD(f) offsetof(struct args, f)
static const struct tc_option options[] = {
	{ .name = "kv", .type = TC_OPT_CALL, .offset = FIELD(kv), .arg = "FORMAT,...", .parse = parse_formats, .print = print_formats,
	  .help = "formats of keys and values (default f32,f16,int8,int4)" },
	{ .name = "ladder", .type = TC_OPT_COUNTS, .offset = FIELD(ladder), .arg = "N,...", .min = LADDER_MIN, .max = 1 << 24,
	  .help = "lengths to measure bytes and speed at, or none (default 128,256,512,1024,2048,4096)" },
	{ .name = "window", .type = TC_OPT_COUNT, .offset = FIELD(window), .arg = "N", .min = 2, .max = 1 << 24,
	  .help = "tokens of a window (default 1024, or the model's positions if fewer)" },
	{ .name = "max-tokens", .type = TC_OPT_COUNT, .offset = FIELD(max_tokens), .arg = "N", .min = 2, .max = 1LL << 40,
	  .help = "use the first N tokens of the text (default: all)" },
	{ .name = "runs", .type = TC_OPT_COUNT, .offset = FIELD(runs), .arg = "N", .role = TC_OPT_FREE, .min = 1, .max = 10000,
	  .help = "times that speed is measured, the formats in turn (default 5)" },
	{ .type = TC_OPT_END }
};

static const struct tc_stage stage = {
	.name = "tc-kvprobe",
	.summary = "what formats of the KV cache cost and give",
	.operands = "[MODEL]",
	.operands_max = 1,
	.options = options,
	.common = TC_COMMON_ALWAYS | TC_COMMON_TEXT | TC_COMMON_MEMORY | TC_COMMON_JSON | TC_COMMON_RESULT,
	.common_offset = offsetof(struct args, common),
};

/* A format and what was found. */
struct probed {
	const char *name;
	double ppl, nll, stderr_, kld, same_top;
	double bytes_per_token, of_f16, speed;
	size_t window_bytes;           /* held beside these, however many tokens */
	double key_error, value_error; /* of the worst block */
	size_t key_block, value_block;
	struct tc_cache_error *error;  /* [layers] */
};

/* A format at a length. */
struct rung {
	size_t positions;
	const char *name;
	bool beyond;                   /* the model's positions */
	size_t bytes, held_bytes;
	double of_f16, speed;
	int64_t rss_change;
};

struct probe {
	const struct args *a;
	struct tc_cli *cli;
	struct tc_source *source;
	struct tc_hold hold;           /* tensors, and a tied head's record */
	struct tc_tokenizer *tokenizer;
	struct tc_model model;         /* for decoding */
	bool begun;
	struct tc_ids text;
	size_t window;
	struct tc_windows windows;
	struct tc_predictions predictions;
	struct tc_forward base;        /* with an f32 cache */
	bool based;
	struct probed format[FORMATS_MAX];
	double *largest, *median;      /* [layers]: of the keys' channels */
	struct rung *rung;
	size_t nrungs;
};

/* ---- loading ---- */

static int
take(struct probe *p, const struct tc_record *r)
{
	struct tc_err *err = &p->cli->err;

	if (tc_cli_take_tokenizer(p->cli, r, &p->tokenizer) < 0)
		return -1;
	if (r->kind != TC_KIND_TENSOR && r->kind != TC_KIND_REF)
		return 0;
	if (tc_hold_add(&p->hold, r, true, err) < 0)
		return -1;
	return tc_model_take(&p->model, r, true, err);
}

static int
load(struct probe *p)
{
	struct tc_err *err = &p->cli->err;
	struct tc_record r;
	int got;

	if (tc_cli_model_kept(p->cli, 0, &p->source) < 0)
		return -1;
	p->begun = true;
	if (tc_model_begin(&p->model, &p->source->header, p->cli->pool, err) < 0)
		return -1;
	for (size_t i = 0; i < p->a->kv.n; i++)
		if (tc_kv_check(&p->a->kv.o[i], &p->model.config, err) < 0)
			return tc_err_at(err, "--kv %s", p->a->kv.name[i]);
	while ((got = tc_source_next(p->source, &r, err)) > 0)
		if (take(p, &r) < 0)
			return -1;
	return got < 0 ? -1 : tc_model_finish(&p->model, err);
}

static int
cut_windows(struct probe *p)
{
	const struct args *a = p->a;
	struct tc_err *err = &p->cli->err;
	size_t positions = p->model.config.positions, tokens;
	bool apart;
	int r;

	p->window = a->window == TC_UNSET ? tc_min(DEFAULT_WINDOW, positions) : (size_t)a->window;
	if (p->window > positions)
		return tc_fail(err, TC_USAGE, "--window %zu: the model has %zu positions", p->window, positions);
	if (tc_cli_tokens(p->cli, p->tokenizer, "text/eval.txt", TC_TEXT_RUNNING, &p->text) < 0)
		return -1;
	apart = p->text.nseq > 1 || (p->text.nseq == 1 && p->text.n <= p->window);
	if (apart && a->max_tokens != TC_UNSET)
		return tc_fail(err, TC_USAGE, "--max-tokens goes with a running text");
	tokens = a->max_tokens == TC_UNSET ? p->text.n : tc_min(p->text.n, (size_t)a->max_tokens);
	r = apart ? tc_windows_lines(&p->windows, p->text.nseq, p->text.length, p->window, 0, err) :
	    tc_windows_fixed(&p->windows, tokens, p->window, p->window, 0, err);
	if (r == 0 && p->windows.scored == 0)
		return tc_fail(err, TC_DATA, "the text has %zu tokens: too short for a window of %zu", tokens, p->window);
	return r < 0 ? -1 : tc_predictions_make(&p->predictions, &p->windows, p->text.ids, NULL, err);
}

/* ---- quality ---- */

/* What is to be done when a block has been run. */
typedef int after_fn(struct probe *p, struct tc_forward *f, size_t block);

/* The first nseq windows through the model.  shares: how many such states there are
 * at once. */
static int
run_model(struct probe *p, struct tc_forward *f, const struct tc_kv_options *o, size_t nseq, unsigned shares, after_fn *after,
    const char *what)
{
	const struct tc_predictions *t = &p->predictions;
	struct tc_err *err = &p->cli->err;

	if (tc_forward_open(f, &p->source->header, p->cli->pool, err) < 0 ||
	    tc_cli_forward_tokens(p->cli, f, nseq, t->length, t->ids, (struct tc_exec_options){ .kv = *o }, shares) < 0)
		return -1;
	for (size_t i = 0; i < p->hold.n; i++) {
		int done = tc_forward_take(f, &p->hold.item[i].r, true, err);

		if (done < 0 || (done > 0 && after && after(p, f, f->blocks_done - 1) < 0))
			return -1;
		tc_cli_progress(p->cli, "%s: block %zu of %zu", what, f->blocks_done, f->config.layers);
	}
	return tc_forward_finish(f, err);
}

/* What every format does to the block's keys and values, those of the first window. */
static int
measure_errors(struct probe *p, struct tc_forward *f, size_t block)
{
	const struct tc_kv *kv = &f->exec.kv[0];
	size_t n = p->predictions.length[0];
	struct tc_err *err = &p->cli->err;

	for (size_t i = 0; i < p->a->kv.n; i++) {
		struct probed *to = &p->format[i];
		struct tc_cache_error *e = &to->error[block];

		if (tc_cache_error_of(e, kv, &f->config, n, &p->a->kv.o[i], err) < 0)
			return -1;
		if (block == 0 || e->key > to->key_error) {
			to->key_error = e->key;
			to->key_block = block;
		}
		if (block == 0 || e->value > to->value_error) {
			to->value_error = e->value;
			to->value_block = block;
		}
	}
	return tc_cache_channels(kv, &f->config, n, &p->largest[block], &p->median[block], err);
}

static int
look_at_blocks(struct probe *p)
{
	size_t layers = p->model.config.layers;
	struct tc_forward f = { .block.index = -1 };
	struct tc_err *err = &p->cli->err;
	int r;

	p->largest = tc_alloc(layers, sizeof(*p->largest), err);
	p->median = tc_alloc(layers, sizeof(*p->median), err);
	if (!p->largest || !p->median)
		return -1;
	for (size_t i = 0; i < p->a->kv.n; i++) {
		p->format[i].error = tc_zalloc(layers, sizeof(*p->format[i].error), err);
		if (!p->format[i].error)
			return -1;
	}
	r = run_model(p, &f, &(struct tc_kv_options){0}, 1, 1, measure_errors, "blocks");
	tc_forward_close(&f);
	return r;
}

static int
set_scores(struct probe *p, struct probed *to, const struct tc_nll *nll)
{
	struct tc_err *err = &p->cli->err;
	double *mean = tc_alloc(p->windows.n, sizeof(*mean), err), kld = 0, same = 0;
	struct tc_mean m;

	if (!mean || tc_predictions_means(&p->predictions, nll->nll, mean, err) < 0) {
		free(mean);
		return -1;
	}
	m = tc_mean_of(p->windows.n, mean, p->predictions.weight);
	free(mean);
	for (size_t i = 0; i < nll->n; i++) {
		kld += nll->kld ? nll->kld[i] : 0;
		same += nll->same_top ? nll->same_top[i] : 1;
	}
	to->nll = m.mean;
	to->stderr_ = m.stderr_;
	to->ppl = tc_exp(m.mean);
	to->kld = kld / (double)nll->n;
	to->same_top = same / (double)nll->n;
	return 0;
}

/* m: with the format, or NULL for what it is compared with. */
static int
score(struct probe *p, struct probed *to, const struct tc_forward *m)
{
	struct tc_final base = tc_forward_final(&p->base), final;
	struct tc_err *err = &p->cli->err;
	struct tc_nll nll = {0};
	int r = tc_nll_alloc(&nll, &p->predictions, m != NULL, err);

	if (r == 0 && m) {
		final = tc_forward_final(m);
		r = tc_nll_run(&nll, &final, &base, p->cli->pool, err);
	} else if (r == 0) {
		r = tc_nll_run(&nll, &base, NULL, p->cli->pool, err);
	}
	if (r == 0)
		r = set_scores(p, to, &nll);
	tc_nll_free(&nll);
	return r;
}

static bool
is_f32(const struct tc_kv_options *o)
{
	return o->format == TC_KV_F32;
}

static int
measure_quality(struct probe *p)
{
	const struct tc_predictions *t = &p->predictions;

	p->based = true;
	if (run_model(p, &p->base, &(struct tc_kv_options){0}, t->nseq, 2, NULL, "f32") < 0)
		return -1;
	for (size_t i = 0; i < p->a->kv.n; i++) {
		const struct tc_kv_options *o = &p->a->kv.o[i];
		struct tc_forward f = { .block.index = -1 };
		int r = is_f32(o) ? 0 : run_model(p, &f, o, t->nseq, 1, NULL, p->a->kv.name[i]);

		if (r == 0)
			r = score(p, &p->format[i], is_f32(o) ? NULL : &f);
		tc_forward_close(&f);
		if (r < 0)
			return tc_err_at(&p->cli->err, "%s", p->a->kv.name[i]);
	}
	return 0;
}

/* ---- bytes and speed ---- */

static size_t
cache_bytes(const struct probe *p, const struct tc_kv_options *o, size_t positions)
{
	return p->model.config.layers * tc_kv_bytes(&p->model.config, o, positions, TC_KV_AT_ONCE);
}

static void
count_bytes(struct probe *p)
{
	const struct tc_config *c = &p->model.config;
	const struct tc_kv_options f16 = { .format = TC_KV_F16 };

	for (size_t i = 0; i < p->a->kv.n; i++) {
		const struct tc_kv_options *o = &p->a->kv.o[i];
		size_t tile = tc_kv_tile_bytes(c, o);

		p->format[i].name = p->a->kv.name[i];
		p->format[i].bytes_per_token = (double)(c->layers * tile) / TC_KV_TILE;
		p->format[i].of_f16 = (double)tile / (double)tc_kv_tile_bytes(c, &f16);
		/* Of a cache that is long enough to have all that is held beside. */
		p->format[i].window_bytes = cache_bytes(p, o, (size_t)1 << 20) - c->layers * tile * ((1 << 20) / TC_KV_TILE);
	}
}

/* `length` tokens of the text from `first` on, and from its beginning again. */
static uint32_t *
some_ids(const struct probe *p, size_t first, size_t length, struct tc_err *err)
{
	uint32_t *ids = tc_alloc(length, sizeof(*ids), err);

	for (size_t i = 0; ids && i < length; i++)
		ids[i] = p->text.ids[(first + i) % p->text.n];
	return ids;
}

static int
run_formats(struct probe *p, size_t first, size_t length, struct tc_cache_speed *s)
{
	struct tc_err *err = &p->cli->err;
	uint32_t *ids = some_ids(p, first, length, err);
	int r;

	for (size_t i = 0; i < p->a->kv.n; i++)
		s[i] = (struct tc_cache_speed){ .o = p->a->kv.o[i] };
	r = ids ? tc_cache_speed(s, p->a->kv.n, &p->model, ids, length, tc_min(STEPS, length / 2), (size_t)p->a->runs, err) : -1;
	free(ids);
	return r;
}

static int
measure_prompts(struct probe *p)
{
	size_t length = tc_min(PROMPT_TOKENS + STEPS, p->model.config.positions / 2);
	struct tc_cache_speed s[PROMPTS][FORMATS_MAX];

	if (length < 2)
		return tc_fail(&p->cli->err, TC_DATA, "the model has %zu positions: too few", p->model.config.positions);
	for (size_t k = 0; k < PROMPTS; k++) {
		tc_cli_progress(p->cli, "decoding: prompt %zu of %d", k + 1, PROMPTS);
		if (run_formats(p, k * p->text.n / PROMPTS, length, s[k]) < 0)
			return -1;
	}
	for (size_t i = 0; i < p->a->kv.n; i++) {
		double seconds[PROMPTS];

		for (size_t k = 0; k < PROMPTS; k++)
			seconds[k] = s[k][i].seconds;
		p->format[i].speed = 1 / tc_latency_of(seconds, PROMPTS).p50;
	}
	return 0;
}

static int
measure_rung(struct probe *p, size_t positions, size_t trained)
{
	const struct tc_kv_options f16 = { .format = TC_KV_F16 };
	struct tc_cache_speed s[FORMATS_MAX];

	tc_cli_progress(p->cli, "decoding at %zu", positions);
	if (run_formats(p, 0, positions, s) < 0)
		return -1;
	for (size_t i = 0; i < p->a->kv.n; i++) {
		size_t bytes = cache_bytes(p, &s[i].o, positions);

		p->rung[p->nrungs++] = (struct rung){ .positions = positions, .name = p->a->kv.name[i], .beyond = positions > trained,
			.bytes = bytes, .held_bytes = s[i].held_bytes, .of_f16 = (double)bytes / (double)cache_bytes(p, &f16, positions),
			.speed = 1 / s[i].seconds, .rss_change = s[i].rss_change };
	}
	return 0;
}

/* Keys and values can be stored beyond the positions that the model was trained for,
 * where it has no embedding of them; what it says there means nothing. */
static int
climb(struct probe *p)
{
	const struct tc_counts *ladder = &p->a->ladder;
	size_t trained = p->model.config.positions;
	bool learned = p->model.config.learned_positions, said = false;

	p->rung = tc_alloc((size_t)ladder->n * p->a->kv.n, sizeof(*p->rung), &p->cli->err);
	if (!p->rung)
		return -1;
	for (int i = 0; i < ladder->n; i++) {
		size_t positions = (size_t)ladder->at[i];

		if (positions > trained && !said)
			tc_cli_say(p->cli, "beyond the model's %zu positions %s", trained,
			    learned ? "it has no embeddings: no speed there" : "only speed and bytes are measured");
		said = said || positions > trained;
		if (positions > trained && learned)
			continue;
		p->model.config.positions = tc_max(trained, positions);
		if (measure_rung(p, positions, trained) < 0)
			return -1;
	}
	p->model.config.positions = trained;
	return 0;
}

/* ---- output ---- */

#define PERCENT 0.01
#define MEGA 1e6

#define AT(f) .offset = offsetof(struct probed, f)
static const struct tc_column measured_columns[] = {
	{ "ppl", TC_CELL_REAL, AT(ppl) },
	{ "nll", TC_CELL_REAL, AT(nll) },
	{ "stderr", TC_CELL_REAL, AT(stderr_) },
	{ "kld", TC_CELL_REAL, AT(kld) },
	{ "same_top", TC_CELL_REAL, AT(same_top) },
	{ "bytes_per_token", TC_CELL_REAL, AT(bytes_per_token) },
	{ "f16_ratio", TC_CELL_REAL, AT(of_f16) },
	{ "window_bytes", TC_CELL_INDEX, AT(window_bytes) },
	{ 0 }
};
static const struct tc_column run_columns[] = {
	{ "tokens_per_second", TC_CELL_REAL, AT(speed) },
	{ 0 }
};
static const struct tc_column text_columns[] = {
	{ "", TC_CELL_TEXT, AT(name) },
	{ "ppl", TC_CELL_REAL, AT(ppl), 1, 3, NULL },
	{ "KL", TC_CELL_REAL, AT(kld), 1, 5, NULL },
	{ "same top", TC_CELL_REAL, AT(same_top), PERCENT, 2, "%" },
	{ "bytes/token", TC_CELL_REAL, AT(bytes_per_token), 1, 0, NULL },
	{ "of f16", TC_CELL_REAL, AT(of_f16), PERCENT, 1, "%" },
	{ "tokens/s", TC_CELL_REAL, AT(speed), 1, 1, NULL },
	{ "key error", TC_CELL_REAL, AT(key_error), PERCENT, 2, "%" },
	{ "block", TC_CELL_INDEX, AT(key_block) },
	{ "value error", TC_CELL_REAL, AT(value_error), PERCENT, 2, "%" },
	{ "block", TC_CELL_INDEX, AT(value_block) },
	{ 0 }
};
#undef AT

#define AT(f) .offset = offsetof(struct rung, f)
static const struct tc_column rung_measured[] = {
	{ "positions", TC_CELL_COUNT, AT(positions) },
	{ "format", TC_CELL_TEXT, AT(name) },
	{ "beyond_positions", TC_CELL_FLAG, AT(beyond) },
	{ "bytes", TC_CELL_COUNT, AT(bytes) },
	{ "held_bytes", TC_CELL_COUNT, AT(held_bytes) },
	{ "f16_ratio", TC_CELL_REAL, AT(of_f16) },
	{ 0 }
};
static const struct tc_column rung_run[] = {
	{ "positions", TC_CELL_COUNT, AT(positions) },
	{ "format", TC_CELL_TEXT, AT(name) },
	{ "rss_change_bytes_noisy", TC_CELL_DIFFERENCE, AT(rss_change) },
	{ "tokens_per_second", TC_CELL_REAL, AT(speed) },
	{ 0 }
};
static const struct tc_column rung_text[] = {
	{ "positions", TC_CELL_COUNT, AT(positions) },
	{ "format", TC_CELL_TEXT, AT(name) },
	{ "beyond", TC_CELL_FLAG, AT(beyond) },
	{ "bytes", TC_CELL_COUNT, AT(bytes) },
	{ "held", TC_CELL_COUNT, AT(held_bytes) },
	{ "of f16", TC_CELL_REAL, AT(of_f16), PERCENT, 1, "%" },
	{ "RSS, noisy", TC_CELL_DIFFERENCE, AT(rss_change) },
	{ "tokens/s", TC_CELL_REAL, AT(speed), 1, 1, NULL },
	{ 0 }
};
#undef AT

static json_t *
reals(const double *x, size_t n, size_t stride)
{
	json_t *a = json_array();

	for (size_t i = 0; a && i < n; i++)
		json_array_append_new(a, json_real(x[i * stride]));
	return a;
}

/* The row of these columns as an object: new, and NULL without memory. */
static json_t *
format_json(const struct probed *f, const struct tc_column *columns)
{
	struct tc_rows one = { f, 1, sizeof(*f) };
	json_t *list = tc_columns_json(columns, &one), *o = list ? json_incref(json_array_get(list, 0)) : NULL;

	json_decref(list);
	return o;
}

/* Sets the keys that the formats have. */
static int
add_formats(const struct probe *p, json_t *to, bool measured, bool run)
{
	size_t layers = p->model.config.layers, stride = sizeof(struct tc_cache_error) / sizeof(double);

	for (size_t i = 0; i < p->a->kv.n; i++) {
		const struct probed *f = &p->format[i];
		json_t *o = measured ? format_json(f, measured_columns) : json_object(), *more = run ? format_json(f, run_columns) : NULL;
		int r = o && (more || !run) ? 0 : -1;

		if (r == 0 && measured)
			r = json_object_set_new(o, "key_error", reals(&f->error->key, layers, stride)) |
			    json_object_set_new(o, "value_error", reals(&f->error->value, layers, stride));
		if (r == 0 && run)
			r = json_object_update(o, more);
		json_decref(more);
		if (json_object_set_new(to, f->name, o) < 0 || r < 0)
			return -1;
	}
	return 0;
}

static json_t *
ladder_json(const struct probe *p, bool measured, bool run)
{
	struct tc_rows rows = { p->rung, p->nrungs, sizeof(*p->rung) };
	json_t *a = tc_columns_json(measured ? rung_measured : rung_run, &rows), *b = NULL;

	if (!a || !measured || !run)
		return a;
	b = tc_columns_json(rung_run, &rows);
	for (size_t i = 0; i < p->nrungs; i++)
		if (!b || json_object_update(json_array_get(a, i), json_array_get(b, i)) < 0) {
			json_decref(a);
			a = NULL;
			break;
		}
	json_decref(b);
	return a;
}

static json_t *
probe_json(const struct probe *p, bool measured, bool run)
{
	size_t layers = p->model.config.layers;
	json_t *o = json_object();
	int r = o ? add_formats(p, o, measured, run) : -1;

	if (r == 0)
		r = json_object_set_new(o, "ladder", ladder_json(p, measured, run));
	if (r == 0 && measured)
		r = json_object_set_new(o, "key_largest", reals(p->largest, layers, 1)) |
		    json_object_set_new(o, "key_median", reals(p->median, layers, 1)) |
		    json_object_set_new(o, "protocol", json_pack("{s:I,s:I,s:I,s:I,s:I}", "window", (json_int_t)p->window,
			"windows", (json_int_t)p->windows.n, "tokens_scored", (json_int_t)p->windows.scored, "tokens_dropped",
			(json_int_t)p->windows.dropped, "positions", (json_int_t)p->model.config.positions));
	if (r == 0)
		return o;
	json_decref(o);
	(void)tc_fail_nomem(&p->cli->err, 0);
	return NULL;
}

static int
write_result(const struct probe *p)
{
	json_t *measured = probe_json(p, true, false), *run = probe_json(p, false, true);
	int r = -1;

	if (measured && run) {
		json_object_set_new(measured, "text_sha256", json_string(p->text.sha256));
		json_object_set_new(measured, "options", json_string(p->cli->options));
		r = tc_result_write(p->cli, p->a->common.result, p->source, measured, run);
	}
	json_decref(measured);
	json_decref(run);
	return r;
}

static void
print_text(const struct probe *p)
{
	struct tc_rows formats = { p->format, p->a->kv.n, sizeof(p->format[0]) }, rungs = { p->rung, p->nrungs, sizeof(*p->rung) };
	size_t worst = 0;

	tc_columns_text(text_columns, &formats);
	for (size_t i = 1; i < p->model.config.layers; i++)
		if (p->largest[i] / p->median[i] > p->largest[worst] / p->median[worst])
			worst = i;
	printf("\nblock %zu: a channel of its keys reaches %.3g, half of them no more than %.3g\n", worst, p->largest[worst],
	    p->median[worst]);
	if (p->nrungs > 0) {
		putchar('\n');
		tc_columns_text(rung_text, &rungs);
	}
}

static int
report(const struct probe *p)
{
	if (p->a->common.result && write_result(p) < 0)
		return -1;
	if (p->a->common.json)
		return tc_cli_print_json_new(p->cli, probe_json(p, true, true));
	print_text(p);
	return 0;
}

static int
run(struct probe *p)
{
	if (p->a->common.result && tc_result_check(p->a->common.result, &p->cli->err) < 0)
		return -1;
	if (load(p) < 0 || cut_windows(p) < 0)
		return -1;
	count_bytes(p);
	if (look_at_blocks(p) < 0 || measure_quality(p) < 0)
		return -1;
	tc_forward_close(&p->base);
	p->based = false;
	return measure_prompts(p) < 0 || climb(p) < 0 ? -1 : report(p);
}

int
main(int argc, char **argv)
{
	struct args a = { .common = tc_common_defaults, .ladder = { { 128, 256, 512, 1024, 2048, 4096 }, 6 }, .window = TC_UNSET,
		.max_tokens = TC_UNSET, .runs = DEFAULT_RUNS };
	struct tc_err lost;
	struct tc_cli cli;
	struct probe p = { .a = &a, .cli = &cli, .base.block.index = -1 };

	(void)!parse_formats("f32,f16,int8,int4", &a.kv, &lost);
	tc_cli_begin(&cli, &stage, &a, argc, argv);
	(void)!run(&p);
	if (p.based)
		tc_forward_close(&p.base);
	if (p.begun)
		tc_model_free(&p.model);
	for (size_t i = 0; i < FORMATS_MAX; i++)
		free(p.format[i].error);
	free(p.largest);
	free(p.median);
	free(p.rung);
	tc_predictions_free(&p.predictions);
	tc_windows_free(&p.windows);
	tc_ids_free(&p.text);
	tc_tokenizer_free(p.tokenizer);
	tc_hold_clear(&p.hold);
	tc_source_close(p.source);
	return tc_cli_end(&cli);
}
