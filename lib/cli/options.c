/* options.c - the options that stages share, and the walk over argv. */
#include "cli/table.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/thread.h"
#include "cli/prompts.h"

#define WINDOWS_MAX 0x1p40  /* no text has more */
#define SEQLEN_MAX 0x1p24
#define SEED_MAX 0x1p53     /* JSON readers hold it exactly */
#define MEMORY_MIN 0x1p20
#define MEMORY_MAX 0x1p53
#define HOLD_OUT_MAX 1e6

const struct tc_common tc_common_defaults = {
	.compute = "f32",
	.hold_out = NAN,
	.threads = TC_UNSET,
	.memory = TC_UNSET,
	.seed = TC_UNSET,
	.samples = TC_UNSET,
	.seqlen = TC_UNSET,
	.skip = TC_UNSET,
	.shard = { 1, 1 },
	.tokens = 64,
	.top_p = 1,
	.repeat_penalty = 1,
};

#define AT(field) offsetof(struct tc_common, field)

static const struct {
	enum tc_common_group group;
	struct tc_option option;
} common_rows[] = {
	{ TC_COMMON_PROMPT, { .name = "prompt", .type = TC_OPT_TEXT, .offset = AT(prompt), .arg = "TEXT",
	    .help = "what the text begins with (default \"" TC_DEFAULT_PROMPT "\")" } },
	{ TC_COMMON_PROMPT, { .name = "prompts", .type = TC_OPT_TEXT, .offset = AT(prompts), .arg = "FILE", .role = TC_OPT_FREE,
	    .help = "many prompts, text or JSON, one a line; coach, docs and general are there" } },
	{ TC_COMMON_PROMPT, { .name = "ids", .type = TC_OPT_TEXT, .offset = AT(ids), .arg = "FILE", .role = TC_OPT_FREE,
	    .help = "prompts as token ids: JSON, one array each" } },
	{ TC_COMMON_PROMPT, { .name = "chat", .type = TC_OPT_FLAG, .offset = AT(chat),
	    .help = "a prompt is a user's turn: written as the model's chat template says" } },
	{ TC_COMMON_PROMPT, { .name = "system", .type = TC_OPT_TEXT, .offset = AT(system), .arg = "TEXT",
	    .help = "of a chat: the system's turn (default: the template's own)" } },
	{ TC_COMMON_PROMPT, { .name = "tokens", .letter = 'n', .type = TC_OPT_COUNT, .offset = AT(tokens), .arg = "N",
	    .min = 1, .max = 1 << 24, .help = "tokens to generate at most (default 64)" } },
	{ TC_COMMON_PROMPT, { .name = "temp", .type = TC_OPT_REAL, .offset = AT(temp), .arg = "T", .min = 0, .max = 100,
	    .help = "temperature; 0 takes the most likely token (default 0)" } },
	{ TC_COMMON_PROMPT, { .name = "top-k", .type = TC_OPT_COUNT, .offset = AT(top_k), .arg = "K", .min = 0, .max = 1 << 24,
	    .help = "sample from the K most likely tokens; 0: all (default 0)" } },
	{ TC_COMMON_PROMPT, { .name = "top-p", .type = TC_OPT_REAL, .offset = AT(top_p), .arg = "P", .min = 0, .max = 1,
	    .help = "sample from the fewest tokens that have probability P together (default 1)" } },
	{ TC_COMMON_PROMPT, { .name = "repeat-penalty", .type = TC_OPT_REAL, .offset = AT(repeat_penalty), .arg = "R",
	    .min = 0.01, .max = 100, .help = "divide the logits of tokens seen, if positive, else multiply (default 1)" } },
	{ TC_COMMON_TEXT, { .name = "text", .type = TC_OPT_TEXT, .offset = AT(text), .arg = "FILE", .role = TC_OPT_FREE,
	    .help = "read text from FILE" } },
	{ TC_COMMON_TEXT, { .name = "ids", .type = TC_OPT_TEXT, .offset = AT(ids), .arg = "FILE", .role = TC_OPT_FREE,
	    .help = "read token ids from FILE (JSON, an array a sequence) instead of text" } },
	{ TC_COMMON_SAMPLE, { .name = "samples", .type = TC_OPT_COUNT, .offset = AT(samples), .arg = "N",
	    .min = 1, .max = WINDOWS_MAX, .help = "take N windows of the text" } },
	{ TC_COMMON_SAMPLE, { .name = "seqlen", .type = TC_OPT_COUNT, .offset = AT(seqlen), .arg = "N",
	    .min = 2, .max = SEQLEN_MAX, .help = "windows of N tokens" } },
	{ TC_COMMON_SAMPLE, { .name = "skip", .type = TC_OPT_COUNT, .offset = AT(skip), .arg = "N",
	    .min = 0, .max = WINDOWS_MAX, .help = "leave out the first N windows" } },
	{ TC_COMMON_SAMPLE, { .name = "shard", .type = TC_OPT_SHARD, .offset = AT(shard), .arg = "I/N", .role = TC_OPT_FREE,
	    .help = "only the I-th of N parts of the windows (default 1/1)" } },
	{ TC_COMMON_SEED, { .name = "seed", .type = TC_OPT_COUNT, .offset = AT(seed), .arg = "N",
	    .min = 0, .max = SEED_MAX, .help = "draw at random, with this seed" } },
	{ TC_COMMON_SELECT, { .name = "include", .type = TC_OPT_LIST, .offset = AT(include), .arg = "PATTERN",
	    .help = "only tensors whose name matches (may be repeated)" } },
	{ TC_COMMON_SELECT, { .name = "exclude", .type = TC_OPT_LIST, .offset = AT(exclude), .arg = "PATTERN",
	    .help = "not tensors whose name matches (may be repeated)" } },
	{ TC_COMMON_STRIP, { .name = "strip", .type = TC_OPT_FLAG, .offset = AT(strip),
	    .help = "drop the statistics" } },
	{ TC_COMMON_COMPUTE, { .name = "compute", .type = TC_OPT_NAME, .offset = AT(compute), .arg = "KIND", .names = "f32",
	    .help = "arithmetic of the matrix products: f32 (default)" } },
	{ TC_COMMON_INT8, { .name = "compute", .type = TC_OPT_NAME, .offset = AT(compute), .arg = "KIND", .names = "f32|int8",
	    .help = "arithmetic of the matrix products: f32 (default), or int8 where weights are codes" } },
	{ TC_COMMON_INT8, { .name = "act-scale", .type = TC_OPT_NAME, .offset = AT(act_scale), .arg = "OVER", .names = "token|batch",
	    .help = "with int8: a scale for each token's activations (default), or for a batch of them" } },
	{ TC_COMMON_INT8, { .name = "hold-out", .type = TC_OPT_REAL, .offset = AT(hold_out), .arg = "Z", .min = 0, .max = HOLD_OUT_MAX,
	    .help = "with int8: activations above Z root mean squares stay f32; 0: none (default 0)" } },
	{ TC_COMMON_COMPUTE | TC_COMMON_MEMORY, { .name = "memory", .type = TC_OPT_SIZE, .offset = AT(memory), .arg = "SIZE", .role = TC_OPT_FREE,
	    .min = MEMORY_MIN, .max = MEMORY_MAX, .help = "most bytes of hidden states (and sums) in memory; K M G T may follow" } },
	{ TC_COMMON_OUTPUT, { .name = "output", .letter = 'o', .type = TC_OPT_TEXT, .offset = AT(output), .arg = "FILE", .role = TC_OPT_FREE,
	    .help = "write FILE, whole or not at all, instead of standard output" } },
	{ TC_COMMON_RESULT, { .name = "result", .type = TC_OPT_TEXT, .offset = AT(result), .arg = "FILE", .role = TC_OPT_FREE,
	    .help = "write a result file, see tc-results(5)" } },
	{ TC_COMMON_JSON, { .name = "json", .type = TC_OPT_FLAG, .offset = AT(json), .role = TC_OPT_FREE,
	    .help = "print JSON" } },
	{ TC_COMMON_ALWAYS, { .name = "threads", .type = TC_OPT_COUNT, .offset = AT(threads), .arg = "N", .role = TC_OPT_FREE,
	    .min = 1, .max = TC_THREADS_MAX, .help = "run N threads (default TC_THREADS, else the CPUs allowed)" } },
	{ TC_COMMON_ALWAYS, { .name = "tmpdir", .type = TC_OPT_TEXT, .offset = AT(tmpdir), .arg = "DIR", .role = TC_OPT_FREE,
	    .help = "keep temporary files in DIR (default TMPDIR, else /tmp)" } },
	{ TC_COMMON_ALWAYS, { .name = "quiet", .letter = 'q', .type = TC_OPT_FLAG, .offset = AT(quiet), .role = TC_OPT_FREE,
	    .help = "say nothing but errors" } },
	{ TC_COMMON_ALWAYS, { .name = "verbose", .letter = 'v', .type = TC_OPT_FLAG, .offset = AT(verbose), .role = TC_OPT_FREE,
	    .help = "say more" } },
};

static const struct tc_option parsed_rows[] = {
	{ .name = "help", .letter = 'h', .type = TC_OPT_FLAG, .offset = offsetof(struct tc_parsed, help), .role = TC_OPT_FREE,
	    .help = "print this help and exit" },
	{ .name = "version", .type = TC_OPT_FLAG, .offset = offsetof(struct tc_parsed, version), .role = TC_OPT_FREE,
	    .help = "print the version and exit" },
};

/* For packagers, not for people: not in the table that --help prints. */
static const struct tc_option hidden_row = { .name = "completion", .type = TC_OPT_NAME,
	.offset = offsetof(struct tc_parsed, completion), .arg = "SHELL", .names = "bash|zsh", .role = TC_OPT_FREE };

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

bool
tc_table_at(const struct tc_stage *stage, size_t i, struct tc_row *row)
{
	const struct tc_option *o = stage->options;

	for (; o && o->type != TC_OPT_END; o++)
		if (i-- == 0) {
			*row = (struct tc_row){ o, TC_HOME_STAGE };
			return true;
		}
	for (size_t k = 0; k < COUNT(common_rows); k++)
		if ((stage->common | TC_COMMON_ALWAYS) & common_rows[k].group && i-- == 0) {
			*row = (struct tc_row){ &common_rows[k].option, TC_HOME_COMMON };
			return true;
		}
	if (i >= COUNT(parsed_rows))
		return false;
	*row = (struct tc_row){ &parsed_rows[i], TC_HOME_PARSED };
	return true;
}

bool
tc_option_takes_value(const struct tc_option *o)
{
	return o->type == TC_OPT_CALL ? o->arg != NULL : o->type != TC_OPT_FLAG;
}

/* Where the walk over argv stands. */
struct walk {
	const struct tc_stage *stage;
	void *args;
	struct tc_parsed *out;
	char **next;   /* the next word; argv ends with NULL */
	struct tc_err *err;
};

static int
unknown(struct walk *w, const char *dashes, const char *name, size_t len)
{
	return tc_fail(w->err, TC_USAGE, "%s%.*s: unknown option (see %s --help)", dashes, (int)tc_min(len, 64), name, w->stage->name);
}

static bool
is_named(const struct tc_option *o, const char *name, size_t len)
{
	return strlen(o->name) == len && memcmp(o->name, name, len) == 0;
}

static bool
find_long(const struct walk *w, const char *name, size_t len, struct tc_row *row)
{
	for (size_t i = 0; tc_table_at(w->stage, i, row); i++)
		if (is_named(row->option, name, len))
			return true;
	*row = (struct tc_row){ &hidden_row, TC_HOME_PARSED };
	return is_named(&hidden_row, name, len);
}

static bool
find_letter(const struct walk *w, char letter, struct tc_row *row)
{
	for (size_t i = 0; tc_table_at(w->stage, i, row); i++)
		if (row->option->letter == letter)
			return true;
	return false;
}

static int
store(struct walk *w, const struct tc_row *row, const char *value)
{
	char *base = row->home == TC_HOME_PARSED ? (char *)w->out :
	    row->home == TC_HOME_COMMON ? (char *)w->args + w->stage->common_offset : w->args;

	if (tc_value_parse(row->option, value, base + row->option->offset, w->err) < 0)
		return tc_err_at(w->err, "--%s", row->option->name);
	return 0;
}

/* Stores the value that the word itself holds (after "=" or the letter), else
 * the next word. */
static int
store_value(struct walk *w, const struct tc_row *row, const char *attached)
{
	const char *value = attached ? attached : *w->next;

	if (!value)
		return tc_fail(w->err, TC_USAGE, "--%s: needs a value", row->option->name);
	if (!attached)
		w->next++;
	return store(w, row, value);
}

static int
take_long(struct walk *w, const char *name)
{
	size_t len = strcspn(name, "=");
	const char *value = name[len] ? name + len + 1 : NULL;
	struct tc_row row;

	if (!find_long(w, name, len, &row))
		return unknown(w, "--", name, len);
	if (tc_option_takes_value(row.option))
		return store_value(w, &row, value);
	if (value)
		return tc_fail(w->err, TC_USAGE, "--%s: takes no value", row.option->name);
	return store(w, &row, NULL);
}

static int
take_letters(struct walk *w, const char *letters)
{
	struct tc_row row;

	for (; *letters; letters++) {
		if (!find_letter(w, *letters, &row))
			return unknown(w, "-", letters, 1);
		if (tc_option_takes_value(row.option))
			return store_value(w, &row, letters[1] ? letters + 1 : NULL);
		if (store(w, &row, NULL) < 0)
			return -1;
	}
	return 0;
}

static int
take_operand(struct walk *w, const char *word)
{
	if (w->out->noperands >= w->stage->operands_max)
		return tc_fail(w->err, TC_USAGE, "'%.64s': extra operand (see %s --help)", word, w->stage->name);
	if (!*word)
		return tc_fail(w->err, TC_USAGE, "operand %d is empty", w->out->noperands + 1);
	w->out->operand[w->out->noperands++] = word;
	return 0;
}

int
tc_options_parse(const struct tc_stage *stage, void *args, int argc, char **argv, struct tc_parsed *out, struct tc_err *err)
{
	const struct tc_common *common = (const void *)((const char *)args + stage->common_offset);
	struct walk w = { stage, args, out, argv + (argc > 0), err };
	bool options = true;

	assert(stage->operands_max <= (int)COUNT(out->operand));
	*out = (struct tc_parsed){0};
	while (*w.next) {
		const char *word = *w.next++;
		int r;

		if (!options || word[0] != '-' || !word[1])
			r = take_operand(&w, word);
		else if (strcmp(word, "--") == 0)
			r = options = false;
		else
			r = word[1] == '-' ? take_long(&w, word + 2) : take_letters(&w, word + 1);
		if (r < 0)
			return -1;
		if (out->help || out->version || out->completion)
			return 0;
	}
	if (common->text && common->ids)
		return tc_fail(err, TC_USAGE, "--text and --ids exclude each other");
	return 0;
}
