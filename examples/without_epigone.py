"""Use a trained model with transformers alone: `python examples/without_epigone.py runs/novel "It was"`."""

import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(run: str, prompt: str = "It was") -> str:
    """Load RUN/model as any Hugging Face model is loaded, and let `generate` continue the prompt."""
    model = AutoModelForCausalLM.from_pretrained(f"{run}/model")
    tokenizer = AutoTokenizer.from_pretrained(f"{run}/model")
    torch.manual_seed(0)
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    # The temperature that was measured for this model is in its generation_config.json, so it is used here, too.
    written = model.generate(ids, do_sample=True, max_new_tokens=40, pad_token_id=tokenizer.eos_token_id)
    text = str(tokenizer.decode(written[0], skip_special_tokens=True))
    print(text)
    return text


if __name__ == "__main__":
    main(*sys.argv[1:3])
