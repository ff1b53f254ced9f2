#include "cli/tasks.h"

#include <string.h>
#include <unistd.h>

#include "cli/tokens.h"
#include "metric/rules.h"

#define FILE_BYTES_MAX ((size_t)1 << 30)
#define MADE_ITEMS 200   /* of a task, by default */
#define ENDING ".jsonl"

struct loader {
	struct tc_cli *cli;
	const struct tc_tasks_options *o;
	struct tc_tasks *t;
	struct tc_items all;     /* beyond o->items too: examples come from them */
	struct tc_buf text;
	struct tc_words words;
	bool worded, drawn;
};

/* ---- the list ---- */

/* The next name of a list, *n bytes; NULL at its end. */
static const char *
next_name(const char **list, size_t *n)
{
	const char *name = *list;

	if (!name)
		return NULL;
	*n = strcspn(name, ",");
	*list = name[*n] ? name + *n + 1 : NULL;
	return name;
}

/* Without directories. */
static const char *
base_name(const char *path, size_t *n)
{
	const char *slash = memrchr(path, '/', *n);

	if (!slash)
		return path;
	*n -= (size_t)(slash + 1 - path);
	return slash + 1;
}

int
tc_tasks_parse(const char *value, void *field, struct tc_err *err)
{
	const char *list = value, *name;
	size_t n;

	while ((name = next_name(&list, &n)))
		if (n == 0)
			return tc_fail(err, TC_USAGE, "%.64s: a name is empty", value);
	*(const char **)field = value;
	return 0;
}

void
tc_tasks_print(const void *field, char *buf, size_t size)
{
	const char *list = *(const char *const *)field, *name;
	size_t n, at = 0;

	buf[0] = '\0';
	while ((name = next_name(&list, &n)) && at < size) {
		name = base_name(name, &n);
		at += (size_t)snprintf(buf + at, size - at, "%s%.*s", at > 0 ? "," : "", (int)n, name);
	}
}

/* ---- items ---- */

static int
need_words(struct loader *l)
{
	if (l->worded)
		return 0;
	l->worded = true;
	if (tc_cli_read_text(l->cli, l->o->text, "text/eval.txt", &l->text, l->t->text_sha256) < 0)
		return -1;
	if (tc_words_open(&l->words, (const char *)l->text.p, l->text.n, &l->cli->err) < 0)
		return tc_err_at(&l->cli->err, "%s", l->o->text ? l->o->text : "text/eval.txt");
	return 0;
}

static int
read_items(struct tc_items *items, const char *path, struct tc_err *err)
{
	size_t n = strlen(path), had = items->n;
	const char *base = base_name(path, &n);
	char name[256];
	struct tc_buf text = {0};
	int r;

	if (n > strlen(ENDING) && strcmp(base + n - strlen(ENDING), ENDING) == 0)
		n -= strlen(ENDING);
	snprintf(name, sizeof(name), "%.*s", (int)n, base);
	r = tc_read_file(path, &text, FILE_BYTES_MAX, err);
	if (r == 0 && tc_items_read(items, (const char *)text.p, text.n, name, err) < 0)
		r = tc_err_at(err, "%s", path);
	if (r == 0 && items->n == had)
		r = tc_fail(err, TC_DATA, "%s: has no items", path);
	tc_buf_free(&text);
	return r;
}

/* A name that looks like one of a task, and is no file's. */
static int
unknown_task(const char *name, struct tc_err *err)
{
	char list[256] = "";
	size_t at = 0;

	for (const struct tc_rule *r = tc_rules; r->name && at < sizeof(list); r++)
		at += (size_t)snprintf(list + at, sizeof(list) - at, "%s%s", at > 0 ? ", " : "", r->name);
	return tc_fail(err, TC_USAGE, "--task %.64s: is no file, and none of the tasks %s", name, list);
}

static int
add_named(struct loader *l, const char *name, size_t n, size_t most)
{
	const struct tc_rule *rule = tc_rule_named(name, n);
	struct tc_err *err = &l->cli->err;
	char path[4096];

	if (rule) {
		l->drawn = true;
		if (rule->of_text && need_words(l) < 0)
			return -1;
		return tc_rule_make(rule, &l->words, most + l->o->shots, l->o->seed == TC_UNSET ? 0 : (uint64_t)l->o->seed,
		    &l->all, err);
	}
	if (snprintf(path, sizeof(path), "%.*s", (int)n, name) >= (int)sizeof(path))
		return tc_fail(err, TC_USAGE, "--task: a name is too long");
	if (!strpbrk(path, "./") && access(path, F_OK) < 0)
		return unknown_task(path, err);
	return read_items(&l->all, path, err);
}

/* What one name gave: the items from `begin` on. */
static int
take(struct loader *l, size_t begin, size_t most)
{
	for (size_t i = begin; i < l->all.n; i++) {
		const char *task = l->all.item[i].task;

		if (i > begin && strcmp(task, l->all.item[i - 1].task) == 0)
			continue;
		if (tc_items_of_task(&l->t->items, task) > 0)
			return tc_fail(&l->cli->err, TC_USAGE, "--task: %s is there twice", task);
	}
	return tc_items_take(&l->t->items, &l->all, begin, most, &l->cli->err);
}

static int
add_task(struct loader *l, const char *name, size_t n)
{
	size_t begin = l->all.n, most = l->o->items;

	if (most == 0)
		most = tc_rule_named(name, n) ? MADE_ITEMS : SIZE_MAX;
	return add_named(l, name, n, most) < 0 ? -1 : take(l, begin, most);
}

static int
add_tasks(struct loader *l)
{
	const char *list = l->o->list, *name;
	size_t n;

	if (!list)
		for (const struct tc_rule *r = tc_rules; r->name; r++)
			if (add_task(l, r->name, strlen(r->name)) < 0)
				return -1;
	while ((name = next_name(&list, &n)))
		if (add_task(l, name, n) < 0)
			return -1;
	if (!l->worded && l->o->text)
		return tc_fail(&l->cli->err, TC_USAGE, "--text: no task is made of it");
	if (!l->drawn && l->o->seed != TC_UNSET)
		return tc_fail(&l->cli->err, TC_USAGE, "--seed: no task is drawn with it");
	return 0;
}

int
tc_cli_tasks(struct tc_cli *cli, const struct tc_tasks_options *o, struct tc_tasks *t)
{
	struct loader l = { .cli = cli, .o = o, .t = t };
	int r = add_tasks(&l);

	if (r == 0 && o->shots_from)
		r = read_items(&t->examples, o->shots_from, &cli->err);
	else if (r == 0 && o->shots > 0)
		r = tc_items_take(&t->examples, &l.all, 0, SIZE_MAX, &cli->err);
	tc_items_free(&l.all);
	tc_words_close(&l.words);
	tc_buf_free(&l.text);
	return r;
}

void
tc_tasks_free(struct tc_tasks *t)
{
	tc_items_free(&t->items);
	tc_items_free(&t->examples);
}
