"""Faces in pictures: where they are, how sure a detector is of each, and five landmarks.

In: a picture, (height, width, 3) uint8, RGB. Out: a `Detection` per face, the largest first. Begin with
`registry.open_detector` and the protocol in `base`; `mien` is our own detector, `pyramid` and `nms` are shared by all,
`align` cuts a face out. `training` and `evaluate` make and measure detectors; nothing here imports them.
"""
