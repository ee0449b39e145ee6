"""The one exception that the command lines turn into a one-line message."""


class QAError(ValueError):
    """Bad input: says what was expected, what came, and how to mend it.

    Library code raises it with a single-line message; `train.py` and the `python -m agents...`
    commands print that line and exit with status 2 instead of showing a traceback.
    """
