"""Lists the flags and config keys of trainers from their packages, without installing what they need.

    pip download --no-deps --dest WHEELS trl==1.16.0 transformers==5.19.0 openrlhf==0.11.2 axolotl==0.19.0
    flags.py WHEELS FOLDER

It reads the source in each wheel: the fields of the classes behind `trl dpo`, the arguments of OpenRLHF's
train_dpo, the fields of axolotl's config. A test holds the examples of the pages against the lists.
"""

import ast
import pathlib
import re
import sys
import zipfile


def source(wheels, package, wanted):
    """The wheel's name and version, and the text of its files whose names match."""
    (wheel,) = pathlib.Path(wheels).glob(f"{package}-*.whl")
    with zipfile.ZipFile(wheel) as z:
        texts = [z.read(n).decode() for n in sorted(z.namelist()) if re.search(wanted, n)]
    return f"{package} {wheel.name.split('-')[1]}", texts


def fields(texts, classes=None):
    """The annotated fields of these classes, or of all."""
    return {
        item.target.id
        for text in texts
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ClassDef) and (classes is None or node.name in classes)
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }


def arguments(texts):
    calls = (n for t in texts for n in ast.walk(ast.parse(t)) if isinstance(n, ast.Call))
    return {
        a.value[2:]
        for c in calls
        if getattr(c.func, "attr", "") == "add_argument"
        for a in c.args
        if isinstance(a, ast.Constant) and str(a.value).startswith("--")
    }


def main(wheels, folder):
    trl, script = source(wheels, "trl", r"^trl/(scripts/utils|trainer/(dpo|model|base)_config)\.py$")
    transformers, training = source(wheels, "transformers", r"^transformers/training_args\.py$")
    classes = {"ScriptArguments", "DatasetMixtureConfig", "DPOConfig", "ModelConfig", "TrainingArguments", "_BaseConfig"}
    openrlhf, dpo = source(wheels, "openrlhf", r"openrlhf/cli/train_dpo\.py$")
    axolotl, schemas = source(wheels, "axolotl", r"^axolotl/utils/schemas/[a-z_0-9]+\.py$")
    for name, versions, flags in (
        ("trl", f"{trl}, {transformers}", fields(script + training, classes)),
        ("openrlhf", openrlhf, arguments(dpo)),
        ("axolotl", axolotl, fields(schemas)),
    ):
        lines = [f"# {versions}, by flags.py", *sorted(flags)]
        pathlib.Path(folder, f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
