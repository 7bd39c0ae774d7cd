"""From votes to training data: which votes count, their result, rows with lineage, a dataset card."""
