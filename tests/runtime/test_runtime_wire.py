"""Messages survive the wire, and bytes that are no message do no harm."""

import contextlib
import itertools
import math
import tracemalloc

import numpy as np
import pytest
import xxhash
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, Metadata, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedkeras.runtime import wire
from fedkeras.runtime.content import MADE_AT_ONCE
from fedkeras.runtime.federation_pb2 import (
    ArrayInfo,
    Arrays,
    Frame,
    Goodbye,
    Header,
    HeaderPart,
    Hello,
    Record,
    Welcome,
)
from fedkeras.runtime.wire import Assembler

RUN, SERVER, NODE = 7, 1, 5


def message_of(content: RecordDict | Error) -> Message:
    metadata = Metadata(RUN, "an-id", SERVER, NODE, "another-id", "round 3", 1234.5, 60.0, "train.own_action")
    return Message(content, metadata=metadata)


CHUNK_BYTES = wire.TO_SERVER.chunk_bytes


def sent(message: Message, cid: int = 4, direction: wire.Direction = wire.TO_SERVER) -> list[bytes]:
    """The message as the bytes of its frames."""
    return [wire.serialise(frame) for frame in wire.frames(*wire.encode(message, cid), direction)]


def received(frames: list[bytes], direction: wire.Direction = wire.TO_SERVER) -> list[Message]:
    """The messages in these frames."""
    assembler = Assembler(direction)
    complete = filter(None, (assembler.add(wire.parse(frame)) for frame in frames))
    return [wire.decode(header, pieces, RUN, SERVER, NODE) for header, pieces in complete]


names = st.text(max_size=12)
dtypes = st.one_of(
    hnp.boolean_dtypes(), hnp.integer_dtypes(), hnp.unsigned_integer_dtypes(), hnp.floating_dtypes(),
    hnp.complex_number_dtypes(), hnp.byte_string_dtypes(max_len=5), hnp.unicode_string_dtypes(max_len=5),
)  # fmt: skip
shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
numpy_arrays = st.builds(
    lambda array, order: np.asarray(array, order=order), hnp.arrays(dtypes, shapes), st.sampled_from("CF")
)
integers = st.integers(-(2**63), 2**63 - 1)
numbers = [integers, st.floats(), st.floats(width=32).map(np.float64)]
scalars = [*numbers, st.booleans(), names, st.binary(max_size=20)]


def values(kinds: list) -> st.SearchStrategy:
    return st.dictionaries(names, st.one_of(*kinds, *(st.lists(kind, max_size=4) for kind in kinds)), max_size=4)


records = st.one_of(
    st.dictionaries(names, numpy_arrays.map(Array), max_size=4).map(ArrayRecord),
    values(numbers).map(MetricRecord),
    values(scalars).map(ConfigRecord),
)
contents = st.dictionaries(names, records, max_size=4).map(RecordDict)


def plain(content: RecordDict) -> list:
    """Everything in a content, in its order, so that == compares it all: types too, and NaN equals itself."""
    return [
        (name, type(record).__name__, [(key, repr_of(value)) for key, value in record.items()])
        for name, record in content.items()
    ]


def repr_of(value: object) -> object:
    if isinstance(value, Array):
        return value.dtype, value.shape, value.stype, value.data
    if isinstance(value, list):
        return [repr_of(item) for item in value]
    kind = next(kind for kind in (bool, int, float, str, bytes) if isinstance(value, kind))
    return kind.__name__, repr(kind(value))


@given(contents)
@settings(max_examples=200, deadline=None)
def test_any_content_survives(content: RecordDict) -> None:
    (arrived,) = received(sent(message_of(content)))
    assert plain(arrived.content) == plain(content)
    assert arrived.metadata.__dict__.items() >= {
        "_run_id": RUN, "_message_id": "an-id", "_reply_to_message_id": "another-id", "_group_id": "round 3",
        "_created_at": 1234.5, "_ttl": 60.0, "_message_type": "train.own_action",
    }.items()  # fmt: skip


@given(numpy_arrays)
@settings(deadline=None)
def test_numpy_gets_its_array_back(array: np.ndarray) -> None:
    (arrived,) = received(sent(message_of(RecordDict({"a": ArrayRecord({"w": Array(array)})}))))
    back = arrived.content["a"]["w"].numpy()
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())


@pytest.mark.parametrize("size", [CHUNK_BYTES + d for d in (-129, -128, -127, 0, 1)] + [3 * CHUNK_BYTES])
def test_arrays_around_and_beyond_a_chunk(size: int) -> None:
    """The .npy header is 128 bytes, so that these end before, at and behind the edge of a chunk."""
    content = RecordDict({
        "a": ArrayRecord({"w": Array(np.arange(size, dtype=np.uint8)), "b": Array(np.array(1.5))}),
        "b": ArrayRecord({"v": Array(np.arange(size, dtype=np.uint8)[::-1])}),
    })  # fmt: skip
    total = sum(len(array.data) for record in content.values() for array in record.values())
    for direction in (wire.TO_SERVER, wire.TO_CLIENT):
        frames = sent(message_of(content), direction=direction)
        assert max(map(len, frames)) <= direction.max_frame_bytes
        assert len(frames) == 1 + math.ceil(total / direction.chunk_bytes)
        (arrived,) = received(frames, direction)
        assert plain(arrived.content) == plain(content)


@pytest.mark.parametrize("size", [CHUNK_BYTES - 200, CHUNK_BYTES, 3 * CHUNK_BYTES, wire.MAX_HEADER_BYTES - 500])
def test_a_header_larger_than_a_frame_travels_in_parts(size: int) -> None:
    """A model with very many arrays; names and values, which are no arrays, may be as large."""
    blob = ConfigRecord({"blob": np.random.default_rng(0).bytes(size)})
    content = RecordDict({"c": blob, "a": ArrayRecord({"w": Array(np.arange(9))})})
    for direction in (wire.TO_SERVER, wire.TO_CLIENT):
        frames = sent(message_of(content), direction=direction) * 2
        assert max(map(len, frames)) <= direction.max_frame_bytes
        first, second = received(frames, direction)
        assert plain(first.content) == plain(second.content) == plain(content)


def part(size: int, last: bool = False) -> Frame:
    return Frame(header_part=HeaderPart(data=bytes(size), last=last))


@pytest.mark.parametrize(
    ("frames", "fault"),
    [
        ([part(10, last=True)], "another size"),
        ([part(CHUNK_BYTES - 1)], "another size"),
        ([part(CHUNK_BYTES), part(7)], "another size"),
        ([part(CHUNK_BYTES)] * 11, "more than 4194304 bytes"),
        ([part(CHUNK_BYTES), part(1, last=True)], "is none"),
        ([part(CHUNK_BYTES), memoryview(b"abc")], "belongs to no message"),
        ([part(CHUNK_BYTES), Frame(header=Header())], "before the last one was complete"),
    ],
)
def test_parts_that_are_no_header_are_refused(frames: list, fault: str) -> None:
    assembler = Assembler(wire.TO_SERVER)
    with pytest.raises(wire.WireError, match=fault):
        for frame in frames:
            assert assembler.add(frame) is None
            assert assembler.midway, "its rest is waited for as the rest of any message is: not for ever"


def test_many_tiny_arrays_share_a_chunk() -> None:
    content = RecordDict({"a": ArrayRecord({f"w{i}": Array(np.full(2, i)) for i in range(2000)})})
    frames = sent(message_of(content))
    assert len(frames) == 2
    assert plain(received(frames)[0].content) == plain(content)


def test_messages_follow_each_other_on_one_stream() -> None:
    contents = [RecordDict({"a": ArrayRecord({"w": Array(np.full(n, n))})}) for n in (0, 1, 300_000)]
    frames = list(itertools.chain.from_iterable(sent(message_of(content)) for content in contents))
    assert [plain(arrived.content) for arrived in received(frames)] == [plain(content) for content in contents]


def test_an_error_survives() -> None:
    (arrived,) = received(sent(message_of(Error(206, "out of cheese"))))
    assert arrived.has_error()
    assert (arrived.error.code, arrived.error.reason) == (206, "out of cheese")


@pytest.mark.parametrize("number", [1 << 63, -(1 << 63) - 1])
def test_an_integer_beyond_64_bits_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="range"):
        wire.encode(message_of(RecordDict({"m": MetricRecord({"n": number})})), 0)


def test_a_header_beyond_the_limit_is_refused() -> None:
    blob = ConfigRecord({"blob": bytes(wire.MAX_HEADER_BYTES)})
    with pytest.raises(ValueError, match="put large values into an ArrayRecord"):
        wire.encode(message_of(RecordDict({"c": blob})), 0)


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=6))
def test_a_chunk_has_protobufs_own_bytes(pieces: list[bytes]) -> None:
    ours = wire.serialise([memoryview(piece) for piece in pieces])
    assert ours == Frame(chunk=b"".join(pieces)).SerializeToString()
    assert wire.parse(ours) == b"".join(pieces)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16383, 16384, CHUNK_BYTES - 1, CHUNK_BYTES])
def test_a_chunk_of_any_length_has_protobufs_own_bytes(size: int) -> None:
    data = np.random.default_rng(0).bytes(size)
    ours = wire.serialise([memoryview(data)])
    assert ours == Frame(chunk=data).SerializeToString()
    assert Frame.FromString(ours).chunk == data
    assert wire.parse(Frame(chunk=data).SerializeToString()) == data


@pytest.mark.parametrize(
    "frame", [Frame(hello=Hello(protocol=3)), Frame(welcome=Welcome(run_id=4)), Frame(goodbye=Goodbye(reason="no"))]
)
def test_other_frames_survive(frame: Frame) -> None:
    assert wire.parse(wire.serialise(frame)) == frame


def harmless(frames: list[bytes]) -> None:
    """Either messages or WireError come of these frames; any other exception fails the test."""
    try:
        for message in received(frames):
            assert message.has_error() or plain(message.content) is not None
    except wire.WireError as error:
        assert str(error)


SAMPLE = RecordDict({
    "arrays": ArrayRecord({"w": Array(np.arange(6.0).reshape(2, 3)), "b": Array(np.zeros(0))}),
    "metrics": MetricRecord({"n": 3, "loss": [0.5, 1.5]}),
    "config": ConfigRecord({"s": "text", "b": True, "x": b"1", "e": []}),
})  # fmt: skip


@given(st.lists(st.binary(max_size=100), max_size=5))
@settings(max_examples=300, deadline=None)
def test_random_bytes_do_no_harm(frames: list[bytes]) -> None:
    harmless(frames)
    harmless(sent(message_of(SAMPLE))[:1] + frames)


@given(st.data())
@settings(max_examples=500, deadline=None)
def test_broken_messages_do_no_harm(data: st.DataObject) -> None:
    """Bytes changed, left out and put in; frames lost, doubled and exchanged."""
    frames = [bytearray(frame) for frame in sent(message_of(SAMPLE)) + sent(message_of(Error(1, "x")))]
    for _ in range(data.draw(st.integers(1, 4))):
        frame = frames[data.draw(st.integers(0, len(frames) - 1))]
        place = data.draw(st.integers(0, max(0, len(frame) - 1)))
        how = data.draw(st.sampled_from(["change", "cut", "insert"]))
        frame[place : place + (how != "insert")] = b"" if how == "cut" else bytes([data.draw(st.integers(0, 255))])
    order = data.draw(st.lists(st.integers(0, len(frames) - 1), max_size=5))
    harmless([bytes(frames[index]) for index in order or range(len(frames))])


fuzzy_headers = st.builds(
    Header,
    message_id=names,
    message_type=st.sampled_from(["train", "query.x", "", "nonsense", "train.1", "evaluate"]),
    ttl=st.floats(),
    created_at=st.floats(),
    payload_bytes=st.integers(0, 30),
    records=st.lists(
        st.one_of(
            st.builds(Record, name=names),
            st.builds(
                lambda n, shape, kind, name: Record(
                    arrays={"arrays": [{"name": name, "num_bytes": n, "shape": shape, "dtype": kind, "stype": kind}]}
                ),
                st.integers(0, 30),
                st.lists(st.integers(0, 2**64 - 1), max_size=3),
                names,
                names,
            ),
            st.builds(
                lambda key, kind, many, ints, texts: Record(
                    **{key: {"values": [{"type": kind, "is_list": many, "integers": ints, "strings": texts}]}}
                ),
                st.sampled_from(["metrics", "config"]),
                st.integers(-3, 9),
                st.booleans(),
                st.lists(integers, max_size=2),
                st.lists(names, max_size=2),
            ),
        ),
        max_size=3,
    ),
)


@given(fuzzy_headers, st.lists(st.integers(0, 30), max_size=3))
@settings(max_examples=500, deadline=None)
def test_well_formed_nonsense_does_no_harm(header: Header, sizes: list[int]) -> None:
    """Headers that parse, and do not mean anything."""
    harmless([wire.serialise(Frame(header=header)), *(wire.serialise([memoryview(bytes(n))]) for n in sizes)])


def header_for(*sizes: int, payload: int | None = None) -> Frame:
    arrays = [{"name": str(i), "num_bytes": size, "dtype": "f", "stype": "x"} for i, size in enumerate(sizes)]
    total = sum(sizes) if payload is None else payload
    record = Record(name="a", arrays={"arrays": arrays})
    return Frame(header=Header(message_type="train", records=[record], payload_bytes=total))


@pytest.mark.parametrize(
    ("frames", "fault"),
    [
        ([memoryview(b"abc")], "belongs to no message"),
        ([header_for(4), memoryview(b"abcde")], "belongs to no message"),
        ([header_for(4), memoryview(b"ab"), memoryview(b"cd")], "belongs to no message"),
        ([header_for(4), memoryview(b"abcd")], "not those that its digest was taken of"),
        ([header_for(1 << 31)], "a message of 2147483648 bytes; at most 1073741824 are taken"),
        ([header_for(4), memoryview(b"")], "belongs to no message"),
        ([header_for(4), header_for(4)], "before the last one was complete"),
        ([header_for(4, 4, payload=7)], "do not add up"),
        ([header_for(4, payload=0)], "do not add up"),
        ([Frame(header=Header(payload_bytes=9))], "do not add up"),
        ([Frame()], "no frame at all"),
        ([wire.parse(b"\xff\xff\xff")], "no frame at all"),
        ([Frame(hello=Hello())], "hello"),
        ([header_for(4), Frame(goodbye=Goodbye())], "goodbye"),
    ],
)
def test_frames_that_make_no_sense_are_refused(frames: list, fault: str) -> None:
    assembler = Assembler(wire.TO_SERVER)
    with pytest.raises(wire.WireError, match=fault):
        for frame in frames:
            assembler.add(frame)


def test_a_promise_of_bytes_takes_no_memory() -> None:
    """A header may announce what it likes: only bytes that came are held."""
    tracemalloc.start()
    try:
        assembler = Assembler(wire.TO_SERVER)
        assert assembler.add(header_for(1 << 30)) is None
        assert wire.parse(b"\x2a\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(10)) == Frame()
        assert tracemalloc.get_traced_memory()[1] < 100_000
        assert assembler.add(wire.parse(Frame(chunk=bytes(CHUNK_BYTES)).SerializeToString())) is None
        assert tracemalloc.get_traced_memory()[1] < 4 * CHUNK_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [5_000_000, MADE_AT_ONCE + 1])
def test_a_payload_is_in_memory_once(size: int) -> None:
    """Not in pieces and as a whole: of the pieces one at a time, and of a large array what it grows by."""
    assembler, chunk = Assembler(wire.TO_SERVER), bytes(CHUNK_BYTES)
    assembler.add(header_for(size))
    tracemalloc.start()
    try:
        for start in range(0, size, CHUNK_BYTES):
            with contextlib.suppress(wire.WireError):  # the last one's: the header has no digest
                assembler.add(memoryview(chunk)[: size - start])
        assert size <= tracemalloc.get_traced_memory()[1] < 1.13 * size + CHUNK_BYTES
    finally:
        tracemalloc.stop()


def test_a_header_may_refer_to_the_last_payload_on_a_nodes_side_only() -> None:
    digest = xxhash.xxh3_128(b"abc").digest()
    sent = [Frame(header=Header(payload_bytes=3, records=[array_record(3)], digest=digest)), memoryview(b"abc")]
    again = Frame(header=Header(payload_bytes=3, records=[array_record(3)], digest=digest, same_payload=True))
    node = Assembler(wire.TO_CLIENT)
    assert [node.add(frame) is not None for frame in sent] == [False, True]
    assert [bytes(piece) for piece in node.add(again)[1]] == [b"abc"]
    with pytest.raises(wire.WireError, match="not there"):
        node.add(Frame(header=Header(payload_bytes=2, records=[array_record(2)], digest=digest, same_payload=True)))
    with pytest.raises(wire.WireError, match="not there"):
        other = xxhash.xxh3_128(b"abd").digest()
        Assembler(wire.TO_CLIENT).add(Frame(header=Header(digest=other, same_payload=True)))
    server = Assembler(wire.TO_SERVER)
    assert [server.add(frame) is not None for frame in sent] == [False, True]
    with pytest.raises(wire.WireError, match="not there"):
        server.add(again)


def array_record(num_bytes: int) -> Record:
    return Record(name="arrays", arrays=Arrays(arrays=[ArrayInfo(name="w", num_bytes=num_bytes)]))
