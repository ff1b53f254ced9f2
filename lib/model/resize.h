/* resize.h - the config.json of a model from which parts were taken away. */
#ifndef TC_MODEL_RESIZE_H
#define TC_MODEL_RESIZE_H

#include "model/config.h"

/* What stays; sizes are at most those of the config. */
struct tc_resize {
	size_t ffn, heads, kv_heads;
	size_t layers;
	const uint32_t *layer;  /* [layers], ascending: the blocks that stay; NULL: all */
};

/* *to (allocated, NUL behind it) is the config with these sizes: keys that it does
 * not concern stay as they are, the size of a head is said, lists that have an
 * item a block lose those of blocks that go.  TC_DATA when an architecture's
 * config cannot say such a model. */
int tc_config_resize(char **to, size_t *to_bytes, const char *json, size_t n, const struct tc_resize *size, struct tc_err *err) TC_MUST_CHECK;

#endif
