/* help.c - what --help prints. */
#include "cli/table.h"

#include <stdio.h>

/* "  -o, --output FILE"; returns its length. */
static int
help_left(const struct tc_option *o, char *buf, size_t size)
{
	const char *arg = !tc_option_takes_value(o) ? "" : o->arg ? o->arg : o->names ? o->names : "VALUE";
	char letter[] = { '-', o->letter, ',', ' ', 0 };

	return snprintf(buf, size, "  %s--%s%s%s", o->letter ? letter : "    ", o->name, *arg ? " " : "", arg);
}

void
tc_options_help(const struct tc_stage *stage)
{
	enum { COLUMN_MAX = 28 };
	struct tc_row row;
	char left[256];
	int column = 0;

	printf("usage: %s [option ...]%s%s\n", stage->name, *stage->operands ? " " : "", stage->operands);
	printf("%s - %s\n\n", stage->name, stage->summary);
	for (size_t i = 0; tc_table_at(stage, i, &row); i++) {
		int n = help_left(row.option, left, sizeof(left));

		if (n > column && n <= COLUMN_MAX)
			column = n;
	}
	for (size_t i = 0; tc_table_at(stage, i, &row); i++) {
		help_left(row.option, left, sizeof(left));
		printf("%-*s  %s\n", column, left, row.option->help);
	}
	printf("\nSee %s(1) for more, tc(7) for what all stages share.\n", stage->name);
}
