/* Accuracy by published intervals and by hand, items there and back, items
 * made by rule against what the rule says, the split into tokens against a
 * naive one, grades by hand. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metric/grade.h"
#include "metric/rules.h"
#include "tap.h"

static struct tc_err err;

static int
near(double got, double want, double relative)
{
	return fabs(got - want) <= relative * fabs(want);
}

/* ---- statistics ---- */

static void
test_wilson(void)
{
	/* scipy.stats.binomtest(...).proportion_ci(method="wilson") */
	static const struct { double share, n, low, high; } cases[] = {
		{ 0.8, 10, 0.4901624715366418, 0.9433178485456248 },
		{ 0, 10, 0, 0.27753279986288926 },
		{ 0.137, 1000, 0.11707313063299474, 0.1597050960275183 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		double low, high;

		tc_wilson(cases[i].share, cases[i].n, &low, &high);
		ok(near(low, cases[i].low, 1e-12) && near(high, cases[i].high, 1e-12), "Wilson's interval of %g of %g",
		    cases[i].share, cases[i].n);
	}
}

static void
test_sign(void)
{
	/* scipy.stats.binomtest(lost, lost + won).pvalue */
	static const struct { size_t lost, won; double p; } cases[] = {
		{ 1, 9, 0.021484375 }, { 9, 1, 0.021484375 }, { 5, 5, 1 }, { 0, 6, 0.03125 }, { 0, 0, 1 }, { 1, 0, 1 },
		{ 40, 61, 0.046044066929342785 }, { 900, 1100, 8.45708953550381e-06 }, { 3000, 3100, 0.2049495446515585 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		ok(near(tc_sign_test(cases[i].lost, cases[i].won), cases[i].p, 1e-9), "the sign test of %zu and %zu: %.17g",
		    cases[i].lost, cases[i].won, tc_sign_test(cases[i].lost, cases[i].won));
}

/* Miller's equation: the variance of independent items, and the products of
 * deviations of each pair within a cluster. */
static double
naive_clustered(size_t n, const double *x, const size_t *cluster)
{
	double mean = 0, sum = 0;

	for (size_t i = 0; i < n; i++)
		mean += x[i] / (double)n;
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < n; k++)
			if (cluster[i] == cluster[k])
				sum += (x[i] - mean) * (x[k] - mean);
	return sqrt(sum) / (double)n;
}

static void
test_clusters(void)
{
	static const char *const name[] = { "b", NULL, "a", "b", NULL, "a", "a", "c" };
	static const double x[] = { 1, 0, 1, 1, 0, 0, 1, 1 };
	size_t cluster[8], n, alone[8] = { 0, 1, 2, 3, 4, 5, 6, 7 };
	struct tc_clustered m, same;
	const double ones[] = { 1, 1, 1, 1, 1, 1, 1, 1 };

	ok(tc_clusters_of(8, name, cluster, &n, &err) == 0 && n == 5 && cluster[0] == cluster[3] && cluster[2] == cluster[5] &&
	    cluster[5] == cluster[6] && cluster[1] != cluster[4] && cluster[0] != cluster[2] && cluster[7] != cluster[0],
	    "items of one name are a cluster, those without one stand alone");
	ok(tc_clustered_mean(&m, 8, x, cluster, n, &err) == 0 && m.mean == 0.625 &&
	    near(m.stderr_, sqrt(0.625 * 0.375 / 8), 1e-14) && near(m.clustered, naive_clustered(8, x, cluster), 1e-14),
	    "the binomial error, and the clustered one");
	ok(near(tc_clustered_items(&m, 8, n), 8 * pow(m.stderr_ / m.clustered, 2), 1e-14) || m.clustered <= m.stderr_,
	    "the design effect");
	ok(tc_clustered_mean(&same, 8, x, alone, 8, &err) == 0 && near(same.clustered, same.stderr_, 1e-14),
	    "clusters of one item: both errors are the same");
	ok(tc_clustered_mean(&m, 8, ones, cluster, n, &err) == 0 && m.stderr_ == 0 && tc_clustered_items(&m, 8, n) == 5,
	    "where all are right, clusters count");
}

/* ---- items ---- */

static int
reads(struct tc_items *s, const char *text)
{
	err = (struct tc_err){0};
	return tc_items_read(s, text, strlen(text), "file", &err);
}

static void
test_items(void)
{
	static const char lines[] =
	    "{\"answer\":1,\"choices\":[\" x\",\"\\u00fcb\"],\"extra\":5,\"context\":\"a\\nb\",\"group\":7}\n"
	    " \n"
	    "{\"context\":[1,2],\"choices\":[[3],[4,5]],\"answer\":0,\"task\":\"ids\",\"id\":\"n\"}";
	static const char want[] =
	    "{\"task\":\"file\",\"group\":\"7\",\"context\":\"a\\nb\",\"choices\":[\" x\",\"\303\274b\"],\"answer\":1}\n"
	    "{\"task\":\"ids\",\"id\":\"n\",\"context\":[1,2],\"choices\":[[3],[4,5]],\"answer\":0}\n";
	struct tc_items s = {0}, again = {0}, first = {0};
	struct tc_buf text = {0}, second = {0};

	ok(reads(&s, lines) == 0 && s.n == 2 && !s.item[0].ids && s.item[1].ids && s.item[0].answer == 1 &&
	    strcmp(s.item[0].task, "file") == 0 && strcmp(s.item[0].group, "7") == 0 && !s.item[0].id, "items are read");
	ok(tc_items_print(&s, &text, &err) == 0 && text.n == strlen(want) && memcmp(text.p, want, text.n) == 0,
	    "and printed, known keys only, in one order");
	ok(tc_items_read(&again, (const char *)text.p, text.n, "other", &err) == 0 && tc_items_print(&again, &second, &err) == 0 &&
	    second.n == text.n && memcmp(second.p, text.p, text.n) == 0, "and again the same");
	ok(tc_item_same(&s.item[0], &again.item[0]) && !tc_item_same(&s.item[0], &s.item[1]), "the same question is known");
	ok(tc_items_take(&first, &s, 0, 1, &err) == 0 && first.n == 2 && tc_items_take(&first, &s, 0, 1, &err) == 0 && first.n == 2,
	    "one item of each task");
	tc_items_free(&s);
	tc_items_free(&again);
	tc_items_free(&first);
	tc_buf_free(&text);
	tc_buf_free(&second);
}

static void
test_bad_items(void)
{
	static const struct { const char *line, *says; } cases[] = {
		{ "{", "line 1: " },
		{ "[1]", "line 1: is not an object" },
		{ "\n\n{\"choices\":[\"a\",\"b\"],\"answer\":0}", "line 3: has no context" },
		{ "{\"context\":\"a\",\"answer\":0}", "has no choices" },
		{ "{\"context\":\"a\",\"choices\":[\"a\",\"b\"]}", "has no answer" },
		{ "{\"context\":5,\"choices\":[\"a\",\"b\"],\"answer\":0}", "context: must be text" },
		{ "{\"context\":\"a\",\"choices\":[\"a\"],\"answer\":0}", "choices: must be an array of 2 to 64" },
		{ "{\"context\":\"a\",\"choices\":\"ab\",\"answer\":0}", "choices: must be an array of 2 to 64" },
		{ "{\"context\":\"a\",\"choices\":[\"a\",5],\"answer\":0}", "choice 1: must be text" },
		{ "{\"context\":\"a\",\"choices\":[\"a\",\"\"],\"answer\":0}", "choice 1: is empty" },
		{ "{\"context\":[1],\"choices\":[[1],\"b\"],\"answer\":0}", "choice 1: must be an array of token ids" },
		{ "{\"context\":[1],\"choices\":[[1],[-1]],\"answer\":0}", "choice 1: must be an array" },
		{ "{\"context\":[1.5],\"choices\":[[1],[2]],\"answer\":0}", "context: must be text, or an array" },
		{ "{\"context\":\"a\",\"choices\":[\"a\",\"b\"],\"answer\":2}", "answer: must be 0 to 1" },
		{ "{\"context\":\"a\",\"choices\":[\"a\",\"b\"],\"answer\":-1}", "answer: must be 0 to 1" },
		{ "{\"context\":\"a\",\"choices\":[\"a\",\"b\"],\"answer\":\"a\"}", "answer: must be 0 to 1" },
		{ "{\"context\":\"a\",\"choices\":[\"a\",\"b\"],\"answer\":0,\"group\":{}}", "group: must be text or an integer" },
		{ "{\"context\":\"a\",\"context\":\"b\",\"choices\":[\"a\",\"b\"],\"answer\":0}", "duplicate" },
		{ "{\"context\":\"\xff\"}", "invalid UTF-8 at byte 12" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct tc_items s = {0};

		ok(reads(&s, cases[i].line) < 0 && err.code == TC_DATA && strstr(err.msg, cases[i].says) && s.n == 0,
		    "refused: %s", err.msg);
		tc_items_free(&s);
	}
}

/* ---- rules ---- */

static const char text[] =
    "The quick brown fox jumped over the lazy sleeping dog. Nobody ever knew why the fox should have wanted that thing.\n"
    "Perhaps there were other reasons which the author never cared to give in his short report.\n\n"
    "Another paragraph begins here with some words that come in no order at all, and it ends with a question? "
    "Yes it does so, after a while, when all of the readers have become tired of the whole business. "
    "Still it goes on and on, since passages must have many words before they are taken as questions here! "
    "And on, until the number of words is certainly large enough for any purpose.\n\n"
    "The third one is meant for continuation only, because passages from elsewhere must be found somewhere, and so we "
    "write and write, without any end in sight, until forty eight words have been written down in this very paragraph, "
    "and then some more, to be on the safe side of all of it.\n\n"
    "A fourth one follows, because four choices need four passages, and each passage needs as many words as the one "
    "before did, which is why this sentence goes on for much longer than anyone would like it to, and does not stop "
    "before it has reached the very same number of words.\n\n"
    "The last paragraph is the fifth, and nothing new is said in it, except that it is the last, that it has no more to "
    "say than the others had, and that the tests which read it are now content, as they have got all the words that "
    "they ever asked for, and even more than that.\n";

static const char *
context_of(const struct tc_item *item)
{
	return json_string_value(item->context);
}

static const char *
choice_of(const struct tc_item *item, size_t k)
{
	return json_string_value(json_array_get(item->choices, k));
}

/* The last line of a context. */
static const char *
last_line(const struct tc_item *item)
{
	const char *newline = strrchr(context_of(item), '\n');

	return newline ? newline + 1 : context_of(item);
}

/* ---- what the answers should be, found from the items alone ---- */

static int
follows_in_text(const struct tc_item *item, const char *choice)
{
	char whole[2048];

	snprintf(whole, sizeof(whole), "%s%s", context_of(item), choice);
	return strstr(text, whole) != NULL;
}

/* What follows the last line's words, where they stood before. */
static int
is_copy(const struct tc_item *item, const char *choice)
{
	char whole[1024];
	const char *line = last_line(item);

	snprintf(whole, sizeof(whole), "%s%s", line, choice);
	return strncmp(context_of(item), whole, strlen(whole)) == 0 && strchr(" \n", context_of(item)[strlen(whole)]);
}

static int
is_induced(const struct tc_item *item, const char *choice)
{
	const char *context = context_of(item), *again = strrchr(context, ' ') + 1;
	char pair[256];

	snprintf(pair, sizeof(pair), " %s%s ", again, choice);
	return strstr(context, pair) != NULL || strncmp(context, pair + 1, strlen(pair) - 1) == 0;
}

static int
closes(const struct tc_item *item, const char *choice)
{
	static const char open[] = "([{\"", close[] = ")]}\"";
	char stack[64];
	size_t n = 0;

	for (const char *s = context_of(item); *s; s++) {
		if (strchr(open, *s) && !(*s == '"' && n > 0 && stack[n - 1] == '"'))
			stack[n++] = close[strchr(open, *s) - open];
		else if (n > 0 && *s == stack[n - 1])
			n--;
	}
	return n > 0 && choice[0] == stack[n - 1];
}

static int
is_result(const struct tc_item *item, const char *choice)
{
	int a, b, c;
	char op;

	if (sscanf(last_line(item), "%d %c %d =", &a, &op, &b) != 3 || sscanf(choice, " %d", &c) != 1)
		return 0;
	return c == (op == '+' ? a + b : op == '-' ? a - b : a * b);
}

static int
is_older(const struct tc_item *item, const char *choice)
{
	char a[16], b[16], which[16];
	int x, y;

	if (sscanf(last_line(item), "%15s is %d years old. %15s is %d years old. The %15s one is", a, &x, b, &y, which) != 5 || x == y)
		return 0;
	return strcmp(choice + 1, (x > y) == (strcmp(which, "older") == 0) ? a : b) == 0;
}

static int
is_extreme(const struct tc_item *item, const char *choice)
{
	static const char *const most[] = { "oldest", "tallest", "fastest", "heaviest", "strongest" };
	char a[16], b[16], c[16], d[16], which[16];
	const char *top, *bottom;
	int top_asked = 0;

	if (sscanf(last_line(item), "%15s is %*s than %15[^.]. %15s is %*s than %15[^.]. The %15s of", a, b, c, d, which) != 5)
		return 0;
	top = strcmp(a, d) == 0 ? c : a;
	bottom = strcmp(a, d) == 0 ? b : d;
	for (size_t i = 0; i < 5; i++)
		top_asked |= strcmp(which, most[i]) == 0;
	return strcmp(choice + 1, top_asked ? top : bottom) == 0;
}

static const struct { const char *name; size_t nchoices; int (*right)(const struct tc_item *, const char *); } checks[] = {
	{ "cloze", 4, follows_in_text }, { "continuation", 4, follows_in_text }, { "copying", 4, is_copy },
	{ "induction", 4, is_induced }, { "closing", 4, closes }, { "addition", 4, is_result },
	{ "subtraction", 4, is_result }, { "multiplication", 4, is_result }, { "comparison", 2, is_older },
	{ "transitivity", 3, is_extreme },
};

static int
item_is_right(const struct tc_item *item, size_t check)
{
	if (item->nchoices != checks[check].nchoices)
		return 0;
	for (size_t k = 0; k < item->nchoices; k++) {
		if (checks[check].right(item, choice_of(item, k)) != (k == item->answer))
			return 0;
		for (size_t j = 0; j < k; j++)
			if (strcmp(choice_of(item, j), choice_of(item, k)) == 0)
				return 0;
	}
	return 1;
}

static void
test_rule(const struct tc_rule *r, const struct tc_words *w, size_t check)
{
	enum { MANY = 300, FEW = 4 };
	struct tc_items many = {0}, few = {0}, other = {0};
	size_t at[4] = {0}, right = 0, same = 0, differ = 0;

	ok(strcmp(r->name, checks[check].name) == 0 && tc_rule_make(r, w, MANY, 5, &many, &err) == 0 &&
	    tc_rule_make(r, w, FEW, 5, &few, &err) == 0 && tc_rule_make(r, w, MANY, 6, &other, &err) == 0, "%s: items are made", r->name);
	for (size_t i = 0; i < many.n; i++) {
		right += (size_t)item_is_right(&many.item[i], check);
		at[many.item[i].answer]++;
		differ += i >= other.n || !tc_item_same(&many.item[i], &other.item[i]);
	}
	ok(right == many.n, "%s: the answer, and no other choice, is what the rule says: %zu of %zu", r->name, right, many.n);
	for (size_t i = 0; i < few.n; i++)
		same += tc_item_same(&few.item[i], &many.item[i]);
	ok(few.n > 0 && same == few.n, "%s: fewer items are the first of more", r->name);
	ok(differ > many.n / 2, "%s: another seed gives others", r->name);
	if (many.n == MANY) {
		size_t least = MANY;

		for (size_t k = 0; k < checks[check].nchoices; k++)
			least = tc_min(least, at[k]);
		ok(least > MANY / checks[check].nchoices * 2 / 3, "%s: the answer stands at every place: %zu at least", r->name, least);
	}
	tc_items_free(&many);
	tc_items_free(&few);
	tc_items_free(&other);
}

static void
test_rules(void)
{
	struct tc_words w, little;
	struct tc_items none = {0};
	size_t n = 0, refused = 0;

	ok(tc_words_open(&w, text, strlen(text), &err) == 0 && w.paragraphs == 5 && w.ncommon > 50, "a text is words");
	for (const struct tc_rule *r = tc_rules; r->name; r++)
		test_rule(r, &w, n++);
	ok(n == sizeof(checks) / sizeof(*checks), "every rule is tried");
	ok(!tc_rule_named("clozed", 6) && !tc_rule_named("cloz", 4) && tc_rule_named("cloze,x", 5) == &tc_rules[0], "rules have names");
	ok(tc_words_open(&little, "Too few words", 13, &err) == 0, "a short text is words too");
	for (size_t i = 0; i < 5; i++) {
		err = (struct tc_err){0};
		refused += tc_rule_make(&tc_rules[i], &little, 9, 0, &none, &err) < 0 && err.code == TC_DATA && none.n == 0;
	}
	ok(refused == 5, "and too short for tasks that are made of it");
	tc_words_close(&little);
	tc_words_close(&w);
	ok(tc_words_open(&w, "a \xff", 3, &err) < 0 && strstr(err.msg, "invalid UTF-8 at byte 2"), "what is no UTF-8 is refused");
	tc_words_close(&w);
}

/* ---- tokens ---- */

static struct tc_tokenizer *
load_tokenizer(void)
{
	char path[4096];
	const char *root = getenv("TC_ROOT");
	struct tc_buf json = {0};
	struct tc_tokenizer *t = NULL;

	snprintf(path, sizeof(path), "%s/share/models/demo-16m/tokenizer.json", root ? root : ".");
	if (tc_read_file(path, &json, 1 << 24, &err) == 0 && tc_tokenizer_load(&t, json.p, json.n, &err) < 0)
		t = NULL;
	tc_buf_free(&json);
	return t;
}

/* The predictions of choice k of item 0 are ids[n-scored..n), each made after all
 * before it: what is fed holds them, from the start of its sequence. */
static int
predicts(const struct tc_likelihood *l, size_t k, const uint32_t *ids, size_t n, size_t scored)
{
	const struct tc_predictions *p = &l->predictions;
	size_t at = 0;

	for (size_t i = 0; i < k; i++)
		at += l->scored[i];
	if (l->scored[k] != scored)
		return 0;
	for (size_t i = 0; i < scored; i++) {
		size_t begin = 0, s = 0, before = n - scored + i;

		while (begin + p->length[s] <= p->row[at + i])
			begin += p->length[s++];
		if (p->target[at + i] != ids[before] || p->row[at + i] != begin + before - 1 ||
		    memcmp(p->ids + begin, ids, before * sizeof(*ids)) != 0)
			return 0;
	}
	return 1;
}

/* As lm-evaluation-harness' _encode_pair() does it. */
static int
splits(struct tc_tokenizer *t, const char *context, const char *bare, const char *const *choice, size_t nchoices, size_t nseq)
{
	struct tc_items s = {0};
	struct tc_likelihood l;
	json_t *list = json_array(), *o;
	const struct tc_likelihood_options options = { .tokenizer = t, .positions = 512, .vocab = 8192 };
	int right;

	for (size_t k = 0; k < nchoices; k++)
		json_array_append_new(list, json_string(choice[k]));
	o = json_pack("{s:s,s:o,s:i}", "context", context, "choices", list, "answer", 0);
	right = tc_items_add(&s, o, "t", &err) == 0 && tc_likelihood_make(&l, &s, &options, &err) == 0 && l.predictions.nseq == nseq;
	for (size_t k = 0; right && k < nchoices; k++) {
		char whole[512];
		uint32_t *all, *first;
		size_t n, ncontext;

		snprintf(whole, sizeof(whole), "%s%s", context, choice[k]);
		right = tc_tokenizer_encode(t, whole, strlen(whole), false, &all, &n, &err) == 0 &&
		    tc_tokenizer_encode(t, bare, strlen(bare), false, &first, &ncontext, &err) == 0 &&
		    predicts(&l, k, all, n, n > ncontext ? n - ncontext : 1);
		free(all);
		free(first);
	}
	tc_likelihood_free(&l);
	tc_items_free(&s);
	json_decref(o);
	return right;
}

static void
test_split(struct tc_tokenizer *t)
{
	static const char *const words[] = { " database", " file", " xyzzyplugh" }, *const bare[] = { "database", "file" };
	static const char *const longer[] = { " database", " database file", " database files are small" };
	static const char *const glued[] = { "base", "bases of it" };

	ok(splits(t, "An SQLite", "An SQLite", words, 3, 1), "choices with a space before them; one sequence");
	ok(splits(t, "An SQLite ", "An SQLite", bare, 2, 1), "a space at the context's end goes to the choice");
	ok(splits(t, "An SQLite \n ", "An SQLite", bare, 2, 1), "as any white space does");
	ok(splits(t, "An SQLite", "An SQLite", longer, 3, 1), "a choice that begins as another: one sequence");
	ok(splits(t, "An SQLite data", "An SQLite data", glued, 2, 1), "a choice that merges with the context");
}

static int
makes(const char *lines, struct tc_likelihood *l, const struct tc_likelihood_options *o)
{
	struct tc_items s = {0};
	int r = reads(&s, lines);

	*l = (struct tc_likelihood){0};
	if (r == 0)
		r = tc_likelihood_make(l, &s, o, &err);
	tc_items_free(&s);
	return r;
}

static void
test_ids(void)
{
	struct tc_likelihood l;
	const uint32_t bos = 9, with_bos[] = { 9, 1, 2, 3 }, cut[] = { 3, 4, 5, 6, 7 };
	struct tc_likelihood_options o = { .bos = &bos, .positions = 4, .vocab = 10 };

	ok(makes("{\"context\":[1,2],\"choices\":[[3],[4]],\"answer\":0}", &l, &o) == 0 && predicts(&l, 0, with_bos, 4, 1) &&
	    l.predictions.nseq == 1 && l.cut_choices == 0, "ids, after a BOS");
	tc_likelihood_free(&l);
	o.bos = NULL;
	ok(makes("{\"context\":[1,2,3,4,5],\"choices\":[[6,7],[8]],\"answer\":0}", &l, &o) == 0 && predicts(&l, 0, cut, 5, 2) &&
	    l.cut_choices == 2 && l.cut_tokens == 3, "a context's beginning beyond the model's positions is dropped, and counted");
	tc_likelihood_free(&l);
	ok(makes("{\"context\":[1],\"choices\":[[1,2,3,4,5],[1]],\"answer\":0}", &l, &o) < 0 &&
	    strstr(err.msg, "task file, item 0: choice 0: its 5 tokens are more than the model's 4 positions"), "a choice beyond them is refused");
	tc_likelihood_free(&l);
	ok(makes("{\"context\":[],\"choices\":[[1],[2]],\"answer\":0}", &l, &o) < 0 && strstr(err.msg, "has nothing before it"), "so is one after nothing");
	tc_likelihood_free(&l);
	ok(makes("{\"context\":[1],\"choices\":[[1],[10]],\"answer\":0}", &l, &o) < 0 &&
	    strstr(err.msg, "choice 1: token 1: id 10 is outside the vocabulary of 10"), "so is an id outside the vocabulary");
	tc_likelihood_free(&l);
	ok(makes("{\"context\":\"a\",\"choices\":[\"a\",\"b\"],\"answer\":0}", &l, &o) < 0 && strstr(err.msg, "no tokenizer.json"), "so is text without a tokenizer");
	tc_likelihood_free(&l);
}

static void
test_shots(void)
{
	static const char lines[] =
	    "{\"task\":\"a\",\"context\":[1],\"choices\":[[2],[3]],\"answer\":1}\n"
	    "{\"task\":\"b\",\"context\":[4],\"choices\":[[2],[3]],\"answer\":0}\n"
	    "{\"task\":\"a\",\"context\":[5],\"choices\":[[6],[7]],\"answer\":0}\n"
	    "{\"task\":\"a\",\"context\":[8],\"choices\":[[6],[7]],\"answer\":1}\n";
	const uint32_t first[] = { 5, 6, 1, 2 }, third[] = { 1, 3, 5, 6 }, fourth[] = { 1, 3, 8, 6 }, other[] = { 1, 3, 4, 2 };
	struct tc_items s = {0}, some = {0};
	struct tc_likelihood_options o = { .positions = 64, .vocab = 10, .shots = 1, .examples = &s };
	struct tc_likelihood l;

	ok(reads(&s, lines) == 0 && tc_likelihood_make(&l, &s, &o, &err) < 0 &&
	    strstr(err.msg, "task b, item 1: 1 examples before it were asked for, there are 0"), "too few examples are refused");
	tc_likelihood_free(&l);
	tc_items_free(&s);
	ok(reads(&s, lines) == 0 && reads(&some, "{\"task\":\"c\",\"context\":[4],\"choices\":[[2],[3]],\"answer\":0}\n") == 0 &&
	    tc_likelihood_make(&l, &some, &o, &err) == 0 && predicts(&l, 0, other, 4, 1), "a task that has none takes any");
	tc_likelihood_free(&l);
	tc_items_free(&some);
	json_decref(s.item[1].json);
	s.item[1] = s.item[2];
	s.item[2] = s.item[3];
	s.n = 3;
	ok(tc_likelihood_make(&l, &s, &o, &err) == 0 && predicts(&l, 0, first, 4, 1) && predicts(&l, 2, third, 4, 1) &&
	    predicts(&l, 4, fourth, 4, 1), "the first of its task come before an item, but not itself");
	tc_likelihood_free(&l);
	tc_items_free(&s);
}

/* ---- grades ---- */

static void
test_grade(void)
{
	static const char lines[] =
	    "{\"group\":1,\"context\":[1],\"choices\":[[2],[3,4]],\"answer\":0}\n"
	    "{\"group\":1,\"context\":[1],\"choices\":[[2],[3,4]],\"answer\":1}\n"
	    "{\"group\":2,\"context\":[1],\"choices\":[[2],[3,4],[5],[6]],\"answer\":0}\n";
	double model_p[] = { -2, -3, -2, -3, -1, -3, -2, -5 }, base_p[] = { -3, -2, -3, -2, -1, -3, -2, -5 };
	unsigned char greedy[] = { 1, 0, 0, 0, 0, 0, 0, 0 };
	const struct tc_likely model = { model_p, greedy }, base = { base_p, greedy };
	const struct tc_likelihood_options o = { .positions = 8, .vocab = 10 };
	struct tc_items s = {0};
	struct tc_likelihood l;
	struct tc_verdict v;
	struct tc_grade g;

	ok(reads(&s, lines) == 0 && tc_likelihood_make(&l, &s, &o, &err) == 0 && l.first[3] == 8, "three items");
	v = tc_likely_verdict(&model, &l, 0, 0, TC_NORM_NONE);
	ok(v.chosen == 0 && v.margin == 1, "the larger log-likelihood is chosen");
	v = tc_likely_verdict(&model, &l, 0, 0, TC_NORM_TOKENS);
	ok(v.chosen == 1 && v.margin == -0.5, "or the larger per token");
	ok(tc_grade_task(&g, "file", &s, &l, &model, &base, TC_NORM_NONE, &err) == 0 && g.n == 3 && g.clusters == 2 &&
	    near(g.chance, (0.5 + 0.5 + 0.25) / 3, 1e-14) && near(g.right.mean, 2.0 / 3, 1e-14) &&
	    near(g.accuracy[TC_NORM_TOKENS], 2.0 / 3, 1e-14) && near(g.greedy, 1.0 / 3, 1e-14) && !g.above_chance, "accuracies");
	/* Deviations 1/3 -2/3 | 1/3: clusters -1/3 and 1/3. */
	ok(near(g.right.stderr_, sqrt(2.0 / 27), 1e-14) && near(g.right.clustered, sqrt(2.0 / 81), 1e-14), "their errors");
	/* Right: 1 0 1; the base: 0 1 1. */
	ok(near(g.base_accuracy, 2.0 / 3, 1e-14) && g.lost == 1 && g.won == 1 && g.sign_p == 1 && g.delta.mean == 0 &&
	    near(g.delta.stderr_, sqrt(2.0) / 3, 1e-14) && g.delta.clustered == 0 && g.delta_low == 0, "flips");
	ok(near(g.margin.mean, 1.0 / 3, 1e-14) && near(g.base_margin, 1.0 / 3, 1e-14) && g.margin_delta.mean == 0 &&
	    near(g.margin_delta.stderr_, sqrt(8.0) / 3, 1e-14) && g.margin_delta.clustered == 0, "margins");
	tc_likelihood_free(&l);
	tc_items_free(&s);
}

int
main(void)
{
	struct tc_tokenizer *t = load_tokenizer();

	test_wilson();
	test_sign();
	test_clusters();
	test_items();
	test_bad_items();
	test_rules();
	if (ok(t != NULL, "a tokenizer: %s", err.msg))
		test_split(t);
	test_ids();
	test_shots();
	test_grade();
	tc_tokenizer_free(t);
	return done_testing();
}
