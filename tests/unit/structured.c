/* What is taken away without a trace: neurons and heads that give nothing, a block
 * that changes nothing, neurons that others stand for. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernel/kernel.h"
#include "method/structured.h"
#include "model.h"
#include "model/resize.h"
#include "solve/substitute.h"
#include "stream/reader.h"
#include "tap.h"

enum { SEQUENCES = 3, TOKENS = 200 + 70 + 9 };
#define SAME 1e-5 /* rounding: norm of the difference over norm */

static const size_t lengths[SEQUENCES] = { 200, 70, 9 };
static uint32_t ids[TOKENS];
static struct tc_rng rng;
static struct tc_err err;
static struct tc_pool *pools[2];

static void
must(int r)
{
	if (r < 0) {
		fprintf(stderr, "Bail out! %s\n", err.msg);
		exit(1);
	}
}

/* ---- models ---- */

/* A fixture whose numbers are its own, with tokens. */
static void
open_own(struct model *m, const char *name)
{
	uint64_t length[SEQUENCES];
	struct tc_record tokens = { .kind = TC_KIND_TOKENS, .u.tokens = { .tag = "calib", .nseq = SEQUENCES, .length = length },
		.nparts = 1, .part = { { "data", ids, sizeof(ids) } } };

	must(model_open(m, name, &err));
	for (size_t i = 0; i < m->params; i++) {
		size_t n = tc_tensor_elements(m->tensor[i]);

		m->wide[i] = malloc(n * sizeof(float));
		tc_tensor_read_rows(m->tensor[i], 0, tc_tensor_rows(m->tensor[i]), m->wide[i]);
		must(tc_tensor_make_dense((struct tc_tensor *)m->tensor[i], TC_F32, &err));
		model_put(m, i, m->wide[i]);
	}
	for (size_t i = 0; i < SEQUENCES; i++)
		length[i] = lengths[i];
	must(tc_hold_add(&m->hold, &tokens, false, &err));
	/* The hold has moved, and tokens come first. */
	tokens = m->hold.item[m->hold.n - 1].r;
	struct tc_held last = m->hold.item[m->hold.n - 1];
	memmove(m->hold.item + 1, m->hold.item, (m->hold.n - 1) * sizeof(last));
	m->hold.item[0] = last;
	for (size_t i = 0, k = 0; i < m->hold.n; i++)
		if (m->hold.item[i].r.kind == TC_KIND_TENSOR)
			m->tensor[k++] = &m->hold.item[i].r.u.tensor;
}

/* The numbers of a tensor, NULL: there is none. */
static float *
numbers(struct model *m, enum tc_role role, bool bias, int block, const struct tc_tensor **t)
{
	*t = NULL;
	for (size_t i = 0; i < m->params; i++)
		if (m->tensor[i]->role == role && m->tensor[i]->bias == bias && m->tensor[i]->block == block) {
			*t = m->tensor[i];
			return m->wide[i];
		}
	return NULL;
}

static void
zero_columns(struct model *m, enum tc_role role, int block, size_t first, size_t n)
{
	const struct tc_tensor *t;
	float *w = numbers(m, role, false, block, &t);

	for (size_t r = 0; r < t->shape[0]; r++)
		memset(w + r * t->shape[1] + first, 0, n * sizeof(*w));
}

static void
zero_all(struct model *m, enum tc_role role, int block)
{
	const struct tc_tensor *t;

	for (int bias = 0; bias < 2; bias++) {
		float *w = numbers(m, role, bias, block, &t);

		if (w)
			memset(w, 0, tc_tensor_elements(t) * sizeof(*w));
	}
}

/* ---- what comes out ---- */

static const char *
path_of(int fd)
{
	static char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return path;
}

static int
no_spill(void *ctx, size_t size_bytes, struct tc_spill_options *o, struct tc_err *e)
{
	(void)ctx, (void)size_bytes, (void)e;
	*o = (struct tc_spill_options){ .fd = -1 };
	return 0;
}

/* The stream of what s makes of the model, in memory. */
static int
stream_of(struct tc_structured *s, struct model *m)
{
	const struct tc_sequential how = { .pool = s->pool, .spill = no_spill };
	struct tc_held_source held;
	struct tc_ledger ledger;
	struct tc_writer *w;
	int fd = memfd_create("structured", 0);

	tc_hold_source(&m->hold, m->source, &held);
	must(tc_writer_open(&w, fd, "structured", &err));
	must(tc_writer_header(w, &s->header, &err));
	must(tc_structured_run(s, &held.s, w, &how, false, &ledger, &err));
	must(tc_writer_end(w, &s->header, &err));
	tc_writer_free(w);
	return fd;
}

/* Final hidden states; the caller's to free. */
static float *
states_of(struct tc_source *source, const struct tc_hold *hold, size_t *n)
{
	struct tc_forward f;
	struct tc_exec_options o = { .spill.fd = -1 };
	struct tc_held_source held;
	struct tc_record r;
	float *states;
	int got;

	if (hold) {
		tc_hold_source(hold, source, &held);
		source = &held.s;
	}
	must(tc_forward_open(&f, &source->header, NULL, &err));
	must(tc_forward_tokens(&f, SEQUENCES, lengths, ids, &o, &err));
	while ((got = tc_source_next(source, &r, &err)) > 0)
		if (r.kind == TC_KIND_TENSOR || r.kind == TC_KIND_REF)
			must(tc_forward_take(&f, &r, true, &err));
	must(got);
	must(tc_forward_finish(&f, &err));
	*n = TOKENS * f.config.width;
	states = malloc(*n * sizeof(*states));
	memcpy(states, f.exec.hidden, *n * sizeof(*states));
	tc_forward_close(&f);
	return states;
}

/* How far the smaller model's states are from the model's. */
static double
distance_of(struct model *m, int fd)
{
	struct tc_source *source;
	double diff = 0, norm = 0;
	size_t n, small;
	float *a = states_of(m->source, &m->hold, &n), *b;

	must(tc_reader_open_file(&source, path_of(fd), &err));
	b = states_of(source, NULL, &small);
	for (size_t i = 0; i < n; i++) {
		diff += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
		norm += (double)a[i] * (double)a[i];
	}
	tc_source_close(source);
	free(a);
	free(b);
	return small == n ? sqrt(diff / norm) : INFINITY;
}

static double
loss_by(struct model *m, const struct tc_structured_options *o)
{
	struct tc_structured s;
	double distance;
	int fd;

	must(tc_structured_open(&s, &m->source->header, &m->hold, o, pools[0], &err));
	fd = stream_of(&s, m);
	distance = distance_of(m, fd);
	close(fd);
	tc_structured_close(&s);
	return distance;
}

/* ---- the tests ---- */

static void
test_neurons(const char *name)
{
	struct tc_structured_options o = { .what = TC_STRUCTURE_NEURONS, .damping = 1e-8 };
	struct tc_config c;
	struct model m;

	open_own(&m, name);
	must(tc_config_parse(&c, m.source->header.config, m.source->header.config_bytes, &err));
	for (size_t b = 0; b < c.layers; b++)
		for (size_t i = 0; i < c.ffn / 4; i++)
			zero_columns(&m, TC_ROLE_DOWN, (int)b, (i * 3 + b) % c.ffn, 1);
	o.sparsity = (double)(c.ffn / 4) / (double)c.ffn;
	ok(loss_by(&m, &o) < SAME, "%s: neurons that give nothing", name);
	o.sequential = true;
	ok(loss_by(&m, &o) < SAME, "%s: ... by what they are measured to give", name);
	o.sparsity = 0.5;
	ok(loss_by(&m, &o) > SAME, "%s: neurons that give something are missed", name);
	model_close(&m);
}

static void
test_heads(const char *name)
{
	struct tc_structured_options o = { .what = TC_STRUCTURE_HEADS, .sparsity = 0.5, .damping = 1e-8 };
	struct tc_config c;
	struct model m;

	open_own(&m, name);
	must(tc_config_parse(&c, m.source->header.config, m.source->header.config_bytes, &err));
	for (size_t b = 0; b < c.layers; b++) {
		size_t group = c.heads / c.kv_heads * c.head_dim;

		zero_columns(&m, TC_ROLE_O, (int)b, b % c.kv_heads * group, group);
	}
	ok(loss_by(&m, &o) < SAME, "%s: a group of heads that gives nothing", name);
	o.sequential = true;
	ok(loss_by(&m, &o) < SAME, "%s: ... by what it is measured to give", name);
	model_close(&m);
}

static void
test_blocks(const char *name, int identity)
{
	struct tc_structured_options o = { .what = TC_STRUCTURE_BLOCKS, .sparsity = 0.34 };
	struct tc_structured s;
	struct model m;

	open_own(&m, name);
	zero_all(&m, TC_ROLE_O, identity);
	zero_all(&m, TC_ROLE_DOWN, identity);
	must(tc_structured_open(&s, &m.source->header, &m.hold, &o, pools[1], &err));
	ok(fabs(s.influence[identity]) < 1e-9 && s.influence[1 - identity] > 1e-6, "%s: a block that changes nothing has no influence", name);
	tc_structured_close(&s);
	ok(loss_by(&m, &o) < SAME, "%s: ... and is not missed", name);
	model_close(&m);
}

/* Odd neurons are as the even ones before them, and add a little. */
static void
test_twins(const char *name)
{
	struct tc_structured_options o = { .what = TC_STRUCTURE_NEURONS, .sparsity = 0.5, .damping = 1e-7, .sequential = true };
	const struct tc_tensor *t;
	struct tc_structured s;
	struct model m;
	double with, without;
	int fd[2];

	open_own(&m, name);
	for (int b = 0; b < 3; b++) {
		static const enum tc_role makers[] = { TC_ROLE_GATE, TC_ROLE_UP };
		float *w;

		for (int i = 0; i < 2; i++)
			if ((w = numbers(&m, makers[i], false, b, &t)))
				for (size_t r = 0; r < t->shape[0]; r += 2)
					memcpy(w + (r + 1) * t->shape[1], w + r * t->shape[1], t->shape[1] * sizeof(*w));
		w = numbers(&m, TC_ROLE_DOWN, false, b, &t);
		for (size_t i = 1; i < tc_tensor_elements(t); i += 2)
			w[i] *= 0.02f;
	}
	with = loss_by(&m, &o);
	o.sequential = false;
	without = loss_by(&m, &o);
	ok(without > 1e-3 && with < 0.02 * without, "%s: neurons make up for their twins (%.2g, else %.2g)", name, with, without);
	o.sequential = true;
	for (int i = 0; i < 2; i++) {
		must(tc_structured_open(&s, &m.source->header, &m.hold, &o, pools[i], &err));
		fd[i] = stream_of(&s, &m);
		tc_structured_close(&s);
	}
	struct tc_buf a = {0}, b = {0};
	must(tc_read_file(path_of(fd[0]), &a, 1 << 30, &err));
	must(tc_read_file(path_of(fd[1]), &b, 1 << 30, &err));
	ok(a.n == b.n && memcmp(a.p, b.p, a.n) == 0, "%s: two threads, the same stream", name);
	tc_buf_free(&a);
	tc_buf_free(&b);
	close(fd[0]);
	close(fd[1]);
	model_close(&m);
}

/* A statistic of block 1's down projection, of two nodes: value i is i. */
static void
add_stat(struct model *m, enum tc_stat_kind kind, uint64_t dim)
{
	static struct tc_node node[] = { { 1, 0, 20 }, { 0, 2, 10 } };
	size_t n = 2 * tc_stat_values(kind, dim);
	struct tc_record r = { .kind = TC_KIND_STAT, .u.stat = { .kind = kind, .site = TC_SITE_MLP_MID, .role = TC_ROLE_DOWN, .block = 1,
		.tag = "calib", .dim = dim, .nnodes = 2, .node = node }, .nparts = 1 };
	double *wide = malloc(n * sizeof(*wide));
	float *narrow = malloc(n * sizeof(*narrow));
	bool is_wide = tc_stat_dtype(kind) == TC_F64;

	for (size_t i = 0; i < n; i++)
		narrow[i] = (float)(wide[i] = (double)i);
	r.part[0] = (struct tc_part){ "data", is_wide ? (void *)wide : narrow, n * (is_wide ? sizeof(*wide) : sizeof(*narrow)) };
	must(tc_hold_add(&m->hold, &r, false, &err));
	free(wide);
	free(narrow);
}

/* Whether a record's numbers are those of the channels that are kept. */
static int
is_cut(const struct tc_record *r, size_t dim, size_t kept, const uint32_t *keep)
{
	const struct tc_stat *s = &r->u.stat;
	bool triangle = s->kind == TC_STAT_HESSIAN;
	size_t at = 0;
	int right = s->dim == kept && s->nnodes == 2 && s->stale;

	for (size_t node = 0; right && node < 2; node++)
		for (size_t i = 0; i < kept; i++)
			for (size_t j = triangle ? 0 : i; j <= i; j++, at++) {
				size_t row = keep[i], want = node * tc_stat_values(s->kind, dim) + (triangle ? row * (row + 1) / 2 + keep[j] : row);
				const void *p = r->part[0].data;

				right &= (double)want == (tc_stat_dtype(s->kind) == TC_F64 ? ((const double *)p)[at] : (double)((const float *)p)[at]);
			}
	return right && r->part[0].size_bytes == at * tc_dtypes[tc_stat_dtype(s->kind)].size_bytes;
}

static void
test_statistics(void)
{
	static const enum tc_stat_kind kinds[] = { TC_STAT_SQ, TC_STAT_MAX, TC_STAT_HESSIAN };
	struct tc_structured_options o = { .what = TC_STRUCTURE_NEURONS, .sparsity = 0.3 };
	struct tc_structured s;
	struct tc_source *source;
	struct tc_record r;
	struct model m;
	int fd, cut = 0, others = 0, got;

	open_own(&m, "tiny/llama");
	for (int i = 0; i < 3; i++)
		add_stat(&m, kinds[i], 112);
	add_stat(&m, TC_STAT_FISHER_COLUMN, 112);
	must(tc_structured_open(&s, &m.source->header, &m.hold, &o, pools[0], &err));
	fd = stream_of(&s, &m);
	must(tc_reader_open_file(&source, path_of(fd), &err));
	while ((got = tc_source_next(source, &r, &err)) > 0)
		if (r.kind == TC_KIND_STAT) {
			others++;
			cut += r.u.stat.kind == kinds[cut] && is_cut(&r, 112, s.kept, s.keep + s.kept);
		}
	must(got);
	ok(s.kept == 112 - 33 && cut == 3 && others == 3, "statistics are cut, gradients left out");
	tc_source_close(source);
	close(fd);
	tc_structured_close(&s);
	model_close(&m);
}

static void
refused(struct model *m, enum tc_structure what, double sparsity, int code, const char *why)
{
	struct tc_structured_options o = { .what = what, .sparsity = sparsity };
	struct tc_structured s;

	err.code = 0;
	ok(tc_structured_open(&s, &m->source->header, &m->hold, &o, pools[0], &err) < 0 && err.code == code, "%s: %s", why, err.msg);
	tc_structured_close(&s);
}

static void
test_refusals(void)
{
	struct tc_tensor *t;
	struct model m;

	open_own(&m, "tiny/gpt2");
	refused(&m, TC_STRUCTURE_HEADS, 0.5, TC_DATA, "a config without the size of a head");
	refused(&m, TC_STRUCTURE_BLOCKS, 0.2, TC_USAGE, "less than one");
	refused(&m, TC_STRUCTURE_NEURONS, 1, TC_USAGE, "all");
	numbers(&m, TC_ROLE_DOWN, false, 1, (const struct tc_tensor **)&t)[3] = NAN;
	refused(&m, TC_STRUCTURE_NEURONS, 0.5, TC_DATA, "a weight that is none");
	t->format.encoding = TC_UNIFORM;
	refused(&m, TC_STRUCTURE_NEURONS, 0.5, TC_DATA, "a packed tensor");
	model_close(&m);
}

/* H[R,K] H[K,K]^-1 of three inputs, x2 = 2 x0 - x1. */
static void
test_substitute(void)
{
	static const float packed[] = { 2, 1, 3, 3, -1, 7 };
	static const uint32_t keep[] = { 0, 1 };
	double row[] = { 10, 20, 5 };
	struct tc_substitute s;

	must(tc_substitute_make(&s, packed, 3, 2, keep, 0, &err));
	ok(s.removed == 1 && s.remove[0] == 2 && fabs(s.z[0] - 2) < 1e-12 && fabs(s.z[1] + 1) < 1e-12, "what an input is in terms of others");
	tc_substitute_row(&s, row);
	ok(fabs(row[0] - 20) < 1e-11 && fabs(row[1] - 15) < 1e-11 && row[2] == 0, "weights take over");
	tc_substitute_free(&s);
	static const float dead[] = { 0, 0, 0, 0, 0, 4 };
	must(tc_substitute_make(&s, dead, 3, 2, keep, 0.01, &err));
	ok(s.z[0] == 0 && s.z[1] == 0, "inputs that were always 0 stand for nothing");
	tc_substitute_free(&s);
}

/* The config of a model of `layers` blocks of which some stay. */
static void
resized(const char *json, size_t layers, const uint32_t *keep, const char *want, const char *what)
{
	struct tc_config was, is;
	struct tc_resize to = { .layers = layers, .layer = keep };
	size_t n = 0;
	char *text;
	int right;

	must(tc_config_parse(&was, json, strlen(json), &err));
	to.ffn = was.ffn;
	to.heads = was.heads;
	to.kv_heads = was.kv_heads;
	must(tc_config_resize(&text, &n, json, strlen(json), &to, &err));
	must(tc_config_parse(&is, text, n, &err));
	right = is.layers == layers && strstr(text, want) != NULL;
	for (size_t i = 0; i < layers; i++)
		right &= is.layer[i] == was.layer[keep[i]];
	ok(right, "%s", what);
	if (!right)
		fprintf(stderr, "%s\n", text);
	free(text);
}

static void
test_configs(void)
{
	static const uint32_t keep[] = { 0, 2, 3, 5 };

	resized("{\"model_type\":\"gemma2\",\"vocab_size\":320,\"hidden_size\":48,\"intermediate_size\":64,\"num_hidden_layers\":6,"
	    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":12,\"_name_or_path\":\"x\"}", 4, keep,
	    "\"_name_or_path\": \"x\"", "gemma2: which blocks slide was a rule, and becomes a list");
	resized("{\"model_type\":\"smollm3\",\"vocab_size\":320,\"hidden_size\":48,\"intermediate_size\":64,\"num_hidden_layers\":6,"
	    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"no_rope_layer_interval\":3}", 4, keep, "no_rope_layers",
	    "smollm3: which blocks rotate, likewise");
	resized("{\"model_type\":\"qwen2\",\"vocab_size\":320,\"hidden_size\":48,\"intermediate_size\":64,\"num_hidden_layers\":6,"
	    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"use_sliding_window\":true,\"sliding_window\":64,\"max_window_layers\":3}",
	    4, keep, "layer_types", "qwen2: blocks that slide from one on");
}

int
main(void)
{
	if (tc_kernels_select(NULL, &err) < 0 || tc_pool_open(&pools[0], 1, &err) < 0 || tc_pool_open(&pools[1], 2, &err) < 0)
		return 1;
	tc_rng_seed(&rng, 31);
	random_ids(&rng, VOCAB, TOKENS, ids);
	test_substitute();
	test_configs();
	test_neurons("tiny/llama");
	test_neurons("tiny/qwen2");
	test_neurons("tiny/gemma2");
	test_neurons("tiny/gpt2");
	test_heads("tiny/llama");
	test_heads("tiny/qwen2");
	test_heads("tiny/gemma2");
	test_blocks("tiny/llama", 1);
	test_blocks("tiny/qwen2", 0);
	test_blocks("tiny/gemma2", 1);
	test_blocks("tiny/gpt2", 1);
	test_twins("tiny/llama");
	test_statistics();
	test_refusals();
	for (int i = 0; i < 2; i++)
		tc_pool_close(pools[i]);
	return done_testing();
}
