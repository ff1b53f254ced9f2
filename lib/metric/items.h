/* items.h - multiple-choice items, as JSON lines:
 *
 *   {"task": "cloze", "id": "7", "group": "p12", "context": "The cat sat on the",
 *    "choices": [" mat", " moon"], "answer": 0}
 *
 * task, id and group may be left out.  Context and choices are text, all of
 * them, or lists of token ids. */
#ifndef TC_METRIC_ITEMS_H
#define TC_METRIC_ITEMS_H

#include <jansson.h>
#include <stdbool.h>

#include "base/hash.h"
#include "base/mem.h"

#define TC_CHOICES_MAX 64

struct tc_item {
	const char *task;
	const char *id, *group;       /* NULL: none */
	const json_t *context, *choices;
	size_t nchoices, answer;
	bool ids;                     /* token ids, not text */
	json_t *json;                 /* what holds all of these: the keys above and no others */
};

struct tc_items {
	struct tc_item *item;
	size_t n, cap;
};

/* Adds the item that o says; task: its task where it names none.  TC_DATA for
 * what is no item. */
int tc_items_add(struct tc_items *s, const json_t *o, const char *task, struct tc_err *err) TC_MUST_CHECK;
/* Adds those of text[0..n), JSON lines; blank lines are passed over. */
int tc_items_read(struct tc_items *s, const char *text, size_t n, const char *task, struct tc_err *err) TC_MUST_CHECK;
/* Adds of each task (by name) the first `most` of from's items, those at `begin`
 * and later, which are then shared. */
int tc_items_take(struct tc_items *s, const struct tc_items *from, size_t begin, size_t most, struct tc_err *err) TC_MUST_CHECK;
size_t tc_items_of_task(const struct tc_items *s, const char *task);
void tc_items_free(struct tc_items *s);

/* Appends them as JSON lines, keys in the order above; read again they print
 * as the same bytes. */
int tc_items_print(const struct tc_items *s, struct tc_buf *out, struct tc_err *err) TC_MUST_CHECK;
/* SHA-256 of what is printed. */
int tc_items_sha256(const struct tc_items *s, char hex[TC_SHA256_HEX], struct tc_err *err) TC_MUST_CHECK;

/* The same question: context and choices are equal. */
bool tc_item_same(const struct tc_item *a, const struct tc_item *b);

#endif
