"""The training loop, its optimizers and schedules, and the evaluations in between, as a generator of events."""
