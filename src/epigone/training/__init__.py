"""Plan and tokens in, events out: the loop, what feeds it and what measures it."""
