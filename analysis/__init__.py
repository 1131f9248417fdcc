"""Numbers only: metrics, intervals, records, ranking. Imports neither torch nor Ray."""
