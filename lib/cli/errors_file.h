/* errors_file.h - the file of tc-quant --errors: a JSON object a line, for each
 * tensor what error was left in it. */
#ifndef TC_CLI_ERRORS_FILE_H
#define TC_CLI_ERRORS_FILE_H

#include "cli/cli.h"
#include "method/errors.h"

/* {0} is one that was not opened; discarding it is fine. */
struct tc_errors_file {
	const char *path;
	struct tc_output *output;
	struct tc_buf text;
	double weights, weighted;  /* parameters, and their tensors' relative errors times them */
};

/* Which tensor, and how it was quantized. */
struct tc_errors_row {
	const char *name, *method, *group;
	size_t bits, parameters;
};

/* path is not copied; TC_USAGE for standard output, "-". */
int tc_errors_file_open(struct tc_errors_file *f, const char *path, struct tc_err *err) TC_MUST_CHECK;
int tc_errors_file_add(struct tc_errors_file *f, const struct tc_errors_row *row, const struct tc_errors *e, struct tc_err *err) TC_MUST_CHECK;
/* Mean of the relative errors of weights, each tensor's as often as it has
 * parameters; NAN where there was none. */
double tc_errors_file_mean(const struct tc_errors_file *f);
/* It gets its name.  Nothing is left to be discarded then, also after a failure. */
int tc_errors_file_commit(struct tc_errors_file *f, struct tc_err *err) TC_MUST_CHECK;
void tc_errors_file_discard(struct tc_errors_file *f);

#endif
