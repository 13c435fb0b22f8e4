"""Labels for the faces of a face set: who said what, the page on which they say it, and what is learnt meanwhile.

In: a face set (`mien.faceset`). Out: `labels.sqlite` in its folder, every answer of every person in the order in which
they came. Begin with `store` (answers, undo, votes; the standard library alone); `app` is the page's server, `wall`
which faces it shows and in what order, `learning` and `active` the guesses beside them, `copies` pairs to decide on,
`training` a training begun on the page.
"""
