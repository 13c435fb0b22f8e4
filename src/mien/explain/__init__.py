"""Which parts of a face a network's answer hangs on, and whether the map that says so can be relied on.

In: a network, and a picture or labelled faces. Out: a `SaliencyMap` a face (by RISE or Grad-CAM) with its
`Faithfulness`, and pictures of them. Begin with `explain.open_explainer` and `explain.explain_face`; `occlusion` has
RISE and the test of a map, `grad_cam` the other method; `explain.explain_classes` does a data set, `render` draws.
"""
