"""Ratings with a prior over scores, and comparisons in rounds, for reference.py.

From docs/method.md, sections 5 and 7. The program's random draws cannot be repeated from there. So the rounds are
checked against the exact posterior and draws of this module's own: the regret of the stop, that each round
before had to go on, and that the last one had to stop. Which pairs a round asks for is
checked as far as it depends on no draw: each pair once and in both orders, two new pairs a round.
"""

import math

import numpy as np

# The standard deviations of the prior on ratings in logits, and its length in points.
SHARED, LENGTH, OWN = 1.2, 0.8, 0.7

# A read counts as so many verdicts.
READ = 10

# Of the program's and of this module's draws.
DRAWS, MORE_DRAWS = 128, 2000

# How many standard errors of the program's draws a mean of theirs may be off. Of a million comparisons of a normal
# variable with 5.5 of them less than one in twenty is beyond.
ERRORS = 5.5


def prior(scores):
    s = np.array(scores, dtype=float)
    near = (s[:, None] - s[None, :]) ** 2
    return SHARED**2 * np.exp(-near / (2 * LENGTH**2)) + OWN**2 * np.eye(len(s))


class Posterior:
    """The Laplace approximation after some verdicts.

    Verdicts are (first, second, y, weight) with y the probability that the first wins.
    """

    def __init__(self, scores, verdicts, position):
        self.precision = np.linalg.inv(prior(scores))
        first, second, self.y, self.weight = (np.array(column) for column in zip(*verdicts, strict=True)) if verdicts else ([],) * 4
        self.difference = np.zeros((len(verdicts), len(scores)))  # one row for each verdict, with 1 and -1
        for row, (i, k) in enumerate(zip(first, second)):
            self.difference[row, int(i)], self.difference[row, int(k)] = 1, -1
        self.position = position
        self.mode = self.maximum()

    def gradient(self, eps):
        if not len(self.difference):
            return -self.precision @ eps, self.precision
        p = 1 / (1 + np.exp(-(self.difference @ eps + self.position)))
        pull = self.difference.T @ (self.weight * (self.y - p))
        curvature = (self.difference.T * (self.weight * p * (1 - p))) @ self.difference
        return pull - self.precision @ eps, self.precision + curvature

    def maximum(self):
        """Damped Newton steps: the logarithm of the posterior is strictly concave."""
        eps = np.zeros(len(self.precision))
        for _ in range(200):
            g, hessian = self.gradient(eps)
            if np.linalg.norm(g) < 1e-12:
                break
            step, scale = np.linalg.solve(hessian, g), 1.0
            while scale > 1e-9 and np.linalg.norm(self.gradient(eps + scale * step)[0]) >= np.linalg.norm(g):
                scale /= 2
            if scale <= 1e-9:
                break  # rounding is all that is left
            eps = eps + scale * step
        return eps

    def draws(self):
        """The regret and the spread of some draws, if best and worst are those of the mode."""
        best, worst = int(np.argmax(self.mode)), int(np.argmin(self.mode))
        covariance = np.linalg.inv(self.gradient(self.mode)[1])
        draws = np.random.default_rng(0).multivariate_normal(self.mode, covariance, MORE_DRAWS, method="cholesky")
        most, least = draws.max(axis=1), draws.min(axis=1)
        return (most - draws[:, best]) + (draws[:, worst] - least), most - least


def position_term(verdicts):
    """ln((wins in first place + 2)/(wins in second place + 2)); a read is one win in all."""
    first = sum(y for _, _, y, _ in verdicts)
    second = sum(1 - y for _, _, y, _ in verdicts)
    return math.log((first + 2) / (second + 2))


def verdicts_of(ids, comparisons, win):
    """The verdicts of comparisons that have one."""
    place = {i: k for k, i in enumerate(ids)}
    return [
        (place[c["first_id"]], place[c["second_id"]], win(c) / 1e6, READ if "read" in c else 1)
        for c in comparisons
        if win(c) is not None and {c["first_id"], c["second_id"]} <= place.keys()
    ]


def ratings(ids, scores, comparisons, win, weights):
    """The mode of the posterior with the run's position term."""
    term = math.log(weights[1] / weights[0])
    return Posterior(scores, verdicts_of(ids, comparisons, win), term).mode


def error(draws):
    """How far the program's mean of its draws may be from this module's."""
    return ERRORS * float(np.std(draws)) * (1 / DRAWS + 1 / MORE_DRAWS) ** 0.5


class Asking:
    """The rounds of one prompt, as raw/comparisons and failures have them."""

    def __init__(self, report, where, judgments, comparisons, failed, budget, win):
        self.report, self.where, self.budget, self.win = report, where, budget, win
        self.ids = [j["id"] for j in judgments]
        self.scores = [j["score"] for j in judgments]
        self.comparisons = comparisons
        self.orders = [(c["first_id"], c["second_id"]) for c in comparisons] + failed
        self.pairs = {frozenset(order) for order in self.orders}
        self.round = {}  # of each pair that has a comparison

    def posterior(self, before):
        """The posterior before a round, and the judgments that were compared by then."""
        known = [c for c in self.comparisons if c["round"] is not None and c["round"] < before]
        verdicts = verdicts_of(self.ids, known, self.win)
        return Posterior(self.scores, verdicts, position_term(verdicts)), {i for c in known for i in (c["first_id"], c["second_id"])}

    def check_pairs(self):
        """Each pair is asked once and in both orders, at most two pairs a round, at most so many in all."""
        if len(self.orders) != len(set(self.orders)):
            self.report.wrong(self.where, "a comparison was asked twice")
        if len(set(self.orders)) != 2 * len(self.pairs):
            self.report.wrong(self.where, "a pair was asked in one order alone")
        strange = {i for pair in self.pairs for i in pair} - set(self.ids)
        if strange or any(len(pair) != 2 for pair in self.pairs):
            self.report.wrong(self.where, f"comparisons of {sorted(strange)}, which were not to be compared")
        if len(self.orders) > self.budget["max_comparisons"]:
            self.report.wrong(self.where, f"{len(self.orders)} comparisons were asked, the bound is {self.budget['max_comparisons']}")
        for c in self.comparisons:
            pair = frozenset((c["first_id"], c["second_id"]))
            if c["round"] is None or c["round"] < 1 or self.round.setdefault(pair, c["round"]) != c["round"]:
                self.report.wrong(self.where, f"comparison {c['id']} has the round {c['round']}, the other order another")
                return
        # Pairs whose calls all failed are of an unknown round.
        lost = len(self.pairs) - len(self.round)
        last = max(self.round.values(), default=0)
        sizes = [sum(r == number for r in self.round.values()) for number in range(1, last + 1)]
        if any(n > 2 for n in sizes) or sum(2 - n for n in sizes[:-1]) > lost:
            self.report.wrong(self.where, f"its rounds have {sizes} pairs")

    def check_stop(self, prompt):
        """Asking went on where it had to, and stopped where and why it had to.

        Returns the deviations of regret and spread, with the largest that chance explains.
        """
        n, asked, share = len(self.ids), len(self.pairs), self.budget["regret"]
        # Later rounds of lost pairs alone leave no trace, as the posterior does not change.
        for number in range(2, max(self.round.values(), default=0) + 1):
            posterior, compared = self.posterior(number)
            best, worst = (self.ids[int(f(posterior.mode))] for f in (np.argmax, np.argmin))
            regret, spread = posterior.draws()
            excess = regret - share * spread
            if {best, worst} <= compared and excess.mean() < -error(excess):
                self.report.wrong(
                    self.where, f"round {number} was asked for at a regret of {regret.mean():.3f} of {spread.mean():.3f}"
                )
        posterior, compared = self.posterior(math.inf)
        compared |= {i for pair in self.pairs for i in pair}
        order = np.argsort(posterior.mode)
        regret, spread = posterior.draws()
        found = {"expected_regret": regret, "expected_spread": spread}
        for column, draws in found.items():
            self.report.close(self.where, column, prompt[column], draws.mean(), error(draws) + 1e-9)
        if None in (prompt[column] for column in found):
            return []
        settled = prompt["expected_regret"] <= share * prompt["expected_spread"]
        clear = min(np.diff(posterior.mode[order])[[0, -1]]) > 1e-7
        if clear and not {self.ids[order[0]], self.ids[order[-1]]} <= compared:
            settled = False
        if 2 * asked == n * (n - 1):
            want = "all_pairs"
        elif settled:
            want = "settled"
        elif 2 * (asked + 1) > self.budget["max_comparisons"]:
            want = "bound"
        else:
            want = None
        self.report.equal(self.where, "asking_stopped", prompt["asking_stopped"], want)
        return [(column, prompt[column] - draws.mean(), error(draws)) for column, draws in found.items()]


def biased(drawn):
    """What is wrong with the sum of all deviations of a column: its error is small against that of one prompt."""
    for column in sorted({column for column, _, _ in drawn}):
        off = math.fsum(d for c, d, _ in drawn if c == column)
        within = math.fsum(e**2 for c, _, e in drawn if c == column) ** 0.5
        if abs(off) > within:
            yield f"{column} of all prompts is off by {off:.3f}, by chance it would be at most {within:.3f}"
