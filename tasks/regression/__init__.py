"""Families of functions: tasks of regression."""
