"""How good face finders are: several on the same photographs, one table, sheets of what went wrong."""
