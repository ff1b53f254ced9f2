#include "cli/plan.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "cli/group.h"
#include "model/config.h"

#define TEXT_BYTES_MAX ((size_t)64 << 20)
enum { VERSION = 1 };

/* ---- JSON to a plan ---- */

static int
parse_group(const json_t *group, struct tc_choice *c, struct tc_err *err)
{
	json_int_t n;

	if (json_is_string(group))
		return tc_group_parse(json_string_value(group), &c->group, err);
	n = json_integer_value(group);
	if (n < 1 || n > 1 << 20)
		return tc_fail(err, TC_DATA, "\"group\" must be row, tensor, or 1 to 1048576");
	c->group = (uint64_t)n;
	return 0;
}

static int
parse_choice(const json_t *o, struct tc_choice *c, struct tc_err *err)
{
	const json_t *bits = json_object_get(o, "bits"), *sparsity = json_object_get(o, "sparsity");
	const char *method = json_string_value(json_object_get(o, "method"));

	c->sparsity = json_number_value(sparsity);
	if ((sparsity && !json_is_number(sparsity)) || !(c->sparsity >= 0 && c->sparsity < 1))
		return tc_fail(err, TC_DATA, "\"sparsity\" must be 0 or more and below 1");
	if (!bits)
		return 0;
	c->by = method ? tc_quantizer_find(method) : NULL;
	if (!c->by)
		return tc_fail(err, TC_DATA, "\"method\" must be one of tc-quant's");
	if (!json_is_integer(bits) || json_integer_value(bits) < 1 || json_integer_value(bits) > 8)
		return tc_fail(err, TC_DATA, "\"bits\" must be 1 to 8");
	c->bits = (int)json_integer_value(bits);
	if (tc_choice_check(c->by, c->bits, err) < 0)
		return -1;
	return parse_group(json_object_get(o, "group"), c, err);
}

static int
parse_row(const json_t *o, struct tc_plan_row *row, struct tc_err *err)
{
	const char *name = json_string_value(json_object_get(o, "name"));
	const json_t *bytes = json_object_get(o, "bytes"), *error = json_object_get(o, "predicted_error");

	if (!name || strlen(name) >= sizeof(row->name))
		return tc_fail(err, TC_DATA, "a tensor has no \"name\"");
	strcpy(row->name, name);
	row->bytes = json_is_integer(bytes) && json_integer_value(bytes) > 0 ? (uint64_t)json_integer_value(bytes) : 0;
	row->error = json_is_number(error) ? json_number_value(error) : NAN;
	if (parse_choice(o, &row->choice, err) < 0) {
		err->code = TC_DATA;
		return tc_err_at(err, "%s", name);
	}
	return 0;
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const struct tc_plan_row *)a)->name, ((const struct tc_plan_row *)b)->name);
}

/* In the order of names, to be found by them. */
static int
parse_rows(struct tc_plan *p, const json_t *list, struct tc_err *err)
{
	size_t n = json_array_size(list);

	p->row = tc_zalloc(n, sizeof(*p->row), err);
	if (!p->row)
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (parse_row(json_array_get(list, i), &p->row[p->n], err) < 0)
			return -1;
		p->n += !tc_choice_is_skip(&p->row[p->n].choice);
	}
	qsort(p->row, p->n, sizeof(*p->row), by_name);
	for (size_t i = 1; i < p->n; i++)
		if (by_name(&p->row[i - 1], &p->row[i]) == 0)
			return tc_fail(err, TC_DATA, "%s: stands in it twice", p->row[i].name);
	return 0;
}

static uint64_t
bytes_of(const json_t *o, uint64_t otherwise)
{
	return json_is_integer(o) && json_integer_value(o) >= 0 ? (uint64_t)json_integer_value(o) : otherwise;
}

static double
number_of(const json_t *o)
{
	return json_is_number(o) ? json_number_value(o) : NAN;
}

int
tc_plan_parse(struct tc_plan *p, const char *json, size_t n, struct tc_err *err)
{
	json_error_t why;
	json_t *o = json_loadb(json, n, JSON_REJECT_DUPLICATES, &why);
	const json_t *list = json_object_get(o, "tensors");
	const char *method = json_string_value(json_object_get(o, "method"));
	int r;

	*p = (struct tc_plan){ .hash = XXH3_64bits(json, n) };
	if (!o) {
		r = tc_fail(err, TC_DATA, "is no JSON: %s", why.text);
	} else if (json_integer_value(json_object_get(o, "tc_alloc")) != VERSION || !json_is_array(list)) {
		r = tc_fail(err, TC_DATA, "is no plan of tc-alloc: no \"tc_alloc\": %d or no \"tensors\"", VERSION);
	} else {
		snprintf(p->method, sizeof(p->method), "%s", method ? method : "");
		p->budget = bytes_of(json_object_get(o, "budget_bytes"), UINT64_MAX);
		p->predicted = bytes_of(json_object_get(o, "predicted_bytes"), 0);
		p->bits = number_of(json_object_get(o, "bits_per_weight"));
		p->error = number_of(json_object_get(o, "predicted_error"));
		r = parse_rows(p, list, err);
	}
	json_decref(o);
	if (r < 0)
		tc_plan_free(p);
	return r;
}

void
tc_plan_free(struct tc_plan *p)
{
	free(p->row);
	*p = (struct tc_plan){0};
}

/* ---- a plan to JSON ---- */

static json_t *
real_or_null(double x)
{
	return isfinite(x) ? json_real(x) : json_null();
}

static json_t *
group_json(uint64_t group)
{
	char text[24];

	if (group != TC_GROUP_ROW && group != TC_GROUP_TENSOR)
		return json_integer((json_int_t)group);
	tc_group_print(&group, text, sizeof(text));
	return json_string(text);
}

static json_t *
row_json(const struct tc_plan_row *row)
{
	const struct tc_choice *c = &row->choice;
	json_t *o = json_pack("{s:s}", "name", row->name);
	int bad = !o;

	if (c->by)
		bad |= json_object_set_new(o, "method", json_string(c->by->name)) | json_object_set_new(o, "bits", json_integer(c->bits)) |
		    json_object_set_new(o, "group", group_json(c->group));
	if (c->sparsity > 0)
		bad |= json_object_set_new(o, "sparsity", json_real(c->sparsity));
	bad |= json_object_set_new(o, "bytes", json_integer((json_int_t)row->bytes)) |
	    json_object_set_new(o, "predicted_error", real_or_null(row->error));
	if (!bad)
		return o;
	json_decref(o);
	return NULL;
}

int
tc_plan_text(const struct tc_plan *p, char **text, struct tc_err *err)
{
	json_t *list = json_array(), *o;
	struct tc_buf b = {0};
	char *s = NULL;
	int r = list ? 0 : -1;

	for (size_t i = 0; r == 0 && i < p->n; i++)
		r = json_array_append_new(list, row_json(&p->row[i]));
	o = json_pack("{s:i,s:s,s:o,s:I,s:o,s:o,s:o}", "tc_alloc", VERSION, "method", p->method, "budget_bytes",
	    p->budget == UINT64_MAX ? json_null() : json_integer((json_int_t)p->budget), "predicted_bytes", (json_int_t)p->predicted,
	    "bits_per_weight", real_or_null(p->bits), "predicted_error", real_or_null(p->error), "tensors", list);
	if (r == 0 && o)
		s = json_dumps(o, JSON_REAL_PRECISION(17) | JSON_INDENT(1));
	json_decref(o);
	if (!s)
		return tc_fail(err, TC_NOMEM, "out of memory (plan)");
	r = tc_buf_append(&b, s, strlen(s), err);
	free(s);
	if (r == 0)
		r = tc_buf_append(&b, "\n", sizeof("\n"), err);
	if (r < 0)
		tc_buf_free(&b);
	*text = (char *)b.p;
	return r;
}

/* ---- what it is of ---- */

const struct tc_plan_row *
tc_plan_find(const struct tc_plan *p, const char *name)
{
	size_t low = 0, high = p->n;

	while (low < high) {
		size_t middle = (low + high) / 2;
		int d = strcmp(name, p->row[middle].name);

		if (d == 0)
			return &p->row[middle];
		if (d < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

int
tc_plan_check(const struct tc_plan *p, const struct tc_header *h, struct tc_err *err)
{
	struct tc_config config;
	struct tc_tensor t;

	if (tc_config_parse(&config, h->config, h->config_bytes, err) < 0)
		return -1;
	for (size_t i = 0; i < p->n; i++) {
		if (!tc_config_find(&config, p->row[i].name, &t))
			return tc_fail(err, TC_DATA, "the plan is of another model: this one has no %s", p->row[i].name);
		if (t.bias || t.ndim != 2 || (!tc_role_is_linear(t.role) && t.role != TC_ROLE_EMBED && t.role != TC_ROLE_HEAD))
			return tc_fail(err, TC_DATA, "the plan has %s, which is never quantized", p->row[i].name);
	}
	return 0;
}

bool
tc_plan_is_record(const struct tc_record *r)
{
	return r->kind == TC_KIND_FILE && strcmp(r->u.file.name, TC_PLAN_FILE) == 0;
}

/* ---- the option ---- */

int
tc_plan_option_parse(const char *value, void *field, struct tc_err *err)
{
	struct tc_plan_option *o = field;

	tc_plan_free(&o->plan);
	tc_buf_free(&o->text);
	o->path = value;
	if (tc_read_file(value, &o->text, TEXT_BYTES_MAX, err) < 0)
		return -1;
	if (tc_plan_parse(&o->plan, (const char *)o->text.p, o->text.n, err) < 0)
		return tc_err_at(err, "%s", value);
	o->known = true;
	return 0;
}

void
tc_plan_option_print(const void *field, char *buf, size_t size)
{
	const struct tc_plan_option *o = field;

	buf[0] = '\0';
	if (o->known)
		snprintf(buf, size, "plan:%016llx", (unsigned long long)o->plan.hash);
}

static int
obey(struct tc_plan_option *o, const struct tc_record *r, struct tc_err *err)
{
	tc_plan_free(&o->plan);
	if (tc_plan_parse(&o->plan, r->part[0].data, r->part[0].size_bytes, err) < 0)
		return tc_err_at(err, "%s in the stream", TC_PLAN_FILE);
	o->known = true;
	return 0;
}

/* The stream's plan becomes the path's. */
static void
replace(const struct tc_plan_option *o, struct tc_cli *cli, struct tc_record *r)
{
	struct tc_part *part = &r->part[0];

	if (part->size_bytes == o->text.n && memcmp(part->data, o->text.p, o->text.n) == 0)
		return;
	tc_cli_say(cli, "the plan in the stream gives way to that of --alloc");
	part->data = o->text.p;
	part->size_bytes = o->text.n;
	r->raw = NULL;
}

static int
look_ahead(struct tc_plan_option *o, struct tc_cli *cli, struct tc_source *source)
{
	struct tc_err *err = &cli->err;
	struct tc_record r;
	int got;

	do {
		got = tc_source_next(source, &r, err);
		if (got <= 0)
			return got;
		if (tc_hold_add(&o->files, &r, source->mapped, err) < 0)
			return -1;
		if (!tc_plan_is_record(&r))
			continue;
		if (!o->path && obey(o, &r, err) < 0)
			return -1;
		if (o->path && !o->compares)
			replace(o, cli, &o->files.item[o->files.n - 1].r);
	} while (r.kind == TC_KIND_FILE);
	return 0;
}

int
tc_plan_open(struct tc_plan_option *o, struct tc_cli *cli, struct tc_source *source, struct tc_source **from)
{
	if (look_ahead(o, cli, source) < 0)
		return -1;
	tc_hold_ahead(&o->files, source, &o->ahead);
	*from = &o->ahead.s;
	if (!o->known)
		return 0;
	if (!o->path && !o->compares)
		tc_cli_say(cli, "obeying the plan in the stream (%s, %zu tensors)", o->plan.method, o->plan.n);
	return tc_plan_check(&o->plan, &source->header, &cli->err);
}

void
tc_plan_close(struct tc_plan_option *o)
{
	tc_plan_free(&o->plan);
	tc_buf_free(&o->text);
	tc_hold_clear(&o->files);
}

void
tc_plan_say(const struct tc_plan_option *o, struct tc_cli *cli, uint64_t bytes, bool quantized)
{
	const struct tc_plan *p = &o->plan;
	bool more = false;

	for (size_t i = 0; !quantized && i < p->n; i++)
		more |= p->row[i].choice.bits > 0;
	if (o->known && more)
		tc_cli_say(cli, "tc-quant is to do the rest of the plan");
	else if (o->known)
		tc_cli_say(cli, "the model has %llu bytes, %llu in the plan%s", (unsigned long long)bytes,
		    (unsigned long long)p->predicted, bytes <= p->budget ? "" : ", over its budget");
}
