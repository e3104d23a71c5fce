"""Numbers in fewer bits and the largest of them alone: by hand, and what holds for any array."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedkeras.learning.quantisation import Packed
from fedkeras.mods.compression.error_feedback import sparsified
from fedkeras.mods.compression.number_format import pack, unpack
from fedkeras.mods.compression.sparsification import count_of, gaps_of, largest, places_of, spread

numbers = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)
vectors = arrays(np.float32, st.integers(1, 60), elements=numbers)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_int8_by_hand():
    packed = pack(np.array([[127, -127], [1, 0]], "f"), "int8")
    assert packed.data.tolist() == [[127, -127], [1, 0]] and (packed.dtype, packed.scale) == ("int8", 1.0)
    packed = pack(np.array([2.54, 0.4, -0.029], "f"), "int8")
    assert packed.scale == pytest.approx(0.02) and packed.data.tolist() == [127, 20, -1]
    assert unpack(packed) == pytest.approx([2.54, 0.4, -0.02]) and unpack(packed).dtype == np.float32
    assert unpack(pack(np.zeros((2, 3), "f"), "int8", rng())).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert unpack(pack(np.zeros((0, 3), "f"), "int8")).shape == (0, 3)


def test_a_number_between_two_levels_goes_up_as_often_as_it_is_near_the_upper_one():
    array = np.full(20_001, 0.3, "f")
    array[0] = 127
    levels = pack(array, "int8", rng()).data[1:]
    assert set(levels.tolist()) == {0, 1}
    assert np.mean(levels) == pytest.approx(0.3, abs=5 * np.sqrt(0.3 * 0.7 / 20_000)), "five deviations"


@given(vectors, st.integers(0, 2**32))
def test_int8_is_wrong_by_less_than_a_step_and_the_largest_by_nothing(array, seed):
    top = float(np.abs(array).max())
    nearest, chance = pack(array, "int8"), pack(array, "int8", rng(seed))
    rounding = top * 2**-22
    assert np.abs(unpack(nearest).astype("d") - array).max() <= top / 127 / 2 + rounding
    assert np.abs(unpack(chance).astype("d") - array).max() <= top / 127 + rounding
    assert np.abs(unpack(nearest)).max() == pytest.approx(top, rel=1e-6)


@given(arrays(np.int8, 40, elements=st.integers(-127, 127)), st.integers(-60, 60), st.integers(0, 2**32))
def test_what_int8_can_say_exactly_it_does_whatever_chance_says(levels, exponent, seed):
    levels[0] = 127
    array = np.ldexp(levels.astype("f"), exponent)
    assert unpack(pack(array, "int8", rng(seed))).tolist() == array.tolist()


@given(vectors, st.sampled_from(["float32", "float16", "bfloat16"]))
def test_the_other_formats_keep_their_bits(array, number_format):
    kept = {"float32": 0.0, "float16": 2**-11, "bfloat16": 2**-8}[number_format]
    smallest = float(np.abs(array).max()) * 2**-37  # below, float16 has fewer bits
    np.testing.assert_allclose(unpack(pack(array, number_format)), array, rtol=kept, atol=smallest)


@pytest.mark.parametrize("number_format", ["float32", "float16", "bfloat16", "int8"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_not_sent(number_format, bad):
    with pytest.raises(ValueError, match="diverged"):
        pack(np.array([1, bad, 2], "f"), number_format, rng())


@pytest.mark.parametrize(
    "packed",
    [
        Packed(np.ones(3, np.int8), "int8", float("nan")),
        Packed(np.ones(3, np.int8), "int8", float("inf")),
        Packed(np.ones(3, np.int8), "int8", -1.0),
        Packed(np.ones(3, np.int8), "int8", 1),
        Packed(np.ones(3, np.int8), "int8", "1"),
        Packed(np.full(3, 127, np.int8), "int8", 3e38),
        Packed(np.ones(3, np.float16), "float16", 1e300),
        Packed(np.full(3, 6e4, np.float16), "float16", 3e38),
        Packed(np.ones(3, np.uint8), "int8", 1.0),
        Packed(np.ones(3, np.float32), "int8", 1.0),
        Packed(np.ones(3, np.int8), "int4", 1.0),
        Packed(np.full(3, 0x7F80, np.uint16), "bfloat16", 1.0),  # infinity
    ],
)
def test_a_scale_or_data_that_no_client_makes_is_refused_without_a_warning(packed):
    with pytest.raises(ValueError, match=r"came|arrived"):
        unpack(packed)


# The largest numbers


def test_the_largest_by_hand():
    array = np.array([1, -5, 0, 3, 5, -3], "f")
    assert largest(array, 1).tolist() == [1], "of equal ones the first"
    assert largest(array, 2).tolist() == [1, 4] and largest(array, 3).tolist() == [1, 3, 4]
    assert (count_of(0.01, 250), count_of(0.01, 10), count_of(0.5, 5)) == (2, 1, 2)
    assert gaps_of(np.array([0, 1, 5, 70_000])).tolist() == [0, 0, 3, 69_994]
    assert gaps_of(np.array([0, 65_536])).dtype == np.uint16 and gaps_of(np.array([65_536])).dtype == np.uint32
    assert spread(np.array([7, 8], "f"), np.array([1, 3]), 5).tolist() == [0, 7, 0, 8, 0]


@given(vectors, st.data())
def test_none_that_is_left_out_is_larger_than_one_that_is_sent(array, data):
    count = data.draw(st.integers(1, len(array)))
    places = largest(array, count)
    assert len(places) == len(set(places.tolist())) == count and (np.diff(places) > 0).all()
    left = np.delete(np.abs(array), places)
    assert not len(left) or left.max() <= np.abs(array[places]).min()


@given(st.sets(st.integers(0, 200_000), min_size=1, max_size=40))
def test_places_come_back_from_their_gaps(places):
    ascending = np.array(sorted(places))
    assert places_of(gaps_of(ascending), 200_001).tolist() == ascending.tolist()


@pytest.mark.parametrize(
    "gaps",
    [np.array([5], np.uint16), np.array([0, 4], np.uint16), np.array([2**32 - 1] * 3, np.uint32), np.array([-1, 0])],
)
def test_places_outside_of_an_array_are_refused(gaps):
    with pytest.raises(ValueError, match="came"):
        places_of(gaps, 5)


@given(vectors, st.sampled_from([0.01, 0.1, 0.5]))
def test_what_is_sent_and_what_is_kept_are_the_update_to_the_bit(array, share):
    (values, gaps), rest = sparsified(array, share, "float32", rng())
    sent = spread(unpack(values), places_of(gaps, array.size), array.size)
    assert (sent + rest).tolist() == array.tolist()
    assert np.count_nonzero(sent) <= count_of(share, array.size) and not (sent * rest).any()


@given(vectors, st.sampled_from(["float16", "bfloat16", "int8"]))
def test_the_rounding_of_what_is_sent_is_kept_too(array, number_format):
    (values, gaps), rest = sparsified(array, 0.5, number_format, rng())
    sent = spread(unpack(values), places_of(gaps, array.size), array.size)
    np.testing.assert_allclose(sent.astype("d") + rest, array, rtol=2**-23, atol=np.abs(array).max() * 2**-24)
