"""A run's folder on disk: what lies where, checkpoints, records, and repair after a crash."""
