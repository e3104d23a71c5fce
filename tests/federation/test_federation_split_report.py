"""The page of a real run of split learning: where the model was cut, and the bytes that its history counts."""

import json
import math
import re

import pytest

from fedkeras import client, server
from fedkeras.config import Config
from fedkeras.errors import UserError
from fedkeras.reports import RunFolder, read_rows
from fedkeras.workflows.split import report


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fedkeras.learning.limit_threads", lambda n: None)
        config = Config(
            split="shared", split_dtype="float16", num_server_rounds=1, num_partitions=2, batch_size=100,
            central_evaluation=False, checkpoint_every=0,
        )  # fmt: skip
        return server.in_process(config, client.app, tmp_path_factory.mktemp("runs"))


def test_the_parts_are_the_models(folder):
    import keras

    parts = json.loads((folder.path / "split.json").read_text())["parts"]
    whole = keras.models.load_model(folder.model_path)
    names = [layer for part in parts.values() for layer in part["layers"]]
    # Keras counts the layers of a process: conv2d_3 here is conv2d there
    assert [re.sub(r"_\d+$", "", name) for name in names] == [re.sub(r"_\d+$", "", each.name) for each in whole.layers]
    assert sum(part["weights"] for part in parts.values()) == whole.count_params()
    assert parts["head"]["input"] == [8, 8, 1] and parts["tail"]["output"] == [10]
    assert parts["head"]["output"] == parts["body"]["input"] and parts["body"]["output"] == parts["tail"]["input"]


def test_the_picture_and_the_table_say_what_travels(folder):
    text = folder.report_path.read_text()
    parts = json.loads((folder.path / "split.json").read_text())["parts"]
    width = math.prod(parts["head"]["output"])
    assert (
        f">100 × {report.shape_of(parts['head']['output'])}<" in text
        and f"float16, {report.size(100 * width * 2)} a batch" in text
    )
    assert "Where the model is cut" in text and "examples and labels stay here" in text
    for name, part in parts.items():
        assert f"{name}: {', '.join(part['layers'])}; {part['weights']:,} weights" in text
    [table] = re.findall(r"training: up.*?</table>", text, re.DOTALL)
    cells = re.findall(r"<td>([^<]*)</td>", table)
    rows = {row["phase"]: row for row in read_rows(folder.history_path) if row["client"] == "all"}
    counts = [rows[phase][f"bytes_{way}"] for phase in ("train", "evaluate") for way in ("up", "down")]
    assert cells == [*map(report.size, counts), report.size(sum(counts))] and min(counts) > 0


def test_sizes_by_hand():
    said = [report.size(count) for count in (None, 0, 999, 1000, 32_768, 1_500_000, 2.5e12)]
    assert said == ["–", "0 B", "999 B", "1.0 kB", "32.8 kB", "1.5 MB", "2500.0 GB"]


def test_a_damaged_file_is_a_line_and_none_is_no_section(tmp_path):
    folder = RunFolder(tmp_path)
    assert report.sections(folder) == []
    (tmp_path / "split.json").write_text('{"dtype": "float32", "batch_size": 1, "parts": {"head": {}}}')
    with pytest.raises(UserError, match=r"split\.json is damaged"):
        report.sections(folder)
