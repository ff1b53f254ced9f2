/* Gradients of every architecture's parameters against what PyTorch gave
 * (tests/make-fixtures.py), and bits that depend on nothing but the sequence. */
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "file/safetensors.h"
#include "kernel/kernel.h"
#include "kinds.h"
#include "model/gradient.h"
#include "model/open.h"
#include "tap.h"

#define GRADIENT_BOUND 1e-4  /* norm of the difference over norm */

static const char *const models[] = {
	"tiny/qwen2", "tiny/llama", "tiny/gemma2", "tiny/gpt2",
	"arch/mistral", "arch/qwen2-window", "arch/qwen3", "arch/gemma3", "arch/olmo2", "arch/smollm3", "arch/phi3",
	"arch/phi3-longrope-short", "arch/phi3-longrope-long",
	"arch/llama-linear", "arch/llama-llama3", "arch/llama-yarn", "arch/llama-bias",
};
#define MODELS (sizeof(models) / sizeof(models[0]))

enum { PARAMS_MAX = 256, ENTRIES_MAX = 256 };

static struct tc_err err;

static const char *
fixture(const char *model, const char *file)
{
	static char path[PATH_MAX];
	const char *root = getenv("TC_ROOT");

	snprintf(path, sizeof(path), "%s/tests/fixtures/%s%s", root ? root : ".", model, file);
	return path;
}

/* ---- running ---- */

/* A model that is through, its parameters, and their gradients by sequence. */
struct run {
	struct tc_source *s;
	struct tc_forward f;
	struct tc_kept kept[PARAMS_MAX];
	const struct tc_tensor *tensor[PARAMS_MAX];
	size_t params, nseq;
	float *g[PARAMS_MAX];      /* [nseq][elements] */
	bool unwanted[PARAMS_MAX];
	size_t finished[PARAMS_MAX];
	double *value;
	struct tc_loss loss;
};

static size_t
place_of(const struct tc_config *c, const struct tc_tensor *t)
{
	struct tc_tensor u;
	size_t i = 0;

	while (tc_config_tensor(c, i, &u) > 0 && (u.role != t->role || u.bias != t->bias || u.block != t->block))
		i++;
	return i;
}

static int
take_all(struct run *r)
{
	struct tc_record rec;
	int got;

	while ((got = tc_source_next(r->s, &rec, &err)) > 0) {
		size_t i;

		if (rec.kind != TC_KIND_TENSOR && rec.kind != TC_KIND_REF)
			continue;
		if (tc_forward_take(&r->f, &rec, false, &err) < 0)
			return -1;
		if (rec.kind == TC_KIND_REF)
			continue;
		i = place_of(&r->f.config, &rec.u.tensor);
		if (i >= PARAMS_MAX || tc_kept_set(&r->kept[i], &rec.u.tensor, false, &err) < 0)
			return -1;
		r->tensor[i] = &r->kept[i].t;
		r->params++;
	}
	return got < 0 ? -1 : tc_forward_finish(&r->f, &err);
}

static bool
wants(void *ctx, size_t param)
{
	const struct run *r = ctx;

	return !r->unwanted[param];
}

/* In two halves, the second added, so that adding is tried too. */
static void
store(void *ctx, const struct tc_strip *s, int worker)
{
	struct run *r = ctx;
	size_t n = tc_tensor_elements(r->tensor[s->param]);

	(void)worker;
	for (size_t seq = s->first; seq < s->first + s->n; seq++) {
		float *to = r->g[s->param] + seq * n + s->row0 * s->cols;

		tc_strip_gradient(s, seq, false, to);
	}
}

static int
finished(void *ctx, size_t param, struct tc_err *e)
{
	struct run *r = ctx;

	(void)e;
	r->finished[param]++;
	return 0;
}

static int
run(struct run *r, const char *model, size_t nseq, const size_t *length, const uint32_t *ids, struct tc_pool *pool)
{
	struct tc_exec_options o = { .with_gradient = true, .spill.fd = -1 };
	struct tc_gradient_visitor v = { .ctx = r, .wants = wants, .visit = store, .finished = finished };
	struct tc_final final;

	r->nseq = nseq;
	r->f.block.index = -1;
	if (tc_model_open(&r->s, fixture(model, ""), &err) < 0 || tc_forward_open(&r->f, &r->s->header, pool, &err) < 0 ||
	    tc_forward_tokens(&r->f, nseq, length, ids, &o, &err) < 0 || take_all(r) < 0 ||
	    tc_loss_next_tokens(&r->loss, nseq, r->f.exec.start, ids, &err) < 0)
		return -1;
	for (size_t i = 0; i < r->params; i++)
		r->g[i] = malloc(nseq * tc_tensor_elements(r->tensor[i]) * sizeof(float));
	r->value = malloc(r->loss.n * sizeof(*r->value));
	final = tc_forward_final(&r->f);
	r->loss.model = &final;
	return tc_gradient_run(&r->f, r->tensor, &r->loss, r->value, &v, &err);
}

static void
run_free(struct run *r)
{
	tc_forward_close(&r->f);
	tc_source_close(r->s);
	tc_loss_free(&r->loss);
	free(r->value);
	for (size_t i = 0; i < PARAMS_MAX; i++) {
		tc_kept_free(&r->kept[i]);
		free(r->g[i]);
	}
}

/* ---- against the reference ---- */

/* The checkpoint's tensors, and how far ours are from them. */
struct distance {
	const struct tc_st_entry *entry;
	double difference, norm;
};

/* Adds a parameter, which may be rows of the checkpoint's tensor, or transposed. */
static void
compare(struct distance *d, const struct tc_tensor *t, const struct tc_origin *o, const float *g)
{
	const float *want = d->entry->data;
	size_t rows = tc_tensor_rows(t), cols = tc_tensor_cols(t);

	for (size_t i = 0; i < rows; i++)
		for (size_t j = 0; j < cols; j++) {
			size_t at = t->ndim == 1 ? o->row0 + j : o->transposed ? j * o->rows + o->row0 + i : (o->row0 + i) * cols + j;
			double w = (double)want[at], diff = (double)g[i * cols + j] - w;

			d->difference += diff * diff;
			d->norm += w * w;
		}
}

static size_t
find(struct distance *d, size_t n, const struct tc_st_entry *e)
{
	size_t i = 0;

	while (i < n && d[i].entry != e)
		i++;
	return i;
}

static void
check(const char *model, struct tc_pool *pool)
{
	struct run *r = calloc(1, sizeof(*r));
	struct distance d[ENTRIES_MAX] = {0};
	const struct tc_st_entry *ids;
	struct tc_st st = {0};
	size_t n = 0, length[1];
	double most = 0;

	if (!ok(tc_st_open(&st, fixture(model, "/ref.safetensors"), &err) == 0, "%s: the reference is there", model))
		return;
	ids = tc_st_find(&st, "input_ids");
	length[0] = ids->shape[1];
	if (!ok(run(r, model, 1, length, ids->data, pool) == 0, "%s, %s: runs", tc_kernels_name(), model)) {
		printf("# %s\n", err.msg);
		goto out;
	}
	for (size_t i = 0; i < r->params; i++) {
		struct tc_origin o;
		char name[TC_NAME_MAX + 8];
		const struct tc_st_entry *e;
		size_t k;

		tc_config_origin(&r->f.config, i, &o);
		snprintf(name, sizeof(name), "grad.%s", o.name);
		e = tc_st_find(&st, name);
		if (!e) {
			ok(0, "%s: %s is in the reference", model, name);
			continue;
		}
		k = find(d, n, e);
		n += k == n;
		d[k].entry = e;
		compare(&d[k], r->tensor[i], &o, r->g[i]);
		ok(r->finished[i] == 1, "%s, %s: %s is finished once", tc_kernels_name(), model, r->tensor[i]->name);
	}
	for (size_t k = 0; k < n; k++) {
		double relative = sqrt(d[k].difference / d[k].norm);

		ok(relative <= GRADIENT_BOUND, "%s, %s: %s within %g (%.1e)", tc_kernels_name(), model, d[k].entry->name,
		    GRADIENT_BOUND, relative);
		most = fmax(most, relative);
	}
	printf("# %s, %s: at most %.1e\n", tc_kernels_name(), model, most);
out:
	run_free(r);
	free(r);
	tc_st_close(&st);
}

int
main(void)
{
	const struct tc_kernels *kinds[8];
	size_t n = kinds_to_test(kinds, 8);
	struct tc_pool *pool;

	if (tc_pool_open(&pool, 2, &err) < 0)
		return 1;
	for (size_t k = 0; k < n; k++) {
		if (tc_kernels_select(kinds[k]->name, &err) < 0)
			return 1;
		for (size_t i = 0; i < MODELS; i++)
			check(models[i], pool);
	}
	tc_pool_close(pool);
	return done_testing();
}
