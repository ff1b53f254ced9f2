#include "metric/items.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "token/tokenizer.h"
#include "token/utf8.h"

/* ---- one item ---- */

static bool
is_ids(const json_t *v)
{
	const json_t *id;
	size_t i;

	if (!json_is_array(v))
		return false;
	json_array_foreach(v, i, id)
		if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > UINT32_MAX)
			return false;
	return true;
}

/* A name: text, or an integer. */
static int
take_name(json_t *to, const json_t *o, const char *key, const char **name, struct tc_err *err)
{
	const json_t *v = json_object_get(o, key);
	json_t *text;

	if (!v || json_is_null(v))
		return 0;
	if (!json_is_string(v) && !json_is_integer(v))
		return tc_fail(err, TC_DATA, "%s: must be text or an integer", key);
	text = json_is_string(v) ? json_string(json_string_value(v)) : json_sprintf("%lld", (long long)json_integer_value(v));
	if (json_object_set_new(to, key, text) < 0)
		return tc_fail_nomem(err, 0);
	*name = json_string_value(text);
	return 0;
}

/* A copy, so that the caller's object can go and unknown keys do. */
static int
take_value(json_t *to, const json_t *o, const char *key, const json_t **v, struct tc_err *err)
{
	*v = json_object_get(o, key);
	if (!*v)
		return tc_fail(err, TC_DATA, "has no %s", key);
	if (json_object_set_new(to, key, json_deep_copy(*v)) < 0)
		return tc_fail_nomem(err, 0);
	*v = json_object_get(to, key);
	return 0;
}

static int
check_choices(struct tc_item *item, struct tc_err *err)
{
	const json_t *v;
	size_t i;

	if (!json_is_string(item->context) && !is_ids(item->context))
		return tc_fail(err, TC_DATA, "context: must be text, or an array of token ids");
	item->ids = json_is_array(item->context);
	item->nchoices = json_array_size(item->choices);
	if (item->nchoices < 2 || item->nchoices > TC_CHOICES_MAX)
		return tc_fail(err, TC_DATA, "choices: must be an array of 2 to %d", TC_CHOICES_MAX);
	json_array_foreach(item->choices, i, v) {
		if (item->ids ? !is_ids(v) : !json_is_string(v))
			return tc_fail(err, TC_DATA, "choice %zu: must be %s, as the context is", i,
			    item->ids ? "an array of token ids" : "text");
		if (item->ids ? json_array_size(v) == 0 : json_string_length(v) == 0)
			return tc_fail(err, TC_DATA, "choice %zu: is empty", i);
	}
	return 0;
}

static int
take_answer(json_t *to, const json_t *o, struct tc_item *item, struct tc_err *err)
{
	const json_t *v;
	json_int_t answer;

	if (take_value(to, o, "answer", &v, err) < 0)
		return -1;
	answer = json_integer_value(v);
	if (!json_is_integer(v) || answer < 0 || answer >= (json_int_t)item->nchoices)
		return tc_fail(err, TC_DATA, "answer: must be 0 to %zu, the index of a choice", item->nchoices - 1);
	item->answer = (size_t)answer;
	return 0;
}

static int
take_item(struct tc_item *item, const json_t *o, const char *task, struct tc_err *err)
{
	json_t *to = json_object();

	*item = (struct tc_item){ .json = to };
	if (!to)
		return tc_fail_nomem(err, 0);
	if (!json_is_object(o))
		return tc_fail(err, TC_DATA, "is not an object");
	if (take_name(to, o, "task", &item->task, err) < 0)
		return -1;
	if (!item->task) {
		if (json_object_set_new(to, "task", json_string(task)) < 0)
			return tc_fail_nomem(err, 0);
		item->task = json_string_value(json_object_get(to, "task"));
	}
	if (take_name(to, o, "id", &item->id, err) < 0 || take_name(to, o, "group", &item->group, err) < 0 ||
	    take_value(to, o, "context", &item->context, err) < 0 ||
	    take_value(to, o, "choices", &item->choices, err) < 0 || check_choices(item, err) < 0)
		return -1;
	return take_answer(to, o, item, err);
}

bool
tc_item_same(const struct tc_item *a, const struct tc_item *b)
{
	return json_equal(a->context, b->context) && json_equal(a->choices, b->choices);
}

/* ---- many ---- */

static int
grow(struct tc_items *s, struct tc_err *err)
{
	size_t cap = 2 * s->cap + 64;
	struct tc_item *item;

	if (s->n < s->cap)
		return 0;
	item = tc_alloc(cap, sizeof(*item), err);
	if (!item)
		return -1;
	if (s->n)
		memcpy(item, s->item, s->n * sizeof(*item));
	free(s->item);
	s->item = item;
	s->cap = cap;
	return 0;
}

int
tc_items_add(struct tc_items *s, const json_t *o, const char *task, struct tc_err *err)
{
	if (grow(s, err) < 0)
		return -1;
	if (take_item(&s->item[s->n], o, task, err) < 0) {
		json_decref(s->item[s->n].json);
		return -1;
	}
	s->n++;
	return 0;
}

static int
read_line(struct tc_items *s, const char *text, size_t n, const char *task, struct tc_err *err)
{
	json_error_t why;
	json_t *o;
	int r;

	if (tc_utf8_spaces_at_start((const unsigned char *)text, n) == n)
		return 0;
	o = json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
	if (!o)
		return tc_fail(err, TC_DATA, "%s", why.text);
	r = tc_items_add(s, o, task, err);
	json_decref(o);
	return r;
}

int
tc_items_read(struct tc_items *s, const char *text, size_t n, const char *task, struct tc_err *err)
{
	size_t bad, line = 1;

	if (!tc_utf8_check(text, n, &bad))
		return tc_fail(err, TC_DATA, "invalid UTF-8 at byte %zu", bad);
	for (size_t at = 0; at < n; line++) {
		const char *end = memchr(text + at, '\n', n - at);
		size_t bytes = end ? (size_t)(end - text) - at : n - at;

		if (read_line(s, text + at, bytes, task, err) < 0)
			return tc_err_at(err, "line %zu", line);
		at += bytes + 1;
	}
	return 0;
}

size_t
tc_items_of_task(const struct tc_items *s, const char *task)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n; i++)
		n += strcmp(s->item[i].task, task) == 0;
	return n;
}

int
tc_items_take(struct tc_items *s, const struct tc_items *from, size_t begin, size_t most, struct tc_err *err)
{
	const char *task = NULL;
	size_t had = 0;   /* of that task */

	for (size_t i = begin; i < from->n; i++) {
		if (!task || strcmp(task, from->item[i].task) != 0) {
			task = from->item[i].task;
			had = most < from->n ? tc_items_of_task(s, task) : 0;
		}
		if (had >= most)
			continue;
		had++;
		if (grow(s, err) < 0)
			return -1;
		s->item[s->n] = from->item[i];
		json_incref(s->item[s->n++].json);
	}
	return 0;
}

void
tc_items_free(struct tc_items *s)
{
	for (size_t i = 0; i < s->n; i++)
		json_decref(s->item[i].json);
	free(s->item);
	*s = (struct tc_items){0};
}

int
tc_items_print(const struct tc_items *s, struct tc_buf *out, struct tc_err *err)
{
	for (size_t i = 0; i < s->n; i++) {
		char *line = json_dumps(s->item[i].json, JSON_COMPACT);
		int r;

		if (!line)
			return tc_fail_nomem(err, 0);
		r = tc_buf_append(out, line, strlen(line), err);
		free(line);
		if (r < 0 || tc_buf_append(out, "\n", 1, err) < 0)
			return -1;
	}
	return 0;
}

int
tc_items_sha256(const struct tc_items *s, char hex[TC_SHA256_HEX], struct tc_err *err)
{
	struct tc_buf text = {0};
	int r = tc_items_print(s, &text, err);

	if (r == 0)
		r = tc_sha256_of(text.p, text.n, hex, err);
	tc_buf_free(&text);
	return r;
}
