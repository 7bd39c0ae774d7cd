"""Accounts, logins, roles, CSRF, headers and rate limits."""
