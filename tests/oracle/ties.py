"""Ties of rounding: which way another engine took them.

Activations are rounded to int8, keys and values to f16. Where a value lies at a tie, two engines whose floats differ in
their last bits may round it differently; one such step is 1e-3 of a layer's output, and the layers behind amplify it.
So where two engines differ, the question is whether they agree once such values are rounded the same way.
"""

import itertools

import numpy as np

NEAR = 4e-3     # of a step: how far from a tie a value may be rounded either way
PAIRS = 12      # so many of the nearest ties are also tried two at a time


class Rounding:
    """np.rint, which remembers the places of values within `near` of a tie, with the distance as a share of `near`, and
    rounds those in `other` the other way: two engines whose floats differ in the last bits may do either. A place is
    (stage, row, column); each new array that is rounded is a stage, and an input that meets three matrices is one."""

    def __init__(self, near, other=()):
        self.near, self.other, self.ties = near, frozenset(other), {}
        self.stage, self.last = -1, None

    def __call__(self, v, near=None):
        if self.last is None or not np.array_equal(v, self.last):
            self.stage, self.last = self.stage + 1, v.copy()
        flat, r = v.reshape(len(v), -1), np.rint(v)
        rounded, off = r.reshape(len(v), -1), np.abs(np.abs(v - r) - 0.5).reshape(len(v), -1) / (near or self.near)
        for row, column in np.argwhere(off < 1).tolist():
            place = self.stage, row, column
            self.ties[place] = float(off[row, column])
            if place in self.other:
                rounded[row, column] += np.sign(flat[row, column] - rounded[row, column])
        return r

    def half(self, x):
        """The same for rounding to f16, in units of its last place, of which f32 has only 2^13 parts: four times as
        near."""
        ulp = np.spacing(np.abs(x).astype(np.float16)).astype(np.float64)
        return self(x / ulp, 4 * self.near) * ulp


class Agreement:
    """Finds which way another engine rounded the values at ties. `errors(rounding, rows)` computes the first `rows`
    positions with that rounding and gives the error of each; under `enough` a position agrees."""

    def __init__(self, errors, positions, enough):
        self.errors, self.positions, self.enough = errors, positions, enough

    def look(self, other, rows):
        rounding = Rounding(NEAR, other)
        return self.errors(rounding, rows), rounding.ties

    def improve(self, row, other, share):
        """`other` without or with those ties within `share` of NEAR that bring position `row` nearest, one after
        the other. Ties of earlier positions reach it through keys and values."""
        error = lambda ties: self.look(ties, row + 1)[0][row]
        best = error(other)
        while best > self.enough:
            near = sorted(self.look(other, row + 1)[1].items(), key=lambda tie: tie[1])
            own = [{place} for place, off in near if off < share and place[1] == row]
            earlier = [{place} for place, off in near if off < share and place[1] != row]
            pairs = [a | b for a, b in itertools.combinations(own[:PAIRS], 2)]
            for candidates in (own, earlier, pairs):
                found, change = best, frozenset()
                for candidate in candidates:
                    e = error(other ^ candidate)
                    if e < found:
                        found, change = e, candidate
                    if e < self.enough:
                        break
                if found < 0.9 * best:
                    best, other = found, other ^ change
                    break
            else:
                break
        return other

    def find(self):
        """(errors before and after the ties are agreed on, how many went the other way)."""
        before, other = self.look((), self.positions)[0], frozenset()
        # A position sees only those before it, so the first that differs has a tie of its own; the nearest ties are
        # the likeliest.
        for row in range(self.positions):
            for share in (0.025, 0.25, 1):
                other = self.improve(row, other, share)
        return before, self.look(other, self.positions)[0], len(other)
