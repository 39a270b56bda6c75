"""The ways to make a clip, one module each."""
