/* gguf_source.h - a GGUF file as a source of records. */
#ifndef TC_MODEL_GGUF_SOURCE_H
#define TC_MODEL_GGUF_SOURCE_H

#include "stream/source.h"

/* The file's hyper-parameters become a config.json, its tokenizer a
 * tokenizer.json (with tokenizer_config.json and generation_config.json), its
 * tensors those of a Hugging Face checkpoint: q and k in their order of rows,
 * fused ones split; packed types stay packed (file/ggml_types.h).
 *
 * On opening it is checked that every tensor of the architecture is there in
 * its shape, and none beside them; numbers (NaN, Inf) as they are yielded.
 * The hashes are those of digest.h, over what is yielded.  The header's
 * base_quantized names the file's mix of types ("Q4_K_M"). */
int tc_gguf_source_open(struct tc_source **s, const char *path, struct tc_err *err) TC_MUST_CHECK;

#endif
