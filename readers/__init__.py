"""What `adapt` and `tasks` both read: labels, pictures, texts and settings, each in one place.

Neither imports the other, so what they share stands here, and imports neither. A function that refuses
something raises the error class that it is given: `AdaptError` for one, `TaskError` for the other.

Importing this package needs torch and numpy only.
"""
