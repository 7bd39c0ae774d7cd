"""The benchmarks: one file each, and one row of `table.BENCHMARKS`."""
