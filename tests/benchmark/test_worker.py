"""A measuring process answers on its standard output, whatever libraries write there."""

import pytest

from lwrefinenet.benchmark.worker import Worker
from lwrefinenet.errors import RunError

CHATTY = """
from lwrefinenet.benchmark.worker import serve
print("progress 50 %", end="")
def once():
    print("progress 100 %", end="\\r")
    return {"seconds": 1}
serve({"runtime": "none"}, once)
"""


def worker(tmp_path, monkeypatch, text):
    (tmp_path / "measured.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return Worker("measured", [], what="nothing", threads=1)


def test_what_libraries_print_is_no_answer(tmp_path, monkeypatch):
    with worker(tmp_path, monkeypatch, CHATTY) as chatty:
        assert chatty.ready() == {"runtime": "none"}
        assert [chatty.ask(), chatty.ask()] == [{"seconds": 1}] * 2


@pytest.mark.parametrize("ending", ["sys.exit(3)", "serve({}, lambda: sys.exit(3))"])
def test_a_process_that_ends_is_named(tmp_path, monkeypatch, ending):
    text = f"import sys\nfrom lwrefinenet.benchmark.worker import serve\n{ending}\n"
    with (
        worker(tmp_path, monkeypatch, text) as ended,
        pytest.raises(RunError, match="the process that measures nothing ended with 3"),
    ):
        ended.ready()
        ended.ask()
