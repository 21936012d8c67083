"""Arrays in few bytes: codecs, self-describing packets and error feedback.

A codec turns floats into bytes and back. It knows nothing of files, sockets or processes.
"""

from scrimp.codecs.base import Codec, codec, codec_names
from scrimp.codecs.feedback import ErrorFeedback
from scrimp.codecs.lattice import quantize
from scrimp.codecs.packet import PacketInfo, pack, packet_info, packet_nbytes, packet_payload, unpack
from scrimp.codecs.spec import codec_choices

__all__ = [
    "Codec",
    "ErrorFeedback",
    "PacketInfo",
    "codec",
    "codec_choices",
    "codec_names",
    "pack",
    "packet_info",
    "packet_nbytes",
    "packet_payload",
    "quantize",
    "unpack",
]
