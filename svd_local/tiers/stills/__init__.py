"""Stills set in motion: where the camera looks, which picture shows when, and the frames of it.

``camera`` and ``timeline`` are plain arithmetic; ``render`` alone touches pixels. Any tier that has
pictures and wants a video of them uses these.
"""
