"""From a model and labelled faces to an honest report."""
