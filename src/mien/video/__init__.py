"""Faces in videos: detected, tracked from frame to frame, and their expressions smoothed over time.

In: a video file, or the frames of a camera, and an `Analyzer`. Out: a `VideoFrame` a frame, with faces that keep their
numbers; `sinks` writes them as tables, a timeline and an annotated video. Begin with `analyze.analyze_video`, or with
`tracking.Tracker` for a stream.
"""
