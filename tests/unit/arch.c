/* Every architecture and rope scaling: logits of tiny checkpoints against what
 * PyTorch gave in double precision (tests/make-fixtures.py), and token-by-token
 * decoding against the block executor, bit for bit. */
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "file/safetensors.h"
#include "kernel/kernel.h"
#include "model/decode.h"
#include "model/forward.h"
#include "model/open.h"
#include "tap.h"

#define LOGITS_BOUND 1e-4

static const char *const models[] = {
	"tiny/qwen2", "tiny/llama", "tiny/gemma2", "tiny/gpt2",
	"arch/mistral", "arch/qwen2-window", "arch/qwen3", "arch/gemma3", "arch/olmo2", "arch/smollm3", "arch/phi3",
	"arch/phi3-longrope-short", "arch/phi3-longrope-long",
	"arch/llama-linear", "arch/llama-llama3", "arch/llama-yarn", "arch/llama-bias",
};
#define MODELS (sizeof(models) / sizeof(models[0]))

static struct tc_err err;

static const char *
fixture(const char *model, const char *file)
{
	static char path[PATH_MAX];
	const char *root = getenv("TC_ROOT");

	snprintf(path, sizeof(path), "%s/tests/fixtures/%s%s", root ? root : ".", model, file);
	return path;
}

/* The reference: ids [seqs][len], logits [seqs][len][vocab]. */
struct reference {
	struct tc_st st;
	size_t seqs, len, vocab;
	uint32_t *ids;
	const double *logits;
};

static int
reference_open(struct reference *r, const char *model)
{
	const struct tc_st_entry *ids, *logits;

	if (tc_st_open(&r->st, fixture(model, "/ref.safetensors"), &err) < 0)
		return -1;
	ids = tc_st_find(&r->st, "input_ids");
	logits = tc_st_find(&r->st, "logits_f64");
	if (!ids || !logits || strcmp(ids->dtype, "I32") != 0 || strcmp(logits->dtype, "F64") != 0)
		return tc_fail(&err, TC_DATA, "%s: not a reference", model);
	r->seqs = ids->shape[0];
	r->len = ids->shape[1];
	r->vocab = logits->shape[2];
	r->ids = malloc(ids->size_bytes);
	memcpy(r->ids, ids->data, ids->size_bytes);
	r->logits = malloc(logits->size_bytes);
	memcpy((void *)r->logits, logits->data, logits->size_bytes);
	return 0;
}

static void
reference_close(struct reference *r)
{
	free(r->ids);
	free((void *)r->logits);
	tc_st_close(&r->st);
}

/* Logits [tokens][vocab] by the executor, for free(3); NULL on failure. */
static float *
run_executor(const struct reference *ref, const char *model)
{
	struct tc_exec_options o = { .spill_fd = -1 };
	size_t *length = malloc(ref->seqs * sizeof(*length)), tokens = ref->seqs * ref->len;
	float *logits = NULL, *work = NULL;
	struct tc_source *s = NULL;
	struct tc_forward f;
	struct tc_linear head = {0};
	struct tc_record rec;
	int got;

	for (size_t i = 0; i < ref->seqs; i++)
		length[i] = ref->len;
	if (tc_model_open(&s, fixture(model, ""), &err) < 0 || tc_forward_open(&f, &s->header, NULL, &err) < 0) {
		free(length);
		tc_source_close(s);
		return NULL;
	}
	if (tc_forward_tokens(&f, ref->seqs, length, ref->ids, &o, &err) < 0)
		goto out;
	while ((got = tc_source_next(s, &rec, &err)) > 0)
		if ((rec.kind == TC_KIND_TENSOR || rec.kind == TC_KIND_REF) && tc_forward_take(&f, &rec, s->mapped, &err) < 0)
			goto out;
	if (got < 0 || tc_forward_finish(&f, &err) < 0 ||
	    tc_linear_prepare(&head, tc_forward_head(&f), 0, ref->vocab, TC_LINEAR_MANY, NULL, &err) < 0)
		goto out;
	logits = malloc(tokens * ref->vocab * sizeof(*logits));
	work = malloc(tc_linear_work(f.config.width, tokens) * sizeof(*work));
	tc_linear_run(&head, tokens, f.exec.hidden, f.config.width, logits, ref->vocab, work, NULL);
	if (f.config.final_cap > 0)
		tc_kernels()->soft_cap(tokens * ref->vocab, (float)f.config.final_cap, logits);
out:
	free(work);
	tc_linear_free(&head);
	tc_forward_close(&f);
	tc_source_close(s);
	free(length);
	return logits;
}

static double
distance(const struct reference *ref, const float *logits)
{
	double most = 0;

	for (size_t i = 0; i < ref->seqs * ref->len * ref->vocab; i++)
		most = fmax(most, fabs((double)logits[i] - ref->logits[i]));
	return most;
}

/* The first sequence token by token: every position's logits equal the
 * executor's. */
static bool
decodes_alike(const struct reference *ref, const char *model, const float *want)
{
	struct tc_source *s = NULL;
	struct tc_model m = {0};
	struct tc_decode d = {0};
	struct tc_record rec;
	bool alike = false;
	int got = -1;

	if (tc_model_open(&s, fixture(model, ""), &err) < 0 || tc_model_begin(&m, &s->header, NULL, &err) < 0)
		goto out;
	while ((got = tc_source_next(s, &rec, &err)) > 0)
		if ((rec.kind == TC_KIND_TENSOR || rec.kind == TC_KIND_REF) && tc_model_take(&m, &rec, s->mapped, &err) < 0)
			goto out;
	/* The same number of positions as the executor: longrope looks at it. */
	if (got < 0 || tc_model_finish(&m, &err) < 0 || tc_decode_open(&d, &m, ref->len, &err) < 0)
		goto out;
	alike = true;
	for (size_t i = 0; i < ref->len && alike; i++)
		alike = tc_decode_run(&d, ref->ids + i, 1, &err) == 0 &&
		    memcmp(d.logits, want + i * ref->vocab, ref->vocab * sizeof(*want)) == 0;
out:
	if (d.m)
		tc_decode_close(&d);
	tc_model_free(&m);
	tc_source_close(s);
	return alike;
}

static void
check(const char *model)
{
	struct reference ref = {0};
	float *logits;

	if (!ok(reference_open(&ref, model) == 0, "%s: the reference is there", model))
		return;
	logits = run_executor(&ref, model);
	if (ok(logits != NULL, "%s, %s: runs", tc_kernels_name(), model)) {
		double d = distance(&ref, logits);

		ok(d <= LOGITS_BOUND, "%s, %s: logits within %g of float64 (%.1e)", tc_kernels_name(), model, LOGITS_BOUND, d);
		ok(decodes_alike(&ref, model, logits), "%s, %s: decoding token by token gives the same bits", tc_kernels_name(), model);
	} else {
		printf("# %s\n", err.msg);
	}
	free(logits);
	reference_close(&ref);
}

int
main(void)
{
	const struct tc_kernels *kinds[8];
	size_t n = tc_kernels_list(kinds, 8);

	for (size_t k = 0; k < n; k++) {
		if (tc_kernels_select(kinds[k]->name, &err) < 0)
			return 1;
		for (size_t i = 0; i < MODELS; i++)
			check(models[i]);
	}
	return done_testing();
}
