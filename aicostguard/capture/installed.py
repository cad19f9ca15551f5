"""Which code is the user's own and which a library's, where the folder does not say so.

Libraries stand in `site-packages`, but not only: AWS Lambda has them in one folder with the handler, as has
`pip install --target`; zipapp, pex and shiv have them in archives and caches of their own; a frozen program has no
folders. And what stands in `site-packages` may be the user's own program, put there by `pip install .` in a container.

Owns what is read of it: the records that installers leave beside what they install (PyPA's "Recording installed
projects"), once for each folder, when a call first comes through it; and the names of the libraries that were hooked.
If this is wrong, features are named after functions of a library, or are missing.
"""

from __future__ import annotations

import os
import re
from itertools import islice
from types import ModuleType
from typing import Callable, Dict, Iterable, NamedTuple, Optional, Set, Tuple

#: folders that are remembered, and entries of one that are looked at: a program may stand among its data
MOST, MOST_ENTRIES = 64, 10_000
_INFO = ".dist-info"
#: each path in a record: `openai/_client.py,sha256=…,123`
_PATH = re.compile(r'^"?([^",\n]+)', re.MULTILINE)
#: the first part of it, once for all that follow each other with the same one: records have tens of thousands of lines,
#: and this is read in the middle of a call
_TOP = re.compile(r'^"?([^/",\n]+)[^\n]*(?:\n"?\1/[^\n]*)*', re.MULTILINE)
#: what an installer says of a project that it was given as a folder; conda builds all of its packages from folders
_LOCAL = re.compile(r'"dir_info"\s*:')


class Folder(NamedTuple):
    """What can be imported from one folder. `libraries` are the first parts of their names; `own` are the files of what
    was installed from a folder of the user's own, which may share a namespace with libraries.
    """

    libraries: Set[str]
    own: Set[str]


#: packages that a tool writes into the user's program, between its code and a library: BAML's client
_GENERATED = frozenset(("baml_client",))
_folders: Dict[str, Folder] = {}
#: dotted names of packages that were hooked: libraries, wherever they stand
_hooked: Set[str] = set()


def hooked(module: str, loaded: Callable[[str], Optional[ModuleType]]) -> None:
    """A library of ours to hook has been imported. Its package is the first that is no namespace (`google` is one)."""
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        if getattr(loaded(name), "__file__", None) is not None:
            _hooked.add(name)
            return


def library(path: str, module: str, in_packages: bool) -> bool:
    """Whether the code of this file, which calls itself `module`, is a library's. `in_packages`: it stands in
    `site-packages` or its like, where all is but what was installed from a folder of the user's own.
    """
    if not in_packages and any(module == name or module.startswith(name + ".") for name in _hooked):
        return True
    if not _GENERATED.isdisjoint(module.split(".")):
        return True
    root, top = _place(path, module)
    if root is None:
        return in_packages
    folder = _folders.get(root)
    if folder is None:
        if len(_folders) >= MOST:
            _folders.clear()
        folder = _folders[root] = _read(root, in_packages)
    if path[len(root) + 1 :].replace(os.sep, "/") in folder.own:
        return False
    return in_packages or top in folder.libraries


def _place(path: str, module: str) -> Tuple[Optional[str], str]:
    """The folder from which a module was imported, and the first part of its name there."""
    parts = module.split(".")
    stem, _ = os.path.splitext(path)
    for tail in (parts, [*parts, "__init__"]):
        end = os.sep + os.path.join(*tail)
        if stem.endswith(end):
            return stem[: -len(end)], parts[0]
    return None, parts[0]


def _read(root: str, own_only: bool) -> Folder:
    """What installers have recorded there. A folder without records, or one that cannot be read, tells nothing."""
    found = Folder(set(), set())
    try:
        if os.path.isfile(root):
            _sort(found, *_archive(root), own_only)
        else:
            with os.scandir(root) as entries:
                names = [entry.name for entry in islice(entries, MOST_ENTRIES) if entry.name.endswith(_INFO)]
            _sort(found, names, lambda name: _text(os.path.join(root, name)), own_only)
    except (OSError, ValueError, LookupError):
        return found
    return found


def _sort(found: Folder, names: Iterable[str], text: Callable[[str], str], own_only: bool) -> None:
    for name in names:
        local = bool(_LOCAL.search(text(os.path.join(name, "direct_url.json"))))
        local = local and text(os.path.join(name, "INSTALLER")).strip() != "conda"
        if local:
            found.own.update(_PATH.findall(text(os.path.join(name, "RECORD"))))
        elif not own_only:
            tops = set(_TOP.findall(text(os.path.join(name, "RECORD"))))
            found.libraries.update(top[:-3] if top.endswith(".py") else top for top in tops)


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _archive(path: str) -> Tuple[Set[str], Callable[[str], str]]:
    """The records in a zipped application, and how they are read."""
    import zipfile

    if not zipfile.is_zipfile(path):
        return set(), lambda name: ""
    with zipfile.ZipFile(path) as archive:
        wanted = ("/RECORD", "/INSTALLER", "/direct_url.json")
        kept = {
            name: archive.read(name).decode("utf-8", "replace")
            for name in archive.namelist()
            if name.count("/") == 1 and _INFO + "/" in name and name.endswith(wanted)
        }
    return {name.partition("/")[0] for name in kept}, lambda name: kept.get(name.replace(os.sep, "/"), "")
