/* SentencePiece's tokenizers: BPE with byte fallback, Unigram, normalizers and
 * decoders.  The ids and texts of the cases were made by Hugging Face's
 * tokenizers 0.23 from the same JSON. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tap.h"
#include "token/tokenizer.h"

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

enum { IDS_MAX = 48 };

enum model { BPE_ALL, BPE_FEW, UNIGRAM, UNIGRAM_BYTES, UNIGRAM_FEW, UNIGRAM_TIES };

/* BPE: <unk>, <s>, </s>, the bytes (all, or few: <0xBC> and <0xC3>), and these. */
static const char *const pieces[] = {
	"\342\226\201", "a", "b", "h", "i", ".", "\303\251", "e", "\314\201", "A", "ab", "\342\226\201a",
	"\342\226\201ab", "\342\226\201hi", "hi", "\342\226\201\342\226\201",
	"\342\226\201\342\226\201\342\226\201\342\226\201", "b\342\226\201", "1", "\012", "B", "\302\275",
	"fi"
};

static const char merges[] = "[\"a\",\"b\"],[\"h\",\"i\"],[\"\\u2581\",\"ab\"],[\"\\u2581\",\"a\"],"
    "[\"\\u2581\",\"hi\"],[\"\\u2581\",\"\\u2581\"],[\"\\u2581\\u2581\",\"\\u2581\\u2581\"],[\"b\",\"\\u2581\"]";

static const char unigram[] =
    "[\"<unk>\",0.0],"
    "[\"<s>\",0.0],"
    "[\"\\u2581\",-2.0],"
    "[\"a\",-3.0],"
    "[\"b\",-3.5],"
    "[\"ab\",-4.0],"
    "[\"\\u2581ab\",-4.5],"
    "[\"x\",-6.0],"
    "[\"aa\",-5.9999],"
    "[\"aaaa\",-11.0],"
    "[\"\\u00e9\",-5.0],"
    "[\"e\",-4.0],"
    "[\"c d\",-3],"
    "[\"xy\\u00fc\",-30.0]";

static const char ties[] = "[\"<unk>\",0.0],[\"a\",-5.9260480949162195],[\"aa\",-7.292950741353819],"
    "[\"aaaaa\",-7.1519636985223825],[\"aaaaaaaa\",-7.4047189600758205]";

#define LLAMA "\"byte_fallback\":true,\"fuse_unk\":true,\"unk_token\":\"<unk>\","
#define WHOLE "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
#define ADDED_S "\"added_tokens\":[{\"id\":1,\"content\":\"<s>\"," WHOLE "\"normalized\":false,\"special\":true}]"
#define META_TYPE "\"type\":\"Metaspace\",\"replacement\":\"\\u2581\","
#define METASPACE "{" META_TYPE "\"prepend_scheme\":\"always\",\"split\":true}"
#define SPACES "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\\u2581\"}"
#define LLAMA_NORM "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[" \
    "{\"type\":\"Prepend\",\"prepend\":\"\\u2581\"}," SPACES "]}"

/* A Precompiled table, see lib/token/charsmap.h: tab, CR and U+00A0 to a space,
 * U+00BD to 1/2, U+FB01 to fi, e and U+0301 to U+00E9, a and U+0301 U+0323 to
 * ab, U+0001 and U+200B to nothing. */
#define TABLE \
    "AAQAAAAIAAAAAACAAAAAgAEJAAABAACAAQAAgAAAAIAAAACAAAAAgAAAAIAAAACACT0AAAEAAIAJAACAAAAAgA0pAAAAAACABgAA" \
    "gAAAAIANAACAAAAAgAMAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAA" \
    "AIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAA" \
    "AACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACA" \
    "AAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAA" \
    "gAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgGGAAQAAAACAAAAAgAAAAIBlhAEAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAA" \
    "AIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAA" \
    "AACAAAAAgAAAAICLXQIAAAAAgAAAAICAGAIAAAAAgIFtAgCBbAIAAAAAgAAAAICBdQIAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACA" \
    "AAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgKyoAgAAAACAoK0C" \
    "AAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgKOJAgAAAACAAAAAgL3d" \
    "AgAAAACAAAAAgAAAAIAAAACAAAAAgMIcAwAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIDMBAMAAAAAgAAAAIAA" \
    "AACAAAAAgMwUAwAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIDMIAMAAAAAgAAAAIAAAACA" \
    "4qADAAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgO+QAwAAAACAAAAAgAAAAIAAAACAAAAA" \
    "gAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAAACAAAAAgAAAAIAAIABhYgDDqQAxLzIAZmkA"

static const struct {
	const char *name;
	enum model model;
	const char *extra;    /* of the model section */
	const char *sections;
	const char *text;
	size_t n_ids;
	uint32_t ids[IDS_MAX];
} cases[] = {
	{ "Llama-2: the text is one word", BPE_ALL, LLAMA,
	  LLAMA_NORM,
	  " ab  hi\012ab\344\275\240 \303\251aba b", 15,
	  { 259, 271, 259, 272, 278, 269, 231, 192, 163, 259, 265, 269, 260, 259, 261 } },
	{ "Llama-2: a space in front of each stretch", BPE_ALL, LLAMA,
	  LLAMA_NORM "," ADDED_S,
	  "ab<s>ab <s> hi", 7,
	  { 271, 1, 271, 259, 1, 259, 272 } },
	{ "Llama-2: nothing in front of nothing", BPE_ALL, LLAMA,
	  LLAMA_NORM "," ADDED_S,
	  "<s><s>", 2,
	  { 1, 1 } },
	{ "Gemma: no space in front", BPE_ALL, LLAMA,
	  "\"normalizer\":" SPACES ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\" \"},"
	  "\"behavior\":\"MergedWithPrevious\",\"invert\":false}",
	  "ab  hi    ab\012\012\344\275\240\303\251", 12,
	  { 269, 259, 272, 274, 259, 271, 278, 278, 231, 192, 163, 265 } },
	{ "a merge across a space", BPE_ALL, LLAMA,
	  "\"normalizer\":" SPACES,
	  "ab b b ab", 5,
	  { 269, 259, 276, 261, 271 } },
	{ "byte fallback: some bytes lack, unknown ones wait", BPE_FEW, LLAMA,
	  "", "a\344\275\240\303\274b\344\275\240\344\275\240\303\274\344\275\240 \303\274", 10,
	  { 6, 4, 3, 0, 7, 4, 3, 4, 3, 0 } },
	{ "byte fallback: the same, not fused", BPE_FEW, "\"byte_fallback\":true,\"fuse_unk\":false,\"unk_token\":\"<unk>\",",
	  "", "a\344\275\240\303\274b\344\275\240\344\275\240\303\274\344\275\240 \303\274", 13,
	  { 6, 4, 3, 0, 7, 0, 4, 3, 0, 0, 4, 3, 0 } },
	{ "byte fallback: no unknown token", BPE_FEW, "\"byte_fallback\":true,",
	  "", "a\344\275\240b\344\275\240\303\274b", 4,
	  { 15, 4, 3, 7 } },
	{ "no byte fallback", BPE_ALL, "\"fuse_unk\":true,\"unk_token\":\"<unk>\",",
	  "", "ab\344\275\240\344\275\240ab \303\251\344\275\240", 6,
	  { 269, 0, 269, 0, 265, 0 } },
	{ "ignore_merges looks at the whole text", BPE_ALL, LLAMA "\"ignore_merges\":true,",
	  "", "fi", 1,
	  { 281 } },
	{ "Metaspace always", BPE_ALL, LLAMA,
	  "\"pre_tokenizer\":" METASPACE "," ADDED_S,
	  "ab  hi ab<s>ab<s> ab", 8,
	  { 271, 259, 272, 271, 1, 271, 1, 271 } },
	{ "Metaspace always, not split", BPE_ALL, LLAMA,
	  "\"pre_tokenizer\":{" META_TYPE "\"prepend_scheme\":\"always\",\"split\":false}," ADDED_S,
	  "ab  hi ab<s>ab<s> ab", 8,
	  { 271, 259, 272, 271, 1, 271, 1, 271 } },
	{ "Metaspace first", BPE_ALL, LLAMA,
	  "\"pre_tokenizer\":{" META_TYPE "\"prepend_scheme\":\"first\",\"split\":true}," ADDED_S,
	  "ab  hi ab<s>ab<s> ab", 8,
	  { 271, 259, 272, 271, 1, 269, 1, 271 } },
	{ "Metaspace first, not split", BPE_ALL, LLAMA,
	  "\"pre_tokenizer\":{" META_TYPE "\"prepend_scheme\":\"first\",\"split\":false}," ADDED_S,
	  "ab  hi ab<s>ab<s> ab", 8,
	  { 271, 259, 272, 271, 1, 269, 1, 271 } },
	{ "Metaspace never", BPE_ALL, LLAMA,
	  "\"pre_tokenizer\":{" META_TYPE "\"prepend_scheme\":\"never\",\"split\":true}," ADDED_S,
	  "ab  hi ab<s>ab<s> ab", 8,
	  { 269, 259, 272, 271, 1, 269, 1, 271 } },
	{ "Metaspace never, not split", BPE_ALL, LLAMA,
	  "\"pre_tokenizer\":{" META_TYPE "\"prepend_scheme\":\"never\",\"split\":false}," ADDED_S,
	  "ab  hi ab<s>ab<s> ab", 8,
	  { 269, 259, 272, 271, 1, 269, 1, 271 } },
	{ "Metaspace with another character", BPE_ALL, LLAMA,
	  "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"\\u00e9\",\"prepend_scheme\":\"always\","
	  "\"split\":true}",
	  "a b", 4,
	  { 265, 260, 265, 261 } },
	{ "Metaspace as older files have it", BPE_ALL, LLAMA,
	  "\"pre_tokenizer\":{" META_TYPE "\"add_prefix_space\":true}",
	  "a b", 3,
	  { 270, 259, 261 } },
	{ "Metaspace first: not behind what is stripped", BPE_ALL, LLAMA,
	  "\"normalizer\":{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true},\"pre_tokenizer\":{"
	  META_TYPE "\"prepend_scheme\":\"first\",\"split\":true}",
	  "  a a", 2,
	  { 260, 270 } },
	{ "Metaspace first: not behind what is replaced by nothing", BPE_ALL, LLAMA,
	  "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"b\"},\"content\":\"\"},"
	  "\"pre_tokenizer\":{" META_TYPE "\"prepend_scheme\":\"first\",\"split\":true}",
	  "ba a", 2,
	  { 260, 270 } },
	{ "Metaspace first: behind what is replaced", BPE_ALL, LLAMA,
	  "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"b\"},\"content\":\"a\"},"
	  "\"pre_tokenizer\":{" META_TYPE "\"prepend_scheme\":\"first\",\"split\":true}",
	  "ba a", 3,
	  { 270, 260, 270 } },
	{ "Metaspace first: behind what a table drops", BPE_ALL, LLAMA,
	  "\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"" TABLE "\"},\"pre_tokenizer\":{"
	  META_TYPE "\"prepend_scheme\":\"first\",\"split\":true}",
	  "\001a a", 2,
	  { 270, 270 } },
	{ "Metaspace first: not the second word", BPE_ALL, LLAMA,
	  "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"},{"
	  META_TYPE "\"prepend_scheme\":\"first\",\"split\":true}]}",
	  "a a", 2,
	  { 270, 260 } },
	{ "WhitespaceSplit and Metaspace", BPE_ALL, LLAMA,
	  "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"WhitespaceSplit\"},"
	  METASPACE "]}",
	  " ab\343\200\200hi\302\240\342\200\213ab\012", 7,
	  { 271, 272, 259, 229, 131, 142, 269 } },
	{ "Whitespace", BPE_ALL, LLAMA,
	  "\"pre_tokenizer\":{\"type\":\"Whitespace\"}",
	  "ab.hi  a_b\302\262ab..", 11,
	  { 269, 264, 273, 260, 98, 261, 197, 181, 269, 264, 264 } },
	{ "Punctuation", BPE_ALL, LLAMA,
	  "\"pre_tokenizer\":{\"type\":\"Punctuation\"}",
	  "ab.hi\343\200\202$ab..", 10,
	  { 269, 264, 273, 230, 131, 133, 39, 269, 264, 264 } },
	{ "Punctuation removed", BPE_ALL, LLAMA,
	  "\"pre_tokenizer\":{\"type\":\"Punctuation\",\"behavior\":\"Removed\"}",
	  "ab.hi\343\200\202$ab..", 3,
	  { 269, 273, 269 } },
	{ "NFC", BPE_ALL, LLAMA,
	  "\"normalizer\":{\"type\":\"NFC\"}",
	  "e\314\201a\314\201\314\247a\314\247\314\201 \302\275 \342\204\253 \341\204\200\341\205\241\341\206\250", 18,
	  { 265, 198, 164, 207, 170, 198, 164, 207, 170, 35, 280, 35, 198, 136, 35, 237, 179, 132 } },
	{ "NFD", BPE_ALL, LLAMA,
	  "\"normalizer\":{\"type\":\"NFD\"}",
	  "\303\251\352\260\201\341\272\241\314\201", 15,
	  { 266, 267, 228, 135, 131, 228, 136, 164, 228, 137, 171, 260, 207, 166, 267 } },
	{ "NFKC", BPE_ALL, LLAMA,
	  "\"normalizer\":{\"type\":\"NFKC\"}",
	  "\357\254\201\302\275e\314\201\342\221\240\357\275\266\357\276\236", 12,
	  { 105, 263, 277, 229, 132, 135, 53, 265, 277, 230, 133, 175 } },
	{ "NFKD", BPE_ALL, LLAMA,
	  "\"normalizer\":{\"type\":\"NFKD\"}",
	  "\357\254\201\302\275\303\251\342\221\240\343\215\215", 22,
	  { 105, 263, 277, 229, 132, 135, 53, 266, 267, 277, 230, 134, 164, 230, 134, 191, 230, 134, 139, 230,
	    134, 174 } },
	{ "Lowercase", BPE_ALL, LLAMA,
	  "\"normalizer\":{\"type\":\"Lowercase\"}",
	  "AB\304\260\316\243\316\221\316\243HI", 11,
	  { 269, 263, 207, 138, 210, 134, 209, 180, 210, 134, 273 } },
	{ "NFD and StripAccents", BPE_ALL, LLAMA,
	  "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFD\"},{\"type\":\"StripAccents\"}]}",
	  "\303\251\303\241b\342\203\235", 2,
	  { 266, 269 } },
	{ "Strip on the right", BPE_ALL, LLAMA,
	  "\"normalizer\":{\"type\":\"Strip\",\"strip_left\":false,\"strip_right\":true}",
	  " ab \343\200\200\012", 2,
	  { 35, 269 } },
	{ "Replace by a pattern", BPE_ALL, LLAMA,
	  "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\" \"},"
	  "\"pre_tokenizer\":" METASPACE,
	  "ab   hi  a b", 5,
	  { 271, 272, 270, 259, 261 } },
	{ "Replace of empty matches", BPE_ALL, LLAMA,
	  "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"1*\"},\"content\":\"h\"}",
	  "ab11b", 7,
	  { 262, 260, 262, 261, 262, 261, 262 } },
	{ "Replace by nothing", BPE_ALL, LLAMA,
	  "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\".\"},\"content\":\"\"}",
	  "ab.hi..", 2,
	  { 269, 273 } },
	{ "added tokens: normalized as the text is", BPE_ALL, LLAMA,
	  "\"normalizer\":{\"type\":\"Lowercase\"},\"added_tokens\":[{\"id\":1,\"content\":\"<s>\","
	  WHOLE "\"normalized\":true,\"special\":false}]",
	  "aB<S>Ab <s>hi", 6,
	  { 269, 1, 269, 35, 1, 273 } },
	{ "added tokens: the raw ones before", BPE_ALL, LLAMA,
	  "\"normalizer\":{\"type\":\"Lowercase\"},\"added_tokens\":[{\"id\":2,\"content\":\"</s>\","
	  WHOLE "\"normalized\":false,\"special\":true},{\"id\":282,\"content\":\"HI\","
	  WHOLE "\"normalized\":true,\"special\":false}]",
	  "Hi </s>hI", 4,
	  { 282, 35, 2, 282 } },
	{ "added tokens: normalized with Prepend", BPE_ALL, LLAMA,
	  LLAMA_NORM ",\"added_tokens\":[{\"id\":1,\"content\":\"<s>\"," WHOLE "\"normalized\":true,\"special\":false}]",
	  "ab <s> ab <s>", 4,
	  { 271, 1, 271, 1 } },
	{ "Unigram", UNIGRAM, "",
	  "\"pre_tokenizer\":" METASPACE,
	  "ab abab aab", 6,
	  { 6, 6, 5, 2, 3, 5 } },
	{ "Unigram: the whole text", UNIGRAM, "",
	  "", "ab aab c dxx", 8,
	  { 5, 0, 3, 5, 0, 12, 7, 7 } },
	{ "Unigram: unknown runs are one", UNIGRAM, "",
	  "\"pre_tokenizer\":" METASPACE,
	  "ab\344\275\240\344\275\240x\345\245\275 \344\275\240", 6,
	  { 6, 0, 7, 0, 2, 0 } },
	{ "Unigram: an unknown run that is a token", UNIGRAM, "",
	  "", "xy\303\274 y\303\274", 2,
	  { 13, 0 } },
	{ "Unigram: byte fallback", UNIGRAM_BYTES, "\"byte_fallback\":true,",
	  "\"pre_tokenizer\":" METASPACE,
	  "ab\344\275\240\303\251\344\275\240x\012", 10,
	  { 6, 242, 203, 174, 10, 242, 203, 174, 7, 24 } },
	{ "Unigram: byte fallback that lacks bytes", UNIGRAM_FEW, "\"byte_fallback\":true,",
	  "", "\303\274ab\303\274\344\275\240", 4,
	  { 14, 15, 5, 0 } },
	{ "Unigram: the unknown token in the text", UNIGRAM, "",
	  "", "a<unk>\344\275\240b", 3,
	  { 3, 0, 4 } },
	{ "Unigram: ties by the last bit", UNIGRAM_TIES, "",
	  "", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 6,
	  { 3, 3, 3, 4, 4, 4 } },
	{ "Precompiled", UNIGRAM, "",
	  "\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"" TABLE "\"},\"pre_tokenizer\":"
	  METASPACE,
	  "\011a\302\240b\302\275xe\314\201\357\254\201\015\012a\001b", 9,
	  { 2, 3, 2, 4, 0, 7, 10, 0, 6 } },
	{ "Precompiled: clusters, the shortest entry", BPE_ALL, LLAMA,
	  "\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"" TABLE "\"}",
	  "\302\275\314\201a e\314\201\314\201\314\201 a\314\201\314\243 \302\275\314\201\314\201", 17,
	  { 277, 50, 53, 260, 35, 266, 267, 267, 267, 35, 269, 35, 277, 50, 53, 267, 267 } },
	{ "Precompiled, spaces, Metaspace: T5", UNIGRAM, "",
	  "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Precompiled\","
	  "\"precompiled_charsmap\":\"" TABLE "\"},{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},"
	  "\"content\":\" \"}]},\"pre_tokenizer\":" METASPACE,
	  "ab  \011 ab\342\200\213  ", 3,
	  { 6, 6, 2 } },
};

/* --- making a tokenizer.json --- */

static void
print_to(struct tc_buf *b, const char *s)
{
	struct tc_err err = {0};

	if (tc_buf_append(b, s, strlen(s), &err) < 0)
		abort();
}

static void
print_token(struct tc_buf *b, const char *s, unsigned id)
{
	char line[64];

	snprintf(line, sizeof(line), "%s\"%s\":%u", id ? "," : "", *s == '\n' ? "\\n" : s, id);
	print_to(b, line);
}

static void
print_bpe(struct tc_buf *b, bool few, const char *extra)
{
	static const char *const first[] = { "<unk>", "<s>", "</s>" };
	unsigned id = 0;
	char s[8];

	print_to(b, "{\"type\":\"BPE\",");
	print_to(b, extra);
	print_to(b, "\"vocab\":{");
	for (size_t i = 0; i < COUNT(first); i++)
		print_token(b, first[i], id++);
	for (unsigned i = 0; i < 256; i++) {
		snprintf(s, sizeof(s), "<0x%02X>", i);
		if (!few || i == 0xbc || i == 0xc3)
			print_token(b, s, id++);
	}
	for (size_t i = 0; i < COUNT(pieces); i++)
		print_token(b, pieces[i], id++);
	print_to(b, "},\"merges\":[");
	print_to(b, merges);
	print_to(b, "]}");
}

static void
print_unigram(struct tc_buf *b, enum model model, const char *extra)
{
	char s[32];

	print_to(b, "{\"type\":\"Unigram\",\"unk_id\":0,");
	print_to(b, extra);
	print_to(b, "\"vocab\":[");
	print_to(b, model == UNIGRAM_TIES ? ties : unigram);
	for (unsigned i = 0; i < 256 && model == UNIGRAM_BYTES; i++) {
		snprintf(s, sizeof(s), ",[\"<0x%02X>\",-9.0]", i);
		print_to(b, s);
	}
	if (model == UNIGRAM_FEW)
		print_to(b, ",[\"<0xC3>\",-9.0],[\"<0xBC>\",-9.0]");
	print_to(b, "]}");
}

static struct tc_tokenizer *
load(enum model model, const char *extra, const char *sections, struct tc_err *err)
{
	struct tc_buf b = {0};
	struct tc_tokenizer *t;

	print_to(&b, "{");
	print_to(&b, sections);
	print_to(&b, *sections ? ",\"model\":" : "\"model\":");
	if (model == BPE_ALL || model == BPE_FEW)
		print_bpe(&b, model == BPE_FEW, extra);
	else
		print_unigram(&b, model, extra);
	print_to(&b, "}");
	if (tc_tokenizer_load(&t, b.p, b.n, err) < 0)
		t = NULL;
	tc_buf_free(&b);
	return t;
}

/* --- encoding --- */

static void
print_ids(const char *what, const uint32_t *ids, size_t n)
{
	printf("# %s", what);
	for (size_t i = 0; i < n; i++)
		printf(" %" PRIu32, ids[i]);
	putchar('\n');
}

/* Twice: the second time words come from the cache. */
static void
test_cases(void)
{
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct tc_err err = {0};
		struct tc_tokenizer *t = load(cases[i].model, cases[i].extra, cases[i].sections, &err);
		uint32_t *ids = NULL;
		size_t n = 0;
		bool same = t != NULL;

		for (int turn = 0; same && turn < 2; turn++) {
			free(ids);
			same = tc_tokenizer_encode(t, cases[i].text, strlen(cases[i].text), false, &ids, &n, &err) == 0 &&
			    n == cases[i].n_ids && (n == 0 || memcmp(ids, cases[i].ids, n * sizeof(*ids)) == 0);
		}
		if (!ok(same, "%s: %s", cases[i].name, err.msg)) {
			print_ids("got ", ids, n);
			print_ids("want", cases[i].ids, cases[i].n_ids);
		}
		free(ids);
		tc_tokenizer_free(t);
	}
}

/* --- what is refused --- */

#define NORM(s) "\"normalizer\":{\"type\":" s "}"

static const struct {
	enum model model;
	const char *extra, *sections, *says;
} refused[] = {
	{ BPE_ALL, "", NORM("\"BertNormalizer\""), "normalizer 'BertNormalizer' is not supported" },
	{ BPE_ALL, "", NORM("\"Strip\",\"strip_left\":1"), "'strip_left' is neither true nor false" },
	{ BPE_ALL, "", NORM("\"Prepend\""), "'prepend' is not a string" },
	{ BPE_ALL, "", NORM("\"Replace\",\"content\":\"\""), "normalizer 'Replace': 'pattern' is neither" },
	{ BPE_ALL, "", NORM("\"Replace\",\"content\":\"\",\"pattern\":{\"Regex\":\"(\"}"), "does not compile" },
	{ BPE_ALL, "", NORM("\"Precompiled\",\"precompiled_charsmap\":null"), "is not a string" },
	{ BPE_ALL, "", NORM("\"Precompiled\",\"precompiled_charsmap\":\"\""), "is not base64" },
	{ BPE_ALL, "", NORM("\"Precompiled\",\"precompiled_charsmap\":\"A?==\""), "is not base64" },
	{ BPE_ALL, "", NORM("\"Precompiled\",\"precompiled_charsmap\":\"AAA=\""), "is cut short" },
	{ BPE_ALL, "", NORM("\"Precompiled\",\"precompiled_charsmap\":\"/////wAAAAA=\""), "is cut short" },
	{ BPE_ALL, "", NORM("\"Precompiled\",\"precompiled_charsmap\":\"BAAAAAAAAAD/\""), "are not UTF-8" },
	{ BPE_ALL, "", "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"ab\"}", "is not one character" },
	{ BPE_ALL, "", "\"pre_tokenizer\":{" META_TYPE "\"prepend_scheme\":\"often\"}", "is not always, first or never" },
	{ BPE_ALL, "", "\"pre_tokenizer\":{" META_TYPE "\"prepend_scheme\":\"first\",\"add_prefix_space\":false}", "differ" },
	{ BPE_ALL, "", "\"decoder\":{\"type\":\"Strip\",\"content\":\"\",\"start\":0,\"stop\":0}", "is not one character" },
	{ BPE_ALL, "", "\"decoder\":{\"type\":\"Strip\",\"content\":\"a\",\"start\":-1,\"stop\":0}", "'start' is not a count" },
	{ BPE_ALL, "", "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"ByteFallback\"}]}",
	  "behind 'Fuse'" },
	{ BPE_ALL, "", "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"Strip\","
	  "\"content\":\"a\",\"start\":0,\"stop\":1}]}", "at the end of a text" },
	{ BPE_ALL, "", NORM("\"Replace\",\"pattern\":{\"String\":\"<s>\"},\"content\":\"\"") ",\"added_tokens\":["
	  "{\"id\":1,\"content\":\"<s>\"," WHOLE "\"normalized\":true,\"special\":true}]", "is normalized to nothing" },
	{ BPE_ALL, "\"byte_fallback\":true,", "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}",
	  "'byte_fallback' of a byte-level vocabulary" },
	{ UNIGRAM, "\"byte_fallback\":1,", "", "'byte_fallback' is neither true nor false" },
};

static const struct {
	const char *json, *says;
} broken[] = {
	{ "{\"model\":{\"type\":\"Unigram\"}}", "'vocab' is not an array" },
	{ "{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", "'vocab' is not an array" },
	{ "{\"model\":{\"vocab\":[[\"a\"]]}}", "token 0 is not" },
	{ "{\"model\":{\"vocab\":[[\"a\",\"b\"]]}}", "token 0 is not" },
	{ "{\"model\":{\"vocab\":[[\"a\",0],[\"a\",0]]}}", "is there twice" },
	{ "{\"model\":{\"vocab\":[[\"a\",0]],\"unk_id\":1}}", "'unk_id' is not in the vocabulary" },
	{ "{\"model\":{\"vocab\":[[\"a\",0]],\"unk_id\":-1}}", "the id is not a whole number" },
};

static void
check_refused(struct tc_tokenizer *t, const struct tc_err *err, const char *says)
{
	if (!ok(!t && err->code == TC_DATA && strstr(err->msg, says), "refused: %s", says))
		printf("# %s\n", t ? "loaded" : err->msg);
	tc_tokenizer_free(t);
}

static void
test_refused(void)
{
	static const char alone[] = "{\"model\":{\"vocab\":[[\"a\",0]]}}";
	struct tc_err err = {0};
	struct tc_tokenizer *t;
	uint32_t *ids;
	size_t n;

	for (size_t i = 0; i < COUNT(refused); i++) {
		err = (struct tc_err){0};
		t = load(refused[i].model, refused[i].extra, refused[i].sections, &err);
		check_refused(t, &err, refused[i].says);
	}
	for (size_t i = 0; i < COUNT(broken); i++) {
		err = (struct tc_err){0};
		if (tc_tokenizer_load(&t, broken[i].json, strlen(broken[i].json), &err) < 0)
			t = NULL;
		check_refused(t, &err, broken[i].says);
	}
	if (tc_tokenizer_load(&t, alone, strlen(alone), &err) < 0)
		abort();
	ok(tc_tokenizer_encode(t, "ab", 2, false, &ids, &n, &err) < 0 && err.code == TC_DATA, "unknown without unk_id");
	tc_tokenizer_free(t);
}

/* Tables with wrong bytes are refused, here or when they are used, or mean
 * something else; nothing worse. */
static void
test_broken_tables(void)
{
	static const char text[] = "\ta\302\240b\302\275xe\314\201\357\254\201\r\na\314\201\314\243\001\342\200\213";
	static const char digits[] = "ABab01/+9z";
	char table[] = NORM("\"Precompiled\",\"precompiled_charsmap\":\"" TABLE "\"");
	size_t n_loaded = 0, at = strlen("\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"");

	for (size_t i = 0; i + at + 4 < strlen(table); i++) {
		struct tc_err err = {0};
		char was = table[at + i];
		struct tc_tokenizer *t;
		uint32_t *ids;
		size_t n;

		table[at + i] = digits[i % (sizeof(digits) - 1)];
		t = load(UNIGRAM_TIES, "", table, &err);
		n_loaded += t != NULL;
		if (t && tc_tokenizer_encode(t, text, sizeof(text) - 1, false, &ids, &n, &err) == 0)
			free(ids);
		tc_tokenizer_free(t);
		table[at + i] = was;
	}
	ok(n_loaded > 100, "broken tables do no harm: %zu were loaded", n_loaded);
}

/* --- decoding --- */

#define LLAMA_DECODER "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[" \
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\\u2581\"},\"content\":\" \"},{\"type\":\"ByteFallback\"}," \
    "{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}"

static const struct {
	const char *name, *sections, *text;
	size_t n_ids;
	uint32_t ids[IDS_MAX];
} decoded[] = {
	{ "Llama-2's decoder", LLAMA_DECODER, "i<s>\303\251\344\275\240\303\251", 8, { 259, 263, 1, 265, 231, 192, 163, 265 } },
	{ "one space is dropped", LLAMA_DECODER, " ab", 3, { 259, 270, 261 } },
	{ "ByteFallback alone", "\"decoder\":{\"type\":\"ByteFallback\"}", "\303\251a", 3, { 198, 172, 260 } },
	{ "Metaspace: none in the first token", "\"decoder\":" METASPACE, " a\303\251 a", 4, { 259, 270, 265, 270 } },
	{ "Metaspace never", "\"decoder\":{" META_TYPE "\"prepend_scheme\":\"never\",\"split\":true}", " \303\251", 2,
	  { 259, 265 } },
	{ "Strip of each token", "\"decoder\":{\"type\":\"Strip\",\"content\":\"a\",\"start\":1,\"stop\":0}",
	  "\303\251b\342\226\201a", 4, { 260, 265, 269, 270 } },
};

static void
test_decode(void)
{
	for (size_t i = 0; i < COUNT(decoded); i++) {
		struct tc_err err = {0};
		struct tc_tokenizer *t = load(BPE_ALL, LLAMA, decoded[i].sections, &err);
		struct tc_buf all = {0}, stream = {0};
		int r = t ? tc_tokenizer_decode(t, decoded[i].ids, decoded[i].n_ids, false, &all, &err) : -1;

		ok(r == 0 && all.n == strlen(decoded[i].text) && memcmp(all.p, decoded[i].text, all.n) == 0, "%s: %s",
		    decoded[i].name, err.msg);
		for (size_t k = 2; t && k < decoded[i].n_ids; k++)
			if (tc_tokenizer_decode(t, decoded[i].ids + (k == 2 ? 0 : k), k == 2 ? 3 : 1, false, &stream, &err) < 0)
				abort();
		ok(decoded[i].n_ids < 3 || (stream.n == all.n && memcmp(stream.p, all.p, all.n) == 0), "%s, streamed",
		    decoded[i].name);
		tc_buf_free(&all);
		tc_buf_free(&stream);
		tc_tokenizer_free(t);
	}
}

/* Long words, unknown runs and runs of marks take no quadratic time. */
static void
test_long(void)
{
	enum { N = 1000000 };
	static const char *const units[] = { "a", " ", "b ", "\344\275\240", "\314\201\314\243", "e\314\201" };
	struct tc_err err = {0};
	struct tc_tokenizer *t[] = {
		load(BPE_ALL, LLAMA, "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}," SPACES "]}", &err),
		load(UNIGRAM_BYTES, "\"byte_fallback\":true,", NORM("\"Precompiled\",\"precompiled_charsmap\":\"" TABLE "\""), &err)
	};
	char *text = malloc(N);

	if (!t[0] || !t[1] || !text)
		abort();
	for (size_t i = 0; i < 2 * COUNT(units); i++) {
		const char *unit = units[i / 2];
		size_t k = strlen(unit), length = N / k * k, n;
		uint32_t *ids;

		for (size_t at = 0; at < length; at++)
			text[at] = unit[at % k];
		ok(tc_tokenizer_encode(t[i % 2], text, length, false, &ids, &n, &err) == 0 && n > 0,
		    "a megabyte of one thing: %zu ids", n);
		free(ids);
	}
	free(text);
	tc_tokenizer_free(t[0]);
	tc_tokenizer_free(t[1]);
}

int
main(void)
{
	test_cases();
	test_refused();
	test_broken_tables();
	test_decode();
	test_long();
	return done_testing();
}
