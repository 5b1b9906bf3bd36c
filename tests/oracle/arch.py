"""The architectures, as data. Names are GGUF's `general.architecture`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Arch:
    neox: bool = True              # rope pairs j with j + half; else 2j with 2j + 1
    activation: str = "silu"       # of the gate: silu, relu2, gelu
    sub_norms: bool = False        # RMS norms before attn_output and ffn_down
    post_norms: bool = False       # RMS norms on what attention and feed-forward give back
    qk_norm: str = ""              # "before rope" or "after rope": RMS norm of each head of q and k
    qkv_bias: bool = False
    fused: bool = False            # attn_qkv in one matrix, gate and up in ffn_up
    tied: bool = False             # no output.weight as published
    window: bool = False           # honours attention.sliding_window
    window_pattern: int = 0        # every n-th layer is global; 0: none is
    local_rope: bool = False       # windowed layers have a rope base of their own, unscaled
    embedding_sqrt: bool = False   # embedding times sqrt(hidden)
    minicpm_scales: bool = False   # embedding_scale, residual_scale, logit_scale
    optional_scales: bool = False  # a `.scale` tensor may stand beside each matrix


ARCHS = {
    "bitnet-b1.58": Arch(activation="relu2", sub_norms=True, tied=True, optional_scales=True),
    "bitnet-25": Arch(activation="relu2", sub_norms=True, tied=True, optional_scales=True),
    "bitnet": Arch(sub_norms=True, tied=True, optional_scales=True),
    "llama": Arch(neox=False),
    "qwen2": Arch(qkv_bias=True),
    "qwen3": Arch(qk_norm="before rope"),
    "phi3": Arch(fused=True, window=True),
    "gemma3": Arch(activation="gelu", post_norms=True, qk_norm="before rope", tied=True, window=True,
                   window_pattern=6, local_rope=True, embedding_sqrt=True),
    "hunyuan-dense": Arch(qk_norm="after rope", tied=True),
    "minicpm": Arch(neox=False, minicpm_scales=True),
}
