/* plan.h - plans of tc-alloc: what is to become of each tensor.
 *
 * A JSON object: "tc_alloc": 1, "method", "budget_bytes" (null: none),
 * "predicted_bytes", "bits_per_weight", "predicted_error" and "tensors", an array
 * of {"name", "method", "bits", "group", "sparsity", "bytes", "predicted_error"}.
 * Without "bits" a tensor is not quantized; one that is not listed is left as it
 * is.  In a stream it is a file of this name, before the tensors: */
#ifndef TC_CLI_PLAN_H
#define TC_CLI_PLAN_H

#include "cli/choices.h"
#include "cli/cli.h"
#include "stream/hold.h"

#define TC_PLAN_FILE "alloc.json"
enum { TC_PLAN_METHOD_MAX = 32 };

struct tc_plan_row {
	char name[TC_NAME_MAX];
	struct tc_choice choice;   /* not skip */
	uint64_t bytes;            /* predicted; 0: not known */
	double error;              /* predicted; NAN: not known */
};

struct tc_plan {
	char method[TC_PLAN_METHOD_MAX];
	uint64_t budget, predicted; /* bytes of the whole model; UINT64_MAX: no budget */
	double bits, error;         /* a weight, of it; of it; NAN: not known */
	struct tc_plan_row *row;
	size_t n;
	uint64_t hash;              /* of the text that was parsed */
};

int tc_plan_parse(struct tc_plan *p, const char *json, size_t n, struct tc_err *err) TC_MUST_CHECK;
/* The JSON text, ended by a newline, for free(3). */
int tc_plan_text(const struct tc_plan *p, char **text, struct tc_err *err) TC_MUST_CHECK;
void tc_plan_free(struct tc_plan *p);

/* NULL: it is left as it is. */
const struct tc_plan_row *tc_plan_find(const struct tc_plan *p, const char *name);
/* TC_DATA when a row's tensor is none of the model's that are quantized: a matrix
 * of a block, the embedding, or an untied head. */
int tc_plan_check(const struct tc_plan *p, const struct tc_header *h, struct tc_err *err) TC_MUST_CHECK;
bool tc_plan_is_record(const struct tc_record *r);

/* The option --alloc, and what the stream carries where it is not given. */
struct tc_plan_option {
	const char *path;
	bool compares;              /* set by a stage that obeys none, but looks at it */
	bool known;                 /* there is a plan */
	struct tc_plan plan;
	struct tc_buf text;         /* of path */
	struct tc_hold files;       /* records in front of the first that is no file, and it */
	struct tc_held_source ahead;
};
int tc_plan_option_parse(const char *value, void *field, struct tc_err *err) TC_MUST_CHECK;
/* "plan:" and its hash, when it is known. */
void tc_plan_option_print(const void *field, char *buf, size_t size);

/* The stream's files are looked at; *from becomes what gives the records of source
 * from the first on (source stays the caller's, and is what tc_cli_stream_end()
 * wants).  Without a path a plan that is there is obeyed; one that is other than
 * the path's gives way to it, in what *from gives.  The plan is checked, and what
 * was done said. */
int tc_plan_open(struct tc_plan_option *o, struct tc_cli *cli, struct tc_source *source, struct tc_source **from) TC_MUST_CHECK;
void tc_plan_close(struct tc_plan_option *o);
/* At the end of a stage that obeys it: the model's bytes beside the plan's; or,
 * where it was not quantized, that it is to be. */
void tc_plan_say(const struct tc_plan_option *o, struct tc_cli *cli, uint64_t bytes, bool quantized);

#endif
