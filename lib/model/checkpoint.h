/* checkpoint.h - a Hugging Face checkpoint as a source of records. */
#ifndef TC_MODEL_CHECKPOINT_H
#define TC_MODEL_CHECKPOINT_H

#include "stream/source.h"

/* dir holds config.json; file is the .safetensors file in dir to read, or
 * NULL for model.safetensors or what model.safetensors.index.json names.
 *
 * Everything that headers can tell is checked on opening: every tensor of the
 * architecture is there, once, in its shape and a dtype that weights have,
 * and none beside them.  Values (NaN, Inf) are checked as they are yielded.
 *
 * The source yields the bytes that a stream written by tc-import has: one
 * step, "tc-import", whose input is the XXH3-64 over the XXH3-64 of each item
 * (its name, a NUL and its bytes), as 8 little-endian bytes, items being
 * config.json, the files carried along and the tensors in the order of the
 * records.  s->hash is that stream's hash of record hashes.  With
 * spare_payloads both stay 0 and values are not checked. */
int tc_checkpoint_open(struct tc_source **s, const char *dir, const char *file, struct tc_err *err) TC_MUST_CHECK;

#endif
