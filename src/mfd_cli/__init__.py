"""mfd: predict epigenomic tracks from DNA while telling biology from technique."""

__version__ = "0.1.0"
