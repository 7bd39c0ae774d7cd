"""Judges: rules, reward models, and chat models over an API."""
