"""A fitted task over HTTP, and a page to try it on (FastAPI)."""
