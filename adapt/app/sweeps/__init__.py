"""Many runs: the sweep as one tree, and the search that ``tune`` makes."""
