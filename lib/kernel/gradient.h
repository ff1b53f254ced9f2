/* gradient.h - gradients of norms, activations and softmax; part of body.h.
 *
 * A step takes k elements: W, which as a constant makes plain loads and stores
 * of load_tail() and store_tail(), or those that are left over.  It loads
 * before it stores, so that an output may lie where an input does. */

/* c: what x is multiplied by, s^2 mean(x w dy). */
ALWAYS_INLINE void
rms_norm_step(size_t k, float scale, float c, const float *x, const float *w, const float *dy, float *dx, float *dw)
{
	vf v = load_tail(x, k, 0), d = load_tail(dy, k, 0), g = load_tail(w, k, 0) * d;

	store_tail(dw, k, FMA(d, v * scale, load_tail(dw, k, 0)));
	store_tail(dx, k, FMA(v, splat(-c), g) * scale);
}

static void
rms_norm_grad(size_t n, const float *x, const float *w, float eps, const float *dy, float *dx, float *dw)
{
	const size_t b = BODY(n), t = TAIL(n);
	float scale = rms_scale(n, x, eps), c;
	vf dot = {0};

	for (size_t i = 0; i < b; i += W)
		dot = FMA(load(x + i), load(w + i) * load(dy + i), dot);
	dot = FMA(load_tail(x + b, t, 0), load_tail(w + b, t, 0) * load_tail(dy + b, t, 0), dot);
	c = sum_lanes(dot) / (float)n * scale * scale;
	for (size_t i = 0; i < b; i += W)
		rms_norm_step(W, scale, c, x + i, w + i, dy + i, dx + i, dw + i);
	rms_norm_step(t, scale, c, x + b, w + b, dy + b, dx + b, dw + b);
}

struct layer_sums {
	vf g, dot; /* of g, and of g (x - mean) */
};

ALWAYS_INLINE void
layer_norm_sum(size_t k, float mean, const float *x, const float *w, const float *dy, struct layer_sums *sums)
{
	vf g = load_tail(w, k, 0) * load_tail(dy, k, 0);

	sums->g += g;
	sums->dot = FMA(g, load_tail(x, k, 0) - mean, sums->dot);
}

/* shift: mean(g); c: s^2 mean(g (x - mean)). */
ALWAYS_INLINE void
layer_norm_step(size_t k, float mean, float scale, float shift, float c, const float *x, const float *w, const float *dy,
    float *dx, float *dw, float *db)
{
	vf v = load_tail(x, k, 0) - mean, d = load_tail(dy, k, 0), g = load_tail(w, k, 0) * d;

	store_tail(dw, k, FMA(d, v * scale, load_tail(dw, k, 0)));
	store_tail(db, k, load_tail(db, k, 0) + d);
	store_tail(dx, k, FMA(v, splat(-c), g - shift) * scale);
}

static void
layer_norm_grad(size_t n, const float *x, const float *w, float eps, const float *dy, float *dx, float *dw, float *db)
{
	const size_t b = BODY(n), t = TAIL(n);
	float mean = mean_of(n, x), scale = layer_scale(n, x, mean, eps), shift, c;
	struct layer_sums sums = {0};

	for (size_t i = 0; i < b; i += W)
		layer_norm_sum(W, mean, x + i, w + i, dy + i, &sums);
	layer_norm_sum(t, mean, x + b, w + b, dy + b, &sums);
	shift = sum_lanes(sums.g) / (float)n;
	c = sum_lanes(sums.dot) / (float)n * scale * scale;
	for (size_t i = 0; i < b; i += W)
		layer_norm_step(W, mean, scale, shift, c, x + i, w + i, dy + i, dx + i, dw + i, db + i);
	layer_norm_step(t, mean, scale, shift, c, x + b, w + b, dy + b, dx + b, dw + b, db + b);
}

struct act {
	vf y, slope;
};

/* y = x sigmoid(z) and its slope, sigmoid(z) (1 + x z' (1 - sigmoid(z))), of z
 * and x z'.  exp_of() is finite, and e times the sigmoid is 1 - sigmoid(z)
 * without what that would lose for large z. */
ALWAYS_INLINE struct act
act_grad_of(vf x, vf z, vf xdz)
{
	vf e = exp_of(-z), sigmoid = 1 / (1 + e);

	return (struct act){ x * sigmoid, sigmoid * FMA(xdz, e * sigmoid, splat(1)) };
}

ALWAYS_INLINE struct act
silu_grad_of(vf x)
{
	return act_grad_of(x, x, x);
}

ALWAYS_INLINE struct act
gelu_tanh_grad_of(vf x)
{
	return act_grad_of(x, gelu_tanh_z(x, GELU_CUBIC), gelu_tanh_z(x, 3 * GELU_CUBIC));
}

typedef struct act act_grad_fn(vf x);

ALWAYS_INLINE void
act_mul_step(act_grad_fn *act, size_t k, size_t i, const float *gate, const float *up, const float *dy, float *dgate,
    float *dup)
{
	struct act a = act(load_tail(gate + i, k, 0));
	vf d = load_tail(dy + i, k, 0), u;

	if (up) {
		u = load_tail(up + i, k, 0);
		store_tail(dup + i, k, d * a.y);
		d *= u;
	}
	store_tail(dgate + i, k, d * a.slope);
}

ALWAYS_INLINE void
act_mul_grad(act_grad_fn *act, size_t n, const float *gate, const float *up, const float *dy, float *dgate, float *dup)
{
	for (size_t i = 0; i < BODY(n); i += W)
		act_mul_step(act, W, i, gate, up, dy, dgate, dup);
	act_mul_step(act, TAIL(n), BODY(n), gate, up, dy, dgate, dup);
}

static void
silu_mul_grad(size_t n, const float *gate, const float *up, const float *dy, float *dgate, float *dup)
{
	act_mul_grad(silu_grad_of, n, gate, up, dy, dgate, dup);
}

static void
gelu_tanh_mul_grad(size_t n, const float *gate, const float *up, const float *dy, float *dgate, float *dup)
{
	act_mul_grad(gelu_tanh_grad_of, n, gate, up, dy, dgate, dup);
}

/* per_cap: 1 / cap, or 0. */
ALWAYS_INLINE void
softmax_step_grad(size_t k, size_t i, float max, float inv, float d, float per_cap, float *s, float *dp)
{
	vf score = load_tail(s + i, k, 0), capped = score * per_cap, p, ds;
	vi masked = score == splat(-INFINITY);

	p = choose(masked, splat(0), exp_of(score - max) * inv);
	store_tail(s + i, k, p);
	if (dp) {
		ds = p * (load_tail(dp + i, k, 0) - d) * FMA(-capped, capped, splat(1));
		store_tail(dp + i, k, choose(masked, splat(0), ds));
	}
}

static void
softmax_grad(size_t n, float max, float inv, float d, float cap, float *s, float *dp)
{
	float per_cap = cap > 0 ? 1 / cap : 0;

	for (size_t i = 0; i < BODY(n); i += W)
		softmax_step_grad(W, i, max, inv, d, per_cap, s, dp);
	softmax_step_grad(TAIL(n), BODY(n), max, inv, d, per_cap, s, dp);
}
