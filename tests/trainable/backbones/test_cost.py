import torch
from torch import nn

from trainable.backbones import count_flops, count_parameters


def test_flops_and_parameters_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(8 * 4 * 5, 7))
    assert count_parameters(model) == 3 * 8 * 9 + 160 * 7 + 7
    assert count_flops(model, (4, 5), 3) == 2 * (3 * 8 * 9 * 20 + 160 * 7)


def test_the_products_of_attention_count() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4, bias=False)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            tokens = self.layer(images.flatten(2).transpose(1, 2))
            return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)

    assert count_flops(Attention(), (5, 2), 4) == 2 * (10 * 4 * 4 + 2 * 10 * 10 * 4)


def test_counting_leaves_the_model_and_the_random_state_alone() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 2)
    )
    model[1].eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    count_flops(model, (4, 4), 1)
    assert [module.training for module in model] == [True, False, True, True, True]
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(random_state, torch.get_rng_state())
