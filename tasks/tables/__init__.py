"""Rows of numbers and categories."""
