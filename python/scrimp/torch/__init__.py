"""PyTorch: a communication hook for DistributedDataParallel, and an all-reduce for those without it."""

from scrimp.torch.hook import CompressionState, all_reduce, compression_hook

__all__ = ["CompressionState", "all_reduce", "compression_hook"]
