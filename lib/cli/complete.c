/* complete.c - what --completion prints: the option table as a shell reads it. */
#include "cli/table.h"

#include <stdio.h>
#include <string.h>

/* What may stand after an option. */
enum values { LISTED, FILES, UNKNOWN };

static enum values
values_of(const struct tc_option *o)
{
	static const char *const files[] = { "FILE", "DIR", "MODEL" };

	if (o->type == TC_OPT_NAME)
		return LISTED;
	for (size_t i = 0; o->arg && i < sizeof(files) / sizeof(files[0]); i++)
		if (strcmp(o->arg, files[i]) == 0)
			return FILES;
	return UNKNOWN;
}

/* "f16|f32" with blanks between. */
static void
print_names(const char *names)
{
	for (; *names; names++)
		putchar(*names == '|' ? ' ' : *names);
}

/* A name of a shell function: "_tc_quant". */
static void
print_function(const struct tc_stage *stage)
{
	putchar('_');
	for (const char *c = stage->name; *c; c++)
		putchar(*c == '-' ? '_' : *c);
}

/* ---- bash ---- */

/* "-o|--output" */
static void
print_pattern(const struct tc_option *o)
{
	if (o->letter)
		printf("-%c|", o->letter);
	printf("--%s", o->name);
}

/* A case for all options whose values are of one kind, if there are any. */
static void
print_bash_group(const struct tc_stage *stage, enum values kind, const char *action)
{
	struct tc_row row;
	bool any = false;

	for (size_t i = 0; tc_table_at(stage, i, &row); i++)
		if (tc_option_takes_value(row.option) && values_of(row.option) == kind) {
			printf(any ? "|" : "\t");
			print_pattern(row.option);
			any = true;
		}
	if (any)
		printf(") %s ;;\n", action);
}

static void
print_bash_values(const struct tc_stage *stage)
{
	struct tc_row row;

	for (size_t i = 0; tc_table_at(stage, i, &row); i++)
		if (tc_option_takes_value(row.option) && values_of(row.option) == LISTED) {
			putchar('\t');
			print_pattern(row.option);
			printf(") COMPREPLY=($(compgen -W '");
			print_names(row.option->names);
			printf("' -- \"$cur\")); return ;;\n");
		}
	print_bash_group(stage, FILES, "return");
	/* No file names either; outside a completion compopt complains. */
	print_bash_group(stage, UNKNOWN, "compopt +o default 2>/dev/null; return 0");
}

/* An empty COMPREPLY means file names (-o default).  Where = is among the
 * characters that break words, it is a word of its own. */
static void
print_bash(const struct tc_stage *stage)
{
	struct tc_row row;

	print_function(stage);
	printf("()\n{\n"
	    "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}\n"
	    "\tCOMPREPLY=()\n"
	    "\tif [[ $cur = = ]]; then\n"
	    "\t\tcur=\n"
	    "\telif [[ $prev = = && $COMP_CWORD -ge 2 ]]; then\n"
	    "\t\tprev=${COMP_WORDS[COMP_CWORD - 2]}\n"
	    "\tfi\n"
	    "\tcase $prev in\n");
	print_bash_values(stage);
	printf("\tesac\n"
	    "\tif [[ $cur = -* ]]; then\n"
	    "\t\tCOMPREPLY=($(compgen -W '");
	for (size_t i = 0; tc_table_at(stage, i, &row); i++)
		printf("%s--%s", i ? " " : "", row.option->name);
	printf("' -- \"$cur\"))\n\tfi\n}\ncomplete -o default -F ");
	print_function(stage);
	printf(" %s\n", stage->name);
}

/* ---- zsh ---- */

/* Text between single quotes, in a specification of _arguments. */
static void
print_quoted(const char *s)
{
	for (; *s; s++) {
		if (*s == '\'')
			printf("'\\'");
		else if (strchr("[]:\\", *s))
			putchar('\\');
		putchar(*s);
	}
}

static void
print_zsh_option(const struct tc_option *o)
{
	bool value = tc_option_takes_value(o);
	const char *arg = o->arg ? o->arg : "VALUE";

	printf(" \\\n\t    ");
	/* Lists may be repeated; of two names either excludes the other. */
	if (o->type == TC_OPT_LIST)
		printf("'*'");
	else if (o->letter)
		printf("'(-%c --%s)'", o->letter, o->name);
	if (o->letter)
		printf("{-%c%s,--%s%s}", o->letter, value ? "+" : "", o->name, value ? "=" : "");
	else
		printf("--%s%s", o->name, value ? "=" : "");
	printf("'[");
	print_quoted(o->help);
	putchar(']');
	if (value) {
		putchar(':');
		print_quoted(arg);
		putchar(':');
		if (values_of(o) == LISTED) {
			putchar('(');
			print_names(o->names);
			putchar(')');
		} else if (values_of(o) == FILES) {
			printf(strcmp(arg, "DIR") == 0 ? "_files -/" : "_files");
		}
	}
	putchar('\'');
}

static void
print_zsh(const struct tc_stage *stage)
{
	struct tc_row row;

	printf("#compdef %s\n", stage->name);
	print_function(stage);
	printf("()\n{\n\t_arguments -s -S");
	for (size_t i = 0; tc_table_at(stage, i, &row); i++)
		print_zsh_option(row.option);
	if (stage->operands_max > 0)
		printf(" \\\n\t    '*:MODEL:_files'");
	/* The file is the body of a function that completes one command. */
	printf("\n}\nif [[ $service = %s ]]; then\n\t", stage->name);
	print_function(stage);
	printf(" \"$@\"\n\treturn\nfi\n");
}

void
tc_options_complete(const struct tc_stage *stage, const char *shell)
{
	if (strcmp(shell, "zsh") == 0)
		print_zsh(stage);
	else
		print_bash(stage);
}
