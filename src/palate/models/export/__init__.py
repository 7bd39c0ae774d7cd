"""Trained models for other programs: merged weights, adapters, GGUF files, model hubs."""
