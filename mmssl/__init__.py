"""mmssl: self-supervised learning from video, sound and subtitles.

Nothing is imported here, so that worker processes which need only numpy and av start in a tenth of a second.
"""

__version__ = "0.1.0"
