/* Every architecture and rope scaling, in f32, in bf16 and quantized: logits of
 * tiny checkpoints against what PyTorch gave in double precision
 * (tests/make-fixtures.py), or against those of the weights that the codes
 * stand for, and decoding against the block executor, bit for bit. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "file/safetensors.h"
#include "fixture.h"
#include "kernel/kernel.h"
#include "kinds.h"
#include "method/quantizer.h"
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
	"bf16/qwen2", "bf16/llama", "bf16/gemma2", "bf16/gpt2",
	"bf16/mistral", "bf16/qwen2-window", "bf16/qwen3", "bf16/gemma3", "bf16/olmo2", "bf16/smollm3", "bf16/phi3",
	"bf16/phi3-longrope-short", "bf16/phi3-longrope-long",
	"bf16/llama-linear", "bf16/llama-llama3", "bf16/llama-yarn", "bf16/llama-bias",
};
#define MODELS (sizeof(models) / sizeof(models[0]))

/* Models that are quantized, and how. */
static const char *const quantized[] = { "tiny/qwen2", "tiny/llama", "tiny/gemma2", "tiny/gpt2", "bf16/qwen2" };
static const struct quant {
	const char *name;
	struct tc_quant_options options;
} quants[] = {
	{ "4 bits, groups of 32", { .bits = 4, .group = 32, .zero = TC_ZERO_INT, .levels = TC_LEVELS_ODD, .scale = TC_F16 } },
	{ "8 bits, groups of 128", { .bits = 8, .group = 128, .zero = TC_ZERO_INT, .levels = TC_LEVELS_ODD, .scale = TC_F16 } },
	{ "4 bits, groups too narrow for sums", { .bits = 4, .group = 16, .zero = TC_ZERO_INT, .levels = TC_LEVELS_ODD, .scale = TC_F16 } },
	{ "3 bits, rows with a minimum", { .bits = 3, .group = TC_GROUP_ROW, .zero = TC_ZERO_MIN, .levels = TC_LEVELS_ODD, .scale = TC_F32 } },
	{ "2 bits, symmetric groups of 32", { .bits = 2, .group = 32, .zero = TC_ZERO_NONE, .levels = TC_LEVELS_FULL, .scale = TC_F16 } },
};
#define QUANTIZED (sizeof(quantized) / sizeof(quantized[0]))
#define QUANTS (sizeof(quants) / sizeof(quants[0]))

/* What becomes of a model's matrices before it runs. */
struct form {
	const struct tc_quant_options *quant; /* NULL: nothing */
	bool unpacked;                        /* quantized, but held as the numbers that codes stand for */
};

static struct tc_err err;

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

/* ---- a model's records ---- */

typedef int take_fn(void *to, const struct tc_record *r, bool mapped);

static int
take_forward(void *to, const struct tc_record *r, bool mapped)
{
	return tc_forward_take(to, r, mapped, &err);
}

static int
take_model(void *to, const struct tc_record *r, bool mapped)
{
	return tc_model_take(to, r, mapped, &err);
}

static int
take_unpacked(const struct tc_tensor *t, take_fn *take, void *to)
{
	struct tc_record r = { .kind = TC_KIND_TENSOR, .u.tensor = *t };
	float *numbers = malloc(tc_tensor_elements(t) * sizeof(*numbers));
	int got = -1;

	tc_tensor_read_rows(t, 0, tc_tensor_rows(t), numbers);
	r.u.tensor.format = (struct tc_format){ .dtype = TC_F32 };
	if (tc_tensor_layout(&r.u.tensor, &err) == 0) {
		r.u.tensor.part[0].data = numbers;
		got = take(to, &r, false);
	}
	free(numbers);
	return got;
}

static int
take_quantized(const struct form *form, const struct tc_tensor *t, take_fn *take, void *to)
{
	struct tc_record r = { .kind = TC_KIND_TENSOR };
	struct tc_quantized q;
	int got;

	if (tc_quantizer_run(tc_quantizer_find("rtn"), form->quant, &(struct tc_quant_input){ .w = t }, &q, NULL, &err) < 0)
		return -1;
	r.u.tensor = q.t;
	got = form->unpacked ? take_unpacked(&q.t, take, to) : take(to, &r, false);
	tc_quantized_free(&q);
	return got;
}

/* All weights of s, in the form given. */
static int
take_all(struct tc_source *s, const struct form *form, take_fn *take, void *to)
{
	struct tc_record r;
	int got;

	while ((got = tc_source_next(s, &r, &err)) > 0) {
		const struct tc_tensor *t = &r.u.tensor;
		bool packs = form->quant && r.kind == TC_KIND_TENSOR && t->ndim == 2 && t->role != TC_ROLE_POS;

		if (r.kind != TC_KIND_TENSOR && r.kind != TC_KIND_REF)
			continue;
		if ((packs ? take_quantized(form, t, take, to) : take(to, &r, s->mapped)) < 0)
			return -1;
	}
	return got;
}

/* ---- running ---- */

/* Logits [tokens][vocab] by the executor, for free(3); NULL on failure. */
static float *
run_executor(const struct reference *ref, const char *model, const struct form *form)
{
	struct tc_exec_options o = { .spill.fd = -1 };
	size_t *length = malloc(ref->seqs * sizeof(*length)), tokens = ref->seqs * ref->len;
	float *logits = NULL, *work = NULL;
	struct tc_source *s = NULL;
	struct tc_forward f;
	struct tc_linear head = {0};

	for (size_t i = 0; i < ref->seqs; i++)
		length[i] = ref->len;
	if (tc_model_open(&s, fixture(model, ""), &err) < 0 || tc_forward_open(&f, &s->header, NULL, &err) < 0) {
		free(length);
		tc_source_close(s);
		return NULL;
	}
	if (tc_forward_tokens(&f, ref->seqs, length, ref->ids, &o, &err) < 0)
		goto out;
	if (take_all(s, form, take_forward, &f) < 0 || tc_forward_finish(&f, &err) < 0 ||
	    tc_linear_prepare(&head, tc_forward_head(&f), 0, ref->vocab, TC_LINEAR_MANY, NULL, &err) < 0)
		goto out;
	logits = malloc(tokens * ref->vocab * sizeof(*logits));
	work = malloc(tc_linear_work(f.config.width, tokens, NULL) * sizeof(*work));
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

/* Of two distances; what is not a number is far away. */
static double
larger(double most, double d)
{
	return isnan(d) ? INFINITY : fmax(most, d);
}

static double
distance(const struct reference *ref, const float *logits)
{
	double most = 0;

	for (size_t i = 0; i < ref->seqs * ref->len * ref->vocab; i++)
		most = larger(most, fabs((double)logits[i] - ref->logits[i]));
	return most;
}

/* The largest difference between two runs. */
static double
apart(const struct reference *ref, const float *a, const float *b)
{
	double most = 0;

	for (size_t i = 0; i < ref->seqs * ref->len * ref->vocab; i++)
		most = larger(most, fabs((double)a[i] - (double)b[i]));
	return most;
}

/* The first sequence, some tokens at a time: after each time the logits are
 * the executor's, all of them or the last. */
static bool
decodes_by(struct tc_decode *d, struct tc_sequence *q, const struct reference *ref, size_t some, bool all, const float *want)
{
	tc_sequence_crop(q, 0);
	for (size_t i = 0, n; i < ref->len; i += n) {
		struct tc_append a = { .s = q, .ids = ref->ids + i, .count = n = tc_min(some, ref->len - i), .all = all };

		if (tc_decode_run(d, &a, 1, &err) < 0 ||
		    memcmp(a.logits, want + (all ? i : i + n - 1) * ref->vocab, (all ? n : 1) * ref->vocab * sizeof(*want)) != 0)
			return false;
	}
	return true;
}

/* Several at once, each further on than the last and taking other steps, now
 * and then some thrown away. */
#define BESIDE 11

static bool
decodes_beside(struct tc_decode *d, const struct tc_model *m, const struct reference *ref, const float *want)
{
	struct tc_sequence q[BESIDE] = {{0}};
	struct tc_append a[BESIDE];
	bool good = true;
	size_t n;

	for (size_t i = 0; i < BESIDE; i++)
		good = good && tc_sequence_open(&q[i], m, ref->len, &err) == 0;
	for (size_t round = 0; good; round++) {
		n = 0;
		for (size_t i = 0; i < BESIDE; i++) {
			size_t left = ref->len - q[i].n;

			if (left > 0)
				a[n++] = (struct tc_append){ .s = &q[i], .ids = ref->ids + q[i].n,
				    .count = tc_min(left, 1 + (round * 7 + i * 5) % 12), .all = (round + i) % 2 };
		}
		if (n == 0)
			break;
		good = tc_decode_run(d, a, n, &err) == 0;
		for (size_t k = 0; good && k < n; k++) {
			size_t mine = a[k].all ? a[k].count : 1;

			good = memcmp(a[k].logits, want + (a[k].s->n - mine) * ref->vocab, mine * ref->vocab * sizeof(*want)) == 0;
			if (a[k].s->n < ref->len && a[k].count > 5)
				tc_sequence_crop(a[k].s, a[k].s->n - 3);
		}
	}
	for (size_t i = 0; i < BESIDE; i++)
		tc_sequence_close(&q[i]);
	return good;
}

/* Token by token, by the most that go through the blocks together, by one more,
 * and the whole prompt at once; alone and beside others. */
static void
check_decoding(const char *title, const struct reference *ref, const char *model, const struct form *form, const float *want)
{
	const size_t some[] = { 1, TC_DECODE_FEW, TC_DECODE_FEW + 1, ref->len };
	struct tc_source *s = NULL;
	struct tc_model m = {0};
	struct tc_decode d = {0};
	struct tc_sequence q = {0};
	bool runs;

	/* The same number of positions as the executor: longrope looks at it. */
	runs = tc_model_open(&s, fixture(model, ""), &err) == 0 && tc_model_begin(&m, &s->header, NULL, &err) == 0 &&
	    take_all(s, form, take_model, &m) == 0 && tc_model_finish(&m, &err) == 0 &&
	    tc_sequence_open(&q, &m, ref->len, &err) == 0 && tc_decode_open(&d, &m, ref->len, TC_DECODE_ROWS, &err) == 0;
	for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++) {
		ok(runs && decodes_by(&d, &q, ref, some[i], false, want), "%s: decoding by %zu gives the same bits", title, some[i]);
		ok(runs && decodes_by(&d, &q, ref, some[i], true, want), "%s: and after every one of them", title);
	}
	ok(runs && decodes_beside(&d, &m, ref, want), "%s: decoding beside others gives the same bits", title);
	if (!runs)
		printf("# %s\n", err.msg);
	if (d.m)
		tc_decode_close(&d);
	tc_sequence_close(&q);
	tc_model_free(&m);
	tc_source_close(s);
}

static void
check(const char *model)
{
	const struct form as_is = {0};
	struct reference ref = {0};
	char title[128];
	float *logits;

	snprintf(title, sizeof(title), "%s, %s", tc_kernels_name(), model);
	if (!ok(reference_open(&ref, model) == 0, "%s: the reference is there", model))
		return;
	logits = run_executor(&ref, model, &as_is);
	if (ok(logits != NULL, "%s: runs", title)) {
		double d = distance(&ref, logits);

		ok(d <= LOGITS_BOUND, "%s: logits within %g of float64 (%.1e)", title, LOGITS_BOUND, d);
		check_decoding(title, &ref, model, &as_is, logits);
	} else {
		printf("# %s\n", err.msg);
	}
	free(logits);
	reference_close(&ref);
}

static void
check_quantized(const char *model, const struct quant *q)
{
	const struct form packed = { .quant = &q->options }, unpacked = { .quant = &q->options, .unpacked = true };
	struct reference ref = {0};
	float *logits, *want;
	char title[128];

	snprintf(title, sizeof(title), "%s, %s, %s", tc_kernels_name(), model, q->name);
	if (!ok(reference_open(&ref, model) == 0, "%s: the reference is there", model))
		return;
	logits = run_executor(&ref, model, &packed);
	want = run_executor(&ref, model, &unpacked);
	if (ok(logits && want, "%s: runs", title)) {
		double d = apart(&ref, logits, want);

		ok(d <= LOGITS_BOUND, "%s: logits within %g of the unpacked weights' (%.1e)", title, LOGITS_BOUND, d);
		ok(distance(&ref, logits) > LOGITS_BOUND, "%s: they are another model's", title);
		check_decoding(title, &ref, model, &packed, logits);
	} else {
		printf("# %s\n", err.msg);
	}
	free(want);
	free(logits);
	reference_close(&ref);
}

int
main(void)
{
	const struct tc_kernels *kinds[8];
	size_t n = kinds_to_test(kinds, 8);

	for (size_t k = 0; k < n; k++) {
		if (tc_kernels_select(kinds[k]->name, &err) < 0)
			return 1;
		for (size_t i = 0; i < MODELS; i++)
			check(models[i]);
		for (size_t i = 0; i < QUANTIZED; i++)
			for (size_t q = 0; q < QUANTS; q++)
				check_quantized(quantized[i], &quants[q]);
	}
	return done_testing();
}
