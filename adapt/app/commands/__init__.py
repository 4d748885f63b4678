"""What a person types: one module per command, and what several of them share."""
