/* arch.h - the architectures, a row each; internal to config.c and layout.c. */
#ifndef TC_MODEL_ARCH_H
#define TC_MODEL_ARCH_H

#include <jansson.h>

#include "model/config.h"

/* A key of config.json that fills a field of struct tc_config.  A key that is
 * not there leaves the architecture's default. */
enum tc_key_type {
	TC_KEY_SIZE,       /* size_t, 1..max */
	TC_KEY_SIZE_NULL,  /* the same; null is 0: derived from other sizes, or none */
	TC_KEY_REAL,       /* double, above 0 */
	TC_KEY_REAL_NULL,  /* the same; null is 0: none */
	TC_KEY_OFFSET,     /* double, 0 or more */
	TC_KEY_FLAG,       /* bool */
	TC_KEY_ACT,        /* enum tc_activation */
	TC_KEY_TRUE,       /* nothing: must be true, if there */
	TC_KEY_FALSE       /* nothing: must be false, if there */
};

struct tc_key {
	const char *name;
	enum tc_key_type type;
	size_t offset;
	bool required;
	size_t max;
};

/* A tensor of the model: its name (in a block: after the block's prefix), its
 * shape in the config's sizes, and what it depends on. */
enum tc_dim { TC_DIM_NONE, TC_DIM_VOCAB, TC_DIM_POSITIONS, TC_DIM_WIDTH, TC_DIM_FFN, TC_DIM_Q, TC_DIM_KV,
	TC_DIM_Q_NORM, TC_DIM_K_NORM };
enum tc_where { TC_BEFORE, TC_BLOCK, TC_AFTER };
enum tc_when { TC_ALWAYS, TC_IF_QKV_BIAS, TC_IF_O_BIAS, TC_IF_MLP_BIAS, TC_IF_UNTIED, TC_IF_PRE_NORM,
	TC_IF_POST_NORM, TC_IF_PRE_ONLY, TC_IF_PRE_AND_POST, TC_IF_QK_NORM };

struct tc_slot {
	enum tc_where where;
	enum tc_role role;
	bool bias;
	const char *name;
	enum tc_dim out, in;  /* a vector has no in */
	enum tc_when when;
	const char *fused;    /* the checkpoint's tensor that holds it, or NULL */
};

struct tc_arch {
	struct tc_config defaults;     /* .arch is the model_type; kv_heads 0 stands for heads, head_dim 0
	                                * for width / heads, ffn 0 for 4 width */
	const struct tc_key *keys[2];
	bool windowed;                 /* a sliding_window counts without use_sliding_window */
	bool windowless;               /* a sliding_window is refused */
	bool embed_sqrt;               /* embeddings are scaled by sqrt(width) */
	bool no_rope;                  /* no rotary embedding anywhere */
	bool conv1d;                   /* linear weights are stored [in, out] */
	/* Which layers slide when the config has a window and no layer_types;
	 * NULL: all. */
	bool (*slides)(const struct tc_config *c, const json_t *o, size_t layer);
	const char *prefix;            /* what a bare decoder's names lack */
	const char *block;             /* prefix of a block's tensors, before its number */
	const struct tc_slot *slots;   /* in execution order, ended by a NULL name */
};

/* NULL when there is none of that name. */
const struct tc_arch *tc_arch_find(const char *model_type);
/* "llama, qwen2, ..." */
void tc_arch_names(char *buf, size_t size);

#endif
