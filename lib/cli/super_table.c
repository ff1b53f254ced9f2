#include "cli/super_table.h"

#define AT(type, f) .offset = offsetof(struct type, f)

const struct tc_column tc_super_block_columns[] = {
	{ "block", TC_CELL_INDEX, AT(tc_super_block, block) },
	{ "in", TC_CELL_REAL, AT(tc_super_block, in), 1, 2 },
	{ "in_channel", TC_CELL_INDEX, AT(tc_super_block, in_channel) },
	{ "in_sequence", TC_CELL_INDEX, AT(tc_super_block, in_sequence) },
	{ "in_position", TC_CELL_INDEX, AT(tc_super_block, in_position) },
	{ "in_median", TC_CELL_REAL, AT(tc_super_block, in_median), 1, 3 },
	{ "in_ratio", TC_CELL_REAL, AT(tc_super_block, in_ratio), 1, 1 },
	{ "out", TC_CELL_REAL, AT(tc_super_block, out), 1, 2 },
	{ "out_channel", TC_CELL_INDEX, AT(tc_super_block, out_channel) },
	{ "out_sequence", TC_CELL_INDEX, AT(tc_super_block, out_sequence) },
	{ "out_position", TC_CELL_INDEX, AT(tc_super_block, out_position) },
	{ "out_median", TC_CELL_REAL, AT(tc_super_block, out_median), 1, 3 },
	{ "out_ratio", TC_CELL_REAL, AT(tc_super_block, out_ratio), 1, 1 },
	{ 0 }
};

const struct tc_column tc_super_weight_columns[] = {
	{ "block", TC_CELL_INDEX, AT(tc_super_weight, block) },
	{ "row", TC_CELL_INDEX, AT(tc_super_weight, row) },
	{ "column", TC_CELL_INDEX, AT(tc_super_weight, column) },
	{ "value", TC_CELL_REAL, AT(tc_super_weight, value), 1, 4 },
	{ "round", TC_CELL_COUNT, AT(tc_super_weight, round) },
	{ "in", TC_CELL_REAL, AT(tc_super_weight, in), 1, 2 },
	{ "in_ratio", TC_CELL_REAL, AT(tc_super_weight, in_ratio), 1, 1 },
	{ "out", TC_CELL_REAL, AT(tc_super_weight, out), 1, 2 },
	{ "out_ratio", TC_CELL_REAL, AT(tc_super_weight, out_ratio), 1, 1 },
	{ "share", TC_CELL_REAL, AT(tc_super_weight, share), 1, 2 },
	{ "spike", TC_CELL_FLAG, AT(tc_super_weight, spike) },
	{ "sequence", TC_CELL_INDEX, AT(tc_super_weight, sequence) },
	{ "position", TC_CELL_INDEX, AT(tc_super_weight, position) },
	{ "id", TC_CELL_INDEX, AT(tc_super_weight, id) },
	{ 0 }
};

const struct tc_column tc_super_step_columns[] = {
	{ "block", TC_CELL_INDEX, AT(tc_super_step, block) },
	{ "with", TC_CELL_REAL, AT(tc_super_step, with), 1, 2 },
	{ "with_median", TC_CELL_REAL, AT(tc_super_step, with_median), 1, 3 },
	{ "without", TC_CELL_REAL, AT(tc_super_step, without), 1, 2 },
	{ "without_median", TC_CELL_REAL, AT(tc_super_step, without_median), 1, 3 },
	{ 0 }
};

const struct tc_column tc_super_effect_columns[] = {
	{ "zeroed", TC_CELL_TEXT, AT(tc_super_effect, zeroed) },
	{ "block", TC_CELL_INDEX, AT(tc_super_effect, block) },
	{ "row", TC_CELL_INDEX, AT(tc_super_effect, row) },
	{ "column", TC_CELL_INDEX, AT(tc_super_effect, column) },
	{ "draw", TC_CELL_COUNT, AT(tc_super_effect, draw) },
	{ "weights", TC_CELL_COUNT, AT(tc_super_effect, weights) },
	{ "least", TC_CELL_REAL, AT(tc_super_effect, least), 1, 4 },
	{ "most", TC_CELL_REAL, AT(tc_super_effect, most), 1, 4 },
	{ "nll", TC_CELL_REAL, AT(tc_super_effect, nll), 1, 5 },
	{ "delta", TC_CELL_REAL, AT(tc_super_effect, delta), 1, 5 },
	{ "delta_low", TC_CELL_REAL, AT(tc_super_effect, low), 1, 5 },
	{ "delta_high", TC_CELL_REAL, AT(tc_super_effect, high), 1, 5 },
	{ 0 }
};
