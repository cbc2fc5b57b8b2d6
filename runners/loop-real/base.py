"""Writes the first model of `make loop-real`: a GGUF as a checkpoint that a trainer can read.

    base.py MODEL.gguf FOLDER
"""

import pathlib
import sys

from transformers import AutoModelForCausalLM, AutoTokenizer


def main(gguf, folder):
    gguf = pathlib.Path(gguf)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # The weights are no longer quantized, but the model keeps the traces of it and can't be saved with them.
    model.hf_quantizer = None
    model.is_quantized = False
    model._weight_conversions = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters in {folder}")


if __name__ == "__main__":
    main(*sys.argv[1:])
