"""Losses at work: on a long tail of real digits, those that correct imbalance find more of the rare classes."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from trainable.losses import LOSSES, LossContext


def long_tailed_digits():
    """Return training images, labels, and a balanced rest; 100 images of digit 0 down to 3 of digit 9."""
    images, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    train = []
    for digit in range(10):
        own = rng.permutation(np.flatnonzero(labels == digit))
        train.append(own[: round(100 * 0.03 ** (digit / 9))])
    chosen = np.concatenate(train)
    rest = np.setdiff1d(np.arange(len(labels)), chosen)
    inputs = torch.as_tensor(images / 16.0, dtype=torch.float32)
    targets = torch.as_tensor(labels, dtype=torch.int64)
    return inputs[chosen], targets[chosen], inputs[rest], targets[rest]


def tail_recall(loss):
    """Return the mean recall of the three rarest digits under a linear model trained with `loss`."""
    inputs, targets, test_inputs, test_targets = long_tailed_digits()
    counts = np.bincount(targets.numpy(), minlength=10)
    built = LOSSES.parse(loss).build(LossContext(counts, counts / counts.sum(), num_epochs=1))
    torch.manual_seed(0)
    model = torch.nn.Linear(64, 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03, weight_decay=1e-3)
    for _ in range(150):
        optimizer.zero_grad()
        built.reduce(built(model(inputs), targets)).backward()
        optimizer.step()
    with torch.inference_mode():
        predicted = model(test_inputs).argmax(dim=1)
    return float(np.mean([(predicted[test_targets == digit] == digit).float().mean() for digit in (7, 8, 9)]))


@pytest.mark.parametrize(
    "loss", [member.model_fields["name"].default for member in LOSSES if member.corrects_imbalance]
)
def test_a_correcting_loss_finds_more_of_the_rare_digits(loss):
    assert tail_recall(loss) > tail_recall("cross_entropy") + 0.03
