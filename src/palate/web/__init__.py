"""The pages for people: one FastAPI app."""
