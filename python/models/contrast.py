"""An image in, an image out, as numpy arrays."""

import numpy


def stretch(*, image):
    """Stretches the contrast of a grey image so that it goes from 0 to 255."""
    low, high = int(image.min()), int(image.max())
    if low == high:
        return image
    return ((image.astype(numpy.float32) - low) * (255 / (high - low))).round().astype(numpy.uint8)
