"""Decisions: what an expert does in a position."""
