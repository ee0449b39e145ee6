"""What all command lines share: an error is one line."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence

from qa_env.errors import QAError


def run_command(main: Callable[[Sequence[str]], None]) -> None:
    """Call `main` with the arguments; a `QAError` becomes one line on stderr and exit status 2."""
    try:
        main(sys.argv[1:])
    except QAError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def unboxed(printed: str) -> str:
    """What tyro says in a box, as one line."""
    _, _, body = printed.partition("\n")  # the title of the box, which says less than the line below it
    body = re.sub(r"\x1b\[[0-9;]*m|[─│╭╮╰╯]+|-{3,}", " ", body)  # colours, and lines in UTF-8 or ASCII
    return re.split(r" For full helptext| Full helptext| Argument helptext", " ".join(body.split()))[
        0
    ].strip()
