/* The command line parser, the canonical options and the help that come from
 * the same tables. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/options.h"
#include "tap.h"

enum zero { ASYM, SYM };

struct args {
	int64_t before;            /* so that no offset is 0 by chance */
	struct tc_common common;
	int64_t bits, signed_count, free_count, size;
	double damp, ratio, unset;
	const char *method, *scale, *prompt;
	bool sequential, act_order;
	struct tc_list keep;
	int64_t group;
	struct tc_counts counts;
	enum zero zero;
};

/* A number, or "row" for 0. */
static int
parse_group(const char *value, void *field, struct tc_err *err)
{
	int64_t *group = field;

	if (strcmp(value, "row") == 0)
		*group = 0;
	else if (sscanf(value, "%" SCNd64, group) != 1)
		return tc_fail(err, TC_USAGE, "'%s': must be a number or row", value);
	return 0;
}

static void
print_group(const void *field, char *buf, size_t size)
{
	int64_t group = *(const int64_t *)field;

	if (group)
		snprintf(buf, size, "%" PRId64, group);
	else
		snprintf(buf, size, "row");
}

static int
parse_sym(const char *value, void *field, struct tc_err *err)
{
	(void)value, (void)err;
	*(enum zero *)field = SYM;
	return 0;
}

static void
print_sym(const void *field, char *buf, size_t size)
{
	if (*(const enum zero *)field == SYM)
		snprintf(buf, size, "sym");
}

#define AT(f) .offset = offsetof(struct args, f)

static const struct tc_option own[] = {
	{ .name = "method", .type = TC_OPT_NAME, AT(method), .arg = "NAME", .names = "rtn|gptq|a", .help = "how (default rtn)" },
	{ .name = "bits", .letter = 'b', .type = TC_OPT_COUNT, AT(bits), .arg = "B", .min = 1, .max = 8, .help = "bits (default 4)" },
	{ .name = "signed", .type = TC_OPT_COUNT, AT(signed_count), .arg = "N", .min = -5, .max = 0, .help = "signed" },
	{ .name = "free", .type = TC_OPT_COUNT, AT(free_count), .arg = "N", .role = TC_OPT_FREE, .help = "unbounded" },
	{ .name = "size", .type = TC_OPT_SIZE, AT(size), .arg = "SIZE", .help = "bytes" },
	{ .name = "damp", .type = TC_OPT_REAL, AT(damp), .arg = "D", .min = 0, .max = 1, .help = "damping (default 0.01)" },
	{ .name = "ratio", .type = TC_OPT_REAL, AT(ratio), .arg = "R", .min = 0.5, .max = INFINITY, .help = "half-open" },
	{ .name = "unset", .type = TC_OPT_REAL, AT(unset), .arg = "R", .help = "a real without a default" },
	{ .name = "prompt", .letter = 'p', .type = TC_OPT_TEXT, AT(prompt), .arg = "TEXT", .help = "text" },
	{ .name = "sequential", .letter = 's', .type = TC_OPT_FLAG, AT(sequential), .help = "a flag" },
	{ .name = "act-order", .letter = 'a', .type = TC_OPT_FLAG, AT(act_order), .help = "another" },
	{ .name = "keep", .type = TC_OPT_LIST, AT(keep), .arg = "WHAT", .help = "a list" },
	{ .name = "lengths", .type = TC_OPT_COUNTS, AT(counts), .arg = "N,...", .min = 1, .max = 4096, .help = "counts" },
	{ .name = "group", .type = TC_OPT_CALL, AT(group), .arg = "G|row", .parse = parse_group, .print = print_group, .help = "a call" },
	{ .name = "sym", .type = TC_OPT_CALL, AT(zero), .parse = parse_sym, .print = print_sym, .help = "a call without a value" },
	{ 0 }
};

static const struct tc_stage quant = {
	.name = "tc-quant",
	.summary = "quantizes",
	.operands = "[MODEL]",
	.operands_max = 1,
	.options = own,
	.common = TC_COMMON_OUTPUT | TC_COMMON_SAMPLE | TC_COMMON_SELECT | TC_COMMON_SEED | TC_COMMON_COMPUTE | TC_COMMON_TEXT | TC_COMMON_STRIP,
	.common_offset = offsetof(struct args, common),
};

static const struct tc_stage bare = {
	.name = "tc-bare",
	.summary = "has no options of its own",
	.operands = "MODEL ...",
	.operands_max = 16,
	.common_offset = offsetof(struct args, common),
};

static struct args a;
static struct tc_parsed parsed;
static struct tc_err err;

static int
parse(const struct tc_stage *stage, char **argv)
{
	int argc = 0;

	while (argv[argc])
		argc++;
	a = (struct args){ .common = tc_common_defaults, .bits = 4, .signed_count = TC_UNSET, .free_count = TC_UNSET,
	    .size = TC_UNSET, .damp = 0.01, .ratio = NAN, .unset = NAN, .method = "rtn", .group = 128, .counts = { .n = TC_COUNTS_UNSET } };
	err = (struct tc_err){0};
	return tc_options_parse(stage, &a, argc, argv, &parsed, &err);
}

/* More words than any line has: what is not given is NULL and ends argv. */
#define PARSE(stage, ...) parse(&(stage), (char *[32]){ "tool", __VA_ARGS__ })
#define GOOD(...) ok(PARSE(quant, __VA_ARGS__) == 0, "taken: %s (%s)", #__VA_ARGS__, err.msg)

static void
refuses(int r, const char *words, const char *message)
{
	ok(r == -1 && err.code == TC_USAGE, "refused, exit 2: %s", words);
	ok(strcmp(err.msg, message) == 0, "  says: %s%s%s", message, strcmp(err.msg, message) ? " -- but was: " : "", strcmp(err.msg, message) ? err.msg : "");
}
#define BAD(message, ...) refuses(PARSE(quant, __VA_ARGS__), #__VA_ARGS__, message)

static void
test_forms(void)
{
	GOOD("--bits", "3");
	ok(a.bits == 3, "--name value");
	GOOD("--bits=8");
	ok(a.bits == 8, "--name=value");
	GOOD("-b", "2");
	ok(a.bits == 2, "-n value");
	GOOD("-b1");
	ok(a.bits == 1, "-nvalue");
	GOOD("-sab5");
	ok(a.sequential && a.act_order && a.bits == 5, "clustered flags, a value at the end");
	GOOD("-qv");
	ok(a.common.quiet && a.common.verbose, "common flags clustered");
	GOOD("--bits", "3", "--bits", "7");
	ok(a.bits == 7, "the last one counts");
	GOOD("-o", "--bits");
	ok(strcmp(a.common.output, "--bits") == 0 && a.bits == 4, "the word after an option is its value whatever it looks like");
	GOOD("--prompt=");
	ok(a.prompt && !*a.prompt, "an empty value");
	GOOD("--prompt=a=b");
	ok(strcmp(a.prompt, "a=b") == 0, "only the first = divides");
}

static void
test_operands(void)
{
	GOOD("model", "--bits", "3");
	ok(parsed.noperands == 1 && strcmp(parsed.operand[0], "model") == 0 && a.bits == 3, "options may follow operands");
	GOOD("-");
	ok(parsed.noperands == 1 && strcmp(parsed.operand[0], "-") == 0, "- is an operand");
	GOOD("--", "--bits");
	ok(parsed.noperands == 1 && strcmp(parsed.operand[0], "--bits") == 0, "-- ends the options");
	GOOD("--", "--");
	ok(parsed.noperands == 1 && strcmp(parsed.operand[0], "--") == 0, "a second -- is an operand");
	GOOD();
	ok(parsed.noperands == 0 && !parsed.help && !parsed.version, "nothing at all");
	BAD("'b': extra operand (see tc-quant --help)", "a", "b");
	BAD("operand 1 is empty", "");
	ok(PARSE(bare, "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16") == 0 && parsed.noperands == 16, "as many operands as fit");
	ok(PARSE(bare, "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17") < 0, "and no more");
	ok(parse(&quant, (char *[]){ NULL }) == 0, "argc 0");
}

static void
test_unknown(void)
{
	BAD("--foo: unknown option (see tc-quant --help)", "--foo");
	BAD("--foo: unknown option (see tc-quant --help)", "--foo=bar");
	BAD("--bit: unknown option (see tc-quant --help)", "--bit", "3");
	BAD("--bitss: unknown option (see tc-quant --help)", "--bitss", "3");
	BAD("--BITS: unknown option (see tc-quant --help)", "--BITS", "3");
	BAD("---: unknown option (see tc-quant --help)", "---=3");
	BAD("-x: unknown option (see tc-quant --help)", "-x");
	BAD("-x: unknown option (see tc-quant --help)", "-qx");
	BAD("--json: unknown option (see tc-quant --help)", "--json");
	ok(PARSE(bare, "--bits", "3") < 0, "another stage's option is unknown");
	ok(PARSE(bare, "-o", "x") < 0, "so is a common one of another group");
	ok(PARSE(bare, "-q", "--threads", "2", "--tmpdir", "/x") == 0, "every stage has those");
	BAD("--sequential: takes no value", "--sequential=yes");
	BAD("--sym: takes no value", "--sym=1");
	BAD("--bits: needs a value", "--bits");
	BAD("--output: needs a value", "-o");
	BAD("--bits: needs a value", "-sb");
}

static void
test_counts(void)
{
	BAD("--bits: 9: must be 1 to 8", "--bits", "9");
	BAD("--bits: 0: must be 1 to 8", "-b0");
	BAD("--bits: -1: must be 1 to 8", "--bits", "-1");
	BAD("--bits: 99999999999999999999: must be 1 to 8", "--bits", "99999999999999999999");
	BAD("--bits: '': must be a whole number", "--bits=");
	BAD("--bits: '4x': must be a whole number", "--bits", "4x");
	BAD("--bits: ' 4': must be a whole number", "--bits", " 4");
	BAD("--bits: '+4': must be a whole number", "--bits", "+4");
	BAD("--bits: '4.0': must be a whole number", "--bits", "4.0");
	BAD("--bits: '0x4': must be a whole number", "--bits", "0x4");
	BAD("--bits: '4K': must be a whole number", "--bits", "4K");
	BAD("--bits: '-': must be a whole number", "--bits", "-");
	BAD("--bits: 'nan': must be a whole number", "--bits", "nan");
	GOOD("--signed", "-5");
	ok(a.signed_count == -5, "a negative count");
	BAD("--signed: 1: must be -5 to 0", "--signed", "1");
	GOOD("--free", "9223372036854775807");
	ok(a.free_count == INT64_MAX, "no bounds");
	BAD("--free: 9223372036854775808: too large", "--free", "9223372036854775808");
	BAD("--free: -9223372036854775808: too large", "--free", "-9223372036854775808");
	BAD("--threads: 0: must be 1 to 256", "--threads", "0");
	BAD("--threads: 257: must be 1 to 256", "--threads", "257");
	BAD("--samples: 0: must be 1 to 1099511627776", "--samples", "0");
	BAD("--seed: -1: must be 0 to 9007199254740992", "--seed", "-1");
}

static void
test_sizes(void)
{
	static const struct { const char *text; int64_t bytes; } good[] = {
		{ "0", 0 }, { "512", 512 }, { "1K", 1024 }, { "3M", 3 << 20 }, { "2G", (int64_t)2 << 30 }, { "5T", (int64_t)5 << 40 },
	};

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		int r = PARSE(quant, "--size", (char *)good[i].text);

		ok(r == 0 && a.size == good[i].bytes, "size %s", good[i].text);
	}
	BAD("--size: '1k': must be a number of bytes (K, M, G, T may follow)", "--size", "1k");
	BAD("--size: '1KB': must be a number of bytes (K, M, G, T may follow)", "--size", "1KB");
	BAD("--size: 'K': must be a number of bytes (K, M, G, T may follow)", "--size", "K");
	BAD("--size: '-1': must be a number of bytes (K, M, G, T may follow)", "--size", "-1");
	BAD("--size: '1.5G': must be a number of bytes (K, M, G, T may follow)", "--size", "1.5G");
	BAD("--size: 9000000T: too large", "--size", "9000000T");
	BAD("--memory: 1K: must be 1048576 to 9007199254740992", "--memory", "1K");
}

static void
test_reals(void)
{
	GOOD("--damp", "0.25");
	ok(a.damp == 0.25, "a real");
	GOOD("--damp", "1e-3");
	ok(a.damp == 1e-3, "an exponent");
	GOOD("--damp", ".5");
	ok(a.damp == 0.5, "no leading digit");
	GOOD("--ratio", "1e300");
	BAD("--damp: 1.01: must be 0 to 1", "--damp", "1.01");
	BAD("--damp: -0.1: must be 0 to 1", "--damp", "-0.1");
	BAD("--damp: 1e999: must be 0 to 1", "--damp", "1e999");
	BAD("--unset: 1e999: too large", "--unset", "1e999");
	BAD("--ratio: 0.25: must be at least 0.5", "--ratio", "0.25");
	BAD("--ratio: 1e999: must be at least 0.5", "--ratio", "1e999");
	BAD("--damp: 'nan': must be a number", "--damp", "nan");
	BAD("--damp: 'inf': must be a number", "--damp", "inf");
	BAD("--damp: '0x1': must be a number", "--damp", "0x1");
	BAD("--damp: '0,5': must be a number", "--damp", "0,5");
	BAD("--damp: '0.5 ': must be a number", "--damp", "0.5 ");
	BAD("--damp: '': must be a number", "--damp", "");
	BAD("--damp: '1e': must be a number", "--damp", "1e");
	BAD("--damp: '.': must be a number", "--damp", ".");
}

static void
test_other_types(void)
{
	GOOD("--method", "gptq");
	ok(strcmp(a.method, "gptq") == 0, "a name");
	GOOD("--method", "a");
	BAD("--method: 'foo': must be one of rtn, gptq, a", "--method", "foo");
	BAD("--method: 'rt': must be one of rtn, gptq, a", "--method", "rt");
	BAD("--method: 'rtn|gptq': must be one of rtn, gptq, a", "--method", "rtn|gptq");
	BAD("--method: '': must be one of rtn, gptq, a", "--method", "");
	BAD("--compute: 'bf16': must be one of f32", "--compute", "bf16");

	GOOD("--keep", "x", "--keep=y", "--include", "*.down*");
	ok(a.keep.n == 2 && strcmp(a.keep.item[1], "y") == 0 && a.common.include.n == 1, "lists");
	ok(a.common.exclude.n == 0, "a list not given is empty");

	GOOD("--shard", "2/3");
	ok(a.common.shard.i == 2 && a.common.shard.n == 3, "a shard");
	GOOD("--shard=1048576/1048576");
	static const char *const bad[] = { "", "1", "1/", "/1", "0/1", "2/1", "1/1/1", "-1/2", "1/ 2", " 1/2", "1/2x", "1/1048577", "99999999999999999999/99999999999999999999" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int r = PARSE(quant, "--shard", (char *)bad[i]);

		ok(r < 0 && err.code == TC_USAGE && strstr(err.msg, ": must be I/N, 1 <= I <= N <= 1048576"), "shard '%s' refused", bad[i]);
	}

	GOOD("--group", "row", "--sym");
	ok(a.group == 0 && a.zero == SYM, "calls");
	BAD("--group: 'col': must be a number or row", "--group", "col");

	GOOD("--text", "t");
	GOOD("--ids", "i");
	BAD("--text and --ids exclude each other", "--text", "t", "--ids", "i");
}

static void
test_lists_of_counts(void)
{
	static const char *const bad[] = { "", ",", "1,", ",1", "1,,2", "1 2", "1;2", "a", "1,a", "none,1", "1,none",
		"00000000000000000000000000000000000001" };
	char most[2 * TC_COUNTS_MAX + 2] = "";

	GOOD("--lengths", "128,512,1");
	ok(a.counts.n == 3 && a.counts.at[0] == 128 && a.counts.at[1] == 512 && a.counts.at[2] == 1, "counts");
	GOOD("--lengths=7");
	ok(a.counts.n == 1 && a.counts.at[0] == 7, "one of them");
	GOOD("--lengths", "1,2", "--lengths", "none");
	ok(a.counts.n == 0, "none, and the last one counts");
	GOOD("--bits", "4");
	ok(a.counts.n == TC_COUNTS_UNSET, "counts not given");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int r = PARSE(quant, "--lengths", (char *)bad[i]);

		ok(r < 0 && err.code == TC_USAGE && strstr(err.msg, ": must be "), "counts '%s' refused", bad[i]);
	}
	BAD("--lengths: 4097: must be 1 to 4096", "--lengths", "1,4097");
	BAD("--lengths: 0: must be 1 to 4096", "--lengths", "0");
	for (int i = 0; i < TC_COUNTS_MAX; i++)
		strcat(most, i ? ",1" : "1");
	GOOD("--lengths", most);
	ok(a.counts.n == TC_COUNTS_MAX, "as many as fit");
	strcat(most, ",1");
	ok(PARSE(quant, "--lengths", most) < 0 && strstr(err.msg, "more than 32 numbers"), "and no more");
}

static void
test_list_is_bounded(void)
{
	char *argv[2 + 65] = { "tool" };

	for (int i = 1; i <= 64; i++)
		argv[i] = "--keep=x";
	ok(parse(&quant, argv) == 0 && a.keep.n == 64, "64 items");
	argv[65] = "--keep=x";
	refuses(parse(&quant, argv), "65 items", "--keep: 'x': given more than 64 times");
}

static void
test_help_wins(void)
{
	GOOD("--help", "--foo");
	ok(parsed.help, "--help answers before what comes after it");
	GOOD("-h");
	ok(parsed.help, "-h");
	GOOD("-qh");
	ok(parsed.help, "-qh");
	GOOD("--version");
	ok(parsed.version && !parsed.help, "--version");
	BAD("--foo: unknown option (see tc-quant --help)", "--foo", "--help");
}

static void
canonical_is(int r, const char *want)
{
	char buf[4096];

	r = r < 0 ? r : tc_options_canonical(&quant, &a, buf, sizeof(buf), &err);
	ok(r == 0 && strcmp(buf, want) == 0, "canonical: %s%s%s", want, r == 0 && strcmp(buf, want) ? " -- but was: " : "",
	    r == 0 && strcmp(buf, want) ? buf : "");
}
#define CANONICAL(want, ...) canonical_is(PARSE(quant, __VA_ARGS__), want)

static void
test_canonical(void)
{
	char small[8], whole[64];

	CANONICAL("--method rtn --bits 4 --damp 0.01 --group 128 --compute f32");
	CANONICAL("--method gptq --bits 3 --damp 0.01 --group 128 --compute f32", "--bits=3", "model", "--method", "gptq");
	CANONICAL("--method rtn --bits 4 --damp 0.01 --group 128 --compute f32",
	    "-qv", "-o", "x", "--threads", "2", "--tmpdir", "/t", "--shard", "1/2", "--text", "t", "--memory", "1G", "--free", "3");
	CANONICAL("--method rtn --bits 4 --signed -2 --size 2048 --damp 1e-07 --ratio 0.5 --prompt 'it'\\''s $HOME' --sequential "
	    "--keep a --keep 'b c' --group row --sym --samples 8 --seqlen 64 --skip 0 --seed 7 --include '*.q_proj.*' --strip --compute f32",
	    "--signed", "-2", "--size", "2K", "--damp", "0.0000001", "--ratio", "0.5", "--prompt", "it's $HOME", "-s", "--keep", "a",
	    "--keep", "b c", "--group", "row", "--sym", "--samples", "8", "--seqlen", "64", "--skip", "0", "--seed", "7",
	    "--include", "*.q_proj.*", "--strip");
	CANONICAL("--method rtn --bits 4 --damp 0.01 --lengths 128,512 --group 128 --compute f32", "--lengths", "128,512");
	CANONICAL("--method rtn --bits 4 --damp 0.01 --lengths none --group 128 --compute f32", "--lengths", "none");
	CANONICAL("--method rtn --bits 4 --damp 0 --prompt '' --group 128 --compute f32", "--prompt", "", "--damp", "-0");
	CANONICAL("--method rtn --bits 4 --damp 0.1 --prompt $'a\\012\\303\\251\\'\\\\' --group 128 --compute f32",
	    "--prompt", "a\n\303\251'\\", "--damp", "0.1");
	CANONICAL("--method rtn --bits 4 --damp 0.30000000000000004 --group 128 --compute f32", "--damp", "0.30000000000000004");

	(void)!PARSE(bare);
	ok(tc_options_canonical(&bare, &a, whole, sizeof(whole), &err) == 0 && !*whole, "no answering options, no words");
	(void)!PARSE(quant);
	ok(tc_options_canonical(&quant, &a, small, sizeof(small), &err) < 0 && err.code == TC_USAGE, "too long is refused");
}

/* --help goes to standard output, where TAP goes too: caught in a file. */
static void
test_help(void)
{
	static const char *const wanted[] = {
		"usage: tc-quant [option ...] [MODEL]\n",
		"tc-quant - quantizes\n",
		"      --method NAME      how (default rtn)\n",
		"  -b, --bits B           bits (default 4)\n",
		"      --group G|row      a call\n",
		"      --sym              a call without a value\n",
		"  -o, --output FILE      write FILE",
		"  -h, --help             print this help and exit\n",
		"See tc-quant(1) for more, tc(7)",
	};
	char text[8192];
	size_t n;
	FILE *f = tmpfile();
	int saved = dup(STDOUT_FILENO);

	if (!f || saved < 0) {
		skip("help", "no temporary file");
		return;
	}
	fflush(stdout);
	dup2(fileno(f), STDOUT_FILENO);
	tc_options_help(&quant);
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	rewind(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = 0;
	fclose(f);
	close(saved);
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		ok(strstr(text, wanted[i]) != NULL, "help has: %.*s", (int)strcspn(wanted[i], "\n"), wanted[i]);
	ok(!strstr(text, "--json"), "and not what the stage has not");
}

int
main(void)
{
	test_forms();
	test_operands();
	test_unknown();
	test_counts();
	test_sizes();
	test_reals();
	test_other_types();
	test_lists_of_counts();
	test_list_is_bounded();
	test_help_wins();
	test_canonical();
	test_help();
	return done_testing();
}
