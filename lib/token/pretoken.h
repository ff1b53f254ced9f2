/* pretoken.h - the pre_tokenizer section: cuts text into the words that the
 * model sees. */
#ifndef TC_TOKEN_PRETOKEN_H
#define TC_TOKEN_PRETOKEN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct tc_pretoken; /* one thread at a time */

int tc_pretoken_load(struct tc_pretoken **out, const json_t *section, struct tc_err *err) TC_MUST_CHECK;
void tc_pretoken_free(struct tc_pretoken *p);

/* Whether words are handed over as the bytes of the text, to be spelled as in
 * bytelevel.h; else they are spelled already. */
bool tc_pretoken_gives_bytes(const struct tc_pretoken *p);

/* Calls word(ctx, ...) for each word of text, in order; text is valid UTF-8,
 * and first says whether it stands at the start of what is encoded.  A word
 * is never empty and lives until the call returns. */
typedef int tc_pretoken_word(void *ctx, const char *s, size_t n, struct tc_err *err);
int tc_pretoken_run(struct tc_pretoken *p, const char *text, size_t n, bool first, tc_pretoken_word *word,
    void *ctx, struct tc_err *err) TC_MUST_CHECK;

#endif
