"""`fedkeras passphrase FILE` writes what server and client take, where nobody else can read it."""

import stat
from pathlib import Path

import pytest

from fedkeras.commands import passphrase
from fedkeras.runtime.passphrase import SHORT, read_passphrase


def test_a_new_passphrase_is_written_once(tmp_path: Path, capsys, caplog, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert passphrase.main(["secret"]) == 0
    secret = read_passphrase("secret")
    assert not caplog.messages
    assert len(secret) == 29 > SHORT and {*secret} <= {*passphrase.ALPHABET, "-"}
    assert stat.S_IMODE(Path("secret").stat().st_mode) == 0o600
    said = capsys.readouterr().out
    assert secret not in said
    assert "--host 0.0.0.0 --passphrase-file secret\n" in said
    assert passphrase.main(["secret"]) == 2
    assert "secret exists and is left as it is: give the name of a new file" in capsys.readouterr().err
    assert read_passphrase("secret") == secret
    assert passphrase.new_passphrase() != passphrase.new_passphrase()


@pytest.mark.parametrize(("path", "reason"), [("missing/secret", "No such file"), ("a\0b", "null"), ("", "No such")])
def test_where_nothing_can_be_written(tmp_path: Path, monkeypatch, capsys, path: str, reason: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert passphrase.main([path]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert reason in line or "exists" in line
