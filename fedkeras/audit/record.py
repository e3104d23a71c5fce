"""audit.json: what the attacks on a run have found, in the run's folder or in that of --out."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from fedkeras.atomic import replace_file
from fedkeras.audit.finding import Finding, of_json
from fedkeras.errors import UserError
from fedkeras.reports.run_folder import Json

NAME = "audit.json"


def write(folder: Path, run: Path, findings: Sequence[Finding]) -> Path:
    """Write the file in one step; its path. Raises UserError if the disk refuses."""
    table = {"run": str(run), "findings": [_plain(finding.to_json()) for finding in findings]}
    path = folder / NAME
    replace_file(path, f"{json.dumps(table, indent=1, allow_nan=False)}\n".encode())
    return path


def read(folder: Path) -> list[Finding]:
    """The findings in a folder; none where nothing was audited. Raises UserError for a damaged file."""
    path = folder / NAME
    try:
        return [of_json(finding) for finding in json.loads(path.read_text())["findings"]]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read: {error}; `fedkeras audit` writes it anew") from error


def _plain(value: Json) -> Json:
    """JSON knows neither NaN nor infinity."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
