"""Numbers for the way: what each format keeps, and what is noticed."""

import ml_dtypes
import numpy as np
import pytest

from fedkeras.learning.quantisation import Packed, from_wire, to_wire

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("dtype", "error"), [("float32", 0.0), ("float16", 2**-11), ("bfloat16", 2**-8)])
@pytest.mark.parametrize("size", [1.0, 1e-9, 1e7])
def test_each_format_keeps_its_bits_at_any_size(dtype, error, size):
    array = (RNG.uniform(0.1, 1.0, (5, 3, 2)) * RNG.choice([-1, 1], (5, 3, 2)) * size).astype("float32")
    packed = to_wire(array, dtype)
    assert packed.data.nbytes == array.nbytes // (1 if dtype == "float32" else 2)
    assert packed.data.shape == array.shape
    back = from_wire(packed)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, array, rtol=error, atol=0)
    assert (error == 0.0) == np.array_equal(back, array)


def test_the_formats_themselves():
    assert to_wire(np.array([1.0, -2.5], "f"), "bfloat16").data.tolist() == [0x3F80, 0xC020]
    packed = to_wire(np.array([3e5, 1.0], "f"), "float16")  # beyond float16's 65504 without the scale
    assert (packed.data.dtype, packed.scale) == (np.float16, 32.0)  # 3e5 < 2**19, and below 2**14 then
    assert from_wire(packed).tolist() == [300032.0, 1.0]
    assert from_wire(to_wire(np.zeros((0, 3), "f"), "float16")).shape == (0, 3)
    assert from_wire(to_wire(np.zeros(3, "f"), "float16")).tolist() == [0, 0, 0]
    assert from_wire(to_wire(np.ones(3, ml_dtypes.bfloat16), "float16")).tolist() == [1, 1, 1]


def test_extremes_of_float32_go_by_float16():
    array = np.array([3e38, -1e38], "float32")
    np.testing.assert_allclose(from_wire(to_wire(array, "float16")), array, rtol=2**-11)
    tiny = np.array([1e-42, 0.0], "float32")
    assert from_wire(to_wire(tiny, "float16"))[1] == 0


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_has_diverged_is_not_sent(dtype, bad):
    with pytest.raises(ValueError, match="diverged; lower --learning-rate"):
        to_wire(np.array([[1.0, bad, 2.0]]), dtype)


def test_what_overflows_or_lies_is_noticed():
    with pytest.raises(ValueError, match="beyond bfloat16"):
        to_wire(np.array([3.4e38], "f"), "bfloat16")
    with pytest.raises(ValueError, match="not 'float8'"):
        to_wire(np.ones(2), "float8")
    for packed, reason in [
        (Packed(np.ones(2, "f"), "float16", 1.0), "float32 came as 'float16'"),
        (Packed(np.ones(2, "f"), "int8", 1.0), "came as 'int8'"),
        (Packed(np.ones(2, np.float16), "float16", float("nan")), "scale nan"),
        (Packed(np.array([1, np.inf], np.float16), "float16", 1.0), "have arrived"),
        (Packed(np.array([0x7FC0], np.uint16), "bfloat16", 1.0), "have arrived"),
    ]:
        with pytest.raises(ValueError, match=reason):
            from_wire(packed)
