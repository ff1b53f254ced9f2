#include "token/post.h"

#include <string.h>

#include "token/section.h"

static const char where[] = "post_processor 'TemplateProcessing'";

static int
append_special(struct tc_ids *out, const json_t *specials, const char *name, struct tc_err *err)
{
	const json_t *ids = json_object_get(json_object_get(specials, name), "ids");

	if (!json_is_array(ids))
		return tc_fail(err, TC_DATA, "%s: no ids for '%.64s'", where, name);
	for (size_t i = 0; i < json_array_size(ids); i++) {
		uint32_t id = 0;

		if (tc_field_id(json_array_get(ids, i), where, &id, err) < 0 ||
		    tc_ids_append(out, &id, 1, err) < 0)
			return -1;
	}
	return 0;
}

/* A piece is {"Sequence": {"id": "A"}} or {"SpecialToken": {"id": NAME}}. */
static int
add_piece(struct tc_post *t, bool *seen_text, const json_t *piece, const json_t *specials, struct tc_err *err)
{
	const char *sequence = json_string_value(json_object_get(json_object_get(piece, "Sequence"), "id"));
	const char *special = json_string_value(json_object_get(json_object_get(piece, "SpecialToken"), "id"));

	if (special)
		return append_special(*seen_text ? &t->after : &t->before, specials, special, err);
	if (!sequence || strcmp(sequence, "A") != 0 || *seen_text)
		return tc_fail(err, TC_DATA, "%s: 'single' does not hold the text once and special tokens", where);
	*seen_text = true;
	return 0;
}

static int
read_template(struct tc_post *t, const json_t *o, struct tc_err *err)
{
	const json_t *single = json_object_get(o, "single");
	const json_t *specials = json_object_get(o, "special_tokens");
	bool seen_text = false;

	for (size_t i = 0; i < json_array_size(single); i++)
		if (add_piece(t, &seen_text, json_array_get(single, i), specials, err) < 0)
			return -1;
	if (!seen_text)
		return tc_fail(err, TC_DATA, "%s: 'single' does not hold the text", where);
	return 0;
}

/* A template goes around what those before it made. */
static int
add_template(void *ctx, const json_t *o, struct tc_err *err)
{
	struct tc_post *p = ctx;
	struct tc_post t = {0};

	if (read_template(&t, o, err) < 0 ||
	    tc_ids_append(&t.before, p->before.p, p->before.n, err) < 0 ||
	    tc_ids_append(&p->after, t.after.p, t.after.n, err) < 0) {
		tc_post_free(&t);
		return -1;
	}
	free(t.after.p);
	free(p->before.p);
	p->before = t.before;
	return 0;
}

/* It trims offsets, which we do not have. */
static int
add_byte_level(void *ctx, const json_t *o, struct tc_err *err)
{
	(void)ctx, (void)o, (void)err;
	return 0;
}

static const struct tc_kind kinds[] = {
	{ "ByteLevel", add_byte_level },
	{ "TemplateProcessing", add_template },
};

static const struct tc_section post_processor = {
	"post_processor", "processors", kinds, sizeof(kinds) / sizeof(*kinds)
};

int
tc_post_load(struct tc_post *p, const json_t *section, struct tc_err *err)
{
	return tc_section_load(&post_processor, section, p, err);
}

void
tc_post_free(struct tc_post *p)
{
	free(p->before.p);
	free(p->after.p);
	*p = (struct tc_post){0};
}
