/* gguf_parts.h - the metadata of a GGUF file as the files that a Hugging Face
 * checkpoint has.  Internal to gguf_source.c. */
#ifndef TC_MODEL_GGUF_PARTS_H
#define TC_MODEL_GGUF_PARTS_H

#include <jansson.h>

#include "base/mem.h"
#include "file/gguf.h"

struct tc_gguf_arch {
	const char *name;     /* general.architecture */
	const char *hf;       /* model_type */
	bool permuted;        /* rows of q and k are stored with rotated pairs side by side */
	bool whole_norms;     /* norms are stored as 1 + w */
	const struct tc_gguf_key *keys[3];
	const char *act_key, *act;
};

/* TC_DATA, naming it, when the architecture is not supported. */
int tc_gguf_arch(const struct tc_gguf *g, const struct tc_gguf_arch **a, struct tc_err *err) TC_MUST_CHECK;

/* config.json.  TC_DATA for hyper-parameters that are missing, contradict the
 * tensors, are not known or cannot be expressed. */
int tc_gguf_config(const struct tc_gguf *g, const struct tc_gguf_arch *a, struct tc_buf *json, struct tc_err *err) TC_MUST_CHECK;

/* tokenizer.json; nothing is appended when the file has no tokenizer. */
int tc_gguf_tokenizer(const struct tc_gguf *g, struct tc_buf *json, struct tc_err *err) TC_MUST_CHECK;

/* tokenizer_config.json (chat template, names of special tokens) and
 * generation_config.json (ids of bos and eos); nothing when they would be
 * empty. */
int tc_gguf_tokenizer_config(const struct tc_gguf *g, struct tc_buf *json, struct tc_err *err) TC_MUST_CHECK;
int tc_gguf_generation_config(const struct tc_gguf *g, struct tc_buf *json, struct tc_err *err) TC_MUST_CHECK;

/* Sets bos_token_id and eos_token_id (a list where a turn's end is another
 * token) of o. */
int tc_gguf_put_ends(const struct tc_gguf *g, json_t *o, struct tc_err *err) TC_MUST_CHECK;

/* Appends o as text; consumes o, which may be NULL (out of memory). */
int tc_gguf_put_json(struct tc_buf *b, json_t *o, struct tc_err *err) TC_MUST_CHECK;

#endif
