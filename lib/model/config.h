/* config.h - config.json turned into one block description.
 *
 * An architecture is a row in config.c that says which keys it reads, which
 * defaults they have and what its tensors are called; the forward pass knows
 * only the description. */
#ifndef TC_MODEL_CONFIG_H
#define TC_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "tensor/tensor.h"

enum tc_activation { TC_ACT_SILU, TC_ACT_GELU_TANH };

enum tc_rope_kind { TC_ROPE_DEFAULT, TC_ROPE_LINEAR, TC_ROPE_LLAMA3, TC_ROPE_YARN, TC_ROPE_LONGROPE };

#define TC_ROPE_PAIRS_MAX 256   /* longrope's lists */

struct tc_rope {
	enum tc_rope_kind kind;
	double theta;
	size_t dims;                        /* rotated ones of a head, even */
	double factor;                      /* all but default */
	double low_freq, high_freq;         /* llama3 */
	double original_positions;          /* llama3, yarn, longrope */
	double beta_fast, beta_slow;        /* yarn */
	bool truncate;                      /* yarn: whole dimensions bound the ramp */
	double attention_factor;            /* yarn, longrope: cosine and sine are multiplied by it */
	double short_factor[TC_ROPE_PAIRS_MAX], long_factor[TC_ROPE_PAIRS_MAX]; /* longrope */
};

enum tc_norm_kind { TC_NORM_RMS, TC_NORM_LAYER };
enum tc_qk_norm { TC_QK_NORM_NONE, TC_QK_NORM_HEAD, TC_QK_NORM_WHOLE };

/* What a block's attention does; bits of tc_config.layer[]. */
enum tc_layer {
	TC_LAYER_SLIDING = 1,    /* sees tc_config.window positions, itself included */
	TC_LAYER_LOCAL_ROPE = 2, /* rotates by local_rope */
	TC_LAYER_NO_ROPE = 4
};

#define TC_LAYERS_MAX 4096

struct tc_config {
	char arch[32];         /* model_type: "qwen2", "llama", ... */
	size_t vocab, width, layers, heads, kv_heads, head_dim, ffn, positions;
	enum tc_norm_kind norm;
	double norm_eps;
	double norm_offset;    /* a norm multiplies by offset + w: Gemma's 1 */
	bool pre_norm;         /* norms before attention and MLP */
	bool post_norm;        /* norms after them, before the residual is added */
	enum tc_qk_norm qk_norm;
	enum tc_activation act;
	bool gated;            /* down(act(gate) * up), else down(act(up)) */
	bool learned_positions;
	double embed_scale;    /* embeddings are multiplied by it */
	double query_scale;    /* scores are multiplied by it: 1/sqrt(query_pre_attn) */
	double query_pre_attn; /* head_dim, unless the config says otherwise */
	double attn_cap, final_cap; /* soft caps of scores and logits; 0: none */
	size_t window;
	struct tc_rope rope, local_rope;
	uint8_t layer[TC_LAYERS_MAX]; /* enum tc_layer, or-ed */
	bool tied;
	bool qkv_bias, o_bias, mlp_bias;
	int64_t bos;           /* -1: none */
	int64_t eos[8];
	size_t neos;
};

/* Caps on what a config may claim. */
#define TC_WIDTH_MAX ((size_t)1 << 20)
#define TC_VOCAB_MAX ((size_t)1 << 24)
#define TC_CONFIG_BYTES_MAX ((size_t)15 << 20) /* the stream's header (16 MiB) has to hold it */

/* Fails (TC_DATA) on JSON that is not an object, missing or contradictory
 * sizes, an architecture that is not known, and any key that is not known to
 * be without influence on the numbers, by name. */
int tc_config_parse(struct tc_config *c, const char *json, size_t n, struct tc_err *err) TC_MUST_CHECK;

/* The i-th tensor of the model in execution order (block by block: attn_norm,
 * q, q bias, k, ...; TC_KIND_REF's place for a tied head is not counted):
 * fills name, role, bias, block, ndim, shape of *t.  Returns 1, or 0 past
 * the last. */
int tc_config_tensor(const struct tc_config *c, size_t i, struct tc_tensor *t);

/* How many there are; and the place of the one that is as t in role, part and
 * block, or as many as there are when none is. */
size_t tc_config_tensors(const struct tc_config *c);
size_t tc_config_place(const struct tc_config *c, const struct tc_tensor *t);

/* Where a checkpoint keeps the i-th tensor: under its own name, as rows
 * row0.. of a fused one with `rows` rows in all, or transposed (GPT-2's
 * Conv1D, [in, out]).  Returns as tc_config_tensor(). */
struct tc_origin {
	char name[TC_NAME_MAX];
	size_t row0, rows;
	bool fused, transposed;
};
int tc_config_origin(const struct tc_config *c, size_t i, struct tc_origin *o);
/* What a checkpoint of this architecture adds to a norm's weights, whatever
 * this config's tc_norm_offset says. */
double tc_config_usual_norm_offset(const struct tc_config *c);
/* Prefix that checkpoints of the bare decoder leave out: "model.". */
const char *tc_config_prefix(const struct tc_config *c);

/* The sum of tc_config_tensor's elements: a tied embedding counts once. */
uint64_t tc_config_parameters(const struct tc_config *c);

/* Finds the description of a tensor by name; 1 or 0.  For checking streams. */
int tc_config_find(const struct tc_config *c, const char *name, struct tc_tensor *t);

/* A tensor as a model of this config has it: same role, part, block, shape;
 * TC_DATA that names both sides otherwise. */
int tc_config_check(const struct tc_config *c, const struct tc_tensor *t, struct tc_err *err) TC_MUST_CHECK;

#endif
