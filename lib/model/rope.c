#include "model/rope.h"

#include <math.h>
#include <string.h>

#include "base/math.h"

#define THETA_DEFAULT 10000.0
#define LOCAL_THETA_DEFAULT 10000.0
#define GEMMA3_THETA_DEFAULT 1000000.0
#define SMOLLM3_THETA_DEFAULT 2000000.0
#define TWO_PI 6.283185307179586

/* Numbers of the rope dictionary, the kinds that know them, and those that
 * need them. */
#define ALL (~0u)
#define LINEAR (1u << TC_ROPE_LINEAR)
#define LLAMA3 (1u << TC_ROPE_LLAMA3)
#define YARN (1u << TC_ROPE_YARN)
#define LONGROPE (1u << TC_ROPE_LONGROPE)
static const struct {
	const char *name;
	size_t offset;
	unsigned known, needed;
} numbers[] = {
	{ "rope_theta", offsetof(struct tc_rope, theta), ALL, ALL },
	{ "factor", offsetof(struct tc_rope, factor), LINEAR | LLAMA3 | YARN | LONGROPE, LINEAR | LLAMA3 | YARN },
	{ "low_freq_factor", offsetof(struct tc_rope, low_freq), LLAMA3, LLAMA3 },
	{ "high_freq_factor", offsetof(struct tc_rope, high_freq), LLAMA3, LLAMA3 },
	{ "original_max_position_embeddings", offsetof(struct tc_rope, original_positions),
	  ALL, LLAMA3 | YARN | LONGROPE },
	{ "beta_fast", offsetof(struct tc_rope, beta_fast), YARN, YARN },
	{ "beta_slow", offsetof(struct tc_rope, beta_slow), YARN, YARN },
	{ "attention_factor", offsetof(struct tc_rope, attention_factor), YARN | LONGROPE, 0 },
};
#define NUMBERS (sizeof(numbers) / sizeof(numbers[0]))

static const struct {
	const char *name;
	enum tc_rope_kind kind;
} kinds[] = {
	{ "default", TC_ROPE_DEFAULT },
	{ "linear", TC_ROPE_LINEAR },
	{ "llama3", TC_ROPE_LLAMA3 },
	{ "yarn", TC_ROPE_YARN },
	{ "longrope", TC_ROPE_LONGROPE },
	{ "su", TC_ROPE_LONGROPE },
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static const char *
kind_name(const struct tc_rope *r)
{
	for (size_t i = 0; i < KINDS; i++)
		if (kinds[i].kind == r->kind)
			return kinds[i].name;
	return "";
}

static int
parse_kind(struct tc_rope *r, const json_t *d, const char *where, struct tc_err *err)
{
	const json_t *v = json_object_get(d, "rope_type");
	const char *s;

	if (!v)
		v = json_object_get(d, "type");
	if (!v)
		return 0;
	s = json_string_value(v);
	if (!s)
		return tc_fail(err, TC_DATA, "config.json: %s: rope_type must be a string", where);
	for (size_t i = 0; i < KINDS; i++)
		if (strcmp(s, kinds[i].name) == 0) {
			r->kind = kinds[i].kind;
			return 0;
		}
	return tc_fail(err, TC_DATA, "config.json: %s: rope_type '%s' is not supported (only default, linear, llama3, "
	    "yarn, longrope)", where, s);
}

/* longrope: a factor for every pair. */
static int
parse_factors(const char *name, const json_t *v, double *out, struct tc_err *err)
{
	size_t n = json_array_size(v);

	if (!json_is_array(v) || n == 0 || n > TC_ROPE_PAIRS_MAX)
		return tc_fail(err, TC_DATA, "config.json: %s must be an array of 1 to %d numbers", name, TC_ROPE_PAIRS_MAX);
	for (size_t i = 0; i < n; i++)
		if (tc_config_real(name, json_array_get(v, i), &out[i], err) < 0)
			return -1;
	return 0;
}

static int
parse_share(struct tc_config *c, struct tc_rope *r, const json_t *v, struct tc_err *err)
{
	double share;

	if (tc_config_real("partial_rotary_factor", v, &share, err) < 0)
		return -1;
	if (share > 1)
		return tc_fail(err, TC_DATA, "config.json: partial_rotary_factor %g is above 1", share);
	r->dims = (size_t)((double)c->head_dim * share);
	return 0;
}

static int
parse_entry(struct tc_config *c, struct tc_rope *r, const char *name, const json_t *v, const char *where, struct tc_err *err)
{
	for (size_t i = 0; i < NUMBERS; i++)
		if (strcmp(numbers[i].name, name) == 0 && numbers[i].known >> r->kind & 1) {
			if (json_is_null(v) && !(numbers[i].needed >> r->kind & 1))
				return 0;
			return tc_config_real(name, v, (double *)((char *)r + numbers[i].offset), err);
		}
	if (strcmp(name, "rope_type") == 0 || strcmp(name, "type") == 0)
		return 0;
	if (strcmp(name, "partial_rotary_factor") == 0)
		return parse_share(c, r, v, err);
	if (r->kind == TC_ROPE_LONGROPE && strcmp(name, "short_factor") == 0)
		return parse_factors(name, v, r->short_factor, err);
	if (r->kind == TC_ROPE_LONGROPE && strcmp(name, "long_factor") == 0)
		return parse_factors(name, v, r->long_factor, err);
	if (r->kind == TC_ROPE_YARN && strcmp(name, "truncate") == 0 && json_is_boolean(v)) {
		r->truncate = json_is_true(v);
		return 0;
	}
	return tc_fail(err, TC_DATA, "config.json: %s: '%s' is not known here for rope_type %s and may change the numbers",
	    where, name, kind_name(r));
}

static int
check_dict(const struct tc_config *c, struct tc_rope *r, const char *where, struct tc_err *err)
{
	for (size_t i = 0; i < NUMBERS; i++)
		if (numbers[i].needed >> r->kind & 1 && *(double *)((char *)r + numbers[i].offset) == 0)
			return tc_fail(err, TC_DATA, "config.json: %s: rope_type %s without %s", where, kind_name(r), numbers[i].name);
	if (r->kind == TC_ROPE_LLAMA3 && r->high_freq <= r->low_freq)
		return tc_fail(err, TC_DATA, "config.json: %s: high_freq_factor must be above low_freq_factor", where);
	if (r->kind == TC_ROPE_YARN && (r->theta <= 1 || r->beta_fast <= r->beta_slow))
		return tc_fail(err, TC_DATA, "config.json: %s: yarn needs rope_theta above 1 and beta_fast above beta_slow", where);
	if (r->dims == 0 || r->dims % 2 != 0)
		return tc_fail(err, TC_DATA, "config.json: %zu of %zu dimensions would be rotated; rotary embedding needs pairs",
		    r->dims, c->head_dim);
	for (size_t i = 0; r->kind == TC_ROPE_LONGROPE && i < r->dims / 2; i++)
		if (i >= TC_ROPE_PAIRS_MAX || r->short_factor[i] == 0 || r->long_factor[i] == 0)
			return tc_fail(err, TC_DATA, "config.json: %s: longrope needs a short and a long factor for each of %zu pairs",
			    where, r->dims / 2);
	/* Without a factor longrope's is the stretch of the positions. */
	if (r->kind == TC_ROPE_LONGROPE && r->factor == 0)
		r->factor = (double)c->positions / r->original_positions;
	return 0;
}

static int
parse_dict(struct tc_config *c, struct tc_rope *r, const json_t *o, json_t *d, const char *where, struct tc_err *err)
{
	const json_t *original = json_object_get(o, "original_max_position_embeddings");
	const char *name;
	json_t *v;

	if (d && !json_is_object(d))
		return tc_fail(err, TC_DATA, "config.json: %s must be an object", where);
	if (d && parse_kind(r, d, where, err) < 0)
		return -1;
	r->original_positions = (double)c->positions;
	if (original && !json_is_null(original) &&
	    tc_config_real("original_max_position_embeddings", original, &r->original_positions, err) < 0)
		return -1;
	r->beta_fast = 32;
	r->beta_slow = 1;
	r->truncate = true;
	json_object_foreach(d, name, v)
		if (parse_entry(c, r, name, v, where, err) < 0)
			return -1;
	return check_dict(c, r, where, err);
}

static double
default_theta(const struct tc_config *c)
{
	if (strcmp(c->arch, "gemma3_text") == 0)
		return GEMMA3_THETA_DEFAULT;
	return strcmp(c->arch, "smollm3") == 0 ? SMOLLM3_THETA_DEFAULT : THETA_DEFAULT;
}

/* Gemma 3: sliding layers have a rope of their own, without scaling. */
static int
parse_local(struct tc_config *c, const json_t *o, json_t *both, struct tc_err *err)
{
	const json_t *base = json_object_get(o, "rope_local_base_freq");

	if (strcmp(c->arch, "gemma3_text") != 0)
		return 0;
	c->local_rope = (struct tc_rope){ .theta = LOCAL_THETA_DEFAULT, .dims = c->head_dim };
	if (base && tc_config_real("rope_local_base_freq", base, &c->local_rope.theta, err) < 0)
		return -1;
	for (size_t i = 0; i < c->layers; i++)
		if (c->layer[i] & TC_LAYER_SLIDING)
			c->layer[i] |= TC_LAYER_LOCAL_ROPE;
	return parse_dict(c, &c->local_rope, o, json_object_get(both, "sliding_attention"), "rope_parameters", err);
}

/* Old configs have rope_theta and rope_scaling, new ones rope_parameters;
 * both at once are accepted where they agree. */
int
tc_rope_parse(struct tc_config *c, const struct tc_arch *a, const json_t *o, struct tc_err *err)
{
	json_t *theta = json_object_get(o, "rope_theta"), *scaling = json_object_get(o, "rope_scaling");
	json_t *parameters = json_object_get(o, "rope_parameters"), *both = NULL;
	json_t *share = json_object_get(o, "partial_rotary_factor");
	double old = default_theta(c);

	if (a->no_rope)
		return 0;
	if (theta && tc_config_real("rope_theta", theta, &old, err) < 0)
		return -1;
	c->rope = (struct tc_rope){ .theta = old, .dims = c->head_dim };
	if (share && !json_is_null(share) && parse_share(c, &c->rope, share, err) < 0)
		return -1;
	scaling = json_is_null(scaling) ? NULL : scaling;
	parameters = json_is_null(parameters) ? NULL : parameters;
	if (json_is_object(json_object_get(parameters, "full_attention"))) {
		both = parameters;
		parameters = json_object_get(both, "full_attention");
	}
	if (scaling && parameters && !json_equal(scaling, parameters))
		return tc_fail(err, TC_DATA, "config.json: rope_scaling and rope_parameters contradict each other");
	if (parse_dict(c, &c->rope, o, parameters ? parameters : scaling, parameters ? "rope_parameters" : "rope_scaling", err) < 0)
		return -1;
	if (theta && c->rope.theta != old)
		return tc_fail(err, TC_DATA, "config.json: two values of rope_theta, %g and %g", old, c->rope.theta);
	return parse_local(c, o, both, err);
}

/* ---- angles ---- */

/* Llama 3 (Meta, 2024): long wavelengths are divided by the factor, short
 * ones stay, those between are interpolated. */
static double
llama3_frequency(const struct tc_rope *r, double f)
{
	double wavelength = TWO_PI / f;
	double share = (r->original_positions / wavelength - r->low_freq) / (r->high_freq - r->low_freq);

	if (wavelength > r->original_positions / r->low_freq)
		return f / r->factor;
	if (wavelength < r->original_positions / r->high_freq)
		return f;
	return (1 - share) * f / r->factor + share * f;
}

/* The pair that turns `turns` times over the original positions. */
static double
yarn_pair(const struct tc_rope *r, double turns)
{
	return (double)r->dims * tc_log(r->original_positions / (turns * TWO_PI)) / (2 * tc_log(r->theta));
}

/* YaRN (Peng et al., 2023): fast pairs stay, slow ones are interpolated, a
 * ramp between. */
static double
yarn_frequency(const struct tc_rope *r, double f, size_t i)
{
	double low = yarn_pair(r, r->beta_fast), high = yarn_pair(r, r->beta_slow), ramp;

	if (r->truncate) {
		low = floor(low);
		high = ceil(high);
	}
	low = fmax(low, 0);
	high = fmin(high, (double)r->dims - 1);
	if (low == high)
		high += 0.001;
	ramp = fmin(fmax(((double)i - low) / (high - low), 0), 1);
	return f / r->factor * ramp + f * (1 - ramp);
}

double
tc_rope_frequency(const struct tc_rope *r, size_t i, size_t length)
{
	double f = 1 / tc_pow(r->theta, 2.0 * (double)i / (double)r->dims);

	switch (r->kind) {
	case TC_ROPE_LINEAR:
		return f / r->factor;
	case TC_ROPE_LLAMA3:
		return llama3_frequency(r, f);
	case TC_ROPE_YARN:
		return yarn_frequency(r, f, i);
	case TC_ROPE_LONGROPE:
		return f / ((double)length > r->original_positions ? r->long_factor[i] : r->short_factor[i]);
	default:
		return f;
	}
}

double
tc_rope_attention_factor(const struct tc_rope *r)
{
	if (r->attention_factor > 0)
		return r->attention_factor;
	if (r->kind == TC_ROPE_YARN && r->factor > 1)
		return 0.1 * tc_log(r->factor) + 1;
	if (r->kind == TC_ROPE_LONGROPE && r->factor > 1)
		return sqrt(1 + tc_log(r->factor) / tc_log(r->original_positions));
	return 1;
}
