/* rope.h - rotary embedding: what a config says of it, and its tables. */
#ifndef TC_MODEL_ROPE_H
#define TC_MODEL_ROPE_H

#include "model/arch.h"

/* A number above 0, else TC_DATA naming the key. */
int tc_config_real(const char *name, const json_t *v, double *x, struct tc_err *err) TC_MUST_CHECK;

/* Fills c->rope, c->local_rope and the layers' choice between them. */
int tc_rope_parse(struct tc_config *c, const struct tc_arch *a, const json_t *o, struct tc_err *err) TC_MUST_CHECK;

/* The angle per position of pair i of r->dims / 2, in a sequence of `length`
 * tokens (longrope has other factors beyond the original positions). */
double tc_rope_frequency(const struct tc_rope *r, size_t i, size_t length);
/* Cosine and sine are multiplied by it. */
double tc_rope_attention_factor(const struct tc_rope *r);

#endif
