"""Training of the metabolic model with given S: the loop, and the estimates it leaves.

Axis letters: P runs, T frames, B batch, M metabolites, R reactions, G grid points, K held-out frames.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR

from models.homeostasis import HomeostasisPropagation
from models.metabolism import Graph
from models.utils import sample_frames
from trainers.data_metabolism import MetabolicData, MetabolicInputs, load_metabolism
from trainers.embeddings import replace_embeddings_
from trainers.idle_homeostasis import idle_keys
from trainers.losses_metabolism import (
    dc_unit,
    frame_loss,
    k_floor,
    k_spread,
    root_mean_square,
    stoichiometry_penalties,
    sub_diff,
    sub_norm,
)
from trainers.optim import rate_factor
from trainers.order import Order
from trainers.rollout import euler_concentrations
from trainers.run import Run, carry_out
from trainers.settings import Reader, n_iterations

ESTIMATE_MOMENTS = (0.05, 0.3, 0.65)
"""Fractions of the training after which an intermediate estimate is written; the final one comes on top."""
GAUGE_EVERY = 100
"""Gradient steps between two fixings of the gauge."""
ORDERS = (1.0, 2.0)
"""Reactant orders at which MLP_sub is evaluated for the estimates."""
ROWS_WORTH_SHARING = 16384
"""Metabolites times frames of a step from which more than one thread is used."""


def new_model(graph: Graph, graph_model: Any, training: Any) -> HomeostasisPropagation:
    """Return an untrained model; weights come from torch's global random state."""
    return HomeostasisPropagation(
        graph,
        sub=(graph_model.hidden_dim_sub, graph_model.n_layers_sub),
        node=(graph_model.hidden_dim_node, graph_model.n_layers_node),
        activation=graph_model.MLP_activation,
        embedding_dim=graph_model.embedding_dim,
        log_k_init_width=training.log_k_init_width,
        embedding_init_scale=training.embedding_init_scale,
        freeze_stoichiometry=training.freeze_stoichiometry,
        legacy_softplus=graph_model.legacy_softplus,
    )


@torch.no_grad()
def estimates(model: HomeostasisPropagation, inputs: MetabolicInputs) -> dict[str, torch.Tensor]:
    """Return what is learned so far: log_k, a, S on its edges, and both functions on their grids."""
    device, n_met = model.log_k.device, len(model.a)
    grids = inputs.grid_c.to(device)[:, :, None].expand(-1, -1, n_met)
    at, one = inputs.grid_sub.to(device), torch.ones(1, device=device)
    return {
        "log_k": model.log_k,
        "a": model.a,
        "sto": model.sto_all,
        "alpha": model.f(one, one),
        "sub": torch.stack([model.f(at, order * one) for order in ORDERS]),
        "node": torch.stack([model.homeostasis(grid).T for grid in grids]),
    }


@torch.no_grad()
def predictions(model: HomeostasisPropagation, inputs: MetabolicInputs) -> dict[str, torch.Tensor]:
    """Return dc/dt and its homeostatic part on the held-out frames, and the rollouts from the given states."""
    device = model.log_k.device
    held = inputs.heldout_c.to(device)
    home = torch.cat([model.homeostasis(part) for part in held.split(256)])
    return {
        "heldout_dc": torch.cat([model.reactions(part) for part in held.split(256)]) + home,
        "heldout_home": home,
        "rollout_c": euler_concentrations(model, inputs.rollout_c0.to(device), inputs.rollout_frames, inputs.delta_t),
    }


def data_train_homeostasis(  # noqa: C901 (one loop that can be read and edited alone)
    config: Any, data: MetabolicData, inputs: MetabolicInputs, run: Run
) -> HomeostasisPropagation:
    """Train log_k, MLP_sub, MLP_node, embeddings and, unless frozen, S on dc/dt; return the model.

    A step predicts dc/dt of single frames, or with `recurrent_training` the concentrations `time_step` frames ahead;
    the residual (c_hat - c) / (delta_t * time_step) has the same unit. Every key of `training` is described in
    trainers/settings_homeostasis.py. Everything that must survive a kill stands in `stateful`.

    Args:
        config: sections simulation, graph_model and training.
        data: frames to train on.
        inputs: grids for the intermediate estimates.
        run: files of the run; `record` after every step answers SIGTERM and NaN.

    Source: reference sections 1.3 and 2.3. Deviations: all frames of a step at once, the L1 of MLP_node over all of
    them, the depth of rollouts as configured in every epoch.
    """
    simulation, graph_model, training = config.simulation, config.graph_model, config.training
    torch.manual_seed(training.seed)
    sampler = torch.Generator().manual_seed(training.seed)
    model = new_model(data.graph, graph_model, training).to(run.device)
    c_all, dc_all = data.on(run.device, training.n_runs)
    unit = dc_unit(dc_all, training.normalise_dc)
    grid = inputs.grid_sub.to(run.device)

    batch_size, kind, n_epochs = training.batch_size, training.loss, training.n_epochs
    Niter = n_iterations(simulation.n_frames, training.data_augmentation_loop, batch_size)
    moments = {max(1, int(part * n_epochs * Niter)) for part in ESTIMATE_MOMENTS}
    home_from = int(training.homeostasis_start * n_epochs * Niter)
    coeff_residual, coeff_L1 = training.coeff_homeostasis_residual, training.coeff_MLP_node_L1
    replaces = training.embedding_replacement == "kmeans"
    replace_at = max(1, int(training.embedding_replacement_at * n_epochs * Niter)) if replaces else math.inf
    coeff_diff, coeff_norm = training.coeff_MLP_sub_diff, training.coeff_MLP_sub_norm
    coeff_floor, coeff_spread = training.coeff_k_floor, training.coeff_k_spread

    own_rate = {"log_k": training.learning_rate_k, "a": training.learning_rate_embedding,
                "node_func": training.learning_rate_node, "substrate_func": training.learning_rate_sub,
                "sto_all": training.learning_rate_S_start}  # fmt: skip
    groups = [{"params": [p], "lr": own_rate[name.partition(".")[0]] or training.learning_rate_start}
              for name, p in model.named_parameters()]  # fmt: skip
    optimizer = torch.optim.Adam(groups, fused=True)
    schedule = (training.lr_scheduler, training.lr_scheduler_final, training.lr_scheduler_drops)
    scheduler = LambdaLR(optimizer, lambda step: rate_factor(step / (n_epochs * Niter), *schedule))
    time_step = training.time_step if training.recurrent_training else 0  # 0: dc/dt of the frames

    stateful = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "sampler": sampler}
    step = run.resume(stateful, total=n_epochs * Niter)

    for epoch in range(step // Niter, n_epochs):
        if step == epoch * Niter:
            run.start_epoch()

        for _ in range(step - epoch * Niter, Niter):
            runs = sample_frames(len(c_all), batch_size, sampler).to(run.device)
            frames = sample_frames(c_all.shape[1] - max(1, time_step), batch_size, sampler).to(run.device)
            if step == replace_at:
                replace_embeddings_(model.a, 0, training.embedding_clusters_max)
            c, with_home, terms = c_all[runs, frames], step >= home_from, {}

            if time_step == 0:
                reactions = model.reactions(c)
                home = model.homeostasis(c) if with_home else torch.zeros_like(c)
                residual = (reactions + home - dc_all[runs, frames]) / unit
            else:
                c_hat = c
                for _ in range(time_step):
                    reactions = model.reactions(c_hat)
                    home = model.homeostasis(c_hat) if with_home else torch.zeros_like(c)
                    c_hat = c_hat + data.delta_t * (reactions + home)
                    if training.noise_recurrent_level > 0:
                        c_hat = c_hat + training.noise_recurrent_level * torch.randn_like(c_hat)
                residual = (c_hat - c_all[runs, frames + time_step]) / (data.delta_t * time_step) / unit

            terms["prediction"] = frame_loss(residual, kind)
            if coeff_residual > 0 and with_home and time_step == 0:
                left = reactions.detach() + home - dc_all[runs, frames]
                terms["residual"] = coeff_residual * frame_loss(left / left.detach().square().mean().sqrt(), kind)
            if coeff_L1 > 0 and with_home:
                terms["MLP_node_L1"] = coeff_L1 * home.abs().mean()
            if coeff_diff > 0:
                terms["MLP_sub_diff"] = coeff_diff * sub_diff(model, grid, kind)
            if coeff_norm > 0:
                terms["MLP_sub_norm"] = coeff_norm * sub_norm(model)
            if coeff_floor > 0:
                terms["k_floor"] = coeff_floor * k_floor(model.log_k, training.k_floor_threshold)
            if coeff_spread > 0:
                terms["k_spread"] = coeff_spread * k_spread(model.log_k)
            if not training.freeze_stoichiometry:
                terms |= stoichiometry_penalties(model, training)
            loss = sum(terms.values())

            optimizer.zero_grad()
            loss.backward()
            if step >= replace_at:
                model.a.grad = None  # embeddings stay what they were replaced by
            optimizer.step()
            scheduler.step()
            step += 1
            if training.fix_gauge and step % GAUGE_EVERY == 0:
                model.fix_gauge_()
            if step in moments:
                run.save_estimate(estimates(model, inputs), epoch, step)
            run.record(stateful, terms, 1 if step <= home_from else 2, epoch, step)
        run.checkpoint(stateful, epoch, step)
    if training.fix_gauge:
        model.fix_gauge_()
    return model


def train(order: Order, run_dir: Path, new_run: type[Run] | None = None) -> None:
    """Carry out a training order: train, write the final estimate and train.json.

    Raises:
        StepError: see `trainers.errors`.
    """
    data, inputs = load_metabolism(order.train, order.inputs)
    training, n_met = order.config.training, data.c.shape[2]
    run = (new_run or Run)(run_dir, order.identity, order.device)
    config = Reader(order.config)
    with carry_out(run, order, share=training.batch_size * n_met >= ROWS_WORTH_SHARING):
        model = data_train_homeostasis(config, data, inputs, run)
        unit = float(dc_unit(data.on("cpu", training.n_runs)[1], training.normalise_dc).mean())
        final_loss = root_mean_square(run.mean_prediction_loss, training.loss, training.batch_size, n_met) * unit
        run.save_final(estimates(model, inputs), predictions(model, inputs))
        run.finish(sorted(config.keys_read), idle_keys(order.config), final_loss)
