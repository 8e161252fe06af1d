"""Records the runs of `dgtui demo` with the embedded model: PYTHONPATH=. python scripts/record_demo.py"""

from contextlib import closing
from dataclasses import replace

from dgtui.backend import RunHandle
from dgtui.cli.backend import WorkerBackend
from dgtui.config import Settings
from dgtui.diffusion.job import Job, Start
from dgtui.message import Message
from dgtui.steering.between import write_between
from dgtui.steering.drafts import Draft
from dgtui.steering.lengths import LengthSearch
from dgtui.steering.search import Search
from dgtui.sudoku import Puzzle
from dgtui.tui.screens.tour import FOLDER, STOPS
from dgtui.tui.share import record
from dgtui.tui.template import Template
from dgtui.tui.widgets.start_card import TRIES, hold

SMALL = Puzzle((1, 0, 3, 4, 4, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0))
"""The words of the tour leave no room for a large one."""


def submit(backend: WorkerBackend, job: Job) -> RunHandle:
    """A run that nobody watches."""
    return backend.submit(job, lambda *_: None)


def main() -> None:
    with closing(WorkerBackend(Settings())) as backend:
        facts = backend.load("embedded", lambda _: None).result()
        for name, _ in STOPS:
            template = Template(backend)
            hold(name, template, backend, SMALL)
            asked = SMALL.prompt() if name == "sudoku" else TRIES[name].prompt
            prompt = backend.chat([Message("user", asked)])
            draft = Draft(facts, replace(facts.settings, top_k=3))
            job = draft.first(prompt, 7, 256, template.fixed)
            if (canvas := template.canvas()) is not None:
                search = Search(
                    write_between(replace(job, starts=(Start(),)), canvas, facts.model),
                    lambda job: submit(backend, job),
                )
                search.finish()
                length = search.plan.ranked[0].tokens
                again = LengthSearch(replace(job, starts=(Start(),)), canvas, [0], lengths=[length], candidates=1).job()
                assert again is not None
                job = again
            run = submit(backend, job)
            run.ended.result()
            path = FOLDER / f"{name}.dgtui"
            path.unlink(missing_ok=True)
            record(path, run, facts, backend)
            path.chmod(0o644)
            print(name, path.stat().st_size, run.log.finished.steps if run.log.finished else "")


if __name__ == "__main__":
    main()
