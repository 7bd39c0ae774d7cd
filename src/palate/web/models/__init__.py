"""The pages of model versions: aliases, canaries, verdicts, and what each version learnt from."""
