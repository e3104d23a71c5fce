"""`python notebooks/execute.py [NOTEBOOK ...]`: run the notebooks in place, at full size, and keep what they print.

Each runs in a fresh kernel of this Python, in its own folder, with FULL=1 (`--small` leaves it out); the modules beside
the notebooks are found from any folder. Kept is what a
reader wants to see: text, tables, figures. Taken out is what belongs to this machine: its paths, the metadata of the
editor, and what was written to stderr, which is shown here instead.
"""

import argparse
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).resolve().parent
KEPT = ("tags", "jupyter")
"""What is kept of a cell's metadata: tags, and that a solution is folded."""
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class ThisPython(KernelSpecManager):
    """Any kernel asked for is the Python that runs now, whatever kernels are installed on the machine."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        # its log without warnings: each kernel would say that it talks to us on this machine unencrypted
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=40"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


def run(notebook: nbformat.NotebookNode, folder: Path, env: Mapping[str, str], seconds: float) -> None:
    """Run all cells in a fresh kernel that works in `folder` with the environment `env`; outputs replace the old ones.

    Raises nbclient's CellExecutionError for a cell that fails, and TimeoutError when the whole takes over `seconds`.
    """
    deadline = time.monotonic() + seconds
    client = NotebookClient(
        notebook,
        km=AsyncKernelManager(kernel_name="python3", kernel_spec_manager=ThisPython()),
        timeout_func=lambda cell: max(1, deadline - time.monotonic()),
        record_timing=False,
        coalesce_streams=True,
    )
    path = os.pathsep.join(filter(None, [str(FOLDER), env.get("PYTHONPATH")]))
    client.execute(cwd=str(folder), env={**env, "PYTHONPATH": path}, cleanup_kc=True)


def clean(notebook: nbformat.NotebookNode) -> list[str]:
    """Take out of an executed notebook what belongs to this machine; returns the text that went to stderr."""
    notebook.metadata = nbformat.from_dict(METADATA)
    stderr = []
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({key: cell.metadata[key] for key in KEPT if key in cell.metadata})
        if cell.cell_type != "code":
            continue
        kept = []
        for output in cell.outputs:
            if output.output_type == "stream" and output.name == "stderr":
                stderr.append(output.text)
                continue
            if output.output_type == "stream":
                output.text = _without_paths(output.text)
            for kind, value in output.get("data", {}).items():
                if kind.startswith("text/"):
                    output.data[kind] = _without_paths(value)
            kept.append(output)
        cell.outputs = kept
    return stderr


def _without_paths(text: str) -> str:
    for path, name in ((FOLDER, "."), (FOLDER.parent, "."), (Path.home(), "~")):
        text = text.replace(str(path), name)
    return text


def main() -> int:
    """Run and keep the notebooks named, or all; the exit status is 1 if one of them failed."""
    parser = argparse.ArgumentParser(description="Run notebooks in place and keep their outputs.")
    parser.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help="files; all in this folder if none is named")
    parser.add_argument("--small", action="store_true", help="the small settings, as in the tests; nothing is kept")
    parser.add_argument("--seconds", type=float, default=3600, help="longest time for one notebook (default: 3600)")
    flags = parser.parse_args()
    paths = [Path(name).resolve() for name in flags.notebooks] or sorted(FOLDER.glob("*.ipynb"))
    if missing := [str(path) for path in paths if not path.is_file()]:
        parser.error(f"there is no notebook {', '.join(missing)}")
    if not flags.small and "FEDKERAS_DATA" not in os.environ:
        parser.error("FEDKERAS_DATA is not set: without the data sets the output would come from stand-ins")
    env = {**os.environ, "FULL": "0" if flags.small else "1", "FLWR_TELEMETRY_ENABLED": "0"}
    return max(_run_and_keep(path, env, flags.seconds, keep=not flags.small) for path in paths)


def _run_and_keep(path: Path, env: Mapping[str, str], seconds: float, keep: bool) -> int:
    notebook = nbformat.read(path, as_version=4)
    started = time.perf_counter()
    try:
        run(notebook, path.parent, env, seconds)
    except (CellExecutionError, TimeoutError) as error:
        print(f"{path.name}: {error or f'stopped after {seconds:.0f} s'}", file=sys.stderr)
        return 1
    for text in clean(notebook):
        print(f"{path.name} wrote to stderr, which is not kept:\n{text}", file=sys.stderr)
    if keep:
        nbformat.write(notebook, path)
    print(f"{path.name}: {time.perf_counter() - started:.0f} s" + (", kept" if keep else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
