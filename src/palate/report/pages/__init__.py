"""One module for each page: a run, a comparison, a pipeline, a sweep, a frontier, an inspection of a dataset."""
