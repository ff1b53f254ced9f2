#include "model/arch.h"
#include "model/rope.h"

#include <math.h>
#include <stdio.h>
#include <string.h>


/* Keys that parse_special() reads, and keys without influence on the numbers
 * of a forward pass: descriptions, training, sampling, output formats. */
static const char *const harmless_keys[] = {
	"model_type", "bos_token_id", "eos_token_id", "rope_theta", "rope_scaling", "rope_parameters",
	"rope_local_base_freq", "original_max_position_embeddings", "partial_rotary_factor",
	"sliding_window", "use_sliding_window", "layer_types", "sliding_window_pattern",
	"_sliding_window_pattern", "max_window_layers", "no_rope_layers", "no_rope_layer_interval",
	"pretraining_tp", "quantization_config", "auto_map",

	"_attn_implementation", "_attn_implementation_autoset", "_commit_hash", "_name_or_path",
	"architectures", "attn_implementation", "dtype", "finetuning_task", "is_llama_config",
	"max_sequence_length", "model_max_length", "n_ctx", "name_or_path",
	"tokenizer_class", "torch_dtype", "transformers.js_config", "transformers_version",
	"unsloth_fixed", "unsloth_version",

	"attention_dropout", "classifier_dropout", "embd_pdrop", "embedding_dropout", "gradient_checkpointing",
	"hidden_dropout", "hidden_dropout_prob", "id2label", "initializer_range", "label2id", "num_labels",
	"attn_pdrop", "problem_type", "reorder_and_upcast_attn", "resid_pdrop", "residual_dropout",
	"summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type",
	"summary_use_proj", "task_specific_params", "use_bfloat16",

	"bad_words_ids", "begin_suppress_tokens", "chunk_size_feed_forward", "diversity_penalty", "do_sample",
	"early_stopping", "encoder_no_repeat_ngram_size", "exponential_decay_length_penalty",
	"length_penalty", "max_length", "max_new_tokens", "min_length", "no_repeat_ngram_size",
	"num_beam_groups", "num_beams", "num_return_sequences", "output_attentions",
	"output_hidden_states", "output_scores", "prefix", "remove_invalid_values", "repetition_penalty",
	"return_dict", "return_dict_in_generate", "suppress_tokens", "temperature", "tf_legacy_loss",
	"tie_encoder_decoder", "tie_last_hidden_states", "top_k", "top_p", "torchscript", "typical_p",
	"use_cache",
	NULL
};

/* Keys that switch something on; harmless when they don't. */
static const char *const off_keys[] = {
	"add_cross_attention", "cross_attention_hidden_size", "is_decoder", "is_encoder_decoder",
	"mlp_bias", "per_layer_config", "pruned_heads", "rope_interleaved", "use_bidirectional_attention",
	"use_mrope",
	NULL
};

static bool
listed(const char *const *list, const char *s)
{
	for (; *list; list++)
		if (strcmp(*list, s) == 0)
			return true;
	return false;
}

static bool
is_off(const json_t *v)
{
	return json_is_null(v) || json_is_false(v) ||
	    (json_is_object(v) && json_object_size(v) == 0) ||
	    (json_is_array(v) && json_array_size(v) == 0);
}

/* Where a config wrote down the value that is the default anyway. */
static bool
is_one(const json_t *v)
{
	return json_is_number(v) && json_number_value(v) == 1.0;
}

static const struct tc_arch *
parse_arch(const json_t *o, struct tc_err *err)
{
	const char *name = json_string_value(json_object_get(o, "model_type"));
	const struct tc_arch *a = name ? tc_arch_find(name) : NULL;
	char all[256];

	if (a)
		return a;
	tc_arch_names(all, sizeof(all));
	if (name)
		tc_fail(err, TC_DATA, "config.json: the architecture '%s' is not supported (only %s)", name, all);
	else
		tc_fail(err, TC_DATA, "config.json: there is no model_type");
	return NULL;
}

static bool
has_key(const struct tc_arch *a, const char *name)
{
	for (int i = 0; i < 2; i++)
		for (const struct tc_key *k = a->keys[i]; k->name; k++)
			if (strcmp(k->name, name) == 0)
				return true;
	return false;
}

static bool
ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && strcmp(s + n - m, end) == 0;
}

static int
check_keys(const struct tc_arch *a, json_t *o, struct tc_err *err)
{
	const char *name;
	json_t *v;

	json_object_foreach(o, name, v) {
		if (has_key(a, name) || listed(harmless_keys, name) || ends_with(name, "_token_id"))
			continue;
		if (listed(off_keys, name) && is_off(v))
			continue;
		return tc_fail(err, TC_DATA, "config.json: '%s' is not %s here and may change the numbers",
		    name, listed(off_keys, name) ? "supported" : "known");
	}
	return 0;
}

static int
parse_act(const char *name, const json_t *v, enum tc_activation *act, struct tc_err *err)
{
	static const struct {
		const char *name;
		enum tc_activation act;
	} known[] = {
		{ "silu", TC_ACT_SILU },
		{ "swish", TC_ACT_SILU },
		{ "gelu_pytorch_tanh", TC_ACT_GELU_TANH },
		{ "gelu_new", TC_ACT_GELU_TANH },
		{ "gelu_fast", TC_ACT_GELU_TANH },
	};
	const char *s = json_string_value(v);

	if (!s)
		return tc_fail(err, TC_DATA, "config.json: %s must be a string", name);
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strcmp(known[i].name, s) == 0) {
			*act = known[i].act;
			return 0;
		}
	return tc_fail(err, TC_DATA, "config.json: %s '%s' is not supported (only silu and gelu with tanh)", name, s);
}

int
tc_config_real(const char *name, const json_t *v, double *x, struct tc_err *err)
{
	if (!json_is_number(v) || !(json_number_value(v) > 0) || !isfinite(json_number_value(v)))
		return tc_fail(err, TC_DATA, "config.json: %s must be a number above 0", name);
	*x = json_number_value(v);
	return 0;
}

static int
parse_size(const struct tc_key *k, const json_t *v, size_t *x, struct tc_err *err)
{
	if (json_is_null(v) && k->type == TC_KEY_SIZE_NULL) {
		*x = 0;
		return 0;
	}
	if (!json_is_integer(v) || json_integer_value(v) < 1)
		return tc_fail(err, TC_DATA, "config.json: %s must be a whole number above 0", k->name);
	if ((uint64_t)json_integer_value(v) > k->max)
		return tc_fail(err, TC_DATA, "config.json: %s is %lld, at most %zu is allowed", k->name,
		    (long long)json_integer_value(v), k->max);
	*x = (size_t)json_integer_value(v);
	return 0;
}

static int
parse_number(const struct tc_key *k, const json_t *v, double *x, struct tc_err *err)
{
	*x = 0;
	if (k->type == TC_KEY_REAL_NULL && json_is_null(v))
		return 0;
	if (k->type == TC_KEY_OFFSET && json_is_number(v) && json_number_value(v) == 0)
		return 0;
	return tc_config_real(k->name, v, x, err);
}

static int
parse_flag(const struct tc_key *k, const json_t *v, bool *flag, struct tc_err *err)
{
	if (!json_is_boolean(v))
		return tc_fail(err, TC_DATA, "config.json: %s must be true or false", k->name);
	if (k->type == TC_KEY_FLAG)
		*flag = json_is_true(v);
	else if (json_is_true(v) != (k->type == TC_KEY_TRUE))
		return tc_fail(err, TC_DATA, "config.json: %s is not supported", k->name);
	return 0;
}

static int
parse_key(struct tc_config *c, const struct tc_key *k, const json_t *o, struct tc_err *err)
{
	const json_t *v = json_object_get(o, k->name);
	void *field = (char *)c + k->offset;

	if (!v)
		return k->required ? tc_fail(err, TC_DATA, "config.json: %s is missing", k->name) : 0;
	switch (k->type) {
	case TC_KEY_SIZE:
	case TC_KEY_SIZE_NULL:
		return parse_size(k, v, field, err);
	case TC_KEY_REAL:
	case TC_KEY_REAL_NULL:
	case TC_KEY_OFFSET:
		return parse_number(k, v, field, err);
	case TC_KEY_ACT:
		return parse_act(k->name, v, field, err);
	case TC_KEY_FLAG:
	case TC_KEY_TRUE:
	case TC_KEY_FALSE:
		break;
	}
	return parse_flag(k, v, field, err);
}

static int
parse_keys(struct tc_config *c, const struct tc_arch *a, const json_t *o, struct tc_err *err)
{
	for (int i = 0; i < 2; i++)
		for (const struct tc_key *k = a->keys[i]; k->name; k++)
			if (parse_key(c, k, o, err) < 0)
				return -1;
	return 0;
}

/* Sizes that follow from others, and sizes that contradict each other. */
static int
derive_sizes(struct tc_config *c, const struct tc_arch *a, struct tc_err *err)
{
	if (c->head_dim == 0) {
		if (c->width % c->heads != 0)
			return tc_fail(err, TC_DATA, "config.json: hidden_size %zu is not a multiple of num_attention_heads %zu",
			    c->width, c->heads);
		c->head_dim = c->width / c->heads;
	}
	if (c->kv_heads == 0)
		c->kv_heads = c->heads;
	if (c->heads % c->kv_heads != 0)
		return tc_fail(err, TC_DATA, "config.json: num_attention_heads %zu is not a multiple of num_key_value_heads %zu",
		    c->heads, c->kv_heads);
	if (c->heads > TC_WIDTH_MAX / c->head_dim)
		return tc_fail(err, TC_DATA, "config.json: %zu heads of %zu are more than %zu", c->heads, c->head_dim, TC_WIDTH_MAX);
	if (c->ffn == 0)
		c->ffn = 4 * c->width;
	if (c->query_pre_attn == 0)
		c->query_pre_attn = (double)c->head_dim;
	c->query_scale = 1 / sqrt(c->query_pre_attn);
	if (a->embed_sqrt)
		c->embed_scale = sqrt((double)c->width);
	return 0;
}

/* Which layers slide: by layer_types, else by the architecture's rule. */
static int
parse_layer_types(struct tc_config *c, const json_t *types, struct tc_err *err)
{
	if (!json_is_array(types) || json_array_size(types) != c->layers)
		return tc_fail(err, TC_DATA, "config.json: layer_types must be an array of num_hidden_layers %zu strings", c->layers);
	for (size_t i = 0; i < c->layers; i++) {
		const char *s = json_string_value(json_array_get(types, i));

		if (s && strcmp(s, "sliding_attention") == 0)
			c->layer[i] |= TC_LAYER_SLIDING;
		else if (!s || strcmp(s, "full_attention") != 0)
			return tc_fail(err, TC_DATA, "config.json: layer_types: '%s' is not supported (only full_attention "
			    "and sliding_attention)", s ? s : "not a string");
	}
	return 0;
}

/* A window counts where the architecture always has one, or where
 * use_sliding_window switches it on. */
static int
parse_window(struct tc_config *c, const struct tc_arch *a, const json_t *o, struct tc_err *err)
{
	static const struct tc_key key = { "sliding_window", TC_KEY_SIZE_NULL, 0, false, (size_t)1 << 24 };
	const json_t *window = json_object_get(o, "sliding_window"), *use = json_object_get(o, "use_sliding_window");
	const json_t *types = json_object_get(o, "layer_types");
	bool on = use ? !is_off(use) : a->windowed;

	if (a->windowless && ((window && !is_off(window)) || (use && !is_off(use))))
		return tc_fail(err, TC_DATA, "config.json: sliding_window: a %s model has none", c->arch);
	if (window && parse_size(&key, is_off(window) ? json_null() : window, &c->window, err) < 0)
		return -1;
	if (types && !json_is_null(types)) {
		if (parse_layer_types(c, types, err) < 0)
			return -1;
	} else if (on && c->window) {
		for (size_t i = 0; i < c->layers; i++)
			if (!a->slides || a->slides(c, o, i))
				c->layer[i] |= TC_LAYER_SLIDING;
	}
	for (size_t i = 0; i < c->layers; i++)
		if (c->layer[i] & TC_LAYER_SLIDING && c->window == 0)
			return tc_fail(err, TC_DATA, "config.json: layer %zu slides, but there is no sliding_window", i);
	return 0;
}

/* SmolLM3: 1 rotates, 0 does not; without the list every n-th does not. */
static int
parse_no_rope(struct tc_config *c, const json_t *o, struct tc_err *err)
{
	const json_t *list = json_object_get(o, "no_rope_layers"), *every = json_object_get(o, "no_rope_layer_interval");
	size_t n = json_is_integer(every) && json_integer_value(every) > 0 ? (size_t)json_integer_value(every) : 4;
	bool given = list && !json_is_null(list);

	if (given && (!json_is_array(list) || json_array_size(list) != c->layers))
		return tc_fail(err, TC_DATA, "config.json: no_rope_layers must be an array of num_hidden_layers %zu numbers", c->layers);
	for (size_t i = 0; i < c->layers; i++) {
		const json_t *v = json_array_get(list, i);

		if (given && !json_is_integer(v))
			return tc_fail(err, TC_DATA, "config.json: no_rope_layers: item %zu is not 0 or 1", i);
		if (given ? json_integer_value(v) == 0 : (i + 1) % n == 0)
			c->layer[i] |= TC_LAYER_NO_ROPE;
	}
	return 0;
}

static int
parse_layers(struct tc_config *c, const struct tc_arch *a, const json_t *o, struct tc_err *err)
{
	if (parse_window(c, a, o, err) < 0)
		return -1;
	if (strcmp(c->arch, "smollm3") == 0 && parse_no_rope(c, o, err) < 0)
		return -1;
	for (size_t i = 0; a->no_rope && i < c->layers; i++)
		c->layer[i] |= TC_LAYER_NO_ROPE;
	return 0;
}

/* An id that the vocabulary lacks can neither be given nor generated. */
static int
parse_id(const struct tc_config *c, const char *name, const json_t *v, int64_t *id, struct tc_err *err)
{
	*id = -1;
	if (!v || json_is_null(v))
		return 0;
	if (!json_is_integer(v))
		return tc_fail(err, TC_DATA, "config.json: %s must be a whole number, a list of them or null", name);
	if (json_integer_value(v) >= 0 && (uint64_t)json_integer_value(v) < c->vocab)
		*id = json_integer_value(v);
	return 0;
}

static int
parse_eos(struct tc_config *c, const json_t *v, struct tc_err *err)
{
	size_t n = json_is_array(v) ? json_array_size(v) : 1;
	int64_t id;

	c->neos = 0;
	for (size_t i = 0; i < n; i++) {
		if (parse_id(c, "eos_token_id", json_is_array(v) ? json_array_get(v, i) : v, &id, err) < 0)
			return -1;
		if (id < 0)
			continue;
		if (c->neos == sizeof(c->eos) / sizeof(c->eos[0]))
			return tc_fail(err, TC_DATA, "config.json: more than %zu ids in eos_token_id", c->neos);
		c->eos[c->neos++] = id;
	}
	return 0;
}

static int
parse_ids(struct tc_config *c, const json_t *o, struct tc_err *err)
{
	const json_t *bos = json_object_get(o, "bos_token_id");
	const json_t *eos = json_object_get(o, "eos_token_id");

	/* A list for bos (rare): the first one counts. */
	if (json_is_array(bos))
		bos = json_array_get(bos, 0);
	if (json_object_get(o, "bos_token_id") && parse_id(c, "bos_token_id", bos, &c->bos, err) < 0)
		return -1;
	if (eos && parse_eos(c, eos, err) < 0)
		return -1;
	return 0;
}

/* Keys that say that the weights are not what this program would read. */
static int
check_refused(const json_t *o, struct tc_err *err)
{
	const json_t *v = json_object_get(o, "quantization_config");

	if (v && !is_off(v)) {
		const char *method = json_string_value(json_object_get(v, "quant_method"));

		return tc_fail(err, TC_DATA, "config.json: quantization_config: the checkpoint is already quantized%s%s; this is not supported",
		    method ? " by " : "", method ? method : "");
	}
	v = json_object_get(o, "auto_map");
	if (v && !is_off(v))
		return tc_fail(err, TC_DATA, "config.json: auto_map: a model with code of its own is not supported");
	v = json_object_get(o, "pretraining_tp");
	if (v && !is_off(v) && !is_one(v))
		return tc_fail(err, TC_DATA, "config.json: pretraining_tp: only 1 is supported");
	return 0;
}

static int
parse_object(struct tc_config *c, json_t *o, struct tc_err *err)
{
	const struct tc_arch *a;

	if (!json_is_object(o))
		return tc_fail(err, TC_DATA, "config.json: not a JSON object");
	a = parse_arch(o, err);
	if (!a)
		return -1;
	*c = a->defaults;
	if (check_refused(o, err) < 0 ||
	    check_keys(a, o, err) < 0 ||
	    parse_keys(c, a, o, err) < 0 ||
	    derive_sizes(c, a, err) < 0 ||
	    parse_layers(c, a, o, err) < 0 ||
	    tc_rope_parse(c, a, o, err) < 0 ||
	    parse_ids(c, o, err) < 0)
		return -1;
	return 0;
}

int
tc_config_parse(struct tc_config *c, const char *json, size_t n, struct tc_err *err)
{
	json_error_t e;
	json_t *o;
	int r;

	if (n > TC_CONFIG_BYTES_MAX)
		return tc_fail(err, TC_DATA, "config.json: %zu bytes, at most %zu are allowed", n, TC_CONFIG_BYTES_MAX);
	o = json_loadb(json, n, JSON_REJECT_DUPLICATES, &e);
	if (!o)
		return tc_fail(err, TC_DATA, "config.json: line %d: %s", e.line, e.text);
	r = parse_object(c, o, err);
	json_decref(o);
	return r;
}
