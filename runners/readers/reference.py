"""Recomputes every selection of a run from its raw tables alone, and compares.

An independent reference of the method: it shares no code with the program, uses fractions
where the program uses integers and its own solvers for both kinds of ratings, and reads nothing but
raw/, failures/ and run.json. What it recomputes it compares with what the run wrote: scores,
variances, the contested response, position weights, ratings, outcomes with their reasons, and
the pairs of both roles. IDs must be the same on every prompt, except where ratings tie within
TIE.

    reference.py OUT...             exits with 1 and a list if anything differs
    reference.py --self-test OUT    plants one error after the other, each of which must be found

Needs numpy and pyarrow.
"""

import argparse
import collections
import copy
import dataclasses
import hashlib
import json
import math
import pathlib
import re
import statistics
import sys
import unicodedata
import uuid
from fractions import Fraction

import numpy as np
import pyarrow.parquet as pq
import reads
import rounds

# Ratings that are closer than this are equal for another machine's rounding.
TIE = 1e-7

TABLES = {
    "actor": "actor",
    "judge": "judge",
    "prompts": "raw/prompts",
    "responses": "raw/responses",
    "judgments": "raw/judgments",
    "comparisons": "raw/comparisons",
    "failures": "failures",
    "reads": "raw/reads",
}


def read(out):
    """Returns run.json and the tables of a run, each a list of rows."""
    out = pathlib.Path(out)
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    tables = {}
    for name, folder in TABLES.items():
        tables[name] = []
        for file in sorted((out / folder).glob("*.parquet")):
            tables[name] += pq.read_table(file).to_pylist()
    return run, tables


# ---------------------------------------------------------------------------- the method


def thousandths(score):
    """A score as an integer of thousandths of a point."""
    n = round(score * 1000)
    if n / 1000 != score or not 0 <= n <= 5000:
        raise ValueError(f"{score!r} is no score with three decimals")
    return n


@dataclasses.dataclass
class Scored:
    """A response with the exact mean and variance of its parsed scores."""

    row: dict
    parsed: list
    mean: Fraction | None
    variance: Fraction | None
    # The role whose model gave it: actor, past or future.
    pool: str = "actor"
    # The mean on the judge's own scale.
    own: Fraction | None = None


def image(points, mean):
    """What a calibration makes of a mean: linear between its points, level outside, in thousandths."""
    at = [Fraction(thousandths(p["score"]), 1000) for p in points]
    people = [Fraction(thousandths(p["people"]), 1000) for p in points]
    mean = min(max(mean, at[0]), at[-1])
    i = max(k for k in range(len(at) - 1) if at[k] <= mean)
    exact = people[i] + (mean - at[i]) * (people[i + 1] - people[i]) / (at[i + 1] - at[i])
    return Fraction((exact * 1000 + Fraction(1, 2)).__floor__(), 1000)


# The stages in which the roles answer.
STAGES = {"actor": "generate", "past": "generate_past", "future": "generate_future"}


def identity(role):
    return role["model"] + ("@" + role["revision"] if role.get("revision") else "")


def score(row, judgments, min_judgments, calibration=None):
    """S_k and V_k; None for both when too few judgments were parsed.

    S_k is on the scale of people where the run has a calibration, V_k always on the judge's own.
    """
    parsed = [Fraction(thousandths(j["score"]), 1000) for j in judgments if j["score"] is not None]
    if len(parsed) < min_judgments:
        return Scored(row, parsed, None, None)
    mean = sum(parsed) / len(parsed)
    variance = sum((s - mean) ** 2 for s in parsed) / len(parsed)
    return Scored(row, parsed, image(calibration["points"], mean) if calibration else mean, variance, own=mean)


def score_by_reads(row, rows, calibration=None):
    """S_k and V_k of a response that was read: of the mixture of its reads' distributions."""
    parsed, mean, variance = reads.moments(rows)
    scale = calibration and mean is not None
    return Scored(row, parsed, image(calibration["points"], mean) if scale else mean, variance, own=mean)


def contested(scored, judgments, at_least):
    """The actor's response whose judgments spread the most, of equals the one with the lowest ID.

    Responses with fewer than at_least distinct parsed judgments count only if no other has spread.
    """
    spread = [s for s in scored if s.variance and s.pool == "actor"]
    distinct = {s.row["id"]: sum(j["distinct"] for j in judgments[s.row["id"]]) for s in spread}
    spread = [s for s in spread if distinct[s.row["id"]] >= at_least] or spread
    return min(spread, key=lambda s: (-s.variance, s.row["id"])).row if spread else None


@dataclasses.dataclass(frozen=True)
class Selection:
    outcome: str
    reason: str | None = None
    chosen: str | None = None
    rejected: str | None = None


def undecided(reason, failures, stages):
    """The possible selections of a prompt that lacks results for a decision.

    It failed if calls failed for good in a stage that feeds the decision. The code is the most
    frequent one of these failures. If several are equally frequent, each of them is right.
    """
    codes = collections.Counter((f["stage"], f["code"]) for f in failures if f["stage"] in stages)
    if not codes:
        return {Selection("dropped", reason)}
    most = max(codes.values())
    return {Selection("failed", code) for (_, code), n in codes.items() if n == most}


def missing(pool, scored, failures):
    """How many more responses of a pool might be scored if no call had failed."""
    judged = {f["response_id"] for f in failures if f["stage"] in ("judge", "judge_reads")}
    calls = sum(f["stage"] == STAGES[pool] for f in failures)
    return calls + sum(s.pool == pool and s.mean is None and s.row["id"] in judged for s in scored)


def tiers(pool, method):
    """The shortest of the top tier and the longest of the bottom tier of one pool."""
    rho = Fraction(repr(method["rho"]))
    highest, lowest = max(s.mean for s in pool), min(s.mean for s in pool)
    top = [s for s in pool if s.mean >= (1 - rho) * highest + rho * lowest]
    bottom = [s for s in pool if s.mean <= (1 - rho) * lowest + rho * highest]
    return (
        min(top, key=lambda s: (len(s.row["text"]), s.row["id"])),
        min(bottom, key=lambda s: (-len(s.row["text"]), s.row["id"])),
    )


def keep(chosen, rejected, method):
    if chosen.mean - rejected.mean < Fraction(repr(method["min_margin"])):
        return {Selection("dropped", "margin")}
    limit = method["max_chosen_chars"]
    if limit and len(chosen.row["text"]) > limit:
        return {Selection("dropped", "chosen_too_long")}
    return {Selection("paired", None, chosen.row["id"], rejected.row["id"])}


def actor_selections(scored, failures, method):
    """What the actor's selection may be: one, unless failures tie."""
    pools = {name: [s for s in scored if s.mean is not None and s.pool == name] for name in STAGES}
    if method.get("pairs") == "temporal":
        return temporal_selections(pools, scored, failures, method)
    own = pools["actor"]
    if len(own) < 2:
        if len(own) + missing("actor", scored, failures) < 2:
            return {Selection("dropped", "too_few_scored")}  # without the failures too
        return undecided("too_few_scored", failures, ("generate", "judge_reads", "judge"))
    if len({s.mean for s in own}) == 1:
        return {Selection("dropped", "equal_scores")}
    return keep(*tiers(own, method), method)


def temporal_selections(pools, scored, failures, method):
    """Pairs between checkpoints: each side from the pool with the strictly better extreme, else the actor's."""
    used = ["actor", "past", "future"][: 1 + method["phase"]]
    found = sum(len(pools[name]) for name in used)
    if not pools["actor"] or found < 2:
        possible = found + sum(missing(name, scored, failures) for name in used)
        if len(pools["actor"]) + missing("actor", scored, failures) == 0 or possible < 2:
            return {Selection("dropped", "too_few_scored")}
        return undecided("too_few_scored", failures, (*STAGES.values(), "judge_reads", "judge"))
    means = {name: [s.mean for s in pools[name]] for name in used}
    below = used[1:2] if means["past"] and min(means["past"]) < min(means["actor"]) else ["actor"]
    above = ["future"] if means.get("future") and max(means["future"]) > max(means["actor"]) else ["actor"]
    chosen, _ = tiers(pools[above[0]], method)
    _, rejected = tiers(pools[below[0]], method)
    if not chosen.mean > rejected.mean:
        return {Selection("dropped", "no_gap")}
    return keep(chosen, rejected, method)


def win(comparison):
    """The probability that the first wins, in millionths: that of a read, 1 or 0 of a verdict, None without one."""
    if "read" in comparison:
        value = comparison["read"]["value"]
        return None if value is None else reads.micros(value)
    return {"first": 1_000_000, "second": 0}.get(comparison["winner"])


def position_weights(comparisons, more=0):
    """w1 and w2 of comparisons; more is added to both counts."""
    known = [w for w in map(win, comparisons) if w is not None]
    first = sum(known) + more * 1_000_000
    second = sum(1_000_000 - w for w in known) + more * 1_000_000
    if first + second == 0:
        return 0.5, 0.5
    return second / (first + second), first / (first + second)


def wins(ids, comparisons, weights):
    """B, with r(m,n) found by the IDs of both judgments."""
    r = {(c["first_id"], c["second_id"]): win(c) for c in comparisons}
    b = np.zeros((len(ids), len(ids)))
    for i, m in enumerate(ids):
        for k, n in enumerate(ids):
            if i != k and r.get((m, n)) is not None:
                b[i, k] += weights[0] * r[m, n] / 1e6
            if i != k and r.get((n, m)) is not None:
                b[i, k] += weights[1] * (1_000_000 - r[n, m]) / 1e6
    return b


def gradient(b, penalty, eps):
    """The gradient of sum B_mn log sigmoid(eps_m - eps_n) - penalty/2 |eps|^2."""
    p = 1 / (1 + np.exp(eps[None, :] - eps[:, None]))  # p[m, n] = sigmoid(eps_m - eps_n)
    pull = b * (1 - p)
    return pull.sum(axis=1) - pull.sum(axis=0) - penalty * eps, p


def ratings(b, penalty):
    """eps, and how far from the maximum it can be.

    The objective is strictly concave with a curvature of at least penalty, so that the length
    of the gradient over penalty bounds the distance to the one maximum. Damped Newton steps:
    each is shortened until the gradient shrinks.
    """
    eps = np.zeros(len(b))
    both = b + b.T
    g, p = gradient(b, penalty, eps)
    for _ in range(200):
        if np.linalg.norm(g) < 1e-13 * penalty:
            break
        w = both * p * (1 - p)
        hessian = np.diag(w.sum(axis=1) + penalty) - w
        step = np.linalg.solve(hessian, g)
        scale = 1.0
        while scale > 1e-9:
            after, p_after = gradient(b, penalty, eps + scale * step)
            if np.linalg.norm(after) < np.linalg.norm(g):
                break
            scale /= 2
        else:
            break  # rounding is all that is left
        eps, g, p = eps + scale * step, after, p_after
    return eps - eps.mean(), np.linalg.norm(g) / penalty


# What Unicode calls white space.
SPACE = re.compile("[\t\n\v\f\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")


def collapse(text):
    return SPACE.sub(" ", text).strip(" ")


def pick(eps, ids, tie):
    """The places that may be the best and the worst, the expected ones first.

    Ratings are rounded to 1e-9 and of equals the lowest ID is the best, the highest the worst.
    """
    rounded = [round(e, 9) for e in eps]
    places = range(len(ids))
    best = min(places, key=lambda i: (-rounded[i], ids[i]))
    worst = max(places, key=lambda i: (-rounded[i], ids[i]))
    bests = [best] + [i for i in places if i != best and eps[i] >= max(eps) - tie]
    worsts = [worst] + [i for i in places if i != worst and eps[i] <= min(eps) + tie]
    return bests, worsts


def decide(best, worst, rounded, judgments, comparisons, failures, method):
    """What becomes of the judgments with the highest and the lowest rating."""
    chosen, rejected = judgments[best], judgments[worst]
    for judgment in chosen, rejected:
        own = [c for c in comparisons if judgment["id"] in (c["first_id"], c["second_id"])]
        verdicts = sum(win(c) is not None for c in own)
        requested = 2 * (len(judgments) - 1)
        if method.get("asked_in_rounds"):
            lost = [f for f in failures if f["stage"] == "meta" and judgment["id"] in (f["first_id"], f["second_id"])]
            requested = len(own) + len(lost)
        if verdicts == 0 or Fraction(verdicts, requested) < Fraction(1, 3):
            return undecided("too_few_verdicts", failures, ("meta",))
    limit = method["max_judgment_chars"]
    if rounded[best] == rounded[worst]:
        reason = "equal_elo"
    elif collapse(chosen["text"]) == collapse(rejected["text"]):
        reason = "equal_texts"
    elif method["drop_equal_scores"] and chosen["score"] == rejected["score"]:
        reason = "equal_judgment_scores"
    elif limit and len(chosen["text"]) > limit:
        reason = "judgment_too_long"
    else:
        return {Selection("paired", None, chosen["id"], rejected["id"])}
    return {Selection("dropped", reason)}


# ------------------------------------------------------------------------- the comparison


class Report:
    """What was found wrong, and what was compared."""

    def __init__(self):
        self.problems = []
        self.counts = collections.Counter()

    def wrong(self, where, what):
        self.problems.append(f"{where}: {what}")

    def equal(self, where, what, is_, want):
        if is_ != want or type(is_) is not type(want):
            self.wrong(where, f"{what} is {is_!r}, the reference says {want!r}")

    def close(self, where, what, is_, want, within):
        if (is_ is None) != (want is None) or is_ is not None and not abs(is_ - want) <= within:
            self.wrong(where, f"{what} is {is_!r}, the reference says {want if want is None else float(want)!r}")


def by(rows, *columns):
    groups = collections.defaultdict(list)
    for row in rows:
        groups[tuple(row[c] for c in columns) if len(columns) > 1 else row[columns[0]]].append(row)
    return groups


class Reference:
    """One run, compared prompt by prompt."""

    def __init__(self, run, tables):
        self.run, self.tables, self.config = run, tables, run["config"]
        self.roles = self.config["roles"]
        self.budget = self.config.get("meta_judge", {}).get("budget")
        self.method = self.config["method"] | {"asked_in_rounds": bool(self.budget)}
        self.report = Report()
        pools = self.config["actor"].get("pools", [])
        self.models = {"actor": identity(self.config["actor"]["role"])}
        self.models |= {p["role"]["name"]: identity(p["role"]) for p in pools}
        self.asked = {"actor": self.config["actor"]["n"]} | {p["role"]["name"]: p["n"] for p in pools}
        self.responses = by(tables["responses"], "prompt_id")
        self.judgments = by(tables["judgments"], "response_id")
        self.comparisons = by(tables["comparisons"], "prompt_id")
        self.failures = by(tables["failures"], "prompt_id")
        self.reads = by((r for r in tables["reads"] if r["first_id"] is None), "response_id")
        self.reads_scores = bool(self.config["judge"].get("reads"))
        self.reads_comparisons = bool(self.config.get("meta_judge", {}).get("role", {}).get("read"))
        self.join_reads()
        self.judged = collections.Counter()
        self.asking = collections.Counter()
        self.drawn = []
        self.pairs = {role: by(tables[role], "prompt_id") for role in ("actor", "judge")}
        self.run_weights = position_weights(tables["comparisons"])
        self.outcomes = {role: collections.Counter() for role in self.roles}
        self.judge_frames = collections.defaultdict(list)

    def join_reads(self):
        """Gives each comparison that is a read its row in raw/reads."""
        of_comparisons = {r["id"]: r for r in self.tables["reads"] if r["first_id"] is not None}
        for c in self.tables["comparisons"]:
            if c["id"] in of_comparisons:
                c["read"] = of_comparisons.pop(c["id"])
        for i in of_comparisons:
            self.report.wrong(f"read {i}", "it has no row in raw/comparisons")

    def check_reads(self):
        """The columns of the reads follow from their log-probabilities."""
        judge = self.config["judge"]
        low, high = (judge.get("scale", {}).get(k, d) for k, d in (("min", 0), ("max", 5000)))
        labels = [str(n) for n in range(-(-low // 1000), high // 1000 + 1)]
        meta = self.config.get("meta_judge", {}).get("role", {}).get("read", {})
        for row in self.tables["reads"]:
            if row["first_id"] is None:
                reads.check(self.report, row, reads.points(labels), judge.get("read_min_mass", 0.5), True)
            else:
                reads.check(self.report, row, reads.WINS, meta.get("min_mass", 0.5), False)

    def check(self):
        self.check_reads()
        for rows in self.judgments.values():
            rows.sort(key=lambda j: j["replicate"])
        check_ids(self.report, self.tables)
        for prompt in self.tables["prompts"]:
            self.check_prompt(prompt)
        self.check_judge_frames()
        self.check_orphans()
        self.check_run()
        return self.report

    def check_prompt(self, prompt):
        where = f"prompt {prompt['id']}"
        responses = self.responses[prompt["id"]]
        failures = self.failures[prompt["id"]]
        self.report.equal(where, "chars", prompt["chars"], sum(len(m["content"]) for m in prompt["prompt"]))
        self.check_replicates(where, responses, failures)
        scored = [self.check_response(r, failures) for r in responses]
        at_least = 0 if self.reads_scores else self.method["min_meta_judgments"]  # reads come before judgments
        most = contested(scored, self.judgments, at_least)
        for s in scored:
            self.check_judged(s, most, failures)
        self.report.equal(where, "contested_response_id", prompt["contested_response_id"], most and most["id"])
        for r in responses:
            self.report.equal(f"response {r['id']}", "contested", r["contested"], r is most)
        if "actor" in self.roles:
            self.check_outcome("actor", prompt, actor_selections(scored, failures, self.method))
        else:
            self.check_no_outcome("actor", prompt)
        if "judge" in self.roles:
            self.check_judge(prompt, responses, scored, most, failures)
        else:
            self.check_no_outcome("judge", prompt)
            self.report.equal(where, "number of comparisons", len(self.comparisons[prompt["id"]]), 0)
        self.report.counts["prompts"] += 1

    def check_replicates(self, where, responses, failures):
        """Every replicate that was asked for is a text or a failure, and equal texts of a model are one."""
        for pool, n in self.asked.items():
            own = [r for r in responses if self.pool_of(r) == pool]
            got = sorted(
                [i for r in own for i in r["replicates"]]
                + [f["replicate"] for f in failures if f["stage"] == STAGES[pool]]
            )
            name = "the actor" if pool == "actor" else pool
            self.report.equal(where, f"replicates of {name}", got, list(range(n)))
            if len({r["text"] for r in own}) != len(own):
                self.report.wrong(where, f"two responses of {name} have one text")

    def pool_of(self, response):
        """The role whose model gave a response."""
        for name, model in self.models.items():
            if response["model"] == model:
                return name
        self.report.wrong(f"response {response['id']}", f"its model {response['model']!r} is none of {self.models}")
        return "actor"

    def check_response(self, r, failures):
        where = f"response {r['id']}"
        judgments = self.judgments[r["id"]]
        self.report.equal(where, "chars", r["chars"], len(r["text"]))
        if (r["status"] == "empty") != (r["text"] == "" and r["status"] != "truncated"):
            self.report.wrong(where, f"status is {r['status']} for {len(r['text'])} characters")
        seen = set()
        for j in judgments:
            self.check_judgment(j, seen)
        if self.reads_scores:
            asked = list(range(self.config["judge"]["reads"])) if r["status"] == "complete" else []
            failed = [f["replicate"] for f in failures if f["stage"] == "judge_reads" and f["response_id"] == r["id"]]
            got = sorted([row["replicate"] for row in self.reads[r["id"]]] + failed)
            self.report.equal(where, "replicates of the reads", got, asked)
            result = score_by_reads(r, self.reads[r["id"]], self.config.get("calibration"))
        else:
            result = score(r, judgments, self.method["min_judgments"], self.config.get("calibration"))
        self.report.equal(where, "parsed_judgments", r["parsed_judgments"], len(result.parsed))
        self.report.close(where, "score_mean", r["score_mean"], result.mean, 1e-12)
        self.report.close(where, "score_variance", r["score_variance"], result.variance, 1e-12)
        result.pool = self.pool_of(r)
        self.report.counts["responses"] += 1
        return result

    def check_judged(self, scored, most, failures):
        """The judge was asked as often as it should have been: under reads, for the contested response alone."""
        r, judge = scored.row, self.config["judge"]
        judgments = self.judgments[r["id"]]
        asked = judge["n"] if r["status"] == "complete" else 0
        if self.reads_scores:
            asked = 0
            if r is most and "judge" in self.roles:
                scores = {
                    j["replicate"]: Fraction(thousandths(j["score"]), 1000) for j in judgments if j["score"] is not None
                }
                asked, stop = reads.judged(judge, scores, scored.own, scored.variance)
                if stop:
                    self.judged["asked"] += asked
                    self.judged[stop] += 1
        failed = [f["replicate"] for f in failures if f["stage"] == "judge" and f["response_id"] == r["id"]]
        got = sorted([j["replicate"] for j in judgments] + failed)
        self.report.equal(f"response {r['id']}", "replicates of the judge", got, list(range(asked)))

    def check_judgment(self, j, seen):
        where = f"judgment {j['id']}"
        self.report.equal(where, "chars", j["chars"], len(j["text"]))
        parsed = j["score"] is not None
        self.report.equal(where, "unparsed_reason is null", j["unparsed_reason"] is None, parsed)
        self.report.equal(where, "distinct", j["distinct"], parsed and j["text"] not in seen)
        if parsed:
            seen.add(j["text"])
            if not says_score(j["text"], thousandths(j["score"])):
                self.report.wrong(where, f"its text does not say the score {j['score']}")
        else:
            plain = plain_score(j["text"])
            if plain is not None and j["unparsed_reason"] != "cut_off":
                self.report.wrong(
                    where, f"its text ends in the score {plain}, but it is unparsed: {j['unparsed_reason']}"
                )
        self.report.counts["judgments"] += 1

    def check_judge(self, prompt, responses, scored, most, failures):
        where = f"prompt {prompt['id']}"
        comparisons = self.comparisons[prompt["id"]]
        judgments = (
            sorted((j for j in self.judgments[most["id"]] if j["distinct"]), key=lambda j: j["id"]) if most else []
        )
        enough = most is not None and len(judgments) >= self.method["min_meta_judgments"]
        self.check_comparisons(where, most, judgments if enough else [], comparisons, failures)
        self.check_asking(where, prompt, judgments if enough else [], comparisons, failures)
        eps = {}
        if most is None:
            own = [s for s in scored if s.pool == "actor"]
            if any(s.mean is not None for s in own) or missing("actor", scored, failures) == 0:
                selections = {Selection("dropped", "not_contested")}
            else:
                selections = undecided("not_contested", failures, ("generate", "judge_reads", "judge"))
        elif not enough:
            lost = sum(f["stage"] == "judge" and f["response_id"] == most["id"] for f in failures)
            if len(judgments) + lost < self.method["min_meta_judgments"]:
                selections = {Selection("dropped", "too_few_judgments")}
            else:
                selections = undecided("too_few_judgments", failures, ("judge",))
        else:
            values, selections = self.rate(where, judgments, comparisons, failures)
            eps = {j["id"]: e for j, e in zip(judgments, values)}
            self.report.counts["rated"] += 1
        for r in responses:
            for j in self.judgments[r["id"]]:
                self.report.close(f"judgment {j['id']}", "elo", j["elo"], eps.get(j["id"]), 1e-8)
        self.check_outcome("judge", prompt, selections)

    def check_comparisons(self, where, most, judgments, comparisons, failures):
        """Every ordered pair is a comparison or a failure, and no other."""
        want = {(m["id"], n["id"]) for m in judgments for n in judgments if m is not n}
        got = [(c["first_id"], c["second_id"]) for c in comparisons]
        got += [(f["first_id"], f["second_id"]) for f in failures if f["stage"] == "meta"]
        if self.budget:
            if not set(got) <= want:
                self.report.wrong(where, f"comparisons of judgments that were not to be compared: {set(got) - want}")
        elif len(got) != len(set(got)) or set(got) != want:
            self.report.wrong(
                where,
                f"{len(got)} comparisons and failures, the reference says {len(want)} ordered pairs of {len(judgments)} judgments",
            )
        for c in comparisons:
            at = f"comparison {c['id']}"
            self.report.equal(at, "response_id", c["response_id"], most and most["id"])
            self.report.equal(
                at, "unparsed_reason is null", c["unparsed_reason"] is None, c["winner"] in ("first", "second")
            )
            if self.reads_comparisons:
                self.check_read_winner(at, c)
            elif c["winner"] not in ("first", "second", "none"):
                self.report.wrong(at, f"winner is {c['winner']!r}")
            elif c["winner"] != "none" and not says_winner(c["text"], "AB"[c["winner"] == "second"]):
                self.report.wrong(at, f"its text does not say that the {c['winner']} wins")
            self.report.counts["comparisons"] += 1

    def check_asking(self, where, prompt, judgments, comparisons, failures):
        """The comparisons of a budget: their rounds, and why they ended."""
        if not self.budget or not judgments:
            for column in ("asking_stopped", "expected_regret", "expected_spread"):
                self.report.equal(where, column, prompt[column], None)
            for c in comparisons:
                self.report.equal(f"comparison {c['id']}", "round", c["round"], None)
            return
        failed = [(f["first_id"], f["second_id"]) for f in failures if f["stage"] == "meta"]
        asking = rounds.Asking(self.report, where, judgments, comparisons, failed, self.budget, win)
        found = len(self.report.problems)
        asking.check_pairs()
        if len(self.report.problems) == found:  # else there are no rounds to follow
            self.drawn += asking.check_stop(prompt)
        self.asking["asked"] += len(asking.orders)
        self.asking["possible"] += len(judgments) * (len(judgments) - 1)
        self.asking[prompt["asking_stopped"] or "nothing"] += 1
        for name in ("regret", "spread"):
            self.asking[f"{name}_micros"] += reads.micros(prompt[f"expected_{name}"] or 0)
        self.report.counts["prompts asked in rounds"] += 1

    def check_read_winner(self, at, c):
        """The winner of a read is the likelier one."""
        if "read" not in c:
            self.report.wrong(at, "it has no row in raw/reads")
            return
        p = win(c)
        want = "none" if p is None or 2 * p == 1_000_000 else "first" if 2 * p > 1_000_000 else "second"
        self.report.equal(at, "winner", c["winner"], want)
        self.report.equal(at, "unparsed_reason", c["unparsed_reason"], c["read"]["unparsed_reason"])

    def weights(self, comparisons):
        mode = self.method["position_weights"]
        if mode == "fixed":
            return self.method["fixed_position_weights"]
        return position_weights(comparisons, 1) if mode == "response" else self.run_weights

    def rate(self, where, judgments, comparisons, failures):
        """The ratings, and the selections that are right for them."""
        ids = [j["id"] for j in judgments]
        if self.method.get("rating") == "scores":
            scores = [j["score"] for j in judgments]
            eps = rounds.ratings(ids, scores, comparisons, win, self.weights(comparisons))
        else:
            eps, off = ratings(wins(ids, comparisons, self.weights(comparisons)), self.method["elo_lambda"])
            if not off < TIE / 2:
                self.report.wrong(where, f"the reference's ratings may be off by {off}")
            recorded = [j["elo"] for j in judgments]
            if None not in recorded and abs(sum(recorded)) > 1e-9 * len(recorded):
                self.report.wrong(where, f"the ratings sum to {sum(recorded)}")
        bests, worsts = pick(eps, ids, TIE)
        rounded = [round(e, 9) for e in eps]
        selections = decide(bests[0], worsts[0], rounded, judgments, comparisons, failures, self.method)
        recorded = {(p["chosen_id"], p["rejected_id"]) for p in self.pairs["judge"][judgments[0]["prompt_id"]]}
        if len(bests) == len(worsts) == 1 or recorded == {
            (c.chosen, c.rejected) for c in selections if c.outcome == "paired"
        }:
            return eps, selections
        # Ratings tie, and the run's rounding ordered them differently: each order is right.
        self.report.counts["ties that fell otherwise"] += 1
        for best in bests:
            for worst in worsts:
                if best != worst:
                    selections |= decide(best, worst, rounded, judgments, comparisons, failures, self.method)
        if max(eps) - min(eps) < TIE:
            selections |= {Selection("dropped", "equal_elo")}
        return eps, selections

    def check_outcome(self, role, prompt, selections):
        where = f"prompt {prompt['id']}"
        outcome, reason = prompt[f"{role}_outcome"], prompt[f"{role}_reason"]
        rows = self.pairs[role][prompt["id"]]
        self.outcomes[role][outcome, reason] += 1
        self.report.counts[f"{role} pairs"] += len(rows)
        is_ = Selection(outcome, reason)
        if len(rows) == 1:
            is_ = Selection(outcome, reason, rows[0]["chosen_id"], rows[0]["rejected_id"])
        if len(rows) > 1 or is_ not in selections:
            want = " or ".join(sorted(map(describe, selections)))
            self.report.wrong(where, f"the {role} is {describe(is_)} with {len(rows)} pairs, the reference says {want}")
        for row in rows:
            self.check_pair(role, prompt, row)

    def check_no_outcome(self, role, prompt):
        where = f"prompt {prompt['id']}"
        self.report.equal(where, f"{role}_outcome", prompt[f"{role}_outcome"], None)
        self.report.equal(where, f"{role}_reason", prompt[f"{role}_reason"], None)
        self.report.equal(where, f"number of {role} pairs", len(self.pairs[role][prompt["id"]]), 0)

    def check_pair(self, role, prompt, row):
        """The pair's columns, from the rows that it names."""
        where = f"{role} pair {row['id']}"
        for column in ("own_id", "metadata"):
            self.report.equal(where, column, row[column], prompt[column])
        responses = {r["id"]: r for r in self.responses[prompt["id"]]}
        if role == "actor":
            sides = responses
            scores = {i: r["score_mean"] for i, r in sides.items()}
            self.report.equal(where, "prompt", row["prompt"], prompt["prompt"])
            for column in ("response_id", "chosen_elo", "rejected_elo"):
                self.report.equal(where, column, row[column], None)
        else:
            self.report.equal(where, "response_id", row["response_id"], prompt["contested_response_id"])
            sides = {j["id"]: j for j in self.judgments[row["response_id"]]}
            scores = {i: j["score"] for i, j in sides.items()}
            self.check_judge_prompt(where, prompt, responses.get(row["response_id"]), row["prompt"])
        for side in ("chosen", "rejected"):
            source = sides.get(row[f"{side}_id"])
            if source is None:
                self.report.wrong(where, f"{side}_id names no row of its response")
                return
            self.report.equal(where, side, row[side], [{"role": "assistant", "content": source["text"]}])
            self.report.equal(where, f"{side}_chars", row[f"{side}_chars"], len(source["text"]))
            self.report.equal(where, f"{side}_model", row[f"{side}_model"], source["model"])
            self.report.equal(where, f"{side}_score", row[f"{side}_score"], scores[row[f"{side}_id"]])
            if role == "judge":
                self.report.equal(where, f"{side}_elo", row[f"{side}_elo"], source["elo"])
        margin = row["chosen_score"] - row["rejected_score"]
        self.report.close(where, "score_margin", row["score_margin"], margin, 1e-9)
        self.check_margin_se(where, role, row, responses)

    def check_margin_se(self, where, role, row, responses):
        """The standard error of the difference of two means of an actor pair, by the statistics module."""
        if role == "judge" or self.reads_scores:  # the variance of a read is not one of repeated scores
            self.report.equal(where, "margin_se", row["margin_se"], None)
            return
        squares = 0.0
        for side in ("chosen", "rejected"):
            scores = [j["score"] for j in self.judgments[row[f"{side}_id"]] if j["score"] is not None]
            if len(scores) < 2:
                self.report.equal(where, "margin_se", row["margin_se"], None)
                return
            squares += statistics.variance(scores) / len(scores)
        self.report.close(where, "margin_se", row["margin_se"], math.sqrt(squares), 1e-9)

    def check_judge_prompt(self, where, prompt, response, messages):
        """The judge's prompt quotes the whole conversation and the answer, word for word."""
        if response is None or not messages or messages[-1]["role"] != "user":
            self.report.wrong(where, "its prompt does not end with the user, or its response is missing")
            return
        text = "\n".join(m["content"] for m in messages)
        for quoted in [m["content"] for m in prompt["prompt"]] + [response["text"]]:
            if f">\n{quoted}\n</" not in text:
                self.report.wrong(where, f"its prompt does not quote {quoted[:60]!r}…")
        self.judge_frames[frame(text)].append(where)

    def check_judge_frames(self):
        """What stands around the quoted texts is the same in every prompt of the judge."""
        frames = sorted(self.judge_frames.values(), key=len)
        for pairs in frames[:-1]:
            for where in pairs:
                self.report.wrong(where, "what its prompt says around the quoted texts is not what the others say")

    def check_orphans(self):
        """Every row belongs to a prompt, and every judgment to a response."""
        prompts = {p["id"] for p in self.tables["prompts"]}
        responses = {r["id"]: r["prompt_id"] for r in self.tables["responses"]}
        for name in ("actor", "judge", "responses", "judgments", "comparisons", "reads"):
            for row in self.tables[name]:
                if row["prompt_id"] not in prompts:
                    self.report.wrong(f"{name} {row['id']}", "its prompt is not in raw/prompts")
        for name in ("judgments", "comparisons", "reads"):
            for row in self.tables[name]:
                if responses.get(row["response_id"]) != row["prompt_id"]:
                    self.report.wrong(f"{name} {row['id']}", "its response is not one of its prompt's")
        for row in self.tables["failures"]:
            if row["stage"] != "prompts" and row["prompt_id"] not in prompts:
                self.report.wrong(f"failure {row}", "its prompt is not in raw/prompts")

    def check_run(self):
        """run.json counts what the tables hold."""
        where, ledger, stats = "run.json", self.run["ledger"], self.run["stats"]
        self.report.equal(where, "ledger.findings", ledger["findings"], len(self.tables["prompts"]))
        bad = sum(f["stage"] == "prompts" for f in self.tables["failures"])
        self.report.equal(where, "ledger.bad", ledger["bad"], bad)
        rest = ledger["bad"] + ledger["merged"] + ledger["findings"] + ledger.get("not_drawn", 0)
        self.report.equal(where, "ledger.lines", ledger["lines"], rest)
        self.report.equal(where, "roles of the ledger", sorted(ledger["roles"]), sorted(self.roles))
        for role in self.roles:
            want = {"paired": 0, "dropped": {}, "failed": {}}
            for (outcome, reason), n in self.outcomes[role].items():
                if outcome == "paired":
                    want["paired"] = n
                elif outcome in want:
                    want[outcome][reason] = n
            counted = {"paired": 0, "dropped": {}, "failed": {}} | ledger["roles"].get(role, {})
            self.report.equal(where, f"ledger of the {role}", counted, want)
        positions = {p: sum(c["winner"] == p for c in self.tables["comparisons"]) for p in ("first", "second")}
        self.report.equal(where, "stats.positions", stats["positions"], positions)
        judging = stats.get("judging", {})
        counted = collections.Counter(judging.get("stopped", {}), asked=judging.get("asked", 0))
        self.report.equal(where, "stats.judging", dict(+counted), dict(+self.judged))
        for what in rounds.biased(self.drawn):
            self.report.wrong(where, what)
        asking = stats.get("asking", {})
        counted = {k: v for k, v in asking.items() if k != "stopped"} | asking.get("stopped", {})
        for name in {*counted, *self.asking}:
            # The sums are of numbers that were rounded, or rounded themselves.
            within = self.report.counts["prompts asked in rounds"] if name.endswith("_micros") else 0
            self.report.close(where, f"stats.asking.{name}", counted.get(name, 0), self.asking[name], within)
        for table in ("judgments", "comparisons"):
            unparsed = collections.Counter(r["unparsed_reason"] for r in self.tables[table] if r["unparsed_reason"])
            self.report.equal(where, f"unparsed {table}", stats[table].get("unparsed", {}), dict(unparsed))
        weights = self.run["position_weights"]
        if "judge" in self.roles and self.method["position_weights"] == "run":
            for place, want in zip(("first", "second"), self.run_weights):
                self.report.close(where, f"position_weights.{place}", (weights or {}).get(place), want, 1e-15)
        pairs = [sum(p["score_margin"] for p in self.tables["actor"]), stats["actor"]["score_margin_micros"] / 1e6]
        self.report.close(
            where, "stats.actor.score_margin_micros", pairs[1], pairs[0], 1e-6 * (1 + len(self.tables["actor"]))
        )


def describe(selection):
    if selection.outcome == "paired":
        return f"paired {selection.chosen} over {selection.rejected}"
    return f"{selection.outcome}: {selection.reason}"


# -------------------------------------------------------------------- what a text says


def frame(text):
    """A prompt without the texts that it quotes."""
    text = re.sub(r"<([a-z]+-[0-9a-f]{4,12})>\n.*?\n</\1>", "<quoted>", text, flags=re.DOTALL)
    return re.sub(r"<quoted>(?:\s*<quoted>)+", "<quoted>", text)


def numbers_after(word, text):
    """The numbers that follow a word within a few characters, in thousandths."""
    text = unicodedata.normalize("NFKC", text)
    for match in re.finditer(rf"(?i){word}[^0-9]{{0,40}}?([0-9]+(?:[.,][0-9]+)?|[.,][0-9]+)", text):
        # More than three decimals are rounded half up.
        yield int(Fraction("0" + match.group(1).replace(",", ".")) * 1000 + Fraction(1, 2))


def says_score(text, want):
    """Whether some score line of the text has this score; the last word is the parser's."""
    return want in numbers_after("score", text)


PLAIN = re.compile(r"(?i)^(?:final |overall |total )?score: *([0-5](?:\.[0-9])?)(?: ?/ ?5)?\.?$")


def plain_score(text):
    """The score of a text that ends in a score line of the plainest form, else None."""
    if any(mark in text for mark in ("```", "~~~", "<", "{", "\n>")) or text.startswith(">"):
        return None
    lines = text.strip().splitlines() or [""]
    match = PLAIN.match(lines[-1].strip().strip("*").strip())
    return match.group(1) if match and float(match.group(1)) <= 5 else None


def says_winner(text, letter):
    text = unicodedata.normalize("NFKC", text)
    return any(
        m.upper() == letter
        for m in re.findall(r"(?i)winner[^a-z]{0,12}(?:is[^a-z]{0,6})?(?:judge?ment[^a-z]{0,6})?([AB])\b", text)
    )


# ------------------------------------------------------------------------------------ IDs


def varint(n):
    out = b""
    while n >= 0x80:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def uuid5(space, name):
    digest = hashlib.sha1(space.bytes + name).digest()[:16]
    return uuid.UUID(bytes=digest, version=5)


ROOT = uuid5(uuid.NAMESPACE_URL, b"coeval")


def new_id(kind, *parts):
    """The version 5 UUID of parts, each with its length in bytes before it."""
    name = b"".join(varint(len(p)) + p for p in (part.encode() for part in parts))
    return str(uuid5(uuid5(ROOT, kind.encode()), name))


def check_ids(report, tables):
    """IDs follow from content, and no two rows of a table share one."""
    want = {
        "prompts": lambda r: new_id("prompt", *(p for m in r["prompt"] for p in (m["role"], m["content"]))),
        "responses": lambda r: new_id("response", r["prompt_id"], r["model"], r["text"]),
        "judgments": lambda r: new_id("judgment", r["response_id"], r["model"], str(r["replicate"]), r["text"]),
        "comparisons": lambda r: new_id("comparison", r["first_id"], r["second_id"], r["model"]),
        "reads": lambda r: (
            new_id("comparison", r["first_id"], r["second_id"], r["model"])
            if r["first_id"]
            else new_id("read", r["response_id"], r["model"], str(r["replicate"]))
        ),
        "actor": lambda r: new_id("pair", "actor", r["chosen_id"], r["rejected_id"]),
        "judge": lambda r: new_id("pair", "judge", r["chosen_id"], r["rejected_id"]),
    }
    for name, id_of in want.items():
        for row in tables[name]:
            report.equal(f"{name} {row['id']}", "id", row["id"], id_of(row))
        twice = [i for i, n in collections.Counter(row["id"] for row in tables[name]).items() if n > 1]
        if twice:
            report.wrong(name, f"IDs that stand twice: {twice}")


# -------------------------------------------------------------------------- the self-test


def swap(row, a, b):
    row[a], row[b] = row[b], row[a]


def planted_errors():
    """Yields (name, sign, plant).

    Plant changes run and tables, and returns False where it can't; sign is what one of the
    differences then must speak of.
    """

    def first(table, changes, where=lambda r: True):
        def plant(run, tables):
            row = next((r for r in tables[table] if where(r)), None)
            if row is None:
                return False
            changes(row)
            return True

        return plant

    def remove(table, where=lambda r: True):
        def plant(run, tables):
            row = next((r for r in tables[table] if where(r)), None)
            if row is None:
                return False
            tables[table].remove(row)
            return True

        return plant

    def method(**settings):
        def plant(run, tables):
            if "min_judgments" in settings and run["config"]["judge"].get("reads"):
                return False  # one read makes a response scored
            if all(run["config"]["method"].get(k) == v for k, v in settings.items()):
                return False
            run["config"]["method"].update(settings)
            return True

        return plant

    def flip_winner(row):
        row["winner"] = "second" if row["winner"] == "first" else "first"

    def swap_columns(*names):
        def changes(row):
            for name in names:
                swap(row, f"chosen{name}", f"rejected{name}")

        return changes

    def paired(table, role):
        return first(
            table,
            lambda r: r.update({f"{role}_outcome": "dropped", f"{role}_reason": "margin"}),
            lambda r: r[f"{role}_outcome"] == "paired",
        )

    def all_winners(run, tables):
        """First for second in every comparison: nothing is left of the order."""
        for row in tables["comparisons"]:
            row["winner"] = {"first": "second", "second": "first"}.get(row["winner"], "none")
        return bool(tables["comparisons"])

    def shift_verdicts(run, tables):
        """Verdicts placed by their order in a list, with one missing."""
        rows = tables["comparisons"]
        for row, after in zip(rows, rows[1:]):
            row["winner"] = after["winner"]
        return len(rows) > 1

    def swap_weights(run, tables):
        if not run["position_weights"] or run["config"]["method"]["position_weights"] != "run":
            return False
        swap(run["position_weights"], "first", "second")
        return True

    def ledger(run, tables):
        run["ledger"]["roles"][run["config"]["roles"][0]]["paired"] += 1
        return True

    def calibration(run, tables):
        points = [{"score": 0, "people": 0}, {"score": 5, "people": 4}]
        if run["config"].get("calibration", {}).get("points") == points:
            return False
        run["config"]["calibration"] = {"points": points}
        return True

    def is_scored(row):
        return row["score"] is not None

    def invent_score(row):
        """A score that the text does not say: an ambiguous text such as "Score: 3-4" says several."""
        invented = next(s / 2 for s in range(11) if not says_score(row["text"], 500 * s))
        row.update(score=invented, unparsed_reason=None)

    yield (
        "a score that was edited",
        "score_mean | does not say the score",
        first("judgments", lambda r: r.update(score=0.0 if r["score"] > 2 else 5.0), is_scored),
    )
    yield (
        "a score that was taken away",
        "parsed_judgments | its text ends in the score",
        first("judgments", lambda r: r.update(score=None, unparsed_reason="missing", distinct=False), is_scored),
    )
    yield (
        "a score that was invented",
        "does not say the score",
        first("judgments", invent_score, lambda r: not is_scored(r)),
    )
    def other_phase(run, tables):
        """Phase 1 for phase 2, where a response of the future is chosen."""
        future = {identity(p["role"]) for p in run["config"]["actor"].get("pools", []) if p["role"]["name"] == "future"}
        run["config"]["method"]["phase"] = 1
        return any(r["chosen_model"] in future for r in tables["actor"])

    def of_past(run, tables):
        """The past's model under another name."""
        pools = run["config"]["actor"].get("pools", [])
        if pools:
            pools[0]["role"]["model"] += "-other"
        return bool(pools)

    yield "the other phase of the method temporal", "the actor is paired", other_phase
    yield "the past's model under another name", "is none of", of_past
    yield (
        "a pair that names another model",
        "rejected_model is",
        first("actor", lambda r: r.update(rejected_model=r["rejected_model"] + "-other")),
    )
    def rounds(**settings):
        def plant(run, tables):
            if not run["config"]["judge"].get("rounds"):
                return False
            run["config"]["judge"]["rounds"].update(settings)
            return True

        return plant

    def of_rating(rating, plant):
        def planted(run, tables):
            return run["config"]["method"].get("rating", "elo") == rating and plant(run, tables)

        return planted

    def budget(**settings):
        def plant(run, tables):
            if not run["config"].get("meta_judge", {}).get("budget"):
                return False
            run["config"]["meta_judge"]["budget"].update(settings)
            return True

        return plant

    def no_budget(run, tables):
        return bool(run["config"].get("meta_judge", {}).pop("budget", None))

    def swap_ratings(run, tables):
        rated = [j for j in tables["judgments"] if j["elo"] is not None]
        for a, b in zip(rated, rated[1:]):
            if a["response_id"] == b["response_id"] and a["elo"] != b["elo"]:
                a["elo"], b["elo"] = b["elo"], a["elo"]
                return True
        return False

    def later(row):
        row["round"] += 1

    def in_rounds(tables):
        """The comparisons of one prompt in their last round and before."""
        for rows in by(tables["comparisons"], "prompt_id").values():
            last = max((r["round"] or 0) for r in rows)
            if last > 2:
                return rows, last
        return [], 0

    def third_pair(run, tables):
        rows, _ = in_rounds(tables)
        for row in rows:
            row["round"] = 1
        return bool(rows)

    def twice(run, tables):
        rows, _ = in_rounds(tables)
        if rows:
            tables["comparisons"].append(rows[0] | {"id": str(uuid.uuid4())})
        return bool(rows)

    def without_last_pair(run, tables):
        rows, last = in_rounds(tables)
        pair = next(({r["first_id"], r["second_id"]} for r in rows if r["round"] == last), None)
        lost = {r["id"] for r in rows if {r["first_id"], r["second_id"]} == pair}
        for table in ("comparisons", "reads"):
            tables[table] = [r for r in tables[table] if r["id"] not in lost]
        return bool(rows)

    def other_stop(row):
        row["asking_stopped"] = "bound" if row["asking_stopped"] == "settled" else "settled"

    def no_stop(row):
        row["asking_stopped"] = None

    def times(column, factor):
        def changes(row):
            row[column] *= factor

        return changes

    def every(column):
        def plant(run, tables):
            asked = [row for row in tables["prompts"] if is_asked(row)]
            for row in asked:
                row[column] *= 1.2
            return bool(asked)

        return plant

    def is_asked(row):
        return row["asking_stopped"] is not None

    def surer(row):
        """A read of a comparison that is consistent in itself, for the other winner."""
        label, value = ("B", 0.0) if row["value"] > 0.5 else ("A", 1.0)
        row.update(labels=[label], log_probs=[0.0], label_mass=1.0, value=value)

    def read_of(is_comparison):
        return lambda r: (r["first_id"] is not None) == is_comparison and r["value"] is not None

    yield "a read of a score that was removed", "replicates of the reads", remove("reads", read_of(False))
    yield "a read of a comparison that was removed", "has no row in raw/reads", remove("reads", read_of(True))
    yield "a value that was edited", "value is", first("reads", lambda r: r.update(value=r["value"] + 1e-5), read_of(False))
    yield "a consistent read of another winner", "winner is", first("reads", surer, read_of(True))
    yield "another label", "labels are", first("reads", lambda r: r["labels"].__setitem__(0, "7"), read_of(False))
    yield "a smaller distance", "replicates of the judge", rounds(distance=0.2)
    yield "a larger distance", "replicates of the judge", rounds(distance=4)
    yield "a smaller bound", "replicates of the judge", rounds(max=8)
    yield "a judgment that was removed", "replicates of the judge", remove("judgments")
    yield "a judgment of another text", "id is", first("judgments", lambda r: r.update(text=r["text"] + " "))
    yield (
        "a distinct judgment that is not marked",
        "distinct is",
        first("judgments", lambda r: r.update(distinct=False), lambda r: r["distinct"]),
    )
    yield (
        "a mean that was edited",
        "score_mean",
        first("responses", lambda r: r.update(score_mean=r["score_mean"] + 1e-9), lambda r: r["score_mean"]),
    )
    yield (
        "a sample variance",
        "score_variance",
        first(
            "responses",
            lambda r: r.update(
                score_variance=r["score_variance"] * r["parsed_judgments"] / (r["parsed_judgments"] - 1)
            ),
            lambda r: r["score_variance"] and r["parsed_judgments"] > 1,
        ),
    )
    yield (
        "another contested response",
        "contested is",
        first("responses", lambda r: r.update(contested=False), lambda r: r["contested"]),
    )
    yield "a response that was removed", "replicates of ", remove("responses")
    yield "a prompt that was removed", "not in raw/prompts", remove("prompts")
    yield (
        "a verdict that was turned round",
        "elo is | winner is",
        first("comparisons", flip_winner, lambda r: r["winner"] != "none"),
    )
    yield "a comparison that was removed", "ordered pairs | one order alone", remove("comparisons")
    yield "all verdicts turned round", "the judge is paired | winner is", all_winners
    yield "verdicts that moved up by one", "the judge is paired | winner is", shift_verdicts
    yield (
        "a rating that was edited",
        "elo is",
        first("judgments", lambda r: r.update(elo=r["elo"] + 1e-6), lambda r: r["elo"] is not None),
    )
    yield "weights swapped", "position_weights", swap_weights
    yield "fixed weights for the run's", "elo is", method(position_weights="fixed", fixed_position_weights=[0.9, 0.1])
    yield "another rho", "the actor is paired", method(rho=0.05)
    yield "rho 0.45", "the actor is paired", method(rho=0.45)
    yield "another margin", "dropped: margin", method(min_margin=1.7)
    yield "another lambda", "elo is", of_rating("elo", method(elo_lambda=0.35))
    yield "the prior for the ridge", "elo is", of_rating("elo", method(rating="scores"))
    yield "the ridge for the prior", "elo is", of_rating("scores", method(rating="elo"))
    yield "the ratings of two judgments swapped", "elo is", of_rating("scores", swap_ratings)
    yield "comparisons of one pair in two rounds", "the other order another", first("comparisons", later, lambda r: r["round"])
    yield "all pairs in the first round", "its rounds have", third_pair
    yield "a comparison twice", "asked twice", twice
    yield "a last pair that was removed", "stats.asking", without_last_pair
    yield "another reason for the stop", "asking_stopped is", first("prompts", other_stop, lambda r: r["asking_stopped"])
    yield "no reason for the stop", "asking_stopped is", first("prompts", no_stop, lambda r: r["asking_stopped"])
    yield "another regret", "expected_regret is", first("prompts", times("expected_regret", 3), is_asked)
    yield "another spread", "expected_spread is", first("prompts", times("expected_spread", 0.4), is_asked)
    yield "a regret that is a fifth too high everywhere", "expected_regret of all", every("expected_regret")
    yield "a spread that is a fifth too high everywhere", "expected_spread of all", every("expected_spread")
    yield "a smaller regret for the stop", "asking_stopped is", budget(regret=0.02)
    yield "a larger regret for the stop", "was asked for at a regret", budget(regret=0.8)
    yield "a smaller bound of comparisons", "the bound is", budget(max_comparisons=8)
    yield "no budget", "asking_stopped is | ordered pairs", no_budget
    yield "a limit on chosen responses", "dropped: chosen_too_long", method(max_chosen_chars=500)
    yield "a limit on judgments", "dropped: judgment_too_long", method(max_judgment_chars=700)
    yield "another calibration", "score_mean", calibration
    yield "another minimum of judgments", "score_mean", method(min_judgments=11)
    yield "another minimum for the meta-judge", "dropped: too_few_judgments", method(min_meta_judgments=30)
    for role in ("actor", "judge"):
        yield (
            f"the {role} pair swapped",
            f"the {role} is paired",
            first(role, swap_columns("", "_id", "_score", "_chars", "_elo")),
        )
        yield f"the {role} pair's texts swapped", "chosen is", first(role, swap_columns(""))
        yield f"the {role} pair removed", f"the {role} is paired", remove(role)
        yield (
            f"the {role} pair of another prompt",
            "prompt",
            first(role, lambda r: r["prompt"][-1].update(content=r["prompt"][-1]["content"][1:])),
        )
        yield (
            f"the {role} pair's margin",
            "score_margin",
            first(role, lambda r: r.update(score_margin=-r["score_margin"]), lambda r: r["score_margin"]),
        )
        yield (
            f"the {role} pair's standard error",
            "margin_se",
            first(role, lambda r: r.update(margin_se=(r["margin_se"] or 0) + 0.001)),
        )
        yield f"an outcome of the {role}", f"the {role} is dropped", paired("prompts", role)
    yield "a ledger that counts one more", "ledger", ledger


def self_test(out):
    """Plants each error in OUT's tables, in memory; returns those that were not found."""
    check_solver()
    run, tables = read(out)
    clean = Reference(copy.deepcopy(run), copy.deepcopy(tables)).check()
    if clean.problems:
        return [f"nothing was planted, but: {p}" for p in clean.problems]
    missed, skipped, planted = [], [], 0
    for name, sign, plant in planted_errors():
        bad_run, bad_tables = copy.deepcopy(run), copy.deepcopy(tables)
        if not plant(bad_run, bad_tables):
            skipped.append(name)
            continue
        planted += 1
        problems = Reference(bad_run, bad_tables).check().problems
        if not any(said in p for p in problems for said in sign.split(" | ")):
            missed.append(f"planted and not found: {name}: none of {len(problems)} differences speaks of {sign!r}")
    print(
        f"{out}: {planted} planted errors, {len(missed)} of them not found; not in this run: {', '.join(skipped) or 'none'}"
    )
    return missed


def check_solver():
    """Ratings that can be derived by hand."""
    # One win of the first of two: eps = (e, -e) with the gradient sigmoid(-2e) = lambda·e.
    eps, off = ratings(np.array([[0.0, 1.0], [0.0, 0.0]]), 0.1)
    assert off < 1e-9 and abs(1 / (1 + np.exp(2 * eps[0])) - 0.1 * eps[0]) < 1e-12, eps
    # A circle of equal wins, and no wins at all: all are equal.
    for b in (np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]), np.zeros((4, 4))):
        eps, off = ratings(b, 0.1)
        assert off < 1e-9 and np.abs(eps).max() < 1e-12, eps
    # Weights of 3 first-place and 1 second-place wins.
    verdicts = [{"winner": w} for w in ("first", "first", "first", "second", "none")]
    assert position_weights(verdicts) == (0.25, 0.75)
    assert position_weights([]) == (0.5, 0.5)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", nargs="+", help="folder of a run")
    parser.add_argument("--self-test", action="store_true", help="plant errors and look whether they are found")
    args = parser.parse_args()
    problems = []
    for out in args.out:
        if args.self_test:
            problems += self_test(out)
            continue
        report = Reference(*read(out)).check()
        counts = ", ".join(f"{n} {what}" for what, n in report.counts.items())
        print(f"{out}: {counts}: {len(report.problems)} differences")
        problems += [f"{out}: {p}" for p in report.problems]
    for problem in problems[:50]:
        print(problem, file=sys.stderr)
    if len(problems) > 50:
        print(f"… and {len(problems) - 50} more", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
