/* onig.h - Hugging Face's Split patterns are written for Oniguruma (Ruby
 * syntax).  PCRE2 reads nearly the same language; where a construct means
 * something else there it is rewritten, and where it can't be, refused by
 * name.
 *
 * Rewritten: \s \S \w \W \h \v \uHHHH, \p{Script} (PCRE2 would take script
 * extensions).  Refused: \b \G \R \X \k and back references, POSIX brackets
 * and set operations in classes, named groups, verbs, options other than i,
 * (?i) not at the start, {,n}, {n}? and {n,m}+ (Ruby reads them otherwise).
 * Not equal: case folding to several characters, as of sharp s to ss. */
#ifndef TC_TOKEN_ONIG_H
#define TC_TOKEN_ONIG_H

#include "base/mem.h"

/* Appends the PCRE2 pattern (for PCRE2_UTF, UCP and MULTILINE) that means
 * what pattern means to Oniguruma.  TC_DATA when that can't be. */
int tc_onig_translate(const char *pattern, size_t n, struct tc_buf *out, struct tc_err *err) TC_MUST_CHECK;

#endif
