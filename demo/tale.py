"""tale -- how a demo is told: prose, numbers, and what has to hold.

On a terminal with colour and light, elsewhere as plain text that can be piped
and compared.  A tale only tells: it starts nothing and knows nothing of Kafka.
"""

import contextlib
import os
import re
import shutil
import sys
import textwrap
import threading

INDENT = "   "


class DoesNotHold(Exception):
    """What a demo claims turned out otherwise."""


class Tale:
    def __init__(self, name, title, stays=False, out=sys.stdout):
        """${stays}: what it shows is left up behind it."""
        self.name = name
        self.stays = stays
        self.out = out
        self.fancy = out.isatty() and "NO_COLOR" not in os.environ and \
            os.environ.get("TERM", "dumb") != "dumb"
        unicode_ = "utf" in (out.encoding or "").lower()
        self.marks = "─█✓▸" if self.fancy and unicode_ else "-#*>"
        columns = shutil.get_terminal_size().columns if out.isatty() else 80
        self.width = max(40, min(columns - 2, 78))
        self.steps = 0
        self.claims = 0
        self._title(title)

    def _paint(self, style, text):
        codes = {"bold": "1", "dim": "2", "good": "32", "bad": "31",
                 "mark": "36", "head": "1;36"}
        return "\033[%sm%s\033[0m" % (codes[style], text) if self.fancy \
            else text

    def _print(self, text=""):
        print(text, file=self.out, flush=True)

    def _title(self, title):
        command = "make demo-" + self.name
        room = self.width - len(title) - len(command)
        self._print()
        self._print(self._paint("bold", title) + " " * max(room, 2) +
                    self._paint("dim", command))
        self._print(self._paint("mark", self.marks[0] * self.width))

    def _wrap(self, text, first, rest):
        return textwrap.fill(
            " ".join(text.split()), self.width, initial_indent=first,
            subsequent_indent=rest, break_long_words=False,
            break_on_hyphens=False)

    def say(self, text, *args):
        """Paragraphs, with blank lines between; *a new word* stands out."""
        for part in (text % args if args else text).split("\n\n"):
            self._print()
            self._print(re.sub(
                r"\*(\w[^*]*)\*", lambda m: self._paint("bold", m.group(1)),
                self._wrap(part, INDENT, INDENT)))

    def step(self, heading):
        self.steps += 1
        self._print()
        self._print(self._paint("head", "%d  %s" % (self.steps, heading)))

    def show(self, *lines):
        """As they are: what a program printed, or a small table."""
        self._print()
        for line in lines:
            self._print(INDENT + "  " + line)

    def table(self, head, rows):
        """Columns as wide as they have to be, numbers to the right."""
        cells = [[str(c) for c in row] for row in [head, *rows]]
        widths = [max(len(row[i]) for row in cells)
                  for i in range(len(head))]
        lines = ["  ".join(
            c.rjust(w) if not isinstance(rows[0][i], str) else c.ljust(w)
            for i, (c, w) in enumerate(zip(row, widths))).rstrip()
            for row in cells]
        self.show(self._paint("dim", lines[0]), *lines[1:])

    def bars(self, rows, unit=""):
        """[(label, number)], as lengths."""
        most = max((number for _, number in rows), default=0) or 1
        wide = max(len(label) for label, _ in rows)
        room = self.width - wide - 22
        self.show(*("%-*s  %s %s%s" % (
            wide, label, self._paint("mark", self.marks[1] * max(
                round(room * number / most), number > 0)), number, unit)
            for label, number in rows))

    def curve(self, label, values):
        """Values as heights, as many as there is room for."""
        heights = "▁▂▃▄▅▆▇█" if self.fancy and self.marks[2] == "✓" \
            else "0123456789"
        room = min(len(values), self.width - len(label) - 8)
        picked = [values[i * len(values) // room] for i in range(room)]
        low, high = min(picked), max(picked)
        self.show("%s  %s" % (label, self._paint("mark", "".join(
            heights[int((v - low) / ((high - low) or 1) *
                        (len(heights) - 1))] for v in picked))))

    def marked(self, text, hits):
        """The text with the places that were searched for standing out."""
        out, at = "", 0
        for begin, count in hits:
            word = text[begin:begin + count]
            out += text[at:begin] + (self._paint("head", word) if self.fancy
                                     else "[%s]" % word)
            at = begin + count
        return out + text[at:]

    def holds(self, condition, claim, *args, otherwise=""):
        """Claim it, if it is so; else the demo ends here.  ${otherwise} says
        what was found."""
        claim = claim % args if args else claim
        self.must(condition, claim, otherwise)
        self.claims += 1
        self._print()
        text = self._wrap(claim, INDENT + "  ", INDENT + "  ")
        self._print(INDENT[:-1] + self._paint(
            "good", " " + self.marks[2]) + " " + text.lstrip())

    @staticmethod
    def must(condition, claim, otherwise=""):
        """Likewise, one of many that are claimed together in the end."""
        if not condition:
            raise DoesNotHold(claim + (" (%s)" % (otherwise,)
                                       if otherwise else ""))

    @contextlib.contextmanager
    def waiting(self, what):
        """While something takes its time; on a terminal it is seen to."""
        if not self.fancy:
            yield
            return
        over = threading.Event()

        def turn():
            n = 0
            while not over.wait(0.1):
                n += 1
                self.out.write("\r%s  %s" % (INDENT, self._paint(
                    "dim", what + "." * (n % 8))) + "\033[K")
                self.out.flush()
        turner = threading.Thread(target=turn, daemon=True)
        turner.start()
        try:
            yield
        finally:
            over.set()
            turner.join()
            self.out.write("\r\033[K")
            self.out.flush()

    def look(self, *places):
        """(what, command or file) of where to see it with one's own eyes."""
        self.step("Where to look")
        if not self.stays:
            self.say("All of it goes when this ends; `make demo-%s STAY=1`"
                     " leaves it up.", self.name)
        self._print()
        for what, where in places:
            self._print(INDENT + what + ":")
            self._print(INDENT + "  " + self._paint("mark", where))

    def end(self, seconds):
        self._print()
        self._print(self._paint("dim", "%d claims, and all of them held"
                                " (%.1f s)." % (self.claims, seconds)))
