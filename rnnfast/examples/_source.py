"""Text that is on every machine: the source of Python's own standard library."""

from __future__ import annotations

import sysconfig
from pathlib import Path

TRAIN = (
    "argparse functools calendar subprocess statistics tarfile configparser random inspect ftplib ast copy threading dataclasses enum pickle "
    "glob ipaddress optparse contextlib platform fractions typing smtplib shlex traceback socket doctest mailbox uuid selectors pdb imaplib pprint "
    "tokenize cmd dis filecmp getopt gzip hmac operator pkgutil plistlib poplib pstats pydoc queue runpy sched shelve socketserver timeit trace types wave weakref bdb"
).split()
HELD_OUT = "textwrap heapq tempfile csv shutil fnmatch bisect linecache difflib reprlib secrets".split()


def read(modules: list[str], characters: int | None = None) -> str:
    """The source of some modules one after the other, at most so many characters.

    Their text differs a little from one version of Python to the next, and the scores with it.
    """
    folder = Path(sysconfig.get_path("stdlib"))
    return "\n".join((folder / f"{module}.py").read_text(encoding="utf-8") for module in modules)[:characters]
