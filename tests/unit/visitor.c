/* What a visitor of gradients is given: bits that depend on nothing but the
 * sequence, parameters whole and in order, nothing that is not wanted. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "distance.h"
#include "kernel/kernel.h"
#include "kinds.h"
#include "model.h"
#include "tap.h"

#define SUM_BOUND 1e-5 /* norm of the difference over norm */

static struct tc_rng rng;
static struct tc_err err;

/* ---- bits ---- */

/* Three batches: of as many sequences as one may have, of as many tokens, and
 * the rest.  Sequences below and above a tile of rows, and what a strip takes at
 * once; one has nothing to predict. */
enum { LONELY = 3, TINY = TC_BATCH_SEQUENCES + 2, SHORT = 6, LONG = 9, SEQUENCES = TINY + SHORT + LONG };

static size_t lengths[SEQUENCES], starts[SEQUENCES + 1];
static uint32_t *all_ids;

static size_t
between(size_t least, size_t most)
{
	return least + tc_rng_below(&rng, most - least + 1);
}

static void
make_text(void)
{
	for (size_t i = 0; i < SEQUENCES; i++) {
		lengths[i] = i < TINY ? between(2, 9) : i < TINY + SHORT ? between(10, 100) : between(200, 256);
		if (i == LONELY)
			lengths[i] = 1;
		starts[i + 1] = starts[i] + lengths[i];
	}
	all_ids = malloc(starts[SEQUENCES] * sizeof(*all_ids));
	random_ids(&rng, VOCAB, starts[SEQUENCES], all_ids);
}

/* A prediction at every token, that of its own id, beside a teacher whose
 * hidden states are given. */
static void
learn_everywhere(struct run *r, const struct text *t, const struct tc_final *teacher)
{
	const size_t *start = r->f.exec.start;
	size_t n = start[t->nseq], *row = malloc(n * sizeof(*row));
	uint32_t *target = malloc(n * sizeof(*target));
	float *weight = malloc(n * sizeof(*weight));

	for (size_t s = 0; s < t->nseq; s++)
		for (size_t i = start[s]; i < start[s + 1]; i++) {
			row[i] = i;
			target[i] = t->ids[i];
			weight[i] = 1 / (1 + (float)(i - start[s]));
		}
	tc_loss_free(&r->loss);
	r->loss = (struct tc_loss){ .n = n, .row = row, .target = target, .weight = weight, .alpha = 0.7, .temperature = 2,
		.model = &r->final, .teacher = teacher };
}

/* A teacher's hidden states. */
static float *
random_states(size_t width)
{
	size_t n = starts[SEQUENCES] * width;
	float *states = malloc(n * sizeof(*states));

	for (size_t i = 0; i < n; i++)
		states[i] = (float)(2 * tc_rng_unit(&rng) - 1);
	return states;
}

/* What a run over some of the sequences gave. */
struct outcome {
	struct gradients g;
	double *value;
	size_t values;
};

/* Sequences first .. first+n-1; teacher: NULL, or all sequences' hidden states
 * of one. */
static struct outcome
outcome_of(const struct model *m, size_t first, size_t n, const float *teacher, struct tc_pool *pool, bool sum)
{
	struct text t = { .nseq = n, .length = lengths + first, .ids = all_ids + starts[first] };
	struct outcome o = { .g.sum = sum };
	struct tc_final final;
	struct run r;

	if (run_forward(&r, m, &t, pool, &err) < 0)
		exit(1);
	if (teacher) {
		final = r.final;
		final.hidden = teacher + starts[first] * r.f.config.width;
		learn_everywhere(&r, &t, &final);
	}
	if (gradients_of(&o.g, &r, m, &err) < 0)
		exit(1);
	o.value = r.value;
	o.values = r.loss.n;
	r.value = NULL;
	run_close(&r);
	return o;
}

static void
outcome_free(struct outcome *o)
{
	gradients_free(&o->g);
	free(o->value);
}

/* Whether a run over sequences first.. has what is there of these in one over
 * all: gradients, and the loss of as many predictions from `value` on. */
static int
same_outcome(const struct model *m, const struct outcome *some, size_t first, const struct outcome *all, size_t value)
{
	int same = memcmp(some->value, all->value + value, some->values * sizeof(*some->value)) == 0;

	for (size_t i = 0; i < m->params; i++) {
		size_t n = tc_tensor_elements(m->tensor[i]);

		same &= memcmp(some->g.g[i], all->g.g[i] + first * n, some->g.nseq * n * sizeof(float)) == 0;
	}
	return same;
}

static int
same_alone(const struct model *m, size_t first, size_t n, const float *teacher, const struct outcome *all)
{
	struct outcome some = outcome_of(m, first, n, teacher, NULL, false);
	int same = same_outcome(m, &some, first, all, starts[first] - (teacher ? 0 : first));

	outcome_free(&some);
	return same;
}

/* All that was begun was offered whole, finished, and is made of numbers. */
static int
is_whole(const struct model *m, const struct outcome *o)
{
	int whole = !o->g.stray;

	for (size_t i = 0; i < m->params; i++) {
		size_t n = tc_tensor_elements(m->tensor[i]) * o->g.nseq;

		whole &= o->g.begun[i] == 1 && o->g.finished[i] == 1;
		for (size_t j = 0; whole && j < n; j++)
			whole &= isfinite(o->g.g[i][j]);
	}
	return whole;
}

static int
is_zero(const struct model *m, const struct outcome *o, size_t seq)
{
	int zero = 1;

	for (size_t i = 0; i < m->params; i++) {
		size_t n = tc_tensor_elements(m->tensor[i]);

		for (size_t j = 0; j < n; j++)
			zero &= o->g.g[i][seq * n + j] == 0;
	}
	return zero;
}

/* How far gradients that were added up are from the sum of those of as many of
 * the sequences, where these are more than rounding. */
static double
off_sum(const struct model *m, const struct outcome *sum, const struct outcome *all)
{
	double most = 0;

	for (size_t i = 0; i < m->params; i++) {
		size_t n = tc_tensor_elements(m->tensor[i]);
		double *got = calloc(n, sizeof(*got)), *want = calloc(n, sizeof(*want));

		for (size_t j = 0; j < n; j++)
			got[j] = (double)sum->g.g[i][j];
		for (size_t j = 0; j < n * sum->g.nseq; j++)
			want[j % n] += (double)all->g.g[i][j];
		if (!model_is_idle(m, i))
			most = fmax(most, distance(n, got, want));
		free(got);
		free(want);
	}
	return most;
}

/* With a teacher, predictions are everywhere, else they are of the next tokens. */
static void
test_bits(const char *model, bool taught, struct tc_pool *pool)
{
	/* of every batch, among them first and last */
	static const size_t alone[] = { LONELY, TC_BATCH_SEQUENCES - 1, TC_BATCH_SEQUENCES, TINY + SHORT, SEQUENCES - 1 };
	struct model m;
	struct outcome all, threads, sum;
	float *teacher;
	int same = 1;

	if (model_open(&m, model, &err) < 0)
		exit(1);
	teacher = taught ? random_states(tc_tensor_cols(m.tensor[0])) : NULL;
	all = outcome_of(&m, 0, SEQUENCES, teacher, NULL, false);
	ok(is_whole(&m, &all), "%s, %s: %d sequences: every parameter begins, comes whole and is finished, once",
	    tc_kernels_name(), model, SEQUENCES);
	if (!taught)
		ok(is_zero(&m, &all, LONELY), "%s, %s: where nothing is predicted, they are 0", tc_kernels_name(), model);
	for (size_t i = 0; i < sizeof(alone) / sizeof(alone[0]); i++)
		same &= same_alone(&m, alone[i], 1, teacher, &all);
	ok(same, "%s, %s: a sequence alone has the bits it has among others", tc_kernels_name(), model);
	ok(same_alone(&m, TINY + SHORT - 1, 3, teacher, &all), "%s, %s: so have a few", tc_kernels_name(), model);
	threads = outcome_of(&m, 0, SEQUENCES, teacher, pool, false);
	ok(same_outcome(&m, &threads, 0, &all, 0), "%s, %s: 1 and 2 threads give the same bits", tc_kernels_name(), model);
	sum = outcome_of(&m, 0, TINY, teacher, pool, true);
	ok(off_sum(&m, &sum, &all) <= SUM_BOUND, "%s, %s: a visitor that adds gets the sum to %g (%.1e)", tc_kernels_name(), model,
	    SUM_BOUND, off_sum(&m, &sum, &all));
	outcome_free(&all);
	outcome_free(&threads);
	outcome_free(&sum);
	free(teacher);
	model_close(&m);
}

/* ---- what a visitor is told ---- */

/* Some parameters are not wanted, or none is. */
static void
test_wants(const struct model *m, struct run *r, const char *model)
{
	struct gradients all = {0}, some = {0}, none = {0};
	int right = 1;

	for (size_t i = 0; i < m->params; i++) {
		some.unwanted[i] = tc_rng_below(&rng, 2);
		none.unwanted[i] = true;
	}
	some.unwanted[0] = true; /* the embedding, which a tied head is */
	if (gradients_of(&all, r, m, &err) < 0 || gradients_of(&some, r, m, &err) < 0 || gradients_of(&none, r, m, &err) < 0)
		exit(1);
	for (size_t i = 0; i < m->params; i++) {
		size_t n = tc_tensor_elements(m->tensor[i]) * all.nseq, wanted = !some.unwanted[i];

		right &= some.begun[i] == wanted && some.finished[i] == wanted && none.begun[i] == 0 && none.finished[i] == 0;
		right &= !wanted || memcmp(some.g[i], all.g[i], n * sizeof(float)) == 0;
	}
	ok(right && !some.stray && !none.stray, "%s, %s: what is not wanted does not come, and changes nothing of the rest",
	    tc_kernels_name(), model);
	gradients_free(&all);
	gradients_free(&some);
	gradients_free(&none);
}

/* A visitor that knows what must come next. */
struct order {
	const struct model *model;
	size_t nseq;
	int right;
	struct place {
		size_t tile0, row, seq;
	} place[PARAMS_MAX];
};

static void
visit_nothing(void *ctx, const struct tc_strip *s, int worker)
{
	(void)ctx;
	(void)s;
	(void)worker;
}

/* Rows that a parameter is offered together. */
static size_t
tile_rows(const struct tc_tensor *t, size_t tile0)
{
	size_t rest = tc_tensor_rows(t) - tile0;

	return t->block < 0 ? tc_min(rest, TC_VOCAB_TILE) : rest;
}

static int
note_strips(void *ctx, const struct tc_strip *s, size_t n, struct tc_err *e)
{
	struct order *o = ctx;

	(void)e;
	for (size_t i = 0; i < n; i++) {
		const struct tc_tensor *t = o->model->tensor[s[i].param];
		struct place *p = &o->place[s[i].param];
		size_t end = p->tile0 + tile_rows(t, p->tile0);

		o->right &= s[i].index == i && s[i].cols == tc_tensor_cols(t) && s[i].rows <= tc_strip_rows();
		o->right &= s[i].row0 == p->row && s[i].first == p->seq && s[i].n >= 1;
		p->row += s[i].rows;
		if (p->row != end)
			continue;
		p->seq += s[i].n;
		p->row = p->tile0;
		if (p->seq == o->nseq)
			*p = (struct place){ .tile0 = end, .row = end };
	}
	return 0;
}

static int
note_end(void *ctx, size_t param, struct tc_err *e)
{
	struct order *o = ctx;

	(void)e;
	o->right &= o->place[param].tile0 == tc_tensor_rows(o->model->tensor[param]);
	return 0;
}

static void
test_order(const struct model *m, struct run *r, const char *model)
{
	struct order o = { .model = m, .nseq = r->f.exec.nseq, .right = 1 };
	struct tc_gradient_visitor v = { .ctx = &o, .visit = visit_nothing, .visited = note_strips, .finished = note_end };

	if (run_back(r, m, &v, &err) < 0)
		exit(1);
	for (size_t i = 0; i < m->params; i++)
		o.right &= o.place[i].tile0 == tc_tensor_rows(m->tensor[i]);
	ok(o.right, "%s, %s: strips come in the order that is promised", tc_kernels_name(), model);
}

static int
refuse(void *ctx, size_t param, struct tc_err *e)
{
	return param == *(const size_t *)ctx ? tc_fail(e, TC_NOMEM, "no room for parameter %zu", param) : 0;
}

/* A visitor that fails, at any parameter, ends it. */
static void
test_failure(const struct model *m, struct run *r, const char *model)
{
	int right = 1;

	for (size_t i = 0; i < m->params; i++) {
		struct tc_gradient_visitor begun = { .ctx = &i, .begun = refuse, .visit = visit_nothing };
		struct tc_gradient_visitor finished = { .ctx = &i, .visit = visit_nothing, .finished = refuse };

		err.code = 0;
		right &= run_back(r, m, &begun, &err) == -1 && err.code == TC_NOMEM;
		err.code = 0;
		right &= run_back(r, m, &finished, &err) == -1 && err.code == TC_NOMEM;
	}
	ok(right, "%s, %s: a visitor's failure is that of the whole", tc_kernels_name(), model);
}

/* On more sequences than a batch has, and again and again on the same forward
 * pass. */
static void
test_visitors(const char *model, struct tc_pool *pool)
{
	struct text t = { .nseq = TINY, .length = lengths, .ids = all_ids };
	struct model m;
	struct run r;

	if (model_open(&m, model, &err) < 0)
		exit(1);
	model_widen(&m, &rng);
	if (run_forward(&r, &m, &t, pool, &err) < 0)
		exit(1);
	test_wants(&m, &r, model);
	test_order(&m, &r, model);
	run_close(&r);
	t.nseq = 1;
	if (run_forward(&r, &m, &t, pool, &err) < 0)
		exit(1);
	test_failure(&m, &r, model);
	run_close(&r);
	model_close(&m);
}

int
main(void)
{
	const struct tc_kernels *kinds[8];
	size_t n = kinds_to_test(kinds, 8);
	struct tc_pool *pool;

	tc_rng_seed(&rng, 13);
	make_text();
	if (tc_pool_open(&pool, 2, &err) < 0)
		return 1;
	for (size_t k = 0; k < n; k++) {
		if (tc_kernels_select(kinds[k]->name, &err) < 0)
			return 1;
		test_bits("tiny/llama", false, pool);
		test_bits("tiny/gemma2", false, pool);
		test_bits("tiny/gpt2", true, pool);
		test_visitors("tiny/llama", pool);
		test_visitors("tiny/gemma2", pool);
	}
	tc_pool_close(pool);
	free(all_ids);
	return done_testing();
}
