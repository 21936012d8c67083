"""Arrays in few bytes: codecs, self-describing packets and error feedback.

A codec turns floats into bytes and back. It knows nothing of files, sockets or processes.
"""

from scrimp.codecs.base import Codec, codec, codec_names
from scrimp.codecs.feedback import ErrorFeedback
from scrimp.codecs.lattice import quantize
from scrimp.codecs.packet import pack, unpack

__all__ = ["Codec", "ErrorFeedback", "codec", "codec_names", "pack", "quantize", "unpack"]
