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

#endif
