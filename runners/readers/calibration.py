"""Computes the figures of `coeval calibrate` again, and compares.

    calibration.py LABELS OUT...             exits with 1 and a list if anything differs
    calibration.py --self-test LABELS OUT    spoils the labels, which must be noticed

LABELS is the file of labels that each OUT/calibration.json is about. What people said is read from
it here; of the program's file only the judge's scores of each response are used, and the figures that
are checked. Statistics are those of numpy, scipy and scikit-learn.

Counts must agree exactly and all else within 1e-9, but for the ends of intervals: those come from
another generator of random numbers here. An end of B resamples has the standard error
sqrt(0.025·0.975/B)/φ(1.96) = 2.67/sqrt(B) standard deviations of the figure; the difference of two
such ends may be 5 times what both have together, and once the step of a figure of few values more.
"""

import argparse
import copy
import hashlib
import json
import math
import pathlib
import sys
from fractions import Fraction

import numpy as np
from scipy import stats
from sklearn.isotonic import IsotonicRegression

CLOSE = 1e-9
LENGTHS = [-499, -99, 100, 500, math.inf]
SIGN = {"first": 1, "second": -1, "tie": 0}
MOST_LABELS = 50
RESAMPLES = 2000


def read_labels(name):
    """The labels with their lines: an array's entry stands in the line of its brace."""
    text = pathlib.Path(name).read_text(encoding="utf-8-sig")
    if not text.lstrip().startswith("["):
        return [(i, json.loads(line)) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    decoder, at, found = json.JSONDecoder(), text.index("[") + 1, []
    while True:
        while text[at] in " \t\r\n,":
            at += 1
        if text[at] == "]":
            return found
        value, end = decoder.raw_decode(text, at)
        found.append((text.count("\n", 0, at) + 1, value))
        at = end


def conversation(entry):
    for name in ("prompt", "messages", "input"):
        if name in entry:
            said = entry[name]
            return ((("user", said),) if isinstance(said, str) else tuple((m["role"], m["content"]) for m in said))
    raise ValueError(f"no prompt in {entry}")


def verdict(order):
    return "first" if order > 0 else "second" if order < 0 else "tie"


class Judged:
    """What the judge gave a response, in fractions."""

    def __init__(self, row, least):
        self.prompt = row["prompt_id"]
        self.scores = [Fraction(round(s * 1000), 1000) for s in row["scores"]]
        self.mean = sum(self.scores) / len(self.scores) if len(self.scores) >= least else None


def responses(told, labels):
    """Finds the judged response of each text: its place is that of its pair or score."""
    judged = [Judged(r, told["judge"]["min_judgments"]) for r in told["responses"]]
    places, chars = {}, {}

    def place(entry, text, index):
        key = (conversation(entry), text.strip())
        if places.setdefault(key, index) != index:
            raise SystemExit(f"one text has the places {places[key]} and {index}")
        chars[index] = len(text.strip())

    by_line = dict(labels)
    if told["labels"]["kind"] == "pairs":
        for p in told["pairs"]:
            e = by_line[p["line"]]
            place(e, e.get("response_1", e.get("output_1")), p["first"])
            place(e, e.get("response_2", e.get("output_2")), p["second"])
    else:
        for s in told["scores"]:
            e = by_line[s["line"]]
            place(e, e["response"], s["response"])
    return judged, places, chars


def make_pairs(told, labels, places):
    """(line, first, second, what people say) of every pair, and (response, points) of every score."""
    pairs, scores, by_prompt = [], [], {}
    if told["labels"]["kind"] == "pairs":
        for line, e in labels:
            one, two = e.get("response_1", e.get("output_1")), e.get("response_2", e.get("output_2"))
            people = {"1": "first", "2": "second", "tie": "tie"}[str(e["label"])]
            key = conversation(e)
            pairs.append((line, places[key, one.strip()], places[key, two.strip()], people))
        return pairs, scores
    low, high = map(float, told["labels"]["scale"].split(" to "))
    for line, e in labels:
        key = conversation(e)
        own = (places[key, e["response"].strip()], (e["score"] - low) / (high - low) * 5, line)
        scores.append(own)
        others = by_prompt.setdefault(key, [])
        if len(others) == MOST_LABELS:
            continue
        for other in others:
            if other[0] != own[0]:
                pairs.append((other[2], other[0], own[0], verdict(other[1] - own[1])))
        others.append(own)
    return pairs, scores


def agreement_of(judge, people):
    return 1.0 if judge == people else 0.5 if "tie" in (judge, people) else 0.0


def mean(values):
    return float(np.mean(values)) if len(values) else None


def agreement(pairs, unscored, chars):
    decided = [p for p in pairs if p["judge"] != "tie" and p["people"] != "tie"]
    won = [p for p in pairs if p["people"] != "tie"]

    def longer(p):
        d = chars[p["first"]] - chars[p["second"]]
        return d if p["people"] == "first" else -d

    lengths = np.searchsorted(LENGTHS, [longer(p) for p in won], side="right")
    slices = [[p["agree"] for p, k in zip(won, lengths, strict=True) if k == i] for i in range(len(LENGTHS))]
    positions = [[p["agree"] for p in won if p["people"] == place] for place in ("first", "second")]
    return {
        "pairs": len(pairs),
        "unscored": unscored,
        "judge_ties": sum(p["judge"] == "tie" for p in pairs),
        "people_ties": sum(p["people"] == "tie" for p in pairs),
        "both_tie": sum(p["judge"] == p["people"] == "tie" for p in pairs),
        "decided": len(decided),
        "by_length": [{"pairs": len(s), "agree": mean(s)} for s in slices],
        "by_position": [{"pairs": len(s), "agree": mean(s)} for s in positions],
        "people_first": mean([p["people"] == "first" for p in won]),
        "judge_first": mean([p["judge"] == "first" for p in pairs if p["judge"] != "tie"]),
    }


def reliability(pairs, judged):
    bins = {}
    for p in pairs:
        a, b = judged[p["first"]].scores, judged[p["second"]].scores
        halves = sum(2 if x > y else 1 if x == y else 0 for x in a for y in b)
        sure = Fraction(halves, 2 * len(a) * len(b))
        right = 0.5
        if sure != Fraction(1, 2) and p["people"] != "tie":
            right = float((sure > Fraction(1, 2)) == (p["people"] == "first"))
        sure = max(sure, 1 - sure)
        bins.setdefault(min(math.floor((sure - Fraction(1, 2)) * 20), 9), []).append((float(sure), right))
    rows = [
        {
            "from": (10 + i) / 20,
            "to": (11 + i) / 20,
            "pairs": len(rows),
            "predicted": float(np.mean([s for s, _ in rows])),
            "observed": float(np.mean([r for _, r in rows])),
        }
        for i, rows in sorted(bins.items())
    ]
    error = sum(r["pairs"] / len(pairs) * abs(r["observed"] - r["predicted"]) for r in rows)
    return {"pairs": len(pairs), "error": error, "bins": rows}


def blocks(x, y):
    """The isotonic regression of scikit-learn, put together where its values are equal."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    fitted = IsotonicRegression().fit(x, y).predict(x)
    order = np.argsort(x, kind="stable")
    found = []
    for at, value in zip(x[order], fitted[order], strict=True):
        if found and abs(found[-1]["people"] - value) <= 1e-12 * max(1, abs(value)):
            found[-1]["places"].append(at)
        else:
            found.append({"people": float(value), "places": [at]})
    return [
        {
            "from": float(b["places"][0]),
            "to": float(b["places"][-1]),
            "at": float(np.mean(b["places"])),
            "people": b["people"],
            "labels": len(b["places"]),
        }
        for b in found
    ]


def fit(scores, judged):
    rows = [(float(judged[r].mean), points, judged[r].prompt) for r, points, _ in scores if judged[r].mean is not None]
    if not rows:
        return {"labels": 0}
    s, people = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    prompts = sorted({r[2] for r in rows})
    part = np.array([prompts.index(r[2]) % 5 for r in rows])
    found = blocks(s, people)
    mapped = None
    if len(prompts) >= 5:
        off = np.zeros(len(rows))
        for i in range(5):
            b = blocks(s[part != i], people[part != i])
            image = np.interp(s[part == i], [x["at"] for x in b], [x["people"] for x in b])
            off[part == i] = image - people[part == i]
        mapped = float(np.sqrt(np.mean(off**2)))
    points, merged = [], []
    for b in found:
        at = math.floor(b["at"] * 1000 + 0.5)
        if points and points[-1] == at:
            merged[-1].append(b)
        else:
            points.append(at)
            merged.append([b])
    image = [np.average([b["people"] for b in m], weights=[b["labels"] for b in m]) for m in merged]
    points = [{"score": at / 1000, "people": math.floor(p * 1000 + 0.5) / 1000} for at, p in zip(points, image, strict=True)]
    if len(points) < 2 or points[0]["people"] == points[-1]["people"]:
        points = None
    return {
        "labels": len(rows),
        "blocks": found,
        "bias": float(np.mean(s - people)),
        "error": float(np.sqrt(np.mean((s - people) ** 2))),
        "mapped": mapped,
    } | ({"points": points} if points else {})


def values(kind, prompts, drawn, judged):
    """The figures with intervals, of the prompts drawn: NaN where there is none."""
    pairs = [p for d in drawn for p in prompts[d]["pairs"]]
    if kind == "pairs":
        x = [float(judged[p["first"]].mean - judged[p["second"]].mean) for p in pairs]
        y = [SIGN[p["people"]] for p in pairs]
        x, y = x + [-v for v in x], y + [-v for v in y]
    else:
        labels = [s for d in drawn for s in prompts[d]["scores"]]
        x, y = [float(judged[r].mean) for r, _ in labels], [points for _, points in labels]
    flat = len(set(x)) < 2 or len(set(y)) < 2
    decided = [p["agree"] for p in pairs if p["judge"] != "tie" and p["people"] != "tie"]
    return [
        np.mean(decided) if decided else math.nan,
        np.mean([p["agree"] for p in pairs]) if pairs else math.nan,
        math.nan if flat else stats.spearmanr(x, y).statistic,
        math.nan if flat else stats.kendalltau(x, y).statistic,
    ]


def estimates(kind, prompts, judged, seed):
    """(value, low, high, standard deviation) of each figure."""
    random = np.random.default_rng(seed)
    names = sorted(prompts)
    whole = values(kind, prompts, names, judged)
    drawn = np.array([values(kind, prompts, random.choice(names, len(names)), judged) for _ in range(RESAMPLES)])
    out = []
    for i, value in enumerate(whole):
        column = drawn[:, i][~np.isnan(drawn[:, i])]
        out.append(None if math.isnan(value) else (float(value), *np.quantile(column, [0.025, 0.975]), column.std()))
    return out


class Comparison:
    def __init__(self):
        self.problems, self.figures = [], 0

    def equal(self, what, told, want):
        self.figures += 1
        if told != want:
            self.problems.append(f"{what} is {told!r}, should be {want!r}")

    def close(self, what, told, want, within=CLOSE):
        self.figures += 1
        if (told is None) != (want is None) or told is not None and not abs(told - want) <= within * max(1, abs(want)):
            self.problems.append(f"{what} is {told!r}, should be {want!r} within {within}")

    def all(self, what, told, want):
        """Everything that want has."""
        if isinstance(want, dict):
            for key, value in want.items():
                self.all(f"{what}.{key}", (told or {}).get(key), value)
        elif isinstance(want, list):
            self.equal(f"length of {what}", len(told or []), len(want))
            for i, (a, b) in enumerate(zip(told or [], want, strict=False)):
                self.all(f"{what}[{i}]", a, b)
        elif isinstance(want, float):
            self.close(what, told, want)
        else:
            self.equal(what, told, want)

    def estimate(self, what, told, want, resamples):
        if want is None or told is None:
            self.equal(what, told, want)
            return
        value, low, high, deviation = want
        self.close(what, told["value"], value)
        within = 5 * 2.67 * deviation * math.sqrt(1 / resamples + 1 / RESAMPLES) + 1 / 100
        for name, end in (("low", low), ("high", high)):
            self.figures += 1
            if told[name] is None or abs(told[name] - end) > within:
                self.problems.append(f"{what}.{name} is {told[name]!r}, should be {end!r} within {within}")


def compare(told, labels, digest, seed=1):
    c = Comparison()
    c.equal("labels.sha256", told["labels"]["sha256"], digest)
    c.equal("labels.labels", told["labels"]["labels"], len(labels))
    judged, places, chars = responses(told, labels)
    for i, (row, j) in enumerate(zip(told["responses"], judged, strict=True)):
        c.equal(f"responses[{i}].chars", row["chars"], chars[i])
        c.close(f"responses[{i}].mean", row["mean"], None if j.mean is None else float(j.mean), 0)
    made, scores = make_pairs(told, labels, places)
    pairs, usable, prompts = [], [], {j.prompt: {"pairs": [], "scores": []} for j in judged}
    for line, first, second, people in made:
        a, b = judged[first].mean, judged[second].mean
        p = {"line": line, "first": first, "second": second, "people": people, "agree": None}
        if a is not None and b is not None:
            judge = verdict(a - b)
            p |= {"judge": judge, "agree": agreement_of(judge, people)}
            usable.append(p)
            prompts[judged[first].prompt]["pairs"].append(p)
        pairs.append(p)
    for response, points, _ in scores:
        if judged[response].mean is not None:
            prompts[judged[response].prompt]["scores"].append((response, points))
    c.all("pairs", told["pairs"], pairs)
    kind = told["labels"]["kind"]
    if pairs:
        c.all("agreement", told["agreement"], agreement(usable, len(pairs) - len(usable), chars))
    else:
        c.equal("agreement", told["agreement"], None)
    if usable:
        c.all("reliability", told["reliability"], reliability(usable, judged))
        x = [judged[p["first"]].mean - judged[p["second"]].mean for p in usable]
        y = [(1 + SIGN[p["people"]]) / 2 for p in usable]
        c.all("curve", told["curve"], blocks([float(v) for v in x] + [float(-v) for v in x], y + [1 - v for v in y]))
    if kind == "scores":
        c.all("fit", told["fit"], fit(scores, judged))
    else:
        c.equal("fit", told["fit"], None)
    found = estimates(kind, prompts, judged, seed)
    resamples = told["bootstrap"]["resamples"]
    if pairs:
        c.estimate("agreement.without_ties", told["agreement"]["without_ties"], found[0], resamples)
        c.estimate("agreement.with_ties", told["agreement"]["with_ties"], found[1], resamples)
    c.estimate("ranks.spearman", told["ranks"]["spearman"], found[2], resamples)
    c.estimate("ranks.kendall", told["ranks"]["kendall"], found[3], resamples)
    return c


def self_test(told, labels, digest):
    """Every way to spoil a copy must be noticed."""
    def judged_otherwise(t):
        t["responses"][0]["scores"] = [5 - s for s in t["responses"][0]["scores"]]

    def set_at(*path, change):
        def spoil(t):
            for key in path[:-1]:
                t = t[key]
            t[path[-1]] = change(t[path[-1]])

        return spoil

    more = lambda v: v + 0.001 if isinstance(v, float) else v + 1  # noqa: E731
    ways = {
        "another file": set_at("labels", "sha256", change=lambda d: "0" + d[1:] if d[0] != "0" else "1" + d[1:]),
        "scores of a response": judged_otherwise,
        "Spearman": set_at("ranks", "spearman", "value", change=more),
        "Kendall": set_at("ranks", "kendall", "value", change=more),
        "an interval": set_at("ranks", "kendall", "low", change=lambda v: v - 0.5),
        "agreement": set_at("agreement", "with_ties", "value", change=more),
        "a slice of length": set_at("agreement", "by_length", 2, "pairs", change=more),
        "a slice of position": set_at("agreement", "by_position", 0, "agree", change=more),
        "calibration error": set_at("reliability", "error", change=more),
        "a bin": set_at("reliability", "bins", 0, "observed", change=more),
        "the curve": set_at("curve", 0, "people", change=more),
    }
    if told["fit"]:
        ways |= {
            "a point": set_at("fit", "points", 0, "people", change=more),
            "a block": set_at("fit", "blocks", -1, "at", change=more),
            "the error of maps": set_at("fit", "mapped", change=more),
        }
    missed = [f"nothing was spoiled, but: {p}" for p in compare(told, labels, digest).problems]
    for what, spoil in ways.items():
        bad = copy.deepcopy(told)
        spoil(bad)
        if not compare(bad, labels, digest).problems:
            missed.append(f"spoiled and not noticed: {what}")
    print(f"{len(ways)} ways to spoil it, {len(missed)} not noticed")
    return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--self-test", action="store_true", help="check that this check finds errors")
    parser.add_argument("labels", help="file of labels")
    parser.add_argument("outs", nargs="+", metavar="OUT")
    args = parser.parse_args()
    digest = hashlib.sha256(pathlib.Path(args.labels).read_bytes()).hexdigest()
    labels = read_labels(args.labels)
    problems = []
    for out in args.outs:
        told = json.loads((pathlib.Path(out) / "calibration.json").read_text(encoding="utf-8"))
        if args.self_test:
            problems += self_test(told, labels, digest)
            continue
        c = compare(told, labels, digest)
        print(f"{out}: {c.figures} figures of {len(labels)} labels: {len(c.problems)} differences")
        problems += [f"{out}: {p}" for p in c.problems]
    for problem in problems[:30]:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
