"""What answers requests: a model in this process, or an engine behind the gateway."""
