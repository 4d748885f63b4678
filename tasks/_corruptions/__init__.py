"""The kinds of corruptions, a family a file: each a pure function of images and of a generator."""
