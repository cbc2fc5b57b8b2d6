"""Verdicts of one token, for reference.py: values from the labels' log-probabilities, the scores of responses
from their reads, and the rule by which the contested response is judged in rounds."""

import math
from fractions import Fraction

# A recorded number of a read is rounded to a millionth.
SLACK = 0.6e-6

# How many judgments each round after the first asks for.
PER_ROUND = 6


def points(labels):
    """The points of the labels of a score."""
    return {label: float(label) for label in labels}


# What the labels of a comparison are worth: the probability that the first judgment wins.
WINS = {"A": 1.0, "B": 0.0}


def value(row, worth, min_mass):
    """The mass, the value and the variance of a read; the last two are None if its labels are unlikely."""
    p = [math.exp(x) for x in row["log_probs"]]
    mass = math.fsum(p)
    if mass == 0 or round(mass * 1e6) < min_mass * 1e6:
        return mass, None, None
    v = [worth[label] for label in row["labels"]]
    mean = math.fsum(a * b for a, b in zip(p, v, strict=True)) / mass
    return mass, mean, math.fsum(a * (b - mean) ** 2 for a, b in zip(p, v, strict=True)) / mass


def check(report, row, worth, min_mass, is_score):
    """Compares the columns of a read with its log-probabilities."""
    where = f"read {row['id']}"
    strange = [label for label in row["labels"] if label not in worth]
    if strange or len(row["labels"]) != len(row["log_probs"]):
        report.wrong(where, f"labels are {row['labels']} with {len(row['log_probs'])} log_probs")
        return
    mass, mean, variance = value(row, worth, min_mass)
    report.close(where, "label_mass", row["label_mass"], mass, SLACK)
    report.close(where, "value", row["value"], mean, SLACK)
    report.close(where, "variance", row["variance"], variance if is_score else None, SLACK)
    report.equal(where, "unparsed_reason", row["unparsed_reason"], None if mean is not None else "low_mass")
    report.counts["reads"] += 1


def micros(x):
    return round(x * 1_000_000)


def moments(rows):
    """The mean of the values, each rounded to a thousandth, and the variance of the mixture; None without a value."""
    rows = [r for r in rows if r["value"] is not None]
    if not rows:
        return [], None, None
    values = [Fraction((micros(r["value"]) + 500) // 1000, 1000) for r in rows]
    mean = sum(values) / len(values)
    within = Fraction(sum(micros(r["variance"]) for r in rows), 1_000_000 * len(rows))
    return values, mean, within + sum((v - mean) ** 2 for v in values) / len(values)


def judged(judge, scores, mean, variance):
    """How many judgments the contested response gets, and why no more.

    Scores are exact points by replicate, mean and variance those of its reads on the judge's own scale.
    """
    rounds = judge.get("rounds")
    if not rounds:
        return judge["n"], None
    least = Fraction(repr(rounds["distance"])) ** 2 * variance
    asked = judge["n"]
    while True:
        if any(i < asked and s != mean and (s - mean) ** 2 >= least for i, s in scores.items()):
            return asked, "distant"
        if asked >= rounds["max"]:
            return asked, "bound"
        asked = min(asked + PER_ROUND, rounds["max"])
