"""What `aicg run` puts in front of a program: switches the agent on, then gets out of the way.

Owns the first lines that run in a Python started under `aicg run`, because its folder is first on PYTHONPATH. Takes
that folder off `sys.path` again, so that the program finds the path it would have had, and hands over to the
`sitecustomize` that would have been found without it (another tool's, the distribution's, the user's). PYTHONPATH
itself keeps the folder, for the Python programs that this one starts. If it breaks, no Python program starts cleanly
under `aicg run`: so it stays this short, and whatever goes wrong in our part is said on stderr and the program goes on.

The interpreter may be any: no syntax newer than what every Python 3 knows.
"""

import os
import sys

#: set once a program has said that it runs without us: the ones it starts need not say it again
_SAID = "AICG_RUN_SAID"
_NAME = "sitecustomize"


def _step_aside():
    # type: () -> None
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != here]
    sys.path_importer_cache.pop(here, None)


def _activate():
    # type: () -> None
    try:
        import aicostguard.auto  # noqa: F401
    except Exception as error:
        if os.environ.get(_SAID):
            return
        os.environ[_SAID] = "1"
        missing = isinstance(error, ImportError) and error.name == "aicostguard"
        why = "it is not installed there" if missing else "%s: %s" % (type(error).__name__, error)
        sys.stderr.write(
            "aicostguard: not active in %s (%s). The program runs; its AI calls are not counted. "
            "Install aicostguard with that Python's pip.\n" % (sys.executable, why)
        )


def _hand_over():
    # type: () -> None
    ours = sys.modules.pop(_NAME, None)
    try:
        __import__(_NAME)
    except ImportError as error:
        if error.name != _NAME:
            raise  # that module's own trouble: `site` reports it, as it would have without us
    finally:
        if ours is not None:
            sys.modules.setdefault(_NAME, ours)  # the import system insists on finding the one it has just loaded


_step_aside()
_activate()
_hand_over()
