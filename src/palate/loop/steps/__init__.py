"""The steps of a cycle, in the order of `table.STEP`."""
