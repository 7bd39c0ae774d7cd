"""Measures of texts and pairs, offline: language, words, similarity, personal data, insults."""
