"""Video files and posters: written, read back and checked. Here alone foreign programs are started.

- ``ffmpeg``    runs ffmpeg, with deadlines
- ``encode``    frames into an MP4
- ``beside``    encoding in a thread of its own, while frames are made
- ``filters``   what ffmpeg does with frames before it encodes them
- ``planar``    frames as the encoder stores them
- ``probe``     what a file really holds, by decoding it
- ``poster``    one frame into a JPEG
- ``sheet``     a few frames of a clip side by side in a JPEG
- ``binary``    where ffmpeg is
- ``messages``  what ffmpeg says, and what of it is worth showing
- ``metadata``  ffmpeg's text form of a container's tags
- ``files``     the errors and the tidying up that all of them share
"""
