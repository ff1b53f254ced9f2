/* stats_file.h - the option --stats: statistics of a file in the place of the
 * stream's, for stages that measure nothing themselves. */
#ifndef TC_CLI_STATS_FILE_H
#define TC_CLI_STATS_FILE_H

#include "cli/cli.h"
#include "method/measures.h"

/* {0} is one that was not opened; closing it is fine. */
struct tc_stats_file {
	const char *path;         /* NULL: not asked for */
	struct tc_source *source;
	struct tc_hold hold;      /* the statistics alone */
};

/* Of a TC_OPT_CALL whose field is such a struct: what is written is the hash of the
 * file that was read, and nothing before. */
int tc_stats_file_parse(const char *value, void *field, struct tc_err *err) TC_MUST_CHECK;
void tc_stats_file_print(const void *field, char *buf, size_t size);

/* Reads what was asked for, if anything: a stream of the model that `of` is, with
 * statistics (else TC_DATA).  The canonical options of cli, which are args', then say it. */
int tc_stats_file_open(struct tc_stats_file *f, struct tc_cli *cli, const void *args, const struct tc_header *of) TC_MUST_CHECK;
/* What is known when a record of the stream comes: its statistics, or, where there
 * is a file, what that has of a tensor's block. */
int tc_stats_file_tell(const struct tc_stats_file *f, const struct tc_record *r, struct tc_measures *m, struct tc_err *err) TC_MUST_CHECK;
void tc_stats_file_close(struct tc_stats_file *f);

#endif
