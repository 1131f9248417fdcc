import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.trainable.data.images import colour, grey, save
from trainable.data import decode
from trainable.data.decode import decode_image, fit, open_image, without_colour


def halves(mode="RGB", size=(8, 4)):
    """Left half black, right half white."""
    image = Image.new("L", size, 0)
    image.paste(255, (size[0] // 2, 0, *size))
    return image.convert(mode)


def as_grey(path, size=(4, 8)):
    return decode_image(path, image_size=size, resize="stretch", channels=1)[..., 0]


def test_an_image_of_the_wanted_size_comes_back_unchanged(tmp_path):
    image = colour(0)
    path = save(image, tmp_path / "a.png")
    decoded = decode_image(path, image_size=(12, 10), resize="pad", channels=3)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, np.asarray(image))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr"])
def test_every_mode_is_shown_as_a_viewer_shows_it(tmp_path, mode):
    ending = {"CMYK": "tif", "YCbCr": "tif"}.get(mode, "png")
    path = save(halves(mode), tmp_path / f"a.{ending}")
    np.testing.assert_array_equal(as_grey(path), np.asarray(halves("L")))


def test_sixteen_bits_keep_their_high_byte(tmp_path):
    deep = np.array([[0, 255, 256, 65535]], dtype=np.uint16).repeat(4, axis=0)
    path = save(Image.fromarray(deep), tmp_path / "a.png")
    np.testing.assert_array_equal(as_grey(path, (4, 4))[0], [0, 0, 1, 255])


def test_floats_of_the_unit_range_are_stretched(tmp_path):
    path = save(Image.fromarray(np.full((4, 4), 0.5, dtype=np.float32)), tmp_path / "a.tif")
    assert np.all(as_grey(path, (4, 4)) == 127)


def test_transparency_lies_on_white(tmp_path):
    clear = save(Image.new("RGBA", (4, 4), (255, 0, 0, 0)), tmp_path / "rgba.png")
    keyed = save(Image.new("RGB", (4, 4), (255, 0, 0)), tmp_path / "rgb.png", transparency=(255, 0, 0))
    indexed = Image.new("RGB", (4, 4), (0, 0, 9)).quantize(4)
    palette = save(indexed, tmp_path / "p.png", transparency=indexed.getpixel((0, 0)))
    for path in (clear, keyed, palette):
        assert np.all(decode_image(path, image_size=(4, 4), resize="pad", channels=3) == 255)


def test_exif_turns_the_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a right angle
    path = save(halves(), tmp_path / "a.png", exif=exif)
    turned = as_grey(path, (8, 4))
    assert np.all(turned[:4] == 0)
    assert np.all(turned[4:] == 255)


def test_an_animation_shows_its_first_frame(tmp_path):
    path = save(
        Image.new("L", (4, 4), 10),
        tmp_path / "a.gif",
        save_all=True,
        append_images=[Image.new("L", (4, 4), 200)],
    )
    assert np.all(as_grey(path, (4, 4)) == 10)


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(tmp_path):
    path = save(halves(size=(1600, 1200)), tmp_path / "a.jpg")
    assert open_image(path, (32, 32)).size == (200, 150)
    small = as_grey(path, (30, 40))
    assert np.all(small[:, :19] < 5)
    assert np.all(small[:, 21:] > 250)


def test_pad_keeps_the_aspect_and_fills_with_the_border():
    image = Image.new("RGB", (20, 10), (10, 200, 30))
    padded = fit(image, (8, 8), "pad", 3)
    assert np.all(padded == (10, 200, 30))
    marked = np.zeros((10, 20), dtype=np.uint8)
    marked[2:8, 2:18] = 255
    padded = fit(Image.fromarray(marked), (20, 20), "pad", 1)[..., 0]
    np.testing.assert_array_equal(padded[5:15], marked)
    assert np.all(padded[:5] == 0)
    assert np.all(padded[15:] == 0)


def test_keep_scale_never_enlarges_and_shrinks_what_does_not_fit():
    small = grey(0, 3, 5)
    kept = fit(small, (9, 9), "keep-scale", 1)[..., 0]
    np.testing.assert_array_equal(kept[3:6, 2:7], np.asarray(small))
    large = fit(halves("L", (40, 20)), (10, 10), "keep-scale", 1)[..., 0]
    assert large[5, 0] == 0
    assert large[5, 9] == 255


def test_crop_keeps_the_centre():
    image = np.zeros((10, 30), dtype=np.uint8)
    image[:, 10:20] = 255
    assert np.all(fit(Image.fromarray(image), (10, 10), "crop", 1) == 255)


def test_stretch_fills_the_whole_frame():
    stretched = fit(halves("L", (30, 4)), (6, 6), "stretch", 1)[..., 0]
    assert np.all(stretched[:, :2] == 0)
    assert np.all(stretched[:, 4:] == 255)


@pytest.mark.parametrize("resize", ["pad", "stretch", "crop", "keep-scale"])
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (7, 9)])
def test_any_shape_fits(resize, size):
    assert fit(Image.new("RGB", size), (5, 6), resize, 3).shape == (5, 6, 3)


def test_grey_means_no_pixel_has_colour():
    image = grey(0)
    assert without_colour(image) is image
    np.testing.assert_array_equal(np.asarray(without_colour(image.convert("RGB"))), np.asarray(image))
    for place in range(3):
        coloured = image.convert("RGB")
        coloured.putpixel((3, 3), tuple(2 if i == place else 1 for i in range(3)))
        assert without_colour(coloured) is None


def bomb(width, height):
    """A PNG header of any size, with next to nothing behind it."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("side", [10_000, 20_000])
def test_decompression_bombs_are_refused(side):
    with pytest.raises((Image.DecompressionBombError, Image.DecompressionBombWarning)):
        decode_image(io.BytesIO(bomb(side, side)), image_size=(8, 8), resize="pad", channels=1)


def test_the_bound_of_pixels_is_that_of_pillow():
    assert decode.MAX_PIXELS == Image.MAX_IMAGE_PIXELS


def progressive(path):
    return save(colour(1, 40, 30), path, progressive=True)


def turned(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    return save(colour(2, 40, 30), path, exif=exif)


def of_several_pictures(path):
    return save(colour(3, 40, 30), path, format="MPO", save_all=True, append_images=[colour(4, 40, 30)])


JPEGS = {
    "grey": lambda path: save(grey(0, 40, 30), path),
    "colour": lambda path: save(colour(5, 41, 31), path),
    "colour without subsampling": lambda path: save(colour(5, 41, 31), path, subsampling=0),
    "RGB as it is": lambda path: save(colour(5, 41, 31), path, keep_rgb=True),
    "CMYK": lambda path: save(halves("CMYK"), path),
    "larger than is read at once": lambda path: save(colour(6, 400, 300), path, quality=100),
    "progressive": progressive,
    "turned": turned,
    "of several pictures": of_several_pictures,
}


@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_is_what_pillow_makes_of_it(tmp_path, kind):
    path = JPEGS[kind](tmp_path / "a.jpg")
    with Image.open(path) as image:
        expected = ImageOps.exif_transpose(image)
        expected = expected if expected.mode == "L" else expected.convert("RGB")
        np.testing.assert_array_equal(np.asarray(open_image(path)), np.asarray(expected))


@pytest.mark.parametrize("kept", [0, 2, 3, 30, 300, -2])
def test_a_jpeg_that_is_cut_off_is_refused_as_pillow_refuses_it(tmp_path, kept):
    path = tmp_path / "a.jpg"
    path.write_bytes(save(colour(0, 40, 30), path).read_bytes()[:kept])
    with pytest.raises(OSError, match=r"\w") as plain, Image.open(path) as image:
        image.load()
    with pytest.raises(OSError, match=r"\w") as ours:
        open_image(path)
    assert (type(ours.value), str(ours.value)) == (type(plain.value), str(plain.value))


def test_the_brightness_of_sixteen_bits_does_not_depend_on_the_image(tmp_path):
    for name, value in (("dark", 250), ("light", 40_000)):
        row = np.full(12, value, dtype=">u2").tobytes()
        (tmp_path / f"{name}.pgm").write_bytes(b"P5 12 10 65535\n" + row * 10)
    dark, light = (np.asarray(open_image(tmp_path / f"{name}.pgm")) for name in ("dark", "light"))
    assert (int(dark.max()), int(light.max())) == (0, 156)


@pytest.mark.parametrize(("value", "expected"), [(0.5, 127), (200.0, 200), (40_000.0, 155)])
def test_floats_of_any_range_are_shown(tmp_path, value, expected):
    path = save(Image.fromarray(np.full((10, 12), value, dtype=np.float32)), tmp_path / "a.tiff")
    assert set(np.asarray(open_image(path)).ravel().tolist()) == {expected}


def test_a_huge_transparent_image_is_shown_by_strips_as_it_is_whole(tmp_path):
    square = Image.new("RGBA", (4200, 4200), (255, 0, 0, 128))
    square.paste((0, 0, 255, 255), (0, 0, 2100, 4200))
    shown = open_image(save(square, tmp_path / "a.png"), (16, 16))
    assert shown.size == (132, 132)  # a 32nd
    whole = open_image(tmp_path / "a.png").resize((16, 16), Image.Resampling.BOX)
    ours = shown.resize((16, 16), Image.Resampling.BOX)
    assert np.abs(np.asarray(ours, dtype=int) - np.asarray(whole, dtype=int)).max() <= 16


def test_orientation_in_xmp_turns_the_image(tmp_path):
    head = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    )
    turn = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    xmp = head + turn + b"</rdf:RDF></x:xmpmeta>"
    path = save(grey(0, 12, 10), tmp_path / "a.jpg", xmp=xmp)
    assert open_image(path).size == (12, 10)
