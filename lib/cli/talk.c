#include "cli/talk.h"

#include <stdlib.h>
#include <string.h>

#include "cli/tokens.h"

static void
add_eos(struct tc_talk *t, int64_t id)
{
	if (id >= 0 && id <= UINT32_MAX && t->neos < TC_TALK_EOS_MAX)
		t->eos[t->neos++] = (uint32_t)id;
}

static json_t *
parse(const struct tc_record *r, struct tc_err *err)
{
	json_error_t why;
	json_t *root = json_loadb(r->part[0].data, r->part[0].size_bytes, 0, &why);

	if (!root)
		tc_fail(err, TC_DATA, "%s: line %d: %s", r->u.file.name, why.line, why.text);
	return root;
}

/* generation_config.json may name more end tokens than config.json. */
static int
take_generation_config(struct tc_talk *t, const struct tc_record *r, struct tc_err *err)
{
	json_t *root, *eos, *one;
	size_t i;

	if (strcmp(r->u.file.name, "generation_config.json") != 0)
		return 0;
	root = parse(r, err);
	if (!root)
		return -1;
	eos = json_object_get(root, "eos_token_id");
	if (json_is_integer(eos))
		add_eos(t, json_integer_value(eos));
	json_array_foreach(eos, i, one)
		if (json_is_integer(one))
			add_eos(t, json_integer_value(one));
	json_decref(root);
	return 0;
}

/* A string, or a list of named ones of which "default" is it; NULL: none. */
static const char *
default_template(const json_t *t)
{
	const json_t *named;
	size_t i;

	json_array_foreach(t, i, named) {
		const char *name = json_string_value(json_object_get(named, "name"));

		if (name && strcmp(name, "default") == 0)
			return json_string_value(json_object_get(named, "template"));
	}
	return json_string_value(t);
}

/* Copies n bytes to *to in place of what is there. */
static int
set(char **to, const char *text, size_t n, struct tc_err *err)
{
	free(*to);
	*to = tc_strndup(text, n, err);
	return *to ? 0 : -1;
}

/* A token's text, or an object that has it as "content". */
static int
set_token(char **to, const json_t *token, struct tc_err *err)
{
	const char *text = json_string_value(json_is_object(token) ? json_object_get(token, "content") : token);

	return text ? set(to, text, strlen(text), err) : 0;
}

static int
take_tokenizer_config(struct tc_talk *t, const struct tc_record *r, struct tc_err *err)
{
	json_t *root = parse(r, err);
	const char *text;
	int got;

	if (!root)
		return -1;
	text = t->template ? NULL : default_template(json_object_get(root, "chat_template"));
	got = text ? set(&t->template, text, strlen(text), err) : 0;
	if (got == 0)
		got = set_token(&t->bos_token, json_object_get(root, "bos_token"), err);
	if (got == 0)
		got = set_token(&t->eos_token, json_object_get(root, "eos_token"), err);
	json_decref(root);
	return got;
}

/* A template in a file of its own comes before what tokenizer_config.json has. */
static int
take_template(struct tc_talk *t, const struct tc_record *r, struct tc_err *err)
{
	if (strcmp(r->u.file.name, "chat_template.jinja") == 0)
		return set(&t->template, r->part[0].data, r->part[0].size_bytes, err);
	return strcmp(r->u.file.name, "tokenizer_config.json") == 0 ? take_tokenizer_config(t, r, err) : 0;
}

static int
take_file(struct tc_talk *t, struct tc_cli *cli, const struct tc_record *r)
{
	return tc_cli_take_tokenizer(cli, r, &t->tokenizer) < 0 || take_generation_config(t, r, &cli->err) < 0 ||
	    take_template(t, r, &cli->err) < 0 ? -1 : 0;
}

int
tc_talk_load(struct tc_talk *t, struct tc_cli *cli, struct tc_compute *compute)
{
	struct tc_err *err = &cli->err;
	struct tc_record r;
	int got;

	if (tc_model_begin(&t->model, &t->source->header, cli->pool, err) < 0)
		return -1;
	t->model.compute = compute;
	for (size_t i = 0; i < t->model.config.neos; i++)
		add_eos(t, t->model.config.eos[i]);
	while ((got = tc_source_next(t->source, &r, err)) > 0) {
		if (r.kind == TC_KIND_FILE && take_file(t, cli, &r) < 0)
			return -1;
		if (r.kind != TC_KIND_TENSOR && r.kind != TC_KIND_REF)
			continue;
		if (tc_model_take(&t->model, &r, t->source->mapped, err) < 0 ||
		    (t->also && t->also(t->ctx, &r, t->source->mapped, err) < 0))
			return -1;
	}
	return got < 0 ? -1 : tc_model_finish(&t->model, err);
}

void
tc_talk_close(struct tc_talk *t)
{
	tc_model_free(&t->model);
	tc_tokenizer_free(t->tokenizer);
	free(t->template);
	free(t->bos_token);
	free(t->eos_token);
	tc_source_close(t->source);
	*t = (struct tc_talk){0};
}

int
tc_talk_same_tokens(const struct tc_talk *t, const struct tc_talk *other, struct tc_err *err)
{
	if (t->tokenizer && other->tokenizer)
		return tc_tokenizer_check_same(t->tokenizer, other->tokenizer, err);
	if (!t->tokenizer && !other->tokenizer && t->model.config.vocab == other->model.config.vocab)
		return 0;
	return tc_fail(err, TC_DATA, "whether its vocabulary is the model's cannot be known: a tokenizer is missing");
}

bool
tc_talk_ends(const struct tc_talk *t, uint32_t id)
{
	for (size_t i = 0; i < t->neos; i++)
		if (t->eos[i] == id)
			return true;
	return false;
}
