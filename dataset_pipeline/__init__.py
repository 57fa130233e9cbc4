"""From raw images and texts to a verified, published dataset release."""

__version__ = "0.1.0"
