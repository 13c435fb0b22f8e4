"""mien: facial expression recognition. Recognise expressions, train on your own pictures, evaluate, ship.

We recognise perceived expressions in a picture; we do not read feelings.
"""

from mien._version import __version__
from mien.errors import MienError

__all__ = ["MienError", "__version__"]
