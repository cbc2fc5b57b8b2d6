"""Computes the figures of `coeval report --json` again from the raw tables and operations/, and
compares; and what `coeval compare --json` finds that each run shares with the next.

    figures.py --coeval .bin/coeval OUT...       exits with 1 and a list if anything differs
    figures.py --coeval .bin/coeval --self-test OUT...

Nothing of the program is used but its JSON: the tables are read with pyarrow, and every figure
is computed on whole columns with numpy, scipy and scikit-learn, where the program streams.
Counts and histograms must agree exactly, means and slopes within 1e-9 (relative, or absolute
below 1), which is what sums of a million floats in another order may differ by, and the
maximum-likelihood fit within 1e-6, where the optimisers stop. The self-test spoils the tables
in many ways, and each of them must be noticed.
"""

import argparse
import copy
import json
import math
import pathlib
import re
import subprocess
import sys
from fractions import Fraction
from itertools import combinations

import numpy as np
import pyarrow.parquet as pq
from scipy import optimize, sparse, special, stats
from sklearn.linear_model import LogisticRegression

EXACT, CLOSE, FITTED = 0.0, 1e-9, 1e-6
STAGES = ("generate", "generate_past", "generate_future", "judge_reads", "judge", "meta")
TABLES = {name: f"raw/{name}" for name in ("prompts", "responses", "judgments", "comparisons", "reads")} | {"actor": "actor"}


def read(out):
    tables = {name: [] for name in TABLES}
    for name, folder in TABLES.items():
        for file in sorted(pathlib.Path(out, folder).glob("*.parquet")):
            tables[name] += pq.read_table(file).to_pylist()
    with open(f"{out}/run.json", encoding="utf-8") as f:
        run = json.load(f)
    return tables, run


def attempts_of(out):
    """The attempts that left figures, the earliest first."""
    attempts = []
    for name in sorted(pathlib.Path(out, "operations").glob("*.json")):
        if name.name.count(".") == 1 and name.name != "lease.json":
            attempts.append(json.loads(name.read_text(encoding="utf-8")))
    return attempts


def by(rows, column):
    groups = {}
    for row in rows:
        groups.setdefault(row[column], []).append(row)
    return groups


def share(part, whole):
    return part / whole if whole else 0.0


def histogram(values, width):
    """Counts of [0, width), [width, 2·width), …, without empty bins at the end."""
    return np.bincount(np.floor(np.asarray(values) / width).astype(int)).tolist() if len(values) else None


def halves(points):
    """The nearest half point, halves upwards, as a number of halves."""
    return np.floor((np.round(np.asarray(points) * 1000) + 250) / 500).astype(int)


def unparsed(stage, reasons):
    said = [r for r in reasons if r is not None]
    names, counts = np.unique(said, return_counts=True) if said else ([], [])
    return {
        "stage": stage,
        "texts": len(reasons),
        "unparsed": len(said),
        "share": share(len(said), len(reasons)),
        "reasons": {str(n): int(c) for n, c in zip(names, counts, strict=True)},
    }


def scores(tables, meta):
    points = np.array([j["score"] for j in tables["judgments"] if j["score"] is not None])
    scored = [r for r in tables["responses"] if r["score_mean"] is not None]
    mean = np.array([r["score_mean"] for r in scored])
    variance = np.array([r["score_variance"] for r in scored])
    spread, equal, pairs, tied_top = [], 0, 0, 0
    for rows in by(scored, "prompt_id").values():
        s = np.array([r["score_mean"] for r in rows])
        if len(s) < 2:
            continue
        spread.append(np.ptp(s))
        equal += sum(a == b for a, b in combinations(s, 2))
        pairs += math.comb(len(s), 2)
        tied_top += np.count_nonzero(s == s.max()) > 1
    stages = [
        unparsed("generate", [None if r["status"] == "complete" else r["status"] for r in tables["responses"]]),
        unparsed("judge", [j["unparsed_reason"] for j in tables["judgments"]]),
    ]
    if meta:
        stages.append(unparsed("meta", [c["unparsed_reason"] for c in tables["comparisons"]]))
    some = len(points) > 0
    return {
        "judgments": len(points),
        "mean": points.mean() if some else 0.0,
        "deviation": points.std() if some else 0.0,
        "top": np.mean(points == 5) if some else 0.0,
        "highest": 5,
        "histogram": np.bincount(halves(points), minlength=11).tolist(),
        "responses": len(scored),
        "response_mean": mean.mean() if scored else 0.0,
        "response_deviation": mean.std() if scored else 0.0,
        "response_histogram": {"width": 0.25, "counts": histogram(mean, 0.25)},
        "variance": variance.mean() if scored else 0.0,
        "variance_histogram": {"width": 0.1, "counts": histogram(variance, 0.1)},
        "spread": np.mean(spread) if spread else 0.0,
        "spread_prompts": len(spread),
        "ties": share(equal, pairs),
        "response_pairs": pairs,
        "tied_top": share(tied_top, len(spread)),
        "unparsed": stages,
    }


def line(x, y):
    """Slope, intercept and Pearson's correlation of y on x."""
    if len(x) < 2 or np.ptp(x) == 0:
        return 0.0, float(np.mean(y)) if len(y) else 0.0, 0.0
    fit = stats.linregress(x, y)
    return fit.slope, fit.intercept, 0.0 if np.ptp(y) == 0 else fit.rvalue


def image(calibration, mean):
    """A mean on the scale of people, to the nearest thousandth, halves upwards."""
    if not calibration:
        return mean
    points = [(Fraction(str(p["score"])), Fraction(str(p["people"]))) for p in calibration["points"]]
    (x, y), *rest = points
    for x1, y1 in rest:
        if x < mean:
            value = y1 if mean >= x1 else y + (y1 - y) * (mean - x) / (x1 - x)
        x, y = x1, y1
    exact = points[0][1] if mean <= points[0][0] else value
    return Fraction(math.floor(exact * 1000 + Fraction(1, 2)), 1000)


def pool_of(row, config):
    """The role beside the actor whose model gave a response; None for the actor's."""
    for pool in config["actor"].get("pools", []):
        role = pool["role"]
        if row["model"] == role["model"] + ("@" + role["revision"] if role.get("revision") else ""):
            return role["name"]
    return None


def choose(rows, totals, config, rho):
    """The pair by the tiers of one or two pools, in fractions of integers; None if there is none."""
    method, calibration = config["method"], config.get("calibration")
    pools = {None: [], "past": [], "future": []}
    for r in rows:
        if r["score_mean"] is not None:
            mean = Fraction(sum(totals[r["id"]]), 1000 * len(totals[r["id"]]))
            pools[pool_of(r, config)].append((image(calibration, mean), r))
    own, above, below = pools[None], pools[None], pools[None]
    if method.get("pairs") == "temporal":
        past, future = pools["past"], pools["future"] if method["phase"] == 2 else []
        if not own or len(own) + len(past) + len(future) < 2:
            return None
        if past and min(s for s, _ in past) < min(s for s, _ in own):
            below = past
        if future and max(s for s, _ in future) > max(s for s, _ in own):
            above = future
    elif len(own) < 2:
        return None
    rho = Fraction(round(rho * 10**6), 10**6)

    def bound(pool, near, far):
        return (1 - rho) * near(s for s, _ in pool) + rho * far(s for s, _ in pool)

    top = [(r["chars"], r["id"], s, r) for s, r in above if s >= bound(above, max, min)]
    bottom = [(-r["chars"], r["id"], s, r) for s, r in below if s <= bound(below, min, max)]
    _, _, high, chosen = min(top, key=lambda t: t[:2])
    _, _, low, rejected = min(bottom, key=lambda t: t[:2])
    if high <= low or high - low < Fraction(round(method["min_margin"] * 1000), 1000):
        return None
    if method["max_chosen_chars"] and chosen["chars"] > method["max_chosen_chars"]:
        return None
    return chosen, rejected, float(high - low)


def wins(a, b):
    a, b = np.array(a)[:, None], np.array(b)[None, :]
    return float(np.mean((a > b) + 0.5 * (a == b)))


def control(differences, levels, won):
    """θ, φ and ψ by scipy, and by scikit-learn on each pair taken as a weighted win and a weighted loss."""
    if len(won) < 2:
        return None
    d, y, level = np.array(differences, dtype=float), np.array(won), np.array(levels)
    scale = d.std(ddof=1)
    x = np.tanh(d / scale) if scale > 0 else np.zeros(len(d))
    hard = (level.mean() - level) / level.std() if level.std() > 1e-9 else np.zeros(len(d))
    design = np.column_stack([np.ones(len(x)), x, hard])
    ridge = 1e-3

    def loss(beta):
        z = design @ beta
        return np.sum(np.logaddexp(0, z) - y * z) + ridge * beta @ beta / 2

    def slope(beta):
        return design.T @ (special.expit(design @ beta) - y) + ridge * beta

    fitted = optimize.minimize(loss, np.zeros(3), jac=slope, method="BFGS", options={"gtol": 1e-9 * len(x)}).x
    model = LogisticRegression(C=1 / ridge, fit_intercept=False, tol=1e-12, max_iter=10_000)
    model.fit(
        np.vstack([design, design]),
        np.concatenate([np.ones(len(y)), np.zeros(len(y))]),
        sample_weight=np.concatenate([y, 1 - y]),
    )
    other = model.coef_[0]
    if not np.allclose(fitted, other, rtol=FITTED, atol=FITTED):
        raise SystemExit(f"scipy finds {fitted}, scikit-learn {other}: the reference does not agree with itself")
    return {
        "win_share": y.mean(),
        "controlled": special.expit(fitted[0] + fitted[2] * hard).mean(),
        "theta": fitted[0],
        "phi": fitted[1],
        "psi": fitted[2],
        "scale": scale,
    }


def length(tables, config):
    totals = {}
    for j in tables["judgments"]:
        if j["score"] is not None:
            totals.setdefault(j["response_id"], []).append(round(j["score"] * 1000))
    is_read = bool(config["judge"].get("reads"))
    if is_read:  # the values of the reads, rounded half up
        totals = {}
        for r in tables["reads"]:
            if r["first_id"] is None and r["value"] is not None:
                totals.setdefault(r["response_id"], []).append((round(r["value"] * 1_000_000) + 500) // 1000)
    scored = [r for r in tables["responses"] if r["score_mean"] is not None]
    chars = np.array([r["chars"] for r in scored], dtype=float)
    mean = np.array([r["score_mean"] for r in scored])
    place = {r["id"]: i for i, r in enumerate(scored)}
    within_x, within_y = chars.copy(), mean.copy()
    longer, longer_of, levels = 0.0, 0, {}
    for rows in by(scored, "prompt_id").values():
        at = [place[r["id"]] for r in rows]
        levels[rows[0]["prompt_id"]] = mean[at].mean()
        within_x[at] -= chars[at].mean()
        within_y[at] -= mean[at].mean()
        for i, k in combinations(at, 2):
            if chars[i] != chars[k]:
                longer_of += 1
                a, b = (i, k) if chars[i] > chars[k] else (k, i)
                longer += 1.0 if mean[a] > mean[b] else 0.5 if mean[a] == mean[b] else 0.0
    slope, intercept, correlation = line(chars, mean)
    slope_within, _, correlation_within = line(within_x, within_y)

    groups = by(tables["responses"], "prompt_id")
    own = config["method"]["rho"]
    swept, result = [], {}
    for rho in sorted({own} | {i / 20 for i in range(10)}):
        found = [c for p in tables["prompts"] if (c := choose(groups.get(p["id"], []), totals, config, rho))]
        difference = np.array([c["chars"] - r["chars"] for c, r, _ in found], dtype=float)
        picked = np.array([c["chars"] for c, _, _ in found], dtype=float)
        row = {
            "rho": rho,
            "own": rho == own,
            "pairs": len(found),
            "chosen": picked.mean() if found else 0.0,
            "difference": difference.mean() if found else 0.0,
            "margin": np.mean([m for _, _, m in found]) if found else 0.0,
        }
        swept.append(row)
        if rho == own:
            result = {
                "pairs": len(found),
                "chosen": row["chosen"],
                "rejected": np.mean([r["chars"] for _, r, _ in found]) if found else 0.0,
                "difference": row["difference"],
                "shorter": np.mean(difference < 0) if found else 0.0,
                "control": None if is_read else control(difference, [levels[c["prompt_id"]] for c, _, _ in found], [wins(totals[c["id"]], totals[r["id"]]) for c, r, _ in found]),
            }
    grid = np.zeros((21, 60), dtype=int)
    if scored:
        np.add.at(grid, (np.floor(mean * 4).astype(int), np.minimum(chars // 100, 59).astype(int)), 1)
    return result | {
        "slope": slope * 1000,
        "intercept": intercept,
        "correlation": correlation,
        "slope_within": slope_within * 1000,
        "correlation_within": correlation_within,
        "longer_wins": share(longer, longer_of),
        "longer_wins_of": longer_of,
        "rho": swept,
        "grid": {"chars_width": 100, "points_height": 0.25, "counts": grid.tolist()},
    }


def split_half(tables, config):
    """Pairs that one half of the judgments chooses and the other measures, and the reliability of S."""
    split = {}
    for j in sorted(tables["judgments"], key=lambda j: j["replicate"]):
        if j["score"] is not None:
            parts = split.setdefault(j["response_id"], ([], []))
            parts[(len(parts[0]) + len(parts[1])) % 2].append(round(j["score"] * 1000))
    calibration, rho = config.get("calibration"), config["method"]["rho"]
    usable = [r for r in tables["responses"] if r["score_mean"] is not None and r["id"] in split and split[r["id"]][1]]

    def mean(r, half):
        scores = split[r["id"]][half]
        return image(calibration, Fraction(sum(scores), 1000 * len(scores)))

    margins, won = [], []
    for rows in by(usable, "prompt_id").values():
        for half in (0, 1):
            if found := choose(rows, {r["id"]: split[r["id"]][half] for r in rows}, config, rho):
                chosen, rejected, _ = found
                margins.append(float(mean(chosen, 1 - half) - mean(rejected, 1 - half)))
                won.append(wins(split[chosen["id"]][1 - half], split[rejected["id"]][1 - half]))
    fit = {"pairs": len(margins), "margin": np.mean(margins), "win_share": np.mean(won)} if margins else None
    if len(usable) < 3:
        return {"cross_fit": fit, "reliability": None}
    means = np.array([[float(mean(r, half)) for half in (0, 1)] for r in usable])
    place = {r["id"]: i for i, r in enumerate(usable)}
    within = means.copy()
    for rows in by(usable, "prompt_id").values():
        at = [place[r["id"]] for r in rows]
        within[at] -= means[at].mean(axis=0)

    def reliability(pairs):
        """Spearman and Brown's formula for twice the length."""
        spread = ((pairs - pairs.mean(axis=0)) ** 2).sum(axis=0)
        if not (spread > 1e-12).all():
            return None
        r = max(float(stats.pearsonr(*pairs.T).statistic), 0.0)
        return 2 * r / (1 + r)

    judgments = np.mean([len(split[r["id"]][0]) + len(split[r["id"]][1]) for r in usable])
    inside = reliability(within)
    return {
        "cross_fit": fit,
        "reliability": {
            "responses": len(usable),
            "judgments": judgments,
            "within": inside,
            "all": reliability(means),
            "needed": judgments * 0.7 * (1 - inside) / (inside * 0.3) if inside else None,
        },
    }


def meta_judge(tables):
    comparisons = by(tables["comparisons"], "prompt_id")
    judgments = by(tables["judgments"], "prompt_id")
    first = verdicts = both = agree = both_first = both_second = 0
    gaps, gap_higher = np.zeros(11, dtype=int), np.zeros(11, dtype=int)
    higher = unlike = graphs = connected = 0
    largest, spread = [], []
    for p in tables["prompts"]:
        rows = comparisons.get(p["id"], [])
        rated = [j["elo"] for j in judgments.get(p["id"], []) if j["elo"] is not None]
        if rated:
            spread.append(max(rated) - min(rated))
        said = {(c["first_id"], c["second_id"]): c["winner"] for c in rows if c["winner"] != "none"}
        if not said:
            continue
        shown = [
            j
            for j in judgments.get(p["id"], [])
            if j["distinct"] and j["score"] is not None and j["response_id"] == p["contested_response_id"]
        ]
        place = {j["id"]: i for i, j in enumerate(shown)}
        points = {j["id"]: j["score"] for j in shown}
        beats = np.zeros((len(shown), len(shown)), dtype=bool)
        for (a, b), winner in said.items():
            verdicts += 1
            first += winner == "first"
            won, lost = (a, b) if winner == "first" else (b, a)
            beats[place[won], place[lost]] = True
            if points[a] != points[b]:
                gap = halves(abs(points[a] - points[b]))
                unlike += 1
                gaps[gap] += 1
                higher += points[won] > points[lost]
                gap_higher[gap] += points[won] > points[lost]
            if a < b and (b, a) in said:
                both += 1
                other = said[b, a]
                agree += winner != other
                both_first += winner == other == "first"
                both_second += winner == other == "second"
        n, labels = sparse.csgraph.connected_components(sparse.csr_array(beats), directed=True, connection="strong")
        graphs += 1
        connected += n == 1
        largest.append(np.bincount(labels).max() / len(shown))
    return {
        "comparisons": len(tables["comparisons"]),
        "verdicts": verdicts,
        "first": share(first, verdicts),
        "both_orders": both,
        "consistent": share(agree, both),
        "both_first": share(both_first, both),
        "both_second": share(both_second, both),
        "higher_wins": share(higher, unlike),
        "higher_wins_of": unlike,
        "by_gap": [
            {"gap": i / 2, "verdicts": int(n), "higher_wins": share(gap_higher[i], n)} for i, n in enumerate(gaps) if n
        ]
        or None,
        "graphs": graphs,
        "connected": share(connected, graphs),
        "largest": np.mean(largest) if largest else 0.0,
        "elo_responses": len(spread),
        "elo_spread": np.mean(spread) if spread else 0.0,
        "elo_histogram": {"width": 0.25, "counts": histogram(spread, 0.25)},
    }


FLAGS = {"prompt-price": "prompt_tokens", "completion-price": "completion_tokens", "gpu-hour-price": "gpu_hour", "gpus": "gpus"}
PRICES = {"prompt_tokens": 0.5, "completion_tokens": 1.5, "gpu_hour": 36.0, "gpus": 2.0}


def operation(attempts, run, prices):
    """What all attempts took: each one's time of asking dealt out by what its stages had in flight."""
    stages = sorted({s for a in attempts for s in a["calls"]}, key=lambda s: ([*STAGES, s].index(s), s))

    def column(name, stage):
        return np.array([a["calls"].get(stage, {}).get(name, 0) for a in attempts], dtype=np.int64)

    asking = np.array([a["asking_seconds"] for a in attempts])
    micros = np.array([column("generation_micros", s) for s in stages], dtype=float).reshape(len(stages), len(attempts))
    flown = micros.sum(axis=0) if len(stages) else np.zeros(len(attempts))
    dealt = np.divide(micros, flown, out=np.zeros_like(micros), where=flown > 0) @ asking

    def calls(name, at, seconds, hours):
        counts = {c: int(sum(column(c, s).sum() for s in at)) for c in ("requests", "retries", "generations", "replayed", "failed")}
        tokens = [int(sum(column(c, s).sum() for s in at)) for c in ("prompt_tokens", "completion_tokens")]
        took = int(sum(column("request_micros", s).sum() for s in at))
        return counts | {
            "stage": name,
            "prompt_tokens": tokens[0],
            "completion_tokens": tokens[1],
            "seconds": seconds,
            "request_seconds": took / 1e6 / counts["requests"] if took and counts["requests"] else None,
            "cost_by_tokens": (tokens[0] * prices["prompt_tokens"] + tokens[1] * prices["completion_tokens"]) / 1e6,
            "cost_by_hours": None if hours is None else hours / 3600 * prices["gpu_hour"] * prices["gpus"],
        }

    told = [
        calls(s, [s], float(dealt[i]), float(dealt[i])) if any(a["calls"].get(s) is not None and f > 0 for a, f in zip(attempts, flown, strict=True)) else calls(s, [s], None, None)
        for i, s in enumerate(stages)
    ]
    retried = {}
    for a in attempts:
        for stage, c in a["calls"].items():
            for code, n in c.get("retries_by_code", {}).items():
                retried[stage, code] = retried.get((stage, code), 0) + n
    failed = {(s, code): n for s, codes in run["stats"].get("failed_calls", {}).items() for code, n in codes.items()}
    order = sorted(retried.keys() | failed.keys(), key=lambda k: ([*STAGES, k[0]].index(k[0]), k))
    return {
        "unfinished_attempts": sum(a.get("unfinished", False) for a in attempts),
        "seconds": sum(a["seconds"] for a in attempts),
        "asking_seconds": float(asking.sum()),
        "stages": told or None,
        "all": calls("all", stages, float(asking[flown > 0].sum()) if (flown > 0).any() else None, float(asking.sum())),
        "troubles": [
            {"stage": s, "code": c, "retries": retried.get((s, c), 0), "failed": failed.get((s, c), 0)} for s, c in order
        ]
        or None,
        "pairs": sum(role["paired"] for role in run["ledger"]["roles"].values()),
    }


MARKDOWN = [re.compile(p, re.MULTILINE | re.ASCII) for p in (r"^#{1,6}\s", r"^\s*\d+\.\s", r"^\s*[-*+]\s", r"\*\*[^*\n]+\*\*|__[^_\n]+__")]


def has_markdown(text):
    """Whether a text has headers, lists or bold words outside of its fences."""
    kept, fence = [], None
    for line in text.split("\n"):
        bare = line.strip()
        if fence is None and bare[:3] in ("```", "~~~"):
            fence = bare[:3]
        elif fence is not None:
            if bare.startswith(fence) and not bare.strip(fence[0]):
                fence = None
        else:
            kept.append(line)
    return any(p.search("\n".join(kept)) for p in MARKDOWN)


def pools(tables, config):
    """Whose answers the pairs were picked from; None where the actor alone answered."""
    if not config["actor"].get("pools"):
        return None
    role = config["actor"]["role"]
    models = {"actor": role["model"] + ("@" + role["revision"] if role.get("revision") else "")}
    for pool in config["actor"]["pools"]:
        role = pool["role"]
        models[role["name"]] = role["model"] + ("@" + role["revision"] if role.get("revision") else "")
    order = [r for r in ("actor", "past", "future") if r in models]
    of_model = {m: r for r, m in models.items() if r != "actor"}
    sides = [(of_model.get(p["chosen_model"], "actor"), of_model.get(p["rejected_model"], "actor")) for p in tables["actor"]]
    sources = []
    for name in order:
        own = [r for r in tables["responses"] if of_model.get(r["model"], "actor") == name]
        scored = [r for r in own if r["score_mean"] is not None]
        statuses = {str(k): len(v) for k, v in by(own, "status").items()}
        sources.append(
            {
                "role": name,
                "model": models[name],
                "responses": len(own),
                "statuses": statuses,
                "complete": share(statuses.get("complete", 0), len(own)),
                "scored": len(scored),
                "score": float(np.mean([r["score_mean"] for r in scored])) if scored else 0.0,
                "chars": float(np.mean([r["chars"] for r in scored])) if scored else 0.0,
                "chosen": sum(c == name for c, _ in sides),
                "rejected": sum(r == name for _, r in sides),
            }
        )
    pairs = []
    for chosen in order:
        for rejected in order:
            own = [p for p, s in zip(tables["actor"], sides, strict=True) if s == (chosen, rejected)]
            if own:
                lengths = np.array([(p["chosen_chars"], p["rejected_chars"]) for p in own], dtype=float)
                pairs.append(
                    {
                        "chosen": chosen,
                        "rejected": rejected,
                        "pairs": len(own),
                        "share": len(own) / len(sides),
                        "chosen_chars": float(lengths[:, 0].mean()),
                        "rejected_chars": float(lengths[:, 1].mean()),
                        "difference": float((lengths[:, 0] - lengths[:, 1]).mean()),
                        "margin": float(np.mean([p["score_margin"] for p in own])),
                        "chosen_markdown": float(np.mean([has_markdown(p["chosen"][-1]["content"]) for p in own])),
                        "rejected_markdown": float(np.mean([has_markdown(p["rejected"][-1]["content"]) for p in own])),
                    }
                )
    return {"sources": sources, "pairs": pairs or None}


def figures(tables, run):
    config = run["config"]
    meta = "judge" in config["roles"]
    return {
        "prompts": len(tables["prompts"]),
        "scores": scores(tables, meta),
        "length": length(tables, config),
        **split_half(tables, config),
        "meta": meta_judge(tables) if meta else None,
        "pools": pools(tables, config),
    }


def tolerance(path):
    if path[-1] in ("theta", "phi", "psi", "controlled"):
        return FITTED
    return CLOSE


def differences(want, got, path=()):
    """Every place in which two objects differ; keys that only got has are the program's own."""
    if isinstance(want, dict) and isinstance(got, dict):
        for key, value in want.items():
            if key not in got:
                yield ".".join((*path, key)) + " is missing"
            else:
                yield from differences(value, got[key], (*path, key))
    elif isinstance(want, list) and isinstance(got, list):
        if len(want) != len(got):
            yield f"{'.'.join(path)} has {len(got)} entries, should have {len(want)}"
        for i, (a, b) in enumerate(zip(want, got, strict=False)):
            yield from differences(a, b, (*path, str(i)))
    elif isinstance(want, float | np.floating) and isinstance(got, int | float):
        if not abs(want - got) <= tolerance(path) * max(1.0, abs(want)):
            yield f"{'.'.join(path)} is {got!r}, should be {float(want)!r}"
    elif want != got:
        yield f"{'.'.join(path)} is {got!r}, should be {want!r}"


def told(coeval, out):
    prices = [f"--{flag}={PRICES[key]}" for flag, key in FLAGS.items()]
    done = subprocess.run([coeval, "report", "--json", *prices, out], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"coeval report --json {out} ended with {done.returncode}: {done.stderr}")
    return json.loads(done.stdout)


def step(before, after, config):
    """What two runs share, as `coeval compare --json` tells it; config is that of the later run."""

    def scored(tables):
        return {
            p["id"]: {r["text"]: r["score_mean"] for r in rows if r["score_mean"] is not None}
            for p, rows in ((p, by_prompt.get(p["id"], [])) for p in tables["prompts"])
        }

    def ranks(pairs):
        x, y = np.array(pairs, dtype=float).reshape(-1, 2).T
        return None if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0 else float(stats.spearmanr(x, y).statistic)

    by_prompt = by(before["responses"], "prompt_id")
    a = scored(before)
    by_prompt = by(after["responses"], "prompt_id")
    b = scored(after)
    shared = sorted(a.keys() & b.keys())
    both = [[(a[p][r], b[p][r]) for r in a[p].keys() & b[p].keys()] for p in shared]
    orders = [np.sign(x[0] - y[0]) * np.sign(x[1] - y[1]) for rows in both for x, y in combinations(rows, 2)]
    ordered = [o for o in orders if o != 0]
    past = {
        (r["prompt_id"], r["text"])
        for r in after["responses"]
        if r["score_mean"] is not None and pool_of(r, config) == "past"
    }
    drift = [(a[p][t], b[p][t]) for p, t in past if p in a and t in a[p]]
    return {
        "prompts": len(shared),
        "overlap": share(len(shared), min(len(a), len(b))),
        "prompt_ranks": ranks(
            [(round(np.mean([*a[p].values()]), 9), round(np.mean([*b[p].values()]), 9)) for p in shared if a[p] and b[p]]
        ),
        "responses": sum(map(len, both)),
        "response_ranks": ranks([pair for rows in both for pair in rows]),
        "order_agreement": float(np.mean([o > 0 for o in ordered])) if ordered else None,
        "ordered_pairs": len(ordered),
        "past_responses": len(drift),
        "past_ranks": ranks(drift),
        "past_shift": float(np.mean([y - x for x, y in drift])) if drift else None,
    }


def check_steps(coeval, outs):
    """Compares each run with the next that shares a prompt with it; returns whether any differs."""
    failed = False
    for first, second in zip(outs, outs[1:], strict=False):
        done = subprocess.run(
            [coeval, "compare", "--unshared", "--json", first, second], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise SystemExit(f"coeval compare {first} {second} ended with {done.returncode}: {done.stderr}")
        got = json.loads(done.stdout)["steps"][0]
        after, run = read(second)
        want = step(read(first)[0], after, run["config"])
        found = list(differences(want, got))
        for problem in found:
            print(f"{first} and {second}: {problem}", file=sys.stderr)
        failed |= bool(found)
        if not found:
            print(f"{first} and {second}: {want['prompts']} prompts and {want['responses']} responses in both: agree")
    return failed


def spoil(tables):
    """Copies of the tables with one thing wrong in each, with what should show it."""

    def some(name, wanted):
        return next(i for i, row in enumerate(tables[name]) if wanted(row))

    def change(name, wanted, **values):
        spoiled = {key: list(rows) for key, rows in tables.items()}
        i = some(name, wanted)
        spoiled[name][i] = spoiled[name][i] | {k: v(spoiled[name][i]) for k, v in values.items()}
        return spoiled

    scored = lambda row: row.get("score") is not None  # noqa: E731
    contested = {p["contested_response_id"] for p in tables["prompts"]}
    yield "scores.mean", change("judgments", scored, score=lambda r: (r["score"] + 1) % 5)
    yield "scores.unparsed", change("judgments", scored, unparsed_reason=lambda r: "missing")
    yield "cross_fit", tables | {"judgments": [j | {"replicate": j["replicate"] * 7 % 11} for j in tables["judgments"]]}
    yield "reliability", change("judgments", scored, score=lambda r: (r["score"] + 2) % 5)
    yield "scores.response_mean", change("responses", lambda r: r["score_mean"] is not None, score_mean=lambda r: r["score_mean"] / 2)
    yield "scores.variance", change("responses", lambda r: r["score_variance"], score_variance=lambda r: r["score_variance"] / 2)
    yield "length.slope", change("responses", lambda r: r["score_mean"] is not None, chars=lambda r: r["chars"] + 500)
    yield "meta.first", change("comparisons", lambda c: c["winner"] == "first", winner=lambda c: "second")
    yield "meta.comparisons", tables | {"comparisons": tables["comparisons"][1:]}
    yield "meta.elo_spread", change(
        "judgments", lambda j: j["elo"] is not None and j["response_id"] in contested, elo=lambda j: j["elo"] + 9
    )
    yield "prompts", tables | {"prompts": tables["prompts"][1:]}
    models = {r["model"] for r in tables["responses"]}
    if len(models) > 1:
        other = lambda r: min(models - {r["rejected_model"]})  # noqa: E731
        yield "pools.sources", change("responses", lambda r: r["status"] == "complete", status=lambda r: "empty")
        yield "pools.pairs", change("actor", lambda r: True, rejected_model=other)
        yield "pools.pairs", change("actor", lambda r: True, chosen_chars=lambda r: r["chosen_chars"] + 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--coeval", required=True, help="the program")
    parser.add_argument("--self-test", action="store_true", help="check that this check finds errors")
    parser.add_argument("outs", nargs="+", metavar="OUT")
    args = parser.parse_args()
    failed = False
    for out in args.outs:
        tables, run = read(out)
        got = told(args.coeval, out)
        if args.self_test:
            count = 0
            for what, spoiled in spoil(tables):
                found = list(differences(figures(copy.copy(spoiled), run), got))
                count += 1
                if not any(what in f for f in found):
                    failed = True
                    print(f"{out}: an error in {what} is not found, only {found[:3]}", file=sys.stderr)
            longer = [a | {"asking_seconds": a["asking_seconds"] + 1} for a in attempts_of(out)]
            found = list(differences({"operation": operation(longer, run, PRICES)}, got))
            for what in ("operation.asking_seconds", "operation.stages.0.seconds", "operation.all.cost_by_hours"):
                count += 1
                if not any(what in f for f in found):
                    failed = True
                    print(f"{out}: an error in {what} is not found, only {found[:3]}", file=sys.stderr)
            print(f"{out}: {count} errors were planted")
            continue
        want = figures(tables, run) | {"operation": operation(attempts_of(out), run, PRICES)}
        found = list(differences(want, got))
        for problem in found[:20]:
            print(f"{out}: {problem}", file=sys.stderr)
        failed |= bool(found)
        if not found:
            print(f"{out}: the report's figures agree")
    if not args.self_test:
        failed |= check_steps(args.coeval, args.outs)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
