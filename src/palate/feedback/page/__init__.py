"""What the labelling page needs besides the queue: two models that answer, and the file of `--save`."""
