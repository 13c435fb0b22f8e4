"""How good face detectors are: several on the same photographs, one table, sheets of what went wrong."""
