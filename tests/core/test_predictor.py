"""A predictor reads a model and leaves it as it was; so do attributions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from kit import tiny
from mfd_cli.core.attribute import METHODS, attribute, scores_of
from mfd_cli.core.model import MfdModel
from mfd_cli.core.predictor import Predictor


def in_training() -> MfdModel:
    """A model in the midst of training, of which a part is frozen and in evaluation mode."""
    model = tiny.model().train()
    model.latent(tiny.windows(16, model.window))  # batch norms that have seen something
    model.backbone.stem_residual.eval().requires_grad_(False)
    return model


def state_of(model: MfdModel) -> dict[str, Any]:
    """What must not change: mode of every module, device, gradients and place of every parameter, every number."""
    return {
        **{f"mode {name}": module.training for name, module in model.named_modules()},
        **{f"parameter {name}": (p.device, p.requires_grad, p.data_ptr()) for name, p in model.named_parameters()},
        **{f"number {name}": value.tolist() for name, value in model.state_dict().items()},
    }


def codes_of(model: MfdModel) -> np.ndarray:
    return tiny.windows(3, model.window).numpy()


def attributed(method: str) -> Callable[[MfdModel], object]:
    direction = np.ones(12, np.float32)
    return lambda model: attribute(model, codes_of(model), direction, slice(0, 12), method=method, steps=2)  # type: ignore[arg-type]


USES: dict[str, Callable[[MfdModel], object]] = {
    "predict": lambda model: Predictor(model).latents(codes_of(model)),
    "predict in bf16": lambda model: Predictor(model, precision="bf16").latents(codes_of(model)),
    "read on another device": lambda model: Predictor(model, "meta"),
    "score": lambda model: scores_of(model, codes_of(model), np.ones(12, np.float32), slice(0, 12)),
    **{method: attributed(method) for method in METHODS},
}


@pytest.mark.parametrize("use", list(USES.values()), ids=list(USES))
def test_a_model_is_left_as_it_was(use: Callable[[MfdModel], object]) -> None:
    model = in_training()
    before = state_of(model)
    use(model)
    assert state_of(model) == before


def test_a_model_in_training_is_read_as_in_evaluation() -> None:
    model, codes = in_training(), tiny.windows(3, tiny.model().window)
    predicted = Predictor(model).latents(codes.numpy(), "forward")
    scores = scores_of(model, codes.numpy(), np.ones(12, np.float32), slice(0, 12))
    contributions = attributed("input-x-gradient")(model)
    model.eval()
    assert np.allclose(predicted, model.latent(codes).detach().numpy(), atol=1e-5)
    assert np.array_equal(scores[0], scores_of(model, codes.numpy(), np.ones(12, np.float32), slice(0, 12))[0])
    assert np.array_equal(contributions, attributed("input-x-gradient")(model))


def test_a_predictor_keeps_the_weights_that_it_was_made_with() -> None:
    model = in_training()
    predictor, codes = Predictor(model), codes_of(model)
    before, bias = predictor.latents(codes), predictor.head.bias.copy()
    with torch.no_grad():
        for values in [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]:
            values.add_(1.0)
    assert np.array_equal(predictor.latents(codes), before) and np.array_equal(predictor.head.bias, bias)


@pytest.mark.gpu
def test_on_a_gpu_only_the_folded_weights_take_room() -> None:
    model = tiny.model(model={"width": 256, "latent": 256}).eval()
    size = sum(value.nbytes for value in model.state_dict().values())
    torch.cuda.reset_peak_memory_stats()
    empty = torch.cuda.memory_allocated()
    predictor = Predictor(model, "cuda")
    assert torch.cuda.max_memory_allocated() - empty < 1.5 * size
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    codes = codes_of(model)
    assert np.allclose(predictor.latents(codes), Predictor(model).latents(codes), atol=1e-3)
    attributed("input-x-gradient")  # on the CPU; on the GPU the model goes there and comes back
    direction = np.ones(12, np.float32)
    there = attribute(model, codes, direction, slice(0, 12), device="cuda")
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    assert np.allclose(there, attribute(model, codes, direction, slice(0, 12)), atol=1e-3)
