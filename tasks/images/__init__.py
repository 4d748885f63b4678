"""Pictures: scans, photographs, renderings."""
