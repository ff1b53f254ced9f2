/* private.h - what the files of lib/cli know of each other. */
#ifndef TC_CLI_PRIVATE_H
#define TC_CLI_PRIVATE_H

#include "cli/cli.h"

/* message.c: takes a redrawn progress line away; prints cli->err. */
void tc_message_clear(struct tc_cli *cli);
void tc_message_error(struct tc_cli *cli);

/* output.c: a file from a mkstemp(3) template, unlinked before a signal can
 * come between.  Returns the descriptor, or -1 with errno. */
int tc_temporary_open(char *template);
/* Removes the temporary names that are still there. */
void tc_temporary_remove_all(void);
/* True for what was there and is not a regular file: written in place. */
bool tc_output_is_direct(const struct tc_output *o);

/* model.c: where temporary files go. */
const char *tc_temporary_dir(const struct tc_cli *cli);

/* spool.c: what fd still has as an unlinked temporary file, unless its
 * beginning tells that it is no stream: then a part of it, for the reader to
 * refuse.  Returns the file's descriptor, or -1. */
int tc_spool_fd(struct tc_cli *cli, int fd, const char *name);
/* The stream that source is, which is read to its end. */
int tc_spool_source(struct tc_cli *cli, struct tc_source *source);

/* named.c: where the model of a name that share/get-model knows is.  Returns 1,
 * 0 when it is no such name, -1 when it is one and was not fetched. */
int tc_cli_named(struct tc_cli *cli, const char *name, char *path, size_t size) TC_MUST_CHECK;

#endif
