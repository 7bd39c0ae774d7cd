"""The pages of runs: their list, one run, several side by side, and the reports in their folders."""
