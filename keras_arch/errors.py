"""The one exception that a user's input can cause."""


class InputError(ValueError):
    """Something that a person can mend: says what was expected, what came and what would have worked.

    Scripts print it as one line and exit with status 2; any other exception is a bug of ours and keeps its traceback.
    """
