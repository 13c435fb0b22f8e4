"""Networks by name. Looking a name up imports Keras; this package itself does not."""
