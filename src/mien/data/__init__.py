"""Labelled faces in every form that people have them: read, look at, split, convert."""
