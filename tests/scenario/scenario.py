"""scenario -- marks functions as scenarios."""


def scenario(kind="shared", small=True):
    """kind: "shared" runs on the system that others have used, "own" on a
    new one with nothing started, None without any.  Not small: left out
    where the programs are slow."""
    def mark(function):
        function.kind = kind
        function.small = small
        return function
    return mark
