"""Results of evaluations item by item: palate's own files, lm-evaluation-harness sample logs and Inspect AI logs."""
