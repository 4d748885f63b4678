"""Texts: intents, relations, and files of one's own."""
