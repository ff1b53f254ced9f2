/* Gradients of every architecture's parameters against what PyTorch gave
 * (tests/make-fixtures.py), and, with no other program between, against
 * differences of the forward pass. */
#include <math.h>
#include <stdlib.h>

#include "base/rng.h"
#include "file/safetensors.h"
#include "kernel/kernel.h"
#include "kinds.h"
#include "metric/nll.h"
#include "model.h"
#include "tap.h"

/* Norms of differences over norms. */
#define GRADIENT_BOUND 1e-4
#define DIFFERENCE_MOST 2e-3
#define DIFFERENCE_MEAN 1e-3
#define CHANGE 0x1p-8

static const char *const models[] = {
	"tiny/qwen2", "tiny/llama", "tiny/gemma2", "tiny/gpt2",
	"arch/mistral", "arch/qwen2-window", "arch/qwen3", "arch/gemma3", "arch/olmo2", "arch/smollm3", "arch/phi3",
	"arch/phi3-longrope-short", "arch/phi3-longrope-long",
	"arch/llama-linear", "arch/llama-llama3", "arch/llama-yarn", "arch/llama-bias",
};
#define MODELS (sizeof(models) / sizeof(models[0]))

/* Tokens: more than the windows, and than tiles of rows and what a strip takes
 * at once. */
enum { SHORT = 40, LONG = 140 };
enum { ENTRIES_MAX = 256 };

static struct tc_rng rng;
static struct tc_err err;

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
test_reference(const char *model, struct tc_pool *pool)
{
	struct model m;
	struct run r = {0};
	struct gradients g = {0};
	struct distance d[ENTRIES_MAX] = {0};
	const struct tc_st_entry *ids;
	struct tc_st st = {0};
	struct text t = { .nseq = 1 };
	size_t n = 0;
	double most = 0;

	if (!ok(tc_st_open(&st, fixture(model, "/ref.safetensors"), &err) == 0, "%s: the reference is there", model))
		return;
	ids = tc_st_find(&st, "input_ids");
	t.length = &ids->shape[1];
	t.ids = ids->data;
	if (!ok(model_open(&m, model, &err) == 0 && run_forward(&r, &m, &t, pool, &err) == 0 &&
	    gradients_of(&g, &r, &m, &err) == 0, "%s, %s: runs", tc_kernels_name(), model)) {
		printf("# %s\n", err.msg);
		goto out;
	}
	for (size_t i = 0; i < m.params; i++) {
		struct tc_origin o;
		char name[TC_NAME_MAX + 8];
		const struct tc_st_entry *e;
		size_t k;

		tc_config_origin(&r.f.config, i, &o);
		snprintf(name, sizeof(name), "grad.%s", o.name);
		e = tc_st_find(&st, name);
		if (!e) {
			ok(0, "%s: %s is in the reference", model, name);
			continue;
		}
		k = find(d, n, e);
		n += k == n;
		d[k].entry = e;
		compare(&d[k], m.tensor[i], &o, g.g[i]);
	}
	for (size_t k = 0; k < n; k++) {
		double relative = sqrt(d[k].difference / d[k].norm);

		ok(relative <= GRADIENT_BOUND, "%s, %s: %s within %g (%.1e)", tc_kernels_name(), model, d[k].entry->name,
		    GRADIENT_BOUND, relative);
		most = fmax(most, relative);
	}
	printf("# %s, %s: at most %.1e\n", tc_kernels_name(), model, most);
out:
	gradients_free(&g);
	run_close(&r);
	model_close(&m);
	tc_st_close(&st);
}

/* ---- against differences ---- */

/* What the gradients are of, without the code that they come from. */
static double
cost(const struct model *m, const struct text *t)
{
	struct run r;
	double *nll, sum = 0;

	if (run_forward(&r, m, t, NULL, &err) < 0)
		exit(1);
	nll = malloc(r.loss.n * sizeof(*nll));
	if (tc_nll_run(&(struct tc_nll){ .n = r.loss.n, .row = r.loss.row, .target = r.loss.target, .nll = nll }, &r.final, NULL,
	    NULL, &err) < 0)
		exit(1);
	for (size_t i = 0; i < r.loss.n; i++)
		sum += (double)r.loss.weight[i] * nll[i];
	free(nll);
	run_close(&r);
	return sum;
}

/* The same with a parameter moved by step along signs. */
static double
moved(struct model *m, const struct text *t, size_t param, const float *sign, float step)
{
	size_t n = tc_tensor_elements(m->tensor[param]);
	float *there = malloc(n * sizeof(*there));
	const float *was = model_put(m, param, there);
	double c;

	for (size_t i = 0; i < n; i++)
		there[i] = was[i] + step * sign[i];
	c = cost(m, t);
	model_put(m, param, was);
	free(there);
	return c;
}

/* How far a parameter's gradient along random signs is from the difference of
 * the cost there, in the gradient's norm: which the slopes along such signs
 * have in the mean square.  (One weight's slope, some hundredth of that, would
 * be lost in the cost's rounding.)  The step changes the cost by about CHANGE:
 * twice as much and what differences of fourth order leave out, 16 times as
 * much, is seen; half as much and the rounding is. */
static double
off_slope(struct model *m, const struct text *t, size_t param, const float *g)
{
	size_t n = tc_tensor_elements(m->tensor[param]);
	float *sign = malloc(n * sizeof(*sign)), h;
	double slope = 0, norm = 0, difference;

	for (size_t i = 0; i < n; i++) {
		sign[i] = tc_rng_below(&rng, 2) ? 1 : -1;
		slope += (double)(g[i] * sign[i]);
		norm += (double)g[i] * (double)g[i];
	}
	h = (float)(CHANGE / sqrt(norm));
	difference = (8 * (moved(m, t, param, sign, h) - moved(m, t, param, sign, -h)) -
	    (moved(m, t, param, sign, 2 * h) - moved(m, t, param, sign, -2 * h))) / (12 * (double)h);
	free(sign);
	return isfinite(difference) ? fabs(slope - difference) / sqrt(norm) : INFINITY;
}

static void
test_differences(const char *model, size_t vocab, size_t length)
{
	uint32_t ids[LONG];
	struct text t = { .nseq = 1, .length = &length, .ids = ids };
	struct model m;
	struct run r;
	struct gradients g = {0};
	double most = 0, sum = 0;
	size_t worst = 0, idle = 0;

	random_ids(&rng, vocab, length, ids);
	if (model_open(&m, model, &err) < 0)
		exit(1);
	if (vocab == WIDE_VOCAB)
		model_widen(&m, &rng);
	if (run_forward(&r, &m, &t, NULL, &err) < 0 || gradients_of(&g, &r, &m, &err) < 0)
		exit(1);
	for (size_t i = 0; i < m.params; i++) {
		double off = model_is_idle(&m, i) ? 0 : off_slope(&m, &t, i, g.g[i]);

		idle += model_is_idle(&m, i);
		worst = off > most ? i : worst;
		most = fmax(most, off);
		sum += off * off;
	}
	sum = sqrt(sum / (double)(m.params - idle));
	ok(most <= DIFFERENCE_MOST && sum <= DIFFERENCE_MEAN, "%s, %s, a vocabulary of %zu: every parameter's gradient is that of "
	    "differences, to %g and %g in the mean square (%.1e of %s, %.1e)", tc_kernels_name(), model, vocab, DIFFERENCE_MOST,
	    DIFFERENCE_MEAN, most, m.tensor[worst]->name, sum);
	gradients_free(&g);
	run_close(&r);
	model_close(&m);
}

int
main(void)
{
	const struct tc_kernels *kinds[8];
	size_t n = kinds_to_test(kinds, 8);
	struct tc_pool *pool;

	tc_rng_seed(&rng, 11);
	if (tc_pool_open(&pool, 2, &err) < 0)
		return 1;
	for (size_t k = 0; k < n; k++) {
		if (tc_kernels_select(kinds[k]->name, &err) < 0)
			return 1;
		for (size_t i = 0; i < MODELS; i++)
			test_reference(models[i], pool);
		test_differences("tiny/qwen2", VOCAB, SHORT);
		test_differences("tiny/llama", WIDE_VOCAB, SHORT);
		test_differences("tiny/gemma2", WIDE_VOCAB, SHORT);
		test_differences("tiny/gpt2", VOCAB, LONG);
	}
	tc_pool_close(pool);
	return done_testing();
}
