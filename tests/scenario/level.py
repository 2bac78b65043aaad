"""level -- does a series of measurements stay where it is?

The slope is Theil and Sen's, the median of all pairs' slopes: neither a
restart, nor a spike, nor the saw-tooth of a log that is emptied moves it.
Only the second half counts: in the first, caches fill.
"""

import random
import statistics

from scenario import scenario
from system import expect

FEWEST = 10  # measurements in a half that can be judged


def slope(points):
    """Units a second; 0 of too few points."""
    slopes = [(b[1] - a[1]) / (b[0] - a[0])
              for i, a in enumerate(points) for b in points[i + 1:]
              if b[0] > a[0]]
    return statistics.median(slopes) if slopes else 0.0


class Series:
    """Measurements of one thing, and how much it may grow in a half."""

    def __init__(self, name, unit, allowed, share=0.0):
        self.name = name
        self.unit = unit
        self.allowed = allowed
        self.share = share  # of the median, allowed on top
        self.points = []    # (seconds, value)

    def add(self, at, value):
        self.points.append((at, value))

    def half(self):
        if not self.points:
            return []
        middle = (self.points[0][0] + self.points[-1][0]) / 2
        return [p for p in self.points if p[0] >= middle]

    def judge(self):
        """(median, growth over the second half, what may be, level)."""
        half = self.half()
        if len(half) < FEWEST:
            return 0, 0, 0, False
        median = statistics.median(p[1] for p in half)
        growth = slope(half) * (half[-1][0] - half[0][0])
        most = self.allowed + self.share * median
        return median, growth, most, growth <= most


def noisy(rng, rise):
    """Ten minutes of a memory of 10 MB that is given back now and then."""
    series = Series("planted", "B", 500e3)
    for i in range(120):
        saw = i % 17 * 40e3
        spike = 5e6 if rng.random() < 0.05 else 0
        series.add(i * 5.0, 10e6 + saw + spike + rng.gauss(0, 30e3) +
                   rise * i * 5)
    return series


@scenario(kind=None)
def leaks_are_seen(context):
    """The soak's judge sees a planted leak, and none in what is only noisy."""
    for _ in range(20):
        expect(noisy(context.rng, 0).judge()[3], "noise was taken for a leak")
        expect(not noisy(context.rng, 4e3).judge()[3],
               "4 kB a second was taken for level")
    few = Series("few", "B", 1e9)
    expect(not few.judge()[3], "nothing measured was taken for level")
