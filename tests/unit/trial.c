/* A trial gives what a full run of the changed model gives, bit for bit,
 * wherever it begins. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/kernel.h"
#include "method/trial.h"
#include "model.h"
#include "tap.h"

enum { SEQUENCES = 4, TOKENS = 120 + 1 + 37 + 2, ALL = 1 << 30 };

static const size_t lengths[SEQUENCES] = { 120, 1, 37, 2 };
static uint32_t ids[TOKENS];
static struct tc_rng rng;
static struct tc_err err;
static struct tc_pool *pools[2];

/* A model and, of each of its records, another tensor. */
struct fixed {
	struct model m;
	struct tc_tensor other[PARAMS_MAX];
	const struct tc_tensor *replaced[PARAMS_MAX]; /* [m.hold.n]: what a trial is given */
};

static void
noisy(struct tc_tensor *t, const struct tc_tensor *from)
{
	size_t n = tc_tensor_elements(from);
	float *x = malloc(n * sizeof(*x));

	*t = *from;
	tc_tensor_read_rows(from, 0, tc_tensor_rows(from), x);
	for (size_t i = 0; i < n; i++)
		x[i] *= 1 + (float)(0.3 * (tc_rng_unit(&rng) - 0.5));
	if (tc_tensor_make_dense(t, TC_F32, &err) < 0)
		exit(1);
	t->part[0].data = x;
}

static void
fixed_open(struct fixed *f, const char *name)
{
	*f = (struct fixed){0};
	if (model_open(&f->m, name, &err) < 0)
		exit(1);
	for (size_t i = 0; i < f->m.hold.n; i++)
		if (f->m.hold.item[i].r.kind == TC_KIND_TENSOR)
			noisy(&f->other[i], &f->m.hold.item[i].r.u.tensor);
}

static void
fixed_close(struct fixed *f)
{
	for (size_t i = 0; i < f->m.hold.n; i++)
		free((void *)f->other[i].part[0].data);
	model_close(&f->m);
}

static void
trial_open(struct tc_trial *p, const struct fixed *f, size_t keep_bytes, struct tc_pool *pool)
{
	const struct tc_trial_options o = { SEQUENCES, lengths, ids, keep_bytes };

	if (tc_trial_open(p, &f->m.source->header, &f->m.hold, &o, pool, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		exit(1);
	}
}

static struct tc_trial_result
trial_run(struct tc_trial *p, const struct fixed *f)
{
	struct tc_trial_result r;

	if (tc_trial_run(p, f->replaced, &r, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		exit(1);
	}
	return r;
}

static int
same(const struct tc_trial_result *a, const struct tc_trial_result *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/* Every sequence's means of nll, base nll and KL, by whole runs of both models. */
static void
whole_runs(const struct fixed *f, const struct tc_predictions *text, double *mean[3])
{
	struct fixed changed = *f;
	struct tc_held item[PARAMS_MAX];
	struct text t = { text->nseq, text->length, text->ids };
	struct run base, run;
	struct tc_nll nll;

	memcpy(item, f->m.hold.item, f->m.hold.n * sizeof(*item));
	changed.m.hold.item = item;
	for (size_t i = 0; i < f->m.hold.n; i++)
		if (f->replaced[i])
			item[i].r.u.tensor = *f->replaced[i];
	if (run_forward(&base, &f->m, &t, NULL, &err) < 0 || run_forward(&run, &changed.m, &t, NULL, &err) < 0 ||
	    tc_nll_alloc(&nll, text, true, &err) < 0 || tc_nll_run(&nll, &run.final, &base.final, NULL, &err) < 0 ||
	    tc_predictions_means(text, nll.nll, mean[0], &err) < 0 ||
	    tc_predictions_means(text, nll.base_nll, mean[1], &err) < 0 || tc_predictions_means(text, nll.kld, mean[2], &err) < 0)
		exit(1);
	tc_nll_free(&nll);
	run_close(&base);
	run_close(&run);
}

/* The same as the definition says it. */
static int
as_whole_runs(const struct fixed *f, const struct tc_trial *p, const struct tc_trial_result *r)
{
	double nll[SEQUENCES], base[SEQUENCES], kld[SEQUENCES], delta[SEQUENCES], *mean[3] = { nll, base, kld };
	struct tc_trial_result want;
	const struct tc_predictions *t = &p->text;

	whole_runs(f, t, mean);
	for (size_t i = 0; i < t->nseq; i++)
		delta[i] = nll[i] - base[i];
	want.nll = tc_mean_of(t->nseq, nll, t->weight);
	want.delta = tc_mean_of(t->nseq, delta, t->weight);
	want.kld = tc_mean_of(t->nseq, kld, t->weight);
	return same(&want, r);
}

static void
test_nothing(const struct fixed *f, const char *name, struct tc_trial *p)
{
	struct tc_trial_result r, none;

	r = trial_run(p, f);
	ok(r.delta.mean == 0 && r.delta.stderr_ == 0 && r.kld.mean == 0 && r.kld.stderr_ == 0 && r.nll.mean > 0,
	    "%s: nothing replaced: differences are 0", name);
	ok(tc_trial_run(p, NULL, &none, &err) == 0 && same(&none, &r), "%s: no list is nothing replaced", name);
}

/* Each tensor alone, from every place that the kept states allow. */
static void
test_each(struct fixed *f, const char *name, struct tc_trial *all, struct tc_trial *some, struct tc_trial *none)
{
	int right = 1, anywhere = 1, moved = 1;

	for (size_t i = 0; i < f->m.hold.n; i++) {
		const struct tc_tensor *t = &f->m.hold.item[i].r.u.tensor;
		struct tc_trial_result r, from0, from_some;

		if (f->m.hold.item[i].r.kind != TC_KIND_TENSOR)
			continue;
		f->replaced[i] = &f->other[i];
		r = trial_run(all, f);
		from0 = trial_run(none, f);
		from_some = trial_run(some, f);
		anywhere &= same(&r, &from0) && same(&r, &from_some);
		if (t->block <= 1)
			right &= as_whole_runs(f, all, &r);
		if (t->ndim == 2)
			moved &= r.kld.mean > 0 && r.delta.mean != 0 && r.kld.stderr_ > 0;
		f->replaced[i] = NULL;
	}
	ok(right, "%s: any tensor replaced: the bits of whole runs", name);
	ok(anywhere, "%s: ... wherever they begin", name);
	ok(moved, "%s: ... and any matrix makes a difference", name);
}

static void
test_several(struct fixed *f, const char *name, struct tc_trial *all, struct tc_trial *threads)
{
	struct tc_trial_result r, again;
	size_t down = tc_rerun_place(&f->m.hold, TC_ROLE_DOWN, 2), q = tc_rerun_place(&f->m.hold, TC_ROLE_Q, 1);

	f->replaced[down] = &f->other[down];
	f->replaced[q] = &f->other[q];
	r = trial_run(all, f);
	ok(as_whole_runs(f, all, &r), "%s: two tensors", name);
	again = trial_run(threads, f);
	ok(same(&r, &again), "%s: two threads, the same bits", name);
	f->replaced[down] = f->replaced[q] = NULL;
}

static void
test_model(const char *name)
{
	struct fixed f;
	struct tc_trial all, some, none, threads;
	size_t each;

	fixed_open(&f, name);
	trial_open(&all, &f, ALL, pools[0]);
	each = all.text.ntokens * all.model.forward.config.width * sizeof(float);
	trial_open(&some, &f, 2 * each - 1, pools[0]);
	trial_open(&none, &f, each - 1, pools[0]);
	trial_open(&threads, &f, ALL, pools[1]);
	ok(all.text.nseq == SEQUENCES - 1 && all.text.n == TOKENS - 1 - 3, "%s: every token but a first one is scored", name);
	ok(all.every == 1 && some.states == 1 && none.states == 0, "%s: as many states are kept as there is room for", name);
	test_nothing(&f, name, &all);
	test_each(&f, name, &all, &some, &none);
	test_several(&f, name, &all, &threads);
	test_nothing(&f, name, &all);
	tc_trial_close(&all);
	tc_trial_close(&some);
	tc_trial_close(&none);
	tc_trial_close(&threads);
	fixed_close(&f);
}

static void
test_failures(void)
{
	const size_t ones[] = { 1, 1 };
	struct tc_trial_options o = { 2, ones, ids, ALL };
	struct fixed f;
	struct tc_trial p;
	struct tc_trial_result r;
	struct tc_tensor t;
	size_t down;

	fixed_open(&f, "tiny/llama");
	ok(tc_trial_open(&p, &f.m.source->header, &f.m.hold, &o, pools[0], &err) < 0 && err.code == TC_DATA, "nothing to predict: %s",
	    err.msg);
	tc_trial_close(&p);
	trial_open(&p, &f, ALL, pools[0]);
	down = tc_rerun_place(&f.m.hold, TC_ROLE_DOWN, 1);
	((float *)f.other[down].part[0].data)[7] = NAN;
	f.replaced[down] = &f.other[down];
	ok(tc_trial_run(&p, f.replaced, &r, &err) < 0 && err.code == TC_DATA, "a weight that is none: %s", err.msg);
	t = f.other[down + 1];
	f.replaced[down] = &t;
	ok(tc_trial_run(&p, f.replaced, &r, &err) < 0 && err.code == TC_DATA, "another tensor in the place: %s", err.msg);
	f.replaced[down] = NULL;
	ok(tc_trial_run(&p, f.replaced, &r, &err) == 0 && r.kld.mean == 0, "afterwards the trial is as it was");
	tc_trial_close(&p);
	fixed_close(&f);
}

int
main(void)
{
	static const char *const names[] = { "tiny/llama", "tiny/qwen2", "tiny/gemma2", "tiny/gpt2" };

	if (tc_kernels_select(NULL, &err) < 0 || tc_pool_open(&pools[0], 1, &err) < 0 || tc_pool_open(&pools[1], 2, &err) < 0)
		return 1;
	tc_rng_seed(&rng, 21);
	random_ids(&rng, VOCAB, TOKENS, ids);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		test_model(names[i]);
	test_failures();
	for (int i = 0; i < 2; i++)
		tc_pool_close(pools[i]);
	return done_testing();
}
