/* The executor: logits and likelihoods of the fixtures against what float64
 * gave, and bits that depend on nothing but the tokens a row may see. */
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "file/safetensors.h"
#include "fixture.h"
#include "kernel/kernel.h"
#include "kinds.h"
#include "metric/nll.h"
#include "model/forward.h"
#include "model/open.h"
#include "tap.h"

#define LOGITS_BOUND 1e-4
#define NLL_BOUND 1e-4   /* those of the reference are of float32 logits */

enum { SEQS = 2, LEN = 96, VOCAB = 320, WIDTH = 48 };

/* How a model's weights are given to the executor. */
enum weights { AS_THEY_ARE, AS_BF16, AS_BF16_IN_F32 };

static struct tc_rng rng;
static struct tc_err err;

/* ---- running a model ---- */

struct model {
	const char *dir;
	enum weights weights;
	struct tc_pool *pool;
};

/* Rounds a dense tensor to bf16 and holds it as bf16 or as f32; owned is what
 * it lies in. */
static int
round_weights(struct tc_tensor *t, enum weights as, void **owned)
{
	size_t n = tc_tensor_elements(t);
	float *f = tc_alloc(n, sizeof(*f), &err);
	uint16_t *h = tc_alloc(n, sizeof(*h), &err);

	if (!f || !h)
		exit(1);
	tc_tensor_read_rows(t, 0, tc_tensor_rows(t), f);
	for (size_t i = 0; i < n; i++) {
		h[i] = tc_bf16_from_f32(f[i]);
		f[i] = tc_f32_from_bf16(h[i]);
	}
	t->format.dtype = as == AS_BF16 ? TC_BF16 : TC_F32;
	*owned = as == AS_BF16 ? (void *)h : f;
	free(as == AS_BF16 ? (void *)f : h);
	if (tc_tensor_layout(t, &err) < 0)
		return -1;
	t->part[0].data = *owned;
	return 0;
}

static int
feed(struct tc_forward *f, struct tc_source *s, enum weights weights)
{
	struct tc_record rec;
	int r;

	while ((r = tc_source_next(s, &rec, &err)) > 0) {
		void *owned = NULL;

		if (rec.kind != TC_KIND_TENSOR && rec.kind != TC_KIND_REF)
			continue;
		if (rec.kind == TC_KIND_TENSOR && weights != AS_THEY_ARE && round_weights(&rec.u.tensor, weights, &owned) < 0)
			return -1;
		r = tc_forward_take(f, &rec, false, &err); /* the head outlives the source */
		free(owned);
		if (r < 0)
			return -1;
	}
	return r < 0 ? -1 : tc_forward_finish(f, &err);
}

/* All sequences through the model; f is for tc_forward_close() in any case. */
static int
forward(struct tc_forward *f, const struct model *m, size_t nseq, const size_t *length, const uint32_t *ids)
{
	struct tc_exec_options o = { .spill.fd = -1 };
	struct tc_source *s = NULL;
	int r = -1;

	*f = (struct tc_forward){ .block.index = -1 };
	if (tc_model_open(&s, m->dir, &err) < 0)
		return -1;
	if (tc_forward_open(f, &s->header, m->pool, &err) == 0 && tc_forward_tokens(f, nseq, length, ids, &o, &err) == 0)
		r = feed(f, s, m->weights);
	tc_source_close(s);
	return r;
}

/* The same, and only its final hidden states [tokens][WIDTH], for free(3). */
static float *
hidden_of(const struct model *m, size_t nseq, const size_t *length, const uint32_t *ids)
{
	struct tc_forward f;
	float *h = NULL;
	size_t n = 0;

	for (size_t i = 0; i < nseq; i++)
		n += length[i];
	if (forward(&f, m, nseq, length, ids) == 0) {
		h = malloc(n * WIDTH * sizeof(*h));
		memcpy(h, f.exec.hidden, n * WIDTH * sizeof(*h));
	} else {
		printf("# %s\n", err.msg);
	}
	tc_forward_close(&f);
	return h;
}

static int
same(const float *a, const float *b, size_t rows)
{
	return a && b && !memcmp(a, b, rows * WIDTH * sizeof(*a));
}

/* ---- against the references ---- */

static double
logits_distance(const struct tc_forward *f, const double *want)
{
	const struct tc_tensor *head = tc_forward_head(f);
	struct tc_linear l = {0};
	float *y = malloc(SEQS * LEN * VOCAB * sizeof(*y));
	float *work = malloc(tc_linear_work(WIDTH, SEQS * LEN, f->pool) * sizeof(*work));
	double most = 0;

	if (tc_linear_prepare(&l, head, 0, VOCAB, TC_LINEAR_MANY, f->pool, &err) < 0)
		exit(1);
	tc_linear_run(&l, SEQS * LEN, f->exec.hidden, WIDTH, y, VOCAB, work, f->pool);
	for (size_t i = 0; i < SEQS * LEN * VOCAB; i++) {
		double d = fabs((double)y[i] - want[i]);

		if (!(d <= most))
			most = d;
	}
	tc_linear_free(&l);
	free(work);
	free(y);
	return most;
}

static double
nll_distance(const struct tc_forward *f, const uint32_t *ids, const float *want)
{
	enum { N = SEQS * (LEN - 1) };
	struct tc_final m = { f->exec.hidden, tc_forward_head(f), 0, NULL };
	size_t row[N];
	uint32_t target[N];
	double nll[N], most = 0;
	struct tc_nll a = { .n = N, .row = row, .target = target, .nll = nll };

	for (size_t i = 0; i < N; i++) {
		row[i] = i / (LEN - 1) * LEN + i % (LEN - 1);
		target[i] = ids[row[i] + 1];
	}
	if (tc_nll_run(&a, &m, NULL, f->pool, &err) < 0)
		return INFINITY;
	for (size_t i = 0; i < N; i++) {
		double d = fabs(nll[i] - (double)want[i]);

		if (!(d <= most))
			most = d;
	}
	return most;
}

static void
test_reference(const char *arch, const char *kind)
{
	static const size_t length[SEQS] = { LEN, LEN };
	char dir[PATH_MAX];
	struct model m = { .dir = dir };
	const struct tc_st_entry *logits, *ids, *nll;
	struct tc_forward f;
	struct tc_st st;
	double d;

	snprintf(dir, sizeof(dir), "%s", fixture(arch, ""));
	if (!ok(tc_st_open(&st, fixture(arch, "/ref.safetensors"), &err) == 0, "%s: there is a reference %s", arch, err.msg))
		return;
	logits = tc_st_find(&st, "logits_f64");
	ids = tc_st_find(&st, "input_ids");
	nll = tc_st_find(&st, "nll");
	if (!ok(logits && ids && nll && logits->size_bytes == sizeof(double) * SEQS * LEN * VOCAB && !strcmp(ids->dtype, "I32") &&
	    ids->size_bytes == 4 * SEQS * LEN && nll->size_bytes == 4 * SEQS * (LEN - 1), "%s: holds logits, ids, nll", arch))
		goto out;
	if (ok(forward(&f, &m, SEQS, length, ids->data) == 0, "%s on %s runs %s", arch, kind, err.msg)) {
		d = logits_distance(&f, logits->data);
		ok(d <= LOGITS_BOUND, "%s on %s: logits are those of float64 to %g (%.3g)", arch, kind, LOGITS_BOUND, d);
		d = nll_distance(&f, ids->data, nll->data);
		ok(d <= NLL_BOUND, "%s on %s: so is every nll to %g (%.3g)", arch, kind, NLL_BOUND, d);
	}
	tc_forward_close(&f);
out:
	tc_st_close(&st);
}

/* ---- bits ---- */

/* Sequences on both sides of a tile and of a tile of keys, more than a batch. */
static const size_t lengths[] = { 230, 1, 96, 97, 64, 65, 200, 256, 192, 193, 2, 250, 129, 256, 256 };
enum { NSEQ = sizeof(lengths) / sizeof(lengths[0]) };

struct text {
	uint32_t *ids;
	size_t start[NSEQ + 1];
};

static struct text
make_text(void)
{
	struct text t = {0};

	for (size_t i = 0; i < NSEQ; i++)
		t.start[i + 1] = t.start[i] + lengths[i];
	t.ids = malloc(t.start[NSEQ] * sizeof(*t.ids));
	for (size_t i = 0; i < t.start[NSEQ]; i++)
		t.ids[i] = (uint32_t)tc_rng_below(&rng, VOCAB);
	return t;
}

static void
test_threads(const struct model *m, const char *name, const struct text *t, const float *want)
{
	for (int threads = 2; threads <= 3; threads++) {
		struct model some = *m;
		float *got;

		if (tc_pool_open(&some.pool, threads, &err) < 0)
			exit(1);
		got = hidden_of(&some, NSEQ, lengths, t->ids);
		ok(same(got, want, t->start[NSEQ]), "%s: 1 and %d threads give the same bits", name, threads);
		free(got);
		tc_pool_close(some.pool);
	}
}

static void
test_alone(const struct model *m, const char *name, const struct text *t, const float *want)
{
	static const size_t prefix[] = { 1, 2, 63, 64, 65, 95, 96, 97, 128, 160, 192, 229 };
	int right = 1, prefixes = 1;

	for (size_t i = 0; i < NSEQ; i++) {
		float *got = hidden_of(m, 1, &lengths[i], t->ids + t->start[i]);

		right &= same(got, want + t->start[i] * WIDTH, lengths[i]);
		free(got);
	}
	ok(right, "%s: a sequence alone has the bits it has among others", name);
	for (size_t i = 0; i < sizeof(prefix) / sizeof(prefix[0]); i++) {
		float *got = hidden_of(m, 1, &prefix[i], t->ids);

		prefixes &= same(got, want, prefix[i]);
		free(got);
	}
	ok(prefixes, "%s: a prefix has the bits it has in the whole", name);
}

/* Changing token c changes its row and none before. */
static void
test_causality(const struct model *m, const char *name, const struct text *t, const float *want)
{
	static const size_t changed[] = { 0, 1, 63, 64, 95, 96, 150, 229 };
	int before = 1, after = 1;

	for (size_t i = 0; i < sizeof(changed) / sizeof(changed[0]); i++) {
		size_t c = changed[i];
		uint32_t was = t->ids[c];
		float *got;

		t->ids[c] = (was + 1) % VOCAB;
		got = hidden_of(m, 1, lengths, t->ids);
		t->ids[c] = was;
		before &= same(got, want, c);
		for (size_t r = c; got && r < lengths[0]; r++)
			after &= !same(got + r * WIDTH, want + r * WIDTH, 1);
		free(got);
	}
	ok(before, "%s: a changed token leaves all rows before it bit-equal", name);
	ok(after, "%s: and changes its own and all later ones", name);
}

static void
test_bits(const char *arch, const char *kind)
{
	struct model m = { .weights = AS_THEY_ARE }, bf16, rounded;
	char dir[PATH_MAX], name[64];
	struct text t = make_text();
	float *want, *a, *b;

	snprintf(dir, sizeof(dir), "%s", fixture(arch, ""));
	snprintf(name, sizeof(name), "%s on %s", arch, kind);
	m.dir = dir;
	bf16 = rounded = m;
	bf16.weights = AS_BF16;
	rounded.weights = AS_BF16_IN_F32;
	want = hidden_of(&m, NSEQ, lengths, t.ids);
	if (ok(want != NULL, "%s: %zu tokens in %d sequences", name, t.start[NSEQ], (int)NSEQ)) {
		test_threads(&m, name, &t, want);
		test_alone(&m, name, &t, want);
		test_causality(&m, name, &t, want);
	}
	a = hidden_of(&bf16, NSEQ, lengths, t.ids);
	b = hidden_of(&rounded, NSEQ, lengths, t.ids);
	ok(same(a, b, t.start[NSEQ]), "%s: weights held as bf16 and the same ones held as f32 give the same bits", name);
	ok(a && want && !same(a, want, t.start[NSEQ]), "%s: which are not those of the weights unrounded", name);
	free(a);
	free(b);
	free(want);
	free(t.ids);
}

/* ---- attention ---- */

/* Queries one by one against queries in tiles of every size; head_dim not a
 * multiple of a panel, heads that share keys. */
static void
test_attend(const char *kind, size_t head_dim)
{
	enum { POSITIONS = 200 };
	struct tc_config c = { .heads = 4, .kv_heads = 2, .head_dim = head_dim };
	size_t dq = c.heads * head_dim, dkv = c.kv_heads * head_dim;
	float *q = malloc(POSITIONS * dq * sizeof(*q)), *k = malloc(POSITIONS * dkv * sizeof(*k)), *v = malloc(POSITIONS * dkv * sizeof(*v));
	float *one = malloc(POSITIONS * dq * sizeof(*one)), *many = malloc(POSITIONS * dq * sizeof(*many));
	float *scratch = malloc(tc_attend_scratch(&c, POSITIONS) * sizeof(*scratch));
	const struct tc_kv_options f32 = {0};
	struct tc_kv kv = {0}, grown = {0};
	double most = 0;
	int right = 1, cached = 1;

	for (size_t i = 0; i < POSITIONS * dq; i++)
		q[i] = (float)(4 * tc_rng_unit(&rng) - 2);
	for (size_t i = 0; i < POSITIONS * dkv; i++) {
		k[i] = (float)(2 * tc_rng_unit(&rng) - 1);
		v[i] = (float)(2 * tc_rng_unit(&rng) - 1);
	}
	if (tc_kv_alloc(&kv, &c, &f32, POSITIONS, POSITIONS, &err) < 0 || tc_kv_alloc(&grown, &c, &f32, 2 * POSITIONS, 1, &err) < 0)
		exit(1);
	tc_kv_store(&kv, &c, 0, POSITIONS, k, v);
	for (size_t p = 0; p < POSITIONS; p++)
		tc_attend(&kv, &c, 0, p, 1, q + p * dq, one + p * dq, NULL, scratch);
	for (size_t rows = 1; rows <= POSITIONS; rows += rows < 8 ? 1 : 23) {
		for (size_t p = 0; p < POSITIONS; p += rows)
			tc_attend(&kv, &c, 0, p, tc_min(rows, POSITIONS - p), q + p * dq, many + p * dq, NULL, scratch);
		right &= !memcmp(one, many, POSITIONS * dq * sizeof(*one));
	}
	ok(right, "%s, head_dim %zu: attention of one query and of many, the same bits", kind, head_dim);

	/* As decoding does: a larger cache that holds no later keys yet. */
	for (size_t p = 0; p < POSITIONS; p++) {
		tc_kv_store(&grown, &c, p, 1, k + p * dkv, v + p * dkv);
		tc_attend(&grown, &c, 0, p, 1, q + p * dq, many + p * dq, NULL, scratch);
	}
	cached = !memcmp(one, many, POSITIONS * dq * sizeof(*one));
	ok(cached, "%s, head_dim %zu: and with a cache that grows", kind, head_dim);

	for (size_t p = 0; p < POSITIONS; p += 13)
		for (size_t h = 0; h < c.heads; h++) {
			double w[POSITIONS], sum = 0;

			for (size_t t = 0; t <= p; t++) {
				double s = 0;

				for (size_t i = 0; i < head_dim; i++)
					s += (double)q[p * dq + h * head_dim + i] * (double)k[t * dkv + h / 2 * head_dim + i];
				sum += w[t] = exp(s);
			}
			for (size_t i = 0; i < head_dim; i++) {
				double want = 0;

				for (size_t t = 0; t <= p; t++)
					want += w[t] / sum * (double)v[t * dkv + h / 2 * head_dim + i];
				most = fmax(most, fabs((double)one[p * dq + h * head_dim + i] - want));
			}
		}
	ok(most <= 3e-6, "%s, head_dim %zu: attention is right to 3e-6 (%.2g)", kind, head_dim, most);
	tc_kv_free(&kv);
	tc_kv_free(&grown);
	free(q);
	free(k);
	free(v);
	free(one);
	free(many);
	free(scratch);
}

int
main(void)
{
	const struct tc_kernels *list[8];
	size_t n = kinds_to_test(list, 8);

	for (size_t i = 0; i < n; i++) {
		if (!ok(tc_kernels_select(list[i]->name, &err) == 0, "%s", list[i]->name))
			continue;
		tc_rng_seed(&rng, 7);
		test_reference("tiny/qwen2", list[i]->name);
		test_reference("tiny/llama", list[i]->name);
		test_bits("tiny/qwen2", list[i]->name);
		test_bits("tiny/llama", list[i]->name);
		test_attend(list[i]->name, 12);
		test_attend(list[i]->name, 64);
	}
	return done_testing();
}
