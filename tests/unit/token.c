/* The tokenizer: ids, decoding, and what is refused.  The ids of the cases
 * were made by Hugging Face's tokenizers 0.23 from the same JSON. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tap.h"
#include "token/tokenizer.h"

enum { SPECIAL = 1, PAIRS = 2, IDS_MAX = 64 };

/* A vocabulary in which byte b has id b, and these follow. */
static const char *const words[] = {
	"ab", "\304\240a", "11", "a-", "-a", "--", "b-", "aa", "abab", "hi", "\304\240hi", "zz"
};
static const char *const merges[][2] = {
	{ "a", "b" }, { "\304\240", "a" }, { "1", "1" }, { "a", "-" }, { "-", "a" }, { "-", "-" },
	{ "b", "-" }, { "a", "a" }, { "ab", "ab" }, { "h", "i" }, { "\304\240", "hi" }
};

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

struct text_case {
	const char *name;
	const char *model; /* more of the model section */
	int flags;
	const char *sections;
	const char *text;
	size_t n_ids;
	uint32_t ids[IDS_MAX];
};

#define PRE "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
#define BYTES "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":false}"
#define SPLIT "{\"type\":\"Split\",\"pattern\":"

static const struct text_case cases[] = {
	{ "ByteLevel without regex", "", 0,
	  PRE BYTES "]}",
	  "ab ab abab 1111", 8,
	  { 256, 32, 256, 32, 264, 32, 258, 258 } },
	{ "ByteLevel with GPT-2's regex", "", 0,
	  "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}",
	  "ab ab  a hi's 1111-- a\n \n a", 17,
	  { 256, 32, 256, 32, 257, 266, 39, 115, 32, 258, 258, 261, 257, 10, 32, 10, 257 } },
	{ "ByteLevel adds a space", "", 0,
	  "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true}",
	  "hi hi", 2,
	  { 266, 266 } },
	{ "ByteLevel keeps a space that is there", "", 0,
	  "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true}",
	  " hi hi", 2,
	  { 266, 266 } },
	{ "ByteLevel's use_regex is on when absent", "", 0,
	  "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true}",
	  "ab-a 11", 5,
	  { 256, 45, 97, 32, 258 } },
	{ "Digits one by one", "", 0,
	  PRE "{\"type\":\"Digits\",\"individual_digits\":true}," BYTES "]}",
	  "a11 111\331\243\331\244b", 12,
	  { 97, 49, 49, 32, 49, 49, 49, 217, 163, 217, 164, 98 } },
	{ "Digits in runs", "", 0,
	  PRE "{\"type\":\"Digits\",\"individual_digits\":false}," BYTES "]}",
	  "a11 111\331\243\331\244b", 10,
	  { 97, 258, 32, 258, 49, 217, 163, 217, 164, 98 } },
	{ "a space in front of every piece of a Split", "", 0,
	  PRE SPLIT "{\"String\":\"-\"},\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":false}]}",
	  "a-a-hi", 7,
	  { 257, 32, 45, 257, 32, 45, 266 } },
	{ "spelling before another split", "", 0,
	  PRE BYTES "," SPLIT "{\"String\":\"\\u0120a\"},\"behavior\":\"Isolated\",\"invert\":false}]}",
	  "hi aab aa", 5,
	  { 265, 257, 256, 257, 97 } },
	{ "no pre-tokenizer after spelling is needed", "", 0,
	  PRE SPLIT "{\"String\":\"a\"},\"behavior\":\"Isolated\",\"invert\":false}]}",
	  "hi aab\303\251 z", 6,
	  { 265, 97, 97, 98, 233, 122 } },
	{ "Split Removed, regex", "", 0,
	  PRE SPLIT "{\"Regex\":\"[a1]\"},\"behavior\":\"Removed\",\"invert\":false}," BYTES "]}",
	  "aab-a--b 11a 111-", 6,
	  { 262, 261, 98, 32, 32, 45 } },
	{ "Split Removed, string", "", 0,
	  PRE SPLIT "{\"String\":\"a\"},\"behavior\":\"Removed\",\"invert\":false}," BYTES "]}",
	  "aab-a--b 11a 111-", 9,
	  { 262, 261, 98, 32, 258, 32, 258, 49, 45 } },
	{ "Split Removed inverted, regex", "", 0,
	  PRE SPLIT "{\"Regex\":\"[a1]\"},\"behavior\":\"Removed\",\"invert\":true}," BYTES "]}",
	  "aab-a--b 11a 111-", 9,
	  { 97, 97, 97, 49, 49, 97, 49, 49, 49 } },
	{ "Split Removed inverted, string", "", 0,
	  PRE SPLIT "{\"String\":\"a\"},\"behavior\":\"Removed\",\"invert\":true}," BYTES "]}",
	  "aab-a--b 11a 111-", 4,
	  { 97, 97, 97, 97 } },
	{ "Split Isolated, regex", "", 0,
	  PRE SPLIT "{\"Regex\":\"[a1]\"},\"behavior\":\"Isolated\",\"invert\":false}," BYTES "]}",
	  "aab-a--b 11a 111-", 15,
	  { 97, 97, 262, 97, 261, 98, 32, 49, 49, 97, 32, 49, 49, 49, 45 } },
	{ "Split Isolated, string", "", 0,
	  PRE SPLIT "{\"String\":\"a\"},\"behavior\":\"Isolated\",\"invert\":false}," BYTES "]}",
	  "aab-a--b 11a 111-", 13,
	  { 97, 97, 262, 97, 261, 98, 32, 258, 97, 32, 258, 49, 45 } },
	{ "Split Isolated inverted, regex", "", 0,
	  PRE SPLIT "{\"Regex\":\"[a1]\"},\"behavior\":\"Isolated\",\"invert\":true}," BYTES "]}",
	  "aab-a--b 11a 111-", 15,
	  { 97, 97, 262, 97, 261, 98, 32, 49, 49, 97, 32, 49, 49, 49, 45 } },
	{ "Split Isolated inverted, string", "", 0,
	  PRE SPLIT "{\"String\":\"a\"},\"behavior\":\"Isolated\",\"invert\":true}," BYTES "]}",
	  "aab-a--b 11a 111-", 13,
	  { 97, 97, 262, 97, 261, 98, 32, 258, 97, 32, 258, 49, 45 } },
	{ "Split MergedWithPrevious, regex", "", 0,
	  PRE SPLIT "{\"Regex\":\"[a1]\"},\"behavior\":\"MergedWithPrevious\",\"invert\":false}," BYTES "]}",
	  "aab-a--b 11a 111-", 15,
	  { 97, 97, 98, 260, 261, 98, 32, 49, 49, 97, 32, 49, 49, 49, 45 } },
	{ "Split MergedWithPrevious, string", "", 0,
	  PRE SPLIT "{\"String\":\"a\"},\"behavior\":\"MergedWithPrevious\",\"invert\":false}," BYTES "]}",
	  "aab-a--b 11a 111-", 13,
	  { 97, 97, 98, 260, 261, 98, 32, 258, 97, 32, 258, 49, 45 } },
	{ "Split MergedWithPrevious inverted, regex", "", 0,
	  PRE SPLIT "{\"Regex\":\"[a1]\"},\"behavior\":\"MergedWithPrevious\",\"invert\":true}," BYTES "]}",
	  "aab-a--b 11a 111-", 15,
	  { 97, 256, 45, 259, 45, 98, 32, 49, 49, 97, 32, 49, 49, 49, 45 } },
	{ "Split MergedWithPrevious inverted, string", "", 0,
	  PRE SPLIT "{\"String\":\"a\"},\"behavior\":\"MergedWithPrevious\",\"invert\":true}," BYTES "]}",
	  "aab-a--b 11a 111-", 13,
	  { 97, 256, 45, 259, 45, 98, 32, 258, 97, 32, 258, 49, 45 } },
	{ "Split MergedWithNext, regex", "", 0,
	  PRE SPLIT "{\"Regex\":\"[a1]\"},\"behavior\":\"MergedWithNext\",\"invert\":false}," BYTES "]}",
	  "aab-a--b 11a 111-", 15,
	  { 97, 256, 45, 259, 45, 98, 32, 49, 49, 97, 32, 49, 49, 49, 45 } },
	{ "Split MergedWithNext, string", "", 0,
	  PRE SPLIT "{\"String\":\"a\"},\"behavior\":\"MergedWithNext\",\"invert\":false}," BYTES "]}",
	  "aab-a--b 11a 111-", 13,
	  { 97, 256, 45, 259, 45, 98, 32, 258, 97, 32, 258, 49, 45 } },
	{ "Split MergedWithNext inverted, regex", "", 0,
	  PRE SPLIT "{\"Regex\":\"[a1]\"},\"behavior\":\"MergedWithNext\",\"invert\":true}," BYTES "]}",
	  "aab-a--b 11a 111-", 15,
	  { 97, 97, 98, 260, 261, 98, 32, 49, 49, 97, 32, 49, 49, 49, 45 } },
	{ "Split MergedWithNext inverted, string", "", 0,
	  PRE SPLIT "{\"String\":\"a\"},\"behavior\":\"MergedWithNext\",\"invert\":true}," BYTES "]}",
	  "aab-a--b 11a 111-", 13,
	  { 97, 97, 98, 260, 261, 98, 32, 258, 97, 32, 258, 49, 45 } },
	{ "Split Contiguous, regex", "", 0,
	  PRE SPLIT "{\"Regex\":\"[a1]\"},\"behavior\":\"Contiguous\",\"invert\":false}," BYTES "]}",
	  "aab-a--b 11a 111-", 12,
	  { 263, 262, 97, 261, 98, 32, 258, 97, 32, 258, 49, 45 } },
	{ "Split Contiguous, string", "", 0,
	  PRE SPLIT "{\"String\":\"a\"},\"behavior\":\"Contiguous\",\"invert\":false}," BYTES "]}",
	  "aab-a--b 11a 111-", 12,
	  { 263, 262, 97, 261, 98, 32, 258, 97, 32, 258, 49, 45 } },
	{ "Split Contiguous inverted, regex", "", 0,
	  PRE SPLIT "{\"Regex\":\"[a1]\"},\"behavior\":\"Contiguous\",\"invert\":true}," BYTES "]}",
	  "aab-a--b 11a 111-", 12,
	  { 263, 262, 97, 261, 98, 32, 258, 97, 32, 258, 49, 45 } },
	{ "Split Contiguous inverted, string", "", 0,
	  PRE SPLIT "{\"String\":\"a\"},\"behavior\":\"Contiguous\",\"invert\":true}," BYTES "]}",
	  "aab-a--b 11a 111-", 12,
	  { 263, 262, 97, 261, 98, 32, 258, 97, 32, 258, 49, 45 } },
	{ "Split by a string that would be a pattern", "", 0,
	  PRE SPLIT "{\"String\":\"a.b|\"},\"behavior\":\"Isolated\",\"invert\":false}," BYTES "]}",
	  "a.b|aab|ab", 8,
	  { 97, 46, 98, 124, 97, 256, 124, 256 } },
	{ "Split with empty matches", "", 0,
	  PRE SPLIT "{\"Regex\":\"1*\"},\"behavior\":\"Isolated\",\"invert\":false}," BYTES "]}",
	  "aab11ab", 6,
	  { 97, 97, 98, 258, 97, 98 } },
	{ "Split by lines: ^ and $ are Ruby's", "", 0,
	  PRE SPLIT "{\"Regex\":\"^-|-$\"},\"behavior\":\"Isolated\",\"invert\":false}," BYTES "]}",
	  "--a--\n--a--", 9,
	  { 45, 45, 259, 45, 10, 45, 45, 259, 45 } },
	{ "Split by \\s and \\S in classes", "", 0,
	  PRE SPLIT "{\"Regex\":\"[\\\\s-]+|[^\\\\S ]x\"},\"behavior\":\"Removed\",\"invert\":false}," BYTES "]}",
	  "ab\341\240\216ab\302\240-\343\200\200ab", 6,
	  { 256, 225, 160, 142, 256, 256 } },
	{ "Split by \\w, \\h, \\v and \\u", "", 0,
	  PRE SPLIT "{\"Regex\":\"\\\\w\\\\W|\\\\h-|\\\\v|\\\\u0062\"},\"behavior\":\"Isolated\",\"invert\":false}," BYTES "]}",
	  "ab-b\302\262-\331\243-\342\200\250ab\013--ab", 18,
	  { 97, 262, 98, 194, 178, 45, 217, 163, 45, 226, 128, 168, 97, 98, 11, 45, 260, 98 } },
	{ "Split with lookahead and options", "", 0,
	  PRE SPLIT "{\"Regex\":\"(?i:AB)(?=-)|(?<=1)1\"},\"behavior\":\"Isolated\",\"invert\":false}," BYTES "]}",
	  "abab-aB-1111", 10,
	  { 256, 256, 45, 97, 66, 45, 49, 49, 49, 49 } },
	{ "Split by a script, not its extensions", "", 0,
	  PRE SPLIT "{\"Regex\":\"\\\\p{Katakana}+\"},\"behavior\":\"Removed\",\"invert\":false}," BYTES "]}",
	  "a\343\202\253\343\203\274b", 5,
	  { 97, 227, 131, 188, 98 } },
	{ "two Splits", "", 0,
	  PRE SPLIT "{\"String\":\"-\"},\"behavior\":\"Removed\",\"invert\":false}," SPLIT "{\"String\":\"b\"},\"behavior\":\"Isolated\",\"invert\":false}," BYTES "]}",
	  "ab-ab-abab", 8,
	  { 97, 98, 97, 98, 97, 98, 97, 98 } },
	{ "added tokens: leftmost, then longest", "", 0,
	  PRE BYTES "]}"
	  ",\"added_tokens\":["
	  "{\"id\":268,\"content\":\"<s>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true},"
	  "{\"id\":269,\"content\":\"<s>a\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":false},"
	  "{\"id\":270,\"content\":\"b<\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":false},"
	  "{\"id\":271,\"content\":\"<s\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":false}]",
	  "x<s>ab<s>a<sb", 8,
	  { 120, 269, 270, 115, 62, 97, 271, 98 } },
	{ "added tokens: lstrip and rstrip", "", 0,
	  PRE BYTES "]}"
	  ",\"added_tokens\":["
	  "{\"id\":268,\"content\":\"<l>\",\"single_word\":false,\"lstrip\":true,\"rstrip\":false,\"normalized\":false,\"special\":false},"
	  "{\"id\":269,\"content\":\"<r>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":true,\"normalized\":false,\"special\":false},"
	  "{\"id\":270,\"content\":\"<b>\",\"single_word\":false,\"lstrip\":true,\"rstrip\":true,\"normalized\":false,\"special\":false}]",
	  "a \343\200\200<l> a <r> \n<b>  <l>\011<b> ", 8,
	  { 97, 268, 257, 32, 269, 270, 268, 270 } },
	{ "added tokens: rstrip and a token in the spaces", "", 0,
	  PRE BYTES "]}"
	  ",\"added_tokens\":["
	  "{\"id\":268,\"content\":\"<r>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":true,\"normalized\":false,\"special\":false},"
	  "{\"id\":269,\"content\":\" \",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":false}]",
	  "a <r>  a", 6,
	  { 97, 269, 268, 269, 269, 97 } },
	{ "added tokens: single_word", "", 0,
	  PRE BYTES "]}"
	  ",\"added_tokens\":["
	  "{\"id\":268,\"content\":\"foo\",\"single_word\":true,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":false}]",
	  "foo foox xfoo (foo) \303\251foo foo\302\262 foo\331\243 foo_ foo\342\200\215 foo", 45,
	  { 268, 32, 102, 111, 111, 120, 32, 120, 102, 111, 111, 32, 40, 268, 41, 32, 195, 169, 102, 111,
	    111, 32, 268, 194, 178, 32, 102, 111, 111, 217, 163, 32, 102, 111, 111, 95, 32, 102, 111,
	    111, 226, 128, 141, 32, 268 } },
	{ "added tokens: normalized ones come second", "", 0,
	  PRE BYTES "]}"
	  ",\"added_tokens\":["
	  "{\"id\":256,\"content\":\"ab\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":true,\"special\":false},"
	  "{\"id\":262,\"content\":\"b-\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":false}]",
	  "ab-ab", 3,
	  { 97, 262, 256 } },
	{ "added tokens: one of the model's", "", 0,
	  PRE BYTES "]}"
	  ",\"added_tokens\":["
	  "{\"id\":267,\"content\":\"zz\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true}]",
	  "azzz", 3,
	  { 97, 267, 122 } },
	{ "ignore_merges", "\"ignore_merges\":true,", 0,
	  PRE BYTES "]}",
	  "zz", 1,
	  { 267 } },
	{ "without ignore_merges", "\"ignore_merges\":false,", 0,
	  PRE BYTES "]}",
	  "zz", 2,
	  { 122, 122 } },
	{ "merges as pairs", "", PAIRS,
	  PRE BYTES "]}",
	  "abab hi 11", 4,
	  { 264, 266, 32, 258 } },
	{ "dropout of nought and empty affixes", "\"dropout\":0.0,\"continuing_subword_prefix\":\"\",\"end_of_word_suffix\":\"\",", 0,
	  PRE BYTES "]}",
	  "abab", 1,
	  { 264 } },
	{ "unknown characters are dropped", "", 0,
	  PRE SPLIT "{\"String\":\" \"},\"behavior\":\"Removed\",\"invert\":false}]}",
	  "a\344\275\240b \344\275\240", 1,
	  { 256 } },
	{ "unknown characters become unk_token", "\"unk_token\":\"zz\",", 0,
	  PRE SPLIT "{\"String\":\" \"},\"behavior\":\"Removed\",\"invert\":false}]}",
	  "a\344\275\240\344\275\240b \344\275\240", 5,
	  { 97, 267, 267, 98, 267 } },
	{ "unknown characters are fused", "\"unk_token\":\"zz\",\"fuse_unk\":true,", 0,
	  PRE SPLIT "{\"String\":\" \"},\"behavior\":\"Removed\",\"invert\":false}]}",
	  "a\344\275\240\344\275\240b \344\275\240", 4,
	  { 97, 267, 98, 267 } },
	{ "empty text", "", 0,
	  PRE BYTES "]}",
	  "", 0,
	  { 0 } },
	{ "template", "", SPECIAL,
	  PRE BYTES "]}"
	  ",\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":false,\"use_regex\":true}"
	  ",{\"type\":\"TemplateProcessing\",\"single\":["
	  "{\"SpecialToken\":"
	  "{\"id\":\"<s>\",\"type_id\":0}},{\"Sequence\":"
	  "{\"id\":\"A\",\"type_id\":0}},"
	  "{\"SpecialToken\":"
	  "{\"id\":\"e\",\"type_id\":0}}]"
	  ",\"pair\":[],\"special_tokens\":{\"<s>\":"
	  "{\"id\":\"<s>\",\"ids\":[1,2],\"tokens\":[\"<s>\",\"<s>\"]},\"e\":"
	  "{\"id\":\"e\",\"ids\":[3],\"tokens\":[\"e\"]}}}]}",
	  "ab", 4,
	  { 1, 2, 256, 3 } },
	{ "template not asked for", "", 0,
	  PRE BYTES "]}"
	  ",\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":false,\"use_regex\":true}"
	  ",{\"type\":\"TemplateProcessing\",\"single\":["
	  "{\"SpecialToken\":"
	  "{\"id\":\"<s>\",\"type_id\":0}},{\"Sequence\":"
	  "{\"id\":\"A\",\"type_id\":0}},"
	  "{\"SpecialToken\":"
	  "{\"id\":\"e\",\"type_id\":0}}]"
	  ",\"pair\":[],\"special_tokens\":{\"<s>\":"
	  "{\"id\":\"<s>\",\"ids\":[1,2],\"tokens\":[\"<s>\",\"<s>\"]},\"e\":"
	  "{\"id\":\"e\",\"ids\":[3],\"tokens\":[\"e\"]}}}]}",
	  "ab", 1,
	  { 256 } },
	{ "template around nothing", "", SPECIAL,
	  PRE BYTES "]}"
	  ",\"post_processor\":{\"type\":\"Sequence\",\"processors\":[{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":false,\"use_regex\":true}"
	  ",{\"type\":\"TemplateProcessing\",\"single\":["
	  "{\"SpecialToken\":"
	  "{\"id\":\"<s>\",\"type_id\":0}},{\"Sequence\":"
	  "{\"id\":\"A\",\"type_id\":0}},"
	  "{\"SpecialToken\":"
	  "{\"id\":\"e\",\"type_id\":0}}]"
	  ",\"pair\":[],\"special_tokens\":{\"<s>\":"
	  "{\"id\":\"<s>\",\"ids\":[1,2],\"tokens\":[\"<s>\",\"<s>\"]},\"e\":"
	  "{\"id\":\"e\",\"ids\":[3],\"tokens\":[\"e\"]}}}]}",
	  "", 3,
	  { 1, 2, 3 } },
};

/* What must be refused, and a part of the message.  The sections stand
 * before a model that is fine. */
static const struct {
	const char *sections, *model, *says;
} refused[] = {
	{ "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},", "", "tokenizer.json: pre_tokenizer 'BertPreTokenizer' is not supported" },
	{ "\"pre_tokenizer\":{\"type\":7},", "", "pre_tokenizer has no 'type'" },
	{ "\"pre_tokenizer\":[],", "", "pre_tokenizer is not an object" },
	{ "\"pre_tokenizer\":{\"type\":\"Sequence\"},", "", "'pretokenizers' is not an array" },
	{ PRE BYTES ",{\"type\":\"UnicodeScripts\"}]},", "", "pre_tokenizer 'UnicodeScripts' is not supported" },
	{ "\"pre_tokenizer\":{\"type\":\"ByteLevel\"},", "", "'add_prefix_space' is neither true nor false" },
	{ "\"pre_tokenizer\":{\"type\":\"Digits\",\"individual_digits\":1},", "", "'individual_digits' is neither" },
	{ PRE SPLIT "{\"Regex\":\"a\"},\"behavior\":\"Sideways\",\"invert\":false}]},", "", "behavior 'Sideways'" },
	{ PRE SPLIT "{\"Glob\":\"a\"},\"behavior\":\"Removed\",\"invert\":false}]},", "", "'Regex' is not a string" },
	{ PRE SPLIT "{\"Regex\":\"(a\"},\"behavior\":\"Removed\",\"invert\":false}]},", "", "does not compile" },
	{ PRE SPLIT "{\"Regex\":\"\\\\bx\"},\"behavior\":\"Removed\",\"invert\":false}]},", "", "'\\b' in a pattern" },
	{ PRE SPLIT "{\"Regex\":\"[[:alpha:]]\"},\"behavior\":\"Removed\",\"invert\":false}]},", "", "'[:' in [ ] in a pattern" },
	{ PRE SPLIT "{\"Regex\":\"[\\\\W]\"},\"behavior\":\"Removed\",\"invert\":false}]},", "", "'\\W' in [ ] in a pattern" },
	{ PRE SPLIT "{\"Regex\":\"[a&&b]\"},\"behavior\":\"Removed\",\"invert\":false}]},", "", "'&&' in [ ] in a pattern" },
	{ PRE SPLIT "{\"Regex\":\"a{1,3}+\"},\"behavior\":\"Removed\",\"invert\":false}]},", "", "'{1,3}+' in a pattern" },
	{ PRE SPLIT "{\"Regex\":\"a{,3}\"},\"behavior\":\"Removed\",\"invert\":false}]},", "", "'{,3}" },
	{ PRE SPLIT "{\"Regex\":\"(?m:.)\"},\"behavior\":\"Removed\",\"invert\":false}]},", "", "'(?m:' in a pattern" },
	{ PRE SPLIT "{\"Regex\":\"(*ACCEPT)\"},\"behavior\":\"Removed\",\"invert\":false}]},", "", "'(*' in a pattern" },
	{ PRE SPLIT "{\"Regex\":\"a\\\\\"},\"behavior\":\"Removed\",\"invert\":false}]},", "", "in a pattern is not supported" },
	{ PRE SPLIT "{\"Regex\":\"\\\\xff\"},\"behavior\":\"Removed\",\"invert\":false}]},", "", "'\\xff' in a pattern" },
	{ "\"normalizer\":{\"type\":\"Nmt\"},", "", "normalizer 'Nmt' is not supported" },
	{ "\"post_processor\":{\"type\":\"RobertaProcessing\"},", "", "post_processor 'RobertaProcessing' is not supported" },
	{ "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[]},", "", "'single' does not hold the text" },
	{ "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}]},", "", "no ids for 'x'" },
	{ "\"decoder\":{\"type\":\"WordPiece\"},", "", "decoder 'WordPiece' is not supported" },
	{ "\"version\":\"2.0\",", "", "version '2.0' is not supported" },
	{ "\"added_tokens\":{},", "", "'added_tokens' is not an array" },
	{ "\"added_tokens\":[{\"id\":\"x\",\"content\":\"y\"}],", "", "added token 'y': the id is not a whole number" },
	{ "\"added_tokens\":[{\"id\":300,\"content\":\"y\\u4f60\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
	  "\"normalized\":false,\"special\":false}],", "", "has id 300, but by its place it is 268" },
	{ "", "\"dropout\":0.1,", "'dropout' is not supported" },
	{ "", "\"continuing_subword_prefix\":\"##\",", "'continuing_subword_prefix' is not supported" },
	{ "", "\"end_of_word_suffix\":\"</w>\",", "'end_of_word_suffix' is not supported" },
	{ "", "\"ignore_merges\":\"yes\",", "'ignore_merges' is neither true nor false" },
};

/* Whole files that are refused. */
static const struct {
	const char *json, *says;
} broken[] = {
	{ "", "tokenizer.json: line" },
	{ "[]", "not an object" },
	{ "{\"model\":", "tokenizer.json: line 1" },
	{ "{}", "'model' is not an object" },
	{ "{\"model\":{\"type\":\"WordLevel\"}}", "model 'WordLevel' is not supported" },
	{ "{\"model\":{\"type\":\"BPE\",\"merges\":[]}}", "'vocab' is not an object" },
	{ "{\"model\":{\"vocab\":{\"a\":0}}}", "'merges' is not an array" },
	{ "{\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}", "the id is not a whole number" },
	{ "{\"model\":{\"vocab\":{\"a\":2147483647},\"merges\":[]}}", "the id is not a whole number" },
	{ "{\"model\":{\"vocab\":{\"a\":\"0\"},\"merges\":[]}}", "the id is not a whole number" },
	{ "{\"model\":{\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", "two tokens have id 0" },
	{ "{\"model\":{\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]}}", "duplicate" },
	{ "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", "the second is not in the vocabulary" },
	{ "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"b a\"]}}", "the first is not in the vocabulary" },
	{ "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\",\"a\"]]}}", "their sum is not in the vocabulary" },
	{ "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a a a\"]}}", "merge 0 is neither" },
	{ "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", "merge 0 is neither" },
	{ "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[7]}}", "merge 0 is neither" },
};

static void
print_to(struct tc_buf *b, const char *s)
{
	struct tc_err err = {0};

	if (tc_buf_append(b, s, strlen(s), &err) < 0)
		abort();
}

/* How vocabularies spell byte b: see lib/token/bytelevel.h. */
static void
spell(char s[3], unsigned b)
{
	unsigned c = b < 0x21 ? 0x100 + b : b >= 0x7f && b < 0xa1 ? 0x121 + b - 0x7f : b == 0xad ? 0x143 : b;

	s[0] = (char)(c < 0x80 ? c : 0xc0 | c >> 6);
	s[1] = (char)(c < 0x80 ? 0 : 0x80 | (c & 0x3f));
	s[2] = '\0';
}

static void
print_model(struct tc_buf *b, const char *more, int flags)
{
	char line[128], s[3];

	snprintf(line, sizeof(line), "\"model\":{\"type\":\"BPE\",%s\"vocab\":{", more);
	print_to(b, line);
	for (unsigned i = 0; i < 256; i++) {
		spell(s, i);
		snprintf(line, sizeof(line), "\"%s%s\":%u,", *s == '"' || *s == '\\' ? "\\" : "", s, i);
		print_to(b, line);
	}
	for (size_t i = 0; i < COUNT(words); i++) {
		snprintf(line, sizeof(line), "%s\"%s\":%zu", i ? "," : "", words[i], 256 + i);
		print_to(b, line);
	}
	print_to(b, "},\"merges\":[");
	for (size_t i = 0; i < COUNT(merges); i++) {
		snprintf(line, sizeof(line), flags & PAIRS ? "%s[\"%s\",\"%s\"]" : "%s\"%s %s\"", i ? "," : "",
		    merges[i][0], merges[i][1]);
		print_to(b, line);
	}
	print_to(b, "]}");
}

static struct tc_tokenizer *
load_case(const char *sections, const char *more, int flags, struct tc_err *err)
{
	struct tc_buf b = {0};
	struct tc_tokenizer *t;

	print_to(&b, "{");
	print_to(&b, sections);
	if (*sections && sections[strlen(sections) - 1] != ',')
		print_to(&b, ",");
	print_model(&b, more, flags);
	print_to(&b, "}");
	if (tc_tokenizer_load(&t, b.p, b.n, err) < 0)
		t = NULL;
	tc_buf_free(&b);
	return t;
}

static void
print_ids(const char *what, const uint32_t *ids, size_t n)
{
	printf("# %s", what);
	for (size_t i = 0; i < n; i++)
		printf(" %" PRIu32, ids[i]);
	putchar('\n');
}

static void
check_ids(struct tc_tokenizer *t, const char *name, const char *text, size_t n, bool special,
    const uint32_t *want, size_t n_want)
{
	struct tc_err err = {0};
	uint32_t *ids;
	size_t count;
	bool same;

	if (tc_tokenizer_encode(t, text, n, special, &ids, &count, &err) < 0) {
		ok(0, "%s: %s", name, err.msg);
		return;
	}
	same = count == n_want && memcmp(ids, want, count * sizeof(*ids)) == 0;
	if (!ok(same, "%s", name)) {
		print_ids("got ", ids, count);
		print_ids("want", want, n_want);
	}
	free(ids);
}

static void
test_cases(void)
{
	for (size_t i = 0; i < COUNT(cases); i++) {
		const struct text_case *c = &cases[i];
		struct tc_err err = {0};
		struct tc_tokenizer *t = load_case(c->sections, c->model, c->flags, &err);

		if (t)
			check_ids(t, c->name, c->text, strlen(c->text), c->flags & SPECIAL, c->ids, c->n_ids);
		else
			ok(0, "%s: %s", c->name, err.msg);
		tc_tokenizer_free(t);
	}
}

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
	struct tc_tokenizer *t;

	for (size_t i = 0; i < COUNT(refused); i++) {
		struct tc_err err = {0};

		t = load_case(refused[i].sections, refused[i].model, 0, &err);
		check_refused(t, &err, refused[i].says);
	}
	for (size_t i = 0; i < COUNT(broken); i++) {
		struct tc_err err = {0};

		if (tc_tokenizer_load(&t, broken[i].json, strlen(broken[i].json), &err) < 0)
			t = NULL;
		check_refused(t, &err, broken[i].says);
	}
}

/* A Sequence in a Sequence in ... */
static void
test_depth(void)
{
	struct tc_buf b = {0};
	struct tc_err err = {0};

	for (int i = 0; i < 100; i++)
		print_to(&b, i ? "{\"type\":\"Sequence\",\"pretokenizers\":[" : "\"pre_tokenizer\":");
	print_to(&b, "{\"type\":\"x\"}");
	for (int i = 1; i < 100; i++)
		print_to(&b, "]}");
	if (tc_buf_append(&b, ",", 2, &err) < 0)
		abort();
	check_refused(load_case((const char *)b.p, "", 0, &err), &err, "more than 8 Sequences");
	tc_buf_free(&b);
}

static const char byte_sections[] = PRE BYTES "]},\"decoder\":{\"type\":\"Sequence\",\"decoders\":["
    "{\"type\":\"ByteLevel\"},{\"type\":\"Fuse\"}]},\"added_tokens\":[{\"id\":268,\"content\":\"<s>\","
    "\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,\"special\":true}]";

static bool
decodes(const struct tc_tokenizer *t, const uint32_t *ids, size_t n, bool skip, const char *want, size_t n_want)
{
	struct tc_buf out = {0};
	struct tc_err err = {0};
	bool same = tc_tokenizer_decode(t, ids, n, skip, &out, &err) == 0 && out.n == n_want &&
	    (n_want == 0 || memcmp(out.p, want, n_want) == 0);

	tc_buf_free(&out);
	return same;
}

/* Every byte and every pair of words goes there and back, in one call and
 * token by token. */
static void
test_round_trip(struct tc_tokenizer *t)
{
	static const char *const parts[] = {
		"ab", " ", "hi", "\n", "\303\251", "\344\275\240", "\360\237\231\202", "11", "-", "\t", "<s>", "\0"
	};
	struct tc_buf text = {0}, stream = {0};
	struct tc_err err = {0};
	uint32_t *ids = NULL;
	size_t n = 0;
	bool same;

	for (size_t i = 0; i < COUNT(parts) * COUNT(parts) * 4; i++) {
		const char *p = parts[i * 7 % 11 * (i / 3 + 1) % COUNT(parts)];

		if (tc_buf_append(&text, p, *p ? strlen(p) : 1, &err) < 0)
			abort();
	}
	if (tc_tokenizer_encode(t, (const char *)text.p, text.n, false, &ids, &n, &err) < 0)
		printf("# %s\n", err.msg);
	ok(decodes(t, ids, n, false, (const char *)text.p, text.n), "decode(encode(x)) is x");
	for (size_t i = 0; i < n; i++)
		if (tc_tokenizer_decode(t, ids + i, 1, false, &stream, &err) < 0)
			abort();
	same = stream.n == text.n && memcmp(stream.p, text.p, text.n) == 0;
	ok(same, "decoding token by token gives the same bytes");
	free(ids);
	tc_buf_free(&text);
	tc_buf_free(&stream);
}

static void
test_decode(void)
{
	static const uint32_t ids[] = { 256, 268, 0xe4, 0xbd, 266, 5000000, 999 };
	struct tc_err err = {0};
	struct tc_tokenizer *t = load_case(byte_sections, "", 0, &err);
	struct tc_tokenizer *plain = load_case("", "", 0, &err);
	struct tc_tokenizer *fused = load_case("\"decoder\":{\"type\":\"Fuse\"}", "", 0, &err);
	uint32_t id = 0;

	if (!ok(t && plain && fused, "loads: %s", err.msg))
		exit(done_testing());
	ok(decodes(t, ids, COUNT(ids), false, "ab<s>\344\275 hi", 10), "decode: special tokens, no unknown ids");
	ok(decodes(t, ids, COUNT(ids), true, "ab\344\275 hi", 7), "decode: special tokens skipped");
	ok(decodes(t, NULL, 0, true, "", 0), "decode: nothing");
	ok(decodes(plain, ids, 5, false, "ab \303\244 \302\275 \304\240hi", 13), "no decoder: spaces between");
	ok(decodes(fused, ids, 5, false, "ab\303\244\302\275\304\240hi", 10), "Fuse alone: tokens as spelled");
	ok(tc_tokenizer_vocab(t) == 269 && tc_tokenizer_vocab(plain) == 268, "vocab is 1 + the largest id");
	ok(tc_tokenizer_id(t, "<s>", &id) && id == 268, "id of an added token");
	ok(tc_tokenizer_id(t, "\304\240hi", &id) && id == 266, "id of a token");
	ok(!tc_tokenizer_id(t, "nope", &id) && id == 266, "no id");
	ok(tc_tokenizer_is_special(t, 268) && !tc_tokenizer_is_special(t, 266) &&
	    !tc_tokenizer_is_special(t, 5000000), "is_special");
	test_round_trip(t);
	tc_tokenizer_free(t);
	tc_tokenizer_free(plain);
	tc_tokenizer_free(fused);
}

/* Text that isn't UTF-8 (want: where), and what it becomes (U+FFFD as ?). */
static const struct {
	const char *text;
	size_t bad;
	const char *lossy;
} utf8[] = {
	{ "\200", 0, "?" },
	{ "aaaaaaaaaa\377b", 10, "aaaaaaaaaa?b" },
	{ "ab\303", 2, "ab?" },
	{ "ab\303(", 2, "ab?(" },
	{ "\300\257", 0, "??" },           /* overlong */
	{ "\340\200\257", 0, "???" },
	{ "\355\240\200", 0, "???" },      /* a surrogate */
	{ "\342\202", 0, "?" },
	{ "\342\202\342\202\254", 0, "?\342\202\254" },
	{ "\360\237\231", 0, "?" },
	{ "\360\237\231x\360", 0, "?x?" },
	{ "\364\220\200\200", 0, "????" }, /* above U+10FFFF */
	{ "\303\251\342\202\254\360\237\231\202\365", 9, "\303\251\342\202\254\360\237\231\202?" },
};

static void
test_utf8(void)
{
	struct tc_err err = {0};
	struct tc_tokenizer *t = load_case(byte_sections, "", 0, &err);

	for (size_t i = 0; i < COUNT(utf8); i++) {
		const char *s = utf8[i].text;
		struct tc_buf got = {0}, want = {0};
		size_t bad = SIZE_MAX, count;
		uint32_t *ids;
		char says[64];

		snprintf(says, sizeof(says), "invalid UTF-8 at byte %zu", utf8[i].bad);
		ok(!tc_utf8_check(s, strlen(s), &bad) && bad == utf8[i].bad, "UTF-8 %zu: checked", i);
		ok(t && tc_tokenizer_encode(t, s, strlen(s), false, &ids, &count, &err) < 0 &&
		    err.code == TC_DATA && strcmp(err.msg, says) == 0 && !ids && !count, "UTF-8 %zu: refused", i);
		for (const char *p = utf8[i].lossy; *p; p++)
			if (tc_buf_append(&want, *p == '?' ? "\357\277\275" : p, *p == '?' ? 3 : 1, &err) < 0)
				abort();
		ok(tc_utf8_lossy((const unsigned char *)s, strlen(s), &got, &err) == 0 && got.n == want.n &&
		    memcmp(got.p, want.p, got.n) == 0, "UTF-8 %zu: replaced", i);
		tc_buf_free(&got);
		tc_buf_free(&want);
	}
	ok(tc_utf8_check("\303\251\355\237\277\364\217\277\277", 9, NULL), "UTF-8 that is fine");
	tc_tokenizer_free(t);
}

/* Long words and long runs take no quadratic time, no deep stack. */
static void
test_long(void)
{
	enum { N = 1000000 };
	static const char sections[] = "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false}";
	struct tc_err err = {0};
	struct tc_tokenizer *t = load_case(sections, "", 0, &err);
	struct tc_tokenizer *bad = load_case(PRE SPLIT
	    "{\"Regex\":\"(?:x+x+)+y\"},\"behavior\":\"Removed\",\"invert\":false}]}", "", 0, &err);
	char *text = malloc(N);
	uint32_t *ids = NULL;
	size_t n = 0;

	if (!t || !bad || !text)
		abort();
	memset(text, 'a', N);
	ok(tc_tokenizer_encode(t, text, N, false, &ids, &n, &err) == 0 && n == N / 2 && ids[0] == 263 &&
	    ids[n - 1] == 263, "a word of a million letters");
	free(ids);
	memset(text, ' ', N);
	ok(tc_tokenizer_encode(t, text, N, false, &ids, &n, &err) == 0 && n == N, "a million spaces");
	free(ids);
	memset(text, 'x', N);
	memcpy(text + 998, "zy", 2);
	ok(tc_tokenizer_encode(bad, text, 1000, false, &ids, &n, &err) < 0 && err.code == TC_DATA &&
	    strstr(err.msg, "limit") && !ids, "an exponential pattern ends in an error: %s", err.msg);
	free(text);
	tc_tokenizer_free(t);
	tc_tokenizer_free(bad);
}

/* --- the reference: ../shared --- */

static const char *
shared(const char *name, char path[512])
{
	const char *dir = getenv("TC_SHARED");

	snprintf(path, 512, "%s/%s", dir && *dir ? dir : "../shared", name);
	return path;
}

static bool
read_shared(const char *name, struct tc_buf *b)
{
	enum { LIMIT_BYTES = 64 << 20 };
	char path[512];
	struct tc_err err = {0};

	return tc_read_file(shared(name, path), b, LIMIT_BYTES, &err) == 0;
}

static void
check_text(struct tc_tokenizer *t, const json_t *reference, const char *name)
{
	char path[64], key[64];
	struct tc_buf text = {0};
	struct tc_err err = {0};
	const json_t *want;
	uint32_t *ids = NULL, bits = 0;
	size_t n = 0;
	json_int_t sum = 0;
	bool first = true;

	snprintf(path, sizeof(path), "text/%s", name);
	snprintf(key, sizeof(key), "tokens.%s", name);
	want = json_object_get(reference, key);
	if (!read_shared(path, &text) ||
	    tc_tokenizer_encode(t, (const char *)text.p, text.n, false, &ids, &n, &err) < 0)
		printf("# %s: %s\n", path, err.msg);
	for (size_t i = 0; i < n; i++) {
		sum += ids[i];
		bits ^= ids[i];
		first = first && (i >= 32 ||
		    json_integer_value(json_array_get(json_object_get(want, "first32"), i)) == (json_int_t)ids[i]);
	}
	ok(want && first && (json_int_t)n == json_integer_value(json_object_get(want, "count")) &&
	    sum == json_integer_value(json_object_get(want, "sum")) &&
	    (json_int_t)bits == json_integer_value(json_object_get(want, "xor")), "reference: %s", name);
	ok(decodes(t, ids, n, false, (const char *)text.p, text.n), "reference: %s and back", name);
	free(ids);
	tc_buf_free(&text);
}

static void
check_probes(struct tc_tokenizer *t, const json_t *probes)
{
	for (size_t i = 0; i < json_array_size(probes); i++) {
		const json_t *p = json_array_get(probes, i), *list = json_object_get(p, "ids");
		const json_t *text = json_object_get(p, "text");
		uint32_t want[IDS_MAX] = {0};
		size_t n = tc_min(json_array_size(list), IDS_MAX);
		char name[64];

		for (size_t k = 0; k < n; k++)
			want[k] = (uint32_t)json_integer_value(json_array_get(list, k));
		snprintf(name, sizeof(name), "reference: probe %zu", i);
		check_ids(t, name, json_string_value(text), json_string_length(text), false, want, n);
	}
}

static void
test_reference(void)
{
	struct tc_buf file = {0};
	struct tc_err err = {0};
	struct tc_tokenizer *t = NULL;
	json_t *reference;
	char path[512];

	if (!read_shared("models/demo-16m/tokenizer.json", &file)) {
		skip("the reference", "no ../shared");
		return;
	}
	reference = json_load_file(shared("fixtures/reference.json", path), 0, NULL);
	if (ok(reference && tc_tokenizer_load(&t, file.p, file.n, &err) == 0, "reference: loads %s", err.msg)) {
		check_text(t, reference, "eval.txt");
		check_text(t, reference, "calib.txt");
		check_text(t, reference, "wiki.test.raw");
		check_probes(t, json_object_get(reference, "tokens.probes"));
		ok(tc_tokenizer_vocab(t) == 8192, "reference: 8192 ids");
	}
	tc_tokenizer_free(t);
	json_decref(reference);
	tc_buf_free(&file);
}

int
main(void)
{
	test_cases();
	test_refused();
	test_depth();
	test_decode();
	test_utf8();
	test_long();
	test_reference();
	return done_testing();
}
