/* tasks.h - the items of a stage: made by rule from a text, or from files of
 * JSON lines. */
#ifndef TC_CLI_TASKS_H
#define TC_CLI_TASKS_H

#include "cli/cli.h"
#include "metric/items.h"

struct tc_tasks_options {
	const char *list;        /* "NAME|FILE,..."; NULL: all that are made by rule */
	const char *text;        /* what they are made of; NULL: the embedded text */
	const char *shots_from;  /* examples; NULL: the items themselves */
	size_t items;            /* of each task at most; 0: the default */
	size_t shots;            /* so many more are read, or made */
	int64_t seed;            /* of the rules; TC_UNSET: 0 */
};

struct tc_tasks {
	struct tc_items items, examples; /* examples: where shots come from */
	char text_sha256[TC_SHA256_HEX]; /* "": nothing was made of a text */
};

/* TC_USAGE for a name that is neither, a task that is there twice, and a text
 * or seed that no task is made with. */
int tc_cli_tasks(struct tc_cli *cli, const struct tc_tasks_options *o, struct tc_tasks *t) TC_MUST_CHECK;
void tc_tasks_free(struct tc_tasks *t);

/* For the option table, a const char *: the list, canonical without the
 * directories of files. */
int tc_tasks_parse(const char *value, void *field, struct tc_err *err) TC_MUST_CHECK;
void tc_tasks_print(const void *field, char *buf, size_t size);

#endif
