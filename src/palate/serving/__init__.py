"""The gateway: an OpenAI-compatible server in front of models in this process and of other engines.

It can record interactions and feedback (`recording`).
"""
