"""From pictures to expressions with a model folder; never needs Keras."""
