"""``notebook/explore.ipynb``: built from a template, executed in the release folder, made repeatable.

Belongs here: cells, the kernel that runs them, and what is stripped from their output. Does not
belong here: writing the file (``archive.py``). The kernel runs this package's own template, never
anything that comes from data, with this Python, on a socket in a private folder, and with settings
of nobody's home folder.
"""

import hashlib
import os
import re
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any, Final

from dataset_pipeline.config import DatasetConfig
from dataset_pipeline.errors import GateError, OutsideWorldError
from dataset_pipeline.tables import RELEASED_ITEMS

TIMEOUT_S: Final = 600
"""For one cell: reading a large release takes a while."""

_SOCKET_PATH_CHARS: Final = 90
"""A longer path of a Unix socket is cut by the system at about 107; the kernel adds a number."""

_HEAD = re.compile(r"# %%(?P<markdown> \[markdown\])?(?: if (?P<condition>\w+))?$")


def executed_notebook(folder: Path, config: DatasetConfig) -> str:
    """The notebook's text, with the output of a run inside ``folder``: a release but for itself.

    The same release gives the same bytes. Raises ``GateError`` where a cell finds that the release
    disagrees with itself, ``OutsideWorldError`` where no kernel can be started.
    """
    import nbformat

    facts = {
        "pictures": _has_pictures(folder),
        "texts": bool(config.text_names),
        "predictions": any((folder / "predictions").glob("*.parquet")),
    }
    notebook = _notebook(config, facts)
    _execute(notebook, folder)
    _make_repeatable(notebook)
    nbformat.validate(notebook)
    text = str(nbformat.writes(notebook, indent=1, sort_keys=True))
    if str(folder.absolute()) in text:
        raise GateError(
            "notebook/explore.ipynb: an output holds the path of the folder it was built in",
            hint="This is a fault of the pipeline: please report it",
        )
    return text if text.endswith("\n") else text + "\n"


def _has_pictures(folder: Path) -> bool:
    import pyarrow.parquet as pq

    shards = sorted((folder / "data").glob("train-*.parquet"))
    return bool(shards) and "image" in pq.read_schema(shards[0]).names


def _notebook(config: DatasetConfig, facts: dict[str, bool]) -> Any:
    """Cells of the template whose condition holds."""
    from nbformat import v4

    template = resources.files("dataset_pipeline").joinpath("templates", "explore.ipynb.txt")
    notebook = v4.new_notebook()
    for number, (head, lines) in enumerate(_cells(template.read_text(encoding="utf-8"))):
        if head["condition"] is not None and not facts[head["condition"]]:
            continue
        source = "\n".join(lines).strip("\n")
        if head["markdown"]:
            source = re.sub(r"(?m)^# ?", "", source).replace("{title}", _one_line(config.display_title))
            cell = v4.new_markdown_cell(source)
        else:
            cell = v4.new_code_cell(source.replace("{columns}", repr(list(RELEASED_ITEMS))))
        # nbformat's own ids are random
        cell["id"] = hashlib.sha256(f"{number}\0{source}".encode()).hexdigest()[:12]
        notebook.cells.append(cell)
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def _cells(template: str) -> list[tuple[dict[str, str | None], list[str]]]:
    """(head, lines) of a script in the percent format."""
    cells: list[tuple[dict[str, str | None], list[str]]] = []
    for line in template.splitlines():
        if match := _HEAD.match(line):
            cells.append((match.groupdict(), []))
        else:
            cells[-1][1].append(line)
    return cells


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("<", "&lt;")


def _execute(notebook: Any, folder: Path) -> None:
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    place = folder / "notebook"
    is_made = not place.exists()
    place.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="nb-") as private:
        manager = AsyncKernelManager(connection_file=os.path.join(private, "kernel.json"))
        # Not the kernel of this name that the user may have installed for another Python.
        manager._kernel_spec = KernelSpec(
            argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            display_name="Python 3",
            language="python",
        )
        socket = os.path.join(private, "socket")
        if os.name == "posix" and len(socket) < _SOCKET_PATH_CHARS:
            manager.transport = "ipc"  # nothing listens on the network
            manager.ip = socket
        client = NotebookClient(
            notebook,
            km=manager,
            timeout=TIMEOUT_S,
            resources={"metadata": {"path": str(place)}},
            store_widget_state=False,
        )
        try:
            client.execute(env=_environment(private), cleanup_kc=True)
        except CellExecutionError as error:
            reason = f"{error.ename}: {error.evalue}".splitlines()[0]
            raise GateError(
                f"notebook/explore.ipynb: {reason}",
                hint="The release disagrees with itself, or a cell is at fault",
            ) from None
        except CellTimeoutError:
            raise OutsideWorldError(f"notebook/explore.ipynb: a cell took more than {TIMEOUT_S} s") from None
        except (DeadKernelError, RuntimeError, OSError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise OutsideWorldError(
                f"notebook/explore.ipynb: the Jupyter kernel ended or did not start: {reason}",
                hint="Check that ipykernel is installed, or set release.notebook to false",
            ) from None
        finally:
            if is_made and not any(place.iterdir()):
                place.rmdir()


def _environment(private: str) -> dict[str, str]:
    """The kernel's environment: this one's, with every place it would leave or find files moved."""
    return {
        **os.environ,
        "IPYTHONDIR": os.path.join(private, "ipython"),
        "JUPYTER_CONFIG_DIR": os.path.join(private, "jupyter"),
        "MPLCONFIGDIR": os.environ.get("MPLCONFIGDIR", os.path.join(private, "matplotlib")),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MATPLOTLIBRC": os.devnull,
        "PYTHONHASHSEED": "0",
        "PYTHONWARNINGS": "ignore",
        "PYTHONDONTWRITEBYTECODE": "1",
        "POLARS_FMT_MAX_ROWS": "20",
        "COLUMNS": "100",
    }


def _make_repeatable(notebook: Any) -> None:
    """Drop times, what went to stderr (font caches, say) and texts that hold addresses in memory."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type != "code":
            continue
        kept: list[Any] = []
        for output in cell.outputs:
            if output.output_type == "stream":
                if output.name == "stderr":
                    continue
                if kept and kept[-1].output_type == "stream":
                    kept[-1].text += output.text  # the kernel sends text in pieces of chance length
                    continue
            if "data" in output and "image/png" in output.data:
                output.data.pop("text/plain", None)
            kept.append(output)
        cell.outputs = kept
