"""The command line: Hydra configs to experiments to results on the terminal, on disk and in MLflow."""
