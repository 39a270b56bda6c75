"""Video files and posters: written, read back and checked. Here alone foreign programs are started.

- ``ffmpeg``  finds ffmpeg and runs it, with deadlines
- ``encode``  frames into an MP4
- ``probe``   what a file really holds, by decoding it
- ``poster``  one frame into a JPEG
- ``files``   the errors and the tidying up that all of them share
"""
