/* tokens.h - the text of a stage (--text, --ids, or the embedded one) as
 * token ids. */
#ifndef TC_CLI_TOKENS_H
#define TC_CLI_TOKENS_H

#include "base/hash.h"
#include "cli/cli.h"
#include "token/tokenizer.h"

struct tc_ids {
	uint32_t *ids;
	size_t n;
	size_t nseq;       /* sequences given by --ids; 0: one running text */
	size_t *length;    /* [nseq] */
	char sha256[TC_SHA256_HEX]; /* of the text as read, "" with --ids */
};

/* How a text becomes token sequences. */
enum tc_text_as {
	TC_TEXT_RUNNING,   /* one run of tokens, the file as it is */
	TC_TEXT_JOINED,    /* lines joined by two newlines, as GPTQ's evaluation does */
	TC_TEXT_LINES      /* each non-blank line a sequence: nseq and length are set */
};

/* embedded: the text under share/ when neither option is given, announced on
 * stderr.  tokenizer may be NULL with --ids; otherwise TC_DATA ("no
 * tokenizer").  The template's special tokens (BOS) are added once at the
 * beginning (lines: to each).  --ids: a JSON array of ids, or an array of
 * arrays, one a sequence. */
int tc_cli_tokens(struct tc_cli *cli, struct tc_tokenizer *tokenizer, const char *embedded, enum tc_text_as as, struct tc_ids *out) TC_MUST_CHECK;
/* The same of the text at path, or, where that is NULL, of the embedded one. */
int tc_cli_text(struct tc_cli *cli, struct tc_tokenizer *tokenizer, const char *path, const char *embedded, enum tc_text_as as, struct tc_ids *out) TC_MUST_CHECK;
void tc_ids_free(struct tc_ids *i);
/* The text itself, appended to *text, and its hash; one that is empty is TC_DATA. */
int tc_cli_read_text(struct tc_cli *cli, const char *path, const char *embedded, struct tc_buf *text, char sha256[TC_SHA256_HEX]) TC_MUST_CHECK;

/* Loads the tokenizer when the record is the file tokenizer.json; 1 when it
 * was, 0, -1. */
int tc_cli_take_tokenizer(struct tc_cli *cli, const struct tc_record *r, struct tc_tokenizer **tokenizer) TC_MUST_CHECK;

/* What the tokenizer's template puts in front of a text, if it is one token. */
bool tc_tokenizer_bos(struct tc_tokenizer *tokenizer, uint32_t *bos);

#endif
