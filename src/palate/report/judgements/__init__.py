"""Whether a run went well: what each stage expects, where its curves went, and whether its answers collapsed."""
