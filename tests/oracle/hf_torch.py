#!/usr/bin/env python3
"""transformers' own models on the folders of hf.py (PyPI `torch`, `transformers`, `accelerate`; development only).

  hf_torch.py --trill target/release/trill [--seeds 3]

Each folder is loaded by `AutoModelForCausalLM` in f32, as a user would, and asked for its logits; `hf.Reference`
(float64, no torch) and trill's converted file are held against them. The figures are rms differences over the
standard deviation of the logits. As in hf.py, keys and values are rounded to f16 on all sides. A form passes if
the reference is within 1e-4 in the best of its seeds, so that it computes what transformers computes, and trill
within 2 % in the root mean square over its seeds (an activation that sits at a tie of int8 rounding goes the other
way in f32 than in f64 or in another order of sums, and one such step moves logits by 1e-3 to 1e-2).
"""

import argparse
import os
import shlex
import sys
import tempfile

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # unpack_weights is compiled otherwise
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
import transformers

import compare
import hf

# Loaded by transformers as what they are; 1bitLLM's folders bring code of their own that no release contains.
FORMS = [form for form in hf.FORMS if form != "bitnet-silu"]


class HalfCache(transformers.DynamicCache):
    """Keys and values are rounded to f16 as they enter."""

    def update(self, keys, values, *rest, **options):
        return super().update(keys.half().float(), values.half().float(), *rest, **options)


def torch_logits(folder, tokens):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    torch.nn.Module.float(model)  # transformers unpacks ternary codes to bf16, and would round sums to it
    for module in model.modules():
        if type(module).__name__ == "BitLinear":
            module.dtype = torch.float32
    kind = type(model.model.layers[0].self_attn.q_proj).__name__
    with torch.no_grad():
        logits = model(torch.tensor([tokens]), past_key_values=HalfCache()).logits[0]
    return logits.double().numpy(), f"{type(model).__name__}/{kind}"


def one(trill, tmp, form, seed):
    folder = hf.Folder(os.path.join(tmp, f"{form}-{seed}"), form, hf.SMALL, seed)
    folder.write()
    tokens = np.random.default_rng(seed).integers(0, hf.SMALL["vocab"], 16).tolist()
    want, kind = torch_logits(folder.path, tokens)
    path = folder.path + ".gguf"
    hf.convert(trill, folder.path, path)
    rms = lambda got: float(np.sqrt(((got - want) ** 2).mean()) / want.std())
    ours = compare.trill_logits(trill, path, tokens, 64, False)
    same = int((ours.argmax(1) == want.argmax(1)).sum())
    return kind, rms(hf.Reference(folder).logits(tokens)), rms(ours), same


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--trill", required=True)
    ap.add_argument("--seeds", type=int, default=3)
    a = ap.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    results = []
    with tempfile.TemporaryDirectory() as tmp:
        for form in FORMS:
            kinds, reference, ours, same = zip(*(one(shlex.split(a.trill), tmp, form, s) for s in range(a.seeds)))
            total = np.sqrt(np.mean(np.square(ours)))
            good = min(reference) < 1e-4 and total < 0.02
            results.append(good)
            figures = lambda numbers: " ".join(f"{n:.1e}" for n in numbers)
            print("pass" if good else "FAIL", f"{form} ({kinds[0]}): reference {figures(reference)}, trill {figures(ours)},"
                  f" same choice {sum(same)}/{16 * a.seeds}", flush=True)
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
