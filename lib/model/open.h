/* open.h - a MODEL operand, whatever it is, as a source of records. */
#ifndef TC_MODEL_OPEN_H
#define TC_MODEL_OPEN_H

#include "stream/source.h"

/* path: a Hugging Face directory (config.json and *.safetensors, single or
 * sharded with an index), a .safetensors file with a config.json beside it,
 * a GGUF file, or a saved stream; told apart by what they are, not by their names. */
int tc_model_open(struct tc_source **s, const char *path, struct tc_err *err) TC_MUST_CHECK;

#endif
