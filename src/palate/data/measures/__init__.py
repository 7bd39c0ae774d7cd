"""What can be measured of texts and pairs offline: language, words, similarity, personal data, toxicity."""
