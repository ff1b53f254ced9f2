/* Hyper-parameters of a GGUF file are keys "ARCH.NAME"; config.json has its
 * own names for the same numbers.  A row each says which; a key under ARCH
 * that no row knows is refused, for it may change the numbers. */
#include "model/gguf_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "model/config.h"

enum key_type { KEY_UINT, KEY_REAL };

struct tc_gguf_key {
	const char *gguf, *hf;
	enum key_type type;
	bool required;
};

static const struct tc_gguf_key common_keys[] = {
	{ "embedding_length", "hidden_size", KEY_UINT, true },
	{ "block_count", "num_hidden_layers", KEY_UINT, true },
	{ "attention.head_count", "num_attention_heads", KEY_UINT, true },
	{ "attention.key_length", "head_dim", KEY_UINT, false },
	{ "feed_forward_length", "intermediate_size", KEY_UINT, true },
	{ "context_length", "max_position_embeddings", KEY_UINT, true },
	{ "attention.layer_norm_rms_epsilon", "rms_norm_eps", KEY_REAL, true },
	{ 0 }
};

static const struct tc_gguf_key window_keys[] = {
	{ "attention.sliding_window", "sliding_window", KEY_UINT, false },
	{ 0 }
};

static const struct tc_gguf_key gemma_keys[] = {
	{ "attention.sliding_window", "sliding_window", KEY_UINT, true },
	{ "attention.sliding_window_pattern", "sliding_window_pattern", KEY_UINT, false },
	{ "attn_logit_softcapping", "attn_logit_softcapping", KEY_REAL, false },
	{ "final_logit_softcapping", "final_logit_softcapping", KEY_REAL, false },
	{ "rope.freq_base_swa", "rope_local_base_freq", KEY_REAL, false },
	{ 0 }
};

static const struct tc_gguf_key gpt2_keys[] = {
	{ "embedding_length", "n_embd", KEY_UINT, true },
	{ "block_count", "n_layer", KEY_UINT, true },
	{ "attention.head_count", "n_head", KEY_UINT, true },
	{ "feed_forward_length", "n_inner", KEY_UINT, true },
	{ "context_length", "n_positions", KEY_UINT, true },
	{ "attention.layer_norm_epsilon", "layer_norm_epsilon", KEY_REAL, true },
	{ 0 }
};

/* Keys that put_specials() reads or that repeat what tensors say. */
static const char *const other_keys[] = {
	"vocab_size", "attention.head_count_kv", "attention.value_length", "rope.dimension_count", "rope.freq_base",
	"rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length",
	"rope.scaling.attn_factor", "rope.scaling.finetuned", "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow",
};

#define SILU "hidden_act", "silu"

static const struct tc_gguf_arch arches[] = {
	{ "llama", "llama", true, false, { common_keys }, SILU },
	{ "qwen2", "qwen2", false, false, { common_keys }, SILU },
	{ "qwen3", "qwen3", false, false, { common_keys }, SILU },
	{ "gemma2", "gemma2", false, true, { common_keys, gemma_keys }, "hidden_activation", "gelu_pytorch_tanh" },
	{ "gemma3", "gemma3_text", false, true, { common_keys, gemma_keys }, "hidden_activation", "gelu_pytorch_tanh" },
	{ "gpt2", "gpt2", false, false, { gpt2_keys }, "activation_function", "gelu_new" },
	{ "phi3", "phi3", false, false, { common_keys, window_keys }, SILU },
	{ "olmo2", "olmo2", false, false, { common_keys }, SILU },
	{ "smollm3", "smollm3", true, false, { common_keys }, SILU },
};
#define ARCHES (sizeof(arches) / sizeof(arches[0]))

int
tc_gguf_arch(const struct tc_gguf *g, const struct tc_gguf_arch **a, struct tc_err *err)
{
	struct tc_gguf_string s = {0};
	char all[256];
	size_t n = 0;

	if (tc_gguf_string(g, "general.architecture", &s, err) < 0)
		return -1;
	for (size_t i = 0; i < ARCHES; i++)
		if (strlen(arches[i].name) == s.n && memcmp(arches[i].name, s.p, s.n) == 0) {
			*a = &arches[i];
			return 0;
		}
	if (!s.p)
		return tc_fail(err, TC_DATA, "there is no general.architecture");
	for (size_t i = 0; i < ARCHES; i++)
		n += (size_t)snprintf(all + n, sizeof(all) - n, "%s%s", i ? ", " : "", arches[i].name);
	return tc_fail(err, TC_DATA, "the architecture '%.*s' is not supported (only %s)", (int)tc_min(s.n, 64), s.p, all);
}

static const char *
full_key(char key[TC_GGUF_KEY_MAX], const struct tc_gguf_arch *a, const char *name)
{
	snprintf(key, TC_GGUF_KEY_MAX, "%s.%s", a->name, name);
	return key;
}

static int
get_uint(const struct tc_gguf *g, const struct tc_gguf_arch *a, const char *name, uint64_t *x, struct tc_err *err)
{
	char key[TC_GGUF_KEY_MAX];

	return tc_gguf_uint(g, full_key(key, a, name), x, err);
}

static int
get_real(const struct tc_gguf *g, const struct tc_gguf_arch *a, const char *name, double *x, struct tc_err *err)
{
	char key[TC_GGUF_KEY_MAX];
	int r = tc_gguf_real(g, full_key(key, a, name), x, err);

	if (r > 0 && !isfinite(*x))
		return tc_fail(err, TC_DATA, "%s is not a finite number", key);
	return r;
}

static int
put(json_t *o, const char *name, json_t *v, struct tc_err *err)
{
	return json_object_set_new(o, name, v) < 0 ? tc_fail_nomem(err, 0) : 0;
}

static json_t *
uint_json(uint64_t x)
{
	return json_integer(x > INT64_MAX ? INT64_MAX : (json_int_t)x);
}

/* The file has f32 where config.json had a short decimal: the shortest one
 * that is the same f32. */
static json_t *
real_json(double x)
{
	char s[32];

	for (int digits = 1; (double)(float)x == x && digits <= 9; digits++) {
		snprintf(s, sizeof(s), "%.*g", digits, x);
		if ((double)strtof(s, NULL) == x)
			return json_real(strtod(s, NULL));
	}
	return json_real(x);
}

static int
put_key(json_t *o, const struct tc_gguf *g, const struct tc_gguf_arch *a, const struct tc_gguf_key *k, struct tc_err *err)
{
	uint64_t u = 0;
	double x = 0;
	int r = k->type == KEY_UINT ? get_uint(g, a, k->gguf, &u, err) : get_real(g, a, k->gguf, &x, err);

	if (r < 0)
		return -1;
	if (r == 0)
		return k->required ? tc_fail(err, TC_DATA, "%s.%s is missing", a->name, k->gguf) : 0;
	/* An optional size of 0 (Phi-4's sliding window) says that there is none. */
	if (k->type == KEY_UINT && u == 0 && !k->required)
		return 0;
	return put(o, k->hf, k->type == KEY_UINT ? uint_json(u) : real_json(x), err);
}

static bool
known(const struct tc_gguf_arch *a, const char *name)
{
	for (int i = 0; i < 3 && a->keys[i]; i++)
		for (const struct tc_gguf_key *k = a->keys[i]; k->gguf; k++)
			if (strcmp(k->gguf, name) == 0)
				return true;
	for (size_t i = 0; i < sizeof(other_keys) / sizeof(other_keys[0]); i++)
		if (strcmp(other_keys[i], name) == 0)
			return true;
	return false;
}

static int
check_known(const struct tc_gguf *g, const struct tc_gguf_arch *a, struct tc_err *err)
{
	size_t n = strlen(a->name);

	for (size_t i = 0; i < g->nvalues; i++) {
		const char *key = g->value[i].key;

		if (strncmp(key, a->name, n) == 0 && key[n] == '.' && !known(a, key + n + 1))
			return tc_fail(err, TC_DATA, "%s is not known here and may change the numbers", key);
	}
	return 0;
}

/* ---- rope ---- */

/* Llama 3's scaling is stored as its effect, a factor for each pair.  Of the
 * four parameters all known models have three in common; the fourth is the
 * largest factor, and the others must follow from it. */
static int
put_llama3(json_t *o, const struct tc_gguf_tensor *t, double theta, uint64_t head_dim, struct tc_err *err)
{
	const double low = 1, high = 4, positions = 8192, pi = 3.14159265358979323846, tolerance = 1e-5;
	double factor = 1;
	float f;

	if (t->type->id != 0 || t->ndim != 1 || t->shape[0] != head_dim / 2)
		return tc_fail(err, TC_DATA, "rope_freqs.weight does not hold %llu f32 numbers", (unsigned long long)(head_dim / 2));
	for (size_t i = 0; i < t->shape[0]; i++) {
		memcpy(&f, t->data + 4 * i, sizeof(f));
		factor = (double)f > factor ? (double)f : factor;
	}
	for (size_t i = 0; i < t->shape[0]; i++) {
		double length = 2 * pi * tc_pow(theta, 2 * (double)i / (double)head_dim);
		double smooth = (positions / length - low) / (high - low), want;

		smooth = smooth < 0 ? 0 : smooth > 1 ? 1 : smooth;
		want = 1 / ((1 - smooth) / factor + smooth);
		memcpy(&f, t->data + 4 * i, sizeof(f));
		if (!(fabs((double)f - want) <= tolerance * want))
			return tc_fail(err, TC_DATA, "rope_freqs.weight holds factors that are not Llama 3's: not supported");
	}
	return put(o, "rope_scaling", json_pack("{s:s,s:o,s:f,s:f,s:I}", "rope_type", "llama3", "factor", real_json(factor),
	    "low_freq_factor", low, "high_freq_factor", high, "original_max_position_embeddings", (json_int_t)positions), err);
}

static json_t *
factors_json(const struct tc_gguf_tensor *t)
{
	json_t *list = json_array();
	float f;

	for (size_t i = 0; i < t->shape[0]; i++) {
		memcpy(&f, t->data + 4 * i, sizeof(f));
		if (json_array_append_new(list, real_json((double)f)) < 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

/* Phi-3: a factor for each pair, for short and for long texts. */
static int
put_longrope(json_t *o, const struct tc_gguf *g, const struct tc_gguf_arch *a, struct tc_err *err)
{
	const struct tc_gguf_tensor *l = tc_gguf_find_tensor(g, "rope_factors_long.weight");
	const struct tc_gguf_tensor *s = tc_gguf_find_tensor(g, "rope_factors_short.weight");
	uint64_t positions = 0;
	int r = get_uint(g, a, "rope.scaling.original_context_length", &positions, err);

	if (r < 0)
		return -1;
	if (!l || !s || r == 0 || l->type->id != 0 || s->type->id != 0 || l->ndim != 1 || s->ndim != 1 ||
	    l->shape[0] > TC_ROPE_PAIRS_MAX || s->shape[0] > TC_ROPE_PAIRS_MAX)
		return tc_fail(err, TC_DATA, "longrope needs two lists of f32 factors and %s.rope.scaling.original_context_length", a->name);
	if (put(o, "original_max_position_embeddings", uint_json(positions), err) < 0)
		return -1;
	return put(o, "rope_scaling", json_pack("{s:s,s:o,s:o}", "type", "longrope", "short_factor", factors_json(s),
	    "long_factor", factors_json(l)), err);
}

/* A kind with numbers only. */
static int
put_scaling(json_t *o, const struct tc_gguf *g, const struct tc_gguf_arch *a, const char *kind, struct tc_err *err)
{
	static const struct tc_gguf_key keys[] = {
		{ "rope.scaling.factor", "factor", KEY_REAL, true },
		{ "rope.scaling.original_context_length", "original_max_position_embeddings", KEY_UINT, false },
		{ "rope.scaling.yarn_beta_fast", "beta_fast", KEY_REAL, false },
		{ "rope.scaling.yarn_beta_slow", "beta_slow", KEY_REAL, false },
	};
	json_t *d = json_pack("{s:s}", "rope_type", kind);
	size_t n = strcmp(kind, "linear") == 0 ? 1 : sizeof(keys) / sizeof(keys[0]);
	double attn = 1;

	if (put(o, "rope_scaling", d, err) < 0 || get_real(g, a, "rope.scaling.attn_factor", &attn, err) < 0)
		return -1;
	if (attn != 1)
		return tc_fail(err, TC_DATA, "%s.rope.scaling.attn_factor %g is not supported", a->name, attn);
	for (size_t i = 0; i < n; i++)
		if (put_key(d, g, a, &keys[i], err) < 0)
			return -1;
	return 0;
}

static bool
is(const struct tc_gguf_string *s, const char *word)
{
	return s->n == strlen(word) && memcmp(s->p, word, s->n) == 0;
}

static int
put_rope(json_t *o, const struct tc_gguf *g, const struct tc_gguf_arch *a, uint64_t head_dim, struct tc_err *err)
{
	const struct tc_gguf_tensor *freqs = tc_gguf_find_tensor(g, "rope_freqs.weight");
	struct tc_gguf_string kind = { "none", 4 };
	uint64_t dims = head_dim;
	double theta = 10000;
	char key[TC_GGUF_KEY_MAX];

	if (get_real(g, a, "rope.freq_base", &theta, err) < 0 || get_uint(g, a, "rope.dimension_count", &dims, err) < 0 ||
	    tc_gguf_string(g, full_key(key, a, "rope.scaling.type"), &kind, err) < 0 ||
	    put(o, "rope_theta", real_json(theta), err) < 0)
		return -1;
	if (dims != head_dim && put(o, "partial_rotary_factor", json_real((double)dims / (double)head_dim), err) < 0)
		return -1;
	if (freqs)
		return put_llama3(o, freqs, theta, head_dim, err);
	if (is(&kind, "longrope") || tc_gguf_find_tensor(g, "rope_factors_long.weight"))
		return put_longrope(o, g, a, err);
	if (is(&kind, "linear") || is(&kind, "yarn"))
		return put_scaling(o, g, a, is(&kind, "linear") ? "linear" : "yarn", err);
	if (is(&kind, "none"))
		return 0;
	return tc_fail(err, TC_DATA, "%s '%.*s' is not supported", key, (int)tc_min(kind.n, 64), kind.p);
}

/* ---- what is not one key to one ---- */

static int
put_heads(json_t *o, const struct tc_gguf *g, const struct tc_gguf_arch *a, uint64_t *head_dim, struct tc_err *err)
{
	uint64_t width = 0, heads = 0, kv = 0, values = 0;

	if (get_uint(g, a, "embedding_length", &width, err) < 0 || get_uint(g, a, "attention.head_count", &heads, err) < 0)
		return -1;
	if (heads == 0)
		return tc_fail(err, TC_DATA, "%s.attention.head_count is 0", a->name);
	kv = heads;
	*head_dim = width / heads;
	if (get_uint(g, a, "attention.head_count_kv", &kv, err) < 0 || get_uint(g, a, "attention.key_length", head_dim, err) < 0)
		return -1;
	values = *head_dim;
	if (get_uint(g, a, "attention.value_length", &values, err) < 0)
		return -1;
	if (values != *head_dim || *head_dim == 0)
		return tc_fail(err, TC_DATA, "heads of %llu for keys and %llu for values are not supported",
		    (unsigned long long)*head_dim, (unsigned long long)values);
	if (strcmp(a->hf, "gpt2") != 0)
		return put(o, "num_key_value_heads", uint_json(kv), err);
	return kv == heads ? 0 : tc_fail(err, TC_DATA, "gpt2 with fewer heads for keys is not supported");
}

/* Scores are scaled by 1/sqrt(head_dim) in all sizes but the largest, which
 * have 1/sqrt(width / heads); the file does not say it. */
static int
put_query_scale(json_t *o, const struct tc_gguf *g, const struct tc_gguf_arch *a, uint64_t head_dim, struct tc_err *err)
{
	uint64_t layers = 0, width = 0, heads = 1, largest = strcmp(a->name, "gemma2") == 0 ? 46 : 62;

	if (get_uint(g, a, "block_count", &layers, err) < 0 || get_uint(g, a, "embedding_length", &width, err) < 0 ||
	    get_uint(g, a, "attention.head_count", &heads, err) < 0)
		return -1;
	return put(o, "query_pre_attn_scalar", uint_json(layers == largest ? width / heads : head_dim), err);
}

static int
put_flags(json_t *o, const struct tc_gguf *g, const struct tc_gguf_arch *a, struct tc_err *err)
{
	bool gpt2 = strcmp(a->hf, "gpt2") == 0, qwen2 = strcmp(a->hf, "qwen2") == 0;

	if (put(o, "tie_word_embeddings", json_boolean(!tc_gguf_find_tensor(g, "output.weight")), err) < 0)
		return -1;
	if (!gpt2 && !qwen2 && tc_gguf_find_tensor(g, "blk.0.attn_q.bias") && put(o, "attention_bias", json_true(), err) < 0)
		return -1;
	if (!gpt2 && tc_gguf_find_tensor(g, "blk.0.ffn_up.bias") && put(o, "mlp_bias", json_true(), err) < 0)
		return -1;
	return a->whole_norms ? put(o, "tc_norm_offset", json_integer(0), err) : 0;
}

static int
put_specials(json_t *o, const struct tc_gguf *g, const struct tc_gguf_arch *a, struct tc_err *err)
{
	const struct tc_gguf_tensor *embed = tc_gguf_find_tensor(g, "token_embd.weight");
	uint64_t head_dim = 0;

	if (!embed || embed->ndim != 2)
		return tc_fail(err, TC_DATA, "tensor 'token_embd.weight' is missing");
	if (put(o, "vocab_size", uint_json(embed->shape[1]), err) < 0 ||
	    put(o, a->act_key, json_string(a->act), err) < 0 ||
	    put_heads(o, g, a, &head_dim, err) < 0 ||
	    put_flags(o, g, a, err) < 0 ||
	    tc_gguf_put_ends(g, o, err) < 0)
		return -1;
	if (a->whole_norms && put_query_scale(o, g, a, head_dim, err) < 0)
		return -1;
	return strcmp(a->hf, "gpt2") == 0 ? 0 : put_rope(o, g, a, head_dim, err);
}

int
tc_gguf_put_json(struct tc_buf *b, json_t *o, struct tc_err *err)
{
	char *text = o ? json_dumps(o, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
	int r = text ? tc_buf_append(b, text, strlen(text), err) : tc_fail_nomem(err, 0);

	free(text);
	json_decref(o);
	return r;
}

int
tc_gguf_config(const struct tc_gguf *g, const struct tc_gguf_arch *a, struct tc_buf *json, struct tc_err *err)
{
	json_t *o = json_pack("{s:s}", "model_type", a->hf);

	if (!o)
		return tc_fail_nomem(err, 0);
	if (check_known(g, a, err) < 0)
		goto fail;
	for (int i = 0; i < 3 && a->keys[i]; i++)
		for (const struct tc_gguf_key *k = a->keys[i]; k->gguf; k++)
			if (put_key(o, g, a, k, err) < 0)
				goto fail;
	if (put_specials(o, g, a, err) < 0)
		goto fail;
	return tc_gguf_put_json(json, o, err);
fail:
	json_decref(o);
	return -1;
}
