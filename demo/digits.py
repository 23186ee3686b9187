"""Train a small CNN on scikit-learn's digits and save it as .pt2, with disjoint calibration and evaluation data.

Runs in the builder environment: `python digits.py FOLDER`. Takes a few seconds on one core.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

EPOCHS, BATCH = 20, 64
CALIBRATION, EVALUATION = 128, 400


class Digits(nn.Module):
    """Classify 8x8 images: (1, 1, 8, 8) float32 in [0, 1] to (1, 10) scores."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
        )
        self.classify = nn.Sequential(nn.Flatten(), nn.Linear(64 * 16, 10))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.classify(self.features(image))


def train(images: torch.Tensor, labels: torch.Tensor) -> Digits:
    torch.manual_seed(0)
    model = Digits()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
            optimizer.step()
    return model.eval()


def main(folder: Path) -> None:
    digits = load_digits()
    images = (digits.images[:, None] / 16.0).astype(np.float32)
    labels = digits.target.astype(np.int64)
    order = np.random.default_rng(0).permutation(len(images))
    held, calibration, training = np.split(order, [EVALUATION, EVALUATION + CALIBRATION])
    model = train(torch.from_numpy(images[training]), torch.from_numpy(labels[training]))
    torch.export.save(torch.export.export(model, (torch.zeros(1, 1, 8, 8),)), folder / "digits.pt2")
    np.savez(folder / "digits-calibration.npz", image=images[calibration])
    np.savez(folder / "digits-evaluation.npz", image=images[held], labels=labels[held])
    print(
        f"digits.pt2: trained on {len(training)}, {EVALUATION} held out for evaluation, {CALIBRATION} for calibration"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
