"""``python -m adapt``: the Hydra entry point."""

from adapt.app.main import main

main()
