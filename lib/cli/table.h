/* table.h - what the files of lib/cli that know option tables share. */
#ifndef TC_CLI_TABLE_H
#define TC_CLI_TABLE_H

#include "cli/options.h"

/* The struct that an option's offset is counted from. */
enum tc_home { TC_HOME_STAGE, TC_HOME_COMMON, TC_HOME_PARSED };

struct tc_row {
	const struct tc_option *option;
	enum tc_home home;
};

/* The i-th option that a stage has: its own, the common groups that it
 * names, --help and --version.  False past the last. */
bool tc_table_at(const struct tc_stage *stage, size_t i, struct tc_row *row);

/* False for flags, and for calls without `arg`. */
bool tc_option_takes_value(const struct tc_option *o);

/* Text (NULL where none is taken) into the option's field.  The message of a
 * failure starts with the value; the caller puts the option's name before it. */
int tc_value_parse(const struct tc_option *o, const char *text, void *field, struct tc_err *err) TC_MUST_CHECK;

#define TC_NUMBER_CHARS 32
/* The shortest decimal that reads back as x. */
void tc_number_print(double x, char buf[TC_NUMBER_CHARS]);

#endif
