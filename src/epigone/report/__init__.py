"""Curves, the report page, the model card and the quiz page of a run."""
