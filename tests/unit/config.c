/* config.json: what is read, what it defaults to, what is refused. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "model/config.h"
#include "tap.h"

static struct tc_err err;

/* A small config with the keys of `extra` (JSON text) put over it and the key
 * `without` taken out. */
static int
parse(struct tc_config *c, const char *arch, const char *extra, const char *without)
{
	json_t *o = json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i}", "model_type", arch, "vocab_size", 320,
	    "hidden_size", 48, "num_hidden_layers", 3, "num_attention_heads", 4, "num_key_value_heads", 2,
	    "intermediate_size", 112);
	json_t *more = json_loads(extra, 0, NULL);
	char *s;
	int r;

	json_object_update(o, more);
	if (without)
		json_object_del(o, without);
	s = json_dumps(o, 0);
	err = (struct tc_err){0};
	r = tc_config_parse(c, s, strlen(s), &err);
	free(s);
	json_decref(o);
	json_decref(more);
	return r;
}

static void
refused(const char *arch, const char *extra, const char *why)
{
	struct tc_config c;

	ok(parse(&c, arch, extra, NULL) == -1 && err.code == TC_DATA && strstr(err.msg, why),
	    "%s %s is refused: %s", arch, extra, err.msg);
}

static void
accepted(const char *arch, const char *extra)
{
	struct tc_config c;

	ok(parse(&c, arch, extra, NULL) == 0, "%s %s is accepted %s", arch, extra, err.msg);
}

static void
test_defaults(void)
{
	struct tc_config c;

	ok(parse(&c, "llama", "{}", "num_key_value_heads") == 0 && c.kv_heads == 4 && c.head_dim == 12 &&
	    c.positions == 2048 && c.norm_eps == 1e-6 && !c.tied && !c.qkv_bias && !c.o_bias && !c.mlp_bias &&
	    c.rope.kind == TC_ROPE_DEFAULT && c.rope.theta == 10000 && c.bos == 1 && c.neos == 1 && c.eos[0] == 2,
	    "llama has the defaults of LlamaConfig");
	ok(parse(&c, "qwen2", "{}", NULL) == 0 && c.kv_heads == 2 && c.positions == 32768 && !c.tied &&
	    c.qkv_bias && !c.o_bias && c.bos == -1 && c.neos == 0, "qwen2 has the defaults of Qwen2Config");
	ok(parse(&c, "qwen2", "{\"num_attention_heads\": 64, \"hidden_size\": 128}", "num_key_value_heads") == 0 && c.kv_heads == 32,
	    "qwen2 without num_key_value_heads has 32");
	ok(parse(&c, "qwen2", "{\"num_key_value_heads\": null}", NULL) == 0 && c.kv_heads == 4, "null key-value heads are as many as heads");
	ok(parse(&c, "llama", "{\"head_dim\": 8, \"hidden_size\": 50}", NULL) == 0 && c.head_dim == 8, "head_dim is explicit");
	ok(parse(&c, "llama", "{\"attention_bias\": true, \"mlp_bias\": true}", NULL) == 0 && c.qkv_bias && c.o_bias && c.mlp_bias,
	    "attention_bias is for q, k, v and o");
	ok(parse(&c, "llama", "{\"bos_token_id\": null, \"eos_token_id\": [5, 9, 1000]}", NULL) == 0 && c.bos == -1 &&
	    c.neos == 2 && c.eos[1] == 9, "lists of ids, ids that the vocabulary lacks, null");
}

static void
test_rope(void)
{
	struct tc_config c;

	ok(parse(&c, "llama", "{\"rope_theta\": 500000, \"rope_scaling\": {\"factor\": 8.0, \"low_freq_factor\": 1.0,"
	    "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192, \"rope_type\": \"llama3\"}}", NULL) == 0 &&
	    c.rope.kind == TC_ROPE_LLAMA3 && c.rope.theta == 500000 && c.rope.factor == 8 && c.rope.low_freq == 1 &&
	    c.rope.high_freq == 4 && c.rope.original_positions == 8192, "rope_scaling llama3, old style");
	ok(parse(&c, "llama", "{\"max_position_embeddings\": 999, \"rope_parameters\": {\"rope_theta\": 5.5, \"factor\": 8.0,"
	    "\"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, \"rope_type\": \"llama3\"}}", NULL) == 0 &&
	    c.rope.theta == 5.5 && c.rope.original_positions == 999, "rope_parameters llama3, new style");
	ok(parse(&c, "qwen2", "{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}}", NULL) == 0 &&
	    c.rope.kind == TC_ROPE_LINEAR && c.rope.factor == 2 && c.rope.theta == 10000, "rope_scaling linear by \"type\"");
	ok(parse(&c, "qwen2", "{\"rope_scaling\": null, \"rope_theta\": 1e6}", NULL) == 0 && c.rope.kind == TC_ROPE_DEFAULT &&
	    c.rope.theta == 1e6, "rope_scaling null");
	refused("llama", "{\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}}", "'dynamic'");
	ok(parse(&c, "llama", "{\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 2, \"beta_fast\": 30}}", NULL) == 0 &&
	    c.rope.kind == TC_ROPE_YARN && c.rope.beta_fast == 30 && c.rope.beta_slow == 1 && c.rope.truncate, "yarn and its defaults");
	refused("llama", "{\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 2, \"mscale\": 1}}", "'mscale'");
	refused("llama", "{\"rope_parameters\": {\"rope_type\": \"longrope\", \"short_factor\": [1, 1], \"long_factor\": [1]}}", "each of 6 pairs");
	refused("llama", "{\"rope_scaling\": {\"type\": \"linear\"}}", "without factor");
	refused("llama", "{\"rope_scaling\": {\"type\": \"linear\", \"factor\": -2}}", "factor");
	refused("llama", "{\"rope_parameters\": {\"rope_type\": \"default\", \"factor\": 2}}", "'factor'");
	refused("llama", "{\"rope_parameters\": {\"mrope_section\": [1]}}", "'mrope_section'");
	ok(parse(&c, "llama", "{\"rope_parameters\": {\"partial_rotary_factor\": 0.5}}", NULL) == 0 && c.rope.dims == c.head_dim / 2,
	    "a part of each head is rotated");
	refused("llama", "{\"rope_parameters\": {\"partial_rotary_factor\": 1.5}}", "partial_rotary_factor");
	refused("llama", "{\"rope_theta\": 1, \"rope_parameters\": {\"rope_theta\": 2}}", "rope_theta");
	refused("llama", "{\"rope_theta\": 0}", "rope_theta");
	refused("llama", "{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}, \"rope_parameters\": {\"rope_type\": \"default\"}}", "contradict");
}

static void
test_window(void)
{
	struct tc_config c;

	accepted("qwen2", "{\"use_sliding_window\": false, \"sliding_window\": 4096, \"max_window_layers\": 2}");
	accepted("qwen2", "{\"sliding_window\": 4096}");
	accepted("qwen2", "{\"use_sliding_window\": true, \"sliding_window\": null}");
	accepted("llama", "{\"sliding_window\": null}");
	accepted("qwen2", "{\"layer_types\": [\"full_attention\", \"full_attention\", \"full_attention\"]}");
	ok(parse(&c, "qwen2", "{\"use_sliding_window\": true, \"sliding_window\": 16, \"max_window_layers\": 1}", NULL) == 0 &&
	    c.window == 16 && !(c.layer[0] & TC_LAYER_SLIDING) && c.layer[1] & TC_LAYER_SLIDING, "qwen2 slides from max_window_layers on");
	ok(parse(&c, "qwen2", "{\"sliding_window\": 8, \"layer_types\": [\"full_attention\", \"sliding_attention\", \"full_attention\"]}", NULL) == 0 &&
	    c.layer[0] == 0 && c.layer[1] == TC_LAYER_SLIDING && c.layer[2] == 0, "layer_types says which layers slide");
	ok(parse(&c, "mistral", "{\"sliding_window\": 5}", NULL) == 0 && c.window == 5 && c.layer[2] == TC_LAYER_SLIDING, "every layer of mistral slides");
	ok(parse(&c, "mistral", "{\"sliding_window\": null}", NULL) == 0 && c.layer[2] == 0, "or none");
	refused("llama", "{\"sliding_window\": 16}", "sliding_window");
	refused("qwen2", "{\"sliding_window\": null, \"layer_types\": [\"full_attention\", \"sliding_attention\", \"full_attention\"]}", "no sliding_window");
	refused("qwen2", "{\"layer_types\": [\"full_attention\", \"chunked_attention\", \"full_attention\"]}", "'chunked_attention'");
	refused("qwen2", "{\"layer_types\": [\"full_attention\"]}", "layer_types");
}

static void
test_refusals(void)
{
	static const char *const required[] = {
		"model_type", "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"
	};
	static const char *const texts[] = { "", "[]", "{", "nonsense", "{\"model_type\": \"llama\", \"model_type\": \"llama\"}" };
	struct tc_config c;

	for (size_t i = 0; i < sizeof(required) / sizeof(required[0]); i++)
		ok(parse(&c, "llama", "{}", required[i]) == -1 && err.code == TC_DATA && strstr(err.msg, required[i]),
		    "%s must be there: %s", required[i], err.msg);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		ok(tc_config_parse(&c, texts[i], strlen(texts[i]), &err) == -1 && err.code == TC_DATA, "\"%s\" is refused: %s", texts[i], err.msg);
	refused("mamba", "{}", "'mamba'");
	refused("llama", "{\"foo\": 1}", "'foo' is not known here");
	refused("qwen2", "{\"attention_bias\": true}", "'attention_bias'");
	refused("llama", "{\"hidden_act\": \"gelu\"}", "'gelu'");
	refused("llama", "{\"hidden_size\": 50}", "not a multiple");
	refused("llama", "{\"num_key_value_heads\": 3}", "not a multiple");
	refused("llama", "{\"hidden_size\": 0}", "hidden_size");
	refused("llama", "{\"hidden_size\": 48.5}", "hidden_size");
	refused("llama", "{\"hidden_size\": \"48\"}", "hidden_size");
	refused("llama", "{\"vocab_size\": 99999999999}", "vocab_size");
	refused("llama", "{\"num_hidden_layers\": 5000}", "num_hidden_layers");
	refused("llama", "{\"head_dim\": 1048576, \"num_attention_heads\": 1048576}", "more than");
	refused("llama", "{\"head_dim\": 7}", "needs pairs");
	refused("llama", "{\"rms_norm_eps\": 0}", "rms_norm_eps");
	refused("llama", "{\"tie_word_embeddings\": 1}", "tie_word_embeddings");
	refused("llama", "{\"pretraining_tp\": 2}", "pretraining_tp");
	refused("llama", "{\"quantization_config\": {\"quant_method\": \"gptq\"}}", "gptq");
	refused("llama", "{\"auto_map\": {\"AutoModel\": \"x\"}}", "auto_map");
	refused("llama", "{\"is_encoder_decoder\": true}", "is_encoder_decoder");
	refused("llama", "{\"eos_token_id\": \"x\"}", "eos_token_id");
	refused("llama", "{\"eos_token_id\": [1,2,3,4,5,6,7,8,9]}", "more than 8");
	accepted("llama", "{\"hidden_act\": \"swish\", \"pretraining_tp\": 1, \"is_encoder_decoder\": false, \"pad_token_id\": 0,"
	    "\"torch_dtype\": \"bfloat16\", \"quantization_config\": null, \"partial_rotary_factor\": 1.0, \"temperature\": 0.5}");
}

static void
test_tensors(void)
{
	struct tc_config c;
	struct tc_tensor t, u;
	size_t n = 0, wrong = 0;

	parse(&c, "qwen2", "{\"tie_word_embeddings\": true}", NULL);
	for (; tc_config_tensor(&c, n, &t); n++)
		wrong += !tc_config_find(&c, t.name, &u) || memcmp(&t, &u, sizeof(t)) != 0 || tc_config_check(&c, &t, &err) < 0;
	ok(n == 1 + 3 * 12 + 1 && wrong == 0, "a tied qwen2 of 3 blocks has 38 tensors, found by index and by name");
	ok(tc_config_parameters(&c) == 320 * 48 + 3 * (2 * 48 + 48 * 48 + 48 + 2 * (24 * 48 + 24) + 48 * 48 + 3 * 112 * 48) + 48,
	    "parameters are counted, a tied embedding once");
	parse(&c, "llama", "{\"attention_bias\": true}", NULL);
	for (n = 0; tc_config_tensor(&c, n, &t); n++)
		if (n == 5)
			ok(strcmp(t.name, "model.layers.0.self_attn.k_proj.bias") == 0 && t.role == TC_ROLE_K && t.bias &&
			    t.block == 0 && t.ndim == 1 && t.shape[0] == 24, "the bias of k follows its weight");
	ok(n == 1 + 3 * 13 + 2 && t.role == TC_ROLE_HEAD && t.shape[0] == 320, "an untied llama ends with its head");
	ok(tc_config_find(&c, "model.layers.2.mlp.down_proj.weight", &t) && t.block == 2 && t.shape[0] == 48 && t.shape[1] == 112,
	    "a tensor is found by its name");
	ok(!tc_config_find(&c, "model.layers.3.mlp.down_proj.weight", &t) && !tc_config_find(&c, "model.layers.02.mlp.down_proj.weight", &t) &&
	    !tc_config_find(&c, "model.layers.x.mlp.down_proj.weight", &t) && !tc_config_find(&c, "model.layers.99999999999.y", &t) &&
	    !tc_config_find(&c, "mlp.down_proj.weight", &t) && !tc_config_find(&c, "model.layers.1.model.norm.weight", &t) &&
	    !tc_config_find(&c, "", &t), "names that are not quite right are not found");
	tc_config_find(&c, "model.norm.weight", &t);
	t.shape[0]++;
	ok(tc_config_check(&c, &t, &err) == -1 && strstr(err.msg, "49") && strstr(err.msg, "48"), "a wrong shape: %s", err.msg);
	t.shape[0]--;
	t.block = 1;
	ok(tc_config_check(&c, &t, &err) == -1, "a wrong block: %s", err.msg);
	strcpy(t.name, "foo");
	ok(tc_config_check(&c, &t, &err) == -1 && strstr(err.msg, "'foo'"), "a wrong name: %s", err.msg);
}

int
main(void)
{
	test_defaults();
	test_rope();
	test_window();
	test_refusals();
	test_tensors();
	return done_testing();
}
