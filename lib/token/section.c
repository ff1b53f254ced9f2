#include "token/section.h"

#include <string.h>

#include "token/vocab.h"

enum {
	DEPTH_MAX = 8 /* of Sequences in Sequences; real files have one */
};

static int load(const struct tc_section *s, const json_t *value, void *ctx, int depth, struct tc_err *err);

static int
load_sequence(const struct tc_section *s, const json_t *o, void *ctx, int depth, struct tc_err *err)
{
	const json_t *list = json_object_get(o, s->list_key);

	if (!json_is_array(list))
		return tc_fail(err, TC_DATA, "%s 'Sequence': '%s' is not an array", s->name, s->list_key);
	if (depth == DEPTH_MAX)
		return tc_fail(err, TC_DATA, "%s: more than %d Sequences in one another", s->name, DEPTH_MAX);
	for (size_t i = 0; i < json_array_size(list); i++)
		if (load(s, json_array_get(list, i), ctx, depth + 1, err) < 0)
			return -1;
	return 0;
}

static int
load(const struct tc_section *s, const json_t *value, void *ctx, int depth, struct tc_err *err)
{
	const char *type = json_string_value(json_object_get(value, "type"));

	if (!json_is_object(value))
		return tc_fail(err, TC_DATA, "%s is not an object", s->name);
	if (!type)
		return tc_fail(err, TC_DATA, "%s has no 'type'", s->name);
	if (strcmp(type, "Sequence") == 0)
		return load_sequence(s, value, ctx, depth, err);
	for (size_t i = 0; i < s->n_kinds; i++)
		if (strcmp(type, s->kinds[i].name) == 0)
			return s->kinds[i].add(ctx, value, err);
	return tc_fail(err, TC_DATA, "%s '%.64s' is not supported", s->name, type);
}

int
tc_section_load(const struct tc_section *s, const json_t *value, void *ctx, struct tc_err *err)
{
	if (!value || json_is_null(value))
		return 0;
	return load(s, value, ctx, 0, err);
}

int
tc_field_optional_bool(const json_t *o, const char *where, const char *key, bool *v, struct tc_err *err)
{
	const json_t *f = json_object_get(o, key);

	if (!f || json_is_null(f))
		return 0;
	if (!json_is_boolean(f))
		return tc_fail(err, TC_DATA, "%s: '%s' is neither true nor false", where, key);
	*v = json_is_true(f);
	return 0;
}

int
tc_field_bool(const json_t *o, const char *where, const char *key, bool *v, struct tc_err *err)
{
	if (!json_is_boolean(json_object_get(o, key)))
		return tc_fail(err, TC_DATA, "%s: '%s' is neither true nor false", where, key);
	return tc_field_optional_bool(o, where, key, v, err);
}

int
tc_field_string(const json_t *o, const char *where, const char *key, const char **v, size_t *n, struct tc_err *err)
{
	const json_t *f = json_object_get(o, key);

	if (!json_is_string(f))
		return tc_fail(err, TC_DATA, "%s: '%s' is not a string", where, key);
	*v = json_string_value(f);
	*n = json_string_length(f);
	return 0;
}

int
tc_field_id(const json_t *value, const char *where, uint32_t *id, struct tc_err *err)
{
	json_int_t v = json_integer_value(value);

	if (!json_is_integer(value) || v < 0 || v >= (json_int_t)TC_VOCAB_MAX)
		return tc_fail(err, TC_DATA, "%s: the id is not a whole number from 0 to %u", where,
		    (unsigned)TC_VOCAB_MAX - 1);
	*id = (uint32_t)v;
	return 0;
}
