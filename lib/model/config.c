#include "model/config.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* A key of config.json that fills a field of struct tc_config.  A key that is
 * not there leaves the architecture's default. */
enum key_type {
	KEY_SIZE,       /* size_t, 1..max */
	KEY_SIZE_NULL,  /* the same; null is 0: derived from other sizes */
	KEY_REAL,       /* double, above 0 */
	KEY_FLAG,       /* bool */
	KEY_ACT         /* enum tc_activation */
};

struct key {
	const char *name;
	enum key_type type;
	size_t offset;
	bool required;
	size_t max;
};

#define FIELD(f) offsetof(struct tc_config, f)
#define POSITIONS_MAX ((size_t)1 << 24)

/* Names that most decoders share. */
static const struct key common_keys[] = {
	{ "vocab_size", KEY_SIZE, FIELD(vocab), true, TC_VOCAB_MAX },
	{ "hidden_size", KEY_SIZE, FIELD(width), true, TC_WIDTH_MAX },
	{ "num_hidden_layers", KEY_SIZE, FIELD(layers), true, TC_LAYERS_MAX },
	{ "num_attention_heads", KEY_SIZE, FIELD(heads), true, TC_WIDTH_MAX },
	{ "num_key_value_heads", KEY_SIZE_NULL, FIELD(kv_heads), false, TC_WIDTH_MAX },
	{ "head_dim", KEY_SIZE_NULL, FIELD(head_dim), false, TC_WIDTH_MAX },
	{ "intermediate_size", KEY_SIZE, FIELD(ffn), true, TC_WIDTH_MAX },
	{ "max_position_embeddings", KEY_SIZE, FIELD(positions), false, POSITIONS_MAX },
	{ "rms_norm_eps", KEY_REAL, FIELD(norm_eps), false, 0 },
	{ "hidden_act", KEY_ACT, FIELD(act), false, 0 },
	{ "tie_word_embeddings", KEY_FLAG, FIELD(tied), false, 0 },
	{ NULL, 0, 0, false, 0 }
};

static const struct key llama_keys[] = {
	{ "attention_bias", KEY_FLAG, FIELD(qkv_bias), false, 0 },
	{ "attention_bias", KEY_FLAG, FIELD(o_bias), false, 0 },
	{ "mlp_bias", KEY_FLAG, FIELD(mlp_bias), false, 0 },
	{ NULL, 0, 0, false, 0 }
};

static const struct key no_keys[] = {
	{ NULL, 0, 0, false, 0 }
};

/* A tensor of the model: its name (in a block: after the block's prefix), its
 * shape in the config's sizes, and the flag it depends on. */
enum dim { DIM_NONE, DIM_VOCAB, DIM_WIDTH, DIM_FFN, DIM_Q, DIM_KV };
enum where { BEFORE, BLOCK, AFTER };
enum when { ALWAYS, QKV_BIAS, O_BIAS, MLP_BIAS, UNTIED };

struct slot {
	enum where where;
	enum tc_role role;
	bool bias;
	const char *name;
	enum dim out, in;  /* a vector has no in */
	enum when when;
};

#define NO_SLOT { BEFORE, 0, false, NULL, DIM_NONE, DIM_NONE, ALWAYS }

/* In execution order. */
static const struct slot llama_slots[] = {
	{ BEFORE, TC_ROLE_EMBED, false, "model.embed_tokens.weight", DIM_VOCAB, DIM_WIDTH, ALWAYS },
	{ BLOCK, TC_ROLE_ATTN_NORM, false, "input_layernorm.weight", DIM_WIDTH, DIM_NONE, ALWAYS },
	{ BLOCK, TC_ROLE_Q, false, "self_attn.q_proj.weight", DIM_Q, DIM_WIDTH, ALWAYS },
	{ BLOCK, TC_ROLE_Q, true, "self_attn.q_proj.bias", DIM_Q, DIM_NONE, QKV_BIAS },
	{ BLOCK, TC_ROLE_K, false, "self_attn.k_proj.weight", DIM_KV, DIM_WIDTH, ALWAYS },
	{ BLOCK, TC_ROLE_K, true, "self_attn.k_proj.bias", DIM_KV, DIM_NONE, QKV_BIAS },
	{ BLOCK, TC_ROLE_V, false, "self_attn.v_proj.weight", DIM_KV, DIM_WIDTH, ALWAYS },
	{ BLOCK, TC_ROLE_V, true, "self_attn.v_proj.bias", DIM_KV, DIM_NONE, QKV_BIAS },
	{ BLOCK, TC_ROLE_O, false, "self_attn.o_proj.weight", DIM_WIDTH, DIM_Q, ALWAYS },
	{ BLOCK, TC_ROLE_O, true, "self_attn.o_proj.bias", DIM_WIDTH, DIM_NONE, O_BIAS },
	{ BLOCK, TC_ROLE_MLP_NORM, false, "post_attention_layernorm.weight", DIM_WIDTH, DIM_NONE, ALWAYS },
	{ BLOCK, TC_ROLE_GATE, false, "mlp.gate_proj.weight", DIM_FFN, DIM_WIDTH, ALWAYS },
	{ BLOCK, TC_ROLE_GATE, true, "mlp.gate_proj.bias", DIM_FFN, DIM_NONE, MLP_BIAS },
	{ BLOCK, TC_ROLE_UP, false, "mlp.up_proj.weight", DIM_FFN, DIM_WIDTH, ALWAYS },
	{ BLOCK, TC_ROLE_UP, true, "mlp.up_proj.bias", DIM_FFN, DIM_NONE, MLP_BIAS },
	{ BLOCK, TC_ROLE_DOWN, false, "mlp.down_proj.weight", DIM_WIDTH, DIM_FFN, ALWAYS },
	{ BLOCK, TC_ROLE_DOWN, true, "mlp.down_proj.bias", DIM_WIDTH, DIM_NONE, MLP_BIAS },
	{ AFTER, TC_ROLE_FINAL_NORM, false, "model.norm.weight", DIM_WIDTH, DIM_NONE, ALWAYS },
	{ AFTER, TC_ROLE_HEAD, false, "lm_head.weight", DIM_VOCAB, DIM_WIDTH, UNTIED },
	NO_SLOT
};

/* An architecture.  Defaults are those of transformers' configuration
 * classes; kv_heads 0 stands for heads, head_dim 0 for width / heads. */
struct arch {
	struct tc_config defaults;    /* .arch is the model_type */
	const struct key *keys[2];
	bool windowed;                /* a sliding_window counts without use_sliding_window */
	const char *block;            /* prefix of a block's tensors, before its number */
	const struct slot *slots;
};

static const struct arch arches[] = {
	{
		.defaults = { .arch = "llama", .positions = 2048, .norm_eps = 1e-6,
			.bos = 1, .eos = { 2 }, .neos = 1 },
		.keys = { common_keys, llama_keys },
		.windowed = true,
		.block = "model.layers.",
		.slots = llama_slots,
	},
	{
		.defaults = { .arch = "qwen2", .positions = 32768, .norm_eps = 1e-6,
			.kv_heads = 32, .qkv_bias = true, .bos = -1 },
		.keys = { common_keys, no_keys },
		.windowed = false,
		.block = "model.layers.",
		.slots = llama_slots,
	},
};
#define ARCHES (sizeof(arches) / sizeof(arches[0]))
#define ROPE_THETA_DEFAULT 10000.0

/* Keys that parse_special() reads, and keys without influence on the numbers
 * of a forward pass: descriptions, training, sampling, output formats. */
static const char *const harmless_keys[] = {
	"model_type", "bos_token_id", "eos_token_id", "rope_theta", "rope_scaling", "rope_parameters",
	"sliding_window", "use_sliding_window", "layer_types", "pretraining_tp", "quantization_config",
	"auto_map",

	"_attn_implementation", "_attn_implementation_autoset", "_commit_hash", "_name_or_path",
	"architectures", "attn_implementation", "dtype", "finetuning_task", "is_llama_config",
	"max_sequence_length", "max_window_layers", "model_max_length", "name_or_path",
	"tokenizer_class", "torch_dtype", "transformers.js_config", "transformers_version",
	"unsloth_fixed", "unsloth_version",

	"attention_dropout", "classifier_dropout", "embd_pdrop", "embedding_dropout", "gradient_checkpointing",
	"hidden_dropout", "hidden_dropout_prob", "id2label", "initializer_range", "label2id", "num_labels",
	"problem_type", "resid_pdrop", "residual_dropout", "task_specific_params", "use_bfloat16",

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
	"partial_rotary_factor", "per_layer_config", "pruned_heads", "rope_interleaved",
	"use_bidirectional_attention", "use_mrope",
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

static const struct arch *
find_arch(const char *name)
{
	for (size_t i = 0; i < ARCHES; i++)
		if (strcmp(arches[i].defaults.arch, name) == 0)
			return &arches[i];
	return NULL;
}

static const struct arch *
parse_arch(const json_t *o, struct tc_err *err)
{
	const char *name = json_string_value(json_object_get(o, "model_type"));
	const struct arch *a = name ? find_arch(name) : NULL;
	char all[256];
	size_t n = 0;

	if (a)
		return a;
	all[0] = '\0';
	for (size_t i = 0; i < ARCHES && n < sizeof(all); i++)
		n += (size_t)snprintf(all + n, sizeof(all) - n, "%s%s", i ? ", " : "", arches[i].defaults.arch);
	if (name)
		tc_fail(err, TC_DATA, "config.json: the architecture '%s' is not supported (only %s)", name, all);
	else
		tc_fail(err, TC_DATA, "config.json: there is no model_type");
	return NULL;
}

static bool
has_key(const struct arch *a, const char *name)
{
	for (int i = 0; i < 2; i++)
		for (const struct key *k = a->keys[i]; k->name; k++)
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
check_keys(const struct arch *a, json_t *o, struct tc_err *err)
{
	const char *name;
	json_t *v;

	json_object_foreach(o, name, v) {
		if (has_key(a, name) || listed(harmless_keys, name) || ends_with(name, "_token_id"))
			continue;
		if (listed(off_keys, name) && (is_off(v) || (strcmp(name, "partial_rotary_factor") == 0 && is_one(v))))
			continue;
		return tc_fail(err, TC_DATA, "config.json: '%s' is not %s here and may change the numbers",
		    name, listed(off_keys, name) ? "supported" : "known");
	}
	return 0;
}

static int
parse_act(const json_t *v, enum tc_activation *act, struct tc_err *err)
{
	const char *s = json_string_value(v);

	if (!s)
		return tc_fail(err, TC_DATA, "config.json: hidden_act must be a string");
	if (strcmp(s, "silu") != 0 && strcmp(s, "swish") != 0)
		return tc_fail(err, TC_DATA, "config.json: hidden_act '%s' is not supported (only silu)", s);
	*act = TC_ACT_SILU;
	return 0;
}

static int
parse_real(const char *name, const json_t *v, double *x, struct tc_err *err)
{
	if (!json_is_number(v) || !(json_number_value(v) > 0) || !isfinite(json_number_value(v)))
		return tc_fail(err, TC_DATA, "config.json: %s must be a number above 0", name);
	*x = json_number_value(v);
	return 0;
}

static int
parse_size(const struct key *k, const json_t *v, size_t *x, struct tc_err *err)
{
	if (json_is_null(v) && k->type == KEY_SIZE_NULL) {
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
parse_key(struct tc_config *c, const struct key *k, const json_t *o, struct tc_err *err)
{
	const json_t *v = json_object_get(o, k->name);
	void *field = (char *)c + k->offset;

	if (!v)
		return k->required ? tc_fail(err, TC_DATA, "config.json: %s is missing", k->name) : 0;
	switch (k->type) {
	case KEY_SIZE:
	case KEY_SIZE_NULL:
		return parse_size(k, v, field, err);
	case KEY_REAL:
		return parse_real(k->name, v, field, err);
	case KEY_ACT:
		return parse_act(v, field, err);
	case KEY_FLAG:
		break;
	}
	if (!json_is_boolean(v))
		return tc_fail(err, TC_DATA, "config.json: %s must be true or false", k->name);
	*(bool *)field = json_is_true(v);
	return 0;
}

static int
parse_keys(struct tc_config *c, const struct arch *a, const json_t *o, struct tc_err *err)
{
	for (int i = 0; i < 2; i++)
		for (const struct key *k = a->keys[i]; k->name; k++)
			if (parse_key(c, k, o, err) < 0)
				return -1;
	return 0;
}

/* Sizes that follow from others, and sizes that contradict each other. */
static int
derive_sizes(struct tc_config *c, struct tc_err *err)
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
	if (c->head_dim % 2 != 0)
		return tc_fail(err, TC_DATA, "config.json: the head dimension %zu is odd, rotary embedding needs pairs", c->head_dim);
	if (c->heads > TC_WIDTH_MAX / c->head_dim)
		return tc_fail(err, TC_DATA, "config.json: %zu heads of %zu are more than %zu", c->heads, c->head_dim, TC_WIDTH_MAX);
	return 0;
}

/* Numbers of the rope dictionary and the kinds that have them. */
static const struct {
	const char *name;
	size_t offset;
	unsigned kinds;
} rope_numbers[] = {
	{ "rope_theta", offsetof(struct tc_rope, theta), ~0u },
	{ "factor", offsetof(struct tc_rope, factor), 1u << TC_ROPE_LINEAR | 1u << TC_ROPE_LLAMA3 },
	{ "low_freq_factor", offsetof(struct tc_rope, low_freq), 1u << TC_ROPE_LLAMA3 },
	{ "high_freq_factor", offsetof(struct tc_rope, high_freq), 1u << TC_ROPE_LLAMA3 },
	{ "original_max_position_embeddings", offsetof(struct tc_rope, original_positions), 1u << TC_ROPE_LLAMA3 },
};
#define ROPE_NUMBERS (sizeof(rope_numbers) / sizeof(rope_numbers[0]))

static const char *const rope_kinds[] = {
	[TC_ROPE_DEFAULT] = "default", [TC_ROPE_LINEAR] = "linear", [TC_ROPE_LLAMA3] = "llama3"
};

static int
parse_rope_kind(struct tc_rope *r, const json_t *d, const char *where, struct tc_err *err)
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
	for (size_t i = 0; i < sizeof(rope_kinds) / sizeof(rope_kinds[0]); i++)
		if (strcmp(s, rope_kinds[i]) == 0) {
			r->kind = (enum tc_rope_kind)i;
			return 0;
		}
	return tc_fail(err, TC_DATA, "config.json: %s: rope_type '%s' is not supported (only default, linear, llama3)", where, s);
}

static int
parse_rope_number(struct tc_rope *r, const char *name, const json_t *v, const char *where, struct tc_err *err)
{
	for (size_t i = 0; i < ROPE_NUMBERS; i++)
		if (strcmp(rope_numbers[i].name, name) == 0 && rope_numbers[i].kinds >> r->kind & 1) {
			if (parse_real(name, v, (double *)((char *)r + rope_numbers[i].offset), err) < 0)
				return -1;
			return 0;
		}
	if (strcmp(name, "rope_type") == 0 || strcmp(name, "type") == 0)
		return 0;
	if (strcmp(name, "partial_rotary_factor") == 0 && is_one(v))
		return 0;
	return tc_fail(err, TC_DATA, "config.json: %s: '%s' is not known here for rope_type %s and may change the numbers",
	    where, name, rope_kinds[r->kind]);
}

static int
parse_rope_dict(struct tc_config *c, json_t *d, const char *where, struct tc_err *err)
{
	const char *name;
	json_t *v;

	if (!json_is_object(d))
		return tc_fail(err, TC_DATA, "config.json: %s must be an object", where);
	if (parse_rope_kind(&c->rope, d, where, err) < 0)
		return -1;
	if (c->rope.kind == TC_ROPE_LLAMA3)
		c->rope.original_positions = (double)c->positions;
	json_object_foreach(d, name, v)
		if (parse_rope_number(&c->rope, name, v, where, err) < 0)
			return -1;
	for (size_t i = 0; i < ROPE_NUMBERS; i++)
		if (rope_numbers[i].kinds >> c->rope.kind & 1 && *(double *)((char *)&c->rope + rope_numbers[i].offset) == 0)
			return tc_fail(err, TC_DATA, "config.json: %s: rope_type %s without %s", where,
			    rope_kinds[c->rope.kind], rope_numbers[i].name);
	if (c->rope.kind == TC_ROPE_LLAMA3 && c->rope.high_freq <= c->rope.low_freq)
		return tc_fail(err, TC_DATA, "config.json: %s: high_freq_factor must be above low_freq_factor", where);
	return 0;
}

/* Old configs have rope_theta and rope_scaling, new ones rope_parameters;
 * both at once are accepted where they agree. */
static int
parse_rope(struct tc_config *c, const json_t *o, struct tc_err *err)
{
	json_t *theta = json_object_get(o, "rope_theta");
	json_t *scaling = json_object_get(o, "rope_scaling");
	json_t *parameters = json_object_get(o, "rope_parameters");
	double old = ROPE_THETA_DEFAULT;

	if (theta && parse_real("rope_theta", theta, &old, err) < 0)
		return -1;
	c->rope = (struct tc_rope){ .kind = TC_ROPE_DEFAULT, .theta = old };
	if (json_is_null(scaling))
		scaling = NULL;
	if (json_is_null(parameters))
		parameters = NULL;
	if (scaling && parameters && !json_equal(scaling, parameters))
		return tc_fail(err, TC_DATA, "config.json: rope_scaling and rope_parameters contradict each other");
	if (parameters && parse_rope_dict(c, parameters, "rope_parameters", err) < 0)
		return -1;
	if (scaling && !parameters && parse_rope_dict(c, scaling, "rope_scaling", err) < 0)
		return -1;
	if (theta && c->rope.theta != old)
		return tc_fail(err, TC_DATA, "config.json: two values of rope_theta, %g and %g", old, c->rope.theta);
	return 0;
}

/* Attention over a window is not supported; a config may still carry its
 * size, switched off. */
static int
check_window(const struct tc_config *c, const struct arch *a, const json_t *o, struct tc_err *err)
{
	const json_t *window = json_object_get(o, "sliding_window");
	const json_t *use = json_object_get(o, "use_sliding_window");
	const json_t *types = json_object_get(o, "layer_types");
	bool on = use ? !is_off(use) : a->windowed;

	if (types && !json_is_null(types)) {
		if (!json_is_array(types) || json_array_size(types) != c->layers)
			return tc_fail(err, TC_DATA, "config.json: layer_types must be an array of num_hidden_layers %zu strings", c->layers);
		for (size_t i = 0; i < c->layers; i++) {
			const char *s = json_string_value(json_array_get(types, i));

			if (!s || strcmp(s, "full_attention") != 0)
				return tc_fail(err, TC_DATA, "config.json: layer_types: '%s' is not supported (only full_attention)",
				    s ? s : "not a string");
		}
		return 0;
	}
	/* qwen2 switched on without a size has the default size. */
	if (on && (window ? !is_off(window) : use != NULL))
		return tc_fail(err, TC_DATA, "config.json: sliding_window: attention over a window is not supported");
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
	const struct arch *a;

	if (!json_is_object(o))
		return tc_fail(err, TC_DATA, "config.json: not a JSON object");
	a = parse_arch(o, err);
	if (!a)
		return -1;
	*c = a->defaults;
	if (check_refused(o, err) < 0 ||
	    check_keys(a, o, err) < 0 ||
	    parse_keys(c, a, o, err) < 0 ||
	    derive_sizes(c, err) < 0 ||
	    parse_rope(c, o, err) < 0 ||
	    check_window(c, a, o, err) < 0 ||
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

/* ---- the tensors ---- */

static bool
present(const struct tc_config *c, const struct slot *s)
{
	switch (s->when) {
	case QKV_BIAS: return c->qkv_bias;
	case O_BIAS: return c->o_bias;
	case MLP_BIAS: return c->mlp_bias;
	case UNTIED: return !c->tied;
	case ALWAYS: break;
	}
	return true;
}

static uint64_t
dim_size(const struct tc_config *c, enum dim d)
{
	switch (d) {
	case DIM_VOCAB: return c->vocab;
	case DIM_WIDTH: return c->width;
	case DIM_FFN: return c->ffn;
	case DIM_Q: return c->heads * c->head_dim;
	case DIM_KV: return c->kv_heads * c->head_dim;
	case DIM_NONE: break;
	}
	return 0;
}

static void
fill(const struct tc_config *c, const struct arch *a, const struct slot *s, size_t block, struct tc_tensor *t)
{
	memset(t, 0, sizeof(*t));
	if (s->where == BLOCK)
		snprintf(t->name, sizeof(t->name), "%s%zu.%s", a->block, block, s->name);
	else
		snprintf(t->name, sizeof(t->name), "%s", s->name);
	t->role = s->role;
	t->bias = s->bias;
	t->block = s->where == BLOCK ? (int)block : -1;
	t->ndim = s->in == DIM_NONE ? 1 : 2;
	t->shape[0] = dim_size(c, s->out);
	t->shape[1] = s->in == DIM_NONE ? 0 : dim_size(c, s->in);
}

/* The i-th slot of those at a place that this config has; NULL past the last
 * (then *count is how many there are). */
static const struct slot *
nth_slot(const struct tc_config *c, const struct arch *a, enum where where, size_t i, size_t *count)
{
	size_t n = 0;

	for (const struct slot *s = a->slots; s->name; s++) {
		if (s->where != where || !present(c, s))
			continue;
		if (n++ == i)
			return s;
	}
	*count = n;
	return NULL;
}

int
tc_config_tensor(const struct tc_config *c, size_t i, struct tc_tensor *t)
{
	const struct arch *a = find_arch(c->arch);
	const struct slot *s;
	size_t n = 1, block = 0;

	if (!a)
		return 0;
	s = nth_slot(c, a, BEFORE, i, &n);
	if (!s) {
		i -= n;
		nth_slot(c, a, BLOCK, SIZE_MAX, &n);
		if (i < n * c->layers) {
			block = i / n;
			s = nth_slot(c, a, BLOCK, i % n, &n);
		} else {
			s = nth_slot(c, a, AFTER, i - n * c->layers, &n);
		}
	}
	if (!s)
		return 0;
	fill(c, a, s, block, t);
	return 1;
}

uint64_t
tc_config_parameters(const struct tc_config *c)
{
	struct tc_tensor t;
	uint64_t sum = 0;

	for (size_t i = 0; tc_config_tensor(c, i, &t); i++)
		sum += t.shape[0] * (t.ndim == 2 ? t.shape[1] : 1);
	return sum;
}

/* "model.layers.12.mlp.up_proj.weight" -> 12 and the rest; false for other names. */
static bool
split_name(const struct arch *a, const char *name, size_t *block, const char **rest)
{
	size_t n = strlen(a->block);
	size_t b = 0, digits;

	if (strncmp(name, a->block, n) != 0)
		return false;
	name += n;
	digits = strspn(name, "0123456789");
	if (digits == 0 || digits > 6 || name[digits] != '.' || (name[0] == '0' && digits > 1))
		return false;
	for (size_t i = 0; i < digits; i++)
		b = b * 10 + (size_t)(name[i] - '0');
	*block = b;
	*rest = name + digits + 1;
	return true;
}

int
tc_config_find(const struct tc_config *c, const char *name, struct tc_tensor *t)
{
	const struct arch *a = find_arch(c->arch);
	const char *rest = name;
	size_t block = 0;
	bool inside;

	if (!a)
		return 0;
	inside = split_name(a, name, &block, &rest);
	if (inside && block >= c->layers)
		return 0;
	for (const struct slot *s = a->slots; s->name; s++)
		if ((s->where == BLOCK) == inside && present(c, s) && strcmp(s->name, rest) == 0) {
			fill(c, a, s, block, t);
			return 1;
		}
	return 0;
}

static void
print_shape(const struct tc_tensor *t, char *buf, size_t size)
{
	size_t n = 0;

	buf[0] = '\0';
	for (int i = 0; i < t->ndim && i < TC_DIMS_MAX && n < size; i++)
		n += (size_t)snprintf(buf + n, size - n, "%s%llu", i ? " x " : "", (unsigned long long)t->shape[i]);
}

int
tc_config_check(const struct tc_config *c, const struct tc_tensor *t, struct tc_err *err)
{
	struct tc_tensor want;
	char got_shape[96], want_shape[96];
	bool same;

	if (!tc_config_find(c, t->name, &want))
		return tc_fail(err, TC_DATA, "tensor '%s': a %s model of this config has no such tensor", t->name, c->arch);
	if (t->role != want.role || t->bias != want.bias || t->block != want.block)
		return tc_fail(err, TC_DATA, "tensor '%s': is %s%s of block %d, the config says %s%s of block %d", t->name,
		    tc_role_names[t->role], t->bias ? " bias" : "", t->block,
		    tc_role_names[want.role], want.bias ? " bias" : "", want.block);
	same = t->ndim == want.ndim;
	for (int i = 0; same && i < want.ndim; i++)
		same = t->shape[i] == want.shape[i];
	if (same)
		return 0;
	print_shape(t, got_shape, sizeof(got_shape));
	print_shape(&want, want_shape, sizeof(want_shape));
	return tc_fail(err, TC_DATA, "tensor '%s': has shape %s, the config says %s", t->name, got_shape, want_shape);
}
