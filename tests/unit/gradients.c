/* The gradient kernels of every CPU kind that this machine runs: against the
 * formulas in double at every tail length, which in turn are held against
 * differences of the functions in double; and, with no formula in between,
 * against differences of the forward kernels. */
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "distance.h"
#include "kernel/kernel.h"
#include "kinds.h"
#include "tap.h"

#define GUARD 12345.678f
/* Of the largest term that a gradient is the sum of: some ten roundings, 2^-24
 * each; exp's 2e-7; and what a norm's sums lose, up to 1250 terms to a lane. */
#define BOUND 2e-6
#define BOUND_EXP 3e-7     /* exp's 2e-7 and the product's rounding */
#define BOUND_SLOPE 5e-7   /* as kernel.h states */
/* Of the norm of a gradient. */
#define BOUND_DOUBLE 1e-7
#define BOUND_KERNEL 1e-3

enum {
	INPUTS = 3, MOST = 5000, GUARDS = 24,
	SHORT = 2 * 16 + 4    /* every length up to two of the widest vectors and a bit */
};

/* Lengths: all the short ones, then these; of differences, which take 4 n
 * forward runs of n elements, only the first. */
static const size_t longer[] = { 64, 100, 333, 1000, 4096, 4999 };
enum { LONGER = sizeof(longer) / sizeof(longer[0]), SOME_LONGER = 3 };

static struct tc_rng rng;

static double
between(double low, double high)
{
	return low + (high - low) * tc_rng_unit(&rng);
}

/* ---- the functions ---- */

struct arrays {
	double in[INPUTS][MOST];
	double dy[MOST];
};

/* A function of up to three arrays: in double, its gradient in double with the
 * size of the terms that a gradient is made of, and both as kernels. */
struct function {
	const char *name;
	size_t inputs;
	float param;       /* eps of a norm, cap of a softmax */
	float smooth;      /* what that is where differences are taken: near a pole there are none */
	double large;      /* inputs so large must do, too */
	size_t added;      /* gradients from this one on are added to what is there */
	int places;        /* in_place(): where gradients may lie */
	void (*run)(const struct function *f, size_t n, const struct arrays *a, double *y);
	void (*grad)(const struct function *f, size_t n, const struct arrays *a, double g[INPUTS][MOST], double size[INPUTS]);
	void (*kernel_run)(const struct tc_kernels *kern, const struct function *f, size_t n, float *const in[], float *y);
	void (*kernel_grad)(const struct tc_kernels *kern, const struct function *f, size_t n, float *const in[], const float *dy,
	    float *const g[]);
};

static void
grow(double *most, double term)
{
	*most = fmax(*most, fabs(term));
}

static double
mean(size_t n, const double *x)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += x[i];
	return sum / (double)n;
}

/* 1 / sqrt of the mean square distance from the middle, plus eps */
static double
norm_scale(size_t n, const double *x, double middle, double eps)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += (x[i] - middle) * (x[i] - middle);
	return 1 / sqrt(sum / (double)n + eps);
}

static void
rms_norm(const struct function *f, size_t n, const struct arrays *a, double *y)
{
	double s = norm_scale(n, a->in[0], 0, (double)f->param);

	for (size_t i = 0; i < n; i++)
		y[i] = a->in[0][i] * s * a->in[1][i];
}

static void
rms_norm_grad(const struct function *f, size_t n, const struct arrays *a, double g[INPUTS][MOST], double size[INPUTS])
{
	const double *x = a->in[0], *w = a->in[1], *dy = a->dy;
	double s = norm_scale(n, x, 0, (double)f->param), dot = 0;

	for (size_t i = 0; i < n; i++)
		dot += x[i] * w[i] * dy[i] / (double)n;
	for (size_t i = 0; i < n; i++) {
		g[0][i] = s * (w[i] * dy[i] - x[i] * s * s * dot);
		g[1][i] = dy[i] * x[i] * s;
		grow(&size[0], s * w[i] * dy[i]);
		grow(&size[0], s * x[i] * s * s * dot);
		grow(&size[1], g[1][i]);
	}
}

static void
kernel_rms_norm(const struct tc_kernels *kern, const struct function *f, size_t n, float *const in[], float *y)
{
	kern->rms_norm(n, in[0], in[1], f->param, y);
}

static void
kernel_rms_norm_grad(const struct tc_kernels *kern, const struct function *f, size_t n, float *const in[], const float *dy,
    float *const g[])
{
	kern->rms_norm_grad(n, in[0], in[1], f->param, dy, g[0], g[1]);
}

static void
layer_norm(const struct function *f, size_t n, const struct arrays *a, double *y)
{
	double m = mean(n, a->in[0]), s = norm_scale(n, a->in[0], m, (double)f->param);

	for (size_t i = 0; i < n; i++)
		y[i] = (a->in[0][i] - m) * s * a->in[1][i] + a->in[2][i];
}

/* The mean is rounded as numbers of x's size are: where x lies far from 0 for
 * its spread, h is the less certain. */
static void
layer_norm_grad(const struct function *f, size_t n, const struct arrays *a, double g[INPUTS][MOST], double size[INPUTS])
{
	static double wdy[MOST], h[MOST], wdyh[MOST];
	const double *x = a->in[0], *w = a->in[1], *dy = a->dy;
	double m = mean(n, x), s = norm_scale(n, x, m, (double)f->param), reach = 0, shift, dot;

	for (size_t i = 0; i < n; i++) {
		h[i] = (x[i] - m) * s;
		wdy[i] = w[i] * dy[i];
		wdyh[i] = wdy[i] * h[i];
		grow(&reach, x[i] * s);
	}
	shift = mean(n, wdy);
	dot = mean(n, wdyh);
	for (size_t i = 0; i < n; i++) {
		g[0][i] = s * (wdy[i] - shift - h[i] * dot);
		g[1][i] = dy[i] * h[i];
		g[2][i] = dy[i];
		grow(&size[0], s * wdy[i] * (1 + reach));
		grow(&size[0], s * h[i] * dot);
		grow(&size[1], dy[i] * fmax(fabs(h[i]), reach));
		grow(&size[2], dy[i]);
	}
}

static void
kernel_layer_norm(const struct tc_kernels *kern, const struct function *f, size_t n, float *const in[], float *y)
{
	kern->layer_norm(n, in[0], in[1], in[2], f->param, y);
}

static void
kernel_layer_norm_grad(const struct tc_kernels *kern, const struct function *f, size_t n, float *const in[], const float *dy,
    float *const g[])
{
	kern->layer_norm_grad(n, in[0], in[1], f->param, dy, g[0], g[1], g[2]);
}

static double
silu(double x, double *slope)
{
	double sigmoid = 1 / (1 + exp(-x));

	*slope = sigmoid + x * sigmoid * (1 - sigmoid);
	return x * sigmoid;
}

static double
gelu_tanh(double x, double *slope)
{
	const double a = 0.7978845608028654, b = 0.044715;   /* sqrt(2 / pi) */
	double t = tanh(a * (x + b * x * x * x));

	*slope = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * a * (1 + 3 * b * x * x);
	return 0.5 * x * (1 + t);
}

/* The product with `up` is left out where there is one input. */
static void
gated(double act(double x, double *slope), const struct function *f, size_t n, const struct arrays *a, double *y)
{
	double slope;

	for (size_t i = 0; i < n; i++)
		y[i] = act(a->in[0][i], &slope) * (f->inputs > 1 ? a->in[1][i] : 1);
}

/* 1e-3: the forward kernels' own precision is relative to that, too. */
static void
gated_grad(double act(double x, double *slope), const struct function *f, size_t n, const struct arrays *a,
    double g[INPUTS][MOST], double size[INPUTS])
{
	for (size_t i = 0; i < n; i++) {
		double slope, y = act(a->in[0][i], &slope), d = a->dy[i] * (f->inputs > 1 ? a->in[1][i] : 1);

		g[0][i] = d * slope;
		g[1][i] = a->dy[i] * y;
		grow(&size[0], d);
		grow(&size[1], a->dy[i] * (fabs(y) + 1e-3));
	}
}

static void
silu_mul(const struct function *f, size_t n, const struct arrays *a, double *y)
{
	gated(silu, f, n, a, y);
}

static void
silu_mul_grad(const struct function *f, size_t n, const struct arrays *a, double g[INPUTS][MOST], double size[INPUTS])
{
	gated_grad(silu, f, n, a, g, size);
}

static void
kernel_silu_mul(const struct tc_kernels *kern, const struct function *f, size_t n, float *const in[], float *y)
{
	kern->silu_mul(n, in[0], f->inputs > 1 ? in[1] : NULL, y);
}

static void
kernel_silu_mul_grad(const struct tc_kernels *kern, const struct function *f, size_t n, float *const in[], const float *dy,
    float *const g[])
{
	kern->silu_mul_grad(n, in[0], f->inputs > 1 ? in[1] : NULL, dy, g[0], f->inputs > 1 ? g[1] : NULL);
}

static void
gelu_tanh_mul(const struct function *f, size_t n, const struct arrays *a, double *y)
{
	gated(gelu_tanh, f, n, a, y);
}

static void
gelu_tanh_mul_grad(const struct function *f, size_t n, const struct arrays *a, double g[INPUTS][MOST], double size[INPUTS])
{
	gated_grad(gelu_tanh, f, n, a, g, size);
}

static void
kernel_gelu_tanh_mul(const struct tc_kernels *kern, const struct function *f, size_t n, float *const in[], float *y)
{
	kern->gelu_tanh_mul(n, in[0], f->inputs > 1 ? in[1] : NULL, y);
}

static void
kernel_gelu_tanh_mul_grad(const struct tc_kernels *kern, const struct function *f, size_t n, float *const in[], const float *dy,
    float *const g[])
{
	kern->gelu_tanh_mul_grad(n, in[0], f->inputs > 1 ? in[1] : NULL, dy, g[0], f->inputs > 1 ? g[1] : NULL);
}

static double
capped(double x, double cap)
{
	return cap > 0 ? cap * tanh(x / cap) : x;
}

/* The softmax of scores that are capped first, where there is a cap. */
static void
softmax(const struct function *f, size_t n, const struct arrays *a, double *y)
{
	double sum = 0, most = -INFINITY;

	for (size_t i = 0; i < n; i++)
		most = fmax(most, capped(a->in[0][i], (double)f->param));
	for (size_t i = 0; i < n; i++)
		sum += y[i] = exp(capped(a->in[0][i], (double)f->param) - most);
	for (size_t i = 0; i < n; i++)
		y[i] /= sum;
}

static double
slope_of_cap(double x, double cap)
{
	return cap > 0 ? 1 - tanh(x / cap) * tanh(x / cap) : 1;
}

/* The cap's kernel is right to 3e-7 of the cap, and that is an error of p. */
static void
softmax_grad(const struct function *f, size_t n, const struct arrays *a, double g[INPUTS][MOST], double size[INPUTS])
{
	static double p[MOST];
	double d = 0, cap = (double)f->param;

	softmax(f, n, a, p);
	for (size_t i = 0; i < n; i++)
		d += p[i] * a->dy[i];
	for (size_t i = 0; i < n; i++) {
		g[0][i] = p[i] * (a->dy[i] - d) * slope_of_cap(a->in[0][i], cap);
		grow(&size[0], p[i] * (fabs(a->dy[i]) + fabs(d)) * (1 + cap));
	}
}

/* s = the scores, capped, and e = exp(s - their maximum), which is returned. */
static float
scores(const struct tc_kernels *kern, const struct function *f, size_t n, const float *x, float *s, float *e)
{
	float most = -INFINITY;

	memcpy(s, x, n * sizeof(*s));
	if (f->param > 0)
		kern->soft_cap(n, f->param, s);
	for (size_t i = 0; i < n; i++)
		most = fmaxf(most, s[i]);
	for (size_t i = 0; i < n; i++)
		e[i] = s[i] - most;
	kern->exp(n, e, e);
	return most;
}

static void
kernel_softmax(const struct tc_kernels *kern, const struct function *f, size_t n, float *const in[], float *y)
{
	static float s[MOST];
	double sum = 0;

	scores(kern, f, n, in[0], s, y);
	for (size_t i = 0; i < n; i++)
		sum += (double)y[i];
	for (size_t i = 0; i < n; i++)
		y[i] = (float)((double)y[i] / sum);
}

static void
kernel_softmax_grad(const struct tc_kernels *kern, const struct function *f, size_t n, float *const in[], const float *dy,
    float *const g[])
{
	static float s[MOST], e[MOST];
	float most = scores(kern, f, n, in[0], s, e);
	double sum = 0, d = 0;

	for (size_t i = 0; i < n; i++) {
		sum += (double)e[i];
		d += (double)e[i] * (double)dy[i];
	}
	memmove(g[0], dy, n * sizeof(*dy));
	kern->softmax_grad(n, most, (float)(1 / sum), (float)(d / sum), f->param, s, g[0]);
}

/* ---- kernels on doubles ---- */

struct floats {
	float in[INPUTS][MOST + GUARDS], dy[MOST + GUARDS], g[INPUTS][MOST + GUARDS];
};

/* After n elements comes what nothing may write over. */
static void
narrow(float *to, const double *from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] = (float)from[i];
	for (size_t i = n; i < n + GUARDS; i++)
		to[i] = GUARD;
}

static int
guarded(const float *p, size_t n)
{
	for (size_t i = n; i < n + GUARDS; i++)
		if (p[i] != GUARD)
			return 0;
	return 1;
}

static int
same(const float *a, const float *b, size_t n)
{
	return memcmp(a, b, n * sizeof(*a)) == 0;
}

/* The gradients are started from `start`. */
static void
make_floats(const struct function *f, size_t n, const struct arrays *a, double start, struct floats *to)
{
	static double starts[MOST];

	for (size_t i = 0; i < n; i++)
		starts[i] = start;
	for (size_t j = 0; j < f->inputs; j++) {
		narrow(to->in[j], a->in[j], n);
		narrow(to->g[j], starts, n);
	}
	narrow(to->dy, a->dy, n);
}

/* The gradients of kern, each where the pointers of g say. */
static void
kernel_grad(const struct tc_kernels *kern, const struct function *f, size_t n, struct floats *fl, float *const g[])
{
	float *in[INPUTS] = { fl->in[0], fl->in[1], fl->in[2] };

	f->kernel_grad(kern, f, n, in, fl->dy, g);
}

/* y of f: of kern, or NULL in double. */
static void
run(const struct tc_kernels *kern, const struct function *f, size_t n, const struct arrays *a, double *y)
{
	static float x[INPUTS][MOST + GUARDS], out[MOST];
	float *p[INPUTS] = { x[0], x[1], x[2] };

	if (!kern) {
		f->run(f, n, a, y);
		return;
	}
	for (size_t j = 0; j < f->inputs; j++)
		narrow(x[j], a->in[j], n);
	f->kernel_run(kern, f, n, p, out);
	for (size_t i = 0; i < n; i++)
		y[i] = (double)out[i];
}

/* ---- differences ---- */

/* sum of dy y where input j's element i is moved by h */
static double
moved(const struct tc_kernels *kern, const struct function *f, size_t n, struct arrays *a, size_t j, size_t i, double h)
{
	static double y[MOST];
	double was = a->in[j][i], sum = 0;

	a->in[j][i] = was + h;
	run(kern, f, n, a, y);
	a->in[j][i] = was;
	for (size_t k = 0; k < n; k++)
		sum += a->dy[k] * y[k];
	return sum;
}

/* The gradient for input j by central differences of fourth order: what they
 * leave out is of the order h^4, what rounding adds is of the order of its
 * unit over h, and the sum is least about the unit to the power of 1/5. */
static void
differences(const struct tc_kernels *kern, const struct function *f, size_t n, struct arrays *a, size_t j, double *g)
{
	const double h = kern ? 0x1p-5 : 0x1p-11;

	for (size_t i = 0; i < n; i++)
		g[i] = (8 * (moved(kern, f, n, a, j, i, h) - moved(kern, f, n, a, j, i, -h)) -
		    (moved(kern, f, n, a, j, i, 2 * h) - moved(kern, f, n, a, j, i, -2 * h))) / (12 * h);
}

/* ---- the tests ---- */

static size_t
length(size_t i)
{
	return i < SHORT ? i + 1 : longer[i - SHORT];
}

/* Input 0 up to `size`, which is 0 for zeros, the others and dy to 2: all are
 * multiples of 2^-10 of that, so that steps of 2^-11 of 1 are exact in double
 * and those of 2^-5 in float. */
static void
fill(const struct function *f, size_t n, double size, struct arrays *a)
{
	for (size_t j = 0; j < f->inputs; j++)
		for (size_t i = 0; i < n; i++)
			a->in[j][i] = floor(between(-1024, 1024)) / 1024 * (j ? 2 : size);
	for (size_t i = 0; i < n; i++)
		a->dy[i] = floor(between(-1024, 1024)) / 1024 * 2;
}

static double grads[INPUTS][MOST], diffs[INPUTS][MOST];

/* The formulas in double, by themselves. */
static void
test_reference(const struct function *f)
{
	static struct arrays a;
	double size[INPUTS], most = 0;

	for (size_t l = 0; l < SHORT + SOME_LONGER; l++) {
		size_t n = length(l);

		fill(f, n, 2, &a);
		memset(size, 0, sizeof(size));
		f->grad(f, n, &a, grads, size);
		for (size_t j = 0; j < f->inputs; j++) {
			differences(NULL, f, n, &a, j, diffs[j]);
			most = fmax(most, distance(n, grads[j], diffs[j]));
		}
	}
	ok(most <= BOUND_DOUBLE, "%s: its gradient in double is that of differences, to %g (%.2g)", f->name, BOUND_DOUBLE, most);
}

/* A kernel's gradients, with no formula in between. */
static void
test_differences(const struct tc_kernels *kern, const struct function *f)
{
	static struct arrays a;
	static struct floats fl;
	float *const g[INPUTS] = { fl.g[0], fl.g[1], fl.g[2] };
	double most = 0;

	for (size_t l = 0; l < SHORT + SOME_LONGER; l++) {
		size_t n = length(l);

		fill(f, n, 2, &a);
		make_floats(f, n, &a, 0, &fl);
		kernel_grad(kern, f, n, &fl, g);
		for (size_t j = 0; j < f->inputs; j++) {
			for (size_t i = 0; i < n; i++)
				grads[j][i] = (double)fl.g[j][i];
			differences(kern, f, n, &a, j, diffs[j]);
			most = fmax(most, distance(n, grads[j], diffs[j]));
		}
	}
	ok(most <= BOUND_KERNEL, "%s: %s: its gradient is that of differences of its forward kernel, to %g (%.2g)", kern->name, f->name,
	    BOUND_KERNEL, most);
}

/* How far a kernel's gradients are from those in double, in their size; no NaN. */
static double
error(const struct function *f, size_t n, const struct arrays *a, double start, struct floats *fl)
{
	double size[INPUTS] = {0}, most = 0;

	f->grad(f, n, a, grads, size);
	for (size_t j = 0; j < f->inputs; j++) {
		double from = j >= f->added ? start : 0;

		for (size_t i = 0; i < n; i++) {
			double off = fabs((double)fl->g[j][i] - from - grads[j][i]);

			most = isfinite(off) ? fmax(most, off > 0 ? off / (size[j] + from) : 0) : INFINITY;
		}
	}
	return most;
}

/* In place: the bits of gradients apart.  The first in dy; the same with the
 * second in its input; each in its input. */
static int
in_place(const struct tc_kernels *kern, const struct function *f, size_t n, const struct arrays *a, double start,
    struct floats *apart)
{
	static struct floats fl;
	float *const first[] = { fl.dy, fl.dy, fl.in[0] }, *const second[] = { fl.g[1], fl.in[1], fl.in[1] };
	int right = 1;

	for (int p = 0; p < f->places; p++) {
		float *const g[INPUTS] = { first[p], second[p], fl.g[2] };

		make_floats(f, n, a, start, &fl);
		kernel_grad(kern, f, n, &fl, g);
		for (size_t j = 0; j < f->inputs; j++)
			right &= same(g[j], apart->g[j], n + GUARDS);
	}
	return right;
}

static void
test_formula(const struct tc_kernels *kern, const struct function *f)
{
	static struct arrays a;
	static struct floats fl, was;
	float *const g[INPUTS] = { fl.g[0], fl.g[1], fl.g[2] };
	const double sizes[] = { 3, 1e-6, f->large, 0 }, start = 0.75;
	double most = 0;
	int inside = 1, placed = 1;

	for (size_t l = 0; l < SHORT + LONGER; l++)
		for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
			size_t n = length(l);

			fill(f, n, sizes[k], &a);
			make_floats(f, n, &a, start, &fl);
			for (size_t j = 0; j < f->inputs; j++)   /* the numbers that the kernel gets */
				for (size_t i = 0; i < n; i++)
					a.in[j][i] = (double)fl.in[j][i];
			was = fl;
			kernel_grad(kern, f, n, &fl, g);
			most = fmax(most, error(f, n, &a, start, &fl));
			inside &= same(fl.dy, was.dy, n + GUARDS);
			for (size_t j = 0; j < f->inputs; j++)
				inside &= guarded(fl.g[j], n) && same(fl.in[j], was.in[j], n + GUARDS);
			placed &= in_place(kern, f, n, &a, start, &fl);
		}
	ok(most <= BOUND, "%s: %s: gradients are right to %g at all lengths, for small, large and no inputs (%.2g)", kern->name, f->name,
	    BOUND, most);
	ok(inside, "%s: %s: gradients write nothing else", kern->name, f->name);
	ok(placed, "%s: %s: gradients in place", kern->name, f->name);
}

typedef void act_grad_fn(size_t n, const float *gate, const float *up, const float *dy, float *dgate, float *dup);

/* Slopes from -100 to 100 and far outside. */
static void
test_slopes(const struct tc_kernels *kern, const char *name, double act(double x, double *slope), act_grad_fn *grad)
{
	static const float far[] = { -1e9f, -1e5f, -1e3f, 1e3f, 1e5f, 1e9f };
	enum { FAR = sizeof(far) / sizeof(far[0]) };
	static float x[MOST], one[MOST], g[MOST];
	double most = 0, slope;

	for (size_t i = 0; i < MOST; i++) {
		x[i] = i < FAR ? far[i] : -100 + 200 * (float)(i - FAR) / (MOST - FAR - 1);
		one[i] = 1;
	}
	grad(MOST, x, NULL, one, g, NULL);
	for (size_t i = 0; i < MOST; i++) {
		act((double)x[i], &slope);
		most = isfinite(g[i]) ? fmax(most, fabs((double)g[i] - slope)) : INFINITY;
	}
	ok(most <= BOUND_SLOPE, "%s: %s: slopes are right to %g, far from 0 too (%.2g)", kern->name, name, BOUND_SLOPE, most);
}

/* What becomes of the scores themselves, with gradients and without. */
static void
test_probabilities(const struct tc_kernels *kern)
{
	static float s[MOST + GUARDS], was[MOST], alone[MOST + GUARDS], dp[MOST + GUARDS];
	static double score[MOST];
	const float most = 3, inv = 0.3f;
	int right = 1, inside = 1;

	for (size_t l = 0; l < SHORT + LONGER; l++) {
		size_t n = length(l);

		for (size_t i = 0; i < n; i++)
			score[i] = between(-8, 3);
		narrow(s, score, n);
		narrow(alone, score, n);
		narrow(dp, score, n);
		memcpy(was, s, n * sizeof(*s));
		kern->softmax_grad(n, most, inv, 0, 10, s, dp);
		kern->softmax_grad(n, most, inv, 0, 10, alone, NULL);
		for (size_t i = 0; i < n; i++)
			right &= fabs((double)s[i] / (exp((double)(was[i] - most)) * (double)inv) - 1) <= BOUND_EXP;
		right &= same(s, alone, n);
		inside &= guarded(s, n) && guarded(alone, n) && guarded(dp, n);
	}
	ok(right, "%s: softmax_grad: probabilities are right to %g", kern->name, BOUND_EXP);
	ok(inside, "%s: softmax_grad writes nothing else", kern->name);
}

/* Masked scores between others, of a row that has others or none. */
static void
test_masked(const struct tc_kernels *kern)
{
	static const float any[] = { NAN, INFINITY, -INFINITY, 1 };
	float s[SHORT + GUARDS], dp[SHORT + GUARDS], only_p[SHORT + GUARDS], p, ds;
	int right = 1, inside = 1;

	for (size_t n = 0; n <= SHORT; n++)
		for (int all = 0; all < 2; all++) {
			for (size_t i = 0; i < SHORT + GUARDS; i++) {
				s[i] = only_p[i] = i >= n ? GUARD : all || i % 3 == 1 ? -INFINITY : -1;
				dp[i] = i >= n ? GUARD : s[i] == -INFINITY ? any[i % 4] : 3;
			}
			kern->softmax_grad(n, all ? -INFINITY : -1, all ? INFINITY : 0.5f, all ? NAN : 1, 2, only_p, NULL);
			kern->softmax_grad(n, all ? -INFINITY : -1, all ? INFINITY : 0.5f, all ? NAN : 1, 2, s, dp);
			for (size_t i = 0; i < n; i++) {
				p = all || i % 3 == 1 ? 0 : 0.5f;
				ds = p * 2 * 0.75f;
				right &= s[i] == p && only_p[i] == p && dp[i] == ds;
			}
			inside &= guarded(s, n) && guarded(only_p, n) && guarded(dp, n);
		}
	ok(right, "%s: softmax_grad of masked scores is 0, whatever else there is", kern->name);
	ok(inside, "%s: softmax_grad of masked scores writes nothing else", kern->name);
}

static void
test_squares(const struct tc_kernels *kern)
{
	static float x[MOST + 1], y[MOST + GUARDS];
	double want, sum;
	int right = 1, sums = 1, fixed = 1;

	for (size_t l = 0; l <= SHORT + LONGER; l++) {
		size_t n = l ? length(l - 1) : 0;

		want = 0;
		for (size_t i = 0; i < n; i++) {
			x[i] = (float)between(-3, 3);
			want += (double)x[i] * (double)x[i];
		}
		for (size_t i = 0; i < n + GUARDS; i++)
			y[i] = GUARD;
		kern->squares(n, x, y);
		for (size_t i = 0; i < n; i++)
			right &= y[i] == x[i] * x[i];
		right &= guarded(y, n);
		sum = kern->sum_squares(n, x);
		sums &= fabs(sum - want) <= (double)n * 0x1p-53 * want;
		memmove(x + 1, x, n * sizeof(*x));
		fixed &= kern->sum_squares(n, x + 1) == sum;
	}
	ok(right, "%s: squares, n of them", kern->name);
	ok(sums, "%s: sum_squares is right in double", kern->name);
	ok(fixed, "%s: sum_squares has the same bits wherever the numbers lie", kern->name);
}

static const struct function functions[] = {
	{ "rms_norm", 2, 1e-5f, 0.25f, 1e15, 1, 1, rms_norm, rms_norm_grad, kernel_rms_norm, kernel_rms_norm_grad },
	{ "layer_norm", 3, 1e-5f, 0.25f, 1e15, 1, 1, layer_norm, layer_norm_grad, kernel_layer_norm, kernel_layer_norm_grad },
	{ "silu_mul", 2, 0, 0, 100, INPUTS, 3, silu_mul, silu_mul_grad, kernel_silu_mul, kernel_silu_mul_grad },
	{ "silu", 1, 0, 0, 100, INPUTS, 3, silu_mul, silu_mul_grad, kernel_silu_mul, kernel_silu_mul_grad },
	{ "gelu_tanh_mul", 2, 0, 0, 100, INPUTS, 3, gelu_tanh_mul, gelu_tanh_mul_grad, kernel_gelu_tanh_mul,
	    kernel_gelu_tanh_mul_grad },
	{ "gelu_tanh", 1, 0, 0, 100, INPUTS, 3, gelu_tanh_mul, gelu_tanh_mul_grad, kernel_gelu_tanh_mul, kernel_gelu_tanh_mul_grad },
	{ "softmax", 1, 0, 0, 1e4, INPUTS, 1, softmax, softmax_grad, kernel_softmax, kernel_softmax_grad },
	{ "capped softmax", 1, 2, 2, 1e4, INPUTS, 1, softmax, softmax_grad, kernel_softmax, kernel_softmax_grad },
};
enum { FUNCTIONS = sizeof(functions) / sizeof(functions[0]) };

static const struct function *
smooth(const struct function *f)
{
	static struct function g;

	g = *f;
	g.param = f->smooth;
	return &g;
}

int
main(void)
{
	const struct tc_kernels *list[8];
	size_t kinds;

	tc_rng_seed(&rng, 3);
	for (size_t i = 0; i < FUNCTIONS; i++)
		test_reference(smooth(&functions[i]));
	kinds = kinds_to_test(list, 8);
	for (size_t k = 0; k < kinds; k++) {
		for (size_t i = 0; i < FUNCTIONS; i++) {
			test_formula(list[k], &functions[i]);
			test_differences(list[k], smooth(&functions[i]));
		}
		test_slopes(list[k], "silu", silu, list[k]->silu_mul_grad);
		test_slopes(list[k], "gelu_tanh", gelu_tanh, list[k]->gelu_tanh_mul_grad);
		test_probabilities(list[k]);
		test_masked(list[k]);
		test_squares(list[k]);
	}
	return done_testing();
}
