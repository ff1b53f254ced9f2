/* arch.c - what each architecture's configs and tensors are called, with the
 * defaults of transformers' configuration classes. */
#include "model/arch.h"

#include <stdio.h>
#include <string.h>

#define FIELD(f) offsetof(struct tc_config, f)
#define POSITIONS_MAX ((size_t)1 << 24)

/* Names that most decoders share. */
static const struct tc_key common_keys[] = {
	{ "vocab_size", TC_KEY_SIZE, FIELD(vocab), true, TC_VOCAB_MAX },
	{ "hidden_size", TC_KEY_SIZE, FIELD(width), true, TC_WIDTH_MAX },
	{ "num_hidden_layers", TC_KEY_SIZE, FIELD(layers), true, TC_LAYERS_MAX },
	{ "num_attention_heads", TC_KEY_SIZE, FIELD(heads), true, TC_WIDTH_MAX },
	{ "num_key_value_heads", TC_KEY_SIZE_NULL, FIELD(kv_heads), false, TC_WIDTH_MAX },
	{ "head_dim", TC_KEY_SIZE_NULL, FIELD(head_dim), false, TC_WIDTH_MAX },
	{ "intermediate_size", TC_KEY_SIZE, FIELD(ffn), true, TC_WIDTH_MAX },
	{ "max_position_embeddings", TC_KEY_SIZE, FIELD(positions), false, POSITIONS_MAX },
	{ "rms_norm_eps", TC_KEY_REAL, FIELD(norm_eps), false, 0 },
	{ "hidden_act", TC_KEY_ACT, FIELD(act), false, 0 },
	{ "tie_word_embeddings", TC_KEY_FLAG, FIELD(tied), false, 0 },
	/* Ours, for checkpoints whose norms were stored with the 1 added. */
	{ "tc_norm_offset", TC_KEY_OFFSET, FIELD(norm_offset), false, 0 },
	{ 0 }
};

static const struct tc_key no_keys[] = {
	{ 0 }
};

static const struct tc_key llama_keys[] = {
	{ "attention_bias", TC_KEY_FLAG, FIELD(qkv_bias), false, 0 },
	{ "attention_bias", TC_KEY_FLAG, FIELD(o_bias), false, 0 },
	{ "mlp_bias", TC_KEY_FLAG, FIELD(mlp_bias), false, 0 },
	{ 0 }
};

static const struct tc_key attention_bias_keys[] = {
	{ "attention_bias", TC_KEY_FLAG, FIELD(qkv_bias), false, 0 },
	{ "attention_bias", TC_KEY_FLAG, FIELD(o_bias), false, 0 },
	{ 0 }
};

static const struct tc_key gemma_keys[] = {
	{ "attention_bias", TC_KEY_FLAG, FIELD(qkv_bias), false, 0 },
	{ "attention_bias", TC_KEY_FLAG, FIELD(o_bias), false, 0 },
	{ "hidden_activation", TC_KEY_ACT, FIELD(act), false, 0 },
	{ "query_pre_attn_scalar", TC_KEY_REAL, FIELD(query_pre_attn), false, 0 },
	{ "attn_logit_softcapping", TC_KEY_REAL_NULL, FIELD(attn_cap), false, 0 },
	{ "final_logit_softcapping", TC_KEY_REAL_NULL, FIELD(final_cap), false, 0 },
	{ 0 }
};

static const struct tc_key gpt2_keys[] = {
	{ "vocab_size", TC_KEY_SIZE, FIELD(vocab), false, TC_VOCAB_MAX },
	{ "n_embd", TC_KEY_SIZE, FIELD(width), false, TC_WIDTH_MAX },
	{ "n_layer", TC_KEY_SIZE, FIELD(layers), false, TC_LAYERS_MAX },
	{ "n_head", TC_KEY_SIZE, FIELD(heads), false, TC_WIDTH_MAX },
	{ "n_inner", TC_KEY_SIZE_NULL, FIELD(ffn), false, TC_WIDTH_MAX },
	{ "n_positions", TC_KEY_SIZE, FIELD(positions), false, POSITIONS_MAX },
	{ "layer_norm_epsilon", TC_KEY_REAL, FIELD(norm_eps), false, 0 },
	{ "activation_function", TC_KEY_ACT, FIELD(act), false, 0 },
	{ "tie_word_embeddings", TC_KEY_FLAG, FIELD(tied), false, 0 },
	{ "scale_attn_weights", TC_KEY_TRUE, 0, false, 0 },
	{ "scale_attn_by_inverse_layer_idx", TC_KEY_FALSE, 0, false, 0 },
	{ 0 }
};

/* One table serves all that descend from Llama: what a config lacks, it does
 * not have.  A post_attention_layernorm is the MLP's norm where norms stand
 * only in front, the attention's own where they also stand behind. */
static const struct tc_slot llama_slots[] = {
	{ TC_BEFORE, TC_ROLE_EMBED, false, "model.embed_tokens.weight", TC_DIM_VOCAB, TC_DIM_WIDTH, TC_ALWAYS, NULL },
	{ TC_BLOCK, TC_ROLE_ATTN_NORM, false, "input_layernorm.weight", TC_DIM_WIDTH, TC_DIM_NONE, TC_IF_PRE_NORM, NULL },
	{ TC_BLOCK, TC_ROLE_Q, false, "self_attn.q_proj.weight", TC_DIM_Q, TC_DIM_WIDTH, TC_ALWAYS, NULL },
	{ TC_BLOCK, TC_ROLE_Q, true, "self_attn.q_proj.bias", TC_DIM_Q, TC_DIM_NONE, TC_IF_QKV_BIAS, NULL },
	{ TC_BLOCK, TC_ROLE_K, false, "self_attn.k_proj.weight", TC_DIM_KV, TC_DIM_WIDTH, TC_ALWAYS, NULL },
	{ TC_BLOCK, TC_ROLE_K, true, "self_attn.k_proj.bias", TC_DIM_KV, TC_DIM_NONE, TC_IF_QKV_BIAS, NULL },
	{ TC_BLOCK, TC_ROLE_V, false, "self_attn.v_proj.weight", TC_DIM_KV, TC_DIM_WIDTH, TC_ALWAYS, NULL },
	{ TC_BLOCK, TC_ROLE_V, true, "self_attn.v_proj.bias", TC_DIM_KV, TC_DIM_NONE, TC_IF_QKV_BIAS, NULL },
	{ TC_BLOCK, TC_ROLE_Q_NORM, false, "self_attn.q_norm.weight", TC_DIM_Q_NORM, TC_DIM_NONE, TC_IF_QK_NORM, NULL },
	{ TC_BLOCK, TC_ROLE_K_NORM, false, "self_attn.k_norm.weight", TC_DIM_K_NORM, TC_DIM_NONE, TC_IF_QK_NORM, NULL },
	{ TC_BLOCK, TC_ROLE_O, false, "self_attn.o_proj.weight", TC_DIM_WIDTH, TC_DIM_Q, TC_ALWAYS, NULL },
	{ TC_BLOCK, TC_ROLE_O, true, "self_attn.o_proj.bias", TC_DIM_WIDTH, TC_DIM_NONE, TC_IF_O_BIAS, NULL },
	{ TC_BLOCK, TC_ROLE_ATTN_POST_NORM, false, "post_attention_layernorm.weight", TC_DIM_WIDTH, TC_DIM_NONE, TC_IF_POST_NORM, NULL },
	{ TC_BLOCK, TC_ROLE_MLP_NORM, false, "post_attention_layernorm.weight", TC_DIM_WIDTH, TC_DIM_NONE, TC_IF_PRE_ONLY, NULL },
	{ TC_BLOCK, TC_ROLE_MLP_NORM, false, "pre_feedforward_layernorm.weight", TC_DIM_WIDTH, TC_DIM_NONE, TC_IF_PRE_AND_POST, NULL },
	{ TC_BLOCK, TC_ROLE_GATE, false, "mlp.gate_proj.weight", TC_DIM_FFN, TC_DIM_WIDTH, TC_ALWAYS, NULL },
	{ TC_BLOCK, TC_ROLE_GATE, true, "mlp.gate_proj.bias", TC_DIM_FFN, TC_DIM_NONE, TC_IF_MLP_BIAS, NULL },
	{ TC_BLOCK, TC_ROLE_UP, false, "mlp.up_proj.weight", TC_DIM_FFN, TC_DIM_WIDTH, TC_ALWAYS, NULL },
	{ TC_BLOCK, TC_ROLE_UP, true, "mlp.up_proj.bias", TC_DIM_FFN, TC_DIM_NONE, TC_IF_MLP_BIAS, NULL },
	{ TC_BLOCK, TC_ROLE_DOWN, false, "mlp.down_proj.weight", TC_DIM_WIDTH, TC_DIM_FFN, TC_ALWAYS, NULL },
	{ TC_BLOCK, TC_ROLE_DOWN, true, "mlp.down_proj.bias", TC_DIM_WIDTH, TC_DIM_NONE, TC_IF_MLP_BIAS, NULL },
	{ TC_BLOCK, TC_ROLE_MLP_POST_NORM, false, "post_feedforward_layernorm.weight", TC_DIM_WIDTH, TC_DIM_NONE, TC_IF_POST_NORM, NULL },
	{ TC_AFTER, TC_ROLE_FINAL_NORM, false, "model.norm.weight", TC_DIM_WIDTH, TC_DIM_NONE, TC_ALWAYS, NULL },
	{ TC_AFTER, TC_ROLE_HEAD, false, "lm_head.weight", TC_DIM_VOCAB, TC_DIM_WIDTH, TC_IF_UNTIED, NULL },
	{ 0 }
};

#define PHI3_QKV "self_attn.qkv_proj.weight"
#define PHI3_GATE_UP "mlp.gate_up_proj.weight"
static const struct tc_slot phi3_slots[] = {
	{ TC_BEFORE, TC_ROLE_EMBED, false, "model.embed_tokens.weight", TC_DIM_VOCAB, TC_DIM_WIDTH, TC_ALWAYS, NULL },
	{ TC_BLOCK, TC_ROLE_ATTN_NORM, false, "input_layernorm.weight", TC_DIM_WIDTH, TC_DIM_NONE, TC_ALWAYS, NULL },
	{ TC_BLOCK, TC_ROLE_Q, false, "self_attn.qkv_proj.q.weight", TC_DIM_Q, TC_DIM_WIDTH, TC_ALWAYS, PHI3_QKV },
	{ TC_BLOCK, TC_ROLE_K, false, "self_attn.qkv_proj.k.weight", TC_DIM_KV, TC_DIM_WIDTH, TC_ALWAYS, PHI3_QKV },
	{ TC_BLOCK, TC_ROLE_V, false, "self_attn.qkv_proj.v.weight", TC_DIM_KV, TC_DIM_WIDTH, TC_ALWAYS, PHI3_QKV },
	{ TC_BLOCK, TC_ROLE_O, false, "self_attn.o_proj.weight", TC_DIM_WIDTH, TC_DIM_Q, TC_ALWAYS, NULL },
	{ TC_BLOCK, TC_ROLE_MLP_NORM, false, "post_attention_layernorm.weight", TC_DIM_WIDTH, TC_DIM_NONE, TC_ALWAYS, NULL },
	{ TC_BLOCK, TC_ROLE_GATE, false, "mlp.gate_up_proj.gate.weight", TC_DIM_FFN, TC_DIM_WIDTH, TC_ALWAYS, PHI3_GATE_UP },
	{ TC_BLOCK, TC_ROLE_UP, false, "mlp.gate_up_proj.up.weight", TC_DIM_FFN, TC_DIM_WIDTH, TC_ALWAYS, PHI3_GATE_UP },
	{ TC_BLOCK, TC_ROLE_DOWN, false, "mlp.down_proj.weight", TC_DIM_WIDTH, TC_DIM_FFN, TC_ALWAYS, NULL },
	{ TC_AFTER, TC_ROLE_FINAL_NORM, false, "model.norm.weight", TC_DIM_WIDTH, TC_DIM_NONE, TC_ALWAYS, NULL },
	{ TC_AFTER, TC_ROLE_HEAD, false, "lm_head.weight", TC_DIM_VOCAB, TC_DIM_WIDTH, TC_IF_UNTIED, NULL },
	{ 0 }
};

static const struct tc_slot gpt2_slots[] = {
	{ TC_BEFORE, TC_ROLE_EMBED, false, "transformer.wte.weight", TC_DIM_VOCAB, TC_DIM_WIDTH, TC_ALWAYS, NULL },
	{ TC_BEFORE, TC_ROLE_POS, false, "transformer.wpe.weight", TC_DIM_POSITIONS, TC_DIM_WIDTH, TC_ALWAYS, NULL },
	{ TC_BLOCK, TC_ROLE_ATTN_NORM, false, "ln_1.weight", TC_DIM_WIDTH, TC_DIM_NONE, TC_ALWAYS, NULL },
	{ TC_BLOCK, TC_ROLE_ATTN_NORM, true, "ln_1.bias", TC_DIM_WIDTH, TC_DIM_NONE, TC_ALWAYS, NULL },
	{ TC_BLOCK, TC_ROLE_Q, false, "attn.c_attn.q.weight", TC_DIM_Q, TC_DIM_WIDTH, TC_ALWAYS, "attn.c_attn.weight" },
	{ TC_BLOCK, TC_ROLE_Q, true, "attn.c_attn.q.bias", TC_DIM_Q, TC_DIM_NONE, TC_ALWAYS, "attn.c_attn.bias" },
	{ TC_BLOCK, TC_ROLE_K, false, "attn.c_attn.k.weight", TC_DIM_KV, TC_DIM_WIDTH, TC_ALWAYS, "attn.c_attn.weight" },
	{ TC_BLOCK, TC_ROLE_K, true, "attn.c_attn.k.bias", TC_DIM_KV, TC_DIM_NONE, TC_ALWAYS, "attn.c_attn.bias" },
	{ TC_BLOCK, TC_ROLE_V, false, "attn.c_attn.v.weight", TC_DIM_KV, TC_DIM_WIDTH, TC_ALWAYS, "attn.c_attn.weight" },
	{ TC_BLOCK, TC_ROLE_V, true, "attn.c_attn.v.bias", TC_DIM_KV, TC_DIM_NONE, TC_ALWAYS, "attn.c_attn.bias" },
	{ TC_BLOCK, TC_ROLE_O, false, "attn.c_proj.weight", TC_DIM_WIDTH, TC_DIM_Q, TC_ALWAYS, NULL },
	{ TC_BLOCK, TC_ROLE_O, true, "attn.c_proj.bias", TC_DIM_WIDTH, TC_DIM_NONE, TC_ALWAYS, NULL },
	{ TC_BLOCK, TC_ROLE_MLP_NORM, false, "ln_2.weight", TC_DIM_WIDTH, TC_DIM_NONE, TC_ALWAYS, NULL },
	{ TC_BLOCK, TC_ROLE_MLP_NORM, true, "ln_2.bias", TC_DIM_WIDTH, TC_DIM_NONE, TC_ALWAYS, NULL },
	{ TC_BLOCK, TC_ROLE_UP, false, "mlp.c_fc.weight", TC_DIM_FFN, TC_DIM_WIDTH, TC_ALWAYS, NULL },
	{ TC_BLOCK, TC_ROLE_UP, true, "mlp.c_fc.bias", TC_DIM_FFN, TC_DIM_NONE, TC_ALWAYS, NULL },
	{ TC_BLOCK, TC_ROLE_DOWN, false, "mlp.c_proj.weight", TC_DIM_WIDTH, TC_DIM_FFN, TC_ALWAYS, NULL },
	{ TC_BLOCK, TC_ROLE_DOWN, true, "mlp.c_proj.bias", TC_DIM_WIDTH, TC_DIM_NONE, TC_ALWAYS, NULL },
	{ TC_AFTER, TC_ROLE_FINAL_NORM, false, "transformer.ln_f.weight", TC_DIM_WIDTH, TC_DIM_NONE, TC_ALWAYS, NULL },
	{ TC_AFTER, TC_ROLE_FINAL_NORM, true, "transformer.ln_f.bias", TC_DIM_WIDTH, TC_DIM_NONE, TC_ALWAYS, NULL },
	{ TC_AFTER, TC_ROLE_HEAD, false, "lm_head.weight", TC_DIM_VOCAB, TC_DIM_WIDTH, TC_IF_UNTIED, NULL },
	{ 0 }
};

/* Every other layer, from the first. */
static bool
slides_alternately(const struct tc_config *c, const json_t *o, size_t layer)
{
	(void)c;
	(void)o;
	return layer % 2 == 0;
}

/* All but every n-th. */
static bool
slides_by_pattern(const struct tc_config *c, const json_t *o, size_t layer)
{
	json_int_t n = json_integer_value(json_object_get(o, "sliding_window_pattern"));

	(void)c;
	return (layer + 1) % (size_t)(n > 0 ? n : 6) != 0;
}

/* Those from max_window_layers on. */
static bool
slides_late(const struct tc_config *c, const json_t *o, size_t layer)
{
	const json_t *first = json_object_get(o, "max_window_layers");

	(void)c;
	return layer >= (size_t)(json_is_integer(first) ? json_integer_value(first) : 28);
}

#define LLAMA_LIKE .prefix = "model.", .block = "model.layers.", .slots = llama_slots
#define LLAMA_BLOCK .pre_norm = true, .gated = true, .embed_scale = 1

static const struct tc_arch arches[] = {
	{
		.defaults = { .arch = "llama", LLAMA_BLOCK, .positions = 2048, .norm_eps = 1e-6,
			.bos = 1, .eos = { 2 }, .neos = 1 },
		.keys = { common_keys, llama_keys }, LLAMA_LIKE, .windowless = true,
	},
	{
		.defaults = { .arch = "mistral", LLAMA_BLOCK, .positions = 131072, .norm_eps = 1e-6,
			.kv_heads = 8, .window = 4096, .bos = 1, .eos = { 2 }, .neos = 1 },
		.keys = { common_keys, no_keys }, LLAMA_LIKE, .windowed = true,
	},
	{
		.defaults = { .arch = "qwen2", LLAMA_BLOCK, .positions = 32768, .norm_eps = 1e-6,
			.kv_heads = 32, .qkv_bias = true, .window = 4096, .bos = -1 },
		.keys = { common_keys, no_keys }, LLAMA_LIKE, .slides = slides_late,
	},
	{
		.defaults = { .arch = "qwen3", LLAMA_BLOCK, .positions = 32768, .norm_eps = 1e-6,
			.kv_heads = 32, .head_dim = 128, .qk_norm = TC_QK_NORM_HEAD, .window = 4096, .bos = -1 },
		.keys = { common_keys, attention_bias_keys }, LLAMA_LIKE, .slides = slides_late,
	},
	{
		.defaults = { .arch = "smollm3", LLAMA_BLOCK, .positions = 32768, .norm_eps = 1e-6,
			.kv_heads = 4, .tied = true, .bos = 128000, .eos = { 128001 }, .neos = 1 },
		.keys = { common_keys, llama_keys }, LLAMA_LIKE, .windowless = true,
	},
	{
		.defaults = { .arch = "gemma2", .pre_norm = true, .post_norm = true, .gated = true,
			.act = TC_ACT_GELU_TANH, .positions = 8192, .norm_eps = 1e-6, .norm_offset = 1,
			.kv_heads = 4, .head_dim = 256, .query_pre_attn = 256, .attn_cap = 50, .final_cap = 30,
			.window = 4096, .tied = true, .bos = 2, .eos = { 1 }, .neos = 1 },
		.keys = { common_keys, gemma_keys }, LLAMA_LIKE, .windowed = true, .embed_sqrt = true,
		.slides = slides_alternately,
	},
	{
		.defaults = { .arch = "gemma3_text", .pre_norm = true, .post_norm = true, .gated = true,
			.act = TC_ACT_GELU_TANH, .positions = 131072, .norm_eps = 1e-6, .norm_offset = 1,
			.qk_norm = TC_QK_NORM_HEAD, .kv_heads = 4, .head_dim = 256, .query_pre_attn = 256,
			.window = 4096, .tied = true, .bos = 2, .eos = { 1 }, .neos = 1 },
		.keys = { common_keys, gemma_keys }, LLAMA_LIKE, .windowed = true, .embed_sqrt = true,
		.slides = slides_by_pattern,
	},
	{
		.defaults = { .arch = "olmo2", .post_norm = true, .gated = true, .embed_scale = 1,
			.positions = 2048, .norm_eps = 1e-5, .qk_norm = TC_QK_NORM_WHOLE,
			.bos = -1, .eos = { 50279 }, .neos = 1 },
		.keys = { common_keys, attention_bias_keys }, LLAMA_LIKE, .windowless = true,
	},
	{
		.defaults = { .arch = "phi3", LLAMA_BLOCK, .positions = 4096, .norm_eps = 1e-5,
			.bos = 1, .eos = { 32000 }, .neos = 1 },
		.keys = { common_keys, no_keys },
		.prefix = "model.", .block = "model.layers.", .slots = phi3_slots, .windowed = true,
	},
	{
		.defaults = { .arch = "gpt2", .norm = TC_NORM_LAYER, .pre_norm = true, .embed_scale = 1,
			.act = TC_ACT_GELU_TANH, .vocab = 50257, .width = 768, .layers = 12, .heads = 12,
			.positions = 1024, .norm_eps = 1e-5, .learned_positions = true, .tied = true,
			.qkv_bias = true, .o_bias = true, .mlp_bias = true,
			.bos = 50256, .eos = { 50256 }, .neos = 1 },
		.keys = { gpt2_keys, no_keys }, .no_rope = true, .conv1d = true,
		.prefix = "transformer.", .block = "transformer.h.", .slots = gpt2_slots,
	},
};
#define ARCHES (sizeof(arches) / sizeof(arches[0]))

const struct tc_arch *
tc_arch_find(const char *model_type)
{
	for (size_t i = 0; i < ARCHES; i++)
		if (strcmp(arches[i].defaults.arch, model_type) == 0)
			return &arches[i];
	return NULL;
}

void
tc_arch_names(char *buf, size_t size)
{
	size_t n = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < ARCHES && n < size; i++)
		n += (size_t)snprintf(buf + n, size - n, "%s%s", i ? ", " : "", arches[i].defaults.arch);
}
