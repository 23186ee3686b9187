"""Small Hugging Face folders with seeded weights, made from configurations. Runs in the builder environment."""

from pathlib import Path

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
WORDS = 100
"""Size of every vocabulary."""


def made(name: str):
    import torch
    import transformers as hf

    torch.manual_seed(0)
    text = {"vocab_size": WORDS, **SMALL}
    makers = {
        "bert": lambda: hf.BertForSequenceClassification(hf.BertConfig(**text)),
        "distilbert": lambda: hf.DistilBertModel(
            hf.DistilBertConfig(vocab_size=WORDS, dim=32, n_layers=2, n_heads=2, hidden_dim=64)
        ),
        "gpt2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=WORDS, n_embd=32, n_layer=2, n_head=2)),
        "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**text)),
        "vit": lambda: hf.ViTForImageClassification(hf.ViTConfig(image_size=8, patch_size=4, num_labels=5, **SMALL)),
    }
    return makers[name]().eval()


def hugging_face_model(folder: Path, name: str, **saving: object) -> None:
    made(name).save_pretrained(folder, **saving)


def hugging_face_models(folder: Path) -> None:
    for name in ("bert", "distilbert", "gpt2", "llama"):
        hugging_face_model(folder / name, name)
    hugging_face_model(folder / "sharded", "bert", max_shard_size="60KB")
    pickled(folder / "pickled")


def pickled(folder: Path) -> None:
    """Save what older versions of transformers wrote."""
    import torch

    model = made("bert")
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")


if __name__ == "__main__":
    import sys

    hugging_face_models(Path(sys.argv[1]))
