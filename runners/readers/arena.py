"""Computes the figures of an arena again from its games and answers, and compares.

    arena.py OUT...              exits with 1 and a list if anything differs
    arena.py --self-test OUT     plants one error after the other, each of which must be found

Nothing of the program is used but its files. Counts must agree exactly, means within 1e-9, fits by
maximum likelihood within 1e-6. The length-controlled win rate in its minimal form must also be within
0.1 points of the fit of the published package alpaca_eval on the same numbers: the functions
make_dmatrix_for_model and fit_LogisticRegressionCV of its file metrics/glm_winrate.py run as they are.
Bradley–Terry strengths are fitted by scipy. Intervals come from a bootstrap over prompts with another
generator, so that their ends agree within the error of 1,000 resamples alone.
"""

import argparse
import copy
import importlib.util
import json
import logging
import math
import pathlib
import re
import sys
import types
import warnings

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from scipy import optimize, special

CLOSE, FITTED, PUBLISHED = 1e-9, 1e-6, 0.001
RIDGE = 1e-3
HARD = {"A>>B": 1.0, "A>B": 1.0, "A=B": 0.5, "B>A": 0.0, "B>>A": 0.0}
SOFT = {"A>>B": 1.0, "A>B": 0.75, "A=B": 0.5, "B>A": 0.25, "B>>A": 0.0}


def published():
    """The module glm_winrate of alpaca_eval, without the package around it, which asks for much more."""
    spec = importlib.util.find_spec("alpaca_eval")
    folder = pathlib.Path(spec.submodule_search_locations[0])
    package = types.ModuleType("alpaca_eval")
    package.__path__ = [str(folder)]
    package.constants, package.utils = types.ModuleType("constants"), types.ModuleType("utils")
    package.types = types.SimpleNamespace(AnyLoadableDF=object)
    metrics = types.ModuleType("alpaca_eval.metrics")
    metrics.__path__ = [str(folder / "metrics")]
    winrate = types.ModuleType("alpaca_eval.metrics.winrate")
    winrate.get_winrate = None
    names = {"alpaca_eval": package, "alpaca_eval.metrics": metrics, "alpaca_eval.metrics.winrate": winrate}
    sys.modules |= names
    name = "alpaca_eval.metrics.glm_winrate"
    spec = importlib.util.spec_from_file_location(name, folder / "metrics" / "glm_winrate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def published_minimal(module, rounds):
    """The length-controlled win rate of alpaca_eval's form length_controlled_minimal."""
    frame = pd.DataFrame({"preference": [r["y"] for r in rounds]})
    delta = pd.Series([float(r["a"]["chars"] - r["b"]["chars"]) for r in rounds])
    frame["std_delta_len"] = -delta / delta.std()  # theirs is baseline − model
    frame["not_gamed_baseline"] = True
    at = frame[["not_gamed_baseline"]].copy()
    at["std_delta_len"] = 0
    info = module.GLM_INFO["length_controlled_minimal"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train, test = module.make_dmatrix_for_model(frame, at, formula=info["formula"])
        model = module.fit_LogisticRegressionCV(train, "preference", is_ytrue_proba=True, **info["kwargs"])
    return float(model.predict_proba(test)[:, 1].mean())


def sigmoid_fit(rows, y, weights=None):
    """Minimises the ridge-penalised cross-entropy by scipy."""
    rows, y = np.asarray(rows, float), np.asarray(y, float)
    weights = np.ones(len(y)) if weights is None else weights

    def loss(b):
        z = rows @ b
        return float(weights @ (np.logaddexp(0, z) - y * z) + RIDGE * b @ b / 2)

    def slope(b):
        return rows.T @ (weights * (special.expit(rows @ b) - y)) + RIDGE * b

    def curvature(b):
        p = special.expit(rows @ b)
        return rows.T @ (rows * (weights * p * (1 - p))[:, None]) + RIDGE * np.eye(len(b))

    start = np.zeros(rows.shape[1])
    return optimize.minimize(loss, start, jac=slope, hess=curvature, method="trust-exact", options={"gtol": 1e-12}).x


PATTERNS = {
    "headers": [r"^#{1,6}\s"],
    "lists": [r"^\s*\d+\.\s", r"^\s*[-*+]\s"],
    "bold": [r"\*\*[^*\n]+\*\*|__[^_\n]+__"],
}


def style(text):
    kept, fence = [], None
    for line in re.findall(r"[^\n]*\n|[^\n]+$", text):
        bare = line.strip()
        if fence is None and bare[:3] in ("```", "~~~"):
            fence = bare[:3]
        elif fence is not None:
            if bare.startswith(fence) and not bare.strip(fence[0]):
                fence = None
        else:
            kept.append(line)
    plain = "".join(kept)
    return {k: sum(len(re.findall(p, plain, re.MULTILINE | re.ASCII)) for p in ps) for k, ps in PATTERNS.items()}


def read(out):
    out = pathlib.Path(out)
    report = json.loads((out / "arena.json").read_text(encoding="utf-8"))
    games = pq.read_table(out / "games" / "games.parquet").to_pylist()
    answers = pq.read_table(out / "answers" / "answers.parquet").to_pylist()
    return report, games, answers


def share(game, of):
    value = of.get(game["verdict"])
    if value is None:
        return None
    return value if game["first"] == "a" else 1 - value


def rounds_of(games, answers, a, b, outcome):
    """The prompts that count, with the share that a got, and the match's counts."""
    of = SOFT if outcome == "soft" else HARD
    own = [g for g in games if (g["a"], g["b"]) == (a, b)]
    texts = {(x["model"], x["prompt_id"]): x for x in answers}
    counts = {
        "games": len(own),
        "prompts": len({g["prompt_id"] for g in own}),
        "first_wins": sum(g["verdict"] in ("A>>B", "A>B") for g in own),
        "second_wins": sum(g["verdict"] in ("B>>A", "B>A") for g in own),
        "both_orders": 0,
        "agree": 0,
    }
    unparsed = {}
    for g in own:
        if not g["verdict"]:
            unparsed[g["unparsed"]] = unparsed.get(g["unparsed"], 0) + 1
    by_prompt = {}
    for g in own:
        by_prompt.setdefault(g["prompt_id"], {}).setdefault(g["replicate"], {})[g["first"]] = g
    rounds = []
    for prompt, replicates in sorted(by_prompt.items()):
        got, category = [], next(iter(next(iter(replicates.values())).values()))["category"]
        for orders in replicates.values():
            if len(orders) < 2 or any(share(g, of) is None for g in orders.values()):
                continue
            counts["both_orders"] += 1
            counts["agree"] += share(orders["a"], HARD) == share(orders["b"], HARD)
            got.append((share(orders["a"], of) + share(orders["b"], of)) / 2)
        if got:
            a_text, b_text = texts.get((a, prompt)), texts.get((b, prompt))
            rounds.append({"prompt": prompt, "category": category, "y": float(np.mean(got)), "a": a_text, "b": b_text})
    counts["counted"] = len(rounds)
    return rounds, counts | {"unparsed": unparsed or None}


def difficulty(matches):
    """The log-odds of other models' mean outcome on each prompt, half a win and half a loss added."""
    sums = {}
    for rounds in matches:
        for r in rounds:
            won, n = sums.get(r["prompt"], (0.0, 0))
            sums[r["prompt"]] = (won + r["y"], n + 1)
    return {p: math.log((won + 0.5) / (n - won + 0.5)) for p, (won, n) in sums.items()}


def standardised(values):
    values = np.asarray(values, float)
    return (values - values.mean()) / values.std() if values.std() > 0 else np.zeros(len(values))


def length_rows(rounds, gamma):
    delta = np.array([float(r["a"]["chars"] - r["b"]["chars"]) for r in rounds])
    scale = delta.std(ddof=1)
    hard = standardised([gamma.get(r["prompt"], 0.0) for r in rounds])
    tanh = np.tanh(delta / scale) if scale > 0 else np.zeros(len(delta))
    return np.column_stack([np.ones(len(delta)), tanh, hard]), scale


def controlled(rows, b):
    return special.expit(b[0] + b[2] * rows[:, 2])


def style_rows(rounds):
    def densities(answer):
        tokens = answer["chars"] / 4
        counts = style(answer["text"])
        return [tokens] + [counts[k] / (tokens + 1) for k in PATTERNS]

    columns = []
    for r in rounds:
        a, b = densities(r["a"]), densities(r["b"])
        length = (a[0] - b[0]) / (a[0] + b[0]) if a[0] + b[0] else 0.0
        columns.append([length] + [(x - y) / (x + y + 1) for x, y in zip(a[1:], b[1:], strict=True)])
    columns = np.array(columns)
    deviation = columns.std(axis=0, ddof=1)
    scaled = np.divide(columns, deviation, out=np.zeros_like(columns), where=deviation > 0)
    return np.column_stack([np.ones(len(rounds)), scaled])


class Arena:
    def __init__(self, out, module, read_=read):
        self.report, self.games, self.answers = read_(out)
        self.module, self.read, self.problems = module, read_, []
        self.random = np.random.default_rng(20260101)

    def differ(self, what, got, want, tolerance=CLOSE):
        if got is None or not abs(got - want) <= tolerance:
            self.problems.append(f"{what} is {got!r}, should be {want!r}")

    def interval(self, what, got, values):
        """Ends of 95 % of another bootstrap agree within 4 standard errors of both.

        The standard error of the quantile q of B normal values is σ·√(q(1 − q)/B)/φ(z_q); for q = 0.025
        and 1,000 values that is 0.084 σ, and √2 of it for the difference of two such bootstraps.
        """
        low, high = np.percentile(values, [2.5, 97.5])
        b = self.report["resamples"]
        error = 4 * np.std(values) * math.sqrt(0.025 * 0.975 / b) / 0.0584 * math.sqrt(2)
        for name, end in (("low", low), ("high", high)):
            self.differ(f"{what}.{name}", got[name], float(end), error + 1e-9)

    def resamples(self, n, count=400):
        for _ in range(count):
            yield np.bincount(self.random.integers(n, size=n), minlength=n).astype(float)

    def known(self):
        matches = []
        for other in self.report.get("known") or []:
            report, games, answers = self.read(other["dir"])
            for a, b in report["pairings"]:
                if b == self.report["baseline"]:
                    matches.append(rounds_of(games, answers, a, b, self.report["outcome"])[0])
        return matches

    def check(self):
        outcome, baseline = self.report["outcome"], self.report["baseline"]
        played = [rounds_of(self.games, self.answers, a, b, outcome) for a, b in self.report["pairings"]]
        known = self.known()
        for i, ((a, b), (rounds, counts), figures) in enumerate(
            zip(self.report["pairings"], played, self.report["matches"], strict=True)
        ):
            others = known + [
                r for k, (r, _) in enumerate(played) if k != i and self.report["pairings"][k][1] == baseline
            ]
            self.check_match(f"{a} against {b}", rounds, counts, figures, difficulty(others) if b == baseline else {})
        if len(played) > 1:
            self.check_standings(baseline, [r for r, _ in played])
        return self

    def check_match(self, what, rounds, counts, figures, gamma):
        tally = figures["tally"]
        for name, want in counts.items():
            got = tally.get(name) or None if name == "unparsed" else tally[name]
            if got != want:
                self.problems.append(f"{what}: tally.{name} is {got!r}, should be {want!r}")
        y = np.array([r["y"] for r in rounds])
        self.differ(f"{what}: win_rate", figures["win_rate"]["value"], y.mean())
        self.differ(f"{what}: consistent", figures["consistent"], counts["agree"] / counts["both_orders"])
        decided = counts["first_wins"] + counts["second_wins"]
        self.differ(f"{what}: first_shown", figures["first_shown"], counts["first_wins"] / decided)
        least = 2.802 * y.std(ddof=1) / math.sqrt(len(y))
        self.differ(f"{what}: min_difference", figures["min_difference"], least)
        for side in "ab":
            mean = np.mean([len(r[side]["text"]) for r in rounds])
            self.differ(f"{what}: chars_{side}", figures[f"chars_{side}"], mean)
        rows, scale = length_rows(rounds, gamma)
        fitted, lengths = sigmoid_fit(rows, y), figures["length_controlled"]
        for name, want in zip(("theta", "phi", "psi"), fitted, strict=True):
            self.differ(f"{what}: length_controlled.{name}", lengths[name], want, FITTED)
        self.differ(f"{what}: length_controlled.scale", lengths["scale"], scale)
        self.differ(f"{what}: length_controlled", lengths["value"], controlled(rows, fitted).mean(), FITTED)
        form = "difficulty" if np.any(rows[:, 2]) else "minimal"
        if lengths["form"] != form:
            self.problems.append(f"{what}: length_controlled.form is {lengths['form']}, should be {form}")
        if form == "minimal":
            other = published_minimal(self.module, rounds)
            self.differ(f"{what}: length_controlled (alpaca_eval)", lengths["value"], other, PUBLISHED)
            print(f"  {what}: length-controlled {100 * lengths['value']:.3f} %, by alpaca_eval {100 * other:.3f} %")
        styles, style_figures = style_rows(rounds), figures["style_controlled"]
        fitted_style = sigmoid_fit(styles, y)
        for name, want in zip(("theta", "length", "headers", "lists", "bold"), fitted_style, strict=True):
            self.differ(f"{what}: style_controlled.{name}", style_figures[name], want, 10 * FITTED)
        self.differ(f"{what}: style_controlled", style_figures["value"], special.expit(fitted_style[0]), FITTED)
        draws = list(self.resamples(len(y)))
        self.interval(f"{what}: win_rate", figures["win_rate"], [w @ y / w.sum() for w in draws])
        values = [(w @ controlled(rows, sigmoid_fit(rows, y, w))) / w.sum() for w in draws]
        self.interval(f"{what}: length_controlled", lengths, values)
        for category in figures.get("categories") or []:
            own = [r["y"] for r in rounds if r["category"] == category["name"]]
            if len(own) != category["prompts"]:
                self.problems.append(f"{what}: {category['name']} has {category['prompts']} prompts, not {len(own)}")
            self.differ(f"{what}: {category['name']}", category["win_rate"]["value"], np.mean(own))

    def check_standings(self, baseline, played):
        models = sorted({m for pair in self.report["pairings"] for m in pair} - {baseline})
        column = {m: i for i, m in enumerate(models)}
        rows, y, prompts = [], [], []
        for (a, b), rounds in zip(self.report["pairings"], played, strict=True):
            for r in rounds:
                row = np.zeros(len(models))
                if a != baseline:
                    row[column[a]] += 1
                if b != baseline:
                    row[column[b]] -= 1
                rows.append(row)
                y.append(r["y"])
                prompts.append(r["prompt"])
        rows, y = np.array(rows), np.array(y)
        at = np.unique(prompts, return_inverse=True)[1]
        fitted = sigmoid_fit(rows, y)
        drawn = np.array([sigmoid_fit(rows, y, w[at]) for w in self.resamples(at.max() + 1)])
        got = {s["model"]: s for s in self.report["standings"]}
        if set(got) != {baseline, *models} or got[baseline]["strength"]["value"] != 0:
            self.problems.append(f"standings have the models {sorted(got)}")
            return
        for m in models:
            self.differ(f"standings: {m}", got[m]["strength"]["value"], fitted[column[m]], FITTED)
            self.interval(f"standings: {m}", got[m]["strength"], drawn[:, column[m]])
        order = [s["strength"]["value"] for s in self.report["standings"]]
        if order != sorted(order, reverse=True):
            self.problems.append("standings are not in the order of the strengths")


def self_test(out, module):
    """Plants errors; returns those that were not found."""
    whole = read(out)
    missed, count = [], 0

    def plant(what, spoil):
        nonlocal count
        count += 1
        spoiled = copy.deepcopy(whole)
        spoil(*spoiled)
        found = Arena(out, module, lambda o: spoiled if o == out else read(o)).check().problems
        if not any(what in f for f in found):
            missed.append(f"{out}: an error in {what} is not found, only {found[:3]}")

    def verdict(report, games, answers):
        decided = next(g for g in games if g["verdict"] == "A>B")
        decided["verdict"] = "B>A"

    def off(path, by):
        def spoil(report, games, answers):
            at = report
            for key in path[:-1]:
                at = at[key]
            at[path[-1]] += by

        return spoil

    match = ("matches", 0)
    plant("win_rate", verdict)
    plant("tally.first_wins", verdict)
    plant("tally.games", lambda report, games, answers: games.pop())
    plant("chars_a", lambda report, games, answers: [x.update(text=x["text"] + "!") for x in answers])
    plant("length_controlled", off((*match, "length_controlled", "value"), 0.002))
    plant("length_controlled.low", off((*match, "length_controlled", "low"), -0.1))
    plant("win_rate.high", off((*match, "win_rate", "high"), 0.1))
    plant("style_controlled", off((*match, "style_controlled", "value"), 0.001))
    plant("min_difference", off((*match, "min_difference"), 0.001))
    if whole[0]["matches"][0]["length_controlled"]["form"] == "minimal":
        plant("alpaca_eval", off((*match, "length_controlled", "value"), 0.002))
    if whole[0].get("standings"):
        plant("standings", off(("standings", 0, "strength", "value"), 0.01))
    print(f"{out}: {count} errors were planted")
    return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("outs", nargs="+", metavar="OUT", help="folder of an arena")
    parser.add_argument("--self-test", action="store_true", help="plant errors and look whether they are found")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    module, problems = published(), []
    for out in args.outs:
        if args.self_test:
            problems += self_test(out, module)
            continue
        found = Arena(out, module).check().problems
        print(f"{out}: {len(found)} differences")
        problems += [f"{out}: {p}" for p in found]
    for problem in problems[:50]:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
