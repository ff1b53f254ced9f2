/* charsmap.h - the table of a SentencePiece model that rewrites characters
 * ("Precompiled"): base64 of
 *
 *	the bytes of the trie, u32
 *	the trie: a double array (Aoe 1989, in Darts' form), u32 a unit
 *	the rewritten texts, each ended by NUL
 *
 * all little-endian.  A unit holds a label (bits 0-7 and 31), whether a leaf
 * follows (bit 8), and the distance to its children (bits 10-30, shifted left
 * by 8 when bit 9 is set); a leaf holds where its text starts (bits 0-30). */
#ifndef TC_TOKEN_CHARSMAP_H
#define TC_TOKEN_CHARSMAP_H

#include <stddef.h>

#include "base/mem.h"

struct tc_charsmap;

int tc_charsmap_load(struct tc_charsmap **out, const char *base64, size_t n, struct tc_err *err) TC_MUST_CHECK;
void tc_charsmap_free(struct tc_charsmap *m);

/* Appends s[0..n), valid UTF-8, rewritten as Hugging Face's does: a grapheme
 * cluster below 6 bytes that starts with an entry of the table becomes that
 * entry's text, of several the shortest; otherwise each of its characters
 * that is an entry becomes its text.  TC_DATA when the table is broken. */
int tc_charsmap_run(const struct tc_charsmap *m, const char *s, size_t n, struct tc_buf *out,
    struct tc_err *err) TC_MUST_CHECK;

#endif
