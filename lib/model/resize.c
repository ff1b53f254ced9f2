#include "model/resize.h"

#include <stdlib.h>
#include <string.h>

#include "model/arch.h"

/* A config in the making. */
struct edit {
	const struct tc_resize *size;
	struct tc_config was, is;
	json_t *o;
};

/* The key of that size, or NULL. */
static const struct tc_key *
key_of(const struct tc_config *c, size_t offset)
{
	const struct tc_arch *a = tc_arch_find(c->arch);

	for (int i = 0; i < 2; i++)
		for (const struct tc_key *k = a->keys[i]; k->name; k++)
			if (k->offset == offset && (k->type == TC_KEY_SIZE || k->type == TC_KEY_SIZE_NULL))
				return k;
	return NULL;
}

static int
set(struct edit *e, const char *name, json_t *value, struct tc_err *err)
{
	return json_object_set_new(e->o, name, value) < 0 ? tc_fail_nomem(err, 0) : 0;
}

static int
set_size(struct edit *e, size_t offset, const char *what, size_t value, struct tc_err *err)
{
	const struct tc_key *k = key_of(&e->was, offset);

	if (!k)
		return tc_fail(err, TC_DATA, "config.json: that of a %s model has no key for %s, which would have to say %zu", e->was.arch,
		    what, value);
	return set(e, k->name, json_integer((json_int_t)value), err);
}

#define SIZE(f) offsetof(struct tc_config, f)

/* The size of a head no longer follows from the model's width. */
static int
set_heads(struct edit *e, struct tc_err *err)
{
	if (e->was.qk_norm == TC_QK_NORM_WHOLE)
		return tc_fail(err, TC_DATA, "a %s model norms all heads together: they cannot be taken away", e->was.arch);
	if (set_size(e, SIZE(head_dim), "the size of a head", e->was.head_dim, err) < 0 ||
	    set_size(e, SIZE(kv_heads), "heads of keys and values", e->size->kv_heads, err) < 0)
		return -1;
	return set_size(e, SIZE(heads), "heads", e->size->heads, err);
}

/* Where the list is there, its items of the blocks that stay. */
static int
thin(struct edit *e, const char *name, struct tc_err *err)
{
	json_t *list = json_object_get(e->o, name), *kept;

	if (!json_is_array(list))
		return 0;
	kept = json_array();
	for (size_t i = 0; kept && i < e->size->layers; i++)
		if (json_array_append(kept, json_array_get(list, e->size->layer[i])) < 0) {
			json_decref(kept);
			kept = NULL;
		}
	return set(e, name, kept, err);
}

static int
parse(struct edit *e, struct tc_err *err)
{
	char *text = json_dumps(e->o, JSON_COMPACT | JSON_REAL_PRECISION(17));
	int r = text ? tc_config_parse(&e->is, text, strlen(text), err) : tc_fail_nomem(err, 0);

	free(text);
	return r;
}

/* Which of these bits of the blocks that stay are not what they were. */
static unsigned
wrong_bits(const struct edit *e)
{
	unsigned wrong = 0;

	for (size_t i = 0; i < e->size->layers; i++)
		wrong |= e->is.layer[i] ^ e->was.layer[e->size->layer[i]];
	return wrong;
}

static json_t *
type_item(unsigned layer)
{
	return json_string(layer & TC_LAYER_SLIDING ? "sliding_attention" : "full_attention");
}

static json_t *
rope_item(unsigned layer)
{
	return json_integer(!(layer & TC_LAYER_NO_ROPE));
}

/* What was a rule by the block's number. */
static int
list(struct edit *e, const char *name, json_t *(*item)(unsigned layer), struct tc_err *err)
{
	json_t *o = json_array();

	for (size_t i = 0; o && i < e->size->layers; i++)
		if (json_array_append_new(o, item(e->was.layer[e->size->layer[i]])) < 0) {
			json_decref(o);
			o = NULL;
		}
	return set(e, name, o, err);
}

static int
set_layers(struct edit *e, struct tc_err *err)
{
	unsigned wrong;

	if (set_size(e, SIZE(layers), "blocks", e->size->layers, err) < 0 || thin(e, "layer_types", err) < 0 ||
	    thin(e, "no_rope_layers", err) < 0 || parse(e, err) < 0)
		return -1;
	wrong = wrong_bits(e);
	if (((wrong & TC_LAYER_SLIDING) && list(e, "layer_types", type_item, err) < 0) ||
	    ((wrong & TC_LAYER_NO_ROPE) && list(e, "no_rope_layers", rope_item, err) < 0) || (wrong && parse(e, err) < 0))
		return -1;
	return wrong_bits(e) == 0 ? 0 : tc_fail(err, TC_DATA, "config.json: that of a %s model cannot say what the blocks that stay do",
	    e->was.arch);
}

static int
apply(struct edit *e, struct tc_err *err)
{
	const struct tc_resize *to = e->size;

	if (to->ffn != e->was.ffn && set_size(e, SIZE(ffn), "the MLP's neurons", to->ffn, err) < 0)
		return -1;
	if (to->heads != e->was.heads && set_heads(e, err) < 0)
		return -1;
	return to->layer ? set_layers(e, err) : parse(e, err);
}

int
tc_config_resize(char **to, size_t *to_bytes, const char *json, size_t n, const struct tc_resize *size, struct tc_err *err)
{
	struct edit *e = tc_zalloc(1, sizeof(*e), err);
	int r = -1;

	*to = NULL;
	if (!e)
		return -1;
	e->size = size;
	if (tc_config_parse(&e->was, json, n, err) == 0) {
		e->o = json_loadb(json, n, 0, NULL);
		r = e->o ? apply(e, err) : tc_fail_nomem(err, n);
	}
	if (r == 0 && !(*to = json_dumps(e->o, JSON_INDENT(2) | JSON_REAL_PRECISION(17))))
		r = tc_fail_nomem(err, n);
	*to_bytes = *to ? strlen(*to) : 0;
	json_decref(e->o);
	free(e);
	return r;
}
