"""Campaigns: a versioned schema, and the tasks that people get."""
