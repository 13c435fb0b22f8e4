"""Which parts of a face a network's answer hangs on: maps, their check against chance, and pictures of them."""
