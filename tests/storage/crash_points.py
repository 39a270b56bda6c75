"""Not a test: dies at every point of a story, one process each; run by path, from the tests.

    python crash_points.py STORY.py FOLDER [POINT ...]

STORY.py defines ``story(folder, point)``, and may define ``prepare(folder)``, which never dies. In
the n-th child the story runs in FOLDER/n and dies, as by ``kill -9``, just before its n-th step: a
change of the file system, or a call of ``point``. The last child lives. Prints, as JSON, what each
child was about to do when it died; null for the one that lived.

With POINTs there is a child for each instead, which dies at the first step that the POINT, a regular
expression, is found in; at ``A then B`` it dies at the first B from the first A on.
"""

import itertools
import json
import os
import re
import runpy
import sys
from pathlib import Path

STEPS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "open"}


def main(story_path: str, folder: str, *points: str) -> None:
    module = runpy.run_path(story_path)
    deaths: list[str | None] = []
    while len(deaths) < len(points) if points else not deaths or deaths[-1] is not None:
        place = Path(folder, str(len(deaths)))
        place.mkdir(parents=True)
        if "prepare" in module:
            module["prepare"](place)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            fatal = named(points[len(deaths)]) if points else nth(len(deaths))
            run_child(module["story"], place, fatal, writing)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            words = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status not in (0, 77):
            sys.exit(f"the story failed in child {len(deaths)}")
        deaths.append(words if status == 77 else None)
    print(json.dumps(deaths))


def nth(number: int):
    steps = itertools.count()
    return lambda name: next(steps) == number


def named(point: str):
    patterns = point.split(" then ")

    def fatal(name: str) -> bool:
        if re.search(patterns[0], name) is None:
            return False
        return len(patterns) == 1 or patterns.pop(0) is None

    return fatal


def run_child(story, place: Path, fatal, writing: int) -> None:
    def point(name: str) -> None:
        if fatal(name):
            os.write(writing, name.encode())
            os._exit(77)

    def hook(event: str, args) -> None:
        if event not in STEPS or not str(args[0]).startswith(str(place)):
            return
        if event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        point(f"{event} {args[0]}")

    try:
        sys.addaudithook(hook)
        story(place, point)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
