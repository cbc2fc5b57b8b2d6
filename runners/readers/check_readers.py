"""Reads the files of runs with pyarrow, DuckDB, polars and datasets, and compares.

    check_readers.py --cache DIR OUT...     exits with 1 and a list if anything is wrong

For every table: the columns with their types and whether they may be null, as they are written
down here and not taken from the program; row counts, sizes and digests of run.json; and that
every reader gives the same values. For the dataset: that the card offers exactly the configs
that have rows, that load_dataset gives their rows, streamed or not, and not those of another
run whose folder has the same name.
"""

import argparse
import hashlib
import json
import os
import pathlib
import sys

MESSAGES = "messages"  # a list of {role, content}

PAIR = [
    # name, type, nullable
    ("id", "string", False),
    ("prompt_id", "string", False),
    ("prompt", MESSAGES, False),
    ("chosen", MESSAGES, False),
    ("rejected", MESSAGES, False),
    ("response_id", "string", True),
    ("chosen_id", "string", False),
    ("rejected_id", "string", False),
    ("chosen_model", "string", True),
    ("rejected_model", "string", True),
    ("chosen_score", "double", False),
    ("rejected_score", "double", False),
    ("score_margin", "double", False),
    ("margin_se", "double", True),
    ("chosen_chars", "int32", False),
    ("rejected_chars", "int32", False),
    ("chosen_elo", "double", True),
    ("rejected_elo", "double", True),
    ("own_id", "strings", False),
    ("metadata", "string", False),
]

TABLES = {
    "actor": PAIR,
    "judge": PAIR,
    "raw/prompts": [
        ("id", "string", False),
        ("prompt", MESSAGES, False),
        ("own_id", "strings", False),
        ("source_file", "string", False),
        ("source_line", "int64", False),
        ("metadata", "string", False),
        ("chars", "int32", False),
        ("actor_outcome", "string", True),
        ("actor_reason", "string", True),
        ("judge_outcome", "string", True),
        ("judge_reason", "string", True),
        ("contested_response_id", "string", True),
        ("asking_stopped", "string", True),
        ("expected_regret", "double", True),
        ("expected_spread", "double", True),
    ],
    "raw/responses": [
        ("id", "string", False),
        ("prompt_id", "string", False),
        ("replicates", "int32s", False),
        ("model", "string", False),
        ("text", "string", False),
        ("reasoning", "string", True),
        ("status", "string", False),
        ("chars", "int32", False),
        ("prompt_tokens", "int32", False),
        ("parsed_judgments", "int32", False),
        ("score_mean", "double", True),
        ("score_variance", "double", True),
        ("contested", "bool", False),
    ],
    "raw/judgments": [
        ("id", "string", False),
        ("prompt_id", "string", False),
        ("response_id", "string", False),
        ("replicate", "int32", False),
        ("model", "string", False),
        ("text", "string", False),
        ("reasoning", "string", True),
        ("chars", "int32", False),
        ("score", "double", True),
        ("unparsed_reason", "string", True),
        ("distinct", "bool", False),
        ("elo", "double", True),
        ("prompt_tokens", "int32", False),
    ],
    "raw/comparisons": [
        ("id", "string", False),
        ("prompt_id", "string", False),
        ("response_id", "string", False),
        ("first_id", "string", False),
        ("second_id", "string", False),
        ("model", "string", False),
        ("text", "string", False),
        ("reasoning", "string", True),
        ("winner", "string", False),
        ("unparsed_reason", "string", True),
        ("round", "int32", True),
        ("prompt_tokens", "int32", False),
    ],
    "raw/reads": [
        ("id", "string", False),
        ("prompt_id", "string", False),
        ("response_id", "string", False),
        ("first_id", "string", True),
        ("second_id", "string", True),
        ("replicate", "int32", False),
        ("model", "string", False),
        ("labels", "strings", False),
        ("log_probs", "doubles", False),
        ("label_mass", "double", False),
        ("value", "double", True),
        ("variance", "double", True),
        ("unparsed_reason", "string", True),
        ("prompt_tokens", "int32", False),
    ],
    "failures": [
        ("stage", "string", False),
        ("code", "string", False),
        ("message", "string", False),
        ("source_file", "string", True),
        ("source_line", "int64", True),
        ("prompt_id", "string", True),
        ("response_id", "string", True),
        ("first_id", "string", True),
        ("second_id", "string", True),
        ("replicate", "int32", True),
    ],
}

# Columns that make a row's place; null comes first.
ORDER = {
    "raw/prompts": ["id"],
    "failures": [
        "prompt_id",
        "stage",
        "code",
        "response_id",
        "first_id",
        "second_id",
        "replicate",
        "source_file",
        "source_line",
    ],
}

DUCKDB_TYPES = {
    "string": "VARCHAR",
    "double": "DOUBLE",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "bool": "BOOLEAN",
    "strings": "VARCHAR[]",
    "int32s": "INTEGER[]",
    "doubles": "DOUBLE[]",
    MESSAGES: 'STRUCT("role" VARCHAR, "content" VARCHAR)[]',
}

CREATED_BY = "coeval version 1 (build parquet-go)"
MAX_GROUP = 10_000


class Problems(list):
    """What is wrong, each with its place."""

    def expect(self, where, what, is_, want):
        if is_ != want:
            self.append(f"{where}: {what} is {short(is_)}, wanted {short(want)}")

    def expect_columns(self, where, is_, want):
        """Tells the columns in which two lists differ, and their order when that is all."""
        wrong = [c for c in is_ if c not in want]
        lacking = [c for c in want if c not in is_]
        if wrong or lacking:
            self.append(f"{where}: has the columns {wrong}, lacks {lacking}")
        else:
            self.expect(where, "order of columns", [c[0] for c in is_], [c[0] for c in want])


def short(value):
    text = repr(value)
    return text if len(text) <= 300 else text[:300] + "…"


def arrow_types(pa):
    message = pa.struct(
        [pa.field("role", pa.string(), nullable=False), pa.field("content", pa.string(), nullable=False)]
    )
    return {
        "string": pa.string(),
        "double": pa.float64(),
        "int32": pa.int32(),
        "int64": pa.int64(),
        "bool": pa.bool_(),
        "strings": pa.list_(pa.field("element", pa.string(), nullable=False)),
        "int32s": pa.list_(pa.field("element", pa.int32(), nullable=False)),
        "doubles": pa.list_(pa.field("element", pa.float64(), nullable=False)),
        MESSAGES: pa.list_(pa.field("element", message, nullable=False)),
    }


def check_files(out, problems):
    """Every file is as run.json says; returns the files of each table."""
    run = json.loads((out / "run.json").read_text(encoding="utf-8"))
    files = {table: [] for table in TABLES}
    for entry in run["files"]:
        path = out / entry["path"]
        where = str(path)
        table = entry["path"].rsplit("/", 1)[0]
        if not path.is_file() or table not in TABLES:
            problems.append(f"{where}: is no file of a table")
            continue
        data = path.read_bytes()
        problems.expect(where, "size", len(data), entry["bytes"])
        problems.expect(where, "digest", hashlib.sha256(data).hexdigest(), entry["sha256"])
        files[table].append((path, entry["rows"]))
    known = {path for entries in files.values() for path, _ in entries}
    for path in set(out.rglob("*.parquet")) - known:
        problems.append(f"{path}: is not in run.json")
    for role in ("actor", "judge"):
        problems.expect(str(out), f"has files of the {role}", bool(files[role]), role in run["config"]["roles"])
    return run, {table: sorted(entries) for table, entries in files.items()}


def read_arrow(table, entries, problems):
    """The rows as pyarrow reads them, after a look at each footer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = arrow_types(pa)
    want = [(name, types[kind], nullable) for name, kind, nullable in TABLES[table]]
    rows = []
    for path, count in entries:
        where = str(path)
        file = pq.ParquetFile(path)
        problems.expect_columns(where, [(f.name, f.type, f.nullable) for f in file.schema_arrow], want)
        problems.expect(where, "rows", file.metadata.num_rows, count)
        problems.expect(where, "created_by", file.metadata.created_by, CREATED_BY)
        for g in range(file.metadata.num_row_groups):
            group = file.metadata.row_group(g)
            codecs = {group.column(c).compression for c in range(group.num_columns)}
            problems.expect(where, "codecs", codecs, {"ZSTD"})
            if group.num_rows > MAX_GROUP:
                problems.append(f"{where}: a row group of {group.num_rows} rows")
        part = file.read().to_pylist()
        columns = ORDER.get(table, ["prompt_id", "id"])
        keys = [tuple((row[c] is not None, row[c]) for c in columns) for row in part]
        problems.expect(where, "sorted by " + ", ".join(columns), keys == sorted(keys), True)
        rows += part
    return rows


def check_duckdb(table, entries, rows, problems):
    import duckdb

    where = f"{entries[0][0].parent}, DuckDB"
    db = duckdb.connect()
    source = db.read_parquet([str(path) for path, _ in entries])
    types = [(name, str(kind)) for name, kind in zip(source.columns, source.types)]
    problems.expect_columns(where, types, [(name, DUCKDB_TYPES[kind]) for name, kind, _ in TABLES[table]])
    got = [dict(zip(source.columns, row)) for row in source.fetchall()]
    same_rows(where, got, rows, problems)


def check_polars(table, entries, rows, problems):
    import polars as pl

    message = pl.Struct({"role": pl.String, "content": pl.String})
    types = {
        "string": pl.String,
        "double": pl.Float64,
        "int32": pl.Int32,
        "int64": pl.Int64,
        "bool": pl.Boolean,
        "strings": pl.List(pl.String),
        "int32s": pl.List(pl.Int32),
        "doubles": pl.List(pl.Float64),
        MESSAGES: pl.List(message),
    }
    where = f"{entries[0][0].parent}, polars"
    frame = pl.read_parquet([path for path, _ in entries])
    problems.expect_columns(where, list(frame.schema.items()), [(name, types[kind]) for name, kind, _ in TABLES[table]])
    same_rows(where, frame.to_dicts(), rows, problems)


def same_rows(where, got, want, problems):
    """Compares every value, strings and lists included."""
    problems.expect(where, "rows", len(got), len(want))
    for i, (a, b) in enumerate(zip(got, want)):
        if a != b:
            column = next(c for c in b if a.get(c) != b[c])
            problems.append(f"{where}: row {i}: {column} is {short(a.get(column))}, pyarrow reads {short(b[column])}")
            return


def card_configs(out, problems):
    """The configs that the card's header offers."""
    import yaml

    text = (out / "README.md").read_text(encoding="utf-8")
    _, header, _ = text.split("---\n", 2)
    configs = yaml.safe_load(header).get("configs", [])
    for config in configs:
        where = f"{out}/README.md, config {config['config_name']}"
        problems.expect(where, "default", config.get("default"), None)
        problems.expect(
            where,
            "data_files",
            config["data_files"],
            [{"split": "train", "path": f"{config['config_name']}/train-*.parquet"}],
        )
        if "digest" not in config.get("description", ""):
            problems.append(f"{where}: its description has no digest, by which a cache tells runs apart")
    return [config["config_name"] for config in configs], text


def check_datasets(out, rows, problems):
    """What Hugging Face's library makes of the folder."""
    import datasets

    message = {"role": datasets.Value("string"), "content": datasets.Value("string")}
    types = {
        "string": datasets.Value("string"),
        "double": datasets.Value("float64"),
        "int32": datasets.Value("int32"),
        "strings": datasets.List(datasets.Value("string")),
        MESSAGES: datasets.List(message),
    }
    want = datasets.Features({name: types[kind] for name, kind, _ in PAIR})
    names, _ = card_configs(out, problems)
    problems.expect(str(out), "configs of the card", names, [role for role in ("actor", "judge") if rows[role]])
    if names:
        problems.expect(
            str(out), "configs that datasets finds", sorted(datasets.get_dataset_config_names(str(out))), sorted(names)
        )
    for name in names:
        where = f"{out}, load_dataset {name}"
        loaded = datasets.load_dataset(str(out), name)
        problems.expect(where, "splits", list(loaded), ["train"])
        problems.expect(where, "features", loaded["train"].features, want)
        same_rows(where, loaded["train"].to_list(), rows[name], problems)
        streamed = datasets.load_dataset(str(out), name, split="train", streaming=True)
        problems.expect(where, "streamed features", streamed.features, want)
        same_rows(where + ", streamed", list(streamed), rows[name], problems)


def check_card(out, run, rows, problems):
    """What people read of the card."""
    _, text = card_configs(out, problems)
    problems.expect(str(out), "the card says simulated", "simulated" in text, run["simulated"])
    for table in TABLES:
        if table == "raw/reads" and not rows[table]:
            continue  # a table of runs with reads alone
        if f"| `{table}` | {len(rows[table])} |" not in text:
            problems.append(f"{out}/README.md: does not say that {table} has {len(rows[table])} rows")


def check(out, problems):
    run, files = check_files(out, problems)
    rows = {}
    for table, entries in files.items():
        rows[table] = read_arrow(table, entries, problems)
        if entries:
            check_duckdb(table, entries, rows[table], problems)
            check_polars(table, entries, rows[table], problems)
    for role in ("actor", "judge"):
        for row in rows[role]:
            if not row["prompt"] or len(row["chosen"]) != 1 or len(row["rejected"]) != 1:
                problems.append(f"{out}: {role} pair {row['id']} has an empty conversation")
    check_datasets(out, rows, problems)
    check_card(out, run, rows, problems)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("out", nargs="+", type=pathlib.Path, help="folder of a run")
    parser.add_argument("--cache", required=True, help="where datasets may keep its cache; one for all runs")
    args = parser.parse_args()
    cache = str(pathlib.Path(args.cache).absolute())
    os.environ.update(
        HF_HOME=cache, HF_DATASETS_CACHE=cache + "/datasets", HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1"
    )
    import datasets

    datasets.disable_progress_bars()
    problems = Problems()
    for out in args.out:
        before = len(problems)
        rows = check(out, problems)
        counts = ", ".join(f"{table} {len(found)}" for table, found in rows.items())
        print(f"{out}: rows: {counts}: {len(problems) - before} problems", flush=True)
    for problem in problems[:50]:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
