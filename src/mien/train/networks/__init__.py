"""Networks by name.

In: a `NetworkRequest` (`spec.py`). Out: a Keras network that takes levels 0-255 and ends in a softmax a head. Begin
with `registry.py`, which knows every name; looking one up imports Keras, this package itself does not.
"""
