/* section.h - reading the sections of tokenizer.json that name a "type" and
 * may be a Sequence of others: normalizer, pre_tokenizer, post_processor,
 * decoder.  Each is a table with a row a type; a type without a row is
 * refused by its name. */
#ifndef TC_TOKEN_SECTION_H
#define TC_TOKEN_SECTION_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* One type: adds what object o says to ctx, which is the section's own. */
struct tc_kind {
	const char *name;
	int (*add)(void *ctx, const json_t *o, struct tc_err *err);
};

struct tc_section {
	const char *name;     /* "pre_tokenizer" */
	const char *list_key; /* where its Sequence has the members */
	const struct tc_kind *kinds;
	size_t n_kinds;
};

/* Walks value (NULL and null mean there is none) and calls add for each
 * member of it, in order. */
int tc_section_load(const struct tc_section *s, const json_t *value, void *ctx, struct tc_err *err) TC_MUST_CHECK;

/* Fields.  where names the object in a message.  Optional: *v is left as it
 * is when the field is absent or null. */
int tc_field_bool(const json_t *o, const char *where, const char *key, bool *v, struct tc_err *err) TC_MUST_CHECK;
int tc_field_optional_bool(const json_t *o, const char *where, const char *key, bool *v,
    struct tc_err *err) TC_MUST_CHECK;
/* A string that belongs to o, and its length, for it may hold NUL. */
int tc_field_string(const json_t *o, const char *where, const char *key, const char **v, size_t *n,
    struct tc_err *err) TC_MUST_CHECK;
/* A token id below TC_VOCAB_MAX. */
int tc_field_id(const json_t *value, const char *where, uint32_t *id, struct tc_err *err) TC_MUST_CHECK;

#endif
