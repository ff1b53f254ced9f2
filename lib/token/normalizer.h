/* normalizer.h - the normalizer section: rewrites text before it is cut into
 * words. */
#ifndef TC_TOKEN_NORMALIZER_H
#define TC_TOKEN_NORMALIZER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct tc_normalizer; /* one thread at a time */

int tc_normalizer_load(struct tc_normalizer **out, const json_t *section, struct tc_err *err) TC_MUST_CHECK;
void tc_normalizer_free(struct tc_normalizer *z);

/* Replaces (*s, *n), valid UTF-8, by the text that it becomes, which is valid
 * UTF-8 too and lives until the next call (or is the same, untouched).  *first
 * says whether the text stands at the start of what is encoded; it becomes
 * false when what stood there is dropped. */
int tc_normalizer_run(struct tc_normalizer *z, const char **s, size_t *n, bool *first,
    struct tc_err *err) TC_MUST_CHECK;

#endif
