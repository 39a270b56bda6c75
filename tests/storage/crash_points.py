"""Not a test: dies at every point of a story, one process each; run by path, from the tests.

    python crash_points.py STORY.py FOLDER

STORY.py defines ``story(folder, point)``, and may define ``prepare(folder)``, which never dies. In
the n-th child the story runs in FOLDER/n and dies, as by ``kill -9``, just before its n-th step: a
change of the file system, or a call of ``point``. The last child lives. Prints, as JSON, what each
child was about to do when it died; null for the one that lived.
"""

import json
import os
import runpy
import sys
from pathlib import Path

STEPS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "open"}


def main(story_path: str, folder: str) -> None:
    module = runpy.run_path(story_path)
    deaths: list[str | None] = []
    while not deaths or deaths[-1] is not None:
        place = Path(folder, str(len(deaths)))
        place.mkdir(parents=True)
        if "prepare" in module:
            module["prepare"](place)
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            run_child(module["story"], place, len(deaths), writing)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            words = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status not in (0, 77):
            sys.exit(f"the story failed in child {len(deaths)}")
        deaths.append(words if status == 77 else None)
    print(json.dumps(deaths))


def run_child(story, place: Path, fatal: int, writing: int) -> None:
    count = 0

    def point(name: str) -> None:
        nonlocal count
        if count == fatal:
            os.write(writing, name.encode())
            os._exit(77)
        count += 1

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
