/* sparse.c - the numbers that a tensor holds apart. */
#include "tensor/parts.h"

size_t
tc_tensor_sparse_count(const struct tc_tensor *t, size_t row)
{
	const uint16_t *counts = tc_part_data(t, "sparse_counts");

	return counts ? counts[row] : 0;
}

size_t
tc_tensor_sparse_before(const struct tc_tensor *t, size_t row)
{
	const uint16_t *counts = tc_part_data(t, "sparse_counts");
	size_t n = 0;

	for (size_t r = 0; counts && r < row; r++)
		n += counts[r];
	return n;
}

size_t
tc_tensor_sparse_column(const struct tc_tensor *t, size_t i)
{
	const void *columns = tc_part_data(t, "sparse_columns");

	return tc_sparse_column_bytes(tc_tensor_cols(t)) == 2 ? ((const uint16_t *)columns)[i] : ((const uint32_t *)columns)[i];
}

float
tc_tensor_sparse_value(const struct tc_tensor *t, size_t i)
{
	return tc_f32_from_f16(((const uint16_t *)tc_part_data(t, "sparse_values"))[i]);
}

int
tc_tensor_check_sparse(const struct tc_tensor *t, struct tc_err *err)
{
	size_t rows = tc_tensor_rows(t), cols = tc_tensor_cols(t), i = 0;

	if (t->sparse != tc_tensor_sparse_before(t, rows))
		return tc_fail(err, TC_DATA, "%s: its sparse numbers are not as many as its rows have", t->name);
	for (size_t r = 0; t->sparse && r < rows; r++)
		for (size_t k = 0, n = tc_tensor_sparse_count(t, r); k < n; k++, i++)
			if (tc_tensor_sparse_column(t, i) >= cols ||
			    (k && tc_tensor_sparse_column(t, i) <= tc_tensor_sparse_column(t, i - 1)))
				return tc_fail(err, TC_DATA, "%s: row %zu: its sparse numbers are out of order", t->name, r);
	return 0;
}
