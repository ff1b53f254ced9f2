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

enum tc_activation { TC_ACT_SILU };

enum tc_rope_kind { TC_ROPE_DEFAULT, TC_ROPE_LINEAR, TC_ROPE_LLAMA3 };

struct tc_rope {
	enum tc_rope_kind kind;
	double theta;
	double factor;                      /* linear, llama3 */
	double low_freq, high_freq;         /* llama3 */
	double original_positions;          /* llama3 */
};

struct tc_config {
	char arch[32];         /* model_type: "qwen2", "llama" */
	size_t vocab, width, layers, heads, kv_heads, head_dim, ffn, positions;
	double norm_eps;
	enum tc_activation act;
	struct tc_rope rope;
	bool tied;
	bool qkv_bias, o_bias, mlp_bias;
	int64_t bos;           /* -1: none */
	int64_t eos[8];
	size_t neos;
};

/* Caps on what a config may claim. */
#define TC_LAYERS_MAX 4096
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

/* The sum of tc_config_tensor's elements: a tied embedding counts once. */
uint64_t tc_config_parameters(const struct tc_config *c);

/* Finds the description of a tensor by name; 1 or 0.  For checking streams. */
int tc_config_find(const struct tc_config *c, const char *name, struct tc_tensor *t);

/* A tensor as a model of this config has it: same role, part, block, shape;
 * TC_DATA that names both sides otherwise. */
int tc_config_check(const struct tc_config *c, const struct tc_tensor *t, struct tc_err *err) TC_MUST_CHECK;

#endif
