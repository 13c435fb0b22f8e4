"""Faces in videos: found, followed from frame to frame, and their expressions smoothed over time."""
