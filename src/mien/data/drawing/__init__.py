"""How drawn faces are made: a pen, an expression's pose, a person's look, and the parts of a picture."""
