"""Pages of docs/ that are written by hand around generated blocks, one module per page."""
