"""One iteration of DPO on a LoRA adapter with TRL, for train.command of a loop.

    python train_lora.py --base BASE --model MODEL --data TRAIN --out OUT

MODEL is BASE in the first iteration, where a new adapter begins, and afterwards the adapter of the iteration
before, which is trained further. The reference is the model that the iteration starts with. `trl dpo` can't do
this: given an adapter, it begins another one on top. Needs trl, peft and datasets.
"""

import argparse

import torch
from datasets import load_dataset
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    for name in ("base", "model", "data", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=5e-6)
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--max-length", type=int, default=8192)
    parser.add_argument("--batch", type=int, default=32, help="pairs of a step, on each GPU")
    parser.add_argument("--epochs", type=float, default=1)
    args = parser.parse_args()

    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    model = AutoModelForCausalLM.from_pretrained(args.base, dtype=dtype)
    lora = None
    if args.model == args.base:
        lora = LoraConfig(r=args.rank, lora_alpha=2 * args.rank, target_modules="all-linear", task_type="CAUSAL_LM")
    else:
        model = PeftModel.from_pretrained(model, args.model, is_trainable=True)
    # The folder's name is the same in every iteration: name its files, so that no cache serves another's.
    pairs = load_dataset("parquet", data_files=f"{args.data}/*.parquet", split="train")
    trainer = DPOTrainer(
        model=model,
        args=DPOConfig(
            output_dir=f"{args.out}.work",
            learning_rate=args.learning_rate,
            beta=args.beta,
            max_length=args.max_length,
            per_device_train_batch_size=1,
            gradient_accumulation_steps=args.batch,
            num_train_epochs=args.epochs,
            bf16=torch.cuda.is_available(),
            logging_steps=1,
            save_strategy="no",
            report_to="none",
        ),
        train_dataset=pairs.select_columns(["prompt", "chosen", "rejected"]),
        processing_class=AutoTokenizer.from_pretrained(args.base),
        peft_config=lora,
    )
    trainer.train()
    trainer.accelerator.unwrap_model(trainer.model).save_pretrained(args.out, selected_adapters=["default"])


if __name__ == "__main__":
    main()
