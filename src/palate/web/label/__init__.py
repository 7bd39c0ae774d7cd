"""The labelling page, free prompts, review and figures."""
