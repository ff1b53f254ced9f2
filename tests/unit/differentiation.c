/* The gradients of attention and of losses: against formulas in double, written
 * plainly, which in turn are held against differences of the functions in
 * double; and, with no formula in between, against differences of what the
 * forward pass computes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "distance.h"
#include "kernel/kernel.h"
#include "kinds.h"
#include "model/attention.h"
#include "model/loss.h"
#include "tap.h"

/* Norms of differences over norms. */
#define BOUND 1e-5
#define BOUND_DOUBLE 1e-7
#define BOUND_DIFFERENCES 1e-3

enum { KINDS_MAX = 8, DIRECTIONS = 3 };

static struct tc_rng rng;
static struct tc_err err;
static struct tc_pool *pool;

/* Multiples of 2^-10 of size: moved by steps they are floats still. */
static void
fill(size_t n, double size, double *x)
{
	for (size_t i = 0; i < n; i++)
		x[i] = size * ((double)tc_rng_below(&rng, 2048) - 1024) / 1024;
}

static void
narrow(size_t n, const double *x, float *to)
{
	for (size_t i = 0; i < n; i++)
		to[i] = (float)x[i];
}

static void
widen(size_t n, const float *x, double *to)
{
	for (size_t i = 0; i < n; i++)
		to[i] = (double)x[i];
}

/* NaN is far away: fmax() would drop it. */
static void
grow(double *most, double d)
{
	*most = isnan(d) ? INFINITY : fmax(*most, d);
}

static double
capped(double x, double cap)
{
	return cap > 0 ? cap * tanh(x / cap) : x;
}

/* Of a number that is capped already. */
static double
slope_of_cap(double y, double cap)
{
	return cap > 0 ? 1 - y * y / (cap * cap) : 1;
}

/* ---- differences ---- */

/* A number that depends on n others. */
typedef double function(void *ctx, const double *x);

static double
moved(function *f, void *ctx, size_t n, const double *x, const double *direction, double step)
{
	double *there = malloc(n * sizeof(*there)), y;

	for (size_t i = 0; i < n; i++)
		there[i] = x[i] + step * direction[i];
	y = f(ctx, there);
	free(there);
	return y;
}

/* How far a gradient is from the differences of f, along some directions that
 * move every number up or down by the step: the slopes there are, in the mean
 * square, as large as the gradient's norm, so that an error shows in them by its
 * norm wherever it is.  Of fourth order: what they leave out grows with the step
 * to the power of 4, what rounding adds is its unit over the step. */
static double
off_differences(function *f, void *ctx, size_t n, const double *x, const double *gradient, double step)
{
	double slope[DIRECTIONS] = {0}, difference[DIRECTIONS], *direction = malloc(n * sizeof(*direction));

	for (size_t d = 0; d < DIRECTIONS; d++) {
		for (size_t i = 0; i < n; i++) {
			direction[i] = tc_rng_below(&rng, 2) ? 1 : -1;
			slope[d] += gradient[i] * direction[i];
		}
		difference[d] = (8 * (moved(f, ctx, n, x, direction, step) - moved(f, ctx, n, x, direction, -step)) -
		    (moved(f, ctx, n, x, direction, 2 * step) - moved(f, ctx, n, x, direction, -2 * step))) / (12 * step);
	}
	free(direction);
	return distance(DIRECTIONS, slope, difference);
}

/* About where the sum of both is least, here. */
#define STEP_DOUBLE 0x1p-11
#define STEP_FLOAT 0x1p-8

/* ---- attention ---- */

enum { Q, K, V, INPUTS };
enum { ROWS_MOST = 130, HEADS_MOST = 6, DIM_MOST = 192 /* of all heads */, ATTENDED = ROWS_MOST * DIM_MOST };

/* Attention of whole sequences, and what comes back: all numbers of floats. */
struct attention {
	struct tc_config c;
	size_t window, rows;
	double in[INPUTS][ATTENDED];  /* [rows][heads or KV heads][head_dim] */
	double dout[ATTENDED];
	int moved;                    /* which input differences() moves */
};

static const struct shape {
	size_t heads, kv_heads, head_dim;
} shapes[] = { { 1, 1, 8 }, { 4, 2, 16 }, { 3, 3, 12 }, { 6, 2, 32 }, { 2, 1, 33 }, { 2, 2, 64 }, { 4, 1, 20 } };
/* Together with these as many cases as their product, since no two numbers have
 * a factor in common. */
static const size_t row_counts[] = { 20, 63, 64, 65, ROWS_MOST }, windows[] = { 0, 5, 70 };
static const double caps[] = { 0, 5 };
enum { SHAPES = 7, ROW_COUNTS = 5, WINDOWS = 3, CAPS = 2, PRODUCT = SHAPES * ROW_COUNTS * WINDOWS * CAPS,
	FEW = ROW_COUNTS * WINDOWS * CAPS };

static size_t
input_heads(const struct attention *a, int input)
{
	return input == Q ? a->c.heads : a->c.kv_heads;
}

static size_t
input_size(const struct attention *a, int input)
{
	return a->rows * input_heads(a, input) * a->c.head_dim;
}

/* Head h at row t: that of q, or the one of k and v that it reads. */
static size_t
at(const struct attention *a, int input, size_t t, size_t h)
{
	size_t heads = input_heads(a, input);

	return (t * heads + h * heads / a->c.heads) * a->c.head_dim;
}

static void
attention_case(struct attention *a, struct shape s, size_t rows, size_t window, double cap)
{
	a->c = (struct tc_config){ .heads = s.heads, .kv_heads = s.kv_heads, .head_dim = s.head_dim, .attn_cap = cap };
	a->rows = rows;
	a->window = window;
	fill(input_size(a, Q), 1, a->in[Q]);
	fill(input_size(a, K), 2, a->in[K]);
	fill(input_size(a, V), 2, a->in[V]);
	fill(input_size(a, Q), 2, a->dout);
}

static double
dot(size_t n, const double *x, const double *y)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += x[i] * y[i];
	return sum;
}

/* Row t's keys are first .. t. */
static size_t
first_key(const struct attention *a, size_t t)
{
	return a->window && t >= a->window ? t - a->window + 1 : 0;
}

/* p = the softmax of row t's scores in head h; s: these, capped. */
static void
probabilities(const struct attention *a, double *const in[INPUTS], size_t t, size_t h, double *s, double *p)
{
	double most = -INFINITY, sum = 0;

	for (size_t j = first_key(a, t); j <= t; j++) {
		s[j] = capped(dot(a->c.head_dim, in[Q] + at(a, Q, t, h), in[K] + at(a, K, j, h)), a->c.attn_cap);
		most = fmax(most, s[j]);
	}
	for (size_t j = first_key(a, t); j <= t; j++)
		sum += p[j] = exp(s[j] - most);
	for (size_t j = first_key(a, t); j <= t; j++)
		p[j] /= sum;
}

/* sum of dout x attention */
static double
attention(void *ctx, const double *x)
{
	struct attention *a = ctx;
	double *in[INPUTS] = { a->in[Q], a->in[K], a->in[V] }, s[ROWS_MOST], p[ROWS_MOST], sum = 0;

	in[a->moved] = (double *)x;
	for (size_t h = 0; h < a->c.heads; h++)
		for (size_t t = 0; t < a->rows; t++) {
			probabilities(a, in, t, h, s, p);
			for (size_t j = first_key(a, t); j <= t; j++)
				sum += p[j] * dot(a->c.head_dim, in[V] + at(a, V, j, h), a->dout + at(a, Q, t, h));
		}
	return sum;
}

static void
add(size_t n, double factor, const double *x, double *y)
{
	for (size_t i = 0; i < n; i++)
		y[i] += factor * x[i];
}

static void
attention_gradient(struct attention *a, double d[INPUTS][ATTENDED])
{
	double *const in[INPUTS] = { a->in[Q], a->in[K], a->in[V] };
	double s[ROWS_MOST], p[ROWS_MOST], dp[ROWS_MOST];
	size_t n = a->c.head_dim;

	for (int i = 0; i < INPUTS; i++)
		memset(d[i], 0, input_size(a, i) * sizeof(d[i][0]));
	for (size_t h = 0; h < a->c.heads; h++)
		for (size_t t = 0; t < a->rows; t++) {
			const double *dout = a->dout + at(a, Q, t, h);
			double mean = 0;

			probabilities(a, in, t, h, s, p);
			for (size_t j = first_key(a, t); j <= t; j++) {
				dp[j] = dot(n, dout, in[V] + at(a, V, j, h));
				mean += p[j] * dp[j];
			}
			for (size_t j = first_key(a, t); j <= t; j++) {
				double ds = p[j] * (dp[j] - mean) * slope_of_cap(s[j], a->c.attn_cap);

				add(n, ds, in[K] + at(a, K, j, h), d[Q] + at(a, Q, t, h));
				add(n, ds, in[Q] + at(a, Q, t, h), d[K] + at(a, K, j, h));
				add(n, p[j], dout, d[V] + at(a, V, j, h));
			}
		}
}

/* ---- attention as it is computed ---- */

struct attended {
	struct tc_kv kv, swapped;
	float in[INPUTS][ATTENDED], out[ATTENDED];
	struct tc_softmax softmax[ROWS_MOST * HEADS_MOST];
};

/* Release with attended_free(). */
static void
attend(const struct attention *a, double *const in[INPUTS], struct attended *to)
{
	const struct tc_kv_options f32 = {0};
	float *scratch = malloc(tc_attend_scratch(&a->c, a->rows) * sizeof(*scratch));

	for (int i = 0; i < INPUTS; i++)
		narrow(input_size(a, i), in[i], to->in[i]);
	to->swapped = to->kv = (struct tc_kv){0};
	if (tc_kv_alloc(&to->kv, &a->c, &f32, a->rows, a->rows, &err) < 0 ||
	    tc_kv_alloc(&to->swapped, &a->c, &f32, a->rows, a->rows, &err) < 0)
		exit(1);
	tc_kv_store(&to->kv, &a->c, 0, a->rows, to->in[K], to->in[V]);
	tc_kv_store(&to->swapped, &a->c, 0, a->rows, to->in[V], to->in[K]);
	tc_attend(&to->kv, &a->c, a->window, 0, a->rows, to->in[Q], to->out, to->softmax, scratch);
	free(scratch);
}

static void
attended_free(struct attended *to)
{
	tc_kv_free(&to->kv);
	tc_kv_free(&to->swapped);
}

static double
attend_value(void *ctx, const double *x)
{
	static struct attended to;
	struct attention *a = ctx;
	double *in[INPUTS] = { a->in[Q], a->in[K], a->in[V] }, sum = 0;

	in[a->moved] = (double *)x;
	attend(a, in, &to);
	for (size_t i = 0; i < input_size(a, Q); i++)
		sum += a->dout[i] * (double)to.out[i];
	attended_free(&to);
	return sum;
}

/* Gradients side by side, as tc_attend_gradient() puts them, to one after
 * another. */
static void
part_inputs(const struct attention *a, const float *dqkv, double d[INPUTS][ATTENDED])
{
	for (size_t t = 0; t < a->rows; t++)
		for (int i = 0; i < INPUTS; i++) {
			size_t n = input_heads(a, i) * a->c.head_dim;

			widen(n, dqkv, d[i] + t * n);
			dqkv += n;
		}
}

static void
attend_gradient(struct attention *a, double d[INPUTS][ATTENDED])
{
	static struct attended to;
	static float dout[ATTENDED], delta[ROWS_MOST * HEADS_MOST], dqkv[INPUTS * ATTENDED];
	double *const in[INPUTS] = { a->in[Q], a->in[K], a->in[V] };
	struct tc_attend_gradient g = { .c = &a->c, .window = a->window, .rows = a->rows, .kv = &to.kv, .swapped = &to.swapped,
		.q = to.in[Q], .dout = dout, .softmax = to.softmax, .delta = delta, .dqkv = dqkv };
	float *scratch = malloc(tc_attend_gradient_scratch(&a->c) * sizeof(*scratch));
	size_t n = a->c.head_dim;

	attend(a, in, &to);
	narrow(input_size(a, Q), a->dout, dout);
	for (size_t i = 0; i < a->rows * a->c.heads; i++) {
		double sum = 0;

		for (size_t j = 0; j < n; j++)
			sum += a->dout[i * n + j] * (double)to.out[i * n + j];
		delta[i] = (float)sum;
	}
	for (size_t i = 0; i < INPUTS * ATTENDED; i++)
		dqkv[i] = NAN;
	for (size_t h = 0; h < a->c.kv_heads; h++)
		tc_attend_gradient(&g, h, scratch);
	part_inputs(a, dqkv, d);
	free(scratch);
	attended_free(&to);
}

/* ---- attention's tests ---- */

static double want[INPUTS][ATTENDED], got[INPUTS][ATTENDED];

static double
off_inputs(struct attention *a, function *f, double d[INPUTS][ATTENDED], double step)
{
	double most = 0;

	for (a->moved = 0; a->moved < INPUTS; a->moved++)
		grow(&most, off_differences(f, a, input_size(a, a->moved), a->in[a->moved], d[a->moved], step));
	return most;
}

static void
select_kind(const struct tc_kernels *k)
{
	if (tc_kernels_select(k->name, &err) < 0)
		exit(1);
}

/* The first cases have everything but all shapes with each; differences, which
 * take time, are of these. */
static void
test_attention(size_t kinds, const struct tc_kernels *const *kind)
{
	static struct attention a;
	double reference = 0, most[KINDS_MAX] = {0}, differences[KINDS_MAX] = {0};

	for (size_t i = 0; i < PRODUCT; i++) {
		attention_case(&a, shapes[i % SHAPES], row_counts[i % ROW_COUNTS], windows[i % WINDOWS], caps[i % CAPS]);
		attention_gradient(&a, want);
		if (i < FEW)
			grow(&reference, off_inputs(&a, attention, want, STEP_DOUBLE));
		for (size_t k = 0; k < kinds; k++) {
			select_kind(kind[k]);
			attend_gradient(&a, got);
			for (int j = 0; j < INPUTS; j++)
				grow(&most[k], distance(input_size(&a, j), got[j], want[j]));
			if (i < FEW)
				grow(&differences[k], off_inputs(&a, attend_value, got, STEP_FLOAT));
		}
	}
	ok(reference <= BOUND_DOUBLE, "attention: its gradient in double is that of differences, to %g (%.1e)", BOUND_DOUBLE, reference);
	for (size_t k = 0; k < kinds; k++) {
		ok(most[k] <= BOUND, "%s: attention: the gradients of q, k and v are right to %g (%.1e)", kind[k]->name, BOUND, most[k]);
		ok(differences[k] <= BOUND_DIFFERENCES, "%s: attention: they are those of differences of tc_attend(), to %g (%.1e)",
		    kind[k]->name, BOUND_DIFFERENCES, differences[k]);
	}
}

/* One token sees itself alone, whatever its score. */
static void
test_one_token(const struct tc_kernels *kind)
{
	static struct attention a;
	double most = 0;

	select_kind(kind);
	for (size_t s = 0; s < SHAPES; s++) {
		attention_case(&a, shapes[s], 1, s % 2, caps[s % CAPS]);
		attention_gradient(&a, want);
		attend_gradient(&a, got);
		grow(&most, distance(input_size(&a, V), got[V], want[V]));
		for (int j = Q; j <= K; j++)
			for (size_t i = 0; i < input_size(&a, j); i++)
				grow(&most, fabs(got[j][i]));
	}
	ok(most <= BOUND, "%s: attention: one token's gradient is that of its value (%.1e)", kind->name, most);
}

/* ---- losses ---- */

enum { TOKENS_MOST = 125, WIDTH = 24, TEACHER_WIDTH = 19, VOCAB_MOST = 1300, SIDES = 2 };
#define GUARD 12345.678f
#define BOUND_SAME 1e-6 /* a teacher that is the model */

/* Below, at and above a tile of the vocabulary; with the least of them more
 * predictions in a row than go together. */
static const struct {
	size_t vocab, tokens;
} sizes[] = { { 37, TOKENS_MOST }, { TC_VOCAB_TILE, 40 }, { VOCAB_MOST, 20 } };
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

struct side {
	size_t width;
	double hidden[TOKENS_MOST * WIDTH], head[VOCAB_MOST * WIDTH], cap;
};

/* Predictions: all numbers of floats. */
struct predictions {
	size_t vocab, tokens, n, row[TOKENS_MOST];
	uint32_t target[TOKENS_MOST];
	float weight[TOKENS_MOST];
	double alpha, temperature;
	struct side side[SIDES];
};

/* With gaps. */
static bool
is_predicted(size_t token)
{
	return token < 4 ? token % 2 : token < 4 + TC_VOCAB_ROWS + 5 || token % 3 == 0;
}

static void
prediction_case(struct predictions *p, size_t size, double alpha, double temperature, double cap)
{
	p->vocab = sizes[size].vocab;
	p->tokens = sizes[size].tokens;
	p->alpha = alpha;
	p->temperature = temperature;
	p->n = 0;
	for (size_t t = 0; t < p->tokens; t++) {
		if (!is_predicted(t))
			continue;
		p->row[p->n] = t;
		p->target[p->n] = (uint32_t)tc_rng_below(&rng, p->vocab);
		p->weight[p->n++] = (float)(1 + tc_rng_below(&rng, 64)) / 64;
	}
	for (int s = 0; s < SIDES; s++) {
		struct side *side = &p->side[s];

		side->width = s == 0 ? WIDTH : TEACHER_WIDTH;
		side->cap = s == 0 ? cap : cap / 2;
		fill(p->tokens * side->width, 1, side->hidden);
		fill(p->vocab * side->width, 2, side->head);
	}
}

/* The softmax at a temperature; returns the logarithm of its denominator. */
static double
softmax(size_t n, const double *z, double temperature, double *p)
{
	double most = -INFINITY, sum = 0;

	for (size_t j = 0; j < n; j++)
		most = fmax(most, z[j] / temperature);
	for (size_t j = 0; j < n; j++)
		sum += p[j] = exp(z[j] / temperature - most);
	for (size_t j = 0; j < n; j++)
		p[j] /= sum;
	return most + log(sum);
}

/* What prediction i costs with these hidden states of the model; dz, if it is
 * not NULL: the gradient of that for the products of hidden states and head. */
static double
prediction(const struct predictions *p, size_t i, const double *hidden, double *dz)
{
	double z[SIDES][VOCAB_MOST], prob[VOCAB_MOST], student[VOCAB_MOST], teacher[VOCAB_MOST], nll, kl = 0;
	double at_model, at_teacher;

	for (int s = 0; s < SIDES; s++) {
		const struct side *side = &p->side[s];
		const double *x = (s == 0 ? hidden : side->hidden) + p->row[i] * side->width;

		for (size_t j = 0; j < p->vocab; j++)
			z[s][j] = capped(dot(side->width, x, side->head + j * side->width), side->cap);
	}
	nll = softmax(p->vocab, z[0], 1, prob) - z[0][p->target[i]];
	at_model = softmax(p->vocab, z[0], p->temperature, student);
	at_teacher = softmax(p->vocab, z[1], p->temperature, teacher);
	for (size_t j = 0; j < p->vocab; j++) {
		double own = prob[j] - (j == p->target[i]);

		kl += teacher[j] * ((z[1][j] - z[0][j]) / p->temperature - at_teacher + at_model);
		if (dz)
			dz[j] = ((1 - p->alpha) * own + p->alpha * p->temperature * (student[j] - teacher[j])) *
			    slope_of_cap(z[0][j], p->side[0].cap);
	}
	return (1 - p->alpha) * nll + p->alpha * p->temperature * p->temperature * kl;
}

static double
loss(void *ctx, const double *hidden)
{
	const struct predictions *p = ctx;
	double sum = 0;

	for (size_t i = 0; i < p->n; i++)
		sum += (double)p->weight[i] * prediction(p, i, hidden, NULL);
	return sum;
}

/* What a loss and its gradients are: value[n], that of the hidden states
 * [tokens][WIDTH], 0 where nothing is predicted, and that of logits
 * [n][vocab]. */
struct lost {
	double value[TOKENS_MOST], hidden[TOKENS_MOST * WIDTH], logits[TOKENS_MOST * TC_VOCAB_TILE];
};

static void
loss_gradient(const struct predictions *p, struct lost *to)
{
	memset(to->hidden, 0, sizeof(to->hidden));
	for (size_t i = 0; i < p->n; i++) {
		double *dz = to->logits + i * p->vocab;

		to->value[i] = prediction(p, i, p->side[0].hidden, dz);
		for (size_t j = 0; j < p->vocab; j++) {
			dz[j] *= (double)p->weight[i];
			add(WIDTH, dz[j], p->side[0].head + j * WIDTH, to->hidden + p->row[i] * WIDTH);
		}
	}
}

/* ---- losses as they are computed ---- */

/* The loss of predictions as the library takes it. */
struct job {
	const struct predictions *p;
	struct tc_loss l;
	struct tc_final final[SIDES];
	struct tc_tensor head[SIDES];
	float numbers[SIDES][VOCAB_MOST * WIDTH], hidden[SIDES][TOKENS_MOST * WIDTH];
	struct tc_loss_state state;
	float gradient[TOKENS_MOST * WIDTH];
	double value[TOKENS_MOST];
	double *logits;                /* where put_logits() puts them */
};

static void
job_open(struct job *job, const struct predictions *p, const double *hidden)
{
	job->p = p;
	for (int s = 0; s < SIDES; s++) {
		const struct side *side = &p->side[s];

		job->head[s] = (struct tc_tensor){ .ndim = 2, .shape = { p->vocab, side->width }, .format.dtype = TC_F32 };
		if (tc_tensor_layout(&job->head[s], &err) < 0)
			exit(1);
		job->head[s].part[0].data = job->numbers[s];
		narrow(p->vocab * side->width, side->head, job->numbers[s]);
		narrow(p->tokens * side->width, s == 0 ? hidden : side->hidden, job->hidden[s]);
		job->final[s] = (struct tc_final){ job->hidden[s], &job->head[s], side->cap, NULL };
	}
	job->l = (struct tc_loss){ .n = p->n, .row = p->row, .target = p->target, .weight = p->weight, .alpha = p->alpha,
		.temperature = p->temperature, .model = &job->final[0], .teacher = p->alpha > 0 ? &job->final[1] : NULL };
}

/* What is there before does not matter where something is predicted.  Release
 * with tc_loss_state_free(&job->state). */
static void
job_run(struct job *job, struct tc_pool *threads)
{
	for (size_t i = 0; i < job->p->tokens * WIDTH; i++)
		job->gradient[i] = is_predicted(i / WIDTH) ? NAN : GUARD;
	if (tc_loss_run(&job->l, &job->state, job->value, job->gradient, threads, &err) < 0)
		exit(1);
}

static double
loss_value(void *ctx, const double *hidden)
{
	static struct job job;
	const struct predictions *p = ctx;
	double sum = 0;

	job_open(&job, p, hidden);
	job_run(&job, NULL);
	for (size_t i = 0; i < p->n; i++)
		sum += (double)p->weight[i] * job.value[i];
	tc_loss_state_free(&job.state);
	return sum;
}

static void
put_logits(void *ctx, const struct tc_vocab *v, const struct tc_vocab_rows *rows, float *const z[TC_VOCAB_SIDES], int worker)
{
	const struct job *job = ctx;

	(void)worker;
	tc_loss_logits(&job->l, &job->state, v, rows, z);
	for (size_t r = 0; r < rows->n; r++)
		widen(v->tokens, z[0] + r * TC_VOCAB_TILE, job->logits + (rows->first + r) * v->vocab + v->token0);
}

static void
run_logits(struct job *job, double *to)
{
	const struct tc_final *side[] = { job->l.model, job->l.teacher };
	struct tc_vocab v;
	int r;

	job->logits = to;
	if (tc_vocab_open(&v, job->l.teacher ? 2 : 1, side, job->l.n, job->l.row, pool, &err) < 0)
		exit(1);
	while ((r = tc_vocab_next(&v, &err)) > 0)
		tc_vocab_run(&v, 0, v.ntiles, put_logits, job);
	tc_vocab_close(&v);
	if (r < 0)
		exit(1);
}

/* ---- their tests ---- */

/* What one kind's losses are like. */
struct losses {
	double value, hidden, logits, differences;
	int alone, threads;
};

static int
same(size_t n, const float *a, const float *b)
{
	return memcmp(a, b, n * sizeof(*a)) == 0;
}

/* The rows without a prediction are as they were: these become 0. */
static int
clear_others(const struct predictions *p, float *gradient)
{
	int alone = 1;

	for (size_t t = 0; t < p->tokens; t++)
		for (size_t j = 0; j < WIDTH && !is_predicted(t); j++) {
			alone &= gradient[t * WIDTH + j] == GUARD;
			gradient[t * WIDTH + j] = 0;
		}
	return alone;
}

static void
test_losses_of(struct predictions *p, const struct lost *right, struct losses *to)
{
	static struct job job, one;
	static struct lost l;
	size_t n = p->tokens * WIDTH;

	job_open(&job, p, p->side[0].hidden);
	job_run(&job, pool);
	one = job;
	job_run(&one, NULL);
	to->threads &= same(n, one.gradient, job.gradient) && memcmp(one.value, job.value, p->n * sizeof(*one.value)) == 0;
	tc_loss_state_free(&one.state);
	to->alone &= clear_others(p, job.gradient);
	widen(n, job.gradient, l.hidden);
	run_logits(&job, l.logits);
	grow(&to->value, distance(p->n, job.value, right->value));
	grow(&to->hidden, distance(n, l.hidden, right->hidden));
	grow(&to->logits, distance(p->n * p->vocab, l.logits, right->logits));
	grow(&to->differences, off_differences(loss_value, p, n, p->side[0].hidden, l.hidden, STEP_FLOAT));
	tc_loss_state_free(&job.state);
}

static void
test_losses(size_t kinds, const struct tc_kernels *const *kind)
{
	static const double alphas[] = { 0, 0.7, 1 }, temperatures[] = { 1, 2 }, final_caps[] = { 0, 30 };
	enum { CASES = SIZES * 3 * 2 * 2 };
	static struct predictions p;
	static struct lost right;
	struct losses of[KINDS_MAX];
	double reference = 0;

	for (size_t k = 0; k < kinds; k++)
		of[k] = (struct losses){ .alone = 1, .threads = 1 };
	for (size_t i = 0; i < CASES; i++) {
		prediction_case(&p, i % SIZES, alphas[i / SIZES % 3], temperatures[i / SIZES / 3 % 2], final_caps[i / SIZES / 3 / 2]);
		loss_gradient(&p, &right);
		grow(&reference, off_differences(loss, &p, p.tokens * WIDTH, p.side[0].hidden, right.hidden, STEP_DOUBLE));
		for (size_t k = 0; k < kinds; k++) {
			select_kind(kind[k]);
			test_losses_of(&p, &right, &of[k]);
		}
	}
	ok(reference <= BOUND_DOUBLE, "loss: its gradient in double is that of differences, to %g (%.1e)", BOUND_DOUBLE, reference);
	for (size_t k = 0; k < kinds; k++) {
		ok(of[k].value <= BOUND, "%s: loss: its value is right to %g (%.1e)", kind[k]->name, BOUND, of[k].value);
		ok(of[k].hidden <= BOUND, "%s: loss: the gradient of hidden states is right to %g (%.1e)", kind[k]->name, BOUND,
		    of[k].hidden);
		ok(of[k].logits <= BOUND, "%s: loss: so is that of logits (%.1e)", kind[k]->name, of[k].logits);
		ok(of[k].differences <= BOUND_DIFFERENCES, "%s: loss: its gradient is that of differences of its value, to %g (%.1e)",
		    kind[k]->name, BOUND_DIFFERENCES, of[k].differences);
		ok(of[k].alone, "%s: loss: what predicts nothing is left alone", kind[k]->name);
		ok(of[k].threads, "%s: loss: 1 and 2 threads give the same bits", kind[k]->name);
	}
}

/* There is nothing to learn from a teacher that is the model. */
static void
test_same_teacher(const struct tc_kernels *kind)
{
	static struct predictions p;
	static struct job job;
	static struct lost l;
	double most = 0;

	select_kind(kind);
	for (size_t i = 0; i < SIZES * 2; i++) {
		prediction_case(&p, i / 2, 1, 2, i % 2 ? 30 : 0);
		p.side[1] = p.side[0];
		job_open(&job, &p, p.side[0].hidden);
		job_run(&job, pool);
		clear_others(&p, job.gradient);
		run_logits(&job, l.logits);
		for (size_t j = 0; j < p.n; j++)
			grow(&most, fabs(job.value[j]));
		for (size_t j = 0; j < p.tokens * WIDTH; j++)
			grow(&most, fabs((double)job.gradient[j]));
		for (size_t j = 0; j < p.n * p.vocab; j++)
			grow(&most, fabs(l.logits[j]));
		tc_loss_state_free(&job.state);
	}
	ok(most <= BOUND_SAME, "%s: loss: with the model as its teacher it is 0, and its gradient (%.1e)", kind->name, most);
}

int
main(void)
{
	const struct tc_kernels *kinds[KINDS_MAX];
	size_t n = kinds_to_test(kinds, KINDS_MAX);

	tc_rng_seed(&rng, 17);
	if (tc_pool_open(&pool, 2, &err) < 0)
		return 1;
	test_attention(n, kinds);
	test_losses(n, kinds);
	for (size_t k = 0; k < n; k++) {
		test_one_token(kinds[k]);
		test_same_teacher(kinds[k]);
	}
	tc_pool_close(pool);
	return done_testing();
}
