"""scenario -- marks functions as scenarios."""


def scenario(kind="shared", small=True, spoils=False, about_broker=False,
             seconds=3):
    """kind: "shared" runs on the system that others have used, "own" on a
    new one with nothing started, None without any.  Not small: left out
    where the programs are slow.  One that spoils the system leaves a new
    one to the next; those that spoil it in the same way, a word, share it.
    One about the broker shows what depends on it, and is run on each; one
    about "kafka" only with Apache Kafka.  About how many seconds it takes is
    for those to know who share the scenarios out."""
    def mark(function):
        function.kind = kind
        function.small = small
        function.spoils = spoils
        function.about_broker = about_broker
        function.seconds = seconds
        return function
    return mark
