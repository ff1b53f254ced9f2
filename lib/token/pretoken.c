/* Design: every type of pre-tokenizer becomes a few of four primitive steps
 * (prefix, split, spell, metaspace).  A piece goes through all steps before the next
 * piece is looked at, so nothing is kept but one scratch buffer a step, and
 * the words arrive at the model while they are in cache. */
#include "token/pretoken.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "token/bytelevel.h"
#include "token/pattern.h"
#include "token/section.h"
#include "token/utf8.h"

enum {
	STEPS_MAX = 64
};

enum behaviour { REMOVED, ISOLATED, MERGED_WITH_PREVIOUS, MERGED_WITH_NEXT, CONTIGUOUS, BEHAVIOURS };

static const char *const behaviour_names[BEHAVIOURS] = {
	"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"
};

/* GPT-2's, from ByteLevel's source in Hugging Face's tokenizers. */
static const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

struct pass;
struct step;
/* first: the piece stands at the start of what is encoded. */
typedef int step_run(struct pass *pass, size_t i, const char *s, size_t n, bool first);

enum scheme { ALWAYS, FIRST, NEVER, SCHEMES };

static const char *const scheme_names[SCHEMES] = { "always", "first", "never" };


struct step {
	step_run *run;
	struct tc_pattern *pattern;
	enum behaviour behaviour;
	bool invert;
	char space[4];       /* Metaspace: what stands for a space, */
	size_t space_bytes;
	enum scheme scheme;  /* when there is one more in front, */
	bool split;          /* and whether words start at them */
	struct tc_buf scratch;
};

struct tc_pretoken {
	struct step steps[STEPS_MAX];
	size_t n_steps;
};

/* One call of tc_pretoken_run(). */
struct pass {
	struct tc_pretoken *p;
	size_t n_steps;
	tc_pretoken_word *word;
	void *ctx;
	struct tc_err *err;
};

/* A piece that step i - 1 made. */
static int
hand_on(struct pass *pass, size_t i, const char *s, size_t n, bool first)
{
	if (n == 0)
		return 0;
	if (i == pass->n_steps)
		return pass->word(pass->ctx, s, n, pass->err);
	return pass->p->steps[i].run(pass, i, s, n, first);
}

/* A space in front, unless there is one. */
static int
run_prefix(struct pass *pass, size_t i, const char *s, size_t n, bool first)
{
	struct tc_buf *b = &pass->p->steps[i].scratch;

	if (s[0] == ' ')
		return hand_on(pass, i + 1, s, n, first);
	b->n = 0;
	if (tc_buf_append(b, " ", 1, pass->err) < 0 || tc_buf_append(b, s, n, pass->err) < 0)
		return -1;
	return hand_on(pass, i + 1, (const char *)b->p, b->n, first);
}

static int
run_spell(struct pass *pass, size_t i, const char *s, size_t n, bool first)
{
	struct tc_buf *b = &pass->p->steps[i].scratch;

	b->n = 0;
	if (tc_bytelevel_spell(s, n, b, pass->err) < 0)
		return -1;
	return hand_on(pass, i + 1, (const char *)b->p, b->n, first);
}

/* The state of a split: the piece [from, to) that may still grow. */
struct splitter {
	struct pass *pass;
	size_t i;
	const char *s;
	size_t from, to;
	bool open;
	bool first;
	bool matched; /* the range before was a match */
};

static int
flush(struct splitter *x)
{
	if (!x->open)
		return 0;
	x->open = false;
	return hand_on(x->pass, x->i + 1, x->s + x->from, x->to - x->from, x->first && x->from == 0);
}

/* Does this range continue the open piece? */
static bool
joins(enum behaviour b, bool match, bool matched)
{
	switch (b) {
	case CONTIGUOUS:
		return match == matched;
	case MERGED_WITH_PREVIOUS:
		return match && !matched;
	case MERGED_WITH_NEXT:
		return matched && !match;
	default:
		return false;
	}
}

/* The ranges of the text arrive here in order, matches and what is between. */
static int
take_range(struct splitter *x, const struct step *step, size_t from, size_t to, bool match)
{
	bool matched = x->matched;

	match ^= step->invert;
	x->matched = match;
	if (x->open && joins(step->behaviour, match, matched)) {
		x->to = to;
		return 0;
	}
	if (flush(x) < 0)
		return -1;
	if (match && step->behaviour == REMOVED)
		return 0;
	x->from = from;
	x->to = to;
	x->open = true;
	return 0;
}

static int
run_split(struct pass *pass, size_t i, const char *s, size_t n, bool first)
{
	const struct step *step = &pass->p->steps[i];
	struct splitter x = { .pass = pass, .i = i, .s = s, .first = first };
	struct tc_pattern_walk walk = {0};
	size_t from, to, done = 0;
	int r;

	while ((r = tc_pattern_next(step->pattern, s, n, &walk, &from, &to, pass->err)) > 0) {
		if (done != from && take_range(&x, step, done, from, false) < 0)
			return -1;
		if (take_range(&x, step, from, to, true) < 0)
			return -1;
		done = to;
	}
	if (r < 0 || (done != n && take_range(&x, step, done, n, false) < 0))
		return -1;
	return flush(&x);
}

static int
append_spaced(const struct step *step, const char *s, size_t n, struct tc_buf *out, struct tc_err *err)
{
	for (size_t i = 0; i < n;) {
		const char *space = memchr(s + i, ' ', n - i);
		size_t to = space ? (size_t)(space - s) : n;

		if (tc_buf_append(out, s + i, to - i, err) < 0 ||
		    (space && tc_buf_append(out, step->space, step->space_bytes, err) < 0))
			return -1;
		i = to + 1;
	}
	return 0;
}

/* Spaces become the step's own, and words start at them. */
static int
run_metaspace(struct pass *pass, size_t i, const char *s, size_t n, bool first)
{
	struct step *step = &pass->p->steps[i];
	struct tc_buf *b = &step->scratch;
	size_t k = step->space_bytes;
	bool there = s[0] == ' ' || (n >= k && memcmp(s, step->space, k) == 0);

	b->n = 0;
	if (!there && (step->scheme == ALWAYS || (step->scheme == FIRST && first)) &&
	    tc_buf_append(b, step->space, k, pass->err) < 0)
		return -1;
	if (append_spaced(step, s, n, b, pass->err) < 0)
		return -1;
	for (size_t from = 0, to; from < b->n; from = to) {
		const unsigned char *next = step->split ? memmem(b->p + from + 1, b->n - from - 1, step->space, k) : NULL;

		to = next ? (size_t)(next - b->p) : b->n;
		if (hand_on(pass, i + 1, (const char *)b->p + from, to - from, first && from == 0) < 0)
			return -1;
	}
	return 0;
}

/* NULL and *err when there are too many. */
static struct step *
add_step(struct tc_pretoken *p, step_run *run, struct tc_err *err)
{
	struct step *step;

	if (p->n_steps == STEPS_MAX) {
		tc_fail(err, TC_DATA, "pre_tokenizer: more than %d steps", STEPS_MAX);
		return NULL;
	}
	step = &p->steps[p->n_steps++];
	step->run = run;
	return step;
}

static int
add_split(struct tc_pretoken *p, enum tc_pattern_syntax syntax, const char *pattern, size_t n,
    enum behaviour behaviour, bool invert, struct tc_err *err)
{
	struct step *step = add_step(p, run_split, err);

	if (!step)
		return -1;
	step->behaviour = behaviour;
	step->invert = invert;
	return tc_pattern_compile(&step->pattern, syntax, pattern, n, err);
}

static int
add_byte_level(void *ctx, const json_t *o, struct tc_err *err)
{
	static const char where[] = "pre_tokenizer 'ByteLevel'";
	bool prefix = true, regex = true;

	if (tc_field_bool(o, where, "add_prefix_space", &prefix, err) < 0 ||
	    tc_field_optional_bool(o, where, "use_regex", &regex, err) < 0)
		return -1;
	if (prefix && !add_step(ctx, run_prefix, err))
		return -1;
	if (regex && add_split(ctx, TC_PATTERN_ONIG, gpt2_pattern, sizeof(gpt2_pattern) - 1, ISOLATED,
	    false, err) < 0)
		return -1;
	return add_step(ctx, run_spell, err) ? 0 : -1;
}

static int
add_digits(void *ctx, const json_t *o, struct tc_err *err)
{
	static const char pattern[] = "\\p{N}";
	bool individual = false;

	if (tc_field_bool(o, "pre_tokenizer 'Digits'", "individual_digits", &individual, err) < 0)
		return -1;
	return add_split(ctx, TC_PATTERN_PCRE2, pattern, sizeof(pattern) - 1,
	    individual ? ISOLATED : CONTIGUOUS, false, err);
}

/* *b stays as it is when the field is absent and not needed. */
static int
find_behaviour(const json_t *o, const char *where, bool needed, enum behaviour *b, struct tc_err *err)
{
	const char *name;
	size_t n;

	if (!needed && !json_object_get(o, "behavior"))
		return 0;
	if (tc_field_string(o, where, "behavior", &name, &n, err) < 0)
		return -1;
	for (int i = 0; i < BEHAVIOURS; i++) {
		if (strcmp(name, behaviour_names[i]) == 0) {
			*b = (enum behaviour)i;
			return 0;
		}
	}
	return tc_fail(err, TC_DATA, "%s: behavior '%.64s' is not supported", where, name);
}

static int
add_split_type(void *ctx, const json_t *o, struct tc_err *err)
{
	static const char where[] = "pre_tokenizer 'Split'";
	struct step *step = add_step(ctx, run_split, err);

	if (!step || tc_field_pattern(o, where, &step->pattern, err) < 0 ||
	    find_behaviour(o, where, true, &step->behaviour, err) < 0)
		return -1;
	return tc_field_bool(o, where, "invert", &step->invert, err);
}

static int
add_whitespace(void *ctx, const json_t *o, struct tc_err *err)
{
	/* \w and \s of Rust's regex, which aren't quite Oniguruma's */
#define WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}"
	static const char pattern[] = "[" WORD "]+|[^" WORD "\\p{White_Space}]+";
#undef WORD

	(void)o;
	return add_split(ctx, TC_PATTERN_PCRE2, pattern, sizeof(pattern) - 1, REMOVED, true, err);
}

static int
add_whitespace_split(void *ctx, const json_t *o, struct tc_err *err)
{
	static const char pattern[] = "\\p{White_Space}";

	(void)o;
	return add_split(ctx, TC_PATTERN_PCRE2, pattern, sizeof(pattern) - 1, REMOVED, false, err);
}

static int
add_punctuation(void *ctx, const json_t *o, struct tc_err *err)
{
	static const char pattern[] = "[\\p{P}$+<=>^`|~]"; /* and ASCII's that are symbols to Unicode */
	enum behaviour behaviour = ISOLATED;

	if (find_behaviour(o, "pre_tokenizer 'Punctuation'", false, &behaviour, err) < 0)
		return -1;
	return add_split(ctx, TC_PATTERN_PCRE2, pattern, sizeof(pattern) - 1, behaviour, false, err);
}

static int
read_scheme(struct step *step, const json_t *o, const char *where, struct tc_err *err)
{
	const json_t *v = json_object_get(o, "prepend_scheme");
	bool prefix = true;

	if (tc_field_optional_bool(o, where, "add_prefix_space", &prefix, err) < 0)
		return -1;
	step->scheme = prefix ? ALWAYS : NEVER;
	if (!v || json_is_null(v))
		return 0;
	for (int i = 0; json_is_string(v) && i < SCHEMES; i++) {
		if (strcmp(json_string_value(v), scheme_names[i]) != 0)
			continue;
		step->scheme = (enum scheme)i;
		return prefix || i == NEVER ? 0 :
		    tc_fail(err, TC_DATA, "%s: 'add_prefix_space' and 'prepend_scheme' differ", where);
	}
	return tc_fail(err, TC_DATA, "%s: 'prepend_scheme' is not always, first or never", where);
}

static int
add_metaspace(void *ctx, const json_t *o, struct tc_err *err)
{
	static const char where[] = "pre_tokenizer 'Metaspace'";
	struct step *step = add_step(ctx, run_metaspace, err);
	const char *text;
	size_t n, used;

	if (!step || tc_field_string(o, where, "replacement", &text, &n, err) < 0)
		return -1;
	if (n > 0)
		tc_utf8_get((const unsigned char *)text, &used);
	if (n == 0 || used != n)
		return tc_fail(err, TC_DATA, "%s: 'replacement' is not one character", where);
	memcpy(step->space, text, n);
	step->space_bytes = n;
	step->split = true;
	if (read_scheme(step, o, where, err) < 0)
		return -1;
	return tc_field_optional_bool(o, where, "split", &step->split, err);
}

static const struct tc_kind kinds[] = {
	{ "ByteLevel", add_byte_level },
	{ "Digits", add_digits },
	{ "Metaspace", add_metaspace },
	{ "Punctuation", add_punctuation },
	{ "Split", add_split_type },
	{ "Whitespace", add_whitespace },
	{ "WhitespaceSplit", add_whitespace_split },
};

static const struct tc_section pre_tokenizer = {
	"pre_tokenizer", "pretokenizers", kinds, sizeof(kinds) / sizeof(*kinds)
};

int
tc_pretoken_load(struct tc_pretoken **out, const json_t *section, struct tc_err *err)
{
	struct tc_pretoken *p = calloc(1, sizeof(*p));

	*out = NULL;
	if (!p)
		return tc_fail_nomem(err, sizeof(*p));
	if (tc_section_load(&pre_tokenizer, section, p, err) < 0) {
		tc_pretoken_free(p);
		return -1;
	}
	*out = p;
	return 0;
}

void
tc_pretoken_free(struct tc_pretoken *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->n_steps; i++) {
		tc_pattern_free(p->steps[i].pattern);
		tc_buf_free(&p->steps[i].scratch);
	}
	free(p);
}

bool
tc_pretoken_gives_bytes(const struct tc_pretoken *p)
{
	return p->n_steps > 0 && p->steps[p->n_steps - 1].run == run_spell;
}

int
tc_pretoken_run(struct tc_pretoken *p, const char *text, size_t n, bool first, tc_pretoken_word *word, void *ctx,
    struct tc_err *err)
{
	/* The model looks bytes up faster than it would their spelling. */
	struct pass pass = { p, p->n_steps - tc_pretoken_gives_bytes(p), word, ctx, err };

	return hand_on(&pass, 0, text, n, first);
}
