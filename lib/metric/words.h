/* words.h - a text as words, for whoever makes questions of it. */
#ifndef TC_METRIC_WORDS_H
#define TC_METRIC_WORDS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define TC_WORDS_COMMON 1000

/* Bytes of the text, without white space. */
struct tc_word {
	const char *p;
	size_t n;
	size_t paragraph;          /* they are parted by blank lines */
};

struct tc_words {
	struct tc_word *word;      /* [n] */
	size_t n, paragraphs;
	struct tc_word *common;    /* [ncommon]: distinct ones of 3 to 10 lower-case letters, the
	                            * most frequent first, at most TC_WORDS_COMMON */
	size_t ncommon;
};

/* Of text[0..n), which outlives w.  TC_DATA when it is not UTF-8. */
int tc_words_open(struct tc_words *w, const char *text, size_t n, struct tc_err *err) TC_MUST_CHECK;
void tc_words_close(struct tc_words *w);

/* A byte of a letter: a to z, A to Z, or any that is not ASCII. */
bool tc_word_letter(char c);

#endif
