"""Decoding the pictures that clients send, which are hostile until proven otherwise."""

from __future__ import annotations

import io

from PIL import Image, UnidentifiedImageError

from predictor.errors import InvalidInput, WorkTooLarge

# Formats that Pillow decodes by itself; for others, such as EPS, it starts programs on the client's bytes.
Image.init()
_WANTED = ("PNG", "JPEG", "MPO", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "ICO", "TGA", "JPEG2000", "AVIF")
_FORMATS = [name for name in _WANTED if name in Image.OPEN]


def open_image(name: str, data: bytes) -> Image.Image:
    """Decode a picture of any format that Pillow reads, fully, so that no error is left for later.

    Raises:
        InvalidInput: it is empty, no picture, or cut short; the message names the input.
        WorkTooLarge: it holds more pixels than Pillow's limit.
    """
    if not data:
        raise InvalidInput(f"Invalid input for '{name}': it is empty")
    try:
        picture = Image.open(io.BytesIO(data), formats=_FORMATS)
        # Pillow itself only warns up to twice its limit.
        if Image.MAX_IMAGE_PIXELS and picture.width * picture.height > Image.MAX_IMAGE_PIXELS:
            raise Image.DecompressionBombError(f"{picture.width} by {picture.height} pixels")
        picture.load()
    except Image.DecompressionBombError as error:
        raise WorkTooLarge(f"Invalid input for '{name}': the picture has too many pixels") from error
    except UnidentifiedImageError as error:
        raise InvalidInput(f"Invalid input for '{name}': not a picture in a known format") from error
    except Exception as error:
        raise InvalidInput(f"Invalid input for '{name}': the picture cannot be decoded ({error})") from error
    return picture
