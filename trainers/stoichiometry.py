"""Training of the metabolic model with learned S: the loop, and the estimates it leaves.

Axis letters: P runs, T frames, B batch, M metabolites, R reactions, E edges, V visited states, K held-out frames.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR

from models.metabolism import Graph
from models.stoichiometry import StoichiometryPropagation
from models.utils import sample_frames
from trainers.data_metabolism import MetabolicData, StoichiometryInputs, load_stoichiometry
from trainers.errors import RefusedError
from trainers.frames import draw_frames, typical_frames
from trainers.idle_stoichiometry import idle_keys
from trainers.losses_metabolism import S_floor, S_integer, dc_unit, frame_loss, mass, root_mean_square, sub_diff
from trainers.optim import rate_factor
from trainers.order import Order
from trainers.rollout import euler_concentrations
from trainers.run import Run, carry_out
from trainers.settings import Reader, n_iterations

ESTIMATE_MOMENTS = (0.05, 0.3, 0.65)
"""Fractions of the training after which an intermediate estimate is written; the final one comes on top."""
REFIT_FRAMES = 4096
"""Frames that a refit of S looks at."""
REFIT_EDGES_MAX = 20000
"""Edges of 3 GB of equations."""
ROWS_WORTH_SHARING = 16384
"""Metabolites times frames of a step from which more than one thread is used."""


def new_model(graph: Graph, delta_t: float, graph_model: Any, training: Any) -> StoichiometryPropagation:
    """Return an untrained model; weights come from torch's global random state."""
    g, node = graph_model, None
    if g.node_func:
        node = (g.hidden_dim_node, g.n_layers_node, g.embedding_dim)
    return StoichiometryPropagation(
        graph,
        size=(g.hidden_dim, g.n_layers),
        message=g.output_size,
        activation=g.MLP_activation,
        delta_t=delta_t,
        flux_limit=g.flux_limit,
        node=node,
        sto_init=(training.S_init, training.S_init_scale),
        log_k_init=(training.log_k_init_center, training.log_k_init_width),
        freeze=training.freeze_stoichiometry,
        gauge=training.gauge_parameter,
        flat_start=training.functions_start > 0,
    )


def refit_steps(every: float, until: float, total: int, n_edges: int) -> set[int]:
    """Return the steps before which S is refitted: each `every` of the training, up to `until` of it.

    Raises:
        RefusedError: the equations of that many edges would not fit into memory.
    """
    if every == 0:
        return set()
    if n_edges > REFIT_EDGES_MAX:
        raise RefusedError(
            f"S_refit_every: expected 0 or at most {REFIT_EDGES_MAX} edges, found {n_edges}: a refit solves that many "
            "equations at once; set S_refit_every to 0"
        )
    return {int(i * every * total) for i in range(1, int(until / every + 1e-9) + 1)}


@torch.no_grad()
def estimates(model: StoichiometryPropagation, inputs: StoichiometryInputs) -> dict[str, torch.Tensor]:
    """Return what is learned so far: S on its edges, log_k, and rates without their constants.

    `rate_pair` (G,) is softplus(rate_func(substrate_func(c, |s|))), the rate of a reaction with that one substrate;
    `rate_visited` (V, R) that of every reaction, with its learned |s|, at the visited states. Messages themselves are
    not compared: rate_func undoes any map that substrate_func makes of them.
    """
    device = model.log_k.device
    c, order = inputs.grid_pair.to(device).T
    visited = model.shapes(inputs.rate_c.to(device).T, model.s()).T
    return {"sto": model.s(), "log_k": model.log_k, "rate_pair": model.shape_of(model.f(c, order)),
            "rate_visited": visited}  # fmt: skip


@torch.no_grad()
def predictions(model: StoichiometryPropagation, inputs: StoichiometryInputs) -> dict[str, torch.Tensor]:
    """Return dc/dt on the held-out frames and the rollouts from the given states."""
    device = model.log_k.device
    held = inputs.heldout_c.to(device)
    return {
        "heldout_dc": torch.cat([model(part) for part in held.split(256)]),
        "rollout_c": euler_concentrations(model, inputs.rollout_c0.to(device), inputs.rollout_frames, inputs.delta_t),
    }


def data_train_stoichiometry(  # noqa: C901 (one loop that can be read and edited alone)
    config: Any, data: MetabolicData, inputs: StoichiometryInputs, run: Run
) -> StoichiometryPropagation:
    """Train S, log_k, both rate functions and, where there is one, node_func on dc/dt; return the model.

    A step predicts dc/dt of single frames, or with `recurrent_training` the concentrations `time_step` frames ahead;
    the residual (c_hat - c) / (delta_t * time_step) has the same unit. Every key of `training` is described in
    trainers/settings_stoichiometry.py. Everything that must survive a kill stands in `stateful`.

    Args:
        config: sections simulation, graph_model and training.
        data: frames to train on.
        inputs: grids for the intermediate estimates.
        run: files of the run; `record` after every step answers SIGTERM and NaN.

    Source: seed document 000; reference section 1.3. Deviations: all frames of a step at once, concentrations of a
    rollout stay at or above 0 as in the data, the depth of rollouts as configured in every epoch.
    """
    simulation, graph_model, training = config.simulation, config.graph_model, config.training
    torch.manual_seed(training.seed)
    sampler = torch.Generator().manual_seed(training.seed)
    model = new_model(data.graph, data.delta_t, graph_model, training).to(run.device)
    c_all, dc_all = data.on(run.device, min(training.n_runs, len(data.c)))
    sampling = (training.frame_sampling, training.log_time_period)
    unit = dc_unit(dc_all[:, typical_frames(dc_all.shape[1], *sampling)], training.normalise_dc)
    grid = inputs.grid_sub.to(run.device)

    batch_size, kind, n_epochs = training.batch_size, training.loss, training.n_epochs
    Niter = n_iterations(simulation.n_frames, training.data_augmentation_loop, batch_size)
    total = n_epochs * Niter
    moments = {max(1, int(part * total)) for part in ESTIMATE_MOMENTS}
    functions_from = training.functions_start * total
    time_step = training.time_step if training.recurrent_training else 0  # 0: dc/dt of the frames
    learns_S = not training.freeze_stoichiometry
    every = training.S_refit_every if learns_S else 0.0
    refits = refit_steps(every, training.S_refit_until, total, len(data.graph.met_all))

    def draw(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        runs = sample_frames(len(c_all), count, sampler)
        frames = draw_frames(c_all.shape[1] - time_step, count, *sampling, sampler)
        return runs.to(run.device), frames.to(run.device)

    own_rate = {"sto_all": training.learning_rate_S_start, "log_k": training.learning_rate_k,
                "gauge": training.learning_rate_gauge, "a": training.learning_rate_embedding_start}  # fmt: skip
    groups = [{"params": [p], "lr": own_rate.get(name, 0.0) or training.learning_rate_start}
              for name, p in model.named_parameters()]  # fmt: skip
    optimizer = torch.optim.Adam(groups, betas=(0.9, training.adam_beta2), fused=True)
    schedule = (training.lr_scheduler, training.lr_scheduler_final, training.lr_scheduler_drops)
    warmup = max(1.0, training.lr_warmup * total)
    scheduler = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warmup) * rate_factor(step / total, *schedule))

    stateful = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "sampler": sampler}
    step = run.resume(stateful, total=total)

    for epoch in range(step // Niter, n_epochs):
        if step == epoch * Niter:
            run.start_epoch()
        coeff_L1 = training.coeff_S_L1 if epoch >= training.n_epochs_init else training.first_coeff_L1

        for _ in range(step - epoch * Niter, Niter):
            flat, terms = step < functions_from, {}
            size = batch_size if flat else training.batch_size_functions or batch_size
            if step in refits:
                runs, frames = draw(REFIT_FRAMES)
                model.refit_(c_all[runs, frames], dc_all[runs, frames], unit, training.coeff_mass_conservation, flat)
            runs, frames = draw(size)
            c = c_all[runs, frames]

            if time_step == 0:
                residual = (model(c, flat) - dc_all[runs, frames]) / unit
            else:
                c_hat = c
                for _ in range(time_step):
                    c_hat = torch.relu(c_hat + data.delta_t * model(c_hat, flat))
                    if training.noise_recurrent_level > 0:
                        c_hat = c_hat + training.noise_recurrent_level * torch.randn_like(c_hat)
                residual = (c_hat - c_all[runs, frames + time_step]) / (data.delta_t * time_step) / unit

            terms["prediction"] = frame_loss(residual, kind)
            if learns_S:
                sto, of_reaction = model.s(), (model.rxn_all, model.shape[1])
                if coeff_L1 > 0:
                    terms["S_L1"] = coeff_L1 * sto.abs().sum()
                if training.coeff_S_integer > 0 and step >= training.S_integer_start * total:
                    terms["S_integer"] = training.coeff_S_integer * S_integer(sto)
                if training.coeff_S_floor > 0 and step >= training.S_floor_start * total:
                    since, ramp = step + 1 - training.S_floor_start * total, training.S_floor_ramp * total
                    rise = min(1.0, since / ramp) if ramp > 0 else 1.0
                    terms["S_floor"] = (
                        training.coeff_S_floor * rise * S_floor(sto, *of_reaction, training.S_floor_share)
                    )
                if training.coeff_mass_conservation > 0:
                    terms["mass"] = training.coeff_mass_conservation * mass(sto, *of_reaction)
            if training.coeff_MLP_sub_diff > 0 and not flat:
                terms["MLP_sub_diff"] = training.coeff_MLP_sub_diff * sub_diff(model, grid, kind)
            loss = sum(terms.values())

            optimizer.zero_grad()
            loss.backward()
            if model.gauge is not None and step < training.gauge_start * total:
                model.gauge.grad = None  # it waits
            optimizer.step()
            scheduler.step()
            step += 1
            model.fold_gauge_()
            if learns_S and training.constrain_sign:
                model.constrain_sign_()
            if step in moments:
                run.save_estimate(estimates(model, inputs), epoch, step)
            run.record(stateful, terms, 1 if epoch < training.n_epochs_init else 2, epoch, step)
        run.checkpoint(stateful, epoch, step)
    return model


def train(order: Order, run_dir: Path, new_run: type[Run] | None = None) -> None:
    """Carry out a training order: train, write the final estimate and train.json.

    Raises:
        StepError: see `trainers.errors`.
    """
    data, inputs = load_stoichiometry(order.train, order.inputs)
    training, n_met = order.config.training, data.c.shape[2]
    run = (new_run or Run)(run_dir, order.identity, order.device)
    config = Reader(order.config)
    with carry_out(run, order, share=training.batch_size * n_met >= ROWS_WORTH_SHARING):
        model = data_train_stoichiometry(config, data, inputs, run)
        sampling = (training.frame_sampling, training.log_time_period)
        seen = data.on("cpu", min(training.n_runs, len(data.c)))[1]
        unit = float(dc_unit(seen[:, typical_frames(seen.shape[1], *sampling)], training.normalise_dc).mean())
        size = training.batch_size_functions or training.batch_size
        final_loss = root_mean_square(run.mean_prediction_loss, training.loss, size, n_met) * unit
        run.save_final(estimates(model, inputs), predictions(model, inputs))
        run.finish(sorted(config.keys_read), idle_keys(order.config), final_loss)
