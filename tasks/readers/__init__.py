"""How labels, pictures, texts, settings and files are read, each in one place: by task sources, and by
`adapt`.

Nothing here knows of sources or of `adapt`. A function that refuses
something raises the error class that it is given: `AdaptError` for one, `TaskError` for the other.

Importing this package needs torch and numpy only.
"""
