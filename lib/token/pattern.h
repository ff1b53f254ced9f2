/* pattern.h - a compiled pattern and the walk over its matches. */
#ifndef TC_TOKEN_PATTERN_H
#define TC_TOKEN_PATTERN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct tc_pattern; /* one thread at a time */

enum tc_pattern_syntax {
	TC_PATTERN_ONIG,    /* as in tokenizer.json, see onig.h */
	TC_PATTERN_PCRE2,
	TC_PATTERN_LITERAL  /* the text itself */
};

int tc_pattern_compile(struct tc_pattern **out, enum tc_pattern_syntax syntax, const char *s, size_t n,
    struct tc_err *err) TC_MUST_CHECK;
void tc_pattern_free(struct tc_pattern *p);

/* Compiles o's field "pattern": {"String": TEXT} or {"Regex": PATTERN}. */
int tc_field_pattern(const json_t *o, const char *where, struct tc_pattern **out, struct tc_err *err) TC_MUST_CHECK;

/* Where a walk over s[0..n) is.  {0} is its start. */
struct tc_pattern_walk {
	size_t at;       /* where to search next */
	size_t last_end; /* of the match before */
	bool matched;    /* there was one */
};

/* The next match [*from, *to) in s, which is valid UTF-8: 1, 0 at the end,
 * -1 on error (also when the pattern takes too long: TC_DATA).  An empty
 * match right behind another is skipped, as Hugging Face's iterator does. */
int tc_pattern_next(struct tc_pattern *p, const char *s, size_t n, struct tc_pattern_walk *w, size_t *from,
    size_t *to, struct tc_err *err) TC_MUST_CHECK;

/* Does the pattern match the whole of s[0..n), one character? */
bool tc_pattern_is(struct tc_pattern *p, const char *s, size_t n);

#endif
