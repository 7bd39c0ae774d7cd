"""The gateway: an OpenAI-compatible server that can record interactions and feedback."""
