"""Events in; curves, samples and a model card out."""
