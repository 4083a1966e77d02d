"""Training of an implicit neural representation: the loop, and the estimates it leaves.

Axis letters: B batch, F frames, N points, D axes, C components, K held-out points.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR

from models.inr import Siren, SirenShape
from trainers.compiling import compiled, compiler
from trainers.data_points import PointData, PointInputs, load_points
from trainers.errors import RefusedError
from trainers.idle_inr import idle_keys
from trainers.optim import rate_factor
from trainers.order import Order
from trainers.run import Run, carry_out
from trainers.settings import Reader
from trainers.time_limit import TimeLimit

ESTIMATE_MOMENTS = (0.05, 0.3, 0.65)
"""Fractions of the training after which an intermediate estimate is written; the final one comes on top."""
LOSS_OVER = 0.1
"""Last part of the training over which the final loss is taken."""
CHECKPOINTS = 20
"""Checkpoints of a training."""
FINAL_RATE = 0.01
"""Last rate of the cosine as a fraction of the first."""
FREQUENCIES = 256
"""Quantiles of the first layer's frequencies that an estimate has."""
WORTH_SHARING = 2**20
"""Points of a step times width from which more than one thread is used: in small steps two threads wait for each other
many times, and a core that has other work, too, makes them ten times slower."""
PIECE = 65536
"""Points that are evaluated at once where no gradient is wanted."""


def new_model(inr: Any, dimension: int, components: int) -> Siren:
    """Return an untrained network; weights come from torch's global random state.

    Raises:
        RefusedError: a potential is asked for, and the field has not one component an axis.
    """
    if inr.inr_gradient_mode and components != dimension:
        raise RefusedError(
            f"inr_gradient_mode: the gradient of a potential has {dimension} components, the field {components}; set "
            "it to false"
        )
    shape = SirenShape(
        dimension=dimension,
        components=components,
        hidden=inr.hidden_dim_inr,
        layers=inr.n_layers_inr,
        omega=inr.omega_inr,
        omega_t=inr.inr_omega_t,
        t_period=inr.inr_t_period,
        xy_period=inr.inr_xy_period,
        periodic=inr.inr_periodic,
        gradient_mode=inr.inr_gradient_mode,
    )
    return Siren(shape, inr.inr_precision)


class Fitted:
    """A network with the units of its field: value = mean + std * network."""

    def __init__(self, model: Siren, mean: torch.Tensor, std: torch.Tensor) -> None:
        self.model, self.mean, self.std = model, mean, std

    @torch.no_grad()
    def at(self, points: torch.Tensor) -> torch.Tensor:
        """Return the field (K, C) at points (K, 1 + D), time first."""
        pieces = [p.to(self.mean.device) for p in points.split(PIECE)]
        return torch.cat([self.mean + self.std * self.model(p[:, :1], p[:, 1:]) for p in pieces])


def scales(data: PointData, whiten: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and standard deviation (C,) of the values to train on; 0 and 1 unless they are to be whitened."""
    components = data.field.shape[2]
    if not whiten:
        return torch.zeros(components), torch.ones(components)
    values = data.field[data.kept].double()
    return values.mean(dim=0).float(), values.std(dim=0).clamp_min(1e-12).float()


def estimates(fitted: Fitted, inputs: PointInputs) -> dict[str, torch.Tensor]:
    """Return what is learned so far: the field at the held-out points, and quantiles of the first layer's frequencies.

    The first row of the quantiles (2, FREQUENCIES) is of time, the second of space.
    """
    frequencies = fitted.model.frequencies().detach().abs().float()
    at = torch.linspace(0, 1, FREQUENCIES, device=frequencies.device)
    time, space = (torch.quantile(part.flatten(), at) for part in (frequencies[:, 0], frequencies[:, 1:]))
    learned = {name: fitted.at(points) for name, points in inputs.held.items()}
    return learned | {"frequencies": torch.stack([time, space])}


def predictions(fitted: Fitted, data: PointData, inputs: PointInputs) -> dict[str, torch.Tensor]:
    """Return the field where it was trained on, every `seen_every` frames, and on the slices."""
    t, x = data.t[:: inputs.seen_every], data.x[:: inputs.seen_every]
    points = torch.cat([t[:, None, None].expand(*x.shape[:2], 1), x], dim=2)
    seen = fitted.at(points.reshape(-1, points.shape[2]))
    return {"seen": seen.reshape(*x.shape[:2], -1), "slices": fitted.at(inputs.slices)}


class Batches:
    """Random points of the data on a device: whole frames, or as many points of all frames."""

    def __init__(self, data: PointData, fitted: Fitted, frames: int, random_points: bool, device: torch.device) -> None:
        self.t, self.x, self.frames = data.t.to(device), data.x.to(device), frames
        self.y = (data.field.to(device) - fitted.mean) / fitted.std
        self.kept = data.kept.to(device)[:, :, None]
        self.known = torch.nonzero(data.kept.reshape(-1))[:, 0] if random_points else None

    def draw(self, sampler: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Return times (..., 1), places (..., D), values (..., C) and the weight of each, 0 where it is withheld."""
        n_frames, n, dimension = self.x.shape
        device = self.x.device
        if self.known is None:
            at = torch.randint(n_frames, (self.frames,), generator=sampler).to(device)
            t = self.t[at][:, None, None].expand(self.frames, n, 1)
            return t, self.x[at], self.y[at], self.kept[at]
        at = self.known[torch.randint(len(self.known), (self.frames * n,), generator=sampler)].to(device)
        one = torch.ones((1, 1), dtype=torch.bool, device=device)
        return self.t[at // n][:, None], self.x.view(-1, dimension)[at], self.y.view(len(self.y) * n, -1)[at], one


def data_train_inr(config: Any, data: PointData, inputs: PointInputs, run: Run) -> Fitted:
    """Train a network on the field at the points of random frames; return it with its units.

    A step sees `inr_batch_size` frames with all their points or, with `inr_random_points`, as many points of all
    frames. It stops before its last step when `training.max_minutes` are over; everything that must survive a kill
    stands in `stateful`.

    Args:
        config: sections inr and training.
        data: frames to train on.
        inputs: points of the intermediate estimates.
        run: files of the run; `record` after every step answers SIGTERM and NaN.

    Raises:
        RefusedError: the data have another field, or the first steps show that the training takes longer than
            `training.max_minutes`.

    Source: reference section 4.3. Deviations: withheld values are left out of the mean; evaluation at the end only.
    """
    inr, training = config.inr, config.training
    if inr.inr_field_name not in data.names:
        told = " or ".join(data.names)
        raise RefusedError(f"inr_field_name: the data have the field {told}, found {inr.inr_field_name!r}")
    torch.manual_seed(training.seed)
    sampler = torch.Generator().manual_seed(training.seed)
    model = new_model(inr, *data.shape[2:]).to(run.device)
    fitted = Fitted(model, *(scale.to(run.device) for scale in scales(data, inr.inr_whiten)))
    batches = Batches(data, fitted, inr.inr_batch_size, inr.inr_random_points, run.device)
    network, total = compiled(model, inr.inr_compile), inr.inr_total_steps
    clip, kind = inr.inr_grad_clip, inr.inr_lr_scheduler

    optimizer = torch.optim.Adam(model.parameters(), lr=inr.inr_learning_rate, fused=True)
    scheduler = LambdaLR(optimizer, lambda step: rate_factor(step / total, kind, FINAL_RATE, 1))
    stateful = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "sampler": sampler}
    moments = {max(1, int(part * total)) for part in ESTIMATE_MOMENTS}
    loss_from, every = int((1 - LOSS_OVER) * total), max(1, total // CHECKPOINTS)

    step = run.resume(stateful, total)
    limit = TimeLimit(training.max_minutes, run, step, total)
    while step < total and not limit.over(step):
        if step == loss_from:
            run.start_epoch()
        t, x, y, weight = batches.draw(sampler)
        residual = (network(t, x) - y) * weight
        loss = residual.square().sum() / weight.expand(residual.shape).sum()

        optimizer.zero_grad()
        loss.backward()
        if clip > 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        scheduler.step()
        step += 1
        if step in moments:
            run.save_estimate(estimates(fitted, inputs), 0, step)
        run.record(stateful, {"prediction": loss}, 1, 0, step)
        if step % every == 0:
            run.checkpoint(stateful, 0, step)
    run.checkpoint(stateful, 0, step)
    return fitted


def train(order: Order, run_dir: Path, new_run: type[Run] | None = None) -> None:
    """Carry out a training order: train, write the final estimate and train.json.

    Raises:
        StepError: see `trainers.errors`.
    """
    data, inputs = load_points(order.train, order.inputs)
    run = (new_run or Run)(run_dir, order.identity, order.device)
    config = Reader(order.config)
    cache, inr = run.out / "compiled", order.config.inr
    share = inr.inr_batch_size * data.shape[1] * inr.hidden_dim_inr >= WORTH_SHARING
    with carry_out(run, order, share=share), compiler(inr.inr_compile, cache, "inr.inr_compile"):
        fitted = data_train_inr(config, data, inputs, run)
        final_loss = math.sqrt(run.mean_prediction_loss * float(fitted.std.square().mean()))
        run.save_final(estimates(fitted, inputs), predictions(fitted, data, inputs))
        run.finish(sorted(config.keys_read), idle_keys(order.config), final_loss)
