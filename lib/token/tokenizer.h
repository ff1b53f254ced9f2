/* tokenizer.h - text to token ids and back, as Hugging Face's tokenizers does
 * it from a tokenizer.json: the same ids for the same file.
 *
 * Supported: byte-level BPE, and SentencePiece's BPE (with byte_fallback) and
 * Unigram with their normalizers.  A type or setting that would change the ids
 * and that we don't know is refused by its name when the file is loaded, never
 * ignored.  The "truncation" and "padding" sections are ignored: they are
 * the caller's business.
 *
 * Threads: encoding uses buffers and a cache inside the tokenizer, so one
 * thread at a time may encode with one tokenizer (load one for each).
 * Functions that take a const tokenizer may run in any number of threads at
 * once, beside an encoding one too. */
#ifndef TC_TOKEN_TOKENIZER_H
#define TC_TOKEN_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"

struct tc_tokenizer;

/* Reads the text of a tokenizer.json, which isn't needed afterwards.  TC_DATA,
 * with "tokenizer.json: " in front of the message, when it isn't JSON, has
 * fields of the wrong type, contradicts itself (a merge of unknown tokens,
 * an id given twice), is beyond a bound (ids below 2^22), or wants what is
 * not supported.  *out is NULL on error; release with tc_tokenizer_free(). */
int tc_tokenizer_load(struct tc_tokenizer **out, const void *json, size_t n, struct tc_err *err) TC_MUST_CHECK;
void tc_tokenizer_free(struct tc_tokenizer *t); /* NULL is fine */

/* The ids of text[0..n), which may hold NUL: a list for free(3) in *ids (not
 * NULL even when it is empty) and its length in *count; on error NULL and 0.
 * Added tokens such as <|im_start|> are recognised wherever they stand in the
 * text, or its normalized form, as they want.  add_special: also puts around it what the post_processor's template
 * says (a BOS token, say).  Time is linear in n, but for single words longer
 * than usual: n log n.
 * TC_DATA: "invalid UTF-8 at byte N", or a pattern that takes too long. */
int tc_tokenizer_encode(struct tc_tokenizer *t, const char *text, size_t n, bool add_special, uint32_t **ids,
    size_t *count, struct tc_err *err) TC_MUST_CHECK;

/* Appends the bytes of the ids to *out; skip_special leaves special tokens
 * out.  An empty *out is the start of a text, where SentencePiece's decoders
 * drop a space; with anything else in it the ids continue that text.  An id
 * that has no token stands for no bytes (models pad their vocabulary).  The
 * bytes of a whole text are UTF-8, those of a part of its ids may end inside a
 * character: tc_utf8_lossy() makes of them what Hugging
 * Face's decode() prints (but for bytes of a ByteFallback decoder that aren't
 * UTF-8: there it prints one U+FFFD for each byte of their run).
 *
 * Streaming: decode each id as it comes, appending to one buffer.  The result
 * is what decoding all ids at once gives, but where the first of them stand
 * for no text (a special token left out, a lone space that is dropped).  To
 * show only whole characters, print up to tc_utf8_check()'s bad_offset and
 * keep the rest (at most 3 bytes) until the next id or the end. */
int tc_tokenizer_decode(const struct tc_tokenizer *t, const uint32_t *ids, size_t count, bool skip_special,
    struct tc_buf *out, struct tc_err *err) TC_MUST_CHECK;

/* 1 + the largest id that has a token. */
size_t tc_tokenizer_vocab(const struct tc_tokenizer *t);

/* The id of a token by its spelling in the file (with byte-level models a
 * leading space is U+0120).  False, and *id untouched, when there is none. */
bool tc_tokenizer_id(const struct tc_tokenizer *t, const char *token, uint32_t *id);

/* Is this an added token that is marked special? */
bool tc_tokenizer_is_special(const struct tc_tokenizer *t, uint32_t id);

/* 0 when every id stands for the same bytes in both, and is special in both or in
 * neither: what is made of one's ids is right for the other.  Else TC_DATA:
 * "its vocabulary is not the model's: token N differs", b being "its". */
int tc_tokenizer_check_same(const struct tc_tokenizer *a, const struct tc_tokenizer *b, struct tc_err *err) TC_MUST_CHECK;

/* Is text[0..n) UTF-8?  If not, *bad_offset (unless NULL) is where the first
 * sequence starts that isn't whole and well formed. */
bool tc_utf8_check(const char *text, size_t n, size_t *bad_offset);

/* Appends s[0..n) to *out with each ill-formed sequence replaced by U+FFFD,
 * cut as Unicode recommends ("maximal subparts") and as Rust's
 * String::from_utf8_lossy does. */
int tc_utf8_lossy(const unsigned char *s, size_t n, struct tc_buf *out, struct tc_err *err) TC_MUST_CHECK;

#endif
