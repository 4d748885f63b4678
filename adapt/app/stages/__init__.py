"""What a run does: its stages, and what each of them is given."""
