/* options.h - command lines from tables.
 *
 * Parsing, --help, the canonical options of the provenance chain and shell
 * completion all come from the same rows; a test says that the man page
 * agrees with them. */
#ifndef TC_CLI_OPTIONS_H
#define TC_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum tc_opt_type {
	TC_OPT_END,    /* closes a table */
	TC_OPT_FLAG,   /* bool */
	TC_OPT_COUNT,  /* int64_t, min..max; also the suffixes K M G (2^10...) with TC_OPT_SIZE */
	TC_OPT_SIZE,   /* int64_t bytes, suffixes K M G T */
	TC_OPT_REAL,   /* double, min..max */
	TC_OPT_TEXT,   /* const char *, not copied */
	TC_OPT_NAME,   /* const char *, one of `names` ("rtn|gptq"), else a usage error that lists them */
	TC_OPT_LIST,   /* struct tc_list: may be given several times */
	TC_OPT_COUNTS, /* struct tc_counts: "N,N,...", each min..max, or "none" */
	TC_OPT_SHARD,  /* struct tc_shard: "i/n", 1 <= i <= n */
	TC_OPT_CALL    /* int (*parse)(const char *value, void *field, struct tc_err *) */
};

/* How an option enters the canonical options. */
enum tc_opt_role {
	TC_OPT_ANSWER, /* changes the answer: always written with its value */
	TC_OPT_FREE    /* does not: paths, threads, output, verbosity, shard */
};

#define TC_UNSET INT64_MIN /* a count that was not given */

struct tc_list {
	const char *item[64];
	int n;
};

#define TC_COUNTS_MAX 32

struct tc_counts {
	int64_t at[TC_COUNTS_MAX];
	int n;         /* 0: "none"; TC_COUNTS_UNSET: not given */
};
#define TC_COUNTS_UNSET (-1)

struct tc_shard {
	int64_t i, n;  /* 1-based; {1, 1} is everything */
};

struct tc_option {
	const char *name;    /* long name without dashes */
	char letter;         /* short name or 0 */
	enum tc_opt_type type;
	size_t offset;       /* of the field in the stage's struct */
	const char *arg;     /* the value's name in --help, "N", "FILE"; NULL for flags */
	const char *help;    /* one line */
	enum tc_opt_role role;
	double min, max;     /* counts, sizes, reals, each of a list of counts; both 0: no bounds */
	const char *names;   /* TC_OPT_NAME */
	int (*parse)(const char *value, void *field, struct tc_err *err);
	/* TC_OPT_CALL: writes the canonical value; NULL: not written. */
	void (*print)(const void *field, char *buf, size_t size);
};

/* The options that stages share.  A stage names the groups it has; an option
 * of another group is unknown to it. */
enum tc_common_group {
	TC_COMMON_ALWAYS = 1 << 0, /* -q -v --threads --tmpdir -h --version */
	TC_COMMON_OUTPUT = 1 << 1, /* -o: the stage writes a stream or a file */
	TC_COMMON_TEXT = 1 << 2,   /* --text --ids */
	TC_COMMON_SAMPLE = 1 << 3, /* --samples --seqlen --skip --shard */
	TC_COMMON_SELECT = 1 << 4, /* --include --exclude */
	TC_COMMON_STRIP = 1 << 5,  /* --strip */
	TC_COMMON_JSON = 1 << 6,   /* --json */
	TC_COMMON_RESULT = 1 << 7, /* --result */
	TC_COMMON_SEED = 1 << 8,   /* --seed */
	TC_COMMON_COMPUTE = 1 << 9,/* --compute --memory: runs the model */
	TC_COMMON_COMPUTE_ANY = 1 << 10,  /* --compute with bf16 and int8, --act-scale --hold-out (cli/compute.h), */
	TC_COMMON_MEMORY = 1 << 11,/* and --memory */
	TC_COMMON_PROMPT = 1 << 12,/* --prompt --prompts --ids --chat --system, and -n --temp --top-k --top-p
	                            * --repeat-penalty: cli/prompts.h */
};

struct tc_common {
	const char *output, *result, *text, *ids, *tmpdir, *compute, *act_scale;
	const char *prompt, *prompts, *system;
	bool quiet, verbose, json, strip, chat;
	int64_t threads, memory, seed, samples, seqlen, skip; /* TC_UNSET when not given */
	int64_t tokens, top_k;
	double temp, top_p, repeat_penalty;
	double hold_out;                   /* NAN when not given */
	struct tc_shard shard;
	struct tc_list include, exclude;   /* shell patterns (fnmatch) on tensor names */
};
/* Initialise with this, then set the stage's own defaults on top. */
extern const struct tc_common tc_common_defaults;

struct tc_stage {
	const char *name;       /* "tc-quant" */
	const char *summary;    /* one line, as in the man page's .Nd */
	const char *operands;   /* "[MODEL]", "MODEL ...", for the usage line */
	int operands_max;
	const struct tc_option *options;  /* the stage's own, ended by TC_OPT_END */
	unsigned common;        /* enum tc_common_group, or-ed */
	size_t common_offset;   /* of struct tc_common in the stage's struct */
};

/* Parses argv into *args.  "--name value", "--name=value", "-o value",
 * "-ovalue", clustered short flags; "--" ends options; "-" is an operand.
 * Long names are never abbreviated.  A usage error gives TC_USAGE. */
struct tc_parsed {
	bool help, version;
	const char *completion;  /* NULL, or the shell that asks */
	int noperands;
	const char *operand[256];
};
int tc_options_parse(const struct tc_stage *stage, void *args, int argc, char **argv, struct tc_parsed *out, struct tc_err *err) TC_MUST_CHECK;

/* "--bits 4 --group 128 ...": every TC_OPT_ANSWER option with its value, in
 * table order, stage's own first; unset ones left out.  Quoted as a shell
 * would need it. */
int tc_options_canonical(const struct tc_stage *stage, const void *args, char *buf, size_t size, struct tc_err *err) TC_MUST_CHECK;

/* --help, on stdout. */
void tc_options_help(const struct tc_stage *stage);

/* --completion SHELL, which --help does not list: what completes the stage's
 * command line in bash ("bash") or zsh ("zsh"), on stdout.  Outputs of several
 * stages may stand one after another; zsh reads the first line only of a file. */
void tc_options_complete(const struct tc_stage *stage, const char *shell);

#endif
